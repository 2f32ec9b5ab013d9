/* kernels/cpu/cpu_ops.h: the launchers of the CPU backend, one a file, and the table they fill.
 *
 * Each asserts its arguments and pushes its entries on the stream; see kernels/ops.h for what they
 * compute.
 */
#ifndef QUIRE_KERNELS_CPU_OPS_H
#define QUIRE_KERNELS_CPU_OPS_H

#include "kernels/cpu/cpu_stream.h"

extern const struct ops cpu_ops;

void cpu_embed(struct stream *stream, const struct embed_args *args);
void cpu_norm(struct stream *stream, const struct norm_args *args);
void cpu_quantize(struct stream *stream, const struct quantize_args *args);
void cpu_linear(struct stream *stream, const struct linear_args *args);
void cpu_linear_heads(struct stream *stream, const struct linear_heads_args *args);
void cpu_linear_glu(struct stream *stream, const struct linear_glu_args *args);
void cpu_route(struct stream *stream, const struct route_args *args);
void cpu_moe(struct stream *stream, const struct moe_args *args);
void cpu_rope_append(struct stream *stream, const struct rope_append_args *args);
void cpu_page_seal(struct stream *stream, const struct page_seal_args *args);
void cpu_attend(struct stream *stream, const struct attend_args *args);
void cpu_gather(struct stream *stream, const struct gather_args *args);
void cpu_sample(struct stream *stream, const struct sample_args *args);
void cpu_count(struct stream *stream, const struct count_args *args);
void cpu_count_zero(struct stream *stream, const struct count_zero_args *args);
void cpu_count_copy(struct stream *stream, const struct count_copy_args *args);
void cpu_page_zero(struct stream *stream, const struct page_zero_args *args);
void cpu_page_copy(struct stream *stream, const struct page_copy_args *args);

size_t cpu_page_layer_bytes(const struct kv_shape *shape, enum kv_dtype dtype);
size_t cpu_attend_workspace_bytes(const struct device *device, uint32_t n_heads,
                                  const struct kv_shape *shape, uint32_t max_rows,
                                  uint32_t max_context);
size_t cpu_sample_workspace_bytes(const struct device *device, uint32_t max_rows,
                                  uint32_t vocabulary);
size_t cpu_moe_workspace_bytes(const struct device *device, const struct weight *gate_up,
                               const struct weight *down, uint32_t max_rows, uint32_t n_used);

#endif
