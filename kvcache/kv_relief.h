/* kvcache/kv_relief.h: whether a family would fit if some sequences had closed. None of them does.
 *
 *   begin(family) -> add(7), add(3), remove(7), ... -> would it fit without those that are in?
 *
 * A page that several hold is available when all of them are in, and nobody else has it; one that
 * the family's match takes over is not, since it was no part of what the family lacked. Of a
 * windowed group's page the owner frees the one that he is owed in its place.
 *
 * From begin on nothing else is asked of the cache until the last answer. Thread: engine only.
 * Allocates nothing.
 */
#ifndef QUIRE_KVCACHE_KV_RELIEF_H
#define QUIRE_KVCACHE_KV_RELIEF_H

#include "kvcache/kv_cache.h"

/* None is in. The family's match is fresh. O(pages of the cache). */
void kv_relief_begin(struct kv_cache *cache, const struct kv_family *family);
void kv_relief_add(struct kv_cache *cache, kv_seq_id seq);    /* is not in; O(its pages) */
void kv_relief_remove(struct kv_cache *cache, kv_seq_id seq); /* is in; O(its pages) */
bool kv_relief_suffices(const struct kv_cache *cache);

#endif
