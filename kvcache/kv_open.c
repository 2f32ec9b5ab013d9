#include "kvcache/kv_open.h"

#include <assert.h>

#include "base/status.h"
#include "kernels/ops.h"
#include "kvcache/kv_group.h"

static uint64_t min_of(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* --- sizes --- */

uint32_t kv_open_capacity(const struct kv_cache_spec *spec, const struct kv_group_spec *group)
{
    if (!kv_dtype_is_packed(group->dtype))
        return 0;
    uint64_t n_tokens = min_of(spec->max_append, spec->max_context);
    return (uint32_t)kv_pages_of(n_tokens + PAGE_TOKENS - 1); /* at any alignment */
}

/* A sequence with n > 0 uncommitted tokens has rows of 1 + (n + 62) / 64 pages at most, the last
 * quotient 0 where n is 1. */
uint32_t kv_open_pages(uint32_t max_sequences, uint64_t max_uncommitted)
{
    uint64_t n_reaching = min_of(max_sequences, max_uncommitted / 2);
    return (uint32_t)(max_sequences + (max_uncommitted + 62 * n_reaching) / PAGE_TOKENS);
}

static uint32_t n_pages_of(const struct kv_cache_spec *spec)
{
    return kv_open_pages(spec->max_sequences, spec->max_uncommitted);
}

static struct kv_group_spec spec_of_rows(const struct kv_group_spec *group)
{
    struct kv_group_spec rows = *group;
    rows.dtype = kv_dtype_open(group->dtype);
    return rows;
}

uint64_t kv_open_bytes(const struct ops *ops, const struct kv_cache_spec *spec,
                       const struct kv_group_spec *group)
{
    struct kv_group_spec rows = spec_of_rows(group);
    if (!kv_dtype_is_packed(group->dtype))
        return 0;
    return n_pages_of(spec) * (uint64_t)kv_group_page_bytes(ops, &rows);
}

/* --- life --- */

int kv_open_init(struct kv_open *open, struct device *device, const struct kv_cache_spec *spec,
                 const struct kv_group_spec *group, struct why *why)
{
    struct kv_group_spec rows = spec_of_rows(group);
    size_t page_bytes = kv_group_page_bytes(device_ops(device), &rows);
    uint32_t slot = spec->max_sequences; /* of padding */

    if (!kv_dtype_is_packed(group->dtype))
        return STATUS_OK;
    open->layer_stride = page_bytes / group->n_layers;
    int status = page_pool_create(device, n_pages_of(spec), page_bytes, &open->pool, why);
    if (status == STATUS_OK)
        status = kv_tables_init(&open->tables, device, slot + 1, kv_open_capacity(spec, group),
                                why);
    if (status == STATUS_OK)
        status = kv_tables_put(&open->tables, slot, page_pool_padding(open->pool));
    return status < 0 ? refuse_prefix(why, status, "pages being written of %u sequences", slot)
                      : STATUS_OK;
}

void kv_open_release(struct kv_open *open)
{
    if (open->pool == NULL)
        return;
    page_pool_free(open->pool);
    kv_tables_release(&open->tables);
    *open = (struct kv_open){.pool = NULL};
}

/* --- pages --- */

static page_id acquire(struct kv_open *open)
{
    int status = page_pool_reserve(open->pool, 1);
    assert(status == STATUS_OK);
    (void)status;
    return page_pool_acquire(open->pool);
}

/* The sequence is about to write into its last page, which others may hold as well. */
static void take_last(struct kv_open *open, struct page_table *table, struct stream *stream)
{
    page_id shared = page_table_last(table), own = shared;
    if (page_pool_refs(open->pool, shared) > 1) {
        own = acquire(open);
        page_pool_copy(open->pool, shared, own, stream);
        page_pool_release(open->pool, shared);
    }
    page_table_own_last(table, own);
}

void kv_open_extend(struct kv_open *open, struct page_table *table, uint64_t written, uint32_t end,
                    struct stream *stream)
{
    if (open->pool == NULL)
        return;
    if (table->n_pages == 0) {
        assert(written % PAGE_TOKENS == 0); /* nobody has the rows of a page that was packed */
        page_table_begin_at(table, (uint32_t)(written / PAGE_TOKENS));
    }
    if (written % PAGE_TOKENS != 0 && table->own_from == page_table_end(table))
        take_last(open, table, stream);
    while (page_table_end(table) < end) {
        page_id page = acquire(open);
        page_table_push(table, page);
        page_pool_zero(open->pool, page, 1, stream);
    }
}

void kv_open_commit(struct kv_open *open, struct page_table *table, uint64_t committed)
{
    while (table->n_pages > 0 && table->first_page < committed / PAGE_TOKENS)
        page_pool_release(open->pool, page_table_drop(table));
}

void kv_open_shrink(struct kv_open *open, struct page_table *table, uint32_t end)
{
    while (table->n_pages > 0 && page_table_end(table) > end)
        page_pool_release(open->pool, page_table_pop(table));
}

void kv_open_share(struct kv_open *open, struct page_table *from, struct page_table *to)
{
    if (open->pool == NULL)
        return;
    page_table_share(from, to);
    for (uint32_t i = 0; i < to->n_pages; i++)
        page_pool_share(open->pool, to->pages[i]);
}

void kv_open_close(struct kv_open *open, struct page_table *table)
{
    for (uint32_t i = table->n_pages; i-- > 0;)
        page_pool_release(open->pool, table->pages[i]);
    page_table_clear(table);
}

/* --- the device --- */

void kv_open_send(struct kv_open *open, uint32_t slot, struct page_table *table,
                  struct stream *stream)
{
    if (open->pool != NULL)
        kv_tables_send(&open->tables, slot, table, stream);
}

void kv_open_view(const struct kv_open *open, struct kv_open_view *out)
{
    *out = (struct kv_open_view){.base = NULL};
    if (open->pool == NULL)
        return;
    *out = (struct kv_open_view){
        .base = page_pool_base(open->pool),
        .page_stride = page_pool_page_bytes(open->pool),
        .layer_stride = open->layer_stride,
        .table = kv_tables_pages(&open->tables),
        .first_page = kv_tables_first_page(&open->tables),
        .table_stride = open->tables.capacity,
    };
}

uint64_t kv_open_n_named(const struct kv_open *open)
{
    uint64_t n = 0;
    for (page_id page = 0; open->pool != NULL && page < page_pool_n_pages(open->pool); page++)
        n += page_pool_refs(open->pool, page);
    return n;
}

int kv_open_check(const struct kv_open *open, uint32_t slot, const struct page_table *table,
                  uint64_t committed, uint64_t written, struct why *why)
{
    uint64_t first = committed / PAGE_TOKENS, end = kv_pages_of(written);
    if (open->pool == NULL)
        return STATUS_OK;
    if (table->n_pages != end - first || (end > first && table->first_page != first))
        return refuse(why, STATUS_INTERNAL,
                      "rows of pages %u to %u, with %llu of %llu tokens committed",
                      table->first_page, page_table_end(table), (unsigned long long)committed,
                      (unsigned long long)written);
    for (uint32_t i = 0; i < table->n_pages; i++) {
        uint32_t refs = page_pool_refs(open->pool, table->pages[i]);
        bool own = table->first_page + i >= table->own_from;
        if (refs == 0 || (own && refs != 1))
            return refuse(why, STATUS_INTERNAL, "rows of page %u have %u references",
                          table->first_page + i, refs);
    }
    return kv_tables_check(&open->tables, slot, table, why);
}
