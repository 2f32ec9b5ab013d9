#include "service/text_calls.h"

#include "base/utf8.h"
#include "service/server.h"
#include "service/service.h"
#include "service/wire.h"
#include "service/work.h"

#include <stdlib.h>

/* What a token takes of the answer at least: a byte of its id, and of its span the key, the length
 * and the end's key and value. */
#define ID_BYTES_MIN 1
#define SPAN_BYTES_MIN 4

/* Owns the unpacked request and the packed answer: the call may be gone when it is done. */
struct text_job {
    struct service *service;
    struct call_table *calls;
    uint64_t call_id;
    const struct engine *engine;
    struct arena arena;
    size_t held_bytes; /* of the service's account */
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
    job->service = call->service;
    job->calls = call->table;
    job->call_id = call->id;
    job->engine = call->service->engine;
    return job;
}

static void job_free(struct text_job *job)
{
    service_give_text(job->service, job->held_bytes);
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
    size_t n_max =
        RESPONSE_MESSAGE_BYTES_MAX / (ID_BYTES_MIN + (in->spans ? SPAN_BYTES_MIN : 0));
    struct token_span *spans = NULL;
    uint32_t *ids = NULL;
    size_t n = 0;

    job->status =
        engine_tokenize(job->engine, in->text, in->add_special ? -1 : 0, in->parse_special, n_max,
                        &ids, in->spans ? &spans : NULL, &n, &job->why);
    if (job->status == STATUS_TOO_LARGE)
        refuse(&job->why, STATUS_TOO_LARGE,
               "the text of %zu bytes has more than %zu tokens, more than a reply of %u bytes "
               "holds: send less at once",
               in->text.len, n_max, RESPONSE_MESSAGE_BYTES_MAX);
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
            if (status == STATUS_EXHAUSTED)
                refuse_numbers(&job->why, status,
                               (struct why_numbers){(double)job->reply_bytes,
                                                    RESPONSE_MESSAGE_BYTES_MAX, "bytes", NULL},
                               "the answer has %zu bytes; a reply may hold %u: send less at once",
                               job->reply_bytes, RESPONSE_MESSAGE_BYTES_MAX);
            else if (status < 0)
                no_memory(job);
        }
        if (status == STATUS_OK)
            call_finish(call, STATUS_OK, NULL);
        else if (job->why.text[0] != '\0')
            service_refuse_why(call, status, &job->why);
        else
            service_refuse(call, status, "the server is stopping");
    }
    job_free(job);
}

static int submit(struct call *call, struct text_job *job, int status, void (*work)(void *),
                  struct why *why)
{
    if (status == STATUS_OK) {
        status = service_hold_text(call->service, job->arena.used, why);
        job->held_bytes = status == STATUS_OK ? job->arena.used : 0;
    }
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
