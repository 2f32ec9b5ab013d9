#include "service/generate.h"

#include "base/clock.h"
#include "base/hash.h"
#include "service/held_answer.h"
#include "service/prompt_job.h"
#include "service/server.h"
#include "service/service.h"
#include "service/tool_reply.h"
#include "service/wire.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct choice {
    struct tool_reply reply;
    uint32_t n_credit_owed;
    uint64_t n_counted; /* tokens of its deltas */
    struct held_answer held; /* of best_of */
    struct event_finished finished; /* once it has ended */
};

/* Of n answers at once, or, where there are more to choose from, one behind the other when all have
 * ended:
 *
 *   deltas of choices -----------------------------------------------------> reader
 *   deltas of choices -> held -> the last ends: rank -> the best n, in turn -> reader
 */
struct generate {
    struct engine_client client; /* first: service_on_wake reads it */
    bool want_text, want_ids, want_logprobs, is_submitted;
    struct stop_list stop;
    struct call_clock clock;
    struct chat_cut cut;
    uint32_t n, n_choices, n_over; /* wanted, drawn, ended */
    struct event_finished total;   /* of those that have ended */
    struct choice choices[CHOICES_MAX]; /* [n_choices] */
    uint32_t order[CHOICES_MAX], n_told; /* of best_of, once it is known: the best first */
};

size_t generate_state_bytes(void)
{
    return sizeof(struct generate);
}

/* --- events --- */

static bool holds(const struct generate *state)
{
    return state->n_choices > state->n;
}

static void release(struct call *call)
{
    struct generate *state = call_state_of(call);

    for (uint32_t i = 0; i < state->n_choices; i++) {
        tool_reply_release(&state->choices[i].reply);
        held_answer_release(&state->choices[i].held, call->service);
    }
}

/* Since nothing is left out of an answer, the call ends; its state may be gone then. */
static void fail_with(struct call *call, int status, const struct why *why)
{
    struct generate *state = call_state_of(call);

    if (state->is_submitted)
        service_cancel_runs(call, TAG_ALL);
    release(call);
    service_refuse_why(call, status, why);
}

