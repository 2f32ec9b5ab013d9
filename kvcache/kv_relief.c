#include "kvcache/kv_relief.h"

#include "kvcache/kv_state.h"

#include <assert.h>
#include <string.h>

#define MATCHED (1u << 31) /* beside the number of those in that hold the page */

static bool is_windowed(const struct kv_group *group)
{
    return group->spec.kind != KV_FULL;
}

static void mark_match(struct kv_cache *cache, const struct kv_match *match)
{
    for (uint32_t g = 0; g < cache->n_groups; g++) {
        uint32_t first = kv_prefix_first_needed(cache, g, match->n_pages);
        node_id id = match->node;
        for (uint32_t i = match->n_pages; i-- > first;) {
            const struct prefix_node *node = prefix_tree_at(cache->keeper.tree, id);
            cache->groups[g].named[node->pages[g]] = MATCHED;
            id = node->parent;
        }
    }
}

void kv_relief_begin(struct kv_cache *cache, const struct kv_family *family)
{
    for (uint32_t g = 0; g < cache->n_groups; g++) {
        struct kv_group *group = &cache->groups[g];
        memset(group->named, 0, page_pool_n_pages(group->pool) * sizeof *group->named);
    }
    cache->relief = (struct kv_relief){.family = *family};
    mark_match(cache, &family->match);
}

/* Those who hold the page without owning it; in a group that sees everything, all. */
static uint32_t n_holders(const struct kv_group *group, page_id page)
{
    bool has_owner = is_windowed(group) && page_pool_is_owed(group->pool, page);
    return page_pool_refs(group->pool, page) - has_owner;
}

/* A sequence comes in, or goes out again: pages that are available then. */
static uint32_t count_pages(struct kv_group *group, const struct page_table *table, bool comes)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < table->n_pages; i++) {
        page_id page = table->pages[i];
        if (is_windowed(group) && table->first_page + i >= table->own_from) {
            n++;
            continue;
        }
        group->named[page] += comes;
        n += group->named[page] == n_holders(group, page); /* not where it is MATCHED */
        group->named[page] -= !comes;
    }
    return n;
}

static void count(struct kv_cache *cache, kv_seq_id seq, bool comes)
{
    struct kv_relief *relief = &cache->relief;
    const struct kv_sequence *sequence = kv_sequence_at(cache, seq);
    for (uint32_t g = 0; g < cache->n_groups; g++) {
        uint32_t n = kv_sequence_reserved(cache, sequence, g) +
                     count_pages(&cache->groups[g], &sequence->tables[g], comes);
        assert(comes || relief->n_pages[g] >= n);
        relief->n_pages[g] = comes ? relief->n_pages[g] + n : relief->n_pages[g] - n;
    }
    relief->n_slots = comes ? relief->n_slots + 1 : relief->n_slots - 1;
}

void kv_relief_add(struct kv_cache *cache, kv_seq_id seq)
{
    count(cache, seq, true);
}

void kv_relief_remove(struct kv_cache *cache, kv_seq_id seq)
{
    count(cache, seq, false);
}

bool kv_relief_suffices(const struct kv_cache *cache)
{
    return kv_promise_fits_with(cache, &cache->relief.family, cache->relief.n_slots,
                                cache->relief.n_pages);
}
