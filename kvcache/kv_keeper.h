/* kvcache/kv_keeper.h: the full pages that outlive their sequences, and which of them give way.
 *
 *   leaves     nodes of the tree without children that nobody holds: one leaves whole, and then its
 *              parent may be one
 *   windows    of each windowed group the pages that nobody holds: one leaves, its node stays
 *
 * A group that sees everything is held from the front of a prefix on, so that what is idle in it
 * are the ends of branches: while a page of it is idle there is a leaf. Its pages leave with their
 * nodes; those of windowed groups leave alone.
 *
 * Least worth: what was used longest ago, where a deep page counts as used a little later than a
 * shallow one, since it costs more to compute again (the logarithm of its depth, in openings of
 * sequences). In windowed groups before all others go pages in the middle of nowhere: those from
 * which no window of a snapshot, or of a sequence's end, is made.
 *
 * With a host pool a page that gives way is copied there (kv_host.h), before others write into it.
 *
 * Thread: engine only. Allocates in kv_keeper_init and nowhere else.
 */
#ifndef QUIRE_KVCACHE_KV_KEEPER_H
#define QUIRE_KVCACHE_KV_KEEPER_H

#include "kvcache/evict.h"
#include "kvcache/kv_group.h"
#include "kvcache/kv_host.h"
#include "kvcache/prefix_tree.h"

struct kv_keeper;

struct kv_keeper_group { /* what the pool's calls come with */
    struct kv_keeper *keeper;
    const struct kv_group *group;
    uint32_t g;
    node_id *node_of; /* [n_pages]: whose page it is, + 1; 0: not kept */
    struct evict *windows; /* NULL: of a group that sees everything */
};

struct kv_keeper {
    uint32_t n_groups;
    struct kv_keeper_group groups[KV_GROUPS_MAX];
    struct prefix_tree *tree;
    struct evict *leaves;
    struct kv_host *host; /* where pages go that give way; NULL: nowhere */
    uint64_t age; /* grows with each opening and closing of a sequence */
    bool is_closing; /* what becomes idle now is the window of a sequence's end */
    uint64_t n_evicted;
};

/* `keeper` is zeroed, and stays where it is; on failure the caller releases it all the same.
 * STATUS_NO_MEMORY. */
int kv_keeper_init(struct kv_keeper *keeper, struct kv_group *groups, uint32_t n_groups,
                   struct why *why);
/* Every page that it keeps goes home: nobody holds one. */
void kv_keeper_release(struct kv_keeper *keeper);

/* The node of a page that is full, of a sequence whose pages before it are those of `parent`;
 * NODE_NONE when all nodes are busy. */
node_id kv_keeper_insert(struct kv_keeper *keeper, node_id parent, const struct page_key *key,
                         const uint64_t units[PAGE_TOKENS]);
/* The node has none of the group yet; somebody holds the page. */
void kv_keeper_keep(struct kv_keeper *keeper, node_id node, uint32_t g, page_id page);
/* A chain goes on from here: the node stays. NODE_NONE: nothing. */
void kv_keeper_hold(struct kv_keeper *keeper, node_id node);
void kv_keeper_unhold(struct kv_keeper *keeper, node_id node);

/* n_chains: nodes that are held. The invariant; STATUS_INTERNAL. O(pages). */
int kv_keeper_check(const struct kv_keeper *keeper, uint64_t n_chains, struct why *why);

#endif
