/* kernels/cuda/cuda_attend_stage.cuh: pages on their way into shared memory, for blocks of 128
 * threads.
 *
 *   stage 0   K, V of the page that is read     stage 1   K, V of the next one
 *             a token's row is 16 bytes longer than its values, or codes: rows of 8 tokens meet no
 *             bank twice
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
#define CHUNK_BYTES 16
#define CHUNK 8 /* f16 values of a chunk */

template <int dim> using plane = uint16_t[PAGE_TOKENS][dim + CHUNK];

template <int dim> struct value_stage {
    plane<dim> k, v;
};

template <int dim, int bits> struct code_stage {
    float k_scales[2 * dim], v_scales[2 * PAGE_TOKENS]; /* least values, then steps */
    uint8_t k[PAGE_TOKENS][dim * bits / 8 + CUDA_PAGE_BLOCK_BYTES];
    uint8_t v[PAGE_TOKENS][dim * bits / 8 + CUDA_PAGE_BLOCK_BYTES];
};

template <int dim> struct code_stage<dim, 16> { /* nothing packs */
};

template <int dim, int bits> union stage {
    struct value_stage<dim> values;
    struct code_stage<dim, bits> codes;
};

template <int dim, int bits> struct tile_memory {
    union stage<dim, bits> stages[2];
    uint64_t has_come[2]; /* mbarriers, from sm_90 on */
};

/* One kv head of a page, on its way. Tokens behind the block's last position come as zeros: what
 * stands there is nobody's, and 0 * NaN is NaN. */
struct page_source {
    const uint8_t *k, *v; /* of packed pages their scales, and codes behind them */
    uint32_t n_tokens;    /* that are brought; 0 if the page is missing */
    bool is_packed;       /* all tokens are there */
};

