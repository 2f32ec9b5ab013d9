#include "kvcache/kv_state.h"

#include <assert.h>

#include "base/status.h"
#include "base/text.h"

/* Of the sequences, and one more: who reads for a family holds a window beside those of all. */
static uint32_t n_windows(const struct kv_cache_spec *spec)
{
    return spec->max_sequences + (spec->max_sequences > 1);
}

/* Windowed groups never need more than their windows; what they leave goes to the others. */
static void share_memory(const struct kv_cache_spec *spec, uint64_t bytes_left,
                         const size_t *page_bytes, uint32_t *n_pages)
{
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
                cap *= n_windows(spec);
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

static int refuse_open(const struct kv_cache_spec *spec, uint64_t open_bytes, uint64_t page_bytes,
                       struct why *why)
{
    char have[TEXT_NUMBER_BYTES], need[TEXT_NUMBER_BYTES], page[TEXT_NUMBER_BYTES];
    return refuse(why, STATUS_INVALID,
                  "--kv-memory %s holds no packed page: the pages that %u sequences are writing "
                  "take %s, and one of %d tokens takes %s; raise it, or lower --max-sequences",
                  text_bytes(have, spec->memory_bytes), spec->max_sequences,
                  text_bytes(need, open_bytes), PAGE_TOKENS, text_bytes(page, page_bytes));
}

int kv_memory_share(const struct ops *ops, const struct kv_cache_spec *spec, uint32_t *n_pages,
                    struct why *why)
{
    size_t page_bytes[KV_GROUPS_MAX];
    uint64_t all_bytes = 0, open_bytes = 0;
    for (uint32_t g = 0; g < spec->n_groups; g++) {
        assert(spec->groups[g].kind == KV_FULL || spec->groups[g].window > 0);
        page_bytes[g] = kv_group_page_bytes(ops, &spec->groups[g]);
        all_bytes += page_bytes[g];
        open_bytes += kv_open_bytes(ops, spec, &spec->groups[g]);
    }
    if (open_bytes > 0 && spec->memory_bytes < open_bytes + all_bytes)
        return refuse_open(spec, open_bytes, all_bytes, why);
    if (spec->memory_bytes < all_bytes) {
        char have[TEXT_NUMBER_BYTES], need[TEXT_NUMBER_BYTES];
        return refuse(
            why, STATUS_INVALID, "--kv-memory %s holds no page: one page of %d tokens takes %s",
            text_bytes(have, spec->memory_bytes), PAGE_TOKENS, text_bytes(need, all_bytes));
    }
    share_memory(spec, spec->memory_bytes - open_bytes, page_bytes, n_pages);
    return STATUS_OK;
}
