#include "engine/engine_state.h"

#include <assert.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

/* Each running sequence may have its credit of deltas under way, and each message that the loop can
 * have sent brings at most an accepted, a refused or a finished event, and a progress event that is
 * left out when the ring is half full. */
size_t events_capacity(const struct engine_options *options)
{
    size_t deltas = (size_t)options->max_sequences * CALL_CREDIT_EVENTS * (EVENT_BYTES_MAX + 16);
    size_t others = ((size_t)options->max_sequences + options->max_queued + MESSAGE_RING_SLOTS) *
                    (EVENT_BYTES_OF(refused) + 16) * 2;
    return deltas + others + 2 * (EVENT_BYTES_MAX + 16);
}

/* What ended runs left unread counts as well: so a loop that stands still stops new runs, and the
 * ring never fills. One delta is lost at the ring's end, one credit may come before its pop. */
bool events_have_room(const struct engine *engine, uint32_t n_running)
{
    size_t delta = EVENT_BYTES_MAX + 16, last = EVENT_BYTES_OF(refused) + 16;
    size_t n_runs = engine->options.max_sequences + (size_t)engine->options.max_queued;
    return byte_ring_free_bytes(engine->events) >=
           ((size_t)n_running + 1) * CALL_CREDIT_EVENTS * delta + (n_runs + 2) * last + 2 * delta;
}

struct event *publish_begin(struct engine *engine, enum event_kind kind, uint64_t call_id,
                            uint32_t tag, size_t bytes_max)
{
    struct event *event = byte_ring_reserve(engine->events, bytes_max);

    assert(event != NULL); /* events_capacity: calls keep to their credit */
    memset(event, 0, offsetof(struct event, accepted));
    event->kind = kind;
    event->call_id = call_id;
    event->tag = tag;
    return event;
}

void publish_end(struct engine *engine, size_t bytes)
{
    byte_ring_commit(engine->events, bytes);
    engine->has_news = true;
}

void publish_refused(struct engine *engine, const struct submit *submit,
                     const struct event_refused *refused)
{
    struct event *event =
        publish_begin(engine, EVENT_REFUSED, submit->call_id, submit->tag, EVENT_BYTES_OF(refused));
    event->refused = *refused;
    publish_end(engine, EVENT_BYTES_OF(refused));
}

void publish_wake(struct engine *engine)
{
    if (!engine->has_news)
        return;
    engine->has_news = false;
    ring_fence();
    if (engine->wake != NULL)
        engine->wake(engine->wake_arg);
}
