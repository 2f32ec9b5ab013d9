#include "kvcache/kv_cache.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "base/text.h"
#include "kernels/ops.h"
#include "kvcache/kv_group.h"

struct kv_sequence {
    bool is_open;
    uint64_t promised, written, committed;
    /* written at the last fork, or, of one that waits for its fork, then: never truncated below */
    uint64_t shared;
    uint32_t spare[KV_GROUPS_MAX]; /* pages beyond the budget: of a family before its fork */
    struct page_table tables[KV_GROUPS_MAX];
};

struct kv_cache {
    struct device *device;
    struct kv_cache_spec spec;
    uint32_t n_groups;
    struct kv_group groups[KV_GROUPS_MAX];
    struct kv_sequence *sequences; /* [max_sequences] */
    page_id *tables;               /* memory of all tables */
    kv_seq_id *free;               /* [n_free], a stack */
    uint32_t n_free;
    uint64_t *n_saturated;      /* device */
    uint64_t *n_saturated_seen; /* of device_alloc_host */
};

static struct kv_sequence *sequence_at(const struct kv_cache *cache, kv_seq_id seq)
{
    assert(seq < cache->spec.max_sequences && cache->sequences[seq].is_open);
    return &cache->sequences[seq];
}

/* --- life --- */

/* Windowed groups never need more than their windows; what they leave goes to the others. */
static void share_memory(const struct kv_cache_spec *spec, const size_t *page_bytes,
                         uint32_t *n_pages)
{
    uint64_t bytes_left = spec->memory_bytes;
    bool is_set[KV_GROUPS_MAX] = {false};
    for (bool changed = true; changed;) {
        changed = false;
        uint64_t row_bytes = 0;
        for (uint32_t g = 0; g < spec->n_groups; g++)
            row_bytes += is_set[g] ? 0 : page_bytes[g];
        uint64_t n_even = row_bytes == 0 ? 0 : bytes_left / row_bytes;
        for (uint32_t g = 0; g < spec->n_groups && !changed; g++) {
            uint64_t cap = kv_group_window_pages(&spec->groups[g], spec->max_append);
            if (cap != UINT32_MAX)
                cap *= spec->max_sequences;
            if (is_set[g] || (cap >= n_even && n_even < UINT32_MAX))
                continue;
            n_pages[g] = cap < UINT32_MAX ? (uint32_t)cap : UINT32_MAX - 1;
            bytes_left -= n_pages[g] * (uint64_t)page_bytes[g];
            is_set[g] = changed = true;
        }
        for (uint32_t g = 0; g < spec->n_groups; g++)
            n_pages[g] = is_set[g] ? n_pages[g] : (uint32_t)n_even;
    }
}

static int plan_pages(const struct ops *ops, const struct kv_cache_spec *spec, uint32_t *n_pages,
                      struct why *why)
{
    size_t page_bytes[KV_GROUPS_MAX];
    uint64_t all_bytes = 0;
    for (uint32_t g = 0; g < spec->n_groups; g++) {
        assert(spec->groups[g].kind == KV_FULL || spec->groups[g].window > 0);
        page_bytes[g] = kv_group_page_bytes(ops, &spec->groups[g]);
        all_bytes += page_bytes[g];
    }
    if (spec->memory_bytes < all_bytes) {
        char have[TEXT_NUMBER_BYTES], need[TEXT_NUMBER_BYTES];
        return refuse(
            why, STATUS_INVALID, "--kv-memory %s holds no page: one page of %d tokens takes %s",
            text_bytes(have, spec->memory_bytes), PAGE_TOKENS, text_bytes(need, all_bytes));
    }
    share_memory(spec, page_bytes, n_pages);
    return STATUS_OK;
}

static int make_sequences(struct kv_cache *cache, struct why *why)
{
    uint32_t n = cache->spec.max_sequences;
    size_t capacity = 0;
    for (uint32_t g = 0; g < cache->n_groups; g++)
        capacity += cache->groups[g].table_capacity;
    cache->sequences = calloc(n, sizeof *cache->sequences);
    cache->free = calloc(n, sizeof *cache->free);
    cache->tables = calloc(n * capacity, sizeof *cache->tables);
    if (cache->sequences == NULL || cache->free == NULL || cache->tables == NULL)
        return refuse(why, STATUS_NO_MEMORY, "no memory for the tables of %u sequences", n);
    page_id *memory = cache->tables;
    for (uint32_t s = 0; s < n; s++) {
        for (uint32_t g = 0; g < cache->n_groups; g++) {
            uint32_t group_capacity = cache->groups[g].table_capacity;
            page_table_init(&cache->sequences[s].tables[g], memory, group_capacity);
            memory += group_capacity;
        }
        cache->free[cache->n_free++] = n - 1 - s;
    }
    return STATUS_OK;
}

