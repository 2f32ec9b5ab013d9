/* tests/kvcache/cache_fixture.h: a cache on a device, whose pages hold one mark a position, so that
 * what a sequence wrote can be read back through its tables on the device. Marks go in and out by
 * upload and download: no test reads device memory either.
 */
#ifndef QUIRE_TESTS_CACHE_FIXTURE_H
#define QUIRE_TESTS_CACHE_FIXTURE_H

#include "base/status.h"
#include "kvcache/kv_cache.h"

struct cache_scene {
    struct device *device;
    struct stream *stream;
    struct kv_cache *cache;
    struct kv_cache_spec spec;
    size_t page_bytes; /* of one page of one group */
};

struct kv_group_spec cache_group(enum kv_kind kind, uint32_t window); /* one small layer */
struct kv_group_spec cache_packed_group(enum kv_kind kind, uint32_t window);
struct kv_cache_spec cache_spec(uint32_t n_pages, uint32_t n_groups,
                                const struct kv_group_spec *groups);
struct cache_scene cache_scene_open(struct kv_cache_spec spec);
/* Of f32 pages; the scene closes the device. */
struct cache_scene cache_scene_open_on(struct device *device, struct kv_cache_spec spec);
void cache_scene_close(struct cache_scene *scene); /* every sequence must be closed */

kv_seq_id cache_must_open(struct cache_scene *scene, uint64_t n_promised);
void cache_append(struct cache_scene *scene, kv_seq_id seq, uint32_t n); /* and waits */
/* Appends n tokens with marks first, first + 1, ..., and commits them. */
void cache_write(struct cache_scene *scene, kv_seq_id seq, uint32_t n, uint32_t first);
/* Two that share n_shared tokens, with marks from `first` on, and promise as many as each other. */
void cache_fork(struct cache_scene *scene, uint64_t n_promised, uint32_t n_shared, uint32_t first,
                kv_seq_id out[2]);
void cache_put(struct cache_scene *scene, kv_seq_id seq, uint32_t g, uint64_t position,
               uint32_t mark);
/* The mark at a position, 0 when nothing was written into its place; false when no page holds it.
 * In a packed group marks go to the rows, and to the page when its last token comes, as page_seal
 * packs them; where there are rows of a full page as well, both are read and must agree. */
bool cache_get(struct cache_scene *scene, kv_seq_id seq, uint32_t g, uint64_t position,
               uint32_t *mark);
page_id cache_page_at(struct cache_scene *scene, kv_seq_id seq, uint32_t g, uint32_t page_idx);
void cache_assert_sound(struct cache_scene *scene);
struct kv_cache_stats cache_stats(const struct cache_scene *scene);

#endif
