/* kernels/cuda/cuda_attend_packed.cu: attention by mma over packed pages. */
#include "kernels/cuda/cuda_attend_walk.cuh"

cudaError_t cuda_attend_packed_tiles(const struct attend_run &run, enum attend_class attend_class,
                                     unsigned grid, cudaStream_t stream)
{
    return run.args.group.dtype_full == KV_Q8 ? launch_tiles<8>(run, attend_class, grid, stream)
                                              : launch_tiles<4>(run, attend_class, grid, stream);
}
