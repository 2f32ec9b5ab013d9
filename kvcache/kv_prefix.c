/* Prefixes that sequences share: what there is of a prompt, taking it, and remembering what was
 * computed. */
#include "kvcache/kv_state.h"

#include <assert.h>
#include <string.h>

#include "base/status.h"
#include "kernels/ops.h"

/* --- who may share --- */

void kv_cache_identify(struct kv_cache *cache, const struct kv_identity *identity)
{
    struct kv_identity *own = &cache->identity;

    if (cache->keeper.tree == NULL)
        return;
    *own = *identity;
    own->numerics = device_ops(cache->device)->numerics;
    own->n_groups = cache->n_groups;
    for (uint32_t g = 0; g < cache->n_groups; g++) {
        struct kv_group_view view;
        kv_group_view(&cache->groups[g], &view);
        own->groups[g].kind = view.kind;
        own->groups[g].window = view.window;
        own->groups[g].dtype_open = view.dtype_open;
        own->groups[g].dtype_full = view.dtype_full;
    }
    cache->is_identified = true;
}

bool kv_cache_is_identified(const struct kv_cache *cache)
{
    return cache->is_identified;
}

bool kv_cache_has_host(const struct kv_cache *cache)
{
    return cache->host != NULL;
}

static void widen(const uint32_t *ids, uint64_t units[PAGE_TOKENS])
{
    for (int i = 0; i < PAGE_TOKENS; i++)
        units[i] = ids[i];
}

void kv_cache_name_pages(struct kv_cache *cache, const void *salt, size_t n_salt,
                         const uint32_t *ids, uint32_t n_pages, struct page_key *root,
                         struct page_key *keys)
{
    assert(cache->is_identified);
    kv_cache_name_apart(cache, cache->hash, salt, n_salt, ids, n_pages, root, keys);
}

static void name_more(struct sha256 *hash, const uint32_t *ids, uint32_t n_pages,
                      const struct page_key *previous, struct page_key *keys)
{
    uint64_t units[PAGE_TOKENS];

    for (uint32_t i = 0; i < n_pages; i++) {
        widen(ids + (size_t)i * PAGE_TOKENS, units);
        page_key_next(hash, i > 0 ? &keys[i - 1] : previous, units, &keys[i]);
    }
}

void kv_cache_name_apart(const struct kv_cache *cache, struct sha256 *hash, const void *salt,
                         size_t n_salt, const uint32_t *ids, uint32_t n_pages,
                         struct page_key *root, struct page_key *keys)
{
    page_key_root(hash, &cache->identity, salt, n_salt, root);
    name_more(hash, ids, n_pages, root, keys);
}

void kv_cache_name_more(struct kv_cache *cache, const uint32_t *ids, uint32_t n_pages,
                        const struct page_key *previous, struct page_key *keys)
{
    name_more(cache->hash, ids, n_pages, previous, keys);
}

/* --- what there is --- */

/* So what is there of the keys ends at one place. */
uint32_t kv_prefix_n_known(const struct kv_cache *cache, const struct kv_prefix *prefix)
{
    uint32_t known = 0, beyond = prefix->n_pages + 1;
    while (beyond - known > 1) {
        uint32_t middle = known + (beyond - known) / 2;
        if (prefix_tree_find(cache->keeper.tree, &prefix->keys[middle - 1]) != NODE_NONE)
            known = middle;
        else
            beyond = middle;
    }
    return known;
}

static node_id node_at(const struct kv_cache *cache, const struct kv_prefix *prefix, uint32_t depth)
{
    return depth == 0 ? NODE_NONE
                      : prefix_tree_find(cache->keeper.tree, &prefix->keys[depth - 1]);
}

uint32_t kv_prefix_first_needed(const struct kv_cache *cache, uint32_t g, uint32_t n_pages)
{
    return kv_group_first_visible(&cache->groups[g], (uint64_t)n_pages * PAGE_TOKENS);
}

