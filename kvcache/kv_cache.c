#include "kvcache/kv_state.h"

#include <assert.h>
#include <stdlib.h>

#include "base/status.h"
#include "base/text.h"

/* --- life --- */

static int make_sequences(struct kv_cache *cache, struct why *why)
{
    uint32_t n = cache->spec.max_sequences;
    size_t capacity = 0;
    for (uint32_t g = 0; g < cache->n_groups; g++)
        capacity += cache->groups[g].table_capacity + cache->groups[g].open.tables.capacity;
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
            group_capacity = cache->groups[g].open.tables.capacity;
            page_table_init(&cache->sequences[s].open[g], memory, group_capacity);
            memory += group_capacity;
        }
        cache->free[cache->n_free++] = n - 1 - s;
    }
    return STATUS_OK;
}

static struct kv_cache_spec filled_in(const struct device *device, const struct kv_cache_spec *spec)
{
    struct kv_cache_spec full = *spec;
    if (full.max_append == 0)
        full.max_append = STEP_ROWS_MAX * device_depth(device);
    if (full.max_uncommitted == 0)
        full.max_uncommitted = full.max_append;
    return full;
}

uint64_t kv_cache_open_bytes(const struct device *device, const struct kv_cache_spec *spec)
{
    struct kv_cache_spec full = filled_in(device, spec);
    uint64_t bytes = 0;
    for (uint32_t g = 0; g < full.n_groups; g++)
        bytes += kv_open_bytes(device_ops(device), &full, &full.groups[g]);
    return bytes;
}

/* On a CPU it is the memory that pages are in, of which they have taken little yet; a GPU's driver
 * says itself what it cannot pin. */
static int check_host_memory(const struct kv_cache *cache, uint64_t page_bytes, struct why *why)
{
    uint64_t host_bytes = cache->spec.host_bytes, free_bytes = device_memory_free(cache->device);
    char host[TEXT_NUMBER_BYTES], pages[TEXT_NUMBER_BYTES], left[TEXT_NUMBER_BYTES];

    if (device_is_gpu(cache->device) ||
        (host_bytes <= free_bytes && page_bytes <= free_bytes - host_bytes))
        return STATUS_OK;
    return refuse(why, STATUS_NO_MEMORY,
                  "--host-pool %s and the cache of %s are more than the %s that is free: lower it, "
                  "or --kv-memory",
                  text_bytes(host, host_bytes), text_bytes(pages, page_bytes),
                  text_bytes(left, free_bytes));
}

/* Shared among the groups as the device's memory is. */
static int open_host(struct kv_cache *cache, struct why *why)
{
    struct kv_host_spec spec = {.n_groups = cache->n_groups};
    uint64_t all_bytes = 0, least_bytes = 0;
    char have[TEXT_NUMBER_BYTES], need[TEXT_NUMBER_BYTES];

    if (cache->spec.host_bytes == 0)
        return STATUS_OK;
    if (cache->keeper.tree == NULL)
        return refuse(why, STATUS_INVALID,
                      "--host-pool is for pages that are remembered, and --no-prefix-cache "
                      "remembers none: leave one of them out");
    for (uint32_t g = 0; g < cache->n_groups; g++) {
        const struct page_pool *pool = cache->groups[g].pool;
        spec.page_bytes[g] = page_pool_page_bytes(pool);
        spec.n_pages[g] = page_pool_n_pages(pool);
        spec.pages[g] = page_pool_base(pool);
        least_bytes += spec.page_bytes[g];
        all_bytes += (uint64_t)page_pool_n_pages(pool) * spec.page_bytes[g];
    }
    if (cache->spec.host_bytes < least_bytes)
        return refuse(why, STATUS_INVALID, "--host-pool %s holds no page: one of %d tokens takes "
                      "%s; raise it, or leave it out",
                      text_bytes(have, cache->spec.host_bytes), PAGE_TOKENS,
                      text_bytes(need, least_bytes));
    int status = check_host_memory(cache, all_bytes, why);
    if (status < 0)
        return status;
    for (uint32_t g = 0; g < cache->n_groups; g++) {
        double share = (double)cache->spec.host_bytes / (double)all_bytes;
        double n_slots = share * page_pool_n_pages(cache->groups[g].pool);
        spec.n_slots[g] = n_slots < 1 ? 1 : n_slots < HOST_PAGES_MAX ? (uint32_t)n_slots
                                                                     : HOST_PAGES_MAX;
    }
    status = kv_host_create(cache->device, &spec, &cache->host, why);
    cache->keeper.host = cache->host;
    return status;
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
    cache->spec = filled_in(device, spec);
    for (int i = 0; i < PINS_MAX; i++)
        cache->pins[i].node = NODE_NONE;
    uint32_t n_pages[KV_GROUPS_MAX];
    int status = kv_memory_share(device_ops(device), &cache->spec, n_pages, why);
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
    if (status == STATUS_OK)
        status = sha256_create(&cache->hash);
    if (status == STATUS_OK && !spec->no_prefixes)
        status = kv_keeper_init(&cache->keeper, cache->groups, cache->n_groups, why);
    if (status == STATUS_OK)
        status = open_host(cache, why);
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
    kv_keeper_release(&cache->keeper); /* before the pools */
    kv_host_free(cache->host);
    sha256_free(cache->hash);
    for (uint32_t g = 0; g < cache->n_groups; g++)
        kv_group_release(&cache->groups[g]);
    device_free(cache->device, cache->n_saturated);
    device_free_host(cache->device, cache->n_saturated_seen);
    free(cache->sequences);
    free(cache->free);
    free(cache->tables);
    free(cache);
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

uint32_t kv_leading_group(const struct kv_cache *cache)
{
    uint32_t leading = 0;
    for (uint32_t g = cache->n_groups; g-- > 0;)
        leading = cache->groups[g].spec.kind == KV_FULL ? g : leading;
    return leading;
}

void kv_cache_read_stats(const struct kv_cache *cache, struct kv_cache_stats *out)
{
    const struct page_pool *pool = cache->groups[kv_leading_group(cache)].pool;
    *out = (struct kv_cache_stats){
        .n_pages = page_pool_n_pages(pool),
        .n_used = page_pool_n_pages(pool) - page_pool_n_free(pool) - page_pool_n_idle(pool),
        .n_cached = page_pool_n_idle(pool),
        .n_reserved = page_pool_n_reserved(pool),
        .n_available = page_pool_n_available(pool),
        .n_saturated = *cache->n_saturated_seen,
        .n_sequences = cache->spec.max_sequences - cache->n_free,
        .n_hit_tokens = cache->n_hit_tokens,
        .n_evicted = cache->keeper.n_evicted,
    };
    if (cache->host != NULL) {
        struct kv_host_stats host;
        kv_host_read_stats(cache->host, &host);
        out->n_host_pages = host.n_slots;
        out->n_host_used = host.n_used;
        out->n_spilled = host.n_put;
        out->n_recalled = host.n_got;
    }
    for (uint32_t g = 0; g < cache->n_groups; g++) {
        size_t page_bytes = page_pool_page_bytes(cache->groups[g].pool);
        out->page_bytes += page_bytes;
        out->token_bytes += page_bytes / PAGE_TOKENS;
        out->memory_bytes += (uint64_t)page_bytes * page_pool_n_pages(cache->groups[g].pool);
    }
    out->memory_bytes += kv_cache_open_bytes(cache->device, &cache->spec);
    for (uint32_t s = 0; s < cache->spec.max_sequences; s++)
        if (cache->sequences[s].is_open)
            out->n_tokens_written += cache->sequences[s].written;
}