static void fail(struct call *call)
{
    struct why why = {.text = ""};
    int status = refuse(&why, STATUS_NO_MEMORY, "no memory for the next part of the answer");
    fail_with(call, status, &why);
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

static bool send_delta(struct call *call, const struct event_delta *delta, uint32_t idx)
{
    struct generate *state = call_state_of(call);
    struct service *service = call->service;
    bool empty;
    size_t bytes = wire_pack_delta(service->out, sizeof service->out, delta, idx, service->engine,
                                   state->want_text, state->want_ids, &empty);
    return empty || send_packed(call, bytes);
}

/* Text beside tokens, in pieces that an event may have, cut between characters. */
static bool send_text(struct call *call, struct slice text, uint32_t idx)
{
    static const struct event_delta nothing = {.has_token = false};
    union shown_delta shown;
    while (text.len > 0) {
        size_t n = text.len < EVENT_TEXT_BYTES_MAX ? text.len : EVENT_TEXT_BYTES_MAX;
        while (n < text.len && n > 1 && (text.bytes[n] & 0xC0) == 0x80)
            n--;
        if (!send_delta(call, with_text(&shown, &nothing, slice_of(text.bytes, n)), idx))
            return false;
        text = slice_of(text.bytes + n, text.len - n);
    }
    return true;
}

/* Of a chat with tools. What was held back may make a text longer than an event's. */
static bool send_parted(struct call *call, struct choice *choice, const struct event_delta *delta,
                        uint32_t idx)
{
    union shown_delta shown;
    struct slice text;

    if (tool_reply_feed(&choice->reply, slice_of(delta->text, delta->text_bytes), &text) < 0) {
        fail(call);
        return false;
    }
    if (text.len <= EVENT_TEXT_BYTES_MAX)
        return send_delta(call, with_text(&shown, delta, text), idx);
    return send_text(call, text, idx) &&
           send_delta(call, with_text(&shown, delta, slice_of(NULL, 0)), idx);
}

/* What a reader sees of the choice, as number idx. */
static bool tell_delta(struct call *call, struct choice *choice, const struct event_delta *delta,
                       uint32_t idx)
{
    bool has_tools = choice->reply.style != CHAT_TOOLS_NONE;
    return has_tools ? send_parted(call, choice, delta, idx) : send_delta(call, delta, idx);
}

static void hold_delta(struct call *call, struct generate *state, const struct event *event)
{
    struct why why = {.text = ""};
    int status = held_answer_add(&state->choices[event->tag].held, call->service, &event->delta,
                                 state->want_logprobs, &why);
    if (status < 0)
        fail_with(call, status, &why);
    else
        service_credit(call, event->tag, 1);
}

static void handle_delta(struct call *call, struct generate *state, const struct event *event)
{
    struct choice *choice = &state->choices[event->tag];

    call->usage.n_completion += event->delta.has_token;
    choice->n_counted += event->delta.has_token;
    if (holds(state)) {
        hold_delta(call, state, event);
        return;
    }
    if (!tell_delta(call, choice, &event->delta, event->tag))
        return;
    if (call_unsent_bytes(call) <= OUT_BUFFER_MARK_BYTES)
        service_credit(call, event->tag, 1);
    else
        choice->n_credit_owed++;
}

#define CALL_ID_BYTES 9

/* Ids of calls that came without one: of letters and digits, the same for the same call. */
static void name_calls(const struct call *call, uint32_t idx, struct chat_call *calls, size_t n,
                       char ids[][CALL_ID_BYTES])
{
    static const char letters[] = "0123456789abcdefghijklmnopqrstuvwxyz";
    for (size_t i = 0; i < n; i++) {
        uint64_t seed = hash64(call->request_id, strlen(call->request_id),
                               (uint64_t)idx * TOOL_CALLS_MAX + i);
        if (calls[i].id.len == CALL_ID_BYTES)
            continue;
        for (size_t k = 0; k < CALL_ID_BYTES; k++, seed /= sizeof letters - 1)
            ids[i][k] = letters[seed % (sizeof letters - 1)];
        calls[i].id = slice_of(ids[i], CALL_ID_BYTES);
    }
}

/* The end of a choice, which the reader knows as number idx. False: the call has ended. */
static bool tell_end(struct call *call, struct generate *state, struct choice *choice,
                     uint32_t idx, bool is_last)
{
    struct service *service = call->service;
    struct wire_finished finished = {.event = is_last ? &state->total : &choice->finished,
                                     .choice_idx = idx,
                                     .is_last = is_last,
                                     .has_mean = holds(state),
                                     .mean_logprob = held_answer_mean(&choice->held)};
    struct chat_call calls[TOOL_CALLS_MAX];
    char ids[TOOL_CALLS_MAX][CALL_ID_BYTES];
    struct slice held = tool_reply_held(&choice->reply);

    if (held.len > 0)
        finished.n_calls = engine_read_calls(service->engine, held, calls, TOOL_CALLS_MAX);
    name_calls(call, idx, calls, finished.n_calls, ids);
    finished.calls = calls;
    state->total.reason = choice->finished.reason;
    if (choice->finished.stop_idx >= 0) {
        int i = choice->finished.stop_idx;
        finished.stop = slice_of(state->stop.bytes[i], state->stop.len[i]);
    }
    if (finished.n_calls == 0 && !send_text(call, held, idx))
        return false;
    return send_packed(call, wire_pack_finished(service->out, sizeof service->out, &finished));
}

static void finish(struct call *call)
{
    release(call);
    call_finish(call, STATUS_OK, NULL);
}

/* Tells the best answers as far as their reader takes them; on_drain goes on. */
static void tell_best(struct call *call, struct generate *state)
{
    while (state->n_told < state->n) {
        uint32_t idx = state->n_told;
        struct choice *choice = &state->choices[state->order[idx]];
        const struct event_delta *delta;
        while (call_unsent_bytes(call) <= OUT_BUFFER_MARK_BYTES &&
               (delta = held_answer_next(&choice->held)) != NULL)
            if (!tell_delta(call, choice, delta, idx))
                return;
        if (call_unsent_bytes(call) > OUT_BUFFER_MARK_BYTES)
            return;
        state->n_told++;
        if (!tell_end(call, state, choice, idx, state->n_told == state->n))
            return;
    }
    finish(call);
}

static void choose_best(struct call *call, struct generate *state)
{
    const struct held_answer *answers[CHOICES_MAX];

    for (uint32_t i = 0; i < state->n_choices; i++)
        answers[i] = &state->choices[i].held;
    held_answer_rank(answers, state->n_choices, state->order);
    tell_best(call, state);
}

static double longer(double a, double b)
{
    return a > b ? a : b;
}

static void count_end(struct call *call, struct generate *state, struct choice *choice)
{
    const struct event_finished *finished = &choice->finished;
    struct event_finished *total = &state->total;

    call->usage.n_completion += finished->n_completion - choice->n_counted;
    total->n_prompt = finished->n_prompt;
    total->n_completion += finished->n_completion;
    if (choice == &state->choices[0]) { /* it read the prompt */
        total->n_cached = finished->n_cached;
        total->cache_end = finished->cache_end;
    }
    total->queue_s = longer(total->queue_s, finished->queue_s);
    total->prefill_s = longer(total->prefill_s, finished->prefill_s);
    total->decode_s = longer(total->decode_s, finished->decode_s);
    total->paused_s = longer(total->paused_s, finished->paused_s);
    if (++state->n_over < state->n_choices)
        return;
    state->is_submitted = false;
    call->usage = (struct call_usage){.n_prompt = total->n_prompt,
                                      .n_completion = total->n_completion,
                                      .queue_s = total->queue_s,
                                      .prefill_s = total->prefill_s,
                                      .decode_s = total->decode_s};
}

static void handle_finished(struct call *call, struct generate *state, const struct event *event)
{
    struct choice *choice = &state->choices[event->tag];

    choice->finished = event->finished;
    count_end(call, state, choice);
    bool is_last = state->n_over == state->n_choices;
    if (holds(state)) {
        if (is_last)
            choose_best(call, state);
        return;
    }
    if (tell_end(call, state, choice, event->tag, is_last) && is_last)
        finish(call);
}

/* One that cannot go on ends all: a reader who asked for n is told why there are fewer. */
static void handle_refused(struct call *call, struct generate *state, const struct event *event)
{
    if (event->refused.was_accepted && state->n_over + 1 < state->n_choices)
        service_cancel_runs(call, TAG_ALL);
    state->is_submitted = false;
    release(call);
    service_count_time(call, &state->clock);
    service_refuse_event(call, &event->refused);
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
        handle_refused(call, state, event);
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
    for (uint32_t i = 0; i < state->n_choices; i++)
        tool_reply_init(&state->choices[i].reply,
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
    state->want_logprobs = job->request.want_logprobs;
    state->n = job->request.n;
    state->n_choices = job->request.best_of;
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

    release(call);
    if (!state->is_submitted)
        return;
    service_count_time(call, &state->clock);
    service_cancel_runs(call, TAG_ALL);
}

static void on_drain(struct call *call)
{
    struct generate *state = call_state_of(call);

    for (uint32_t i = 0; i < state->n_choices; i++) {
        struct choice *choice = &state->choices[i];
        if (choice->n_credit_owed > 0)
            service_credit(call, i, choice->n_credit_owed);
        choice->n_credit_owed = 0;
    }
    if (holds(state) && state->n_over == state->n_choices)
        tell_best(call, state);
}

const struct call_handler generate_handler = {
    .on_message = on_message,
    .on_cancel = on_cancel,
    .on_drain = on_drain,
};
