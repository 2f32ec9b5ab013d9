/* kvcache/kv_cache.h: the paged cache: groups of layers, their pools, and the block tables of
 * sequences.
 *
 *   sequence 7   written  130 tokens        group 0:  table [ 12 | 40 | 41 ]     pages of 64 tokens
 *                committed 128                                  FULL FULL OPEN
 *                promised 300 -> 5 pages     reserved: 2 more
 *
 * Life of a sequence: kv_cache_open reserves the pages of everything promised -> append (takes
 * pages from the reservation and zeroes them) -> the step writes -> commit (accepted tokens; a page
 * is full when all its 64 are) or truncate -> kv_cache_close.
 *
 * A group that looks at a window or chunk only keeps the pages that a query at the first
 * uncommitted position or later can see; commit drops the others. Its promise is that of the window
 * and one append, however long the sequence.
 *
 * Sharing: fork lets two sequences hold the same pages. Who writes first into a shared page that is
 * half full gets a copy (the last one left keeps the page); the promise of each holds that page. A
 * family is promised as a whole before there is anything to share: one sequence that reads, and
 * slots that wait for their fork of it.
 *
 * Prefixes: a full page of which the ids are known is remembered by its key (page_key.h), and stays
 * when its sequence has closed, until its memory is wanted. Who opens a sequence may begin with the
 * longest prefix that is there, whole pages, by reference:
 *
 *   match -> open_family with the match -> kv_cache_chain -> append, commit_ids, ... -> close
 *
 * Invariant (kv_cache_check, after every step in builds with QUIRE_CHECKS): committed <= written <=
 * promised; each table holds exactly the pages of its written positions (that can still be seen);
 * what the device was sent of it is what it holds;
 * refs of each page == number of table entries and pins that name it; own pages and reservation of
 * a sequence make its budget; reserved of a pool == sum of what sequences have not yet taken, and
 * of what owners of shared windows are owed.
 * Thread: engine only. Nothing here allocates after create.
 */
#ifndef QUIRE_KVCACHE_KV_CACHE_H
#define QUIRE_KVCACHE_KV_CACHE_H

#include "kernels/device.h"
#include "kernels/kv_view.h"
#include "kvcache/page_key.h"

struct kv_cache;
struct stream;
struct why;

struct kv_group_spec {
    enum kv_kind kind;
    uint32_t window;
    struct kv_shape shape;
    uint32_t n_layers;
    enum kv_dtype dtype;
};

struct kv_cache_spec {
    uint32_t n_groups;
    struct kv_group_spec groups[KV_GROUPS_MAX];
    /* for pages of all groups, the rows of those being written too (kv_open.h); must hold at least
     * one page of each. One page of padding a group comes on top. */
    uint64_t memory_bytes;
    uint32_t max_sequences; /* 1..SEQUENCES_MAX */
    uint32_t max_context;   /* tokens of one sequence */
    /* most uncommitted tokens of one sequence; 0: STEP_ROWS_MAX for each list under way */
    uint32_t max_append;
    uint32_t max_uncommitted; /* of all sequences together; 0: as many as of one */
    uint64_t host_bytes; /* of a second tier in memory of the host (kv_host.h); 0: none */
    bool no_prefixes; /* remembers nothing of sequences that ended: to compare with */
};

typedef uint32_t kv_seq_id; /* slot of an open sequence */
#define KV_SEQ_NONE UINT32_MAX

struct kv_cache_stats {
    uint64_t page_bytes;      /* one page of every group */
    /* pages of 64 tokens of the group that sees everything, or of the first */
    uint32_t n_pages, n_used;
    uint32_t n_cached;        /* not used, but remembered; they count as available */
    uint32_t n_reserved, n_available;
    uint32_t n_sequences;
    uint64_t n_tokens_written;
    uint64_t token_bytes;  /* bytes of one token, all groups */
    uint64_t memory_bytes; /* of all pages of all groups */
    uint64_t n_saturated;  /* values that pages of 16 bits cut, as of the last fetch */
    uint64_t n_hit_tokens; /* that sequences took over when they opened */
    uint64_t n_evicted;    /* remembered pages that gave way, all groups */
    /* of the host pool, all groups: pages there are, copied there, and back, ever */
    uint64_t n_host_pages, n_host_used, n_spilled, n_recalled;
};

/* STATUS_INVALID when the memory holds no page, STATUS_NO_MEMORY. The caller owns *out. */
int kv_cache_create(struct device *device, const struct kv_cache_spec *spec, struct kv_cache **out,
                    struct why *why);
void kv_cache_free(struct kv_cache *cache); /* asserts that every page has come home */

/* Of spec->memory_bytes, what the rows of pages being written take; 0 where nothing packs. */
uint64_t kv_cache_open_bytes(const struct device *device, const struct kv_cache_spec *spec);
/* Pages that n tokens of a sequence take, and whether they could ever be promised: not more than
 * tokens_max, which the cache and max_context give. */
