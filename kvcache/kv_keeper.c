#include "kvcache/kv_keeper.h"

#include "base/status.h"

#include <assert.h>
#include <stdlib.h>

#define OF_A_WINDOW (1ull << 63) /* above the scores of all pages that are not */

/* --- worth --- */

static uint64_t score_of(const struct prefix_node *node)
{
    uint32_t log2_depth = 31 - (uint32_t)__builtin_clz(node->depth);
    return node->used + log2_depth;
}

/* Whether the page is of the window of a sliding group's snapshot. Those of chunked groups stand at
 * multiples of the chunk, and need no page. */
static bool is_of_snapshot(const struct kv_group *group, uint32_t page_idx)
{
    if (group->spec.kind != KV_SLIDING)
        return false;
    uint32_t interval = kv_group_snapshot_pages(group);
    uint64_t snapshot = ((uint64_t)page_idx / interval + 1) * interval; /* first behind the page */
    return kv_group_first_visible(group, snapshot * PAGE_TOKENS) <= page_idx;
}

static bool is_leaf(const struct prefix_node *node)
{
    return node->n_busy == 0 && node->n_children == 0;
}

/* --- what the pools tell --- */

static void on_idle(void *arg, page_id page)
{
    struct kv_keeper_group *of = arg;
    struct kv_keeper *keeper = of->keeper;
    node_id id = of->node_of[page] - 1;
    struct prefix_node *node = prefix_tree_at(keeper->tree, id);

    assert(node->n_busy > 0);
    node->n_busy--;
    node->used = keeper->age;
    if (of->windows != NULL) {
        bool is_kept_long = keeper->is_closing || is_of_snapshot(of->group, node->depth - 1);
        evict_push(of->windows, page, score_of(node) | (is_kept_long ? OF_A_WINDOW : 0));
    }
    if (is_leaf(node))
        evict_push(keeper->leaves, id, score_of(node));
}

static void on_busy(void *arg, page_id page)
{
    struct kv_keeper_group *of = arg;
    node_id id = of->node_of[page] - 1;

    prefix_tree_at(of->keeper->tree, id)->n_busy++;
    evict_remove(of->keeper->leaves, id);
    if (of->windows != NULL)
        evict_remove(of->windows, page);
}

static void drop_page(struct kv_keeper_group *of, struct prefix_node *node)
{
    page_id page = node->pages[of->g];
    struct page_pool *pool = of->group->pool;

    if (of->keeper->host != NULL)
        kv_host_put(of->keeper->host, of->g, &node->key, page);
    node->pages[of->g] = PAGE_NONE;
    of->node_of[page] = 0;
    if (of->windows != NULL)
        evict_remove(of->windows, page);
    page_pool_drop(pool, page);
    of->keeper->n_evicted++;
}

static bool drop_leaf(struct kv_keeper *keeper)
{
    node_id id = evict_pop(keeper->leaves);
    if (id == EVICT_NONE)
        return false;
    struct prefix_node *node = prefix_tree_at(keeper->tree, id);
    node_id parent = node->parent;
    for (uint32_t g = 0; g < keeper->n_groups; g++)
        if (node->pages[g] != PAGE_NONE)
            drop_page(&keeper->groups[g], node);
    prefix_tree_remove(keeper->tree, id);
    if (parent != NODE_NONE && is_leaf(prefix_tree_at(keeper->tree, parent)))
        evict_push(keeper->leaves, parent, score_of(prefix_tree_at(keeper->tree, parent)));
    return true;
}

static void reclaim(void *arg)
{
    struct kv_keeper_group *of = arg;
    page_id page = EVICT_NONE;

    if (of->windows != NULL)
        page = evict_pop(of->windows);
    if (page == EVICT_NONE) {
        drop_leaf(of->keeper);
        return;
    }
    drop_page(of, prefix_tree_at(of->keeper->tree, of->node_of[page] - 1));
}

/* --- life --- */

