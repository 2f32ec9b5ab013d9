/* kernels/gpu_matrix.h: what matrices take of a GPU's memory, told without one and by builds that
 * have no CUDA: `quire plan` and the check before a load ask. The planes of some types take more
 * than the file has: 12 bits for the 2.6 of Q2_K (cuda/cuda_weight.h). */
#ifndef QUIRE_KERNELS_GPU_MATRIX_H
#define QUIRE_KERNELS_GPU_MATRIX_H

#include <stdint.h>

/* Of a type that is read, rows of n_in values, n_out of them; as part of a fused weight or alone,
 * of experts each. */
uint64_t gpu_matrix_bytes(uint32_t type, uint64_t n_in, uint64_t n_out);

#endif
