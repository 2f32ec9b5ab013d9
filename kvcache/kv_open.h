/* kvcache/kv_open.h: the pages of one group that are being written, when the group packs its full
 * ones: their rows, in a small pool with tables of its own.
 *
 *   sequence   committed 150   written 210, 60 of them may still be taken back
 *
 *   group      | packed | packed | packed | a place |     tables and pool of kv_group.h
 *   page index   0        1        2        3
 *   open                           | rows | rows    |     here
 *
 * The step that fills a page packs it (page_seal); its rows stay until all its tokens are
 * committed, so that a page whose guesses are taken back is written on and packed again. Memory of
 * packed pages thus grows with tokens, that of rows with sequences and rows of a step.
 *
 * Invariant: a sequence has the rows of exactly pages [committed / 64, pages that hold `written`
 * tokens); refs of each page == number of tables that name it. The pool never runs out: it has a
 * page for each sequence, and those that max_uncommitted tokens reach into beyond.
 * Thread: engine only. Allocates in kv_open_init and nowhere else. Of a group that does not pack
 * `pool` is NULL and every function does nothing.
 */
#ifndef QUIRE_KVCACHE_KV_OPEN_H
#define QUIRE_KVCACHE_KV_OPEN_H

#include "kvcache/kv_cache.h"
#include "kvcache/kv_tables.h"
#include "kvcache/page_pool.h"

struct kv_open {
    struct page_pool *pool;
    size_t layer_stride;
    struct kv_tables tables; /* a slot for each sequence, and behind them one for padding */
};

/* Pages whose rows so many sequences have at most, with so many uncommitted tokens together. */
uint32_t kv_open_pages(uint32_t max_sequences, uint64_t max_uncommitted);
/* Of one group: pages of rows that a sequence has at most; bytes of all of them, 0 where nothing
 * packs. */
uint32_t kv_open_capacity(const struct kv_cache_spec *spec, const struct kv_group_spec *group);
uint64_t kv_open_bytes(const struct ops *ops, const struct kv_cache_spec *spec,
                       const struct kv_group_spec *group);

/* `open` is zeroed; on failure the caller releases it all the same. STATUS_NO_MEMORY. */
int kv_open_init(struct kv_open *open, struct device *device, const struct kv_cache_spec *spec,
                 const struct kv_group_spec *group, struct why *why);
void kv_open_release(struct kv_open *open);

/* Rows for the positions from `written` to the end of page end - 1; a last page that others write
 * too is copied first. */
void kv_open_extend(struct kv_open *open, struct page_table *table, uint64_t written, uint32_t end,
                    struct stream *stream);
void kv_open_commit(struct kv_open *open, struct page_table *table, uint64_t committed);
/* Keeps the pages before `end`. */
void kv_open_shrink(struct kv_open *open, struct page_table *table, uint32_t end);
void kv_open_share(struct kv_open *open, struct page_table *from, struct page_table *to);
void kv_open_close(struct kv_open *open, struct page_table *table);
void kv_open_send(struct kv_open *open, uint32_t slot, struct page_table *table,
                  struct stream *stream);
void kv_open_view(const struct kv_open *open, struct kv_open_view *out);

/* References of all pages. */
uint64_t kv_open_n_named(const struct kv_open *open);
/* That the table is what a sequence with so many tokens has. STATUS_INTERNAL. */
int kv_open_check(const struct kv_open *open, uint32_t slot, const struct page_table *table,
                  uint64_t committed, uint64_t written, struct why *why);

#endif
