#include "service/generate.h"

#include "base/clock.h"
#include "service/server.h"
#include "service/service.h"
#include "service/wire.h"
#include "service/work.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* All of a text is counted, so that a refusal can tell how much is too much. */
#define TOKENS_MAX GENERATE_MESSAGE_BYTES_MAX

/* The request on its way to tokens. Owns the unpacked request, so that a cancelled call leaves the
 * worker something to read. */
struct generate_job {
    struct service *service;
    struct call_table *calls;
    uint64_t call_id;
    const struct engine *engine;
    struct arena arena;
    size_t held_bytes; /* of the service's account */
    struct wire_generate request;
    uint32_t *ids; /* malloc'ed */
    size_t n_ids;
    int status;
    struct why why;
};

struct generate {
    struct engine_client client; /* first: service_on_wake reads it */
    bool want_text, want_ids, is_submitted;
    struct stop_list stop;
    uint32_t n_credit_owed;
    struct call_clock clock;
};

size_t generate_state_bytes(void)
{
    return sizeof(struct generate);
}

static void job_free(struct generate_job *job)
{
    service_give_text(job->service, job->held_bytes);
    arena_release(&job->arena);
    free(job->ids);
    free(job);
}

/* --- events --- */

/* False: there was no memory for it, and since nothing is left out of an answer, the call ended. */
static bool send_packed(struct call *call, size_t bytes)
{
    struct generate *state = call_state_of(call);

    assert(bytes > 0); /* limits.h: EVENT_BYTES_MAX against WIRE_EVENT_BYTES_MAX */
    int status = call_send(call, slice_of(call->service->out, bytes));
    if (status == STATUS_OK)
        return true;
    assert(status == STATUS_NO_MEMORY); /* credit keeps the buffer below its end */
    if (state->is_submitted)
        service_cancel_runs(call, TAG_ALL);
    service_refuse(call, status, "no memory for the next part of the answer");
    return false;
}

static void handle_delta(struct call *call, struct generate *state, const struct event *event)
{
    struct service *service = call->service;
    bool empty;

    call->usage.n_completion += event->delta.has_token;
    size_t bytes = wire_pack_delta(service->out, sizeof service->out, &event->delta,
                                   service->engine, state->want_text, state->want_ids, &empty);
    if (!empty && !send_packed(call, bytes))
        return;
    if (call_unsent_bytes(call) <= OUT_BUFFER_MARK_BYTES)
        service_credit(call, event->tag, 1);
    else
        state->n_credit_owed++;
}

static void handle_finished(struct call *call, struct generate *state, const struct event *event)
{
    struct service *service = call->service;
    struct wire_finished finished = {.event = &event->finished};

    if (event->finished.stop_idx >= 0) {
        int i = event->finished.stop_idx;
        finished.stop = slice_of(state->stop.bytes[i], state->stop.len[i]);
    }
    state->is_submitted = false;
    call->usage = (struct call_usage){.n_prompt = event->finished.n_prompt,
                                      .n_completion = event->finished.n_completion,
                                      .queue_s = event->finished.queue_s,
                                      .prefill_s = event->finished.prefill_s,
                                      .decode_s = event->finished.decode_s};
    if (send_packed(call, wire_pack_finished(service->out, sizeof service->out, &finished)))
        call_finish(call, STATUS_OK, NULL);
}

static void handle_event(struct call *call, const struct event *event)
{
    struct generate *state = call_state_of(call);
    struct service *service = call->service;

    service_follow(&state->clock, event);
    switch (event->kind) {
    case EVENT_ACCEPTED:
        call->usage.n_prompt = event->accepted.n_prompt;
        send_packed(call, wire_pack_accepted(service->out, sizeof service->out, &event->accepted,
                                             call->request_id));
        break;
    case EVENT_PROGRESS: /* never worth waiting for */
        if (call_unsent_bytes(call) <= OUT_BUFFER_MARK_BYTES)
            send_packed(call,
                        wire_pack_progress(service->out, sizeof service->out, &event->progress));
        break;
    case EVENT_DELTA:
        handle_delta(call, state, event);
        break;
    case EVENT_FINISHED:
        handle_finished(call, state, event);
        break;
    case EVENT_REFUSED:
        state->is_submitted = false;
        service_count_time(call, &state->clock);
        service_refuse_event(call, &event->refused);
        break;
    default:
        break;
    }
}

/* --- from request to submit --- */

