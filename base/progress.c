#include "base/progress.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/text.h"
#include "base/utf8.h"

#define REDRAW_NS (NS_PER_S / 10)
#define PLAIN_NS (5 * NS_PER_S)
#define LINE_BYTES 256
#define WIPE "\r\033[K"

static void put(const char *text, size_t len)
{
    ssize_t written = write(STDERR_FILENO, text, len);
    (void)written; /* progress that cannot be shown harms nothing */
}

static bool is_live_terminal(void)
{
    const char *term = getenv("TERM");
    return isatty(STDERR_FILENO) && term != NULL && term[0] != 0 && strcmp(term, "dumb") != 0;
}

/* A line that is wider than the terminal would wrap, and could not be wiped. */
static size_t fit_terminal(const char *line, size_t len)
{
    struct winsize size;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col < 2)
        return len;
    size_t columns = size.ws_col - 1u;
    return len <= columns ? len : utf8_complete_len(line, columns);
}

static double seconds_since_start(const struct progress *progress)
{
    return (double)(clock_now(progress->clock) - progress->started_ns) / (double)NS_PER_S;
}

static double rate_of(const struct progress *progress)
{
    if (progress->rate > 0)
        return progress->rate;
    double seconds = seconds_since_start(progress);
    return seconds > 0 ? (double)(progress->n_done - progress->started_done) / seconds : 0;
}

static size_t format_count(const struct progress *progress, char *out, size_t n)
{
    char done[TEXT_NUMBER_BYTES], total[TEXT_NUMBER_BYTES], rate[TEXT_NUMBER_BYTES];
    bool is_bytes = strcmp(progress->unit, "bytes") == 0;
    const char *(*show)(char *, uint64_t) = is_bytes ? text_bytes : text_count;
    const char *unit = is_bytes ? "" : progress->unit;
    int len = snprintf(out, n, "%s  %s%s%s%s%s", progress->label, show(done, progress->n_done),
                       progress->n_total > 0 ? " of " : "",
                       progress->n_total > 0 ? show(total, progress->n_total) : "",
                       is_bytes ? "" : " ", unit);
    double per_second = rate_of(progress);
    if (per_second >= 0.5 && per_second < 1e18 && (size_t)len < n)
        len += snprintf(out + len, n - (size_t)len, "  %s/s",
                        show(rate, (uint64_t)(per_second + 0.5)));
    return (size_t)len < n ? (size_t)len : n - 1;
}

/* The line without its newline: count, rate, and time left (at the end of the phase, taken). */
static size_t format_line(const struct progress *progress, bool is_last, char out[LINE_BYTES])
{
    char time[TEXT_NUMBER_BYTES];
    size_t len = format_count(progress, out, LINE_BYTES);
    double rate = rate_of(progress);
    int n = 0;
    if (is_last)
        n = snprintf(out + len, LINE_BYTES - len, "  in %s",
                     text_duration(time, seconds_since_start(progress)));
    else if (progress->n_total > progress->n_done && rate > 0)
        n = snprintf(out + len, LINE_BYTES - len, "  %s left",
                     text_duration(time, (double)(progress->n_total - progress->n_done) / rate));
    len += (size_t)n;
    return len < LINE_BYTES ? len : LINE_BYTES - 1;
}

static void draw(struct progress *progress, bool is_last)
{
    char line[LINE_BYTES], out[LINE_BYTES + sizeof WIPE + 1];
    size_t len = format_line(progress, is_last, line);
    size_t to = 0;
    if (progress->live) {
        len = fit_terminal(line, len);
        memcpy(out, WIPE, sizeof WIPE - 1);
        to = sizeof WIPE - 1;
    }
    memcpy(out + to, line, len);
    to += len;
    if (is_last || !progress->live)
        out[to++] = '\n';
    put(out, to);
    progress->drawn = progress->live && !is_last;
    progress->drawn_ns = clock_now(progress->clock);
    progress->drawn_done = progress->n_done;
}

static bool is_due(const struct progress *progress)
{
    int64_t since = clock_now(progress->clock) - progress->drawn_ns;
    return progress->live ? !progress->drawn || since >= REDRAW_NS : since >= PLAIN_NS;
}

/* A plain line that would repeat the one above it says nothing. */
static bool end_is_news(const struct progress *progress)
{
    int64_t since = clock_now(progress->clock) - progress->drawn_ns;
    return progress->live || progress->n_done != progress->drawn_done || since >= NS_PER_S;
}

void progress_init(struct progress *progress, const struct clock *clock, const char *unit,
                   bool quiet)
{
    *progress = (struct progress){.clock = clock, .unit = unit, .quiet = quiet};
    progress->live = !quiet && is_live_terminal();
}

void progress_update(struct progress *progress, const char *label, uint64_t n_done,
                     uint64_t n_total, double rate)
{
    if (progress->quiet)
        return;
    size_t len = utf8_complete_len(label, strnlen(label, sizeof progress->label - 1));
    bool begins = !progress->open || strlen(progress->label) != len ||
                  memcmp(progress->label, label, len) != 0;
    if (begins) {
        progress_end(progress);
        memcpy(progress->label, label, len);
        progress->label[len] = 0;
        progress->started_ns = clock_now(progress->clock);
        progress->started_done = n_done;
        progress->open = true;
    }
    if (n_done < progress->n_done && !begins) /* a phase that went back starts over */
        progress->started_done = progress->drawn_done = 0;
    progress->n_done = n_done;
    progress->n_total = n_total;
    progress->rate = rate;
    if (begins || is_due(progress))
        draw(progress, false);
}

void progress_clear(struct progress *progress)
{
    if (!progress->drawn)
        return;
    put(WIPE, sizeof WIPE - 1);
    progress->drawn = false;
}

void progress_end(struct progress *progress)
{
    if (!progress->open)
        return;
    if (end_is_news(progress))
        draw(progress, true);
    progress->open = false;
}
