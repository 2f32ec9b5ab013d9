#include "model/merge_table.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"

int merge_table_init(struct merge_table *table, uint32_t n_merges, struct why *why)
{
    uint64_t n_slots = 4;
    while (n_slots < 2 * (uint64_t)n_merges)
        n_slots *= 2;
    *table = (struct merge_table){.mask = n_slots - 1};
    table->slots = malloc(n_slots * sizeof *table->slots);
    if (table->slots == NULL)
        return refuse(why, STATUS_NO_MEMORY, "no memory for the table of %u merges (%zu bytes)",
                      n_merges, (size_t)n_slots * sizeof *table->slots);
    memset(table->slots, 0xFF, n_slots * sizeof *table->slots);
    return STATUS_OK;
}

void merge_table_release(struct merge_table *table)
{
    free(table->slots);
    *table = (struct merge_table){0};
}

void merge_table_add(struct merge_table *table, uint32_t left, uint32_t right, uint32_t rank,
                     uint32_t merged)
{
    uint64_t pair = (uint64_t)left << 32 | right;
    assert(pair != UINT64_MAX && rank != MERGE_NONE);
    uint64_t i = merge_table_home(table, pair);
    while (table->slots[i].pair != UINT64_MAX) {
        if (table->slots[i].pair == pair)
            return;
        i = (i + 1) & table->mask;
    }
    table->slots[i] = (struct merge_slot){.pair = pair, .rank = rank, .merged = merged};
}
