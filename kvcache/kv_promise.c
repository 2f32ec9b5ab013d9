#include "kvcache/kv_state.h"

#include <assert.h>
#include <string.h>

#include "base/status.h"
#include "base/text.h"

uint32_t kv_cache_pages_of(const struct kv_cache *cache, uint64_t n_tokens)
{
    (void)cache;
    uint64_t n_pages = kv_pages_of(n_tokens);
    return n_pages < UINT32_MAX ? (uint32_t)n_pages : UINT32_MAX;
}

static uint64_t matched(const struct kv_family *family)
{
    return (uint64_t)family->match.n_pages * PAGE_TOKENS;
}

/* When its pages are shared the budget of the one that reads holds no page of them any more, but
 * its copy of the last; until then it may hold them all beside. */
static uint32_t spare_of(const struct kv_group *group, const struct kv_family *family)
{
    uint64_t n_held = kv_pages_of(family->n_shared) - family->match.n_pages;
    if (family->n_forks == 0)
        return 0;
    if (n_held > group->window_pages)
        n_held = group->window_pages;
    return kv_group_budget(group, family->n_promised, family->n_shared) + (uint32_t)n_held -
           kv_group_budget(group, family->n_promised, matched(family));
}

/* Of its own, beside what it matched. */
static uint64_t pages_of_first(const struct kv_group *group, const struct kv_family *family)
{
    return (uint64_t)kv_group_budget(group, family->n_promised, matched(family)) +
           spare_of(group, family);
}

static uint64_t pages_in(const struct kv_group *group, const struct kv_family *family)
{
    return pages_of_first(group, family) +
           (uint64_t)family->n_forks *
               kv_group_budget(group, family->n_promised, family->n_shared);
}

uint64_t kv_cache_family_pages(const struct kv_cache *cache, const struct kv_family *family)
{
    return pages_in(&cache->groups[kv_leading_group(cache)], family);
}

uint64_t kv_cache_family_bytes(const struct kv_cache *cache, const struct kv_family *family)
{
    uint64_t n_bytes = 0;
    for (uint32_t g = 0; g < cache->n_groups; g++)
        n_bytes += pages_in(&cache->groups[g], family) *
                   page_pool_page_bytes(cache->groups[g].pool);
    return n_bytes;
}

bool kv_promise_fits_with(const struct kv_cache *cache, const struct kv_family *family,
                          uint32_t n_slots, const uint32_t *n_pages)
{
    if (cache->n_free + n_slots <= family->n_forks ||
        !kv_cache_fits_ever(cache, family->n_promised))
        return false;
    for (uint32_t g = 0; g < cache->n_groups; g++)
        if (pages_in(&cache->groups[g], family) + family->match.n_taken[g] >
            (uint64_t)page_pool_n_available(cache->groups[g].pool) + n_pages[g])
            return false;
    return true;
}

bool kv_cache_family_fits_now(const struct kv_cache *cache, const struct kv_family *family)
{
    return kv_promise_fits_with(cache, family, 0, (const uint32_t[KV_GROUPS_MAX]){0});
}

bool kv_cache_family_fits_ever(const struct kv_cache *cache, const struct kv_family *family)
{
    if (cache->spec.max_sequences <= family->n_forks ||
        !kv_cache_fits_ever(cache, family->n_promised))
        return false;
    for (uint32_t g = 0; g < cache->n_groups; g++)
        if (pages_in(&cache->groups[g], family) > page_pool_n_pages(cache->groups[g].pool))
            return false;
    return true;
}

bool kv_cache_fits_ever(const struct kv_cache *cache, uint64_t n_tokens)
{
    return n_tokens <= kv_cache_tokens_max(cache);
}

uint64_t kv_cache_tokens_max(const struct kv_cache *cache)
{
    uint64_t n_tokens = cache->spec.max_context;
    for (uint32_t g = 0; g < cache->n_groups; g++) {
        const struct kv_group *group = &cache->groups[g];
        uint64_t held = (uint64_t)page_pool_n_pages(group->pool) * PAGE_TOKENS;
        if (page_pool_n_pages(group->pool) < group->window_pages && held < n_tokens)
            n_tokens = held;
    }
    return n_tokens;
}

uint32_t kv_cache_ops_max(const struct kv_cache *cache, uint32_t max_rows)
{
    uint32_t n_seqs = cache->spec.max_sequences < max_rows ? cache->spec.max_sequences : max_rows;
    uint32_t n_zeroed = max_rows / PAGE_TOKENS + n_seqs, n_copied = n_seqs;
    uint32_t n_tables = cache->n_groups; /* of pages, and of rows where a group packs */
    for (uint32_t g = 0; g < cache->n_groups; g++)
        n_tables += kv_group_spec_packs(&cache->groups[g].spec);
    return cache->n_groups * (n_zeroed + n_copied) + n_tables * n_seqs * KV_TABLES_OPS_MAX +
           1; /* counters */
}

static int refuse_slots(const struct kv_cache *cache, const struct kv_family *family,
                        struct why *why)
{
    uint32_t n = family->n_forks + 1, n_all = cache->spec.max_sequences;
    if (n > n_all)
        return refuse(why, STATUS_TOO_LARGE,
                      "%u sequences are asked for at once, and there are %u (--max-sequences)", n,
                      n_all);
    return refuse(why, STATUS_EXHAUSTED,
                  "%u sequences are asked for, and %u of %u are free (--max-sequences)", n,
                  cache->n_free, n_all);
}

