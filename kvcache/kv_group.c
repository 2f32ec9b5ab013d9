#include "kvcache/kv_group.h"

#include <assert.h>
#include <stdlib.h>

#include "base/status.h"
#include "kernels/ops.h"

#define LINE 64 /* layers of a page begin on cache lines */

static size_t layer_bytes(const struct ops *ops, const struct kv_group_spec *spec)
{
    return (ops->page_layer_bytes(&spec->shape, spec->dtype) + LINE - 1) / LINE * LINE;
}

size_t kv_group_page_bytes(const struct ops *ops, const struct kv_group_spec *spec)
{
    return layer_bytes(ops, spec) * spec->n_layers;
}

uint32_t kv_group_window_pages(const struct kv_group_spec *spec, uint32_t max_append)
{
    if (spec->kind == KV_FULL)
        return UINT32_MAX;
    uint64_t n_tokens = (uint64_t)spec->window - 1 + max_append;
    return (uint32_t)((n_tokens + PAGE_TOKENS - 2) / PAGE_TOKENS + 1); /* at any alignment */
}

int kv_group_init(struct kv_group *group, struct device *device, const struct kv_cache_spec *spec,
                  uint32_t group_idx, uint32_t n_pages, struct why *why)
{
    group->spec = spec->groups[group_idx];
    group->layer_stride = layer_bytes(device_ops(device), &group->spec);
    group->window_pages = kv_group_window_pages(&group->spec, spec->max_append);
    uint64_t capacity = kv_pages_of(spec->max_context);
    if (capacity > group->window_pages)
        capacity = group->window_pages;
    if (capacity > n_pages)
        capacity = n_pages; /* the pages of one table are all different */
    group->table_capacity = (uint32_t)capacity;
    int status = page_pool_create(device, n_pages, group->layer_stride * group->spec.n_layers,
                                  &group->pool, why);
    if (status < 0)
        return status;

    group->named = calloc(n_pages, sizeof *group->named);
    status = group->named == NULL ? STATUS_NO_MEMORY : STATUS_OK;
    if (status == STATUS_OK)
        status = kv_tables_init(&group->tables, device, spec->max_sequences + 1,
                                group->table_capacity, why);
    if (status == STATUS_OK)
        status =
            kv_tables_put(&group->tables, spec->max_sequences, page_pool_padding(group->pool));
    if (status < 0)
        return refuse(why, status,
                      "no memory for the tables of %u sequences of %u pages; lower "
                      "--max-sequences or --max-context",
                      spec->max_sequences, group->table_capacity);
    return kv_open_init(&group->open, device, spec, &group->spec, why);
}

void kv_group_release(struct kv_group *group)
{
    page_pool_free(group->pool);
    kv_tables_release(&group->tables);
    kv_open_release(&group->open);
    free(group->named);
    *group = (struct kv_group){.pool = NULL};
}

uint32_t kv_group_budget(const struct kv_group *group, uint64_t promised, uint64_t shared)
{
    uint64_t n_pages = kv_pages_of(promised) - shared / PAGE_TOKENS;
    return n_pages < group->window_pages ? (uint32_t)n_pages : group->window_pages;
}

uint32_t kv_group_first_visible(const struct kv_group *group, uint64_t position)
{
    uint64_t window = group->spec.window, first = 0;
    if (group->spec.kind == KV_SLIDING)
        first = position < window ? 0 : position - window + 1;
    else if (group->spec.kind == KV_CHUNKED)
        first = position - position % window;
    return (uint32_t)(first / PAGE_TOKENS);
}

uint32_t kv_group_snapshot_pages(const struct kv_group *group)
{
    uint64_t window = group->spec.window;
    return (uint32_t)kv_pages_of(SNAPSHOT_TOKENS > 4 * window ? SNAPSHOT_TOKENS : 4 * window);
}

/* Runs of ascending ids are zeroed by one op. What will be packed is written all at once then. */
static void zero_run(struct kv_group *group, page_id first, uint32_t n, struct stream *stream)
{
    if (n > 0 && !kv_group_spec_packs(&group->spec))
        page_pool_zero(group->pool, first, n, stream);
}

static bool takes_last(const struct page_table *table, uint64_t written)
{
    return written % PAGE_TOKENS != 0 && table->own_from == page_table_end(table);
}

bool kv_group_make_room(struct kv_group *group, const struct page_table *table, uint64_t written,
                        uint32_t end)
{
    uint32_t n = end - page_table_end(table);
    if (takes_last(table, written) && page_pool_refs(group->pool, page_table_last(table)) > 1)
        n++;
    page_pool_make_room(group->pool, n);
    return n > 0;
}

/* The sequence is about to write into its last page, which others may hold as well; of one that is
 * packed later they hold a place. */
static void take_last(struct kv_group *group, struct page_table *table, struct stream *stream)
{
    page_id shared = page_table_last(table);
    if (page_pool_refs(group->pool, shared) == 1) {
        page_table_own_last(table, shared);
        page_pool_own(group->pool, shared);
        return;
    }
    page_id own = page_pool_acquire(group->pool);
    if (!kv_group_spec_packs(&group->spec))
        page_pool_copy(group->pool, shared, own, stream);
    page_pool_release(group->pool, shared);
    page_table_own_last(table, own);
}

void kv_group_extend(struct kv_group *group, struct page_table *table, uint64_t written,
                     uint32_t end, struct stream *stream)
{
    if (takes_last(table, written))
        take_last(group, table, stream);
    page_id first = 0;
    uint32_t n = 0;
    while (page_table_end(table) < end) {
        page_id page = page_pool_acquire(group->pool);
        page_table_push(table, page);
        if (n > 0 && page == first + n) {
            n++;
            continue;
        }
        zero_run(group, first, n, stream);
        first = page;
        n = 1;
    }
    zero_run(group, first, n, stream);
}

void kv_group_drop_before(struct kv_group *group, struct page_table *table, uint32_t first)
{
    while (table->n_pages > 0 && table->first_page < first) {
        bool own = table->first_page >= table->own_from;
        page_id page = page_table_drop(table);
        if (own)
            page_pool_give_back(group->pool, page);
        else
            page_pool_release(group->pool, page);
    }
}

void kv_group_shrink(struct kv_group *group, struct page_table *table, uint32_t end)
{
    while (page_table_end(table) > end && table->n_pages > 0)
        page_pool_give_back(group->pool, page_table_pop(table));
}

void kv_group_view(const struct kv_group *group, struct kv_group_view *out)
{
    *out = (struct kv_group_view){
        .kind = group->spec.kind,
        .window = group->spec.window,
        .shape = group->spec.shape,
        .dtype_open = kv_dtype_open(group->spec.dtype),
        .dtype_full = group->spec.dtype,
        .base = page_pool_base(group->pool),
        .page_stride = page_pool_page_bytes(group->pool),
        .layer_stride = group->layer_stride,
        .table = kv_tables_pages(&group->tables),
        .first_page = kv_tables_first_page(&group->tables),
        .table_stride = group->table_capacity,
    };
    kv_open_view(&group->open, &out->open);
}
