/* tests/cuda_on_cpu/fault_kernels.cuh: kernels that are sound, or broken in one place: a barrier, a
 * wait or a mask is missing, an index is one too far. fault_test.cu tells what must notice.
 *
 * `one` is 1 where a constant would let the compiler see what is wrong.
 */
#ifndef QUIRE_FAULT_KERNELS_CUH
#define QUIRE_FAULT_KERNELS_CUH

#include "kernels/cuda/platform.cuh"

/* --- memory --- */

/* out has one value a thread */
template <bool broken> static __global__ void past_global(float *out, int one)
{
    out[threadIdx.x + (broken ? one : 0)] = 1.0f;
}

template <bool broken> static __global__ void past_static(float *out, int one)
{
    SHARED(float[64], values);
    float *place = values + threadIdx.x;
    place[broken ? one : 0] = 1.0f;
    __syncthreads();
    out[threadIdx.x] = values[threadIdx.x % 2 + 1];
}

template <bool broken> static __global__ void past_dynamic(float *out, int one)
{
    DYNAMIC_SHARED(float, values);
    values[threadIdx.x + (broken ? one : 0)] = 1.0f;
    __syncthreads();
    out[threadIdx.x] = values[threadIdx.x % 2 + 1];
}

template <bool broken> static __global__ void misaligned_vector(float *out, int one)
{
    SHARED(float[256], values);
    for (int i = 0; i < 4; i++)
        values[4 * threadIdx.x + i] = 1.0f;
    __syncthreads();
    const float *from = values + 4 * (threadIdx.x % 32) + (broken ? one : 0);
    out[threadIdx.x] = reinterpret_cast<const float4 *>(from)->x;
}

template <bool broken> static __global__ void misaligned_copy(const float *in, float *out, int one)
{
    SHARED(float[256], values);
    cp_async_16(values + 4 * threadIdx.x, in + (broken ? one : 0));
    cp_async_commit();
    cp_async_wait<0>();
    out[threadIdx.x] = values[4 * threadIdx.x];
}

/* Only the first half of the block writes what all read. */
template <bool broken> static __global__ void unwritten_shared(float *out)
{
    SHARED(float[64], values);
    if (!broken || threadIdx.x < 32)
        values[threadIdx.x] = 1.0f;
    __syncthreads();
    out[threadIdx.x] = values[63 - threadIdx.x];
}

/* --- meeting --- */

template <bool broken> static __global__ void divergent_barrier(float *out)
{
    if (!broken || threadIdx.x < 32)
        __syncthreads();
    else
        __syncthreads();
    out[threadIdx.x] = 1.0f;
}

template <bool broken> static __global__ void absent_at_barrier(float *out)
{
    out[threadIdx.x] = 1.0f;
    if (broken && threadIdx.x == 63)
        return;
    __syncthreads();
}

template <bool broken> static __global__ void half_a_warp(float *out)
{
    float one = 1.0f;
    if (!broken || lane_idx() < 16)
        one = __shfl_xor_sync(ALL_LANES, one, 1);
    __syncthreads();
    out[threadIdx.x] = one;
}

template <bool broken> static __global__ void foreign_mask(float *out)
{
    unsigned mask = lane_idx() < 16 ? 0x0000ffffu : 0xffff0000u;
    if (broken && lane_idx() == 20)
        mask = 0x0000ffffu;
    out[threadIdx.x] = __shfl_sync(mask, 1.0f, 0, 16);
}

template <bool broken> static __global__ void lost_arrival(float *out)
{
    SHARED(uint64_t, mbarrier);
    if (threadIdx.x == 0)
        mbarrier_init(&mbarrier, blockDim.x);
    __syncthreads();
    if (!broken || threadIdx.x != 5)
        mbarrier_arrive(&mbarrier);
    mbarrier_wait(&mbarrier, 0);
    out[threadIdx.x] = 1.0f;
}

template <bool broken> static __global__ void unready_mbarrier(float *out)
{
    SHARED(uint64_t, mbarrier);
    if (!broken && threadIdx.x == 0)
        mbarrier_init(&mbarrier, blockDim.x);
    __syncthreads();
    mbarrier_arrive(&mbarrier);
    mbarrier_wait(&mbarrier, 0);
    out[threadIdx.x] = 1.0f;
}

/* --- order --- */

template <bool broken> static __global__ void race_in_block(float *out)
{
    SHARED(float[64], values);
    values[threadIdx.x] = 1.0f;
    if (!broken)
        __syncthreads();
    out[threadIdx.x] = values[63 - threadIdx.x];
}

/* A shuffle makes lanes meet and orders nothing. */
template <bool broken> static __global__ void race_in_warp(float *out)
{
    SHARED(float[64], values);
    values[threadIdx.x] = 1.0f;
    float one = __shfl_xor_sync(ALL_LANES, 1.0f, 1);
    if (!broken)
        __syncwarp();
    out[threadIdx.x] = one * values[threadIdx.x ^ 1];
}