/* Each node has a page of every group that sees everything; without such a group, of any. */
static uint32_t n_nodes(const struct kv_group *groups, uint32_t n_groups)
{
    uint64_t n = 0;
    for (uint32_t g = 0; g < n_groups; g++) {
        if (groups[g].spec.kind == KV_FULL)
            return page_pool_n_pages(groups[g].pool);
        n += page_pool_n_pages(groups[g].pool);
    }
    return n < UINT32_MAX ? (uint32_t)n : UINT32_MAX - 1;
}

int kv_keeper_init(struct kv_keeper *keeper, struct kv_group *groups, uint32_t n_groups,
                   struct why *why)
{
    uint32_t n = n_nodes(groups, n_groups);
    int status = prefix_tree_create(n, &keeper->tree, why);
    if (status == STATUS_OK)
        status = evict_create(n, &keeper->leaves, why);
    for (uint32_t g = 0; g < n_groups && status == STATUS_OK; g++) {
        struct kv_keeper_group *of = &keeper->groups[g];
        uint32_t n_pages = page_pool_n_pages(groups[g].pool);
        *of = (struct kv_keeper_group){.keeper = keeper, .group = &groups[g], .g = g};
        keeper->n_groups++;
        of->node_of = calloc(n_pages, sizeof *of->node_of);
        if (of->node_of == NULL)
            return refuse(why, STATUS_NO_MEMORY, "no memory to remember %u pages", n_pages);
        if (groups[g].spec.kind != KV_FULL)
            status = evict_create(n_pages, &of->windows, why);
        page_pool_set_keeper(groups[g].pool, &(struct page_keeper){.on_idle = on_idle,
                                                                   .on_busy = on_busy,
                                                                   .reclaim = reclaim,
                                                                   .arg = of});
    }
    return status;
}

void kv_keeper_release(struct kv_keeper *keeper)
{
    keeper->host = NULL; /* nobody will ask */
    if (keeper->leaves != NULL)
        while (drop_leaf(keeper))
            ;
    for (uint32_t g = 0; g < keeper->n_groups; g++) {
        free(keeper->groups[g].node_of);
        evict_free(keeper->groups[g].windows);
    }
    evict_free(keeper->leaves);
    prefix_tree_free(keeper->tree);
    *keeper = (struct kv_keeper){.tree = NULL};
}

/* --- nodes --- */

node_id kv_keeper_insert(struct kv_keeper *keeper, node_id parent, const struct page_key *key,
                         const uint64_t units[PAGE_TOKENS])
{
    if (parent != NODE_NONE)
        evict_remove(keeper->leaves, parent); /* room for its child is not made of it */
    node_id node = prefix_tree_insert(keeper->tree, parent, key, units);
    if (node == NODE_NONE && drop_leaf(keeper))
        node = prefix_tree_insert(keeper->tree, parent, key, units);
    if (node == NODE_NONE && parent != NODE_NONE && is_leaf(prefix_tree_at(keeper->tree, parent)))
        evict_push(keeper->leaves, parent, score_of(prefix_tree_at(keeper->tree, parent)));
    return node;
}

void kv_keeper_keep(struct kv_keeper *keeper, node_id id, uint32_t g, page_id page)
{
    struct kv_keeper_group *of = &keeper->groups[g];
    struct prefix_node *node = prefix_tree_at(keeper->tree, id);

    assert(node->pages[g] == PAGE_NONE && of->node_of[page] == 0);
    page_pool_keep(of->group->pool, page);
    node->pages[g] = page;
    of->node_of[page] = id + 1;
    evict_remove(keeper->leaves, id);
    node->n_busy++;
}

void kv_keeper_hold(struct kv_keeper *keeper, node_id id)
{
    if (id == NODE_NONE)
        return;
    evict_remove(keeper->leaves, id);
    prefix_tree_at(keeper->tree, id)->n_busy++;
}

