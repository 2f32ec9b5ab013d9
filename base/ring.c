#include "base/ring.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"

#define LINE 128 /* two cache lines: neighbours are fetched in pairs */
#define CAPACITY_MAX ((size_t)1 << 30)

/* One cursor for each side on a line of its own, with what it last saw of the other side: the
 * other's line is read only when that memory says full (or empty). */
struct cursors {
    _Alignas(LINE) _Atomic size_t head;
    size_t tail_seen;
    _Alignas(LINE) _Atomic size_t tail;
    size_t head_seen;
};

struct ring {
    struct cursors cursors;
    _Alignas(LINE) size_t capacity;
    size_t element_bytes;
    uint8_t *slots;
};

struct record {
    uint32_t bytes;
    uint32_t skip; /* 1: nothing here, the next record is at the start of the memory */
};

struct byte_ring {
    struct cursors cursors;
    size_t start; /* producer: where the reserved record begins, and how long it may get */
    size_t reserved;
    bool is_reserved;
    _Alignas(LINE) size_t capacity;
    uint8_t *memory;
};

_Static_assert(sizeof(struct record) == 8, "records stay aligned to 8 bytes");

static size_t power_of_two(size_t n)
{
    size_t power = 1;
    while (power < n)
        power *= 2;
    return power;
}

/* The producer's view; looks at the consumer's line only when less than `want` seems free. */
static size_t room_for(struct cursors *cursors, size_t capacity, size_t want)
{
    size_t tail = atomic_load_explicit(&cursors->tail, memory_order_relaxed);
    size_t room = capacity - (tail - cursors->head_seen);
    if (room >= want)
        return room;
    cursors->head_seen = atomic_load_explicit(&cursors->head, memory_order_acquire);
    return capacity - (tail - cursors->head_seen);
}

static size_t room_now(const struct cursors *cursors, size_t capacity)
{
    size_t tail = atomic_load_explicit(&cursors->tail, memory_order_relaxed);
    return capacity - (tail - atomic_load_explicit(&cursors->head, memory_order_acquire));
}

static bool nothing_at(struct cursors *cursors, size_t head)
{
    if (head != cursors->tail_seen)
        return false;
    cursors->tail_seen = atomic_load_explicit(&cursors->tail, memory_order_acquire);
    return head == cursors->tail_seen;
}

static void *aligned_zero(size_t bytes)
{
    bytes = (bytes + LINE - 1) & ~(size_t)(LINE - 1);
    void *memory = aligned_alloc(LINE, bytes);
    return memory == NULL ? NULL : memset(memory, 0, bytes);
}

int ring_create(size_t capacity, size_t element_bytes, struct ring **out, struct why *why)
{
    if (capacity == 0 || capacity > CAPACITY_MAX || element_bytes == 0)
        return refuse(why, STATUS_INVALID,
                      "a ring holds 1 to %zu elements of at least 1 byte, not %zu of %zu bytes",
                      CAPACITY_MAX, capacity, element_bytes);
    capacity = power_of_two(capacity);
    struct ring *ring = NULL;
    uint8_t *slots = NULL;
    if (element_bytes <= (SIZE_MAX - LINE) / capacity) {
        ring = aligned_zero(sizeof *ring);
        slots = aligned_zero(capacity * element_bytes);
    }
    if (ring == NULL || slots == NULL) {
        free(ring);
        free(slots);
        return refuse(why, STATUS_NO_MEMORY, "no memory for a ring of %zu elements of %zu bytes",
                      capacity, element_bytes);
    }
    ring->capacity = capacity;
    ring->element_bytes = element_bytes;
    ring->slots = slots;
    *out = ring;
    return STATUS_OK;
}

void ring_free(struct ring *ring)
{
    if (ring == NULL)
        return;
    free(ring->slots);
    free(ring);
}

static uint8_t *slot_at(const struct ring *ring, size_t position)
{
    return ring->slots + (position & (ring->capacity - 1)) * ring->element_bytes;
}

bool ring_try_push(struct ring *ring, const void *element)
{
    if (room_for(&ring->cursors, ring->capacity, 1) == 0)
        return false;
    size_t tail = atomic_load_explicit(&ring->cursors.tail, memory_order_relaxed);
    memcpy(slot_at(ring, tail), element, ring->element_bytes);
    atomic_store_explicit(&ring->cursors.tail, tail + 1, memory_order_release);
    return true;
}

bool ring_try_pop(struct ring *ring, void *element)
{
    size_t head = atomic_load_explicit(&ring->cursors.head, memory_order_relaxed);
    if (nothing_at(&ring->cursors, head))
        return false;
    memcpy(element, slot_at(ring, head), ring->element_bytes);
    atomic_store_explicit(&ring->cursors.head, head + 1, memory_order_release);
    return true;
}

