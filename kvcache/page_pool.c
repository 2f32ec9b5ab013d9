#include "kvcache/page_pool.h"

#include <assert.h>
#include <stdlib.h>

#include "base/status.h"
#include "base/text.h"
#include "kernels/ops.h"

struct page_pool {
    struct device *device;
    uint8_t *base; /* device [n_pages + 1, page_bytes] */
    size_t page_bytes;
    uint32_t n_pages, n_free, n_idle, n_reserved;
    uint32_t *refs; /* [n_pages] */
    page_id *ids;   /* device [n_pages]: 0, 1, 2, ... */
    /* [n_free]: a stack, so that pages in use stay few and warm; its lowest entries, of those that
     * were never lent, are not written: the lowest id is on top of them */
    page_id *free;
    page_id first_fresh; /* from here on none was ever lent */
    bool *kept;     /* [n_pages] */
    uint8_t *owned; /* [n_pages]: OWNED, OWED */
    struct page_keeper keeper;
};

#define OWNED 1 /* who acquired it holds it */
#define OWED 2  /* others do too, and a page is reserved for when it leaves */

static int refuse_memory(struct device *device, uint32_t n_pages, size_t page_bytes,
                         struct why *why)
{
    char need[TEXT_NUMBER_BYTES], left[TEXT_NUMBER_BYTES];
    return refuse(why, STATUS_NO_MEMORY,
                  "the cache of keys and values needs %s (%u pages) and %s is free; lower "
                  "--kv-memory",
                  text_bytes(need, (uint64_t)n_pages * page_bytes), n_pages,
                  text_bytes(left, device_memory_free(device)));
}

static int fill_ids(struct page_pool *pool, struct why *why)
{
    page_id *ids = malloc(pool->n_pages * sizeof *ids);
    void *memory = NULL;
    int status = STATUS_NO_MEMORY;
    if (ids != NULL)
        status = device_alloc(pool->device, pool->n_pages * sizeof *ids, &memory, why);
    if (status == STATUS_OK) {
        for (uint32_t i = 0; i < pool->n_pages; i++)
            ids[i] = i;
        pool->ids = memory;
        status = device_upload(pool->device, memory, ids, pool->n_pages * sizeof *ids);
    }
    free(ids);
    return status;
}

static void free_all(struct page_pool *pool)
{
    device_free(pool->device, pool->base);
    device_free(pool->device, pool->ids);
    free(pool->refs);
    free(pool->free);
    free(pool->kept);
    free(pool->owned);
    free(pool);
}

int page_pool_create(struct device *device, uint32_t n_pages, size_t page_bytes,
                     struct page_pool **out, struct why *why)
{
    assert(n_pages > 0 && page_bytes > 0);
    struct page_pool *pool = calloc(1, sizeof *pool);
    if (pool == NULL)
        return refuse_memory(device, n_pages, page_bytes, why);
    *pool = (struct page_pool){.device = device, .page_bytes = page_bytes, .n_pages = n_pages};
    pool->refs = calloc(n_pages, sizeof *pool->refs);
    pool->free = calloc(n_pages, sizeof *pool->free);
    pool->kept = calloc(n_pages, sizeof *pool->kept);
    pool->owned = calloc(n_pages, sizeof *pool->owned);
    void *base = NULL;
    int status = STATUS_NO_MEMORY;
    size_t n_all = (size_t)n_pages + 1;
    if (pool->refs != NULL && pool->free != NULL && pool->kept != NULL && pool->owned != NULL &&
        page_bytes <= SIZE_MAX / n_all)
        status = device_alloc(device, n_all * page_bytes, &base, why);
    pool->base = base;
    if (status == STATUS_OK)
        status = fill_ids(pool, why);
    if (status < 0) {
        free_all(pool);
        return refuse_memory(device, n_pages, page_bytes, why);
    }
    pool->n_free = n_pages;
    *out = pool;
    return STATUS_OK;
}

void page_pool_free(struct page_pool *pool)
{
    if (pool == NULL)
        return;
    assert(pool->n_free == pool->n_pages && pool->n_reserved == 0);
    free_all(pool);
}

static uint32_t n_fresh(const struct page_pool *pool)
{
    return pool->n_pages - pool->first_fresh;
}

