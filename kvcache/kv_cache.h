/* kvcache/kv_cache.h: the paged cache: groups of layers, their pools, and the block tables of
 * sequences.
 *
 *   sequence 7   written  130 tokens         group 0:  table [ 12 | 40 | 41 ]      pages of 64 tokens
 *                committed 128                                  FULL  FULL  OPEN
 *                promised 300 -> 5 pages     reserved: 2 more
 *
 * Life of a sequence: kv_cache_open reserves the pages of everything promised -> append (takes
 * pages from the reservation and zeroes them)
 * -> the step writes -> commit (accepted tokens; a page is sealed when all its 64 are) or truncate
 * -> kv_cache_close.
 *
 * Invariant (kv_cache_check, after every step in builds with QUIRE_CHECKS): committed <= written <=
 * promised; each table holds exactly the pages of its written positions; refs of each page ==
 * number of table entries that name it; reserved == sum of what sequences have not yet taken.
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
    uint64_t memory_bytes;       /* for pages of all groups; must hold at least one page of each */
    uint32_t max_sequences;      /* 1..SEQUENCES_MAX */
    uint32_t max_context;        /* tokens of one sequence */
};

typedef uint32_t kv_seq_id;      /* slot of an open sequence */
#define KV_SEQ_NONE UINT32_MAX

struct kv_cache_stats {
    uint64_t page_bytes;         /* one page of every group */
    uint32_t n_pages, n_used, n_reserved, n_available; /* in pages of 64 tokens of all groups together */
    uint32_t n_sequences;
    uint64_t n_tokens_written;
    uint64_t token_bytes;        /* bytes of one token, all groups */
};

int kv_cache_create(struct device *device, const struct kv_cache_spec *spec, struct kv_cache **out, struct why *why);
void kv_cache_free(struct kv_cache *cache);

/* Pages that n tokens of a sequence take, and whether they could be promised now; never: more than
 * the whole cache. */
uint32_t kv_cache_pages_of(const struct kv_cache *cache, uint64_t n_tokens);
bool kv_cache_fits_now(const struct kv_cache *cache, uint64_t n_tokens);
bool kv_cache_fits_ever(const struct kv_cache *cache, uint64_t n_tokens);

/* Reserves for n_promised tokens. STATUS_EXHAUSTED (wait: others will leave) or STATUS_TOO_LARGE
 * (never), with needed and free bytes. */
int kv_cache_open(struct kv_cache *cache, uint64_t n_promised, kv_seq_id *out, struct why *why);
void kv_cache_close(struct kv_cache *cache, kv_seq_id seq); /* pages and reservation go back */
/* Makes room for n more tokens (within the promise, asserted); new pages are zeroed on the stream,
 * a shared open page is copied. */
void kv_cache_append(struct kv_cache *cache, kv_seq_id seq, uint32_t n, struct stream *stream);
void kv_cache_commit(struct kv_cache *cache, kv_seq_id seq, uint32_t n);      /* n more tokens are accepted */
void kv_cache_truncate(struct kv_cache *cache, kv_seq_id seq, uint64_t n_tokens); /* keep the first n; the promise stays */
/* A second sequence over the same pages, with a promise of its own; pages are shared until written.
 * STATUS_* of open. */
int kv_cache_fork(struct kv_cache *cache, kv_seq_id seq, uint64_t n_promised, kv_seq_id *out, struct why *why);
uint64_t kv_cache_written(const struct kv_cache *cache, kv_seq_id seq);
uint64_t kv_cache_committed(const struct kv_cache *cache, kv_seq_id seq);

/* Fills a view of these sequences for one step and enqueues the upload of their tables; the cache
 * owns the memory, one view at a time. */
void kv_cache_view(struct kv_cache *cache, const kv_seq_id *seqs, uint32_t n_seqs, struct stream *stream,
                   struct kv_view *out);
void kv_cache_read_stats(const struct kv_cache *cache, struct kv_cache_stats *out);
int kv_cache_check(const struct kv_cache *cache, struct why *why);

#endif
