/* kvcache/page_pool.h: fixed-size pages of one layer group, lent by id.
 *
 *   page id      0     1     2     3   ...  n_pages-1  padding
 *              +-----+-----+-----+-----+   +-----+     +-----+
 *   memory     |     |     |     |     |   |     |     |     |   page_bytes each, one allocation on
 *              +-----+-----+-----+-----+   +-----+     +-----+   the device
 *   refs          2     1     0     1         0       never lent, counted nowhere
 *   kept          x           x
 *                lent  lent  idle  lent      free
 *
 * A page that is kept outlives its last holder: it is idle then, may be shared again as it is, and
 * counts as free, since its keeper gives it up when nothing else is.
 *
 * Invariant: n_free + n_idle + (pages with refs > 0) == n_pages; a page with refs == 0 that is not
 * kept is on the free list exactly once; n_reserved <= n_free + n_idle.
 * The ids of all pages stand in device memory from the start, so that zeroing and copying a page
 * needs no host memory that would have to outlive the stream.
 * Thread: engine only. Allocates in page_pool_create and nowhere else.
 */
#ifndef QUIRE_KVCACHE_PAGE_POOL_H
#define QUIRE_KVCACHE_PAGE_POOL_H

#include "kernels/device.h"
#include "kernels/kv_view.h"

struct page_pool;
struct stream;
struct why;

/* Takes (n_pages + 1) * page_bytes of device memory and host bookkeeping. The caller owns *out and
 * frees it with page_pool_free.
 * STATUS_NO_MEMORY with needed and free bytes in *why. */
int page_pool_create(struct device *device, uint32_t n_pages, size_t page_bytes,
                     struct page_pool **out, struct why *why);
void page_pool_free(struct page_pool *pool); /* asserts that every page has come home */

/* Who keeps pages: told when one becomes idle and when it is shared again; `reclaim` must drop one
 * idle page at least. Before the first page is kept. */
struct page_keeper {
    void (*on_idle)(void *arg, page_id page);
    void (*on_busy)(void *arg, page_id page);
    void (*reclaim)(void *arg);
    void *arg;
};
void page_pool_set_keeper(struct page_pool *pool, const struct page_keeper *keeper);
void page_pool_keep(struct page_pool *pool, page_id page); /* lent, not kept */
/* Kept no more: an idle page is free again. The keeper is not told. */
void page_pool_drop(struct page_pool *pool, page_id page);

/* Promises n pages to an owner that will acquire them later; STATUS_EXHAUSTED when fewer are free
 * and unpromised. */
int page_pool_reserve(struct page_pool *pool, uint32_t n);
void page_pool_unreserve(struct page_pool *pool, uint32_t n);
/* So that the next n that are acquired are free already: within what is reserved (asserted). */
void page_pool_make_room(struct page_pool *pool, uint32_t n);
/* Lends a page with refs = 1 out of the owner's reservation (asserted); the caller zeroes it by
 * ops->page_zero. O(1), and the keeper's time when only idle ones are left. */
page_id page_pool_acquire(struct page_pool *pool);
/* refs + 1; lent, or idle with one page more available than is reserved */
void page_pool_share(struct page_pool *pool, page_id page);
bool page_pool_release(struct page_pool *pool, page_id page); /* refs - 1; true: nobody's now */

/* Who acquired a page owns it, and has another in its place when it gives the page back. If others
 * hold it then, that is a page more: they reserve it when they share, once for all of them. It
 * goes back when the owner is alone again. */
bool page_pool_costs(const struct page_pool *pool, page_id page); /* share_owned takes a page */
void page_pool_share_owned(struct page_pool *pool, page_id page); /* one available if it costs */
/* The owner leaves; its reservation is one more. */
void page_pool_give_back(struct page_pool *pool, page_id page);
/* The only holder, whose it is not yet, owns it from now on: out of its reservation. */
void page_pool_own(struct page_pool *pool, page_id page);
void page_pool_disown(struct page_pool *pool, page_id page); /* its owner shares it as others do */
bool page_pool_is_owed(const struct page_pool *pool, page_id page); /* such a page is reserved */

/* Enqueues: pages first .. first + n - 1 to zero; one page as another. */
void page_pool_zero(const struct page_pool *pool, page_id first, uint32_t n,
                    struct stream *stream);
void page_pool_copy(const struct page_pool *pool, page_id from, page_id to,
                    struct stream *stream);

uint8_t *page_pool_base(const struct page_pool *pool); /* device */
size_t page_pool_page_bytes(const struct page_pool *pool);
uint32_t page_pool_n_pages(const struct page_pool *pool);
page_id page_pool_padding(const struct page_pool *pool); /* zeroed at first; anybody may write it */
uint32_t page_pool_n_free(const struct page_pool *pool);      /* reserved ones included */
uint32_t page_pool_n_idle(const struct page_pool *pool);
uint32_t page_pool_n_available(const struct page_pool *pool); /* free or idle, not reserved */
uint32_t page_pool_n_reserved(const struct page_pool *pool);
uint32_t page_pool_refs(const struct page_pool *pool, page_id page);
bool page_pool_is_kept(const struct page_pool *pool, page_id page);
int page_pool_check(const struct page_pool *pool,
                    struct why *why); /* the invariant; STATUS_INTERNAL names what is broken */

#endif
