/* kernels/cuda/cuda_attend.h: what the kernels of attend share: how rows are cut into blocks and
 * units, and where partial states stand.
 *
 *   block  adjacent rows of one sequence: few (up to 16 rows x heads, one mma tile) or many (64;
 *          32 over packed pages of wide heads)
 *   part   what one walk of a block covers: a span, a group of 32 spans, or all that it sees
 *   unit   a part and a vhead: a kv head with all its query heads (plain form: one query head)
 *   state  (m, l, o) of a row after a part, for each query head
 *
 *   plan    cuts; the finest parts whose states fit the workspace
 *   walk    unit by unit, taken from a counter; pages ascending, a state a span, folded in order
 *   merge   the states of a row in order, o / l, into the panel
 *
 * The order of every sum, whatever the parts: within a page one softmax step; pages ascending
 * within a span, which starts empty; spans ascending within a group of 32 at absolute positions;
 * groups ascending. So cutting changes no bits.
 *
 * Fold of (m, l, o) b into a: m = max(a.m, b.m), ca = a.m == m ? 1 : 2^(a.m - m), cb alike;
 * l = fma(b.l, cb, a.l * ca), o alike. Empty is (-1e30, 0, 0). The output is o / l + 0: zeros are
 * positive, so an empty state in between changes nothing.
 */
#ifndef QUIRE_KERNELS_CUDA_ATTEND_H
#define QUIRE_KERNELS_CUDA_ATTEND_H

#include "kernels/cuda/cuda_act.h"

#define ATTEND_M_START (-1e30f)
#define SPAN_PAGES (SPAN_TOKENS / PAGE_TOKENS)
#define ATTEND_GROUP_SPANS 32
#define ATTEND_TILE_ROWS 16  /* of an mma: rows x heads of a block of few */
/* Of a block of many: beside codes that are widened, registers hold half of a wide head. */
#define ATTEND_MANY_ROWS(packs, dim) ((packs) && (dim) > 64 ? 32u : 64u)
#define ATTEND_STATES_MIN 512  /* of the workspace, beside one a row */
#define ATTEND_STATES_MAX 2048
#define ATTEND_GRID_MAX 1024

enum attend_class { ATTEND_FEW, ATTEND_MANY, ATTEND_CLASSES };
enum attend_cut { ATTEND_BY_SPAN, ATTEND_BY_GROUP, ATTEND_WHOLE, ATTEND_CUTS };

/* Whether pages of this shape are attended over by mma; all others are by fma. */
static inline bool attend_is_tiled(const struct kv_group_view *group, uint32_t group_heads)
{
    const struct kv_shape *shape = &group->shape;
    return group->dtype_open == KV_F16 && !shape->v_in_k && shape->k_dim == shape->v_dim &&
           (shape->k_dim == 64 || shape->k_dim == 128) && group_heads <= ATTEND_TILE_ROWS;
}

struct attend_block {
    uint32_t row, n_rows, seq;
    uint32_t first_position; /* that any of its rows sees */
    uint32_t last_position;  /* of its last row */
    uint32_t attend_class, cut;
    uint32_t first_state;    /* of part p and row i: first_state + p * n_rows + i */
};

struct attend_part {
    uint32_t block, part;
};

struct attend_counts {
    /* states that each class would take with each cut */
    uint32_t n_wanted[ATTEND_CLASSES][ATTEND_CUTS];
    uint32_t n_blocks, n_states;
    uint32_t next_unit[ATTEND_CLASSES];
    uint32_t n_parts[ATTEND_CLASSES];
};

struct attend_run { /* the kernels' parameter */
    struct attend_args args;
    struct cuda_act_rows q, out;
    uint32_t group_heads;                /* query heads of a kv head */
    uint32_t n_vheads;
    uint32_t rows_max[ATTEND_CLASSES];   /* of a block */
    uint32_t max_states;
    int *error;
    /* the workspace */
    struct attend_counts *counts;
    struct attend_block *blocks;                /* [n_rows] */
    uint32_t *row_block;                        /* [n_rows] */
    struct attend_part *parts[ATTEND_CLASSES];  /* [max_states] */
    float *ml;                                  /* [max_states, n_heads, 2] */
    float *o;                                   /* [max_states, n_heads, v_dim] */
    float *scratch;                             /* [n_rows, n_heads, v_dim] */
};

#endif
