/* What of a prompt stands in the host pool comes back to the device: pages that nobody holds, and
 * that the next match finds.
 *
 *   prompt    | 0 | 1 | 2 | 3 | 4 | 5 | 6 | ...
 *   device      x   x   x                          known: nodes of the tree
 *   host                x   x   x   x              reach: as far as groups that see all have a copy
 *   windows                     x   x              the end: the last place behind which each
 *                                                  windowed group has its window, here or there
 */
#include "kvcache/kv_state.h"

#include <assert.h>

#include "base/status.h"

/* At once, whichever comes first, so that others get their turn: about as long as a step. Windows
 * come whole. */
#define RECALL_BYTES ((uint64_t)64 << 20)
#define RECALL_PAGES 64

/* From here on others leave it alone. */
static bool hold_all(const struct kv_cache *cache, const struct page_key *key)
{
    for (uint32_t g = 0; g < cache->n_groups; g++)
        if (cache->groups[g].spec.kind == KV_FULL && !kv_host_hold(cache->host, g, key))
            return false;
    return true;
}

static bool host_has_all(const struct kv_cache *cache, const struct page_key *key)
{
    bool is_any = false;
    for (uint32_t g = 0; g < cache->n_groups; g++) {
        if (cache->groups[g].spec.kind != KV_FULL)
            continue;
        is_any = true;
        if (!kv_host_has(cache->host, g, key))
            return false;
    }
    return is_any; /* without such a group nodes could stand for nothing */
}

static bool has_room(const struct kv_cache *cache)
{
    for (uint32_t g = 0; g < cache->n_groups; g++)
        if (page_pool_n_available(cache->groups[g].pool) == 0)
            return false;
    return true;
}

/* A page of the group, as somebody would leave it who had computed it. */
static uint64_t recall_page(struct kv_cache *cache, node_id id, uint32_t g)
{
    struct page_pool *pool = cache->groups[g].pool;
    int status = page_pool_reserve(pool, 1);
    assert(status == STATUS_OK);
    (void)status;
    page_id page = page_pool_acquire(pool);
    kv_keeper_keep(&cache->keeper, id, g, page);
    kv_host_get(cache->host, g, &prefix_tree_at(cache->keeper.tree, id)->key, page);
    if (cache->groups[g].spec.kind == KV_FULL) {
        page_pool_release(pool, page);
    } else {
        page_pool_give_back(pool, page);
        page_pool_unreserve(pool, 1);
    }
    return page_pool_page_bytes(pool);
}

/* The nodes from `known` on, up to `end` or until enough is on its way (none, where windows put the
 * end before them); the last one that is in is held. What gives way to them may take the slots of
 * those behind them: then it ends there. Returns how many are known then. */
static uint32_t recall_nodes(struct kv_cache *cache, const struct kv_prefix *prefix,
                             uint32_t known, uint32_t end, node_id *last)
{
    uint64_t bytes = 0, units[PAGE_TOKENS];
    uint32_t most = end > known + RECALL_PAGES ? known + RECALL_PAGES : end;
    while (known < most && bytes < RECALL_BYTES && has_room(cache) &&
           hold_all(cache, &prefix->keys[known])) {
        for (int i = 0; i < PAGE_TOKENS; i++)
            units[i] = prefix->ids[(size_t)known * PAGE_TOKENS + i];
        node_id id = kv_keeper_insert(&cache->keeper, *last, &prefix->keys[known], units);
        if (id == NODE_NONE)
            break;
        kv_keeper_hold(&cache->keeper, id);
        kv_keeper_unhold(&cache->keeper, *last);
        *last = id;
        known++;
        for (uint32_t g = 0; g < cache->n_groups; g++)
            if (cache->groups[g].spec.kind == KV_FULL)
                bytes += recall_page(cache, id, g);
    }
    return known;
}

static void recall_windows(struct kv_cache *cache, const struct kv_prefix *prefix, uint32_t end)
{
    for (uint32_t g = 0; g < cache->n_groups; g++) {
        if (cache->groups[g].spec.kind == KV_FULL)
            continue;
        for (uint32_t i = kv_prefix_first_needed(cache, g, end); i < end; i++) {
            node_id id = prefix_tree_find(cache->keeper.tree, &prefix->keys[i]);
            if (prefix_tree_at(cache->keeper.tree, id)->pages[g] != PAGE_NONE)
                continue;
            if (!has_room(cache) || !kv_host_hold(cache->host, g, &prefix->keys[i]))
                return; /* a page of this very window gave way: the match ends before it */
            recall_page(cache, id, g);
        }
    }
}

bool kv_recall(struct kv_cache *cache, const struct kv_prefix *prefix, const struct stream *steps)
{
    struct kv_keeper *keeper = &cache->keeper;

    if (keeper->host == NULL || !cache->is_identified)
        return false;
    uint32_t known = kv_prefix_n_known(cache, prefix), reach = known;
    while (reach < prefix->n_pages && host_has_all(cache, &prefix->keys[reach]))
        reach++;
    uint32_t end = kv_prefix_n_with_windows(cache, prefix, reach, true);
    if (end <= kv_prefix_n_with_windows(cache, prefix, known, false))
        return false;
    if (!kv_host_is_idle(keeper->host))
        return true;
    keeper->is_closing = true; /* what comes goes last */
    node_id last = known == 0 ? NODE_NONE
                              : prefix_tree_find(keeper->tree, &prefix->keys[known - 1]);
    kv_keeper_hold(keeper, last);
    uint32_t now_known = recall_nodes(cache, prefix, known, end, &last);
    if (now_known >= end)
        recall_windows(cache, prefix, end);
    kv_keeper_unhold(keeper, last);
    keeper->is_closing = false;
    kv_host_send(keeper->host, steps);
    (void)kv_host_is_idle(keeper->host); /* a CPU's are here */
    return now_known < end && now_known > known;
}

bool kv_recall_is_coming(const struct kv_cache *cache, const struct prefix_node *node)
{
    if (cache->host == NULL || kv_host_is_idle(cache->host))
        return false;
    for (uint32_t g = 0; g < cache->n_groups; g++)
        if (cache->groups[g].spec.kind == KV_FULL &&
            kv_host_is_coming(cache->host, g, node->pages[g]))
            return true;
    return false;
}

static bool any_is_coming(const struct kv_host *host, uint32_t g, const struct page_table *table)
{
    for (uint32_t i = 0; i < table->n_pages; i++)
        if (kv_host_is_coming(host, g, table->pages[i]))
            return true;
    return false;
}

bool kv_cache_is_arriving(struct kv_cache *cache, kv_seq_id seq)
{
    const struct kv_sequence *sequence = kv_sequence_at(cache, seq);

    if (cache->host == NULL || kv_host_is_idle(cache->host))
        return false;
    for (uint32_t g = 0; g < cache->n_groups; g++)
        if (any_is_coming(cache->host, g, &sequence->tables[g]))
            return true;
    return false;
}
