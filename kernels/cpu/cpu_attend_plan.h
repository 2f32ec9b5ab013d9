/* kernels/cpu/cpu_attend_plan.h: how the rows of a step are cut into units that workers take.
 *
 *   block   up to 16 adjacent rows of one sequence within one page: they see the same page states
 *   vhead   a kv head, or one part of its query heads when they are very many
 *   whole   a unit (block, vhead) that walks all its spans itself and merges as it goes; longest
 *           blocks first
 *   split   a (block, vheads) so long that one worker would be the last to end: a chain of one
 *           unit a span
 *
 *   counter:  | chain 0: span 0, 1, 2 ... | chain 1: ... | whole units: block by block, by vhead |
 *
 * The states of split units wait in a ring of slots until their predecessors in the chain are
 * merged; who ends a unit merges what is due. A unit may start when the one that used its slot
 * before is merged; lower units never wait for higher ones, so the ring cannot lock. The workspace
 * is bounded by threads, not by the context. Cutting changes no bits.
 */
#ifndef QUIRE_KERNELS_CPU_ATTEND_PLAN_H
#define QUIRE_KERNELS_CPU_ATTEND_PLAN_H

#include <stdatomic.h>

#include "kernels/cpu/cpu_attend.h"

#define ATTEND_BLOCK_ROWS 16
#define ATTEND_PART_HEADS 32 /* query heads of one kv head that a unit takes at most */
#define ATTEND_SLOTS_PER_THREAD 8
#define ATTEND_CHAINS_PER_THREAD 4

struct attend_layout { /* what follows from shapes and threads alone */
    uint32_t n_threads, n_heads, k_dim, v_dim;
    uint32_t group_heads; /* query heads of a kv head */
    uint32_t part_heads, n_parts, n_vheads;
    uint32_t block_rows; /* 16, or fewer when the heads are very large */
    uint32_t unit_rows;  /* rows (queries x heads) of one unit at most */
    uint32_t n_slots, max_chains;
    bool direct; /* a unit's output is whole blocks of 32: it goes to the panel at once */
};

struct attend_block {
    uint32_t row, n_rows, seq;
    uint32_t first_position; /* that any of its rows sees */
    uint32_t last_position;  /* of its last row */
};

struct attend_chain {
    _Alignas(64) _Atomic uint32_t locked;
    uint32_t n_merged;
    uint32_t block_idx, vhead, n_vheads;
    uint32_t first_span, n_spans;
    uint32_t first_unit;
};

struct attend_slot {
    /* 2g: free for its g-th unit; 2g + 1: that unit's state waits */
    _Alignas(64) _Atomic uint32_t turn;
};

struct attend_plan { /* at the start of the workspace */
    uint32_t n_blocks, n_chains, n_split_units, n_whole_blocks;
    struct attend_chain *chains; /* [max_chains] */
    struct attend_slot *slots;   /* [n_slots] */
    float *states; /* [n_slots + max_chains] of unit_rows * (v_dim + 2): slots, then chains */
    struct attend_block *blocks; /* [n_rows] */
    uint32_t *order;             /* [n_rows]: blocks of whole units, longest first */
    float *rows;                 /* [n_rows, n_heads * v_dim] when not direct */
};

struct attend_layout attend_layout(int n_threads, uint32_t n_heads, const struct kv_shape *shape);
size_t attend_workspace(const struct attend_layout *layout, uint32_t n_rows);
/* Fills the plan at the start of `workspace`, all turns at 0. One worker; the others come after a
 * barrier. */
void attend_plan_fill(const struct attend_layout *layout, const struct rows_view *rows,
                      const struct kv_group_view *group, void *workspace);

/* The first position that a query at `position` sees. */
static inline uint32_t attend_first_visible(const struct kv_group_view *group, uint32_t position)
{
    if (group->kind == KV_SLIDING && position >= group->window)
        return position - group->window + 1;
    if (group->kind == KV_CHUNKED)
        return position / group->window * group->window;
    return 0;
}

#endif