void kv_keeper_unhold(struct kv_keeper *keeper, node_id id)
{
    if (id == NODE_NONE)
        return;
    struct prefix_node *node = prefix_tree_at(keeper->tree, id);
    assert(node->n_busy > 0);
    node->n_busy--;
    node->used = keeper->age;
    if (is_leaf(node))
        evict_push(keeper->leaves, id, score_of(node));
}

/* --- the invariant --- */

static int check_group(const struct kv_keeper_group *of, struct why *why)
{
    const struct page_pool *pool = of->group->pool;
    const struct prefix_tree *tree = of->keeper->tree;
    for (page_id page = 0; page < page_pool_n_pages(pool); page++) {
        node_id node = of->node_of[page] - 1;
        bool is_kept = page_pool_is_kept(pool, page);
        bool is_idle = is_kept && page_pool_refs(pool, page) == 0;
        if (is_kept != (node != NODE_NONE) ||
            (is_kept && (!prefix_tree_is_in(tree, node) ||
                         prefix_tree_at(tree, node)->pages[of->g] != page)))
            return refuse(why, STATUS_INTERNAL, "group %u: page %u is kept for node %u", of->g,
                          page, node);
        if (of->windows != NULL && evict_has(of->windows, page) != is_idle)
            return refuse(why, STATUS_INTERNAL, "group %u: page %u is idle, or not, and %s", of->g,
                          page, is_idle ? "nothing knows" : "told to be");
    }
    return of->windows != NULL ? evict_check(of->windows, why) : STATUS_OK;
}

static int check_node(const struct kv_keeper *keeper, node_id id, uint64_t *n_held,
                      struct why *why)
{
    const struct prefix_node *node = prefix_tree_at(keeper->tree, id);
    uint32_t n_busy = 0;
    for (uint32_t g = 0; g < keeper->n_groups; g++) {
        const struct kv_group *group = keeper->groups[g].group;
        page_id page = node->pages[g];
        bool is_busy = page != PAGE_NONE && page_pool_refs(group->pool, page) > 0;
        n_busy += is_busy;
        if (page != PAGE_NONE && keeper->groups[g].node_of[page] != id + 1)
            return refuse(why, STATUS_INTERNAL, "node %u: page %u is another's", id, page);
        if (group->spec.kind != KV_FULL)
            continue;
        page_id above = node->parent == NODE_NONE
                            ? page
                            : prefix_tree_at(keeper->tree, node->parent)->pages[g];
        if (page == PAGE_NONE || above == PAGE_NONE ||
            page_pool_refs(group->pool, above) < page_pool_refs(group->pool, page))
            return refuse(why, STATUS_INTERNAL,
                          "node %u: page %u of group %u is held without what is before it", id,
                          page, g);
    }
    if (node->n_busy < n_busy || evict_has(keeper->leaves, id) != is_leaf(node))
        return refuse(why, STATUS_INTERNAL, "node %u: %u of %u holders, %u children, %s", id,
                      n_busy, node->n_busy, node->n_children,
                      evict_has(keeper->leaves, id) ? "a leaf" : "no leaf");
    *n_held += node->n_busy - n_busy;
    return STATUS_OK;
}

int kv_keeper_check(const struct kv_keeper *keeper, uint64_t n_chains, struct why *why)
{
    uint64_t n_held = 0;
    int status = prefix_tree_check(keeper->tree, why);
    for (node_id id = 0; id < prefix_tree_end(keeper->tree) && status == STATUS_OK; id++)
        if (prefix_tree_is_in(keeper->tree, id))
            status = check_node(keeper, id, &n_held, why);
    for (uint32_t g = 0; g < keeper->n_groups && status == STATUS_OK; g++)
        status = check_group(&keeper->groups[g], why);
    if (status == STATUS_OK)
        status = evict_check(keeper->leaves, why);
    if (status == STATUS_OK && n_held != n_chains)
        return refuse(why, STATUS_INTERNAL, "%llu nodes are held, for %llu chains",
                      (unsigned long long)n_held, (unsigned long long)n_chains);
    return status;
}