int kv_cache_create(struct device *device, const struct kv_cache_spec *spec, struct kv_cache **out,
                    struct why *why)
{
    assert(spec->n_groups >= 1 && spec->n_groups <= KV_GROUPS_MAX);
    assert(spec->max_sequences >= 1 && spec->max_sequences <= SEQUENCES_MAX);
    assert(spec->max_context >= 1 && spec->max_context <= CONTEXT_TOKENS_MAX);
    struct kv_cache *cache = calloc(1, sizeof *cache);
    if (cache == NULL)
        return refuse(why, STATUS_NO_MEMORY, "no memory for a cache (%zu bytes)", sizeof *cache);
    cache->device = device;
    cache->spec = *spec;
    if (cache->spec.max_append == 0)
        cache->spec.max_append = STEP_ROWS_MAX * device_depth(device);
    uint32_t n_pages[KV_GROUPS_MAX];
    int status = plan_pages(device_ops(device), &cache->spec, n_pages, why);
    for (uint32_t g = 0; g < spec->n_groups && status == STATUS_OK; g++) {
        cache->n_groups++;
        status = kv_group_init(&cache->groups[g], device, &cache->spec, g, n_pages[g], why);
    }
    if (status == STATUS_OK)
        status = make_sequences(cache, why);
    void *counter = NULL, *seen = NULL;
    if (status == STATUS_OK)
        status = device_alloc(device, sizeof *cache->n_saturated, &counter, why);
    if (status == STATUS_OK)
        status = device_alloc_host(device, sizeof *cache->n_saturated_seen, &seen, why);
    cache->n_saturated = counter;
    cache->n_saturated_seen = seen;
    if (status < 0) {
        kv_cache_free(cache);
        return status;
    }
    *out = cache;
    return STATUS_OK;
}

void kv_cache_free(struct kv_cache *cache)
{
    if (cache == NULL)
        return;
    for (uint32_t g = 0; g < cache->n_groups; g++)
        kv_group_release(&cache->groups[g]);
    device_free(cache->device, cache->n_saturated);
    device_free_host(cache->device, cache->n_saturated_seen);
    free(cache->sequences);
    free(cache->free);
    free(cache->tables);
    free(cache);
}

/* --- promises --- */

uint32_t kv_cache_pages_of(const struct kv_cache *cache, uint64_t n_tokens)
{
    (void)cache;
    uint64_t n_pages = kv_pages_of(n_tokens);
    return n_pages < UINT32_MAX ? (uint32_t)n_pages : UINT32_MAX;
}

bool kv_cache_fits_now(const struct kv_cache *cache, uint64_t n_tokens)
{
    return kv_cache_family_fits_now(cache, &(struct kv_family){.n_promised = n_tokens});
}

/* When its pages are shared the budget of the one that reads holds no page of them any more, but
 * its copy of the last; until then it may hold them all beside. */
static uint32_t spare_of(const struct kv_group *group, const struct kv_family *family)
{
    uint64_t n_held = kv_pages_of(family->n_shared);
    if (family->n_forks == 0)
        return 0;
    if (n_held > group->window_pages)
        n_held = group->window_pages;
    return kv_group_budget(group, family->n_promised, family->n_shared) + (uint32_t)n_held -
           kv_group_budget(group, family->n_promised, 0);
}

static uint64_t pages_in(const struct kv_group *group, const struct kv_family *family)
{
    return (uint64_t)kv_group_budget(group, family->n_promised, 0) + spare_of(group, family) +
           (uint64_t)family->n_forks *
               kv_group_budget(group, family->n_promised, family->n_shared);
}

uint64_t kv_cache_family_pages(const struct kv_cache *cache, const struct kv_family *family)
{
    uint32_t g = 0;
    for (uint32_t i = cache->n_groups; i-- > 0;)
        g = cache->groups[i].spec.kind == KV_FULL ? i : g;
    return pages_in(&cache->groups[g], family);
}

