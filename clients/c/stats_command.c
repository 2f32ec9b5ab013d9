/* clients/c/stats_command.c: `quire stats`: what a server is at, live. */
#include "clients/c/client_main.h"
#include "clients/c/client_run.h"
#include "quire/v1/quire.pb-c.h"

#include "base/text.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TABLE_BYTES 4096

struct stats_options {
    struct client_options client; /* first */
    bool once;
    double interval;
};

static const struct option options[] = {
    {"once", '1', OPTION_FLAG, offsetof(struct stats_options, once), NULL, NULL,
     "one look, and no more", 0, 0, NULL, 0},
    {"interval", 'i', OPTION_REAL, offsetof(struct stats_options, interval), "1", "SECONDS",
     "between two looks", 0.1, 60, NULL, 0},
    CLIENT_OPTION_ROWS,
    {NULL, 0, 0, 0, NULL, NULL, NULL, 0, 0, NULL, 0},
};

static const struct command command = {
    .name = "stats",
    .usage = "quire stats [--once] [--interval SECONDS] [options]",
    .summary = "Shows pages, sequences and rates of a server until Ctrl-C: a live table on a "
               "terminal, elsewhere one line a look.",
    .options = options,
    .examples = "  quire stats\n"
                "  quire stats --once --json\n",
};

struct stats_run {
    struct client_run client;
    bool once, is_live;
    bool is_done; /* the one look was taken */
    int n_lines;  /* of the table that stands on the terminal */
};

static double percent(uint64_t part, uint64_t whole)
{
    return whole == 0 ? 0 : 100.0 * (double)part / (double)whole;
}

/* --- elsewhere --- */

static bool show_line(struct answer_output *output, const Quire__V1__Stats *stats)
{
    return answer_output_format(
        output,
        "uptime=%.1f pages=%" PRIu64 " used=%" PRIu64 " reserved=%" PRIu64 " queued=%" PRIu32
        " waiting=%" PRIu32 " prefill=%" PRIu32 " decode=%" PRIu32 " paused=%" PRIu32
        " prompt_tokens=%" PRIu64 " generated_tokens=%" PRIu64
        " prefill_per_s=%.1f decode_per_s=%.1f calls=%" PRIu64 " refused=%" PRIu64
        " cancelled=%" PRIu64 " steps=%" PRIu64 " step_ms=%.2f resident=%" PRIu64
        " connections=%" PRIu32 " kv_saturated=%" PRIu64 "\n",
        stats->uptime_seconds, stats->pages, stats->pages_used, stats->pages_reserved,
        stats->queued, stats->waiting_pages, stats->prefill, stats->decode, stats->paused,
        stats->prompt_tokens, stats->generated_tokens, stats->prefill_tokens_per_second,
        stats->decode_tokens_per_second, stats->calls, stats->refused, stats->cancelled,
        stats->steps, stats->step_ms, stats->resident_bytes, stats->connections,
        stats->kv_saturated);
}

/* --- a terminal --- */

struct table {
    char text[TABLE_BYTES];
    size_t len;
    int n_lines;
};

static void add_row(struct table *table, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void add_row(struct table *table, const char *name, const char *format, ...)
{
    char row[256];
    va_list args;
    va_start(args, format);
    vsnprintf(row, sizeof row, format, args);
    va_end(args);
    int n = snprintf(table->text + table->len, sizeof table->text - table->len, "%-12s%s\033[K\n",
                     name, row);
    if (n > 0 && table->len + (size_t)n < sizeof table->text) {
        table->len += (size_t)n;
        table->n_lines++;
    }
}

static void fill_table(struct table *table, const Quire__V1__Stats *stats)
{
    char first[TEXT_NUMBER_BYTES], second[TEXT_NUMBER_BYTES], third[TEXT_NUMBER_BYTES];
    add_row(table, "pages", "%s of %s used (%.1f %%), %s more promised",
            text_count(first, stats->pages_used), text_count(second, stats->pages),
            percent(stats->pages_used, stats->pages), text_count(third, stats->pages_reserved));
    add_row(table, "sequences",
            "%" PRIu32 " decoding, %" PRIu32 " in prefill, %" PRIu32 " paused, %" PRIu32
            " queued (%" PRIu32 " wait for pages)",
            stats->decode, stats->prefill, stats->paused, stats->queued, stats->waiting_pages);
    add_row(table, "rates", "prefill %.1f tokens/s, decode %.1f tokens/s, step %.2f ms",
            stats->prefill_tokens_per_second, stats->decode_tokens_per_second, stats->step_ms);
    add_row(table, "tokens", "%s read, %s generated", text_count(first, stats->prompt_tokens),
            text_count(second, stats->generated_tokens));
    add_row(table, "calls", "%s admitted, %s refused, %s cancelled",
            text_count(first, stats->calls), text_count(second, stats->refused),
            text_count(third, stats->cancelled));
    add_row(table, "server", "up %s, %s resident, %" PRIu32 " connection%s, %s values clipped",
            text_duration(first, stats->uptime_seconds), text_bytes(second, stats->resident_bytes),
            stats->connections, stats->connections == 1 ? "" : "s",
            text_count(third, stats->kv_saturated));
}

/* Draws over the table that stands there. */
static bool show_table(struct stats_run *run, const Quire__V1__Stats *stats)
{
    struct table table = {.len = 0};
    char up[16] = "";
    fill_table(&table, stats);
    if (run->n_lines > 0)
        snprintf(up, sizeof up, "\033[%dA", run->n_lines);
    run->n_lines = table.n_lines;
    return answer_output_raw(&run->client.output, up, strlen(up)) &&
           answer_output_raw(&run->client.output, table.text, table.len);
}

static bool on_stats(void *arg, const void *bytes, size_t len)
{
    struct stats_run *run = arg;
    Quire__V1__Stats *stats =
        client_run_unpack(&run->client, &quire__v1__stats__descriptor, bytes, len);
    if (stats == NULL)
        return false;
    bool ok;
    if (run->client.options->json)
        ok = answer_output_event(&run->client.output, "stats", &stats->base);
    else if (run->is_live)
        ok = show_table(run, stats);
    else
        ok = show_line(&run->client.output, stats);
    run->is_done = ok && run->once;
    return ok && !run->is_done;
}

int stats_command(int argc, char **argv)
{
    struct stats_options in = {.once = false};
    struct stats_run run = {.n_lines = 0};
    Quire__V1__WatchStatsRequest request = QUIRE__V1__WATCH_STATS_REQUEST__INIT;
    int n_operands, exit_status;
    if (!client_run_parse(&run.client, &command, argc, argv, &in, NULL, &n_operands, &exit_status))
        return exit_status;
    const char *term = getenv("TERM");
    run.once = in.once;
    run.is_live = run.client.output.out_is_terminal && term != NULL && term[0] != 0 &&
                  strcmp(term, "dumb") != 0;
    request.opt_interval_ms_case = QUIRE__V1__WATCH_STATS_REQUEST__OPT_INTERVAL_MS_INTERVAL_MS;
    request.interval_ms = (uint32_t)(in.interval * 1000 + 0.5);
    if (client_run_open(&run.client))
        client_run_call(&run.client, "/quire.v1.Quire/WatchStats", &request.base, on_stats, &run);
    if (run.is_done)
        run.client.status.code = QUIRE_OK;
    return client_run_close(&run.client);
}
