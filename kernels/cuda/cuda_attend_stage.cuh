/* kernels/cuda/cuda_attend_stage.cuh: pages on their way into shared memory, for blocks of 128
 * threads.
 *
 *   stage 0   K, V of the page that is read     stage 1   K, V of the next one
 *             a token's row is 16 bytes longer than its values: rows of 8 tokens meet no bank twice
 *
 * A page comes by cp.async, 16 bytes a thread and turn; from sm_90 on by bulk copies, a row a
 * thread, whose bytes are told to the stage's mbarrier.
 *
 *   bring(next)     after a barrier behind the last read of its stage
 *   await(now)      in every thread; then a barrier; then all may read
 */
#ifndef QUIRE_KERNELS_CUDA_ATTEND_STAGE_CUH
#define QUIRE_KERNELS_CUDA_ATTEND_STAGE_CUH

#include "kernels/cuda/cuda_attend.cuh"
#include "kernels/cuda/cuda_stream.cuh"

extern "C" {
#include "base/status.h"
}

#define STAGE_THREADS 128
#define CHUNK 8 /* f16 values of 16 bytes */

template <int dim> using plane = uint16_t[PAGE_TOKENS][dim + CHUNK];

template <int dim> struct stage {
    plane<dim> k, v;
};

template <int dim> struct tile_memory {
    struct stage<dim> stages[2];
    uint64_t has_come[2]; /* mbarriers, from sm_90 on */
};

/* One kv head of a page, on its way. Tokens behind the block's last position come as zeros: what
 * stands there is nobody's, and 0 * NaN is NaN. */
struct page_source {
    const uint16_t *k, *v;
    uint32_t n_tokens; /* that are brought; 0 if the page is missing */
};

static __device__ __forceinline__ struct page_source source_of(const struct attend_run &run,
                                                               const struct attend_walk &walk,
                                                               uint32_t page)
{
    const struct kv_group_view &group = run.args.group;
    const uint8_t *layer = kv_page_find(&group, run.args.layer_idx, walk.block.seq, page);
    struct page_source source;
    source.n_tokens = min(walk.block.last_position - page * PAGE_TOKENS + 1, (uint32_t)PAGE_TOKENS);
    if (layer == NULL) {
        cuda_fail(run.error, STATUS_INTERNAL);
        source.n_tokens = 0;
        layer = group.base;
    }
    source.k = (const uint16_t *)(layer + cuda_page_k_at(&group.shape, KV_F16, walk.vhead, 0));
    source.v = (const uint16_t *)(layer + cuda_page_v_at(&group.shape, KV_F16, walk.vhead, 0));
    return source;
}

#if QUIRE_SM >= 90

static_assert(STAGE_THREADS == 2 * PAGE_TOKENS, "a thread brings one row of K or of V");

/* How many of the first n_tokens are among the 32 that this warp brings. */
static __device__ __forceinline__ uint32_t n_rows_of_warp(uint32_t n_tokens)
{
    uint32_t first = warp_idx() * WARP_LANES % PAGE_TOKENS;
    return n_tokens <= first ? 0 : min(n_tokens - first, (uint32_t)WARP_LANES);
}

template <int dim>
static __device__ __forceinline__ void open_stages(struct tile_memory<dim> &memory)
{
    if (threadIdx.x != 0)
        return;
    mbarrier_init(&memory.has_come[0], STAGE_THREADS / WARP_LANES);
    mbarrier_init(&memory.has_come[1], STAGE_THREADS / WARP_LANES);
    fence_mbarrier_init();
}

template <int dim>
static __device__ __forceinline__ void bring(const struct page_source &source, uint32_t idx,
                                             struct tile_memory<dim> &memory)
{
    constexpr uint32_t row_bytes = dim * sizeof(uint16_t);
    struct stage<dim> &stage = memory.stages[idx];
    uint32_t token = threadIdx.x % PAGE_TOKENS;
    bool is_k = threadIdx.x < PAGE_TOKENS;
    uint16_t *to = is_k ? stage.k[token] : stage.v[token];
    if (lane_idx() == 0)
        mbarrier_arrive_expect_bytes(&memory.has_come[idx],
                                     n_rows_of_warp(source.n_tokens) * row_bytes);
    __syncwarp(); /* bytes are expected before they come */
    if (token < source.n_tokens) {
        bulk_copy(to, (is_k ? source.k : source.v) + token * dim, row_bytes,
                  &memory.has_come[idx]);
        return;
    }
    const uint4 zeros = {0, 0, 0, 0};
    for (int i = 0; i < dim / CHUNK; i++)
        *(uint4 *)(to + i * CHUNK) = zeros;
    fence_async_proxy(); /* later copies into this row come after */
}

/* `parities` has a bit a stage. */
template <int dim>
static __device__ __forceinline__ void await(uint32_t idx, uint32_t &parities,
                                             struct tile_memory<dim> &memory)
{
    mbarrier_wait(&memory.has_come[idx], parities >> idx & 1);
    parities ^= 1u << idx;
}

#else

template <int dim> static __device__ __forceinline__ void open_stages(struct tile_memory<dim> &)
{
}

template <int dim>
static __device__ __forceinline__ void bring(const struct page_source &source, uint32_t idx,
                                             struct tile_memory<dim> &memory)
{
    constexpr uint32_t row_chunks = dim / CHUNK;
    struct stage<dim> &stage = memory.stages[idx];
#pragma unroll
    for (uint32_t i = 0; i < PAGE_TOKENS * row_chunks; i += STAGE_THREADS) {
        uint32_t at = i + threadIdx.x, token = at / row_chunks, chunk = at % row_chunks * CHUNK;
        bool valid = token < source.n_tokens;
        cp_async_16(&stage.k[token][chunk], source.k + at * CHUNK, valid);
        cp_async_16(&stage.v[token][chunk], source.v + at * CHUNK, valid);
    }
    cp_async_commit();
}

template <int dim>
static __device__ __forceinline__ void await(uint32_t, uint32_t &, struct tile_memory<dim> &)
{
    cp_async_wait<0>();
}

#endif

#endif