uint32_t kv_cache_pages_of(const struct kv_cache *cache, uint64_t n_tokens);
bool kv_cache_fits_ever(const struct kv_cache *cache, uint64_t n_tokens);
uint64_t kv_cache_tokens_max(const struct kv_cache *cache);
/* Most ops that append and fetch_counters enqueue in a list of max_rows rows: sizes the stream. */
uint32_t kv_cache_ops_max(const struct kv_cache *cache, uint32_t max_rows);

/* --- prefixes --- */

/* From here on full pages may be shared: the caller fills weights, rope, adapter, n_ranks and
 * activations; the cache knows the rest. Before it nothing is remembered and nothing matches. */
void kv_cache_identify(struct kv_cache *cache, const struct kv_identity *identity);
bool kv_cache_is_identified(const struct kv_cache *cache);
bool kv_cache_has_host(const struct kv_cache *cache);
/* *root and keys[n_pages] of the pages that ids[n_pages * PAGE_TOKENS] fill, under a salt. About
 * half a microsecond a page. */
void kv_cache_name_pages(struct kv_cache *cache, const void *salt, size_t n_salt,
                         const uint32_t *ids, uint32_t n_pages, struct page_key *root,
                         struct page_key *keys);
/* The same on any thread, by a running digest of its own, once it knows that the cache is
 * identified. */
void kv_cache_name_apart(const struct kv_cache *cache, struct sha256 *hash, const void *salt,
                         size_t n_salt, const uint32_t *ids, uint32_t n_pages,
                         struct page_key *root, struct page_key *keys);
/* Keys of pages that go on behind the one of `previous`. */
void kv_cache_name_more(struct kv_cache *cache, const uint32_t *ids, uint32_t n_pages,
                        const struct page_key *previous, struct page_key *keys);

/* The whole pages that a prompt may take from the cache: without the page of its last token, which
 * is always computed. Borrowed. */
struct kv_prefix {
    const uint32_t *ids;         /* [n_pages * PAGE_TOKENS] */
    const struct page_key *keys; /* [n_pages] */
    uint32_t n_pages;
};

/* Why a match is not longer. */
enum kv_match_end {
    KV_MATCH_UNNAMED,  /* there are no keys yet: the weights' digest is not known */
    KV_MATCH_WHOLE,    /* nothing more could match */
    KV_MATCH_ABSENT,   /* nothing that was stored goes on from there; it may have been evicted */
    KV_MATCH_DIVERGED, /* what was stored goes on otherwise */
    KV_MATCH_WINDOW,   /* it goes on, but a windowed group has dropped its pages there */
    KV_MATCH_ROOM      /* windows beside new pages would not fit */
};

struct kv_match {
    uint32_t n_pages;
    uint32_t node;                   /* of the last, or UINT32_MAX */
    uint32_t n_taken[KV_GROUPS_MAX]; /* pages that are available no more when it is taken */
    enum kv_match_end end;
};
#define KV_SEARCH_PAGES 64
/* The longest there is, as of now: any call that changes the cache makes it stale. prefix may be
 * NULL. Where windows have given way any end among the last KV_SEARCH_PAGES that are known, or one
 * of a snapshot (limits.h) farther before. O(log n_pages), those, and the pages of a window. */
void kv_cache_match(const struct kv_cache *cache, const struct kv_prefix *prefix,
                    struct kv_match *out);
/* That the ids of all its pages are those of the prefix, as equal keys promise. O(n_pages). */
bool kv_cache_verify(const struct kv_cache *cache, const struct kv_prefix *prefix,
                     const struct kv_match *match);
/* The sequence's full pages will be known: who waits for them waits for something. */
bool kv_cache_is_chained(const struct kv_cache *cache, kv_seq_id seq);
/* The sequence's full pages are remembered from here on: ids of all its committed tokens, root of
 * its keys. Later ones come by kv_cache_commit_ids; a kv_cache_commit ends it. */
void kv_cache_chain(struct kv_cache *cache, kv_seq_id seq, const struct page_key *root,
                    const uint32_t *ids);

/* What is there of a prefix does not give way until it is unpinned; *n_pages of it. A time to live
 * is the caller's. STATUS_NOT_FOUND: nothing is there; STATUS_EXHAUSTED: PINS_MAX are pinned, or
 * one of PINNED_SHARE parts of a group's pages would be, or they are promised to sequences.
 * O(pages). */
int kv_cache_pin(struct kv_cache *cache, const struct kv_prefix *prefix, uint32_t *out,
                 uint32_t *n_pages, struct why *why);
void kv_cache_unpin(struct kv_cache *cache, uint32_t pin);

/* --- promises --- */

/* A sequence of n_promised tokens and n_forks more, each of as many, that will be forked when it
 * has written n_shared (n_forks 0: a sequence alone). */
