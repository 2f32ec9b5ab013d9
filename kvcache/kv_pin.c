/* Pins: prefixes that do not give way. */
#include "kvcache/kv_state.h"

#include <assert.h>

#include "base/status.h"

static uint32_t first_pinned(const struct kv_cache *cache, uint32_t g, uint32_t n_pages)
{
    return kv_group_first_visible(&cache->groups[g], (uint64_t)n_pages * PAGE_TOKENS);
}

/* Of a group, with one of so many pages more; a page of two pins counts twice. */
static uint32_t n_pinned_with(const struct kv_cache *cache, uint32_t g, uint32_t n_pages)
{
    uint32_t n = n_pages - first_pinned(cache, g, n_pages);
    for (int i = 0; i < PINS_MAX; i++)
        if (cache->pins[i].node != NODE_NONE)
            n += cache->pins[i].n_pages - first_pinned(cache, g, cache->pins[i].n_pages);
    return n;
}

static int check_bounds(const struct kv_cache *cache, const struct kv_match *match,
                        struct why *why)
{
    for (uint32_t g = 0; g < cache->n_groups; g++) {
        const struct page_pool *pool = cache->groups[g].pool;
        uint32_t most = page_pool_n_pages(pool) / PINNED_SHARE;
        uint32_t n = n_pinned_with(cache, g, match->n_pages);
        if (n > most)
            return refuse(why, STATUS_EXHAUSTED,
                          "%u pages would be pinned, and %u of %u may: unpin others, or raise "
                          "--kv-memory",
                          n, most, page_pool_n_pages(pool));
        if (match->n_taken[g] > page_pool_n_available(pool))
            return refuse(why, STATUS_EXHAUSTED,
                          "%u pages would be pinned, and %u are not promised to sequences",
                          match->n_taken[g], page_pool_n_available(pool));
    }
    return STATUS_OK;
}

static void each_page(struct kv_cache *cache, const struct kv_pin *pin, uint32_t g,
                      void (*visit)(struct kv_group *group, page_id page))
{
    uint32_t first = first_pinned(cache, g, pin->n_pages);
    node_id id = pin->node;
    for (uint32_t i = pin->n_pages; i-- > first;) {
        const struct prefix_node *node = prefix_tree_at(cache->keeper.tree, id);
        id = node->parent;
        visit(&cache->groups[g], node->pages[g]);
    }
}

static void hold(struct kv_group *group, page_id page)
{
    if (group->spec.kind == KV_FULL)
        page_pool_share(group->pool, page);
    else
        page_pool_share_owned(group->pool, page);
}

static void let_go(struct kv_group *group, page_id page)
{
    page_pool_release(group->pool, page);
}

static void count(struct kv_group *group, page_id page)
{
    group->named[page]++;
}

int kv_cache_pin(struct kv_cache *cache, const struct kv_prefix *prefix, uint32_t *out,
                 uint32_t *n_pages, struct why *why)
{
    struct kv_match match;
    uint32_t i = 0;

    kv_cache_match(cache, prefix, &match);
    if (match.n_pages == 0 || !kv_cache_verify(cache, prefix, &match))
        return refuse(why, STATUS_NOT_FOUND, "no page of this prefix is in the cache");
    while (i < PINS_MAX && cache->pins[i].node != NODE_NONE)
        i++;
    if (i == PINS_MAX)
        return refuse(why, STATUS_EXHAUSTED,
                      "%d prefixes are pinned, and no more may be: unpin one", PINS_MAX);
    int status = check_bounds(cache, &match, why);
    if (status < 0)
        return status;
    cache->pins[i] = (struct kv_pin){.node = match.node, .n_pages = match.n_pages};
    kv_keeper_hold(&cache->keeper, match.node);
    for (uint32_t g = 0; g < cache->n_groups; g++)
        each_page(cache, &cache->pins[i], g, hold);
    *out = i;
    *n_pages = match.n_pages;
    return STATUS_OK;
}

void kv_cache_unpin(struct kv_cache *cache, uint32_t pin)
{
    assert(pin < PINS_MAX && cache->pins[pin].node != NODE_NONE);
    cache->keeper.age++;
    cache->keeper.is_closing = true; /* its window is one of an end */
    for (uint32_t g = 0; g < cache->n_groups; g++)
        each_page(cache, &cache->pins[pin], g, let_go);
    cache->keeper.is_closing = false;
    kv_keeper_unhold(&cache->keeper, cache->pins[pin].node);
    cache->pins[pin].node = NODE_NONE;
}

void kv_pin_count_names(struct kv_cache *cache, uint32_t g)
{
    for (int i = 0; i < PINS_MAX; i++)
        if (cache->pins[i].node != NODE_NONE)
            each_page(cache, &cache->pins[i], g, count);
}
