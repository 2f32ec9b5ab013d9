#include "kvcache/kv_state.h"

#include <assert.h>
#include <string.h>

#include "base/status.h"

struct kv_sequence *kv_sequence_at(const struct kv_cache *cache, kv_seq_id seq)
{
    assert(seq < cache->spec.max_sequences && cache->sequences[seq].is_open);
    return &cache->sequences[seq];
}

uint32_t kv_sequence_reserved(const struct kv_cache *cache, const struct kv_sequence *sequence,
                              uint32_t g)
{
    uint32_t budget = kv_group_budget(&cache->groups[g], sequence->promised, sequence->shared);
    uint32_t n_own = page_table_n_own(&sequence->tables[g]);
    budget += sequence->spare[g];
    assert(n_own <= budget);
    return budget - n_own;
}

void kv_sequence_clear(struct kv_cache *cache, struct kv_sequence *sequence)
{
    cache->keeper.age++;
    cache->keeper.is_closing = true;
    for (uint32_t g = 0; g < cache->n_groups; g++) {
        struct page_pool *pool = cache->groups[g].pool;
        struct page_table *table = &sequence->tables[g];
        uint32_t n_reserved = kv_sequence_reserved(cache, sequence, g);
        bool is_windowed = cache->groups[g].spec.kind != KV_FULL;
        for (uint32_t i = table->n_pages; i-- > 0;) { /* to be lent in this order again */
            bool own = table->first_page + i >= table->own_from;
            if (is_windowed && own)
                page_pool_give_back(pool, table->pages[i]);
            else
                page_pool_release(pool, table->pages[i]);
            n_reserved += is_windowed && own;
        }
        page_pool_unreserve(pool, n_reserved);
        page_table_clear(table);
        kv_open_close(&cache->groups[g].open, &sequence->open[g]);
    }
    cache->keeper.is_closing = false;
    kv_prefix_end_chain(cache, sequence);
    sequence->chain.sealed = 0;
    sequence->written = sequence->committed = sequence->shared = 0;
    memset(sequence->spare, 0, sizeof sequence->spare);
}

void kv_cache_close(struct kv_cache *cache, kv_seq_id seq)
{
    struct kv_sequence *sequence = kv_sequence_at(cache, seq);
    kv_sequence_clear(cache, sequence);
    sequence->is_open = false;
    cache->free[cache->n_free++] = seq;
}

static void share_pages(struct kv_cache *cache, struct kv_sequence *from, struct kv_sequence *to)
{
    to->written = to->committed = to->shared = from->shared = from->written;
    kv_prefix_fork_chain(cache, from, to);
    for (uint32_t g = 0; g < cache->n_groups; g++) {
        const struct page_table *table = &from->tables[g];
        for (uint32_t i = table->n_pages - page_table_n_own(table); i < table->n_pages; i++)
            page_pool_disown(cache->groups[g].pool, table->pages[i]); /* nobody's own now */
        page_table_share(&from->tables[g], &to->tables[g]);
        for (uint32_t i = 0; i < to->tables[g].n_pages; i++)
            page_pool_share(cache->groups[g].pool, to->tables[g].pages[i]);
        kv_open_share(&cache->groups[g].open, &from->open[g], &to->open[g]);
    }
}

void kv_cache_fork_into(struct kv_cache *cache, kv_seq_id from_seq, kv_seq_id to_seq)
{
    struct kv_sequence *from = kv_sequence_at(cache, from_seq), *to = kv_sequence_at(cache, to_seq);
    uint32_t had[KV_GROUPS_MAX];

    assert(from->committed == from->written && to->written == 0 && to->shared == from->written);
    for (uint32_t g = 0; g < cache->n_groups; g++) {
        had[g] = kv_sequence_reserved(cache, from, g);
        from->spare[g] = 0;
    }
    share_pages(cache, from, to);
    for (uint32_t g = 0; g < cache->n_groups; g++) /* at the first fork: what it owned */
        page_pool_unreserve(cache->groups[g].pool, had[g] - kv_sequence_reserved(cache, from, g));
}

/* --- tokens --- */

