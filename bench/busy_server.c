/* bench/busy_server.c: what a reader notices while documents are being uploaded.
 *
 *   uploader   Summarize, one document after the other, as fast as the server takes them
 *   reader     one long Generate: the gaps between its tokens
 *   caller     short Generates, cancelled at the first event: the time to `accepted`
 *
 * Each has a thread and a connection of its own. bench/threads_table runs it for each number of
 * worker threads.
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

#define PIECE_BYTES 16384
#define GAPS_MAX (1 << 20)
#define CALLS_MAX_OF_RUN 100000
#define PAUSE_MS 100

struct bench_options {
    const char *server, *document;
    int64_t seconds;
    bool without_uploads, json;
};

#define FIELD(name) offsetof(struct bench_options, name)

static const struct option options[] = {
    {"server", 's', OPTION_TEXT, FIELD(server), "127.0.0.1:7070", "ADDRESS",
     "a running quire serve", 0, 0, NULL, 0},
    {"document", 0, OPTION_TEXT, FIELD(document), "/usr/share/common-licenses/GPL-3", "FILE",
     "what is uploaded, again and again", 0, 0, NULL, 0},
    {"seconds", 0, OPTION_INT, FIELD(seconds), "20", "N", "how long", 1, 3600, NULL, 0},
    {"without-uploads", 0, OPTION_FLAG, FIELD(without_uploads), NULL, NULL,
     "the same with nothing beside", 0, 0, NULL, 0},
    {"json", 0, OPTION_FLAG, FIELD(json), NULL, NULL, "print one JSON object", 0, 0, NULL, 0},
    {NULL, 0, 0, 0, NULL, NULL, NULL, 0, 0, NULL, 0},
};

static const struct command command = {
    .name = "busy_server",
    .usage = "busy_server [--server ADDRESS] [--seconds N]",
    .summary = "Measures gaps between tokens and times to `accepted` while documents are uploaded.",
    .options = options,
    .examples = "  busy_server --server 127.0.0.1:7070 --seconds 20\n",
};

struct run {
    const struct bench_options *in;
    struct quire_client *uploads, *reads, *calls;
    char *document;
    size_t document_bytes;
    atomic_bool stop;
    atomic_ullong uploaded_bytes;
    double *gaps_ms, *accepted_ms;
    size_t n_gaps, n_accepted;
};

static void read_document(struct run *run)
{
    FILE *file = fopen(run->in->document, "rb");
    if (file == NULL || fseek(file, 0, SEEK_END) != 0)
        load_give_up(run->in->document, "cannot be read");
    long size = ftell(file);
    rewind(file);
    run->document = size > 0 ? malloc((size_t)size) : NULL;
    if (run->document == NULL || fread(run->document, 1, (size_t)size, file) != (size_t)size)
        load_give_up(run->in->document, "cannot be read");
    run->document_bytes = (size_t)size;
    fclose(file);
}

/* --- uploader --- */

static bool send_part(struct quire_call *call, Quire__V1__SummarizeRequest *part, bool last)
{
    size_t n;
    void *bytes = message_codec_pack(&part->base, &n);
    if (bytes == NULL)
        load_give_up("Summarize", "no memory");
    bool sent = quire_call_send(call, bytes, n, last);
    free(bytes);
    return sent;
}

static void upload_one(struct run *run)
{
    Quire__V1__SummarizeOptions about = QUIRE__V1__SUMMARIZE_OPTIONS__INIT;
    about.opt_section_tokens_case = QUIRE__V1__SUMMARIZE_OPTIONS__OPT_SECTION_TOKENS_SECTION_TOKENS;
    about.section_tokens = 1000;
    Quire__V1__SummarizeRequest part = QUIRE__V1__SUMMARIZE_REQUEST__INIT;
    part.part_case = QUIRE__V1__SUMMARIZE_REQUEST__PART_OPTIONS;
    part.options = &about;
    struct quire_call *call = quire_call_open(run->uploads, "/quire.v1.Quire/Summarize", NULL);
    if (call == NULL)
        load_give_up("Summarize", "no memory");
    bool open = send_part(call, &part, false);
    part.part_case = QUIRE__V1__SUMMARIZE_REQUEST__PART_TEXT;
    for (size_t at = 0; open && at < run->document_bytes && !atomic_load(&run->stop);) {
        size_t left = run->document_bytes - at, n = left < PIECE_BYTES ? left : PIECE_BYTES;
        part.text = message_codec_bytes(run->document + at, n);
        at += n;
        open = send_part(call, &part, at == run->document_bytes);
        atomic_fetch_add(&run->uploaded_bytes, n);
    }
    const struct quire_status *status = quire_call_wait(call);
    if (status->code != QUIRE_OK && !atomic_load(&run->stop))
        load_give_up("Summarize", status->message);
    quire_call_free(call);
}

static void *upload(void *arg)
{
    struct run *run = arg;
    while (!atomic_load(&run->stop))
        upload_one(run);
    return NULL;
}

/* --- reader --- */

struct reading {
    struct run *run;
    int64_t last_ns;
};

static bool on_event(void *arg, const void *bytes, size_t len)
{
    struct reading *reading = arg;
    struct run *run = reading->run;
    int64_t now_ns = clock_now(&clock_monotonic);
    Quire__V1__GenerateEvent *event = quire__v1__generate_event__unpack(NULL, len, bytes);
    if (event == NULL)
        load_give_up("Generate", "a message that is none");
    if (event->event_case == QUIRE__V1__GENERATE_EVENT__EVENT_DELTA) {
        if (reading->last_ns != 0 && run->n_gaps < GAPS_MAX)
            run->gaps_ms[run->n_gaps++] = (double)(now_ns - reading->last_ns) / (double)NS_PER_MS;
        reading->last_ns = now_ns;
    }
    quire__v1__generate_event__free_unpacked(event, NULL);
    return !atomic_load(&run->stop);
}

