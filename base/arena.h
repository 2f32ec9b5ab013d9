/* base/arena.h: bump allocation with a hard cap; everything goes at once.
 *
 * Memory comes in chunks as needed and never exceeds `cap` bytes in all. Pointers are aligned to 16
 * bytes and stay valid until clear or release. Not thread-safe: one owner at a time.
 */
#ifndef QUIRE_BASE_ARENA_H
#define QUIRE_BASE_ARENA_H

#include <stddef.h>
#include <stdint.h>

struct arena_chunk;

struct arena {
    struct arena_chunk *first; /* newest chunk */
    size_t used;               /* bytes handed out and lost to alignment */
    size_t cap;                /* arena_alloc refuses beyond this */
};

void arena_init(struct arena *arena, size_t cap);
/* Zeroed; NULL at the cap or when memory is out; bytes may be 0. */
void *arena_alloc(struct arena *arena, size_t bytes);
void *arena_copy(struct arena *arena, const void *bytes, size_t len); /* NULL as above */
void arena_clear(struct arena *arena);   /* keeps the largest chunk for reuse */
void arena_release(struct arena *arena); /* gives everything back */

#endif
