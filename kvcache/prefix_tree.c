#include "kvcache/prefix_tree.h"

#include "base/status.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct prefix_tree {
    uint32_t capacity, n, end; /* end: nodes that were ever in */
    struct prefix_node *nodes; /* [capacity]; depth 0: not in */
    uint32_t *ids;             /* [capacity, PAGE_TOKENS]: apart, since searches do not read them */
    node_id *next;             /* [capacity]: in its bucket, + 1; of one that is not in: free */
    node_id *buckets;          /* [n_buckets] of the `round` at least, + 1; 0: empty */
    uint32_t n_buckets, round; /* round: the power of 2 with round <= n_buckets < 2 * round */
    node_id first_free;        /* + 1 */
};

#define BUCKETS_MIN 64

int prefix_tree_create(uint32_t n_nodes, struct prefix_tree **out, struct why *why)
{
    struct prefix_tree *tree = calloc(1, sizeof *tree);
    if (tree != NULL) {
        tree->capacity = n_nodes;
        tree->n_buckets = tree->round = BUCKETS_MIN;
        tree->nodes = calloc(n_nodes, sizeof *tree->nodes);
        tree->ids = calloc((size_t)n_nodes * PAGE_TOKENS, sizeof *tree->ids);
        tree->next = calloc(n_nodes, sizeof *tree->next);
        tree->buckets = calloc((size_t)BUCKETS_MIN + n_nodes, sizeof *tree->buckets);
    }
    if (tree == NULL || tree->nodes == NULL || tree->ids == NULL || tree->next == NULL ||
        tree->buckets == NULL) {
        prefix_tree_free(tree);
        return refuse(why, STATUS_NO_MEMORY, "no memory to remember %u pages", n_nodes);
    }
    *out = tree;
    return STATUS_OK;
}

void prefix_tree_free(struct prefix_tree *tree)
{
    if (tree == NULL)
        return;
    free(tree->nodes);
    free(tree->ids);
    free(tree->next);
    free(tree->buckets);
    free(tree);
}

struct prefix_node *prefix_tree_at(const struct prefix_tree *tree, node_id node)
{
    assert(prefix_tree_is_in(tree, node));
    return &tree->nodes[node];
}

/* --- buckets: linear hashing (Litwin 1980), so that memory is touched by those who are in --- */

static uint32_t bucket_idx(const struct prefix_tree *tree, const struct page_key *key)
{
    uint32_t number; /* keys are digests: any of their bits are as good */
    memcpy(&number, key->bytes, sizeof number);
    uint32_t idx = number & (2 * tree->round - 1);
    return idx < tree->n_buckets ? idx : idx - tree->round;
}

static node_id *bucket_of(const struct prefix_tree *tree, const struct page_key *key)
{
    return &tree->buckets[bucket_idx(tree, key)];
}

/* One bucket more: it takes from the one whose numbers end alike those that are its own now. */
static void split_bucket(struct prefix_tree *tree)
{
    uint32_t made = tree->n_buckets++;
    node_id *from = &tree->buckets[made - tree->round], *to = &tree->buckets[made];

    while (*from != 0) {
        node_id node = *from - 1;
        if (bucket_idx(tree, &tree->nodes[node].key) != made) {
            from = &tree->next[node];
            continue;
        }
        *from = tree->next[node];
        tree->next[node] = *to;
        *to = node + 1;
    }
    if (tree->n_buckets == 2 * tree->round)
        tree->round *= 2;
}

/* --- nodes --- */

node_id prefix_tree_find(const struct prefix_tree *tree, const struct page_key *key)
{
    node_id node = *bucket_of(tree, key);
    while (node != 0 && !page_key_equal(&tree->nodes[node - 1].key, key))
        node = tree->next[node - 1];
    return node - 1; /* 0 gives NODE_NONE */
}

bool prefix_tree_holds(const struct prefix_tree *tree, node_id node,
                       const uint32_t ids[PAGE_TOKENS])
{
    const uint32_t *own = tree->ids + (size_t)node * PAGE_TOKENS;
    uint32_t differs = prefix_tree_at(tree, node)->is_wide;
    for (int i = 0; i < PAGE_TOKENS; i++)
        differs |= own[i] ^ ids[i];
    return differs == 0;
}

