/* clients/c/stats_command.c: `quire stats`: what a server is at, live. */
#include "clients/c/client_main.h"
#include "clients/c/client_run.h"
#include "clients/c/stats_view.h"
#include "quire/v1/quire.pb-c.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct stats_options {
    struct client_options client; /* first */
    bool once, sequence_given;
    double interval;
    int64_t sequence;
};

static const struct option options[] = {
    {"once", '1', OPTION_FLAG, offsetof(struct stats_options, once), NULL, NULL,
     "one look, and no more", 0, 0, NULL, 0},
    {"interval", 'i', OPTION_REAL, offsetof(struct stats_options, interval), "1", "SECONDS",
     "between two looks", 0.1, 60, NULL, 0},
    {"sequence", 0, OPTION_INT, offsetof(struct stats_options, sequence), NULL, "ID",
     "draws the tables of this sequence, once: where its pages lie, which are being written, and "
     "which others share", 0, SEQUENCES_MAX - 1, NULL,
     offsetof(struct stats_options, sequence_given)},
    CLIENT_OPTION_ROWS,
    {NULL, 0, 0, 0, NULL, NULL, NULL, 0, 0, NULL, 0},
};

static const struct command command = {
    .name = "stats",
    .usage = "quire stats [--once] [--interval SECONDS] [--sequence ID] [options]",
    .summary = "Shows pages, sequences and rates of a server until Ctrl-C: a live table on a "
               "terminal, elsewhere one line a look.",
    .options = options,
    .examples = "  quire stats\n"
                "  quire stats --once --json\n"
                "  quire stats --sequence 0\n",
};

struct stats_run {
    struct client_run client;
    bool once, is_live, wants_sequence;
    bool is_done; /* the one look was taken */
    int n_lines;  /* of the table that stands on the terminal */
};

/* False, and the status says which there are. */
static bool tell_absent(struct stats_run *run, const Quire__V1__Stats *stats)
{
    char ids[160] = "none does";
    size_t len = 0;
    for (size_t i = 0; i < stats->n_sequences && len < sizeof ids; i++)
        len += (size_t)snprintf(ids + len, sizeof ids - len, "%s%" PRIu32, i > 0 ? ", " : "",
                                stats->sequences[i]->id);
    quire_status_set(&run->client.status, QUIRE_NOT_FOUND,
                     "no sequence of that number holds pages; those that do: %s", ids);
    return false;
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
    else if (run->wants_sequence && stats->sequence != NULL)
        ok = stats_view_sequence(&run->client.output, stats);
    else if (run->wants_sequence)
        ok = tell_absent(run, stats);
    else if (run->is_live)
        ok = stats_view_table(&run->client.output, stats, &run->n_lines);
    else
        ok = stats_view_line(&run->client.output, stats);
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
    run.once = in.once || in.sequence_given;
    run.wants_sequence = in.sequence_given;
    run.is_live = run.client.output.out_is_terminal && term != NULL && term[0] != 0 &&
                  strcmp(term, "dumb") != 0;
    request.opt_interval_ms_case = QUIRE__V1__WATCH_STATS_REQUEST__OPT_INTERVAL_MS_INTERVAL_MS;
    request.interval_ms = (uint32_t)(in.interval * 1000 + 0.5);
    if (in.sequence_given) {
        request.opt_sequence_case = QUIRE__V1__WATCH_STATS_REQUEST__OPT_SEQUENCE_SEQUENCE;
        request.sequence = (uint32_t)in.sequence;
    }
    if (client_run_open(&run.client))
        client_run_call(&run.client, "/quire.v1.Quire/WatchStats", &request.base, on_stats, &run);
    if (run.is_done)
        run.client.status.code = QUIRE_OK;
    return client_run_close(&run.client);
}
