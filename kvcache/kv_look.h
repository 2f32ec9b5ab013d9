/* kvcache/kv_look.h: what can be seen of the cache from outside, for people: pages by group, state
 * and owner, and the tables of a sequence. Changes nothing.
 *
 *   a group's pages   | free | cached | open | full |    by state; some free, cached are promised
 *                     |    nobody's   | own | shared |   by owner
 *
 *   a table           12 13 14 40 41       stretches: pages 0-2 are 12-14, full, held by 2;
 *                     '-- 2 --' '- 1 -'    page 3 is 40, full; page 4 is 41, open
 *
 * Thread: engine only. Allocates nothing.
 */
#ifndef QUIRE_KVCACHE_KV_LOOK_H
#define QUIRE_KVCACHE_KV_LOOK_H

#include "kvcache/kv_cache.h"

struct kv_group_look {
    enum kv_kind kind;
    uint32_t window, n_layers;
    const char *dtype; /* of full pages; static */
    uint64_t page_bytes;
    uint32_t n_pages;
    uint32_t n_free, n_cached;   /* that nobody holds: empty, and remembered */
    uint32_t n_reserved;         /* of those, promised to sequences */
    uint32_t n_open, n_full;     /* that sequences hold: being written, and not */
    uint32_t n_own;              /* of open and full ones: one sequence's alone */
};

/* Pages of a table that lie side by side and are alike. */
struct kv_stretch {
    uint32_t index; /* of the first of them in the sequence: position / PAGE_TOKENS */
    page_id page;
    uint32_t n;
    uint32_t n_holders;
    bool is_open;
};

struct kv_table_look {
    uint32_t first_page, n_pages; /* those before were dropped */
    uint32_t n_stretches;
    uint32_t n_untold; /* pages behind the last stretch that there was room for */
};

uint32_t kv_look_n_groups(const struct kv_cache *cache);
void kv_look_group(const struct kv_cache *cache, uint32_t g, struct kv_group_look *out);
uint64_t kv_look_promised(const struct kv_cache *cache, kv_seq_id seq);
/* Of group g, at most n_max stretches. O(pages). */
void kv_look_table(const struct kv_cache *cache, kv_seq_id seq, uint32_t g,
                   struct kv_stretch *stretches, uint32_t n_max, struct kv_table_look *out);

#endif
