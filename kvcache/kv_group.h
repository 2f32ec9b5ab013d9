/* kvcache/kv_group.h: one group of layers: its pool, the geometry of its pages, and its tables on
 * the device. In a group that packs a page of the pool is the place of a packed one; kv_open.h has
 * the rows of those that are not full. Thread: engine only.
 */
#ifndef QUIRE_KVCACHE_KV_GROUP_H
#define QUIRE_KVCACHE_KV_GROUP_H

#include "kvcache/kv_cache.h"
#include "kvcache/kv_open.h"
#include "kvcache/kv_tables.h"
#include "kvcache/page_pool.h"

struct kv_group {
    struct kv_group_spec spec;
    struct page_pool *pool;
    size_t layer_stride;
    uint32_t window_pages;   /* most pages a sequence holds at once; UINT32_MAX: all of its own */
    uint32_t table_capacity; /* pages of one table */
    struct kv_tables tables; /* a slot for each sequence, and behind them one for padding */
    struct kv_open open;
    uint32_t *named; /* [n_pages] scratch of the check: table entries that name each page */
};

static inline uint64_t kv_pages_of(uint64_t n_tokens)
{
    return (n_tokens + PAGE_TOKENS - 1) / PAGE_TOKENS;
}

static inline bool kv_group_spec_packs(const struct kv_group_spec *spec)
{
    return kv_dtype_is_packed(spec->dtype);
}

size_t kv_group_page_bytes(const struct ops *ops, const struct kv_group_spec *spec);
/* Most pages that a sequence holds at once when it has at most max_append uncommitted tokens. */
uint32_t kv_group_window_pages(const struct kv_group_spec *spec, uint32_t max_append);

/* `group` is zeroed; on failure the caller releases it all the same. STATUS_NO_MEMORY. */
int kv_group_init(struct kv_group *group, struct device *device, const struct kv_cache_spec *spec,
                  uint32_t group_idx, uint32_t n_pages, struct why *why);
void kv_group_release(struct kv_group *group);

/* Pages that a sequence may own at once: of `promised` tokens the first `shared` belong to others
 * too. */
uint32_t kv_group_budget(const struct kv_group *group, uint64_t promised, uint64_t shared);
/* The first page index that a query at `position` or later can see. */
uint32_t kv_group_first_visible(const struct kv_group *group, uint64_t position);

/* Of a sliding group: pages between two ends of whose windows nothing gives way early. */
uint32_t kv_group_snapshot_pages(const struct kv_group *group);

/* What kv_group_extend with the same arguments takes from the pool is free then; true: it takes
 * something. */
bool kv_group_make_room(struct kv_group *group, const struct page_table *table, uint64_t written,
                        uint32_t end);
/* Pushes pages until the table ends at `end`; a shared last page that gets written is copied first.
 * All out of the reservation. */
void kv_group_extend(struct kv_group *group, struct page_table *table, uint64_t written,
                     uint32_t end, struct stream *stream);
void kv_group_drop_before(struct kv_group *group, struct page_table *table, uint32_t first);
void kv_group_shrink(struct kv_group *group, struct page_table *table, uint32_t end);
void kv_group_view(const struct kv_group *group, struct kv_group_view *out);

#endif