static void *read_tokens(void *arg)
{
    static const char text[] = "Once upon a time";
    struct run *run = arg;
    while (!atomic_load(&run->stop)) {
        struct reading reading = {.run = run};
        struct quire_call_options about = {.on_message = on_event, .arg = &reading};
        size_t n;
        void *bytes = load_pack_text(text, strlen(text), 1000, true, &n);
        struct quire_call *call = quire_call_open(run->reads, "/quire.v1.Quire/Generate", &about);
        if (call == NULL)
            load_give_up("Generate", "no memory");
        quire_call_send(call, bytes, n, true);
        const struct quire_status *status = quire_call_wait(call);
        if (status->code != QUIRE_OK && !atomic_load(&run->stop))
            load_give_up("Generate", status->message);
        quire_call_free(call);
        free(bytes);
    }
    return NULL;
}

/* --- caller --- */

static void call_for(struct run *run, int64_t seconds)
{
    static const char text[] = "The capital of France is";
    uint64_t state = LOAD_RANDOM_START;
    int64_t until_ns = clock_now(&clock_monotonic) + seconds * NS_PER_S;
    while (clock_now(&clock_monotonic) < until_ns && run->n_accepted < CALLS_MAX_OF_RUN) {
        poll(NULL, 0, (int)(load_random(&state) % (PAUSE_MS + 1)));
        run->accepted_ms[run->n_accepted++] =
            load_first_event_ms(run->calls, text, strlen(text));
    }
}

/* --- the whole --- */

static void report(struct run *run, double seconds)
{
    Quire__V1__Model *model = load_get_model(run->calls);
    double uploaded = (double)atomic_load(&run->uploaded_bytes) / seconds;
    size_t len;
    load_sort(run->gaps_ms, run->n_gaps);
    load_sort(run->accepted_ms, run->n_accepted);
    const double shares[] = {0.5, 0.99};
    double gap[2], accepted[2];
    for (int i = 0; i < 2; i++) {
        gap[i] = load_percentile(run->gaps_ms, run->n_gaps, shares[i]);
        accepted[i] = load_percentile(run->accepted_ms, run->n_accepted, shares[i]);
    }
    if (!run->in->json) {
        printf("%.*s: tokens %zu, gap p50 %.2f p99 %.2f ms; accepted %zu, p50 %.2f p99 %.2f ms; "
               "uploaded %.0f bytes/s\n",
               (int)model->device.len, (const char *)model->device.data, run->n_gaps, gap[0],
               gap[1], run->n_accepted, accepted[0], accepted[1], uploaded);
    } else {
        struct json_writer json;
        json_writer_init(&json);
        json_writer_open(&json, NULL, '{');
        json_writer_text(&json, "device", model->device.data, model->device.len);
        json_writer_text(&json, "weights_sha256", model->weights_sha256.data,
                         model->weights_sha256.len);
        json_writer_real(&json, "tokens_per_second", (double)run->n_gaps / seconds);
        json_writer_real(&json, "gap_p50_ms", gap[0]);
        json_writer_real(&json, "gap_p99_ms", gap[1]);
        json_writer_uint(&json, "accepted", run->n_accepted);
        json_writer_real(&json, "accepted_p50_ms", accepted[0]);
        json_writer_real(&json, "accepted_p99_ms", accepted[1]);
        json_writer_real(&json, "uploaded_bytes_per_second", uploaded);
        json_writer_close(&json, '}');
        const char *line = json_writer_line(&json, &len);
        if (line != NULL)
            fwrite(line, 1, len, stdout);
        json_writer_release(&json);
    }
    quire__v1__model__free_unpacked(model, NULL);
}

int main(int argc, char **argv)
{
    struct bench_options in = {0};
    load_parse_options(&command, argc, argv, &in);
    struct run run = {.in = &in,
                      .uploads = load_connect(in.server),
                      .reads = load_connect(in.server),
                      .calls = load_connect(in.server),
                      .gaps_ms = malloc(GAPS_MAX * sizeof(double)),
                      .accepted_ms = malloc(CALLS_MAX_OF_RUN * sizeof(double))};
    if (run.gaps_ms == NULL || run.accepted_ms == NULL)
        load_give_up("times", "no memory");
    read_document(&run);

    pthread_t uploader, reader;
    int64_t begun_ns = clock_now(&clock_monotonic);
    if (pthread_create(&reader, NULL, read_tokens, &run) != 0 ||
        (!in.without_uploads && pthread_create(&uploader, NULL, upload, &run) != 0))
        load_give_up("a thread", "cannot be started");
    call_for(&run, in.seconds);
    double seconds = (double)(clock_now(&clock_monotonic) - begun_ns) / (double)NS_PER_S;
    atomic_store(&run.stop, true);
    quire_client_interrupt(run.uploads);
    quire_client_interrupt(run.reads);
    pthread_join(reader, NULL);
    if (!in.without_uploads)
        pthread_join(uploader, NULL);
    report(&run, seconds);

    quire_client_close(run.uploads);
    quire_client_close(run.reads);
    quire_client_close(run.calls);
    free(run.document);
    free(run.gaps_ms);
    free(run.accepted_ms);
    return 0;
}
