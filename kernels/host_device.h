/* kernels/host_device.h: HOST_DEVICE stands before a small function that the CPU and CUDA's kernels
 * both call.
 */
#ifndef QUIRE_KERNELS_HOST_DEVICE_H
#define QUIRE_KERNELS_HOST_DEVICE_H

#if defined(__CUDACC__)
#define HOST_DEVICE static __host__ __device__ __forceinline__
#else
#define HOST_DEVICE static inline
#endif

#endif
