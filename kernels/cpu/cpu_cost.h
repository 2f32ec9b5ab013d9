/* kernels/cpu/cpu_cost.h: what the CPU's ops cost (op_cost.h). Arrays that ops call "device" are
 * read here: they must be the host's. Weights are the CPU's, their memory is not looked at.
 */
#ifndef QUIRE_KERNELS_CPU_COST_H
#define QUIRE_KERNELS_CPU_COST_H

#include "kernels/op_cost.h"
#include "kernels/ops.h"

struct op_cost cpu_cost_embed(const struct embed_args *args);
struct op_cost cpu_cost_norm(const struct norm_args *args, enum activations activations);
struct op_cost cpu_cost_quantize(const struct quantize_args *args, enum activations activations);
struct op_cost cpu_cost_linear(const struct linear_args *args, enum activations activations);
struct op_cost cpu_cost_linear_heads(const struct linear_heads_args *args,
                                     enum activations activations);
struct op_cost cpu_cost_linear_glu(const struct linear_glu_args *args,
                                   enum activations activations);
struct op_cost cpu_cost_route(const struct route_args *args);
/* Of the experts that args->experts name: each is read once, or as often as its rows ask for. */
struct op_cost cpu_cost_moe(const struct moe_args *args, enum activations activations);
struct op_cost cpu_cost_rope_append(const struct rope_append_args *args);
struct op_cost cpu_cost_page_seal(const struct page_seal_args *args);
struct op_cost cpu_cost_attend(const struct attend_args *args, enum activations activations);
struct op_cost cpu_cost_gather(const struct gather_args *args);
/* Of rows that are drawn greedily. What cuts cost depends on the logits. */
struct op_cost cpu_cost_greedy(const struct sample_args *args);

#endif