static bool is_there(const struct kv_cache *cache, const struct kv_prefix *prefix, uint32_t g,
                     uint32_t page_idx, bool or_on_host)
{
    node_id id = node_at(cache, prefix, page_idx + 1);
    if (id != NODE_NONE && prefix_tree_at(cache->keeper.tree, id)->pages[g] != PAGE_NONE)
        return true;
    return or_on_host && kv_host_has(cache->host, g, &prefix->keys[page_idx]);
}

/* The last end at or before `end` that is looked at, in a search that began behind `known` pages:
 * each one for a while, then those where windows are kept. */
static uint32_t next_end(const struct kv_group *group, uint32_t known, uint32_t end)
{
    uint32_t interval = kv_group_snapshot_pages(group);
    bool is_far = known - end > KV_SEARCH_PAGES && group->spec.kind == KV_SLIDING;
    return is_far ? end / interval * interval : end;
}

/* A page that lacks rules out all ends that see it, so the search goes on before it. */
uint32_t kv_prefix_n_with_windows(const struct kv_cache *cache, const struct kv_prefix *prefix,
                                  uint32_t n_pages, bool or_on_host)
{
    uint32_t known = n_pages;

    for (uint32_t g = 0; g < cache->n_groups && n_pages > 0; g++) {
        if (cache->groups[g].spec.kind == KV_FULL)
            continue;
        uint32_t first = kv_prefix_first_needed(cache, g, n_pages), end = n_pages;
        for (uint32_t i = n_pages; i-- > first;) {
            if (is_there(cache, prefix, g, i, or_on_host))
                continue;
            n_pages = i = next_end(&cache->groups[g], known, i);
            first = kv_prefix_first_needed(cache, g, n_pages);
        }
        if (n_pages != end && g > 0)
            g = UINT32_MAX; /* groups before it look again, at the new end */
    }
    return n_pages;
}

/* Pages that are available no more when the match is taken: those that nobody holds; of windows
 * also those whose owner will want another in their place. */
static uint32_t n_taken(const struct kv_cache *cache, const struct kv_prefix *prefix, uint32_t g,
                       uint32_t n_pages)
{
    const struct kv_group *group = &cache->groups[g];
    uint32_t first = kv_prefix_first_needed(cache, g, n_pages), taken = 0;

    if (group->spec.kind == KV_FULL) { /* held from the front: the border is found by halving */
        uint32_t held = 0, beyond = n_pages + 1;
        while (beyond - held > 1) {
            uint32_t middle = held + (beyond - held) / 2;
            const struct prefix_node *node =
                prefix_tree_at(cache->keeper.tree, node_at(cache, prefix, middle));
            if (page_pool_refs(group->pool, node->pages[g]) > 0)
                held = middle;
            else
                beyond = middle;
        }
        return n_pages - held;
    }
    node_id id = node_at(cache, prefix, n_pages);
    for (uint32_t i = n_pages; i-- > first;) {
        const struct prefix_node *node = prefix_tree_at(cache->keeper.tree, id);
        taken += page_pool_costs(group->pool, node->pages[g]);
        id = node->parent;
    }
    return taken;
}

void kv_cache_match(const struct kv_cache *cache, const struct kv_prefix *prefix,
                    struct kv_match *out)
{
    *out = (struct kv_match){.node = NODE_NONE, .end = KV_MATCH_UNNAMED};
    if (!cache->is_identified || prefix == NULL)
        return;
    uint32_t known = kv_prefix_n_known(cache, prefix);
    out->n_pages = kv_prefix_n_with_windows(cache, prefix, known, false);
    out->node = node_at(cache, prefix, out->n_pages);
    for (uint32_t g = 0; g < cache->n_groups && out->n_pages > 0; g++)
        out->n_taken[g] = n_taken(cache, prefix, g, out->n_pages);
    node_id last = node_at(cache, prefix, known);
    if (out->n_pages < known)
        out->end = KV_MATCH_WINDOW;
    else if (known == prefix->n_pages)
        out->end = KV_MATCH_WHOLE;
    else if (last != NODE_NONE && prefix_tree_at(cache->keeper.tree, last)->n_children > 0)
        out->end = KV_MATCH_DIVERGED;
    else
        out->end = KV_MATCH_ABSENT;
}

