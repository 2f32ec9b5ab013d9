#include "service/text_calls.h"

#include "base/utf8.h"
#include "service/server.h"
#include "service/service.h"
#include "service/wire.h"
#include "service/work.h"

#include <stdlib.h>

/* Owns the unpacked request and the packed answer: the call may be gone when it is done. */
struct text_job {
    struct call_table *calls;
    uint64_t call_id;
    const struct engine *engine;
    struct arena arena;
    struct wire_tokenize tokenize;
    struct wire_detokenize detokenize;
    uint8_t *reply;
    size_t reply_bytes;
    int status;
    struct why why;
};

static struct text_job *job_create(struct call *call, struct slice body)
{
    struct text_job *job = calloc(1, sizeof *job);
    if (job == NULL)
        return NULL;
    arena_init(&job->arena, wire_arena_bytes(body.len));
    job->calls = server_calls(call->service->server);
    job->call_id = call->id;
    job->engine = call->service->engine;
    return job;
}

static void job_free(struct text_job *job)
{
    arena_release(&job->arena);
    free(job->reply);
    free(job);
}

static void no_memory(struct text_job *job)
{
    job->status =
        refuse(&job->why, STATUS_NO_MEMORY, "no memory for the answer: send less at once");
}

static void tokenize_job(void *arg)
{
    struct text_job *job = arg;
    const struct wire_tokenize *in = &job->tokenize;
    struct token_span *spans = NULL;
    uint32_t *ids = NULL;
    size_t n = 0;

    job->status =
        engine_tokenize(job->engine, in->text, in->add_special ? -1 : 0, in->parse_special,
                        GENERATE_MESSAGE_BYTES_MAX, &ids, in->spans ? &spans : NULL, &n, &job->why);
    if (job->status == STATUS_OK) {
        job->reply = wire_pack_tokens(ids, spans, n, &job->reply_bytes);
        if (job->reply == NULL)
            no_memory(job);
    }
    free(ids);
    free(spans);
}

static void detokenize_job(void *arg)
{
    struct text_job *job = arg;
    const struct wire_detokenize *in = &job->detokenize;
    uint8_t *exact = NULL, *text = NULL;
    size_t len = 0;

    job->status =
        engine_detokenize(job->engine, in->ids, in->n_ids, in->special, &exact, &len, &job->why);
    if (job->status == STATUS_OK) {
        text = malloc(3 * len + 1);
        if (text != NULL)
            job->reply = wire_pack_text(slice_of(text, utf8_repair(exact, len, text, NULL)),
                                        slice_of(exact, len), &job->reply_bytes);
        if (job->reply == NULL)
            no_memory(job);
    }
    free(exact);
    free(text);
}

static void on_done(void *arg, int status)
{
    struct text_job *job = arg;
    struct call *call = call_find(job->calls, job->call_id);

    if (call != NULL) {
        if (status == STATUS_OK)
            status = job->status;
        if (status == STATUS_OK) {
            status = call_send(call, slice_of(job->reply, job->reply_bytes));
            if (status < 0)
                refuse(&job->why, status,
                       "the answer of %zu bytes is more than a reply may hold: send less at once",
                       job->reply_bytes);
        }
        if (status == STATUS_OK)
            call_finish(call, STATUS_OK, NULL);
        else
            service_refuse(call, status,
                           job->why.text[0] != '\0' ? job->why.text : "the server is stopping");
    }
    job_free(job);
}

static int submit(struct call *call, struct text_job *job, int status, void (*work)(void *),
                  struct why *why)
{
    if (status == STATUS_OK) {
        status = work_submit(server_loop(call->service->server), work, on_done, job);
        if (status < 0)
            refuse(why, status, "too many texts are being tokenized: try again in a second");
    }
    if (status == STATUS_OK)
        return status;
    job_free(job);
    return service_refuse_request(call, status, why);
}

static int on_tokenize(struct call *call, struct slice body, struct why *why)
{
    struct text_job *job = job_create(call, body);
    if (job == NULL)
        return refuse(why, STATUS_NO_MEMORY, "no memory for a request of %zu bytes", body.len);
    return submit(call, job, wire_unpack_tokenize(&job->arena, body, &job->tokenize, why),
                  tokenize_job, why);
}

static int on_detokenize(struct call *call, struct slice body, struct why *why)
{
    struct text_job *job = job_create(call, body);
    if (job == NULL)
        return refuse(why, STATUS_NO_MEMORY, "no memory for a request of %zu bytes", body.len);
    return submit(call, job, wire_unpack_detokenize(&job->arena, body, &job->detokenize, why),
                  detokenize_job, why);
}

static void on_cancel(struct call *call)
{
    (void)call; /* the job finds nobody when it is done */
}

const struct call_handler tokenize_handler = {.on_message = on_tokenize, .on_cancel = on_cancel};
const struct call_handler detokenize_handler = {.on_message = on_detokenize,
                                                .on_cancel = on_cancel};
