#include "service/generate.h"

#include "base/clock.h"
#include "base/hash.h"
#include "service/prompt_job.h"
#include "service/server.h"
#include "service/service.h"
#include "service/tool_reply.h"
#include "service/wire.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct generate {
    struct engine_client client; /* first: service_on_wake reads it */
    bool want_text, want_ids, is_submitted;
    struct stop_list stop;
    uint32_t n_credit_owed;
    struct call_clock clock;
    struct chat_cut cut;
    struct tool_reply reply;
};

size_t generate_state_bytes(void)
{
    return sizeof(struct generate);
}

/* --- events --- */

/* Since nothing is left out of an answer, the call ends; its state may be gone then. */
static void fail(struct call *call)
{
    struct generate *state = call_state_of(call);

    if (state->is_submitted)
        service_cancel_runs(call, TAG_ALL);
    tool_reply_release(&state->reply);
    service_refuse(call, STATUS_NO_MEMORY, "no memory for the next part of the answer");
}

/* False: there was no memory for it, and the call has ended. */
static bool send_packed(struct call *call, size_t bytes)
{
    assert(bytes > 0); /* limits.h: EVENT_BYTES_MAX against WIRE_EVENT_BYTES_MAX */
    int status = call_send(call, slice_of(call->service->out, bytes));
    if (status == STATUS_OK)
        return true;
    assert(status == STATUS_NO_MEMORY); /* credit keeps the buffer below its end */
    fail(call);
    return false;
}

/* An event with other text: what of it is no call. */
union shown_delta {
    struct event_delta delta;
    uint8_t room[sizeof(struct event_delta) + EVENT_TEXT_BYTES_MAX];
};

static const struct event_delta *with_text(union shown_delta *shown,
                                           const struct event_delta *event, struct slice text)
{
    assert(text.len <= EVENT_TEXT_BYTES_MAX);
    memcpy(&shown->delta, event, sizeof shown->delta);
    shown->delta.text_bytes = (uint32_t)text.len;
    if (text.len > 0)
        memcpy(shown->delta.text, text.bytes, text.len);
    return &shown->delta;
}

static bool send_delta(struct call *call, const struct event_delta *delta)
{
    struct generate *state = call_state_of(call);
    struct service *service = call->service;
    bool empty;
    size_t bytes = wire_pack_delta(service->out, sizeof service->out, delta, service->engine,
                                   state->want_text, state->want_ids, &empty);
    return empty || send_packed(call, bytes);
}

/* Text beside tokens, in pieces that an event may have, cut between characters. */
static bool send_text(struct call *call, struct slice text)
{
    static const struct event_delta nothing = {.has_token = false};
    union shown_delta shown;
    while (text.len > 0) {
        size_t n = text.len < EVENT_TEXT_BYTES_MAX ? text.len : EVENT_TEXT_BYTES_MAX;
        while (n < text.len && n > 1 && (text.bytes[n] & 0xC0) == 0x80)
            n--;
        if (!send_delta(call, with_text(&shown, &nothing, slice_of(text.bytes, n))))
            return false;
        text = slice_of(text.bytes + n, text.len - n);
    }
    return true;
}

/* Of a chat with tools. What was held back may make a text longer than an event's. */
static bool send_parted(struct call *call, struct generate *state, const struct event_delta *delta)
{
    union shown_delta shown;
    struct slice text;

    if (tool_reply_feed(&state->reply, slice_of(delta->text, delta->text_bytes), &text) < 0) {
        fail(call);
        return false;
    }
    if (text.len <= EVENT_TEXT_BYTES_MAX)
        return send_delta(call, with_text(&shown, delta, text));
    return send_text(call, text) &&
           send_delta(call, with_text(&shown, delta, slice_of(NULL, 0)));
}

static void handle_delta(struct call *call, struct generate *state, const struct event *event)
{
    bool has_tools = state->reply.style != CHAT_TOOLS_NONE;

    call->usage.n_completion += event->delta.has_token;
    if (!(has_tools ? send_parted(call, state, &event->delta) : send_delta(call, &event->delta)))
        return;
    if (call_unsent_bytes(call) <= OUT_BUFFER_MARK_BYTES)
        service_credit(call, event->tag, 1);
    else
        state->n_credit_owed++;
}

