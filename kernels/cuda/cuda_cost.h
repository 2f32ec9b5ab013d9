/* kernels/cuda/cuda_cost.h: what the CUDA ops cost (op_cost.h), counted as their sources move and
 * multiply. Plain C: nothing here needs a GPU, CUDA's headers or a device.
 *
 * Arrays that ops call "device" are read here: they must be the host's. Weights are CUDA's, planned
 * or loaded (cuda_weight.h); their memory is not looked at. A walk over weights counts each time,
 * also where a chip's L2 still holds them. What only some values ask for is left out: rows beyond
 * the range of f16 that linear_glu computes again, and what cuts of sampling cost.
 */
#ifndef QUIRE_KERNELS_CUDA_COST_H
#define QUIRE_KERNELS_CUDA_COST_H

#include "kernels/op_cost.h"
#include "kernels/ops.h"

struct op_cost cuda_cost_embed(const struct embed_args *args);
struct op_cost cuda_cost_norm(const struct norm_args *args);
struct op_cost cuda_cost_quantize(const struct quantize_args *args);
struct op_cost cuda_cost_linear(const struct linear_args *args);
struct op_cost cuda_cost_linear_heads(const struct linear_heads_args *args);
struct op_cost cuda_cost_linear_glu(const struct linear_glu_args *args);
struct op_cost cuda_cost_route(const struct route_args *args);
/* Of the experts that args->experts name: each is read once for 8 or 32 of its rows. */
struct op_cost cuda_cost_moe(const struct moe_args *args);
struct op_cost cuda_cost_rope_append(const struct rope_append_args *args);
struct op_cost cuda_cost_page_seal(const struct page_seal_args *args);
/* With the workspace of attend_workspace_bytes for q.max_rows rows and the greatest position: it
 * decides how many partial states go to memory and come back. */
struct op_cost cuda_cost_attend(const struct attend_args *args);
struct op_cost cuda_cost_gather(const struct gather_args *args);
/* Of rows that are drawn greedily. */
struct op_cost cuda_cost_greedy(const struct sample_args *args);
struct op_cost cuda_cost_page_zero(const struct page_zero_args *args);
struct op_cost cuda_cost_page_copy(const struct page_copy_args *args);

/* Bytes of one row of a panel. */
double cuda_cost_panel_row(const struct act *act);

#endif
