#include "base/arena.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define ARENA_ALIGNMENT ((size_t)16)
#define CHUNK_BYTES_MIN ((size_t)4096)
#define CHUNK_BYTES_MAX ((size_t)1 << 20) /* growth stops here; a larger request gets its own */

struct arena_chunk {
    struct arena_chunk *older;
    size_t capacity;
    size_t used;
    size_t total; /* capacities of this chunk and of all older ones */
    _Alignas(16) uint8_t bytes[];
};

_Static_assert(_Alignof(max_align_t) >= 16, "malloc gives what the chunk header needs");

static size_t aligned(size_t bytes)
{
    return (bytes + ARENA_ALIGNMENT - 1) & ~(ARENA_ALIGNMENT - 1);
}

/* What one allocation from this chunk can get. */
static size_t room_of(const struct arena_chunk *chunk)
{
    return chunk == NULL || aligned(chunk->used) > chunk->capacity
               ? 0
               : chunk->capacity - aligned(chunk->used);
}

static void *take(struct arena *arena, struct arena_chunk *chunk, size_t bytes)
{
    size_t start = aligned(chunk->used);
    arena->used += start - chunk->used + bytes;
    chunk->used = start + bytes;
    assert(chunk->used <= chunk->capacity && arena->used <= arena->cap);
    return memset(chunk->bytes + start, 0, bytes);
}

/* A chunk that holds `bytes`, as large as growth and the cap allow; NULL when neither does. */
static struct arena_chunk *chunk_for(const struct arena *arena, size_t bytes)
{
    size_t total = arena->first == NULL ? 0 : arena->first->total;
    size_t left = arena->cap - total;
    if (bytes > left)
        return NULL;
    size_t capacity = arena->first == NULL ? CHUNK_BYTES_MIN : 2 * arena->first->capacity;
    if (capacity > CHUNK_BYTES_MAX)
        capacity = CHUNK_BYTES_MAX;
    if (capacity < bytes)
        capacity = bytes;
    if (capacity > left)
        capacity = left;
    if (capacity > SIZE_MAX - sizeof(struct arena_chunk))
        return NULL;
    struct arena_chunk *chunk = malloc(sizeof *chunk + capacity);
    if (chunk == NULL)
        return NULL;
    chunk->capacity = capacity;
    chunk->used = 0;
    return chunk;
}

void arena_init(struct arena *arena, size_t cap)
{
    *arena = (struct arena){.cap = cap};
}

void *arena_alloc(struct arena *arena, size_t bytes)
{
    if (bytes == 0)
        bytes = 1; /* every allocation has an address of its own */
    struct arena_chunk *first = arena->first;
    if (bytes <= room_of(first))
        return take(arena, first, bytes);

    struct arena_chunk *chunk = chunk_for(arena, bytes);
    if (chunk == NULL)
        return NULL;

    if (room_of(first) > chunk->capacity - bytes) { /* the old one still has more to give */
        chunk->older = first->older;
        first->older = chunk;
        chunk->total = first->total - first->capacity + chunk->capacity;
        first->total += chunk->capacity;
    } else {
        if (first != NULL)
            arena->used += first->capacity - first->used;
        chunk->older = first;
        chunk->total = chunk->capacity + (first == NULL ? 0 : first->total);
        arena->first = chunk;
    }
    return take(arena, chunk, bytes);
}

void *arena_copy(struct arena *arena, const void *bytes, size_t len)
{
    void *copy = arena_alloc(arena, len);
    if (copy != NULL && len > 0)
        memcpy(copy, bytes, len);
    return copy;
}

void arena_clear(struct arena *arena)
{
    struct arena_chunk *largest = arena->first;
    for (struct arena_chunk *chunk = arena->first; chunk != NULL; chunk = chunk->older) {
        if (chunk->capacity > largest->capacity)
            largest = chunk;
    }
    struct arena_chunk *chunk = arena->first;
    while (chunk != NULL) {
        struct arena_chunk *older = chunk->older;
        if (chunk != largest)
            free(chunk);
        chunk = older;
    }
    if (largest != NULL) {
        largest->older = NULL;
        largest->used = 0;
        largest->total = largest->capacity;
    }
    arena->first = largest;
    arena->used = 0;
}

void arena_release(struct arena *arena)
{
    arena_clear(arena);
    free(arena->first);
    arena->first = NULL;
}