void kv_cache_match_family(const struct kv_cache *cache, const struct kv_prefix *prefix,
                           struct kv_family *family)
{
    struct kv_family cold = *family;

    kv_cache_match(cache, NULL, &cold.match);
    kv_cache_match(cache, prefix, &family->match);
    if (family->match.n_pages == 0 || kv_cache_family_fits_now(cache, family) ||
        !kv_cache_family_fits_now(cache, &cold))
        return;
    *family = cold;
    family->match.end = KV_MATCH_ROOM;
}

/* Equal keys with other ids would be two texts of one digest. */
bool kv_cache_verify(const struct kv_cache *cache, const struct kv_prefix *prefix,
                     const struct kv_match *match)
{
    node_id id = match->node;
    for (uint32_t i = match->n_pages; i-- > 0;) {
        if (!prefix_tree_holds(cache->keeper.tree, id, prefix->ids + (size_t)i * PAGE_TOKENS))
            return false;
        id = prefix_tree_at(cache->keeper.tree, id)->parent;
    }
    return true;
}

/* --- taking it --- */

void kv_prefix_take(struct kv_cache *cache, struct kv_sequence *sequence,
                    const struct kv_match *match)
{
    const struct prefix_tree *tree = cache->keeper.tree;

    sequence->written = sequence->committed = sequence->shared =
        (uint64_t)match->n_pages * PAGE_TOKENS;
    sequence->chain.sealed = match->n_pages;
    sequence->chain.node = match->node;
    kv_keeper_hold(&cache->keeper, match->node);
    for (uint32_t g = 0; g < cache->n_groups; g++) {
        struct page_table *table = &sequence->tables[g];
        uint32_t first = kv_prefix_first_needed(cache, g, match->n_pages);
        node_id id = match->node;
        page_table_begin(table, first, match->n_pages - first);
        for (uint32_t i = match->n_pages; i-- > first;) {
            const struct prefix_node *node = prefix_tree_at(tree, id);
            table->pages[i - first] = node->pages[g];
            if (cache->groups[g].spec.kind == KV_FULL)
                page_pool_share(cache->groups[g].pool, node->pages[g]);
            else
                page_pool_share_owned(cache->groups[g].pool, node->pages[g]);
            id = node->parent;
        }
    }
    cache->n_hit_tokens += sequence->written;
}

/* --- remembering what was computed --- */

void kv_prefix_end_chain(struct kv_cache *cache, struct kv_sequence *sequence)
{
    kv_keeper_unhold(&cache->keeper, sequence->chain.node);
    sequence->chain.node = NODE_NONE;
    sequence->chain.is_live = false;
    sequence->chain.n_units = 0;
}

void kv_prefix_fork_chain(struct kv_cache *cache, const struct kv_sequence *from,
                          struct kv_sequence *to)
{
    assert(to->chain.node == NODE_NONE);
    to->chain = from->chain;
    kv_keeper_hold(&cache->keeper, to->chain.node);
}

static void advance(struct kv_cache *cache, struct kv_chain *chain, node_id node)
{
    kv_keeper_hold(&cache->keeper, node);
    kv_keeper_unhold(&cache->keeper, chain->node);
    chain->node = node;
    chain->sealed++;
}

static bool holds_node(const struct kv_cache *cache, const struct kv_sequence *sequence,
                       const struct prefix_node *node)
{
    for (uint32_t g = 0; g < cache->n_groups; g++)
        if (cache->groups[g].spec.kind == KV_FULL &&
            sequence->tables[g].pages[node->depth - 1] != node->pages[g])
            return false;
    return true;
}

static bool may_swap(const struct kv_cache *cache, const struct kv_sequence *sequence, uint32_t idx)
{
    for (uint32_t g = 0; g < cache->n_groups; g++)
        if (cache->groups[g].spec.kind == KV_FULL && sequence->tables[g].own_from != idx)
            return false;
    return sequence->shared == (uint64_t)idx * PAGE_TOKENS;
}