static page_id free_at(const struct page_pool *pool, uint32_t i)
{
    return i < n_fresh(pool) ? pool->n_pages - 1 - i : pool->free[i];
}

static page_id pop_free(struct page_pool *pool)
{
    page_id page = free_at(pool, --pool->n_free);
    if (page == pool->first_fresh)
        pool->first_fresh++;
    return page;
}

static void push_free(struct page_pool *pool, page_id page)
{
    pool->free[pool->n_free++] = page;
}

void page_pool_set_keeper(struct page_pool *pool, const struct page_keeper *keeper)
{
    pool->keeper = *keeper;
}

void page_pool_keep(struct page_pool *pool, page_id page)
{
    assert(page < pool->n_pages && pool->refs[page] > 0 && !pool->kept[page]);
    assert(pool->keeper.reclaim != NULL);
    pool->kept[page] = true;
}

void page_pool_drop(struct page_pool *pool, page_id page)
{
    assert(page < pool->n_pages && pool->kept[page]);
    pool->kept[page] = false;
    if (pool->refs[page] > 0)
        return;
    pool->n_idle--;
    push_free(pool, page);
}

int page_pool_reserve(struct page_pool *pool, uint32_t n)
{
    if (n > page_pool_n_available(pool))
        return STATUS_EXHAUSTED;
    pool->n_reserved += n;
    return STATUS_OK;
}

void page_pool_unreserve(struct page_pool *pool, uint32_t n)
{
    assert(n <= pool->n_reserved);
    pool->n_reserved -= n;
}

void page_pool_make_room(struct page_pool *pool, uint32_t n)
{
    assert(n <= pool->n_reserved && n <= pool->n_free + pool->n_idle);
    while (pool->n_free < n)
        pool->keeper.reclaim(pool->keeper.arg);
}

page_id page_pool_acquire(struct page_pool *pool)
{
    page_pool_make_room(pool, 1);
    page_id page = pop_free(pool);
    assert(pool->refs[page] == 0);
    pool->refs[page] = 1;
    pool->owned[page] = OWNED;
    pool->n_reserved--;
    return page;
}

void page_pool_share(struct page_pool *pool, page_id page)
{
    assert(page < pool->n_pages && pool->refs[page] < UINT32_MAX);
    if (pool->refs[page]++ > 0)
        return;
    assert(pool->kept[page] && page_pool_n_available(pool) > 0);
    pool->n_idle--;
    pool->keeper.on_busy(pool->keeper.arg, page);
}

/* Another than its owner left, and the owner is alone; or there is no owner any more. */
static void forgive(struct page_pool *pool, page_id page)
{
    if ((pool->owned[page] & OWED) == 0)
        return;
    pool->owned[page] &= (uint8_t)~OWED;
    pool->n_reserved--;
}

bool page_pool_costs(const struct page_pool *pool, page_id page)
{
    return pool->refs[page] == 0 || pool->owned[page] == OWNED;
}

void page_pool_share_owned(struct page_pool *pool, page_id page)
{
    if (pool->refs[page] > 0 && pool->owned[page] == OWNED) {
        assert(page_pool_n_available(pool) > 0);
        pool->owned[page] |= OWED;
        pool->n_reserved++;
    }
    page_pool_share(pool, page);
}

void page_pool_give_back(struct page_pool *pool, page_id page)
{
    assert(page < pool->n_pages && (pool->owned[page] & OWNED) != 0);
    assert(pool->refs[page] == 1 || (pool->owned[page] & OWED) != 0);
    bool is_owed = (pool->owned[page] & OWED) != 0;
    pool->owned[page] = 0; /* what was owed is its own now */
    page_pool_release(pool, page);
    pool->n_reserved += !is_owed;
}

void page_pool_own(struct page_pool *pool, page_id page)
{
    assert(page < pool->n_pages && pool->refs[page] == 1 && pool->owned[page] == 0);
    pool->owned[page] = OWNED;
    page_pool_unreserve(pool, 1);
}

void page_pool_disown(struct page_pool *pool, page_id page)
{
    forgive(pool, page);
    pool->owned[page] = 0;
}

bool page_pool_is_owed(const struct page_pool *pool, page_id page)
{
    return (pool->owned[page] & OWED) != 0;
}

