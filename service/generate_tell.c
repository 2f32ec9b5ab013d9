#include "service/generate_state.h"

#include "base/hash.h"
#include "service/service.h"
#include "service/wire.h"

#include <assert.h>
#include <string.h>

/* --- the end of a call --- */

void generate_release(struct call *call)
{
    struct generate *state = call_state_of(call);

    for (uint32_t i = 0; i < state->n_choices; i++) {
        tool_reply_release(&state->choices[i].reply);
        held_answer_release(&state->choices[i].held, call->service);
    }
}

void generate_fail(struct call *call, int status, const struct why *why)
{
    struct generate *state = call_state_of(call);

    if (state->is_submitted)
        service_cancel_runs(call, TAG_ALL);
    generate_release(call);
    service_refuse_why(call, status, why);
}

static void fail(struct call *call)
{
    struct why why = {.text = ""};
    int status = refuse(&why, STATUS_NO_MEMORY, "no memory for the next part of the answer");
    generate_fail(call, status, &why);
}

/* --- what goes out --- */

bool generate_send(struct call *call, size_t bytes)
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
    return empty || generate_send(call, bytes);
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

bool generate_tell_delta(struct call *call, struct choice *choice, const struct event_delta *delta,
                         uint32_t idx)
{
    bool has_tools = choice->reply.style != CHAT_TOOLS_NONE;
    return has_tools ? send_parted(call, choice, delta, idx) : send_delta(call, delta, idx);
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

bool generate_tell_end(struct call *call, struct generate *state, struct choice *choice,
                       uint32_t idx, bool is_last)
{
    struct service *service = call->service;
    struct wire_finished finished = {.event = is_last ? &state->total : &choice->finished,
                                     .choice_idx = idx,
                                     .is_last = is_last,
                                     .has_mean = generate_holds(state),
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
    return generate_send(call, wire_pack_finished(service->out, sizeof service->out, &finished));
}