bool kv_cache_family_fits_now(const struct kv_cache *cache, const struct kv_family *family)
{
    if (cache->n_free <= family->n_forks || !kv_cache_fits_ever(cache, family->n_promised))
        return false;
    for (uint32_t g = 0; g < cache->n_groups; g++)
        if (pages_in(&cache->groups[g], family) > page_pool_n_available(cache->groups[g].pool))
            return false;
    return true;
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
    return cache->n_groups * (n_zeroed + n_copied + n_seqs * KV_TABLES_OPS_MAX) + 1; /* counters */
}

static int refuse_room(const struct kv_cache *cache, uint64_t n_tokens, struct why *why)
{
    char asked[TEXT_NUMBER_BYTES], held[TEXT_NUMBER_BYTES];
    struct kv_cache_stats stats;
    kv_cache_read_stats(cache, &stats);
    if (!kv_cache_fits_ever(cache, n_tokens))
        return refuse(why, STATUS_TOO_LARGE,
                      "%s tokens are asked for and a sequence may hold %s (--kv-memory, "
                      "--max-context)",
                      text_count(asked, n_tokens), text_count(held, kv_cache_tokens_max(cache)));
    if (cache->n_free == 0)
        return refuse(why, STATUS_EXHAUSTED, "all %u sequences are taken (--max-sequences)",
                      cache->spec.max_sequences);
    return refuse(why, STATUS_EXHAUSTED,
                  "%s tokens need %u pages, %s, and %u are free (--kv-memory)",
                  text_count(asked, n_tokens), kv_cache_pages_of(cache, n_tokens),
                  text_bytes(held, kv_pages_of(n_tokens) * stats.page_bytes), stats.n_available);
}

/* All of extra[group] or nothing. */
static bool reserve_all(struct kv_cache *cache, const uint32_t *extra)
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

static kv_seq_id take_slot(struct kv_cache *cache, uint64_t n_promised)
{
    kv_seq_id seq = cache->free[--cache->n_free];
    struct kv_sequence *sequence = &cache->sequences[seq];
    assert(!sequence->is_open);
    sequence->is_open = true;
    sequence->promised = n_promised;
    sequence->written = sequence->committed = sequence->shared = 0;
    memset(sequence->spare, 0, sizeof sequence->spare);
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
    if (!kv_cache_family_fits_now(cache, family))
        return refuse_room(cache, family->n_promised, why);
    for (uint32_t g = 0; g < cache->n_groups; g++)
        extra[g] = (uint32_t)pages_in(&cache->groups[g], family);
    bool reserved = reserve_all(cache, extra);
    assert(reserved);
    (void)reserved;
    for (uint32_t i = 0; i <= family->n_forks; i++) {
        out[i] = take_slot(cache, family->n_promised);
        struct kv_sequence *sequence = &cache->sequences[out[i]];
        sequence->shared = i > 0 ? family->n_shared : 0;
        for (uint32_t g = 0; g < cache->n_groups && i == 0; g++)
            sequence->spare[g] = spare_of(&cache->groups[g], family);
    }
    return STATUS_OK;
}

static uint32_t reserved_of(const struct kv_cache *cache, const struct kv_sequence *sequence,
                            uint32_t g)
{
    uint32_t budget = kv_group_budget(&cache->groups[g], sequence->promised, sequence->shared);
    uint32_t n_own = page_table_n_own(&sequence->tables[g]);
    budget += sequence->spare[g];
    assert(n_own <= budget);
    return budget - n_own;
}

void kv_cache_close(struct kv_cache *cache, kv_seq_id seq)
{
    struct kv_sequence *sequence = sequence_at(cache, seq);
    for (uint32_t g = 0; g < cache->n_groups; g++) {
        struct page_pool *pool = cache->groups[g].pool;
        struct page_table *table = &sequence->tables[g];
        page_pool_unreserve(pool, reserved_of(cache, sequence, g));
        for (uint32_t i = table->n_pages; i-- > 0;) /* so that they are lent in this order again */
            page_pool_release(pool, table->pages[i]);
        page_table_clear(table);
    }
    sequence->is_open = false;
    cache->free[cache->n_free++] = seq;
}