/* Somebody else computed the same page. A page is held with all before it: where this sequence has
 * its own, and it is the first of these, one of the two goes; else the sequence's chain ends. */
static bool join_node(struct kv_cache *cache, struct kv_sequence *sequence, node_id id)
{
    uint32_t idx = sequence->chain.sealed;
    const struct prefix_node *node = prefix_tree_at(cache->keeper.tree, id);
    if (holds_node(cache, sequence, node))
        return true;
    if (!may_swap(cache, sequence, idx) || kv_recall_is_coming(cache, node))
        return false;
    for (uint32_t g = 0; g < cache->n_groups; g++) {
        const struct kv_group *group = &cache->groups[g];
        struct page_table *table = &sequence->tables[g];
        if (group->spec.kind != KV_FULL) { /* it keeps its own, and the budget of that */
            sequence->spare[g] +=
                kv_group_budget(group, sequence->promised, sequence->shared) -
                kv_group_budget(group, sequence->promised, sequence->shared + PAGE_TOKENS);
            continue;
        }
        page_pool_release(group->pool, table->pages[idx]);
        page_pool_share(group->pool, node->pages[g]);
        page_table_swap(table, idx, node->pages[g]);
    }
    sequence->shared += PAGE_TOKENS;
    return true;
}

static void keep_pages(struct kv_cache *cache, const struct kv_sequence *sequence, node_id id)
{
    uint32_t idx = sequence->chain.sealed;
    for (uint32_t g = 0; g < cache->n_groups; g++) {
        const struct page_table *table = &sequence->tables[g];
        if (prefix_tree_at(cache->keeper.tree, id)->pages[g] != PAGE_NONE ||
            idx < table->first_page || idx >= page_table_end(table))
            continue;
        page_id page = table->pages[idx - table->first_page];
        if (!page_pool_is_kept(cache->groups[g].pool, page))
            kv_keeper_keep(&cache->keeper, id, g, page);
    }
}

/* The page that chain.units fill. */
static void seal_page(struct kv_cache *cache, struct kv_sequence *sequence)
{
    struct kv_chain *chain = &sequence->chain;
    struct page_key key;

    page_key_next(cache->hash, &chain->last, chain->units, &key);
    node_id id = prefix_tree_find(cache->keeper.tree, &key);
    bool is_new = id == NODE_NONE;
    if (is_new)
        id = kv_keeper_insert(&cache->keeper, chain->node, &key, chain->units);
    if (id == NODE_NONE || (!is_new && !join_node(cache, sequence, id))) {
        kv_prefix_end_chain(cache, sequence);
        return;
    }
    keep_pages(cache, sequence, id);
    advance(cache, chain, id);
    chain->last = key;
}

void kv_prefix_feed(struct kv_cache *cache, struct kv_sequence *sequence, const uint32_t *ids,
                    uint64_t n)
{
    struct kv_chain *chain = &sequence->chain;

    for (uint64_t i = 0; i < n && chain->is_live; i++) {
        chain->units[chain->n_units++] = ids[i];
        if (chain->n_units < PAGE_TOKENS)
            continue;
        seal_page(cache, sequence);
        chain->n_units = 0;
    }
}

bool kv_cache_is_chained(const struct kv_cache *cache, kv_seq_id seq)
{
    return kv_sequence_at(cache, seq)->chain.is_live;
}

void kv_cache_chain(struct kv_cache *cache, kv_seq_id seq, const struct page_key *root,
                    const uint32_t *ids)
{
    struct kv_sequence *sequence = kv_sequence_at(cache, seq);
    struct kv_chain *chain = &sequence->chain;

    assert(cache->is_identified && !chain->is_live);
    uint64_t first = (uint64_t)chain->sealed * PAGE_TOKENS;
    chain->is_live = true;
    chain->n_units = 0;
    chain->last = chain->node == NODE_NONE
                      ? *root
                      : prefix_tree_at(cache->keeper.tree, chain->node)->key;
    kv_prefix_feed(cache, sequence, ids + first, sequence->committed - first);
}
