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
 * Invariant (kv_cache_check, after every step in builds with QUIRE_CHECKS): committed <= written <=
 * promised; each table holds exactly the pages of its written positions (that can still be seen);
 * what the device was sent of it is what it holds;
 * refs of each page == number of table entries that name it; own pages and reservation of a
 * sequence make its budget; reserved of a pool == sum of what sequences have not yet taken.
 * Thread: engine only. Nothing here allocates after create.
 */
#ifndef QUIRE_KVCACHE_KV_CACHE_H
#define QUIRE_KVCACHE_KV_CACHE_H

#include "kernels/device.h"
#include "kernels/kv_view.h"

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
    /* for pages of all groups; must hold at least one page of each. One page of padding a group
     * comes on top. */
    uint64_t memory_bytes;
    uint32_t max_sequences; /* 1..SEQUENCES_MAX */
    uint32_t max_context;   /* tokens of one sequence */
    /* most uncommitted tokens of one sequence; 0: STEP_ROWS_MAX for each list under way */
    uint32_t max_append;
};

typedef uint32_t kv_seq_id; /* slot of an open sequence */
#define KV_SEQ_NONE UINT32_MAX

struct kv_cache_stats {
    uint64_t page_bytes;      /* one page of every group */
    uint32_t n_pages, n_used; /* pages of 64 tokens of the group that has most of them */
    uint32_t n_reserved, n_available;
    uint32_t n_sequences;
    uint64_t n_tokens_written;
    uint64_t token_bytes;  /* bytes of one token, all groups */
    uint64_t memory_bytes; /* of all pages of all groups */
    uint64_t n_saturated;  /* values that f16 pages clipped, as of the last fetch */
};

/* STATUS_INVALID when the memory holds no page, STATUS_NO_MEMORY. The caller owns *out. */
int kv_cache_create(struct device *device, const struct kv_cache_spec *spec, struct kv_cache **out,
                    struct why *why);
void kv_cache_free(struct kv_cache *cache); /* asserts that every page has come home */

/* Pages that n tokens of a sequence take, and whether they could be promised now, or ever: not more
 * than tokens_max, which the cache and max_context give. */
uint32_t kv_cache_pages_of(const struct kv_cache *cache, uint64_t n_tokens);
bool kv_cache_fits_now(const struct kv_cache *cache, uint64_t n_tokens);
bool kv_cache_fits_ever(const struct kv_cache *cache, uint64_t n_tokens);
uint64_t kv_cache_tokens_max(const struct kv_cache *cache);
/* Most ops that append and fetch_counters enqueue in a list of max_rows rows: sizes the stream. */
uint32_t kv_cache_ops_max(const struct kv_cache *cache, uint32_t max_rows);

/* A sequence of n_promised tokens and n_forks more, each of as many, that will be forked when it
 * has written n_shared (n_forks 0: a sequence alone). */
struct kv_family {
    uint64_t n_promised, n_shared;
    uint32_t n_forks;
};
/* Of the group that sees everything, or of the first. */
uint64_t kv_cache_family_pages(const struct kv_cache *cache, const struct kv_family *family);
bool kv_cache_family_fits_now(const struct kv_cache *cache, const struct kv_family *family);
bool kv_cache_family_fits_ever(const struct kv_cache *cache, const struct kv_family *family);

/* Reserves for n_promised tokens. STATUS_EXHAUSTED (wait: others will leave) or STATUS_TOO_LARGE
 * (never), with needed and free bytes. */
int kv_cache_open(struct kv_cache *cache, uint64_t n_promised, kv_seq_id *out, struct why *why);
/* The same of a family: out[0] is open as by kv_cache_open, out[1..n_forks] write nothing before
 * kv_cache_fork_into. Any of them may be closed at any time. */
int kv_cache_open_family(struct kv_cache *cache, const struct kv_family *family, kv_seq_id *out,
                         struct why *why);
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
/* Keeps the first n; the promise stays. Not below what a fork shared, nor below what a windowed
 * group has dropped (asserted; both never bite above `committed`). */
void kv_cache_truncate(struct kv_cache *cache, kv_seq_id seq, uint64_t n_tokens);
/* A second sequence over the same pages, with a promise of its own; pages are shared until written.
 * All that was written must be committed (asserted). STATUS_* of open; then nothing has changed. */
int kv_cache_fork(struct kv_cache *cache, kv_seq_id seq, uint64_t n_promised, kv_seq_id *out,
                  struct why *why);
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
