#include "kernels/gpu_matrix.h"

#include "kernels/cuda/cuda_weight.h"

static uint64_t aligned(uint64_t bytes)
{
    return (bytes + CUDA_PLANE_ALIGNMENT - 1) / CUDA_PLANE_ALIGNMENT * CUDA_PLANE_ALIGNMENT;
}

uint64_t gpu_matrix_bytes(uint32_t type, uint64_t n_in, uint64_t n_out)
{
    uint32_t plane = cuda_plane_of(type);
    uint64_t n_tiles = (n_out + CUDA_TILE_OUTPUTS - 1) / CUDA_TILE_OUTPUTS *
                       ((n_in + CUDA_TILE_INPUTS - 1) / CUDA_TILE_INPUTS);
    return aligned(n_tiles * cuda_tile_bytes(plane)) +
           aligned(n_tiles * cuda_tile_scale_bytes(plane));
}
