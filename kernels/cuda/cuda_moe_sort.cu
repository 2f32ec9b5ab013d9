/* kernels/cuda/cuda_moe_sort.cu: pairs sorted by expert, by one block: a thread an expert looks at
 * all pairs, so that their order needs no atomics; then the tiles of each expert.
 */
#include "kernels/cuda/cuda_moe.cuh"

extern "C" {
#include "base/status.h"
}

#define THREADS 256
#define CHUNK 1024

struct sort_shared {
    uint32_t chosen[CHUNK];
    uint32_t counts[MODEL_EXPERTS_MAX];
    uint32_t firsts[MODEL_EXPERTS_MAX];      /* positions */
    uint32_t first_tiles[MODEL_EXPERTS_MAX];
};

/* The experts of pairs `begin` on; one that is not there is nobody's. By the whole block. */
static __device__ __forceinline__ uint32_t bring_chunk(const struct moe_sort &sort, uint32_t begin,
                                                       uint32_t (&chosen)[CHUNK])
{
    uint32_t n = min(sort.n_pairs - begin, (uint32_t)CHUNK);
    __syncthreads(); /* the chunk before has been read */
    for (uint32_t i = threadIdx.x; i < n; i += THREADS) {
        uint32_t expert = sort.experts[begin + i];
        chosen[i] = expert;
        if (expert >= sort.n_experts)
            cuda_fail(sort.error, STATUS_OUT_OF_RANGE);
    }
    __syncthreads(); /* the chunk is there */
    return n;
}

/* Exclusive sums over the lanes of a warp. */
static __device__ __forceinline__ uint32_t sum_below(uint32_t value)
{
    uint32_t sum = value;
    for (unsigned apart = 1; apart < WARP_LANES; apart *= 2) {
        uint32_t below = __shfl_up_sync(ALL_LANES, sum, apart);
        sum += lane_idx() >= apart ? below : 0;
    }
    return sum - value;
}

/* Where positions and tiles of each expert begin. By warp 0: a lane has neighbouring experts. */
static __device__ __forceinline__ void place_experts(const struct moe_sort &sort,
                                                     struct sort_shared &shared)
{
    uint32_t each = (sort.n_experts + WARP_LANES - 1) / WARP_LANES;
    uint32_t begin = min(lane_idx() * each, sort.n_experts);
    uint32_t end = min(begin + each, sort.n_experts), n = 0, n_tiles = 0;
    for (uint32_t e = begin; e < end; e++) {
        n += shared.counts[e];
        n_tiles += (shared.counts[e] + sort.tile_rows - 1) / sort.tile_rows;
    }
    uint32_t at = sum_below(n), at_tile = sum_below(n_tiles);
    if (lane_idx() == WARP_LANES - 1) {
        sort.space.counts->n_positions = at + n;
        sort.space.counts->n_tiles = at_tile + n_tiles;
    }
    for (uint32_t e = begin; e < end; e++) {
        shared.firsts[e] = at;
        shared.first_tiles[e] = at_tile;
        at += shared.counts[e];
        at_tile += (shared.counts[e] + sort.tile_rows - 1) / sort.tile_rows;
    }
}

static __device__ __forceinline__ void write_tiles(const struct moe_sort &sort,
                                                   const struct sort_shared &shared, uint32_t e)
{
    uint32_t end = shared.firsts[e] + shared.counts[e], at = shared.first_tiles[e];
    for (uint32_t first = shared.firsts[e]; first < end; first += sort.tile_rows)
        sort.space.tiles[at++] = moe_tile{e, first, min(first + sort.tile_rows, end)};
}

static __global__ void __launch_bounds__(THREADS) sort_pairs(struct moe_sort sort)
{
    SHARED(struct sort_shared, shared);
    for (uint32_t e = threadIdx.x; e < sort.n_experts; e += THREADS)
        shared.counts[e] = 0;
    for (uint32_t begin = 0; begin < sort.n_pairs; begin += CHUNK) {
        uint32_t n = bring_chunk(sort, begin, shared.chosen);
        for (uint32_t e = threadIdx.x; e < sort.n_experts; e += THREADS)
            for (uint32_t i = 0; i < n; i++)
                shared.counts[e] += shared.chosen[i] == e ? 1 : 0;
    }
    __syncthreads(); /* all have counted */
    if (warp_idx() == 0)
        place_experts(sort, shared);
    __syncthreads(); /* all experts are placed */

    for (uint32_t e = threadIdx.x; e < sort.n_experts; e += THREADS)
        write_tiles(sort, shared, e);
    for (uint32_t begin = 0; begin < sort.n_pairs; begin += CHUNK) {
        uint32_t n = bring_chunk(sort, begin, shared.chosen);
        for (uint32_t e = threadIdx.x; e < sort.n_experts; e += THREADS)
            for (uint32_t i = 0; i < n; i++)
                if (shared.chosen[i] == e)
                    sort.space.order[shared.firsts[e]++] = begin + i;
    }
}

cudaError_t cuda_moe_sort(const struct moe_sort &sort, cudaStream_t cuda)
{
    return launch(sort_pairs, 1, THREADS, 0, cuda, sort);
}
