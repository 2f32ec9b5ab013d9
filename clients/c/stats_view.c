#include "clients/c/stats_view.h"

#include "base/text.h"
#include "limits.h"

#include <ctype.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define TABLE_BYTES 8192
#define ROW_BYTES 512
#define NAME_COLUMNS 12
#define LINE_GROUPS_BYTES 2048
#define WORD_BYTES 16
#define GROUPS_MAX KV_GROUPS_MAX
#define ROW_HOLDERS_MAX 3 /* that fit a row */

static const char *word(char out[WORD_BYTES], ProtobufCBinaryData bytes)
{
    size_t n = bytes.len < WORD_BYTES - 1 ? bytes.len : WORD_BYTES - 1;
    for (size_t i = 0; i < n; i++)
        out[i] = isalnum(bytes.data[i]) || bytes.data[i] == '_' || bytes.data[i] == '-'
                     ? (char)bytes.data[i]
                     : '?';
    out[n] = 0;
    return out;
}

static double percent(uint64_t part, uint64_t whole)
{
    return whole == 0 ? 0 : 100.0 * (double)part / (double)whole;
}

/* --- elsewhere --- */

bool stats_view_line(struct answer_output *output, const Quire__V1__Stats *stats)
{
    char groups[LINE_GROUPS_BYTES] = "";
    size_t len = 0;

    for (size_t g = 0; g < stats->n_groups && len < sizeof groups; g++) {
        const Quire__V1__PageGroup *group = stats->groups[g];
        char kind[WORD_BYTES], dtype[WORD_BYTES];
        int n = snprintf(groups + len, sizeof groups - len,
                         " group%zu=%s layers%zu=%" PRIu32 " dtype%zu=%s page_bytes%zu=%" PRIu64
                         " pages%zu=%" PRIu64 " free%zu=%" PRIu64 " reserved%zu=%" PRIu64
                         " cached%zu=%" PRIu64 " open%zu=%" PRIu64 " full%zu=%" PRIu64
                         " own%zu=%" PRIu64,
                         g, word(kind, group->kind), g, group->layers, g,
                         word(dtype, group->dtype), g, group->page_bytes, g, group->pages, g,
                         group->free, g, group->reserved, g, group->cached, g, group->open, g,
                         group->full, g, group->own);
        len += n > 0 ? (size_t)n : 0;
    }
    return answer_output_format(
        output,
        "uptime=%.1f pages=%" PRIu64 " used=%" PRIu64 " reserved=%" PRIu64 " queued=%" PRIu32
        " waiting=%" PRIu32 " prefill=%" PRIu32 " decode=%" PRIu32 " paused=%" PRIu32
        " prompt_tokens=%" PRIu64 " generated_tokens=%" PRIu64
        " prefill_per_s=%.1f decode_per_s=%.1f calls=%" PRIu64 " refused=%" PRIu64
        " cancelled=%" PRIu64 " steps=%" PRIu64 " step_ms=%.2f resident=%" PRIu64
        " connections=%" PRIu32 " kv_saturated=%" PRIu64 " pages_cached=%" PRIu64
        " cached_prompt_tokens=%" PRIu64 " pages_evicted=%" PRIu64 " preempted=%" PRIu64
        " reread_tokens=%" PRIu64 " host_pages=%" PRIu64 " host_pages_used=%" PRIu64
        " pages_spilled=%" PRIu64 " pages_recalled=%" PRIu64 "%s\n",
        stats->uptime_seconds, stats->pages, stats->pages_used, stats->pages_reserved,
        stats->queued, stats->waiting_pages, stats->prefill, stats->decode, stats->paused,
        stats->prompt_tokens, stats->generated_tokens, stats->prefill_tokens_per_second,
        stats->decode_tokens_per_second, stats->calls, stats->refused, stats->cancelled,
        stats->steps, stats->step_ms, stats->resident_bytes, stats->connections,
        stats->kv_saturated, stats->pages_cached, stats->cached_prompt_tokens,
        stats->pages_evicted, stats->preempted, stats->reread_tokens, stats->host_pages,
        stats->host_pages_used, stats->pages_spilled, stats->pages_recalled, groups);
}

/* --- a terminal --- */

struct table {
    char text[TABLE_BYTES];
    size_t len;
    size_t columns; /* of the rows' texts */
    int n_lines, lines_max;
};

/* As wide and high as the terminal is now: what it would wrap or scroll could not be drawn over. */
static void table_init(struct table *table)
{
    struct winsize size = {.ws_row = 0};
    bool is_known = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0;
    table->len = 0;
    table->n_lines = 0;
    table->columns = (is_known && size.ws_col > 0 ? size.ws_col : 80u) - 1;
    table->columns = table->columns > NAME_COLUMNS + 8 ? table->columns - NAME_COLUMNS : 8;
    table->lines_max = is_known && size.ws_row > 1 ? size.ws_row - 1 : INT_MAX;
}