/* All blocks write one place with broken, else each its own. */
template <bool broken> static __global__ void race_between_blocks(float *out)
{
    if (threadIdx.x == 0)
        out[broken ? 0 : blockIdx.x] = 1.0f;
}

/* The last block to come adds up what all have written. */
template <bool broken>
static __global__ void last_block_sums(float *parts, unsigned *ticket, float *out)
{
    if (threadIdx.x != 0)
        return;
    parts[blockIdx.x] = 1.0f;
    if (!broken)
        __threadfence();
    if (atomicAdd(ticket, 1u) != gridDim.x - 1)
        return;
    __threadfence();
    float sum = 0.0f;
    for (unsigned i = 0; i < gridDim.x; i++)
        sum += parts[i];
    *out = sum / (float)gridDim.x;
}

/* --- asynchronous copies --- */

template <bool broken> static __global__ void copy_read_early(const float *in, float *out)
{
    SHARED(float[256], values);
    cp_async_16(values + 4 * threadIdx.x, in + 4 * threadIdx.x);
    cp_async_commit();
    if (!broken)
        cp_async_wait<0>();
    out[threadIdx.x] = values[4 * threadIdx.x];
    cp_async_wait<0>();
}

/* Two tiles through one buffer; the second must not start before the first is read. */
template <bool broken> static __global__ void copy_overwrites(const float *in, float *out)
{
    SHARED(float[256], values);
    unsigned i = threadIdx.x;
    cp_async_16(values + 4 * i, in + 4 * i);
    cp_async_commit();
    cp_async_wait<0>();
    __syncthreads();
    if (broken) {
        cp_async_16(values + 4 * i, in + 256 + 4 * i);
        cp_async_commit();
    }
    __syncwarp();
    out[i] = values[4 * (63 - i)];
    __syncthreads();
    if (!broken) {
        cp_async_16(values + 4 * i, in + 256 + 4 * i);
        cp_async_commit();
    }
    cp_async_wait<0>();
    out[64 + i] = values[4 * i] - 1.0f;
}

template <bool broken> static __global__ void copy_left_behind(const float *in, float *out)
{
    SHARED(float[256], values);
    cp_async_16(values + 4 * threadIdx.x, in);
    cp_async_commit();
    if (!broken)
        cp_async_wait<0>();
    out[threadIdx.x] = 1.0f;
}

/* One warp brings tiles of 64 floats through a ring of two, the other adds them up. */
enum ring_fault { RING_SOUND, RING_READS_EARLY, RING_OVERWRITES, RING_UNFENCED };

struct ring {
    float tiles[2][64];
    uint64_t full[2], empty[2];
};

template <int fault>
static __global__ void ring_of_tiles(const float *in, float *out, uint32_t n_tiles)
{
    DYNAMIC_SHARED(struct ring, ring);
    if (threadIdx.x == 0) {
        for (int s = 0; s < 2; s++) {
            mbarrier_init(&ring->full[s], 1);
            mbarrier_init(&ring->empty[s], WARP_LANES);
        }
        if (fault != RING_UNFENCED)
            fence_mbarrier_init();
    }
    __syncthreads();
    if (warp_idx() == 0) {
        for (uint32_t i = 0; i < n_tiles && lane_idx() == 0; i++) {
            if (i >= 2 && fault != RING_OVERWRITES)
                mbarrier_wait(&ring->empty[i % 2], (i / 2 - 1) % 2);
            mbarrier_arrive_expect_bytes(&ring->full[i % 2], sizeof ring->tiles[0]);
            bulk_copy(ring->tiles[i % 2], in + 64 * i, sizeof ring->tiles[0], &ring->full[i % 2]);
        }
    } else {
        float sum = 0.0f;
        for (uint32_t i = 0; i < n_tiles; i++) {
            if (fault != RING_READS_EARLY || i + 1 < n_tiles)
                mbarrier_wait(&ring->full[i % 2], i / 2 % 2);
            sum += ring->tiles[i % 2][lane_idx()] + ring->tiles[i % 2][lane_idx() + WARP_LANES];
            if (i + 2 < n_tiles)
                mbarrier_arrive(&ring->empty[i % 2]);
        }
        if (fault == RING_READS_EARLY)
            mbarrier_wait(&ring->full[(n_tiles - 1) % 2], (n_tiles - 1) / 2 % 2);
        out[lane_idx()] = sum;
    }
}

/* --- chips and launches --- */

static __global__ void newer_than_the_chip(float *out)
{
    SHARED(uint16_t[64], tile);
    uint32_t registers[1] = {0x3c003c00u};
    stmatrix_x1(tile + 8 * (threadIdx.x % 8), registers);
    __syncwarp();
    out[threadIdx.x] = tile[threadIdx.x] == 0x3c00 ? 1.0f : 0.0f;
}

static __global__ void ones(float *out)
{
    out[blockIdx.x * blockDim.x + threadIdx.x] = 1.0f;
}

#endif