#define CALL_ID_BYTES 9

/* Ids of calls that came without one: of letters and digits, the same for the same call. */
static void name_calls(const struct call *call, struct chat_call *calls, size_t n,
                       char ids[][CALL_ID_BYTES])
{
    static const char letters[] = "0123456789abcdefghijklmnopqrstuvwxyz";
    for (size_t i = 0; i < n; i++) {
        uint64_t seed = hash64(call->request_id, strlen(call->request_id), i);
        if (calls[i].id.len == CALL_ID_BYTES)
            continue;
        for (size_t k = 0; k < CALL_ID_BYTES; k++, seed /= sizeof letters - 1)
            ids[i][k] = letters[seed % (sizeof letters - 1)];
        calls[i].id = slice_of(ids[i], CALL_ID_BYTES);
    }
}

static void handle_finished(struct call *call, struct generate *state, const struct event *event)
{
    struct service *service = call->service;
    struct wire_finished finished = {.event = &event->finished};
    struct chat_call calls[TOOL_CALLS_MAX];
    char ids[TOOL_CALLS_MAX][CALL_ID_BYTES];
    struct slice held = tool_reply_held(&state->reply);

    if (held.len > 0)
        finished.n_calls = engine_read_calls(service->engine, held, calls, TOOL_CALLS_MAX);
    name_calls(call, calls, finished.n_calls, ids);
    finished.calls = calls;
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
    if (finished.n_calls == 0 && !send_text(call, held))
        return;
    if (!send_packed(call, wire_pack_finished(service->out, sizeof service->out, &finished)))
        return;
    tool_reply_release(&state->reply);
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
                                             call->request_id, &state->cut));
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
        tool_reply_release(&state->reply);
        service_count_time(call, &state->clock);
        service_refuse_event(call, &event->refused);
        break;
    default:
        break;
    }
}

/* --- from request to submit --- */

static void submit_prompt(struct call *call, struct prompt_job *job)
{
    struct generate *state = call_state_of(call);
    struct submit *submit = prompt_job_submit(call, job);

    if (submit == NULL) {
        service_refuse(call, STATUS_NO_MEMORY, "no memory for the tokens of this prompt");
        return;
    }
    bool has_tools = submit->want_special; /* the engine owns it then */
    if (!service_send(call->service, &(struct message){.kind = MESSAGE_SUBMIT, .submit = submit})) {
        submit_free(submit);
        service_refuse(
            call, STATUS_EXHAUSTED,
            "the server has more requests under way than it takes: try again in a second");
        return;
    }
    tool_reply_init(&state->reply,
                    has_tools ? call->service->model.chat_tools : CHAT_TOOLS_NONE);
    state->cut = job->cut;
    state->is_submitted = true;
    state->clock.came_ns = call->arrived_ns;
}

static int begin(struct call *call, struct slice body, struct why *why)
{
    struct generate *state = call_state_of(call);
    struct prompt_job *job = prompt_job_create(call, body.len);

    if (job == NULL)
        return refuse(why, STATUS_NO_MEMORY, "no memory for a request of %zu bytes", body.len);
    int status = wire_unpack_generate(&job->arena, body, &job->request, why);
    if (status < 0) {
        prompt_job_free(job);
        return status;
    }
    state->client.on_event = handle_event;
    state->want_text = job->request.want_text;
    state->want_ids = job->request.want_ids;
    state->stop = job->request.stop;
    job->on_ready = submit_prompt;
    return prompt_job_start(call, job, why);
}

static int on_message(struct call *call, struct slice body, struct why *why)
{
    int status = service_check_weights(call->service, why);
    if (status == STATUS_OK)
        status = begin(call, body, why);
    return status < 0 ? service_refuse_request(call, status, why) : STATUS_OK;
}

static void on_cancel(struct call *call)
{
    struct generate *state = call_state_of(call);

    tool_reply_release(&state->reply);
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
