#include "engine/engine_state.h"

#include <assert.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#define RECORD_HEAD 16 /* of a record in the ring, and its rounding up */
#define DELTA_RECORD (EVENT_BYTES_MAX + RECORD_HEAD)
#define PLAIN_RECORD (PLAIN_BYTES + RECORD_HEAD)
/* the longest of the others */
#define PLAIN_BYTES                                                                                \
    (EVENT_BYTES_OF(refused) > EVENT_BYTES_OF(estimate) ? EVENT_BYTES_OF(refused)                  \
                                                        : EVENT_BYTES_OF(estimate))

_Static_assert(EVENT_BYTES_OF(stats) <= PLAIN_BYTES && EVENT_BYTES_OF(tables) <= PLAIN_BYTES,
               "a look takes no more room than the answers to a submit");

/* Unread at most, whatever the loop does: the answers that it waits for (engine_try_send counts
 * them); the ends of runs whose answer is unread too, and of those that were alive when the oldest
 * unread event was written. */
static size_t plain_bytes(const struct engine_options *options)
{
    return (2 * (size_t)MESSAGE_RING_SLOTS + options->max_sequences + options->max_queued) *
           PLAIN_RECORD;
}

/* Deltas of so many runs beside those of ended ones. A few more: one is lost at the ring's end, one
 * credit may come before its pop, one progress, and what is told once (EVENT_WEIGHTS, _LOST). */
static size_t bytes_for(const struct engine_options *options, uint32_t n_running)
{
    return ((size_t)n_running * CALL_CREDIT_EVENTS + 4) * DELTA_RECORD + plain_bytes(options);
}

/* As much again of the plain ones: what is unread seldom keeps the last runs from starting. */
size_t events_capacity(const struct engine_options *options)
{
    return bytes_for(options, options->max_sequences) + plain_bytes(options);
}

/* What ended runs left unread is not free either: so a loop that stands still stops new runs, and
 * the ring never fills. */
bool events_have_room(const struct engine *engine, uint32_t n_running)
{
    return byte_ring_free_bytes(engine->events) >= bytes_for(&engine->options, n_running);
}

struct event *publish_begin(struct engine *engine, enum event_kind kind, uint64_t call_id,
                            uint32_t tag, size_t bytes_max)
{
    struct event *event = byte_ring_reserve(engine->events, bytes_max);

    assert(event != NULL); /* bytes_for: calls keep to their credit */
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