int kv_promise_refuse(const struct kv_cache *cache, const struct kv_family *family,
                      struct why *why)
{
    char asked[TEXT_NUMBER_BYTES], held[TEXT_NUMBER_BYTES];
    struct kv_cache_stats stats;
    kv_cache_read_stats(cache, &stats);
    if (!kv_cache_fits_ever(cache, family->n_promised))
        return refuse(why, STATUS_TOO_LARGE,
                      "%s tokens are asked for and a sequence may hold %s (--kv-memory, "
                      "--max-context)",
                      text_count(asked, family->n_promised),
                      text_count(held, kv_cache_tokens_max(cache)));
    if (cache->n_free <= family->n_forks)
        return refuse_slots(cache, family, why);
    return refuse(why,
                  kv_cache_family_fits_ever(cache, family) ? STATUS_EXHAUSTED : STATUS_TOO_LARGE,
                  "%s tokens of %u sequences need %llu pages, %s, and %u of %u are free "
                  "(--kv-memory)",
                  text_count(asked, family->n_promised), family->n_forks + 1,
                  (unsigned long long)kv_cache_family_pages(cache, family),
                  text_bytes(held, kv_cache_family_bytes(cache, family)), stats.n_available,
                  stats.n_pages);
}

bool kv_promise_reserve(struct kv_cache *cache, const uint32_t *extra)
{
    for (uint32_t g = 0; g < cache->n_groups; g++) {
        if (page_pool_reserve(cache->groups[g].pool, extra[g]) == STATUS_OK)
            continue;
        while (g-- > 0)
            page_pool_unreserve(cache->groups[g].pool, extra[g]);
        return false;
    }
    return true;
}

kv_seq_id kv_promise_take_slot(struct kv_cache *cache, uint64_t n_promised)
{
    kv_seq_id seq = cache->free[--cache->n_free];
    struct kv_sequence *sequence = &cache->sequences[seq];
    assert(!sequence->is_open);
    sequence->is_open = true;
    sequence->promised = n_promised;
    sequence->written = sequence->committed = sequence->shared = 0;
    memset(sequence->spare, 0, sizeof sequence->spare);
    sequence->chain.is_live = false;
    sequence->chain.node = NODE_NONE;
    sequence->chain.sealed = sequence->chain.n_units = 0;
    return seq;
}

int kv_cache_open(struct kv_cache *cache, uint64_t n_promised, kv_seq_id *out, struct why *why)
{
    return kv_cache_open_family(cache, &(struct kv_family){.n_promised = n_promised}, out, why);
}

int kv_cache_open_family(struct kv_cache *cache, const struct kv_family *family, kv_seq_id *out,
                         struct why *why)
{
    uint32_t extra[KV_GROUPS_MAX];

    assert(family->n_shared <= family->n_promised);
    assert(matched(family) <= (family->n_forks > 0 ? family->n_shared : family->n_promised));
    if (!kv_cache_family_fits_now(cache, family))
        return kv_promise_refuse(cache, family, why);
    for (uint32_t g = 0; g < cache->n_groups; g++)
        extra[g] = (uint32_t)pages_in(&cache->groups[g], family);
    bool reserved = kv_promise_reserve(cache, extra);
    assert(reserved);
    (void)reserved;
    for (uint32_t i = 0; i <= family->n_forks; i++) {
        out[i] = kv_promise_take_slot(cache, family->n_promised);
        struct kv_sequence *sequence = &cache->sequences[out[i]];
        sequence->shared = i > 0 ? family->n_shared : 0;
        for (uint32_t g = 0; g < cache->n_groups && i == 0; g++)
            sequence->spare[g] = spare_of(&cache->groups[g], family);
    }
    cache->keeper.age++;
    if (family->match.n_pages > 0)
        kv_prefix_take(cache, &cache->sequences[out[0]], &family->match);
    return STATUS_OK;
}

static bool first_fits(const struct kv_cache *cache, const struct kv_family *family)
{
    for (uint32_t g = 0; g < cache->n_groups; g++)
        if (pages_of_first(&cache->groups[g], family) + family->match.n_taken[g] >
            page_pool_n_available(cache->groups[g].pool))
            return false;
    return true;
}

/* What it held becomes idle, and may be matched again: with no more than that it fits as before. */
bool kv_cache_match_again(struct kv_cache *cache, kv_seq_id seq, const struct kv_family *family,
                          const struct kv_prefix *prefix, const struct stream *steps,
                          struct kv_match *out)
{
    struct kv_sequence *sequence = kv_sequence_at(cache, seq);
    struct kv_prefix held = *prefix;
    struct kv_family again = *family;
    uint32_t extra[KV_GROUPS_MAX];

    held.n_pages = sequence->chain.sealed;
    assert(sequence->written == (uint64_t)held.n_pages * PAGE_TOKENS);
    cache->n_hit_tokens -= sequence->written; /* they count when they are taken again */
    kv_sequence_clear(cache, sequence);
    bool is_more = kv_recall(cache, prefix, steps);
    kv_cache_match(cache, prefix, &again.match);
    if (again.match.n_pages < held.n_pages || !first_fits(cache, &again) ||
        !kv_cache_verify(cache, prefix, &again.match)) {
        kv_cache_match(cache, &held, &again.match);
        again.match.end = KV_MATCH_ROOM;
        is_more = false;
    }
    for (uint32_t g = 0; g < cache->n_groups; g++) {
        extra[g] = (uint32_t)pages_of_first(&cache->groups[g], &again);
        sequence->spare[g] = spare_of(&cache->groups[g], &again);
    }
    bool reserved = kv_promise_reserve(cache, extra);
    assert(reserved);
    (void)reserved;
    if (again.match.n_pages > 0)
        kv_prefix_take(cache, sequence, &again.match);
    *out = again.match;
    return is_more;
}
