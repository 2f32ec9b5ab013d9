/* model/merge_table.h: the merges of a byte-pair vocabulary, by the ids of the two sides.
 *
 *   (left id, right id)  ->  { rank, merged id }        open addressing, at most half full
 *
 * Invariant: a pair stands once; the first merge of a pair wins (lowest rank). Thread: read-only
 * after the last add.
 */
#ifndef QUIRE_MODEL_MERGE_TABLE_H
#define QUIRE_MODEL_MERGE_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MERGE_NONE UINT32_MAX /* a rank that no merge has */

struct merge_slot {
    uint64_t pair; /* left << 32 | right; all ones when empty */
    uint32_t rank, merged;
};

struct merge_table {
    struct merge_slot *slots; /* [mask + 1] */
    uint64_t mask;
};

struct why;

/* STATUS_NO_MEMORY */
int merge_table_init(struct merge_table *table, uint32_t n_merges, struct why *why);
void merge_table_release(struct merge_table *table);
/* At most n_merges of them; ids below UINT32_MAX. */
void merge_table_add(struct merge_table *table, uint32_t left, uint32_t right, uint32_t rank,
                     uint32_t merged);

static inline uint64_t merge_table_home(const struct merge_table *table, uint64_t pair)
{
    uint64_t mixed = pair * UINT64_C(0x9E3779B97F4A7C15);
    return (mixed ^ mixed >> 32) & table->mask;
}

/* The rank of a pair and what it becomes, or MERGE_NONE. */
static inline uint32_t merge_table_find(const struct merge_table *table, uint32_t left,
                                        uint32_t right, uint32_t *merged)
{
    uint64_t pair = (uint64_t)left << 32 | right;
    for (uint64_t i = merge_table_home(table, pair);; i = (i + 1) & table->mask) {
        const struct merge_slot *slot = &table->slots[i];
        if (slot->pair == pair) {
            *merged = slot->merged;
            return slot->rank;
        }
        if (slot->pair == UINT64_MAX)
            return MERGE_NONE;
    }
}

#endif