struct kv_family {
    uint64_t n_promised, n_shared;
    uint32_t n_forks;
    /* what the first of them begins with, fresh; at most n_shared, or n_promised - 1, tokens */
    struct kv_match match;
};
/* The longest match with which the family fits now; none, where only that fits. */
void kv_cache_match_family(const struct kv_cache *cache, const struct kv_prefix *prefix,
                           struct kv_family *family);
/* Of the group that sees everything, or of the first. */
uint64_t kv_cache_family_pages(const struct kv_cache *cache, const struct kv_family *family);
/* Of all groups: of one with a window no more than that. */
uint64_t kv_cache_family_bytes(const struct kv_cache *cache, const struct kv_family *family);
bool kv_cache_family_fits_now(const struct kv_cache *cache, const struct kv_family *family);
bool kv_cache_family_fits_ever(const struct kv_cache *cache, const struct kv_family *family);

/* Reserves for n_promised tokens. STATUS_EXHAUSTED (wait: others will leave) or STATUS_TOO_LARGE
 * (never), with needed and free bytes. */
int kv_cache_open(struct kv_cache *cache, uint64_t n_promised, kv_seq_id *out, struct why *why);
/* The same of a family: out[0] is open as by kv_cache_open, with its match written and committed;
 * out[1..n_forks] write nothing before
 * kv_cache_fork_into. Any of them may be closed at any time. */
int kv_cache_open_family(struct kv_cache *cache, const struct kv_family *family, kv_seq_id *out,
                         struct why *why);
/* A sequence that has written nothing but its match, nor been forked, takes the longest match there
 * is now: no shorter one. The family is that which it was opened with; its match is of no account.
 * Its chain ends: see kv_cache_chain. A part of what the host pool has of it is matched with it: on
 * its way from here on, behind what is under way on `steps`, where nothing is half enqueued. True:
 * more is left, call again. */
bool kv_cache_match_again(struct kv_cache *cache, kv_seq_id seq, const struct kv_family *family,
                          const struct kv_prefix *prefix, const struct stream *steps,
                          struct kv_match *out);
/* Pages of the sequence are on their way out of the host pool: nothing that reads them is enqueued
 * before this says no. It never waits for a GPU; a CPU's are here when they were matched. */
bool kv_cache_is_arriving(struct kv_cache *cache, kv_seq_id seq);
/* `to`, of from's family, shares what `from` has: n_shared tokens, all committed (asserted). */
void kv_cache_fork_into(struct kv_cache *cache, kv_seq_id from, kv_seq_id to);
void kv_cache_close(struct kv_cache *cache, kv_seq_id seq); /* pages and reservation go back */
/* Makes room for n more tokens (within the promise and max_append, asserted): enqueues the zeroing
 * of new pages, the copy of a shared open page, and what has changed in the sequence's tables since
 * its last append. Once a sequence in each list of the stream, with fewer than device_depth lists
 * under way (asserted). */
void kv_cache_append(struct kv_cache *cache, kv_seq_id seq, uint32_t n, struct stream *stream);
/* n more tokens are accepted. The stream must have passed what was appended. */
void kv_cache_commit(struct kv_cache *cache, kv_seq_id seq, uint32_t n);
/* The same, and these are they. */
void kv_cache_commit_ids(struct kv_cache *cache, kv_seq_id seq, const uint32_t *ids, uint32_t n);
/* Keeps the first n; the promise stays. Not below what a fork shared or a prefix remembers, nor
 * below what a windowed group has dropped, nor into a packed page whose rows are gone: where a
 * group packs, below `committed` to the end of a page alone (asserted; none bites above
 * `committed`). */
void kv_cache_truncate(struct kv_cache *cache, kv_seq_id seq, uint64_t n_tokens);
uint64_t kv_cache_written(const struct kv_cache *cache, kv_seq_id seq);
uint64_t kv_cache_committed(const struct kv_cache *cache, kv_seq_id seq);

/* What ops read pages by; the same from create to free. The slot of a sequence in the tables is its
 * kv_seq_id. */
void kv_cache_view(const struct kv_cache *cache, struct kv_view *out);
/* A slot of no sequence, whose positions 0..PAGE_TOKENS-1 stand in pages of its own that nobody
 * reads: for rows that fill up a batch. Rows of one step take different positions. */
kv_seq_id kv_cache_padding(const struct kv_cache *cache);
/* Enqueues, behind the step, the reading of what the device counted. */
void kv_cache_fetch_counters(struct kv_cache *cache, struct stream *stream);
void kv_cache_read_stats(const struct kv_cache *cache, struct kv_cache_stats *out);
/* The invariant; STATUS_INTERNAL names what is broken. Allocates nothing; its time is that of all
 * tables. */
int kv_cache_check(struct kv_cache *cache, struct why *why);

#endif
