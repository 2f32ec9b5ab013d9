/* kernels/cuda/cuda_attend.cuh: the launches that attend is made of, and what their kernels share
 * on the device. cuda_attend.h says how they work together.
 */
#ifndef QUIRE_KERNELS_CUDA_ATTEND_CUH
#define QUIRE_KERNELS_CUDA_ATTEND_CUH

#include "kernels/cuda/platform.cuh"

extern "C" {
#include "kernels/cuda/cuda_attend.h"
#include "kernels/cuda/cuda_page.h"
}

cudaError_t cuda_attend_plan(const struct attend_run &run, cudaStream_t stream);
/* Heads of 64 or 128 f16 values, up to 16 query heads a kv head: by mma; and where all but a row's
 * own page is packed. */
cudaError_t cuda_attend_tiles(const struct attend_run &run, enum attend_class attend_class,
                              unsigned grid, cudaStream_t stream);
cudaError_t cuda_attend_packed_tiles(const struct attend_run &run, enum attend_class attend_class,
                                     unsigned grid, cudaStream_t stream);
/* Everything else: by fma, a query head at a time. */
cudaError_t cuda_attend_plain(const struct attend_run &run, unsigned grid, cudaStream_t stream);
cudaError_t cuda_attend_merge(const struct attend_run &run, cudaStream_t stream);

/* The first position that a query at `position` sees. */
static __device__ __forceinline__ uint32_t first_visible(const struct kv_group_view &group,
                                                         uint32_t position)
{
    if (group.kind == KV_SLIDING && position >= group.window)
        return position - group.window + 1;
    if (group.kind == KV_CHUNKED)
        return position / group.window * group.window;
    return 0;
}

/* Tokens of one part; 0: everything. */
static __device__ __forceinline__ uint32_t part_tokens(uint32_t cut)
{
    if (cut == ATTEND_WHOLE)
        return 0;
    return cut == ATTEND_BY_SPAN ? SPAN_TOKENS : ATTEND_GROUP_SPANS * SPAN_TOKENS;
}

static __device__ __forceinline__ uint32_t n_parts_of(const struct attend_block &block,
                                                      uint32_t cut)
{
    uint32_t tokens = part_tokens(cut);
    if (tokens == 0)
        return 1;
    return block.last_position / tokens - block.first_position / tokens + 1;
}

/* What a state's m is multiplied by when the greater one is `m`. */
static __device__ __forceinline__ float rescale(float from, float m)
{
    return from == m ? 1.0f : exp2_approx(from - m);
}

/* The next unit of a class, for all threads of the block; what they shared before may be written
 * again. */
static __device__ __forceinline__ uint32_t take_unit(const struct attend_run &run,
                                                     uint32_t attend_class)
{
    SHARED(uint32_t, taken);
    __syncthreads();
    if (threadIdx.x == 0)
        taken = atomicAdd(&run.counts->next_unit[attend_class], 1u);
    __syncthreads();
    return taken;
}

/* What a unit walks. */
struct attend_walk {
    struct attend_block block;
    uint32_t vhead;
    uint32_t part;
    uint32_t first_page, last_page;
};

static __device__ __forceinline__ struct attend_walk walk_of(const struct attend_run &run,
                                                             uint32_t attend_class, uint32_t unit)
{
    struct attend_part part = run.parts[attend_class][unit / run.n_vheads];
    struct attend_walk walk;
    walk.block = run.blocks[part.block];
    walk.vhead = unit % run.n_vheads;
    walk.part = part.part;
    walk.first_page = walk.block.first_position / PAGE_TOKENS;
    walk.last_page = walk.block.last_position / PAGE_TOKENS;
    uint32_t n_pages = part_tokens(walk.block.cut) / PAGE_TOKENS;
    if (n_pages > 0) {
        uint32_t begin = (walk.first_page / n_pages + part.part) * n_pages;
        walk.first_page = max(walk.first_page, begin);
        walk.last_page = min(walk.last_page, begin + n_pages - 1);
    }
    return walk;
}

/* A page as the rows of a block see it: their own as it was written. */
struct seen_page {
    const uint8_t *layer; /* NULL: the table has it not */
    enum kv_dtype dtype;
};

static __device__ __forceinline__ bool is_own_page(const struct attend_block &block, uint32_t page)
{
    return page == block.last_position / PAGE_TOKENS;
}

static __device__ __forceinline__ struct seen_page seen_page_of(const struct attend_run &run,
                                                                const struct attend_block &block,
                                                                uint32_t page)
{
    const struct kv_group_view &group = run.args.group;
    uint32_t layer_idx = run.args.layer_idx;
    if (is_own_page(block, page))
        return {kv_page_find_open(&group, layer_idx, block.seq, page), group.dtype_open};
    return {kv_page_find(&group, layer_idx, block.seq, page), group.dtype_full};
}

static __device__ __forceinline__ bool ends_span(uint32_t page)
{
    return page % SPAN_PAGES == SPAN_PAGES - 1;
}

static __device__ __forceinline__ bool ends_group(uint32_t page)
{
    return page % (SPAN_PAGES * ATTEND_GROUP_SPANS) == SPAN_PAGES * ATTEND_GROUP_SPANS - 1;
}

/* Whether the walk sees more than one group of spans. */
static __device__ __forceinline__ bool has_groups(const struct attend_walk &walk)
{
    uint32_t pages = SPAN_PAGES * ATTEND_GROUP_SPANS;
    return walk.first_page / pages != walk.last_page / pages;
}

#endif
