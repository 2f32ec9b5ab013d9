/* kernels/cuda/cuda_moe.h: the workspace of moe on a GPU.
 *
 *   pair      (row, slot): row * n_used + slot
 *   position  pairs sorted by expert, those of one expert in their own order
 *   tile      up to 8 or 32 positions of one expert: the rows of a block
 *
 * How many tiles there are is known on the device alone; a grid has as many as there can be, and
 * blocks beyond are over at once. So a list or graph never depends on what rows choose.
 */
#ifndef QUIRE_KERNELS_CUDA_MOE_H
#define QUIRE_KERNELS_CUDA_MOE_H

#include "kernels/cuda/cuda_act.h"
#include "kernels/cuda/cuda_weight.h"

struct moe_tile {
    uint32_t expert, first, end; /* positions */
};

struct moe_counts {
    uint32_t n_positions; /* pairs with an expert that is there */
    uint32_t n_tiles;
};

struct moe_space {
    struct moe_counts *counts;
    uint32_t *order;              /* [pairs]: the pair of a position */
    struct moe_tile *tiles;       /* [moe_tiles_max] */
    float *row_scales;            /* [pairs]: by position, of the expert's input */
    struct cuda_act_rows in, gated; /* [pairs]: by position */
    float *results;               /* [pairs, n_out of down]: by pair */
};

/* Rows of a tile: those of one step of few rows are never more. */
static inline uint32_t moe_tile_rows(uint32_t n_rows)
{
    return n_rows <= 8 ? 8 : 32;
}

/* Tiles of any split of the pairs among experts: each may end in one that is not full. */
static inline uint32_t moe_tiles_max(uint32_t n_pairs, uint32_t n_experts, uint32_t tile_rows)
{
    uint32_t n_chosen = n_experts < n_pairs ? n_experts : n_pairs;
    return (n_pairs + n_chosen * (tile_rows - 1)) / tile_rows;
}

static inline struct moe_space moe_space_of(void *base, const struct weight *gate_up,
                                            const struct weight *down, uint32_t max_rows,
                                            uint32_t n_used, size_t *bytes)
{
    uint32_t n_pairs = max_rows * n_used;
    struct moe_space space;
    char *at = (char *)base;
    size_t used = 0, panel;

    space.counts = (struct moe_counts *)at;
    used += CUDA_ACT_ALIGNMENT;
    space.order = (uint32_t *)(at + used);
    used += cuda_act_round_up(n_pairs * sizeof *space.order, CUDA_ACT_ALIGNMENT);
    space.tiles = (struct moe_tile *)(at + used);
    used += cuda_act_round_up(moe_tiles_max(n_pairs, gate_up->n_experts, 8) * sizeof *space.tiles,
                              CUDA_ACT_ALIGNMENT);
    space.row_scales = (float *)(at + used);
    used += cuda_act_round_up(n_pairs * sizeof *space.row_scales, CUDA_ACT_ALIGNMENT);
    space.in = cuda_act_layout(at + used, n_pairs, gate_up->n_in, gate_up->act_forms, &panel);
    used += panel;
    space.gated = cuda_act_layout(at + used, n_pairs, down->n_in, down->act_forms, &panel);
    used += panel;
    space.results = (float *)(at + used);
    used += cuda_act_round_up((size_t)n_pairs * down->n_out * sizeof(float), CUDA_ACT_ALIGNMENT);
    *bytes = used;
    return space;
}

#endif