static void submit_job(struct call *call, struct generate_job *job)
{
    struct generate *state = call_state_of(call);
    const struct wire_generate *request = &job->request;

    struct submit *submit = submit_create((uint32_t)job->n_ids);
    if (submit == NULL) {
        service_refuse(call, STATUS_NO_MEMORY, "no memory for the tokens of this prompt");
        return;
    }
    memcpy(submit->ids, job->ids != NULL ? job->ids : request->ids,
           job->n_ids * sizeof *submit->ids);
    submit->call_id = call->id;
    submit->has_max_tokens = request->has_max_tokens;
    submit->max_tokens = request->max_tokens;
    submit->sampling = request->sampling;
    submit->stop = request->stop;
    submit->ignore_eos = request->ignore_eos;
    submit->want_text = request->want_text;
    submit->want_ids = request->want_ids;
    submit->want_logprobs = request->want_logprobs;
    submit->n_top = request->n_top;
    submit->deadline_ns = call->deadline_ns;
    submit->arrived_ns = call->arrived_ns;

    if (!service_send(call->service, &(struct message){.kind = MESSAGE_SUBMIT, .submit = submit})) {
        submit_free(submit);
        service_refuse(
            call, STATUS_EXHAUSTED,
            "the server has more requests under way than it takes: try again in a second");
        return;
    }
    state->is_submitted = true;
    state->clock.came_ns = call->arrived_ns;
}

static void tokenize_job(void *arg)
{
    struct generate_job *job = arg;
    const struct wire_generate *request = &job->request;

    if (request->prompt == WIRE_CHAT)
        job->status = engine_render_chat(job->engine, request->messages, request->n_messages,
                                         TOKENS_MAX, &job->ids, &job->n_ids, &job->why);
    else
        job->status = engine_tokenize(job->engine, request->text, request->add_bos, false,
                                      TOKENS_MAX, &job->ids, NULL, &job->n_ids, &job->why);
    if (job->status == STATUS_OK && job->n_ids == 0)
        job->status = refuse(&job->why, STATUS_INVALID, "the prompt is empty: give some text%s",
                             job->service->model.has_bos ? ", or set add_bos" : "");
}

static void on_tokenized(void *arg, int status)
{
    struct generate_job *job = arg;
    struct call *call = call_find(job->calls, job->call_id);

    if (call != NULL) {
        if (status == STATUS_OK)
            status = job->status;
        if (status == STATUS_OK)
            submit_job(call, job);
        else if (job->why.text[0] != '\0')
            service_refuse_why(call, status, &job->why);
        else
            service_refuse(call, status, "the server is stopping");
    }
    job_free(job);
}

static int begin(struct call *call, struct slice body, struct why *why)
{
    struct service *service = call->service;
    struct generate *state = call_state_of(call);
    struct generate_job *job = calloc(1, sizeof *job);

    if (job == NULL)
        return refuse(why, STATUS_NO_MEMORY, "no memory for a request of %zu bytes", body.len);
    job->service = service;
    arena_init(&job->arena, wire_arena_bytes(body.len));
    int status = wire_unpack_generate(&job->arena, body, &job->request, why);
    if (status < 0) {
        job_free(job);
        return status;
    }
    status = service_hold_text(service, job->arena.used, why);
    if (status < 0) {
        job_free(job);
        return status;
    }
    job->held_bytes = job->arena.used;
    job->calls = call->table;
    job->call_id = call->id;
    job->engine = service->engine;

    state->client.on_event = handle_event;
    state->want_text = job->request.want_text;
    state->want_ids = job->request.want_ids;
    state->stop = job->request.stop;
    if (job->request.prompt == WIRE_TOKENS) {
        if (job->request.n_ids <= UINT32_MAX)
            job->n_ids = job->request.n_ids;
        submit_job(call, job);
        job_free(job);
        return STATUS_OK;
    }
    status = work_submit(server_loop(service->server), tokenize_job, on_tokenized, job);
    if (status < 0) {
        job_free(job);
        return refuse(why, status, "too many prompts are being tokenized: try again in a second");
    }
    return STATUS_OK;
}

static int on_message(struct call *call, struct slice body, struct why *why)
{
    int status = begin(call, body, why);
    return status < 0 ? service_refuse_request(call, status, why) : STATUS_OK;
}

static void on_cancel(struct call *call)
{
    struct generate *state = call_state_of(call);

    if (!state->is_submitted)
        return;
    service_count_time(call, &state->clock);
    service_cancel_runs(call, TAG_ALL);
}

static void on_drain(struct call *call)
{
    struct generate *state = call_state_of(call);

    if (state->n_credit_owed > 0)
        service_credit(call, 0, state->n_credit_owed);
    state->n_credit_owed = 0;
}

const struct call_handler generate_handler = {
    .on_message = on_message,
    .on_cancel = on_cancel,
    .on_drain = on_drain,
};
