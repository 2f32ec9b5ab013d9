/* base/ring.h: bounded rings between exactly one producer thread and one consumer thread.
 *
 *   struct ring        fixed-size elements, copied in and out
 *   struct byte_ring   records of any length up to a bound, each contiguous in memory
 *
 *        head (consumer)          tail (producer)
 *          v                        v
 *   | ... |e|e|e|e|e|e|e|e|e|e|e|e|   ...   |      capacity is a power of two
 *
 * Invariant: 0 <= tail - head <= capacity. Only the producer stores tail, only the consumer stores
 * head (release); the other side loads them with acquire. Nothing else is shared between the two
 * threads. The producer issues ring_fence() after publishing and before it wakes the consumer (a
 * wake may read its flag without a barrier).
 */
#ifndef QUIRE_BASE_RING_H
#define QUIRE_BASE_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct why;
struct ring;
struct byte_ring;

/* capacity: elements, rounded up to a power of two. STATUS_NO_MEMORY, STATUS_INVALID (0 or over
 * 2^30 elements). */
int ring_create(size_t capacity, size_t element_bytes, struct ring **out, struct why *why);
void ring_free(struct ring *ring);
bool ring_try_push(struct ring *ring, const void *element); /* producer; false when full */
bool ring_try_pop(struct ring *ring, void *element);        /* consumer; false when empty */
size_t ring_capacity(const struct ring *ring);
size_t ring_free_slots(const struct ring *ring); /* producer: so many pushes at least succeed */
bool ring_is_empty(const struct ring *ring);     /* consumer's view */
void ring_fence(void);                           /* full fence between publishing and waking */

/* capacity in bytes, rounded up to a power of two; a record may be at most capacity / 4 bytes. */
int byte_ring_create(size_t capacity, struct byte_ring **out, struct why *why);
void byte_ring_free(struct byte_ring *ring);
/* Producer: two steps, so that a record is written in place. reserve returns NULL when there is no
 * room for max_bytes; commit publishes the first `bytes` (<= max_bytes) of it. Reserving again
 * without a commit drops the first reservation. */
void *byte_ring_reserve(struct byte_ring *ring, size_t max_bytes);
void byte_ring_commit(struct byte_ring *ring, size_t bytes);
/* Consumer: peek gives the oldest record (8-byte aligned, valid until pop) and its length, or NULL
 * when empty. */
const void *byte_ring_peek(struct byte_ring *ring, size_t *bytes);
void byte_ring_pop(struct byte_ring *ring);
/* Producer's view, before record overhead. */
size_t byte_ring_free_bytes(const struct byte_ring *ring);

#endif
