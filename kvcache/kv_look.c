#include "kvcache/kv_look.h"

#include "kvcache/kv_state.h"

uint32_t kv_look_n_groups(const struct kv_cache *cache)
{
    return cache->n_groups;
}

uint64_t kv_look_promised(const struct kv_cache *cache, kv_seq_id seq)
{
    return kv_sequence_at(cache, seq)->promised;
}

/* From this page index on tokens are not committed yet, or are still to come. */
static uint32_t first_open(const struct kv_sequence *sequence)
{
    return (uint32_t)(sequence->committed / PAGE_TOKENS);
}

/* A page that several have open is a part of each. */
static double n_open_of(const struct kv_group *group, const struct kv_sequence *sequence,
                        const struct page_table *table)
{
    double n = 0;
    uint32_t begin = first_open(sequence);
    if (begin < table->first_page)
        begin = table->first_page;
    for (uint32_t i = begin; i < page_table_end(table); i++)
        n += 1.0 / page_pool_refs(group->pool, table->pages[i - table->first_page]);
    return n;
}

static uint32_t n_alone(const struct kv_group *group, const struct page_table *table)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < table->n_pages; i++)
        n += page_pool_refs(group->pool, table->pages[i]) == 1;
    return n;
}

void kv_look_group(const struct kv_cache *cache, uint32_t g, struct kv_group_look *out)
{
    const struct kv_group *group = &cache->groups[g];
    double n_open = 0;

    *out = (struct kv_group_look){
        .kind = group->spec.kind,
        .window = group->spec.window,
        .n_layers = group->spec.n_layers,
        .dtype = kv_dtype_name(group->spec.dtype),
        .page_bytes = page_pool_page_bytes(group->pool),
        .n_pages = page_pool_n_pages(group->pool),
        .n_free = page_pool_n_free(group->pool),
        .n_cached = page_pool_n_idle(group->pool),
        .n_reserved = page_pool_n_reserved(group->pool),
    };
    for (uint32_t s = 0; s < cache->spec.max_sequences; s++) {
        const struct kv_sequence *sequence = &cache->sequences[s];
        if (!sequence->is_open)
            continue;
        out->n_own += n_alone(group, &sequence->tables[g]);
        n_open += n_open_of(group, sequence, &sequence->tables[g]);
    }
    out->n_open = (uint32_t)(n_open + 0.5);
    out->n_full = out->n_pages - out->n_free - out->n_cached - out->n_open;
}

void kv_look_table(const struct kv_cache *cache, kv_seq_id seq, uint32_t g,
                   struct kv_stretch *stretches, uint32_t n_max, struct kv_table_look *out)
{
    const struct kv_sequence *sequence = kv_sequence_at(cache, seq);
    const struct page_table *table = &sequence->tables[g];
    struct kv_stretch *last = NULL;

    *out = (struct kv_table_look){.first_page = table->first_page, .n_pages = table->n_pages};
    for (uint32_t i = 0; i < table->n_pages; i++) {
        page_id page = table->pages[i];
        uint32_t n_holders = page_pool_refs(cache->groups[g].pool, page);
        bool is_open = table->first_page + i >= first_open(sequence);
        if (last != NULL && page == last->page + last->n && n_holders == last->n_holders &&
            is_open == last->is_open) {
            last->n++;
            continue;
        }
        if (out->n_stretches == n_max) {
            out->n_untold = table->n_pages - i;
            return;
        }
        last = &stretches[out->n_stretches++];
        *last = (struct kv_stretch){.index = table->first_page + i,
                                    .page = page,
                                    .n = 1,
                                    .n_holders = n_holders,
                                    .is_open = is_open};
    }
}
