#include "service/wire.h"
#include "service/wire_memory.h"

#include "quire/v1/quire.pb-c.h"

#include <assert.h>
#include <string.h>

static size_t pack_event(uint8_t *out, size_t cap, Quire__V1__GenerateEvent__EventCase kind,
                         void *part)
{
    Quire__V1__GenerateEvent event = QUIRE__V1__GENERATE_EVENT__INIT;
    event.event_case = kind;
    event.accepted = part; /* all members of the union are pointers to messages */
    return wire_pack(out, cap, &event.base);
}

size_t wire_pack_accepted(uint8_t *out, size_t cap, const struct event_accepted *event,
                          const char *id, const struct chat_cut *cut)
{
    Quire__V1__Accepted accepted = QUIRE__V1__ACCEPTED__INIT;
    accepted.id = wire_bytes(id, strlen(id));
    accepted.seed = event->seed;
    accepted.prompt_tokens = event->n_prompt;
    accepted.max_tokens = event->max_tokens;
    accepted.queued_ahead = event->n_ahead;
    accepted.first_token_seconds = event->first_token_s;
    accepted.total_seconds = event->total_s;
    accepted.truncated_tokens = cut->n_tokens;
    accepted.truncated_messages = cut->n_messages;
    accepted.choices = event->n_choices;
    accepted.cached_tokens = event->n_cached;
    return pack_event(out, cap, QUIRE__V1__GENERATE_EVENT__EVENT_ACCEPTED, &accepted);
}

size_t wire_pack_progress(uint8_t *out, size_t cap, const struct event_progress *event)
{
    Quire__V1__Progress progress = QUIRE__V1__PROGRESS__INIT;
    progress.phase = event->phase == RUN_WAITING ? QUIRE__V1__PHASE__PHASE_WAITING
                                                 : QUIRE__V1__PHASE__PHASE_PREFILL;
    progress.done = event->n_done;
    progress.total = event->n_total;
    progress.per_second = event->per_s;
    progress.seconds_left = event->left_s;
    return pack_event(out, cap, QUIRE__V1__GENERATE_EVENT__EVENT_PROGRESS, &progress);
}

size_t wire_pack_delta(uint8_t *out, size_t cap, const struct event_delta *event,
                       uint32_t choice_idx, const struct engine *engine, bool want_text,
                       bool want_ids, bool *empty)
{
    Quire__V1__Delta delta = QUIRE__V1__DELTA__INIT;
    Quire__V1__TokenLogprob drawn = QUIRE__V1__TOKEN_LOGPROB__INIT, *drawn_list = &drawn;
    Quire__V1__TopLogprob top[TOP_LOGPROBS_MAX], *top_list[TOP_LOGPROBS_MAX];
    uint32_t id = event->id;

    delta.choice = choice_idx;
    if (want_text)
        delta.text = wire_bytes(event->text, event->text_bytes);
    if (event->has_token && want_ids) {
        delta.tokens = &id;
        delta.n_tokens = 1;
    }
    if (event->has_logprob) {
        struct slice bytes = engine_token_bytes(engine, id);
        drawn.token = id;
        drawn.bytes = wire_bytes(bytes.bytes, bytes.len);
        drawn.logprob = event->logprob;
        for (uint32_t i = 0; i < event->n_top; i++) {
            bytes = engine_token_bytes(engine, event->top[i].id);
            top[i] = (Quire__V1__TopLogprob)QUIRE__V1__TOP_LOGPROB__INIT;
            top[i].token = event->top[i].id;
            top[i].bytes = wire_bytes(bytes.bytes, bytes.len);
            top[i].logprob = event->top[i].logprob;
            top_list[i] = &top[i];
        }
        drawn.top = top_list;
        drawn.n_top = event->n_top;
        delta.logprobs = &drawn_list;
        delta.n_logprobs = 1;
    }
    *empty = delta.text.len == 0 && delta.n_tokens == 0 && delta.n_logprobs == 0;
    return *empty ? 0 : pack_event(out, cap, QUIRE__V1__GENERATE_EVENT__EVENT_DELTA, &delta);
}