static void put_units(struct prefix_tree *tree, node_id node, const uint64_t units[PAGE_TOKENS])
{
    uint32_t *own = tree->ids + (size_t)node * PAGE_TOKENS;
    uint64_t bits = 0;
    for (int i = 0; i < PAGE_TOKENS; i++) {
        own[i] = (uint32_t)units[i];
        bits |= units[i];
    }
    tree->nodes[node].is_wide = bits > UINT32_MAX;
}

node_id prefix_tree_insert(struct prefix_tree *tree, node_id parent, const struct page_key *key,
                           const uint64_t units[PAGE_TOKENS])
{
    node_id node = tree->first_free - 1;
    if (node != NODE_NONE)
        tree->first_free = tree->next[node];
    else if (tree->end < tree->capacity)
        node = tree->end++;
    else
        return NODE_NONE;

    tree->n++;
    struct prefix_node *made = &tree->nodes[node];
    *made = (struct prefix_node){.key = *key, .parent = parent, .depth = 1};
    for (int g = 0; g < KV_GROUPS_MAX; g++)
        made->pages[g] = PAGE_NONE;
    if (parent != NODE_NONE) {
        struct prefix_node *above = prefix_tree_at(tree, parent);
        above->n_children++;
        made->depth = above->depth + 1;
    }
    put_units(tree, node, units);
    if (tree->n > tree->n_buckets)
        split_bucket(tree);
    node_id *bucket = bucket_of(tree, key);
    tree->next[node] = *bucket;
    *bucket = node + 1;
    return node;
}

void prefix_tree_remove(struct prefix_tree *tree, node_id node)
{
    struct prefix_node *gone = prefix_tree_at(tree, node);
    node_id *link = bucket_of(tree, &gone->key);

    assert(gone->n_children == 0);
    while (*link != node + 1)
        link = &tree->next[*link - 1];
    *link = tree->next[node];
    if (gone->parent != NODE_NONE)
        prefix_tree_at(tree, gone->parent)->n_children--;
    gone->depth = 0;
    tree->next[node] = tree->first_free;
    tree->first_free = node + 1;
    tree->n--;
}

uint32_t prefix_tree_end(const struct prefix_tree *tree)
{
    return tree->end;
}

bool prefix_tree_is_in(const struct prefix_tree *tree, node_id node)
{
    return node < tree->end && tree->nodes[node].depth > 0;
}

/* Sums over parents tell what the children's counters say without memory of its own. */
int prefix_tree_check(const struct prefix_tree *tree, struct why *why)
{
    uint64_t n_in = 0, n_children = 0, n_inner = 0;
    for (node_id node = 0; node < tree->end; node++) {
        const struct prefix_node *here = &tree->nodes[node];
        if (here->depth == 0)
            continue;
        n_in++;
        n_children += here->n_children;
        n_inner += here->parent != NODE_NONE;
        uint32_t above = 0;
        if (here->parent != NODE_NONE) {
            if (!prefix_tree_is_in(tree, here->parent) ||
                tree->nodes[here->parent].n_children == 0)
                return refuse(why, STATUS_INTERNAL, "node %u: its parent %u is not in", node,
                              here->parent);
            above = tree->nodes[here->parent].depth;
        }
        if (here->depth != above + 1)
            return refuse(why, STATUS_INTERNAL, "node %u: depth %u below depth %u", node,
                          here->depth, above);
        if (prefix_tree_find(tree, &here->key) != node)
            return refuse(why, STATUS_INTERNAL, "node %u is not found by its key", node);
    }
    if (n_in != tree->n || n_children != n_inner)
        return refuse(why, STATUS_INTERNAL, "%u nodes told, %llu in; %llu children told, %llu are",
                      tree->n, (unsigned long long)n_in, (unsigned long long)n_children,
                      (unsigned long long)n_inner);
    return STATUS_OK;
}