static void add_line(struct table *table, const char *name, const char *text, size_t len)
{
    if (table->n_lines == table->lines_max)
        return;
    int n = snprintf(table->text + table->len, sizeof table->text - table->len,
                     "%-*s%.*s\033[K\n", NAME_COLUMNS, name, (int)len, text);
    if (n > 0 && table->len + (size_t)n < sizeof table->text) {
        table->len += (size_t)n;
        table->n_lines++;
    }
}

static void add_row(struct table *table, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* On as many lines as it takes, broken between words. */
static void add_row(struct table *table, const char *name, const char *format, ...)
{
    char row[ROW_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(row, sizeof row, format, args);
    va_end(args);
    for (const char *at = row; *at != 0;) {
        size_t len = strlen(at);
        if (len > table->columns) {
            len = table->columns;
            while (len > 0 && at[len] != ' ')
                len--;
            len = len > 0 ? len : table->columns;
        }
        add_line(table, name, at, len);
        name = "";
        at += len + strspn(at + len, " ");
    }
}

/* "global, 1 layer of f16, 1,024 B a token: ..." */
static void add_group(struct table *table, const Quire__V1__PageGroup *group)
{
    char kind[WORD_BYTES], dtype[WORD_BYTES], n[8][TEXT_NUMBER_BYTES];
    uint64_t held = group->open + group->full;
    add_row(table, word(kind, group->kind),
            "%" PRIu32 " layer%s, %s, %s a token: %s pages: %s open, %s full (%s shared), %s "
            "cached, %s free (%s promised)",
            group->layers, group->layers == 1 ? "" : "s", word(dtype, group->dtype),
            text_bytes(n[0], group->page_bytes / PAGE_TOKENS), text_count(n[1], group->pages),
            text_count(n[2], group->open), text_count(n[3], group->full),
            text_count(n[4], held > group->own ? held - group->own : 0),
            text_count(n[5], group->cached), text_count(n[6], group->free),
            text_count(n[7], group->reserved));
}

static void add_holders(struct table *table, const Quire__V1__Stats *stats)
{
    char row[ROW_BYTES] = "no sequence", state[WORD_BYTES], n[2][TEXT_NUMBER_BYTES];
    size_t len = 0;
    for (size_t i = 0; i < stats->n_sequences && i < ROW_HOLDERS_MAX; i++) {
        const Quire__V1__SequenceStats *sequence = stats->sequences[i];
        len += (size_t)snprintf(row + len, sizeof row - len,
                                "%s%" PRIu32 " %s %s of %s tokens", i > 0 ? "; " : "",
                                sequence->id, word(state, sequence->state),
                                text_count(n[0], sequence->tokens),
                                text_count(n[1], sequence->promised));
    }
    add_row(table, "held by", "%s%s", row, stats->n_sequences > ROW_HOLDERS_MAX ? "; ..." : "");
}

static void fill_table(struct table *table, const Quire__V1__Stats *stats)
{
    char first[TEXT_NUMBER_BYTES], second[TEXT_NUMBER_BYTES], third[TEXT_NUMBER_BYTES];
    add_row(table, "pages", "%s of %s used (%.1f %%), %s more promised",
            text_count(first, stats->pages_used), text_count(second, stats->pages),
            percent(stats->pages_used, stats->pages), text_count(third, stats->pages_reserved));
    for (size_t g = 0; g < stats->n_groups && g < GROUPS_MAX; g++)
        add_group(table, stats->groups[g]);
    add_holders(table, stats);
    add_row(table, "sequences",
            "%" PRIu32 " decoding, %" PRIu32 " in prefill, %" PRIu32 " paused, %" PRIu32
            " queued (%" PRIu32 " wait for pages)",
            stats->decode, stats->prefill, stats->paused, stats->queued, stats->waiting_pages);
    add_row(table, "rates", "prefill %.1f tokens/s, decode %.1f tokens/s, step %.2f ms",
            stats->prefill_tokens_per_second, stats->decode_tokens_per_second, stats->step_ms);
    add_row(table, "tokens", "%s read, %s generated", text_count(first, stats->prompt_tokens),
            text_count(second, stats->generated_tokens));
    add_row(table, "prefixes",
            "%s of %s prompt tokens came out of the cache (%.1f %%), %s pages gave way",
            text_count(first, stats->cached_prompt_tokens),
            text_count(second, stats->cached_prompt_tokens + stats->prompt_tokens),
            percent(stats->cached_prompt_tokens,
                    stats->cached_prompt_tokens + stats->prompt_tokens),
            text_count(third, stats->pages_evicted));
    if (stats->host_pages > 0)
        add_row(table, "host pool",
                "%s of %" PRIu64 " pages; %s went there, %s came back",
                text_count(first, stats->host_pages_used), stats->host_pages,
                text_count(second, stats->pages_spilled),
                text_count(third, stats->pages_recalled));
    if (stats->preempted > 0)
        add_row(table, "preempted", "%s times, %s tokens read again",
                text_count(first, stats->preempted), text_count(second, stats->reread_tokens));
    add_row(table, "calls", "%s admitted, %s refused, %s cancelled",
            text_count(first, stats->calls), text_count(second, stats->refused),
            text_count(third, stats->cancelled));
    add_row(table, "server", "up %s, %s resident, %" PRIu32 " connection%s, %s values clipped",
            text_duration(first, stats->uptime_seconds), text_bytes(second, stats->resident_bytes),
            stats->connections, stats->connections == 1 ? "" : "s",
            text_count(third, stats->kv_saturated));
}

bool stats_view_table(struct answer_output *output, const Quire__V1__Stats *stats, int *n_lines)
{
    struct table table;
    char up[16] = "";
    table_init(&table);
    fill_table(&table, stats);
    if (*n_lines > 0)
        snprintf(up, sizeof up, "\033[%dA", *n_lines);
    *n_lines = table.n_lines;
    return answer_output_raw(output, up, strlen(up)) &&
           answer_output_raw(output, table.text, table.len) &&
           answer_output_raw(output, "\033[J", 3); /* of a longer table before */
}

/* --- one sequence --- */

/* "0-1,271", or "7" */
static const char *range(char out[2 * TEXT_NUMBER_BYTES], uint64_t first, uint64_t n)
{
    char a[TEXT_NUMBER_BYTES], b[TEXT_NUMBER_BYTES];
    if (n == 1)
        snprintf(out, 2 * TEXT_NUMBER_BYTES, "%s", text_count(a, first));
    else
        snprintf(out, 2 * TEXT_NUMBER_BYTES, "%s-%s", text_count(a, first),
                 text_count(b, first + n - 1));
    return out;
}

static bool show_stretch(struct answer_output *output, const Quire__V1__PageStretch *stretch)
{
    char pages[2 * TEXT_NUMBER_BYTES], places[2 * TEXT_NUMBER_BYTES], shared[40] = "";
    if (stretch->holders > 1)
        snprintf(shared, sizeof shared, ", shared by %" PRIu32, stretch->holders);
    return answer_output_format(output, "  %-19s at %-19s %s%s\n",
                                range(pages, stretch->index, stretch->pages),
                                range(places, stretch->page, stretch->pages),
                                stretch->open ? "open" : "full", shared);
}

static bool show_sequence_table(struct answer_output *output, const Quire__V1__PageGroup *group,
                                const Quire__V1__SequenceTable *table)
{
    char kind[WORD_BYTES], dropped[2 * TEXT_NUMBER_BYTES], window[TEXT_NUMBER_BYTES];
    bool ok = answer_output_format(output, "%s", word(kind, group->kind));
    if (ok && group->window > 0)
        ok = answer_output_format(output, " of %s", text_count(window, group->window));
    if (ok)
        ok = answer_output_format(output, ", %" PRIu32 " layer%s: pages of %d tokens\n",
                                  group->layers, group->layers == 1 ? "" : "s", PAGE_TOKENS);
    if (ok && table->first_page > 0)
        ok = answer_output_format(output, "  %-19s dropped\n",
                                  range(dropped, 0, table->first_page));
    for (size_t i = 0; i < table->n_stretches && ok; i++)
        ok = show_stretch(output, table->stretches[i]);
    if (ok && table->untold > 0)
        ok = answer_output_format(output, "  and %" PRIu32 " pages more\n", table->untold);
    return ok;
}

bool stats_view_sequence(struct answer_output *output, const Quire__V1__Stats *stats)
{
    const Quire__V1__SequenceStats *sequence = stats->sequence;
    char state[WORD_BYTES], n[3][TEXT_NUMBER_BYTES];
    bool ok = answer_output_format(
        output, "sequence %" PRIu32 ": %s, %s tokens written, %s committed, %s promised\n",
        sequence->id, word(state, sequence->state), text_count(n[0], sequence->tokens),
        text_count(n[1], sequence->committed), text_count(n[2], sequence->promised));
    for (size_t g = 0; g < sequence->n_tables && g < stats->n_groups && ok; g++)
        ok = show_sequence_table(output, stats->groups[g], sequence->tables[g]);
    return ok;
}
