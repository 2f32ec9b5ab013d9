/* kvcache/kv_state.h: what the files of the cache share: its sequences, groups and counters. Nobody
 * outside this room includes it.
 *
 *   kv_memory.c    pages of each group       kv_sequence.c   fork, append, commit, truncate, close
 *   kv_cache.c     create, views, stats      kv_prefix.c     what sequences share with the past
 *   kv_promise.c   what fits, reservations   kv_pin.c        what does not give way
 *   kv_recall.c    what the host has of them kv_check.c      the invariant
 *   kv_relief.c    what would be free if some sequences closed
 *
 * Thread: engine only.
 */
#ifndef QUIRE_KVCACHE_KV_STATE_H
#define QUIRE_KVCACHE_KV_STATE_H

#include "kvcache/kv_cache.h"
#include "kvcache/kv_group.h"
#include "kvcache/kv_keeper.h"

struct ops;

/* What a sequence has computed, as the tree will know it. */
struct kv_chain {
    bool is_live;    /* its ids are known, and full pages are remembered */
    node_id node;    /* of its last page that is in the tree; held. NODE_NONE: none */
    uint32_t sealed; /* pages of it that the tree knows, or knew: never truncated below */
    struct page_key last; /* their last key, or the root */
    uint32_t n_units;     /* of the page behind them */
    uint64_t units[PAGE_TOKENS];
};

struct kv_sequence {
    bool is_open;
    uint64_t promised, written, committed;
    /* written at the last fork, or, of one that waits for its fork, then: never truncated below */
    uint64_t shared;
    uint32_t spare[KV_GROUPS_MAX]; /* pages beyond the budget: of a family before its fork */
    struct page_table tables[KV_GROUPS_MAX];
    struct page_table open[KV_GROUPS_MAX]; /* of rows; of groups that pack */
    struct kv_chain chain;
};

struct kv_pin {
    node_id node; /* the last; NODE_NONE: of nothing */
    uint32_t n_pages;
};

struct kv_relief { /* the question of kv_relief.h */
    struct kv_family family;
    uint32_t n_slots, n_pages[KV_GROUPS_MAX]; /* that those in would leave */
};

struct kv_cache {
    struct device *device;
    struct kv_cache_spec spec;
    uint32_t n_groups;
    struct kv_group groups[KV_GROUPS_MAX];
    struct kv_sequence *sequences; /* [max_sequences] */
    page_id *tables;               /* memory of all tables */
    kv_seq_id *free;               /* [n_free], a stack */
    uint32_t n_free;
    uint64_t *n_saturated;      /* device */
    uint64_t *n_saturated_seen; /* of device_alloc_host */
    struct kv_keeper keeper;    /* its tree is NULL: nothing is shared */
    struct kv_host *host;       /* NULL: none */
    struct sha256 *hash;
    struct kv_identity identity;
    bool is_identified;
    uint64_t n_hit_tokens;
    struct kv_pin pins[PINS_MAX];
    struct kv_relief relief;
};

/* Open (asserted). */
struct kv_sequence *kv_sequence_at(const struct kv_cache *cache, kv_seq_id seq);
/* Pages of group g that were promised to it and that it has not taken yet. */
uint32_t kv_sequence_reserved(const struct kv_cache *cache, const struct kv_sequence *sequence,
                              uint32_t g);

/* Pages and reservation go back, and it has nothing in it. */
void kv_sequence_clear(struct kv_cache *cache, struct kv_sequence *sequence);

/* The group whose pages are told for all, since the others keep windows: the first that sees
 * everything, or the first. */
uint32_t kv_leading_group(const struct kv_cache *cache);
/* n_pages[group] out of spec->memory_bytes. STATUS_INVALID: not one of each. */
int kv_memory_share(const struct ops *ops, const struct kv_cache_spec *spec, uint32_t *n_pages,
                    struct why *why);

/* With so many slots and pages[group] beside those that are free now. */
bool kv_promise_fits_with(const struct kv_cache *cache, const struct kv_family *family,
                          uint32_t n_slots, const uint32_t *n_pages);
/* extra[group] pages of all groups, or false and nothing. */
bool kv_promise_reserve(struct kv_cache *cache, const uint32_t *extra);
/* A closed slot, now open, with nothing in it and n_promised tokens to come, whose pages the caller
 * has reserved. There is one (asserted). */
kv_seq_id kv_promise_take_slot(struct kv_cache *cache, uint64_t n_promised);
/* Pages of a prefix that have nodes: a node that is in has all before it in. */
uint32_t kv_prefix_n_known(const struct kv_cache *cache, const struct kv_prefix *prefix);
/* Of the first n_pages the longest prefix behind which every windowed group has its window, on the
 * device or, with or_on_host, there: any of the last KV_SEARCH_PAGES, or one of a snapshot, or
 * in a chunk. O(pages of windows, and one for each snapshot). */
uint32_t kv_prefix_n_with_windows(const struct kv_cache *cache, const struct kv_prefix *prefix,
                                  uint32_t n_pages, bool or_on_host);
/* The first page index of group g that a sequence needs which goes on behind n pages. */
uint32_t kv_prefix_first_needed(const struct kv_cache *cache, uint32_t g, uint32_t n_pages);
/* A part of what the host pool has of the prefix is on its way to the device, as far as pages are
 * available: kv_cache_is_arriving. True: more is left, or others' pages are on their way. */
bool kv_recall(struct kv_cache *cache, const struct kv_prefix *prefix,
               const struct stream *steps);
/* A page of the node, of a group that sees everything, is on its way: a step would read it before
 * it is here. */
bool kv_recall_is_coming(const struct kv_cache *cache, const struct prefix_node *node);
/* The sequence, open and with nothing in it, holds what was matched; its own pages are reserved. */
void kv_prefix_take(struct kv_cache *cache, struct kv_sequence *sequence,
                    const struct kv_match *match);
/* The next n ids of its committed tokens: pages that they fill are remembered. */
void kv_prefix_feed(struct kv_cache *cache, struct kv_sequence *sequence, const uint32_t *ids,
                    uint64_t n);
void kv_prefix_end_chain(struct kv_cache *cache, struct kv_sequence *sequence);
void kv_prefix_fork_chain(struct kv_cache *cache, const struct kv_sequence *from,
                          struct kv_sequence *to);

/* Adds to `named` of group g the pages that pins hold. */
void kv_pin_count_names(struct kv_cache *cache, uint32_t g);

/* STATUS_TOO_LARGE or STATUS_EXHAUSTED, with numbers. */
int kv_promise_refuse(const struct kv_cache *cache, const struct kv_family *family,
                      struct why *why);

#endif