bool page_pool_release(struct page_pool *pool, page_id page)
{
    assert(page < pool->n_pages && pool->refs[page] > 0);
    if (--pool->refs[page] <= 1)
        forgive(pool, page);
    if (pool->refs[page] > 0)
        return false;
    pool->owned[page] = 0;
    if (pool->kept[page]) {
        pool->n_idle++;
        pool->keeper.on_idle(pool->keeper.arg, page);
    } else {
        push_free(pool, page);
    }
    return true;
}

void page_pool_zero(const struct page_pool *pool, page_id first, uint32_t n, struct stream *stream)
{
    assert(first < pool->n_pages && n <= pool->n_pages - first);
    device_ops(pool->device)->page_zero(stream, &(struct page_zero_args){
                                                    .base = pool->base,
                                                    .page_stride = pool->page_bytes,
                                                    .pages = pool->ids + first,
                                                    .n = n,
                                                });
}

void page_pool_copy(const struct page_pool *pool, page_id from, page_id to, struct stream *stream)
{
    assert(from < pool->n_pages && to < pool->n_pages && from != to);
    device_ops(pool->device)->page_copy(stream, &(struct page_copy_args){
                                                    .base = pool->base,
                                                    .page_stride = pool->page_bytes,
                                                    .from = pool->ids + from,
                                                    .to = pool->ids + to,
                                                    .n = 1,
                                                });
}

uint8_t *page_pool_base(const struct page_pool *pool)
{
    return pool->base;
}

size_t page_pool_page_bytes(const struct page_pool *pool)
{
    return pool->page_bytes;
}

uint32_t page_pool_n_pages(const struct page_pool *pool)
{
    return pool->n_pages;
}

page_id page_pool_padding(const struct page_pool *pool)
{
    return pool->n_pages;
}

uint32_t page_pool_n_free(const struct page_pool *pool)
{
    return pool->n_free;
}

uint32_t page_pool_n_idle(const struct page_pool *pool)
{
    return pool->n_idle;
}

uint32_t page_pool_n_available(const struct page_pool *pool)
{
    return pool->n_free + pool->n_idle - pool->n_reserved;
}

uint32_t page_pool_n_reserved(const struct page_pool *pool)
{
    return pool->n_reserved;
}

uint32_t page_pool_refs(const struct page_pool *pool, page_id page)
{
    assert(page < pool->n_pages);
    return pool->refs[page];
}

bool page_pool_is_kept(const struct page_pool *pool, page_id page)
{
    return pool->kept[page];
}

/* A page twice on the free list would push n_lent + n_free over n_pages: with every entry unlent
 * and both counts summing up, a duplicate means that some unlent page is missing. The sum of ids
 * tells. */
int page_pool_check(const struct page_pool *pool, struct why *why)
{
    uint64_t ids_free = 0, ids_unlent = 0, squares_free = 0, squares_unlent = 0;
    uint32_t n_lent = 0, n_idle = 0;
    for (page_id page = 0; page < pool->n_pages; page++) {
        n_lent += pool->refs[page] > 0;
        n_idle += pool->refs[page] == 0 && pool->kept[page];
        if (pool->refs[page] > 0 || pool->kept[page])
            continue;
        ids_unlent += page;
        squares_unlent += (uint64_t)page * page;
    }
    if (pool->n_free + n_idle + n_lent != pool->n_pages || n_idle != pool->n_idle)
        return refuse(why, STATUS_INTERNAL, "pages: %u free, %u idle (%u told) and %u lent of %u",
                      pool->n_free, n_idle, pool->n_idle, n_lent, pool->n_pages);
    for (uint32_t i = 0; i < pool->n_free; i++) {
        page_id page = free_at(pool, i);
        if (page >= pool->n_pages || pool->refs[page] != 0 || pool->kept[page])
            return refuse(why, STATUS_INTERNAL, "page %u is free and lent, or kept", page);
        ids_free += page;
        squares_free += (uint64_t)page * page;
    }
    if (ids_free != ids_unlent || squares_free != squares_unlent)
        return refuse(why, STATUS_INTERNAL, "a page stands on the free list twice");
    if (pool->n_reserved > pool->n_free + pool->n_idle)
        return refuse(why, STATUS_INTERNAL, "%u pages promised, %u free and %u idle",
                      pool->n_reserved, pool->n_free, pool->n_idle);
    return STATUS_OK;
}