size_t ring_capacity(const struct ring *ring)
{
    return ring->capacity;
}

size_t ring_free_slots(const struct ring *ring)
{
    return room_now(&ring->cursors, ring->capacity);
}

bool ring_is_empty(const struct ring *ring)
{
    size_t head = atomic_load_explicit(&ring->cursors.head, memory_order_relaxed);
    return head == atomic_load_explicit(&ring->cursors.tail, memory_order_acquire);
}

void ring_fence(void)
{
#ifdef __SANITIZE_THREAD__
    /* TSan does not follow bare fences; it does follow a read-modify-write, which is as strong. */
    static _Atomic unsigned fence;
    atomic_fetch_add_explicit(&fence, 1, memory_order_seq_cst);
#else
    atomic_thread_fence(memory_order_seq_cst);
#endif
}

int byte_ring_create(size_t capacity, struct byte_ring **out, struct why *why)
{
    if (capacity == 0 || capacity > CAPACITY_MAX)
        return refuse(why, STATUS_INVALID, "a byte ring holds 1 to %zu bytes, not %zu",
                      CAPACITY_MAX, capacity);
    capacity = power_of_two(capacity < LINE ? LINE : capacity);
    struct byte_ring *ring = aligned_zero(sizeof *ring);
    uint8_t *memory = aligned_alloc(LINE, capacity); /* untouched: most is never used */
    if (ring == NULL || memory == NULL) {
        free(ring);
        free(memory);
        return refuse(why, STATUS_NO_MEMORY, "no memory for a byte ring of %zu bytes", capacity);
    }
    ring->capacity = capacity;
    ring->memory = memory;
    *out = ring;
    return STATUS_OK;
}

void byte_ring_free(struct byte_ring *ring)
{
    if (ring == NULL)
        return;
    free(ring->memory);
    free(ring);
}

static struct record *record_at(const struct byte_ring *ring, size_t position)
{
    return (struct record *)(ring->memory + (position & (ring->capacity - 1)));
}

static size_t record_bytes(size_t bytes)
{
    return sizeof(struct record) + ((bytes + 7) & ~(size_t)7);
}

void *byte_ring_reserve(struct byte_ring *ring, size_t max_bytes)
{
    assert(max_bytes <= ring->capacity / 4);
    size_t tail = atomic_load_explicit(&ring->cursors.tail, memory_order_relaxed);
    size_t to_end = ring->capacity - (tail & (ring->capacity - 1));
    size_t need = record_bytes(max_bytes);
    size_t skip = need > to_end ? to_end : 0;
    if (room_for(&ring->cursors, ring->capacity, skip + need) < skip + need)
        return NULL;
    if (skip > 0)
        *record_at(ring, tail) = (struct record){.skip = 1};
    ring->start = tail + skip;
    ring->reserved = max_bytes;
    ring->is_reserved = true;
    return record_at(ring, ring->start) + 1;
}

void byte_ring_commit(struct byte_ring *ring, size_t bytes)
{
    assert(ring->is_reserved && bytes <= ring->reserved);
    ring->is_reserved = false;
    *record_at(ring, ring->start) = (struct record){.bytes = (uint32_t)bytes};
    atomic_store_explicit(&ring->cursors.tail, ring->start + record_bytes(bytes),
                          memory_order_release);
}

const void *byte_ring_peek(struct byte_ring *ring, size_t *bytes)
{
    size_t head = atomic_load_explicit(&ring->cursors.head, memory_order_relaxed);
    if (nothing_at(&ring->cursors, head))
        return NULL;
    struct record *record = record_at(ring, head);
    if (record->skip) { /* published together with the record that it makes room for */
        head += ring->capacity - (head & (ring->capacity - 1));
        atomic_store_explicit(&ring->cursors.head, head, memory_order_release);
        record = record_at(ring, head);
    }
    *bytes = record->bytes;
    return record + 1;
}

void byte_ring_pop(struct byte_ring *ring)
{
    size_t bytes;
    const void *record = byte_ring_peek(ring, &bytes);
    assert(record != NULL);
    (void)record;
    size_t head = atomic_load_explicit(&ring->cursors.head, memory_order_relaxed);
    atomic_store_explicit(&ring->cursors.head, head + record_bytes(bytes), memory_order_release);
}

size_t byte_ring_free_bytes(const struct byte_ring *ring)
{
    return room_now(&ring->cursors, ring->capacity);
}
