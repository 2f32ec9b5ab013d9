/* kvcache/evict.h: what may leave the cache, the least worth first: a heap of numbered things, each
 * in it at most once.
 *
 *   score      7        the least at the root        at[thing]: its place in the heap, so that it
 *            /   \                                   can be taken out from anywhere
 *          9      8
 *
 * Thread: engine only. Allocates in evict_create and nowhere else; memory is touched as far as it
 * is used.
 */
#ifndef QUIRE_KVCACHE_EVICT_H
#define QUIRE_KVCACHE_EVICT_H

#include <stdbool.h>
#include <stdint.h>

struct evict;
struct why;

#define EVICT_NONE UINT32_MAX

/* Of things 0 to n - 1. STATUS_NO_MEMORY; the caller frees *out. */
int evict_create(uint32_t n, struct evict **out, struct why *why);
void evict_free(struct evict *evict);

void evict_push(struct evict *evict, uint32_t thing, uint64_t score); /* not in it; O(log n) */
void evict_remove(struct evict *evict, uint32_t thing);               /* nothing if not in it */
bool evict_has(const struct evict *evict, uint32_t thing);
/* The one of the least score, which leaves; EVICT_NONE when empty. */
uint32_t evict_pop(struct evict *evict);
/* The invariant; STATUS_INTERNAL. O(n in it). */
int evict_check(const struct evict *evict, struct why *why);

#endif
