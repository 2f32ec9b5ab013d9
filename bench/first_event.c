/* bench/first_event.c: from the last byte of a request sent to the first DATA byte seen, at an idle
 * server and while a long prefill runs.
 *
 *   main thread     one call at a time: prompts of 1 byte to 8 KiB, cancelled at the first event
 *   second thread   in the second half: one prompt of 7,000 ids after another
 *
 * Each call comes at a random moment of the server's steps: up to 100 ms after the one before, so
 * that 200 calls take as long as a prefill. Before it the server is asked (WatchStats) whether it
 * is idle, or whether the prefill is running; the times are those of the client's own socket
 * (quire_call_times).
 */
#include "bench/client_load.h"

#include "base/clock.h"
#include "base/options.h"
#include "base/status.h"
#include "clients/c/json_writer.h"
#include "clients/c/message_codec.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CALLS_MAX_OF_RUN 100000
#define PROMPT_BYTES_MAX 8192
#define PATIENCE_S 300
#define LOOK_MS 5

struct bench_options {
    const char *server;
    int64_t calls, prefill_tokens, prompt_bytes, pause_ms;
};

#define FIELD(name) offsetof(struct bench_options, name)

static const struct option options[] = {
    {"server", 's', OPTION_TEXT, FIELD(server), "127.0.0.1:7070", "ADDRESS",
     "a running quire serve", 0, 0, NULL, 0},
    {"calls", 0, OPTION_INT, FIELD(calls), "200", "N", "calls of each half", 1, CALLS_MAX_OF_RUN,
     NULL, 0},
    {"prompt-bytes", 0, OPTION_INT, FIELD(prompt_bytes), "8192", "N", "longest prompt", 1,
     PROMPT_BYTES_MAX, NULL, 0},
    {"pause-ms", 0, OPTION_INT, FIELD(pause_ms), "100", "MS", "longest pause before a call", 0,
     10000, NULL, 0},
    {"prefill-tokens", 0, OPTION_INT, FIELD(prefill_tokens), "7000", "N",
     "tokens of the prompt that runs beside", 64, 16777216.0, NULL, 0},
    {NULL, 0, 0, 0, NULL, NULL, NULL, 0, 0, NULL, 0},
};

static const struct command command = {
    .name = "first_event",
    .usage = "first_event [--server ADDRESS] [--calls N]",
    .summary = "Measures the time to the first event of Generate.",
    .options = options,
    .examples = "  first_event --server 127.0.0.1:7070\n",
};

/* --- what the server is at --- */

struct look {
    bool seen;
    uint32_t prefill, others; /* sequences */
};

static bool on_stats(void *arg, const void *bytes, size_t len)
{
    struct look *look = arg;
    Quire__V1__Stats *stats = quire__v1__stats__unpack(NULL, len, bytes);
    if (stats == NULL)
        load_give_up("WatchStats", "a message that is none");
    *look = (struct look){.seen = true,
                          .prefill = stats->prefill,
                          .others = stats->decode + stats->queued + stats->paused};
    quire__v1__stats__free_unpacked(stats, NULL);
    return false; /* one is enough */
}

/* Waits until `prefills` sequences are in prefill and no other one is there. */
static void wait_for(struct quire_client *client, uint32_t prefills)
{
    int64_t until_ns = clock_now(&clock_monotonic) + PATIENCE_S * NS_PER_S;
    while (clock_now(&clock_monotonic) < until_ns) {
        struct look look = {.seen = false};
        struct quire_call_options about = {.on_message = on_stats, .arg = &look};
        struct quire_call *call = quire_call_open(client, "/quire.v1.Quire/WatchStats", &about);
        if (call == NULL)
            load_give_up("WatchStats", "no memory");
        quire_call_send(call, "", 0, true);
        const struct quire_status *status = quire_call_wait(call);
        if (!look.seen)
            load_give_up("WatchStats", status->message);
        quire_call_free(call);
        if (look.prefill == prefills && look.others == 0)
            return;
        poll(NULL, 0, LOOK_MS);
    }
    load_give_up("WatchStats", prefills == 0
                                   ? "the server does not become idle: does it serve others?"
                                   : "no prefill is running");
}

/* --- the prefill beside --- */

struct beside {
    struct quire_client *client; /* its own */
    size_t n_tokens;
    uint32_t vocabulary;
    atomic_bool stop;
};