static void fill_times(const struct event_finished *event, Quire__V1__Usage *usage,
                       Quire__V1__Timings *timings)
{
    usage->prompt_tokens = event->n_prompt;
    usage->completion_tokens = event->n_completion;
    timings->queue_seconds = event->queue_s;
    timings->prefill_seconds = event->prefill_s;
    timings->decode_seconds = event->decode_s;
    timings->paused_seconds = event->paused_s;
    if (event->prefill_s > 0)
        timings->prefill_tokens_per_second =
            (double)(event->n_prompt - event->n_cached) / event->prefill_s;
    if (event->decode_s > 0 &&
        event->n_completion > 1) /* the first token comes out of the prefill */
        timings->decode_tokens_per_second = (double)(event->n_completion - 1) / event->decode_s;
}

static Quire__V1__CacheEnd cache_end(enum cache_end end)
{
    static const Quire__V1__CacheEnd ends[] = {
        [CACHE_END_UNNAMED] = QUIRE__V1__CACHE_END__CACHE_END_OFF,
        [CACHE_END_WHOLE] = QUIRE__V1__CACHE_END__CACHE_END_WHOLE,
        [CACHE_END_ABSENT] = QUIRE__V1__CACHE_END__CACHE_END_ABSENT,
        [CACHE_END_DIVERGED] = QUIRE__V1__CACHE_END__CACHE_END_DIVERGED,
        [CACHE_END_WINDOW] = QUIRE__V1__CACHE_END__CACHE_END_WINDOW,
        [CACHE_END_ROOM] = QUIRE__V1__CACHE_END__CACHE_END_ROOM,
    };
    return ends[end];
}

size_t wire_pack_finished(uint8_t *out, size_t cap, const struct wire_finished *finished)
{
    const struct event_finished *event = finished->event;
    Quire__V1__Finished message = QUIRE__V1__FINISHED__INIT;
    Quire__V1__Usage usage = QUIRE__V1__USAGE__INIT;
    Quire__V1__Timings timings = QUIRE__V1__TIMINGS__INIT;
    Quire__V1__CacheReport cache = QUIRE__V1__CACHE_REPORT__INIT;
    Quire__V1__ToolCall calls[TOOL_CALLS_MAX], *call_list[TOOL_CALLS_MAX];

    assert(finished->n_calls <= TOOL_CALLS_MAX);
    for (size_t i = 0; i < finished->n_calls; i++) {
        const struct chat_call *call = &finished->calls[i];
        quire__v1__tool_call__init(&calls[i]);
        calls[i].id = wire_bytes(call->id.bytes, call->id.len);
        calls[i].name = wire_bytes(call->name.bytes, call->name.len);
        calls[i].arguments = wire_bytes(call->arguments.bytes, call->arguments.len);
        call_list[i] = &calls[i];
    }
    message.tool_calls = call_list;
    message.n_tool_calls = finished->n_calls;
    message.reason = event->reason == FINISH_STOP ? QUIRE__V1__FINISH_REASON__FINISH_REASON_STOP
                                                  : QUIRE__V1__FINISH_REASON__FINISH_REASON_LENGTH;
    if (finished->stop.len > 0) {
        message.opt_stop_case = QUIRE__V1__FINISHED__OPT_STOP_STOP;
        message.stop = wire_bytes(finished->stop.bytes, finished->stop.len);
    }
    message.choice = finished->choice_idx;
    if (finished->has_mean) {
        message.opt_mean_logprob_case = QUIRE__V1__FINISHED__OPT_MEAN_LOGPROB_MEAN_LOGPROB;
        message.mean_logprob = (float)finished->mean_logprob;
    }
    if (finished->is_last) {
        fill_times(event, &usage, &timings);
        message.usage = &usage;
        message.timings = &timings;
        cache.matched_tokens = event->n_cached;
        cache.end = cache_end(event->cache_end);
        message.cache = &cache;
    }
    return pack_event(out, cap, QUIRE__V1__GENERATE_EVENT__EVENT_FINISHED, &message);
}

size_t wire_pack_estimate(uint8_t *out, size_t cap, const struct event_estimate *event)
{
    Quire__V1__EstimateResponse message = QUIRE__V1__ESTIMATE_RESPONSE__INIT;

    message.prompt_tokens = event->accepted.n_prompt;
    message.max_tokens = event->accepted.max_tokens;
    message.pages = event->n_pages;
    message.bytes = event->n_bytes;
    message.free_pages = event->n_free_pages;
    message.fits = event->status == STATUS_OK;
    message.refusal = wire_bytes(event->text, strlen(event->text));
    message.queued_ahead = event->accepted.n_ahead;
    message.first_token_seconds = event->accepted.first_token_s;
    message.total_seconds = event->accepted.total_s;
    return wire_pack(out, cap, &message.base);
}