/* All that gives way to the new pages does so at once, before anything is written into them. */
static void make_room(struct kv_cache *cache, struct kv_sequence *sequence, uint32_t end,
                      struct stream *stream)
{
    bool takes_pages = false;
    for (uint32_t g = 0; g < cache->n_groups; g++)
        takes_pages |= kv_group_make_room(&cache->groups[g], &sequence->tables[g],
                                          sequence->written, end);
    if (takes_pages && cache->host != NULL)
        kv_host_order(cache->host, stream);
}

void kv_cache_append(struct kv_cache *cache, kv_seq_id seq, uint32_t n, struct stream *stream)
{
    struct kv_sequence *sequence = kv_sequence_at(cache, seq);
    uint64_t written = sequence->written + n;
    assert(written <= sequence->promised && sequence->written >= sequence->shared);
    assert(written - sequence->committed <= cache->spec.max_append);
    uint32_t end = (uint32_t)kv_pages_of(written);
    if (n > 0)
        make_room(cache, sequence, end, stream);
    for (uint32_t g = 0; g < cache->n_groups; g++) {
        struct kv_group *group = &cache->groups[g];
        if (n > 0) {
            kv_group_extend(group, &sequence->tables[g], sequence->written, end, stream);
            kv_open_extend(&group->open, &sequence->open[g], sequence->written, end, stream);
        }
        kv_tables_send(&group->tables, seq, &sequence->tables[g], stream);
        kv_open_send(&group->open, seq, &sequence->open[g], stream);
    }
    sequence->written = written;
}

/* Before windowed groups drop what nobody sees any more: it may be remembered. */
void kv_cache_commit_ids(struct kv_cache *cache, kv_seq_id seq, const uint32_t *ids, uint32_t n)
{
    struct kv_sequence *sequence = kv_sequence_at(cache, seq);
    assert(sequence->committed + n <= sequence->written);
    sequence->committed += n;
    if (ids != NULL)
        kv_prefix_feed(cache, sequence, ids, n);
    else if (n > 0)
        kv_prefix_end_chain(cache, sequence);
    for (uint32_t g = 0; g < cache->n_groups; g++) {
        kv_group_drop_before(&cache->groups[g], &sequence->tables[g],
                             kv_group_first_visible(&cache->groups[g], sequence->committed));
        kv_open_commit(&cache->groups[g].open, &sequence->open[g], sequence->committed);
    }
}

void kv_cache_commit(struct kv_cache *cache, kv_seq_id seq, uint32_t n)
{
    kv_cache_commit_ids(cache, seq, NULL, n);
}

void kv_cache_truncate(struct kv_cache *cache, kv_seq_id seq, uint64_t n_tokens)
{
    struct kv_sequence *sequence = kv_sequence_at(cache, seq);
    const struct kv_chain *chain = &sequence->chain;
    assert(n_tokens <= sequence->written && n_tokens >= sequence->shared);
    assert(n_tokens >= (uint64_t)chain->sealed * PAGE_TOKENS + chain->n_units);
    for (uint32_t g = 0; g < cache->n_groups; g++) {
        struct kv_group *group = &cache->groups[g];
        struct page_table *table = &sequence->tables[g];
        assert(kv_group_first_visible(group, n_tokens) >= table->first_page);
        assert(!kv_group_spec_packs(&group->spec) || n_tokens % PAGE_TOKENS == 0 ||
               n_tokens / PAGE_TOKENS >= sequence->committed / PAGE_TOKENS);
        kv_group_shrink(group, table, (uint32_t)kv_pages_of(n_tokens));
        kv_open_shrink(&group->open, &sequence->open[g], (uint32_t)kv_pages_of(n_tokens));
    }
    sequence->written = n_tokens;
    if (sequence->committed > n_tokens)
        sequence->committed = n_tokens;
}

uint64_t kv_cache_written(const struct kv_cache *cache, kv_seq_id seq)
{
    return kv_sequence_at(cache, seq)->written;
}

uint64_t kv_cache_committed(const struct kv_cache *cache, kv_seq_id seq)
{
    return kv_sequence_at(cache, seq)->committed;
}
