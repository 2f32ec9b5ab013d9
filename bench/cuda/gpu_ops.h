/* bench/cuda/gpu_ops.h: what gpu-check enqueues beside the backend's ops: kernels that show what
 * the device can do at most, and fills, so that weights and pages need not cross the bus.
 *
 * All enqueue on a stream of the CUDA device; errors stick to it. Pointers are device memory at
 * multiples of 16, and live until the stream has passed.
 */
#ifndef QUIRE_BENCH_GPU_OPS_H
#define QUIRE_BENCH_GPU_OPS_H

#include "kernels/device.h"

/* Copies `bytes`, a multiple of 16, 16 bytes a lane; no overlap. */
void gpu_copy(struct stream *stream, void *to, const void *from, size_t bytes);

#define GPU_MMA_THREADS 256 /* of a block; a warp has GPU_MMA_CHAINS sums under way */
#define GPU_MMA_CHAINS 8
/* m16n8k16 of f16 into f32 from registers alone, n_turns a chain; `sums` holds a float a thread. */
void gpu_mma(struct stream *stream, float *sums, uint32_t n_blocks, uint32_t n_turns);
double gpu_mma_ops(uint32_t n_blocks, uint32_t n_turns); /* products and sums of one such call */

/* The same seed fills the same values. `bytes` are a multiple of 16. */
void gpu_fill_bits(struct stream *stream, void *to, size_t bytes, uint64_t seed);
/* Evenly spread over [least, beyond). */
void gpu_fill_halves(struct stream *stream, void *to, size_t bytes, uint64_t seed, float least,
                     float beyond);
void gpu_fill_bfloats(struct stream *stream, void *to, size_t bytes, uint64_t seed, float least,
                      float beyond); /* numbers of bf16 */
void gpu_fill_floats(struct stream *stream, void *to, size_t bytes, uint64_t seed, float least,
                     float beyond);

#endif
