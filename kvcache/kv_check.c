#include "kvcache/kv_state.h"

#include <string.h>

#include "base/status.h"

static int check_table(const struct kv_cache *cache, kv_seq_id seq, uint32_t g, struct why *why)
{
    const struct kv_sequence *sequence = &cache->sequences[seq];
    const struct kv_group *group = &cache->groups[g];
    const struct page_table *table = &sequence->tables[g];
    uint32_t first = kv_group_first_visible(group, sequence->committed);
    if (page_table_end(table) != kv_pages_of(sequence->written) || table->first_page > first)
        return refuse(why, STATUS_INTERNAL,
                      "sequence %u group %u: pages %u to %u for %llu tokens, seen from page %u",
                      seq, g, table->first_page, page_table_end(table),
                      (unsigned long long)sequence->written, first);
    for (uint32_t i = 0; i < table->n_pages; i++) {
        uint32_t refs = page_pool_refs(group->pool, table->pages[i]);
        bool own = table->first_page + i >= table->own_from;
        bool may_share = page_pool_is_kept(group->pool, table->pages[i]) &&
                         (group->spec.kind == KV_FULL ||
                          page_pool_is_owed(group->pool, table->pages[i]));
        if (refs == 0 || (own && refs != 1 && !may_share))
            return refuse(why, STATUS_INTERNAL, "sequence %u group %u: page %u has %u references",
                          seq, g, table->pages[i], refs);
        group->named[table->pages[i]]++;
    }
    int status = kv_tables_check(&group->tables, seq, table, why);
    if (status == STATUS_OK)
        status = kv_open_check(&group->open, seq, &sequence->open[g], sequence->committed,
                               sequence->written, why);
    return status < 0 ? refuse_prefix(why, status, "group %u", g) : STATUS_OK;
}

static int check_group(struct kv_cache *cache, uint32_t g, struct why *why)
{
    struct kv_group *group = &cache->groups[g];
    uint32_t n_pages = page_pool_n_pages(group->pool);
    uint64_t n_reserved = 0, n_rows = 0; /* entries of tables of rows */
    int status = page_pool_check(group->pool, why);
    if (status == STATUS_OK && group->open.pool != NULL)
        status = page_pool_check(group->open.pool, why);
    memset(group->named, 0, n_pages * sizeof *group->named);
    for (kv_seq_id seq = 0; seq < cache->spec.max_sequences && status == STATUS_OK; seq++) {
        if (!cache->sequences[seq].is_open)
            continue;
        n_reserved += kv_sequence_reserved(cache, &cache->sequences[seq], g);
        n_rows += cache->sequences[seq].open[g].n_pages;
        status = check_table(cache, seq, g, why);
    }
    if (status < 0)
        return status;
    kv_pin_count_names(cache, g);
    for (page_id page = 0; page < n_pages; page++)
        n_reserved += page_pool_is_owed(group->pool, page);
    for (page_id page = 0; page < n_pages; page++)
        if (group->named[page] != page_pool_refs(group->pool, page))
            return refuse(why, STATUS_INTERNAL, "group %u: page %u has %u references, %u tables", g,
                          page, page_pool_refs(group->pool, page), group->named[page]);
    if (kv_open_n_named(&group->open) != n_rows)
        return refuse(why, STATUS_INTERNAL, "group %u: rows of pages have %llu references, %llu "
                      "entries", g, (unsigned long long)kv_open_n_named(&group->open),
                      (unsigned long long)n_rows);
    if (n_reserved != page_pool_n_reserved(group->pool))
        return refuse(why, STATUS_INTERNAL, "group %u: %u pages promised, %llu owed", g,
                      page_pool_n_reserved(group->pool), (unsigned long long)n_reserved);
    return STATUS_OK;
}

/* A chain goes on from the page that its sequence holds. */
static int check_chain(const struct kv_cache *cache, kv_seq_id seq, struct why *why)
{
    const struct kv_sequence *sequence = &cache->sequences[seq];
    const struct kv_chain *chain = &sequence->chain;
    uint64_t known = (uint64_t)chain->sealed * PAGE_TOKENS + chain->n_units;
    if (known > sequence->committed || (chain->is_live && known != sequence->committed) ||
        (chain->node != NODE_NONE &&
         prefix_tree_at(cache->keeper.tree, chain->node)->depth != chain->sealed))
        return refuse(why, STATUS_INTERNAL,
                      "sequence %u: %u pages and %u ids are remembered of %llu tokens", seq,
                      chain->sealed, chain->n_units, (unsigned long long)sequence->committed);
    if (chain->node == NODE_NONE)
        return STATUS_OK;
    const struct prefix_node *node = prefix_tree_at(cache->keeper.tree, chain->node);
    for (uint32_t g = 0; g < cache->n_groups; g++) {
        const struct page_table *table = &sequence->tables[g];
        if (cache->groups[g].spec.kind == KV_FULL &&
            table->pages[chain->sealed - 1] != node->pages[g])
            return refuse(why, STATUS_INTERNAL,
                          "sequence %u group %u: page %u is remembered, page %u held", seq, g,
                          node->pages[g], table->pages[chain->sealed - 1]);
    }
    return STATUS_OK;
}

static int check_prefixes(const struct kv_cache *cache, struct why *why)
{
    uint64_t n_chains = 0;
    int status = STATUS_OK;
    for (kv_seq_id seq = 0; seq < cache->spec.max_sequences && status == STATUS_OK; seq++) {
        if (!cache->sequences[seq].is_open)
            continue;
        n_chains += cache->sequences[seq].chain.node != NODE_NONE;
        status = check_chain(cache, seq, why);
    }
    for (int i = 0; i < PINS_MAX; i++)
        n_chains += cache->pins[i].node != NODE_NONE;
    if (status == STATUS_OK && cache->keeper.tree != NULL)
        status = kv_keeper_check(&cache->keeper, n_chains, why);
    return status;
}

int kv_cache_check(struct kv_cache *cache, struct why *why)
{
    for (kv_seq_id seq = 0; seq < cache->spec.max_sequences; seq++) {
        const struct kv_sequence *sequence = &cache->sequences[seq];
        if (sequence->is_open &&
            (sequence->committed > sequence->written || sequence->written > sequence->promised))
            return refuse(
                why, STATUS_INTERNAL, "sequence %u: %llu of %llu written tokens committed", seq,
                (unsigned long long)sequence->committed, (unsigned long long)sequence->written);
    }
    for (uint32_t g = 0; g < cache->n_groups; g++) {
        int status = check_group(cache, g, why);
        if (status < 0)
            return status;
    }
    int status = cache->host != NULL ? kv_host_check(cache->host, why) : STATUS_OK;
    return status < 0 ? status : check_prefixes(cache, why);
}
