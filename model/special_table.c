#include "model/special_table.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"

static int compare_texts(struct slice a, struct slice b)
{
    int order = memcmp(a.bytes, b.bytes, a.len < b.len ? a.len : b.len);
    if (order != 0)
        return order;
    return (a.len > b.len) - (a.len < b.len);
}

static int compare_specials(const void *left, const void *right)
{
    const struct special *a = left, *b = right;
    int order = compare_texts(a->text, b->text);
    return order != 0 ? order : (a->id > b->id) - (a->id < b->id);
}

int special_table_init(struct special_table *table, const struct special *specials, size_t n,
                       struct why *why)
{
    *table = (struct special_table){0};
    if (n == 0)
        return STATUS_OK;
    table->sorted = malloc(n * sizeof *table->sorted);
    if (table->sorted == NULL)
        return refuse(why, STATUS_NO_MEMORY, "no memory for %zu special tokens", n);
    memcpy(table->sorted, specials, n * sizeof *specials);
    qsort(table->sorted, n, sizeof *table->sorted, compare_specials);

    for (size_t i = 0; i < n; i++) {
        struct special special = table->sorted[i];
        assert(special.text.len > 0 && special.text.len <= SPECIAL_BYTES_MAX);
        if (table->n > 0 && slice_equal(table->sorted[table->n - 1].text, special.text))
            continue;
        table->sorted[table->n++] = special;
        table->first_bytes[special.text.bytes[0]] = true;
    }
    return STATUS_OK;
}

void special_table_release(struct special_table *table)
{
    free(table->sorted);
    *table = (struct special_table){0};
}

/* First of sorted[low, high) whose byte `depth` is at least `byte`; all of them are longer than
 * depth. */
static size_t lower_bound(const struct special_table *table, size_t low, size_t high, size_t depth,
                          unsigned byte)
{
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (table->sorted[middle].text.bytes[depth] < byte)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The longest text that `rest` begins with. Invariant: sorted[low, high) share the first `depth`
 * bytes with rest. */
static struct special_match match_here(const struct special_table *table, struct slice rest,
                                       bool at_end)
{
    struct special_match match = {.outcome = SPECIAL_NONE};
    size_t low = 0, high = table->n;
    for (size_t depth = 0; low < high; depth++) {
        if (depth > 0 && table->sorted[low].text.len == depth) {
            match = (struct special_match){
                .outcome = SPECIAL_FOUND, .len = depth, .id = table->sorted[low].id};
            low++;
            if (low == high)
                break;
        }
        if (depth == rest.len) {
            if (!at_end)
                match.outcome = SPECIAL_UNDECIDED;
            break;
        }
        low = lower_bound(table, low, high, depth, rest.bytes[depth]);
        high = lower_bound(table, low, high, depth, rest.bytes[depth] + 1u);
    }
    return match;
}

struct special_match special_table_search(const struct special_table *table, struct slice rest,
                                          bool at_end)
{
    if (table->n > 0) {
        for (size_t at = 0; at < rest.len; at++) {
            if (!table->first_bytes[rest.bytes[at]])
                continue;
            struct slice here = slice_of(rest.bytes + at, rest.len - at);
            struct special_match match = match_here(table, here, at_end);
            if (match.outcome != SPECIAL_NONE) {
                match.at = at;
                return match;
            }
        }
    }
    return (struct special_match){.outcome = SPECIAL_NONE, .at = rest.len};
}

bool special_table_find(const struct special_table *table, struct slice text, uint32_t *id)
{
    struct special_match match = {.outcome = SPECIAL_NONE};
    if (text.len > 0)
        match = match_here(table, text, true);
    if (match.outcome != SPECIAL_FOUND || match.len != text.len)
        return false;
    *id = match.id;
    return true;
}
