/* kvcache/page_pool.h: fixed-size pages of one layer group, lent by id.
 *
 *   page id      0     1     2     3   ...  n_pages-1  padding
 *              +-----+-----+-----+-----+   +-----+     +-----+
 *   memory     |     |     |     |     |   |     |     |     |   page_bytes each, one allocation on
 *              +-----+-----+-----+-----+   +-----+     +-----+   the device
 *   refs          2     1     0     1         0       never lent, counted nowhere
 *
 * Invariant: n_free + (pages with refs > 0) == n_pages; a page with refs == 0 is on the free list
 * exactly once; n_reserved <= n_free.
 * Thread: engine only. Allocates in page_pool_create and nowhere else.
 */
#ifndef QUIRE_KVCACHE_PAGE_POOL_H
#define QUIRE_KVCACHE_PAGE_POOL_H

#include "kernels/device.h"
#include "kernels/kv_view.h"

struct page_pool;
struct why;

/* Takes (n_pages + 1) * page_bytes of device memory and host bookkeeping. The caller owns *out and
 * frees it with page_pool_free.
 * STATUS_NO_MEMORY with needed and free bytes in *why. */
int page_pool_create(struct device *device, uint32_t n_pages, size_t page_bytes,
                     struct page_pool **out, struct why *why);
void page_pool_free(struct page_pool *pool); /* asserts that every page has come home */

/* Promises n pages to an owner that will acquire them later; STATUS_EXHAUSTED when fewer are free
 * and unpromised. */
int page_pool_reserve(struct page_pool *pool, uint32_t n);
void page_pool_unreserve(struct page_pool *pool, uint32_t n);
/* Lends a page with refs = 1 out of the owner's reservation (asserted); the caller zeroes it by
 * ops->page_zero. O(1). */
page_id page_pool_acquire(struct page_pool *pool);
void page_pool_share(struct page_pool *pool, page_id page); /* refs + 1; page must be lent */
bool page_pool_release(struct page_pool *pool,
                       page_id page); /* refs - 1; true if the page is free again */

uint8_t *page_pool_base(const struct page_pool *pool); /* device */
size_t page_pool_page_bytes(const struct page_pool *pool);
uint32_t page_pool_n_pages(const struct page_pool *pool);
page_id page_pool_padding(const struct page_pool *pool); /* zeroed at first; anybody may write it */
uint32_t page_pool_n_free(const struct page_pool *pool);      /* reserved ones included */
uint32_t page_pool_n_available(const struct page_pool *pool); /* free and not reserved */
uint32_t page_pool_n_reserved(const struct page_pool *pool);
uint32_t page_pool_refs(const struct page_pool *pool, page_id page);
int page_pool_check(const struct page_pool *pool,
                    struct why *why); /* the invariant; STATUS_INTERNAL names what is broken */

#endif
