/* kernels/cpu/cpu_walk.h: how tiles meet rows: who takes which unit, and in what order the panels
 * pass.
 *
 *   rows     | walk 0: <= 448 KB of panels, stays in L2, or four groups   | walk 1 ...
 *   units    | all of them over walk 0, then all over walk 1
 *   unit     | passes of a few groups of 12 rows, so that the accumulators stay in L1
 *   tile     | cut along k so that a piece stays in L1 beside the panels
 *
 * Up to 12 rows (decode) there is one group: each worker streams its own contiguous units, the same
 * ones at every step, and prefetches ahead. More rows (prefill): workers take pieces from the op's
 * counter, so that a slow core gets less. None of this shows in a result: every output is one chain
 * over k.
 */
#ifndef QUIRE_KERNELS_CPU_WALK_H
#define QUIRE_KERNELS_CPU_WALK_H

#include "kernels/cpu/cpu_product.h"

#define WALK_PANEL_BYTES (448u << 10)
#define WALK_GROUPS_MIN 4 /* of very wide rows: weights are unpacked, and read, once a walk */
#define WALK_PIECE_BYTES (16u << 10) /* of a tile's wide blocks, along k */
#define WALK_STREAM_BYTES (8u << 10) /* the same where weights come from memory */
#define WALK_PREFETCH_BYTES (12u << 10)

struct cpu_input { /* the rows that a linear multiplies */
    const struct act *act;
    uint32_t first, n_in; /* the values of a row that it does: first is whole blocks; 0, 0: all */
    uint32_t n_rows;
    enum isa isa;
    enum activations activations;
};

struct cpu_pass { /* a few panel groups with their accumulators */
    uint32_t group_begin, group_end;
    bool streams; /* the weights come from memory: prefetch, and cut k finely */
    float *acc;   /* [group_end - group_begin, 12, 16]; written whole */
};

/* The chains of one tile with all rows of the pass. */
void cpu_walk_tile(const struct cpu_input *input, uint32_t type, const uint8_t *tile,
                   const struct cpu_pass *pass);

static inline uint32_t cpu_walk_n_groups(uint32_t n_rows)
{
    return (n_rows + PANEL_ROWS - 1) / PANEL_ROWS;
}

/* Panel groups that stay in L2 while weights pass. */
uint32_t cpu_walk_groups(const struct cpu_input *input);
/* How often the weights pass, each time beside as many rows as stay in L2. */
uint32_t cpu_walk_n_walks(const struct cpu_input *input);

/* Calls visit(arg, unit, pass) for every unit that falls to this worker and every pass over it.
 * pass->acc is the worker's scratch; a pass has at most max_groups groups. */
typedef void cpu_walk_visit(const void *arg, uint32_t unit, struct cpu_pass *pass);
void cpu_walk(const struct cpu_worker *worker, const struct cpu_input *input, uint32_t n_units,
              uint32_t max_groups, cpu_walk_visit *visit, const void *arg);

#endif
