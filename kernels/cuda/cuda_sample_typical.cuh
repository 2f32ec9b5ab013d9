/* kernels/cuda/cuda_sample_typical.cuh: locally typical sampling (ops.h): the tokens whose surprise
 * is nearest to the mean one.
 *
 *   x     of what min_p and top_k left out becomes -infinity, which has no mass
 *   mean  of x, weighted by masses: integers of 128 bits, added up in limbs of 32
 *   cut   by (distance from the mean, id); x of what is beyond becomes -infinity too
 *
 * Behind it keys above that of -infinity are what is kept. By whole blocks.
 */
#ifndef QUIRE_KERNELS_CUDA_SAMPLE_TYPICAL_CUH
#define QUIRE_KERNELS_CUDA_SAMPLE_TYPICAL_CUH

#include "kernels/cuda/cuda_sample.cuh"

#define SURPRISE_ONE 65536.0

struct mean_sum { /* shared by the block */
    unsigned long long limbs[2];
};

struct near_keys {
    const float *x;
    float mean;
    __device__ __forceinline__ uint32_t bound(uint32_t) const
    {
        return UINT32_MAX;
    }
    __device__ __forceinline__ uint32_t operator()(uint32_t i) const
    {
        return key_of(-fabsf(__fadd_rn(x[i], -mean)));
    }
    __device__ __forceinline__ unsigned long long mass(uint32_t i, uint32_t) const
    {
        return mass_of(x[i]);
    }
};

/* What cuts have left out gets no mass. A warp a strip; a barrier follows in mean_of. */
static __device__ __forceinline__ void drop_cut(const struct choice_row &row, struct kept kept)
{
    for (uint32_t s = warp_idx(); s < row.n_strips; s += ROW_WARPS) {
        uint32_t end = min(row.vocabulary, (s + 1) * STRIP), n_before = 0;
        for (uint32_t t = lane_idx(); t < s; t += WARP_LANES)
            n_before += row.strips[t].n_ties;
        n_before = __reduce_add_sync(ALL_LANES, n_before);
        for (uint32_t first = s * STRIP; first < end; first += WARP_LANES) {
            uint32_t i = first + lane_idx();
            uint32_t key = i < end ? key_of(row.x[i]) : KEY_INFINITE;
            uint32_t ties = __ballot_sync(ALL_LANES, key == kept.least);
            uint32_t rank = n_before + (uint32_t)__popc(ties & ((1u << lane_idx()) - 1));
            if (key < kept.least || (key == kept.least && rank >= kept.n_ties))
                row.x[i] = -INFINITY;
            n_before += (uint32_t)__popc(ties);
        }
    }
}

/* To the nearest, ties to even; high is below 2^32: a product has 61 bits, a vocabulary 20. */
static __device__ __forceinline__ double double_of(uint64_t high, uint64_t low)
{
    if (high == 0)
        return (double)low;
    int shift = 32 - __clz((int)high);
    uint64_t top = high << (64 - shift) | low >> shift;
    uint64_t rest = low & (((uint64_t)1 << shift) - 1);
    return (double)(top | (rest != 0 ? 1 : 0)) * (double)((uint64_t)1 << shift);
}

static __device__ __forceinline__ float mean_of(const struct choice_row &row, uint64_t total,
                                                struct mean_sum *sum)
{
    unsigned long long high = 0, low = 0; /* of 32 bits each, but for what carries */
    if (threadIdx.x == 0)
        sum->limbs[0] = sum->limbs[1] = 0;
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < row.vocabulary; i += ROW_THREADS) {
        uint64_t mass = mass_of(row.x[i]);
        if (mass == 0)
            continue;
        uint64_t part = mass * (uint64_t)((double)-row.x[i] * SURPRISE_ONE + 0.5);
        low += part & UINT32_MAX;
        high += part >> 32;
    }
    atomicAdd(&sum->limbs[0], low);
    atomicAdd(&sum->limbs[1], high);
    __syncthreads();
    low = sum->limbs[0];
    high = sum->limbs[1] + (low >> 32);
    double exact = double_of(high >> 32, high << 32 | (low & UINT32_MAX));
    return -(float)(exact / (double)total / SURPRISE_ONE);
}

/* Of those at the last distance the first by id whose masses reach need. By a whole warp. */
static __device__ __forceinline__ void drop_ties(const struct choice_row &row,
                                                 const struct near_keys &near_at, uint32_t last,
                                                 uint64_t need)
{
    uint64_t passed = 0;
    for (uint32_t first = 0; first < row.vocabulary; first += WARP_LANES) {
        uint32_t i = first + lane_idx();
        bool is_tie = i < row.vocabulary && near_at(i) == last;
        uint64_t mass = is_tie ? mass_of(row.x[i]) : 0, sum = mass;
        for (uint32_t apart = 1; apart < WARP_LANES; apart *= 2) {
            uint64_t below = __shfl_up_sync(ALL_LANES, sum, apart);
            sum += lane_idx() >= apart ? below : 0;
        }
        if (is_tie && passed + sum - mass >= need)
            row.x[i] = -INFINITY;
        passed += __shfl_sync(ALL_LANES, sum, WARP_LANES - 1);
    }
}

/* need: of total, what the kept tokens have together. */
static __device__ __forceinline__ void cut_typical(const struct choice_row &row, uint64_t need,
                                                   uint64_t total, struct mean_sum *sum,
                                                   struct radix *radix)
{
    struct near_keys near_at = {row.x, mean_of(row, total, sum)};
    uint32_t last = find_cut(near_at, row.vocabulary, 0, need, true, radix).least;
    uint64_t need_of_ties = radix->need;
    for (uint32_t i = threadIdx.x; i < row.vocabulary; i += ROW_THREADS)
        if (near_at(i) < last)
            row.x[i] = -INFINITY;
    __syncthreads();
    if (warp_idx() == 0)
        drop_ties(row, near_at, last, need_of_ties);
    __syncthreads();
}

#endif
