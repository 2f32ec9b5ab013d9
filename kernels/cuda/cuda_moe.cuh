/* kernels/cuda/cuda_moe.cuh: the parts of moe, in the order in which they are launched. */
#ifndef QUIRE_KERNELS_CUDA_MOE_CUH
#define QUIRE_KERNELS_CUDA_MOE_CUH

#include "kernels/cuda/cuda_stream.cuh"

extern "C" {
#include "kernels/cuda/cuda_moe.h"
}

struct moe_sort {
    struct moe_space space; /* counts, order and tiles are filled */
    const uint32_t *experts;
    uint32_t n_pairs, n_experts, tile_rows;
    int *error;
};

cudaError_t cuda_moe_sort(const struct moe_sort &sort, cudaStream_t cuda);

#endif