static void share_pages(struct kv_cache *cache, struct kv_sequence *from, struct kv_sequence *to)
{
    to->written = to->committed = to->shared = from->shared = from->written;
    for (uint32_t g = 0; g < cache->n_groups; g++) {
        page_table_share(&from->tables[g], &to->tables[g]);
        for (uint32_t i = 0; i < to->tables[g].n_pages; i++)
            page_pool_share(cache->groups[g].pool, to->tables[g].pages[i]);
    }
}

void kv_cache_fork_into(struct kv_cache *cache, kv_seq_id from_seq, kv_seq_id to_seq)
{
    struct kv_sequence *from = sequence_at(cache, from_seq), *to = sequence_at(cache, to_seq);
    uint32_t had[KV_GROUPS_MAX];

    assert(from->committed == from->written && to->written == 0 && to->shared == from->written);
    for (uint32_t g = 0; g < cache->n_groups; g++) {
        had[g] = reserved_of(cache, from, g);
        from->spare[g] = 0;
    }
    share_pages(cache, from, to);
    for (uint32_t g = 0; g < cache->n_groups; g++) /* at the first fork: what it owned */
        page_pool_unreserve(cache->groups[g].pool, had[g] - reserved_of(cache, from, g));
}

int kv_cache_fork(struct kv_cache *cache, kv_seq_id seq, uint64_t n_promised, kv_seq_id *out,
                  struct why *why)
{
    struct kv_sequence *from = sequence_at(cache, seq);
    assert(from->committed == from->written && n_promised >= from->written);
    if (cache->n_free == 0 || !kv_cache_fits_ever(cache, n_promised))
        return refuse_room(cache, n_promised, why);
    uint32_t extra[KV_GROUPS_MAX], spare[KV_GROUPS_MAX];
    for (uint32_t g = 0; g < cache->n_groups; g++) {
        uint32_t had = reserved_of(cache, from, g);
        uint32_t need = kv_group_budget(&cache->groups[g], from->promised, from->written);
        extra[g] = kv_group_budget(&cache->groups[g], n_promised, from->written);
        extra[g] += need > had ? need - had : 0;
        spare[g] = had > need ? had - need : 0;
    }
    if (!reserve_all(cache, extra))
        return refuse_room(cache, n_promised, why);

    *out = take_slot(cache, n_promised);
    for (uint32_t g = 0; g < cache->n_groups; g++) {
        page_pool_unreserve(cache->groups[g].pool, spare[g]);
        from->spare[g] = 0; /* of a family whose forks left before */
    }
    share_pages(cache, from, &cache->sequences[*out]);
    return STATUS_OK;
}

/* --- tokens --- */

void kv_cache_append(struct kv_cache *cache, kv_seq_id seq, uint32_t n, struct stream *stream)
{
    struct kv_sequence *sequence = sequence_at(cache, seq);
    uint64_t written = sequence->written + n;
    assert(written <= sequence->promised && sequence->written >= sequence->shared);
    assert(written - sequence->committed <= cache->spec.max_append);
    for (uint32_t g = 0; g < cache->n_groups; g++) {
        struct kv_group *group = &cache->groups[g];
        if (n > 0)
            kv_group_extend(group, &sequence->tables[g], sequence->written,
                            (uint32_t)kv_pages_of(written), stream);
        kv_tables_send(&group->tables, seq, &sequence->tables[g], stream);
    }
    sequence->written = written;
}

void kv_cache_commit(struct kv_cache *cache, kv_seq_id seq, uint32_t n)
{
    struct kv_sequence *sequence = sequence_at(cache, seq);
    assert(sequence->committed + n <= sequence->written);
    sequence->committed += n;
    for (uint32_t g = 0; g < cache->n_groups; g++)
        kv_group_drop_before(&cache->groups[g], &sequence->tables[g],
                             kv_group_first_visible(&cache->groups[g], sequence->committed));
}

void kv_cache_truncate(struct kv_cache *cache, kv_seq_id seq, uint64_t n_tokens)
{
    struct kv_sequence *sequence = sequence_at(cache, seq);
    assert(n_tokens <= sequence->written && n_tokens >= sequence->shared);
    for (uint32_t g = 0; g < cache->n_groups; g++) {
        struct kv_group *group = &cache->groups[g];
        struct page_table *table = &sequence->tables[g];
        assert(kv_group_first_visible(group, n_tokens) >= table->first_page);
        kv_group_shrink(group, table, (uint32_t)kv_pages_of(n_tokens));
    }
    sequence->written = n_tokens;
    if (sequence->committed > n_tokens)
        sequence->committed = n_tokens;
}

