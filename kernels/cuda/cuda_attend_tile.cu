/* kernels/cuda/cuda_attend_tile.cu: attention by mma over pages of f16 values. */
#include "kernels/cuda/cuda_attend_walk.cuh"

cudaError_t cuda_attend_tiles(const struct attend_run &run, enum attend_class attend_class,
                              unsigned grid, cudaStream_t stream)
{
    return launch_tiles<16>(run, attend_class, grid, stream);
}
