/* kvcache/prefix_tree.h: the full pages that the cache remembers, as a tree over their keys.
 *
 *   root of a salt        keys of page 0      page 1        page 2
 *        .  ---------------- [ k0 ] ---------- [ k1 ] ------- [ k2 ]     a prompt and its answer
 *                                  '---------- [ k1' ]                   another that began alike
 *
 *   node   key, parent, depth, the 64 ids, and of each group the page that holds their K and V,
 *          or PAGE_NONE: a windowed group may have dropped its
 *
 * Invariant: a node that is in has its parent in, so that what is there of a prompt is a prefix of
 * it, and the deepest of its keys is found by halving. The tree knows nothing of references: who
 * removes a node gives its pages back. Thread: engine only. Allocates in prefix_tree_create and
 * nowhere else; memory is touched as far as it is used.
 */
#ifndef QUIRE_KVCACHE_PREFIX_TREE_H
#define QUIRE_KVCACHE_PREFIX_TREE_H

#include "kernels/kv_view.h"
#include "kvcache/page_key.h"

struct prefix_tree;
struct why;

typedef uint32_t node_id;
#define NODE_NONE UINT32_MAX /* none; as a parent: a root */

struct prefix_node {
    struct page_key key;
    node_id parent;
    uint32_t depth; /* pages up to it, with it: 1 for those at a root */
    uint32_t n_children;
    uint32_t n_busy : 31; /* groups whose page somebody holds, and chains that go on from here */
    uint32_t is_wide : 1; /* a unit is no token id: whatever is asked, it holds other ones */
    uint64_t used;   /* when it was busy last */
    page_id pages[KV_GROUPS_MAX];
};

/* STATUS_NO_MEMORY; the caller frees *out. */
int prefix_tree_create(uint32_t n_nodes, struct prefix_tree **out, struct why *why);
void prefix_tree_free(struct prefix_tree *tree);

struct prefix_node *prefix_tree_at(const struct prefix_tree *tree, node_id node); /* it is in */
node_id prefix_tree_find(const struct prefix_tree *tree, const struct page_key *key); /* O(1) */
/* Whether the node's units are these token ids. */
bool prefix_tree_holds(const struct prefix_tree *tree, node_id node,
                       const uint32_t ids[PAGE_TOKENS]);
/* A new node, whose key is not in, without pages. NODE_NONE when all are taken. */
node_id prefix_tree_insert(struct prefix_tree *tree, node_id parent, const struct page_key *key,
                           const uint64_t units[PAGE_TOKENS]);
void prefix_tree_remove(struct prefix_tree *tree, node_id node); /* it has no children */

uint32_t prefix_tree_end(const struct prefix_tree *tree); /* ids are below it; some are not in */
bool prefix_tree_is_in(const struct prefix_tree *tree, node_id node);
/* The invariant; STATUS_INTERNAL names what is broken. O(nodes). */
int prefix_tree_check(const struct prefix_tree *tree, struct why *why);

#endif