static __device__ __forceinline__ struct page_source source_of(const struct attend_run &run,
                                                               const struct attend_walk &walk,
                                                               uint32_t page)
{
    const struct kv_group_view &group = run.args.group;
    struct seen_page seen = seen_page_of(run, walk.block, page);
    struct page_source source;
    source.n_tokens = min(walk.block.last_position - page * PAGE_TOKENS + 1, (uint32_t)PAGE_TOKENS);
    source.is_packed = kv_dtype_is_packed(seen.dtype);
    if (seen.layer == NULL) {
        cuda_fail(run.error, STATUS_INTERNAL);
        source.n_tokens = 0;
        bool is_written = kv_group_packs(&group) && !source.is_packed;
        seen.layer = is_written ? group.open.base : group.base;
    }
    source.k = seen.layer + cuda_page_k_head(&group.shape, seen.dtype, walk.vhead);
    source.v = seen.layer + cuda_page_v_head(&group.shape, seen.dtype, walk.vhead);
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

template <int dim, int bits>
static __device__ __forceinline__ void open_stages(struct tile_memory<dim, bits> &memory)
{
    if (threadIdx.x != 0)
        return;
    mbarrier_init(&memory.has_come[0], STAGE_THREADS / WARP_LANES);
    mbarrier_init(&memory.has_come[1], STAGE_THREADS / WARP_LANES);
    fence_mbarrier_init();
}

/* All rows of a packed page; each plane's scales come with its first row. */
template <int dim, int bits>
static __device__ __forceinline__ void bring_codes(const struct page_source &source, uint32_t idx,
                                                   struct tile_memory<dim, bits> &memory)
{
    constexpr uint32_t row_bytes = dim * bits / 8;
    struct code_stage<dim, bits> &stage = memory.stages[idx].codes;
    uint32_t token = threadIdx.x % PAGE_TOKENS;
    bool is_k = threadIdx.x < PAGE_TOKENS;
    const uint8_t *from = is_k ? source.k : source.v;
    uint32_t scale_bytes = is_k ? sizeof stage.k_scales : sizeof stage.v_scales;
    if (lane_idx() == 0)
        mbarrier_arrive_expect_bytes(&memory.has_come[idx],
                                     WARP_LANES * row_bytes + (token == 0 ? scale_bytes : 0));
    __syncwarp(); /* bytes of codes are expected before they come */
    if (token == 0)
        bulk_copy(is_k ? stage.k_scales : stage.v_scales, from, scale_bytes,
                  &memory.has_come[idx]);
    bulk_copy(is_k ? stage.k[token] : stage.v[token], from + scale_bytes + token * row_bytes,
              row_bytes, &memory.has_come[idx]);
}

template <int dim, int bits>
static __device__ __forceinline__ void bring(const struct page_source &source, uint32_t idx,
                                             struct tile_memory<dim, bits> &memory)
{
    if constexpr (bits < 16)
        if (source.is_packed) {
            bring_codes(source, idx, memory);
            return;
        }
    constexpr uint32_t row_bytes = dim * sizeof(uint16_t);
    struct value_stage<dim> &stage = memory.stages[idx].values;
    uint32_t token = threadIdx.x % PAGE_TOKENS;
    bool is_k = threadIdx.x < PAGE_TOKENS;
    uint16_t *to = is_k ? stage.k[token] : stage.v[token];
    if (lane_idx() == 0)
        mbarrier_arrive_expect_bytes(&memory.has_come[idx],
                                     n_rows_of_warp(source.n_tokens) * row_bytes);
    __syncwarp(); /* bytes are expected before they come */
    if (token < source.n_tokens) {
        bulk_copy(to, (is_k ? source.k : source.v) + token * row_bytes, row_bytes,
                  &memory.has_come[idx]);
        return;
    }
    const uint4 zeros = {0, 0, 0, 0};
    for (int i = 0; i < dim / CHUNK; i++)
        *(uint4 *)(to + i * CHUNK) = zeros;
    fence_async_proxy(); /* later copies into this row come after */
}

/* `parities` has a bit a stage. */
template <int dim, int bits>
static __device__ __forceinline__ void await(uint32_t idx, uint32_t &parities,
                                             struct tile_memory<dim, bits> &memory)
{
    mbarrier_wait(&memory.has_come[idx], parities >> idx & 1);
    parities ^= 1u << idx;
}

#else

template <int dim, int bits>
static __device__ __forceinline__ void open_stages(struct tile_memory<dim, bits> &)
{
}

/* All rows of a packed page, and the scales of both planes. */
template <int dim, int bits>
static __device__ __forceinline__ void bring_codes(const struct page_source &source, uint32_t idx,
                                                   struct tile_memory<dim, bits> &memory)
{
    constexpr uint32_t block = CUDA_PAGE_BLOCK_BYTES, row_blocks = dim * bits / 8 / block;
    struct code_stage<dim, bits> &stage = memory.stages[idx].codes;
    constexpr uint32_t k_bytes = sizeof stage.k_scales, v_bytes = sizeof stage.v_scales;
    uint32_t first = threadIdx.x * block;
#pragma unroll
    for (uint32_t i = 0; i < PAGE_TOKENS * row_blocks; i += STAGE_THREADS) {
        uint32_t at = i + threadIdx.x, token = at / row_blocks, byte = at % row_blocks * block;
        cp_async_16(&stage.k[token][byte], source.k + k_bytes + at * block);
        cp_async_16(&stage.v[token][byte], source.v + v_bytes + at * block);
    }
    if (first < k_bytes)
        cp_async_16((uint8_t *)stage.k_scales + first, source.k + first);
    else if (first < k_bytes + v_bytes)
        cp_async_16((uint8_t *)stage.v_scales + (first - k_bytes), source.v + (first - k_bytes));
    cp_async_commit();
}

template <int dim, int bits>
static __device__ __forceinline__ void bring(const struct page_source &source, uint32_t idx,
                                             struct tile_memory<dim, bits> &memory)
{
    if constexpr (bits < 16)
        if (source.is_packed) {
            bring_codes(source, idx, memory);
            return;
        }
    constexpr uint32_t row_chunks = dim / CHUNK;
    struct value_stage<dim> &stage = memory.stages[idx].values;
#pragma unroll
    for (uint32_t i = 0; i < PAGE_TOKENS * row_chunks; i += STAGE_THREADS) {
        uint32_t at = i + threadIdx.x, token = at / row_chunks, chunk = at % row_chunks * CHUNK;
        bool valid = token < source.n_tokens;
        cp_async_16(&stage.k[token][chunk], source.k + at * CHUNK_BYTES, valid);
        cp_async_16(&stage.v[token][chunk], source.v + at * CHUNK_BYTES, valid);
    }
    cp_async_commit();
}

template <int dim, int bits>
static __device__ __forceinline__ void await(uint32_t, uint32_t &, struct tile_memory<dim, bits> &)
{
    cp_async_wait<0>();
}

#endif

#endif