static void *run_prefills(void *arg)
{
    struct beside *beside = arg;
    uint32_t *ids = malloc(beside->n_tokens * sizeof *ids);
    uint64_t state = LOAD_RANDOM_START;
    if (ids == NULL)
        load_give_up("a long prompt", "no memory");
    while (!atomic_load(&beside->stop)) {
        for (size_t i = 0; i < beside->n_tokens; i++) /* no prompt shares a prefix with another */
            ids[i] = (uint32_t)(load_random(&state) % beside->vocabulary);
        Quire__V1__GenerateRequest request = QUIRE__V1__GENERATE_REQUEST__INIT;
        Quire__V1__TokenIds tokens = QUIRE__V1__TOKEN_IDS__INIT;
        tokens.ids = ids;
        tokens.n_ids = beside->n_tokens;
        request.prompt_case = QUIRE__V1__GENERATE_REQUEST__PROMPT_TOKENS;
        request.tokens = &tokens;
        request.opt_max_tokens_case = QUIRE__V1__GENERATE_REQUEST__OPT_MAX_TOKENS_MAX_TOKENS;
        request.max_tokens = 1;
        size_t n;
        void *bytes = message_codec_pack(&request.base, &n);
        struct quire_call *call = quire_call_open(beside->client, "/quire.v1.Quire/Generate", NULL);
        if (call == NULL || bytes == NULL)
            load_give_up("a long prompt", "no memory");
        quire_call_send(call, bytes, n, true);
        const struct quire_status *status = quire_call_wait(call);
        if (status->code != QUIRE_OK && !atomic_load(&beside->stop))
            load_give_up("a long prompt", status->message);
        quire_call_free(call);
        free(bytes);
    }
    free(ids);
    return NULL;
}

/* --- a half, and what came of it --- */

static void run_half(struct quire_client *client, const struct bench_options *in, const char *text,
                     uint32_t prefills, double *ms)
{
    size_t n = (size_t)in->calls;
    uint64_t state = LOAD_RANDOM_START;
    for (size_t i = 0; i < n; i++) {
        size_t len =
            n == 1 ? (size_t)in->prompt_bytes : 1 + i * (size_t)(in->prompt_bytes - 1) / (n - 1);
        poll(NULL, 0, (int)(load_random(&state) % (uint64_t)(in->pause_ms + 1)));
        wait_for(client, prefills);
        ms[i] = load_first_event_ms(client, text + i % 64, len);
    }
    load_sort(ms, n);
}

static void print_half(const char *name, const double *ms, size_t n)
{
    printf("%-36s %6zu %8.2f %8.2f %8.2f %8.2f\n", name, n, load_percentile(ms, n, 0.5),
           load_percentile(ms, n, 0.9), load_percentile(ms, n, 0.99), ms[n - 1]);
}

static void write_half(struct json_writer *json, const char *name, const double *ms, size_t n)
{
    json_writer_open(json, name, '{');
    json_writer_uint(json, "calls", n);
    json_writer_real(json, "p50_ms", load_percentile(ms, n, 0.5));
    json_writer_real(json, "p90_ms", load_percentile(ms, n, 0.9));
    json_writer_real(json, "p99_ms", load_percentile(ms, n, 0.99));
    json_writer_real(json, "max_ms", ms[n - 1]);
    json_writer_close(json, '}');
}

static void report(const struct bench_options *in, const Quire__V1__Model *model,
                   const double *idle, const double *busy)
{
    char name[64];
    size_t n = (size_t)in->calls, len;
    struct json_writer json;
    printf("%-36s %6s %8s %8s %8s %8s\n", "first event, ms", "calls", "p50", "p90", "p99", "max");
    print_half("idle server", idle, n);
    snprintf(name, sizeof name, "beside a prefill of %lld tokens", (long long)in->prefill_tokens);
    print_half(name, busy, n);

    json_writer_init(&json);
    json_writer_open(&json, NULL, '{');
    json_writer_text(&json, "bench", "first_event", strlen("first_event"));
    json_writer_text(&json, "model", model->name.data, model->name.len);
    json_writer_text(&json, "weights_sha256", model->weights_sha256.data,
                     model->weights_sha256.len);
    json_writer_text(&json, "device", model->device.data, model->device.len);
    json_writer_text(&json, "version", model->version.data, model->version.len);
    json_writer_int(&json, "prompt_bytes_max", in->prompt_bytes);
    json_writer_int(&json, "prefill_tokens", in->prefill_tokens);
    write_half(&json, "idle", idle, n);
    write_half(&json, "prefill", busy, n);
    json_writer_close(&json, '}');
    const char *line = json_writer_line(&json, &len);
    if (line != NULL)
        fwrite(line, 1, len, stdout);
    json_writer_release(&json);
}

int main(int argc, char **argv)
{
    struct bench_options in = {0};
    load_parse_options(&command, argc, argv, &in);
    static char text[PROMPT_BYTES_MAX + 64];
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = "a page of a very long book, "[i % 28];
    double *idle = malloc((size_t)in.calls * sizeof *idle);
    double *busy = malloc((size_t)in.calls * sizeof *busy);
    if (idle == NULL || busy == NULL)
        load_give_up("times", "no memory");

    struct quire_client *client = load_connect(in.server);
    Quire__V1__Model *model = load_get_model(client);
    run_half(client, &in, text, 0, idle);

    struct beside beside = {.client = load_connect(in.server),
                            .n_tokens = (size_t)in.prefill_tokens,
                            .vocabulary = model->vocabulary};
    pthread_t thread;
    if (pthread_create(&thread, NULL, run_prefills, &beside) != 0)
        load_give_up("a second thread", "cannot be started");
    run_half(client, &in, text, 1, busy);
    atomic_store(&beside.stop, true);
    quire_client_interrupt(beside.client);
    pthread_join(thread, NULL);
    quire_client_close(beside.client);

    report(&in, model, idle, busy);
    quire__v1__model__free_unpacked(model, NULL);
    quire_client_close(client);
    free(idle);
    free(busy);
    return 0;
}