uint64_t kv_cache_written(const struct kv_cache *cache, kv_seq_id seq)
{
    return sequence_at(cache, seq)->written;
}

uint64_t kv_cache_committed(const struct kv_cache *cache, kv_seq_id seq)
{
    return sequence_at(cache, seq)->committed;
}

/* --- what is --- */

void kv_cache_view(const struct kv_cache *cache, struct kv_view *out)
{
    out->n_groups = cache->n_groups;
    out->n_saturated = cache->n_saturated;
    for (uint32_t g = 0; g < cache->n_groups; g++)
        kv_group_view(&cache->groups[g], &out->groups[g]);
}

kv_seq_id kv_cache_padding(const struct kv_cache *cache)
{
    return cache->spec.max_sequences;
}

void kv_cache_fetch_counters(struct kv_cache *cache, struct stream *stream)
{
    device_read(stream, cache->n_saturated_seen, cache->n_saturated,
                sizeof *cache->n_saturated_seen);
}

/* The group with most pages speaks for all: the others keep windows. */
static const struct page_pool *largest_pool(const struct kv_cache *cache)
{
    const struct page_pool *largest = cache->groups[0].pool;
    for (uint32_t g = 1; g < cache->n_groups; g++)
        if (page_pool_n_pages(cache->groups[g].pool) > page_pool_n_pages(largest))
            largest = cache->groups[g].pool;
    return largest;
}

void kv_cache_read_stats(const struct kv_cache *cache, struct kv_cache_stats *out)
{
    const struct page_pool *pool = largest_pool(cache);
    *out = (struct kv_cache_stats){
        .n_pages = page_pool_n_pages(pool),
        .n_used = page_pool_n_pages(pool) - page_pool_n_free(pool),
        .n_reserved = page_pool_n_reserved(pool),
        .n_available = page_pool_n_available(pool),
        .n_saturated = *cache->n_saturated_seen,
        .n_sequences = cache->spec.max_sequences - cache->n_free,
    };
    for (uint32_t g = 0; g < cache->n_groups; g++) {
        size_t page_bytes = page_pool_page_bytes(cache->groups[g].pool);
        out->page_bytes += page_bytes;
        out->token_bytes += page_bytes / PAGE_TOKENS;
        out->memory_bytes += (uint64_t)page_bytes * page_pool_n_pages(cache->groups[g].pool);
    }
    for (uint32_t s = 0; s < cache->spec.max_sequences; s++)
        if (cache->sequences[s].is_open)
            out->n_tokens_written += cache->sequences[s].written;
}

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
        if (refs == 0 || (own && refs != 1))
            return refuse(why, STATUS_INTERNAL, "sequence %u group %u: page %u has %u references",
                          seq, g, table->pages[i], refs);
        group->named[table->pages[i]]++;
    }
    int status = kv_tables_check(&group->tables, seq, table, why);
    return status < 0 ? refuse_prefix(why, status, "group %u", g) : STATUS_OK;
}

static int check_group(struct kv_cache *cache, uint32_t g, struct why *why)
{
    struct kv_group *group = &cache->groups[g];
    uint32_t n_pages = page_pool_n_pages(group->pool);
    uint64_t n_reserved = 0;
    int status = page_pool_check(group->pool, why);
    memset(group->named, 0, n_pages * sizeof *group->named);
    for (kv_seq_id seq = 0; seq < cache->spec.max_sequences && status == STATUS_OK; seq++) {
        if (!cache->sequences[seq].is_open)
            continue;
        n_reserved += reserved_of(cache, &cache->sequences[seq], g);
        status = check_table(cache, seq, g, why);
    }
    if (status < 0)
        return status;
    for (page_id page = 0; page < n_pages; page++)
        if (group->named[page] != page_pool_refs(group->pool, page))
            return refuse(why, STATUS_INTERNAL, "group %u: page %u has %u references, %u tables", g,
                          page, page_pool_refs(group->pool, page), group->named[page]);
    if (n_reserved != page_pool_n_reserved(group->pool))
        return refuse(why, STATUS_INTERNAL, "group %u: %u pages promised, %llu owed", g,
                      page_pool_n_reserved(group->pool), (unsigned long long)n_reserved);
    return STATUS_OK;
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
    return STATUS_OK;
}
