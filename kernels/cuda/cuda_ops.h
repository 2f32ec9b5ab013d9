/* kernels/cuda/cuda_ops.h: the ops of the CUDA backend; ops.h says what each computes. */
#ifndef QUIRE_KERNELS_CUDA_OPS_H
#define QUIRE_KERNELS_CUDA_OPS_H

#include "kernels/ops.h"

size_t cuda_act_bytes(const struct device *device, uint32_t max_rows, uint32_t width,
                      uint32_t forms);
size_t cuda_page_layer_bytes(const struct kv_shape *shape, enum kv_dtype dtype);
size_t cuda_attend_workspace_bytes(const struct device *device, uint32_t n_heads,
                                   const struct kv_shape *shape, uint32_t max_rows,
                                   uint32_t max_context);
void cuda_embed(struct stream *stream, const struct embed_args *args);
void cuda_norm(struct stream *stream, const struct norm_args *args);
void cuda_quantize(struct stream *stream, const struct quantize_args *args);
void cuda_linear(struct stream *stream, const struct linear_args *args);
void cuda_linear_heads(struct stream *stream, const struct linear_heads_args *args);
void cuda_linear_glu(struct stream *stream, const struct linear_glu_args *args);
void cuda_route(struct stream *stream, const struct route_args *args);
size_t cuda_moe_workspace_bytes(const struct device *device, const struct weight *gate_up,
                                const struct weight *down, uint32_t max_rows, uint32_t n_used);
void cuda_moe(struct stream *stream, const struct moe_args *args);
void cuda_rope_append(struct stream *stream, const struct rope_append_args *args);
void cuda_page_seal(struct stream *stream, const struct page_seal_args *args);
void cuda_attend(struct stream *stream, const struct attend_args *args);
void cuda_page_zero(struct stream *stream, const struct page_zero_args *args);
void cuda_page_copy(struct stream *stream, const struct page_copy_args *args);
void cuda_gather(struct stream *stream, const struct gather_args *args);
size_t cuda_sample_workspace_bytes(const struct device *device, uint32_t max_rows,
                                   uint32_t vocabulary);
void cuda_sample(struct stream *stream, const struct sample_args *args);
void cuda_count(struct stream *stream, const struct count_args *args);
void cuda_count_zero(struct stream *stream, const struct count_zero_args *args);
void cuda_count_copy(struct stream *stream, const struct count_copy_args *args);

#endif
