/* kernels/cuda/cuda_attend_walk.cuh: attention by mma over pages of f16 values (`bits` is 16), or
 * of codes of 8 or 4 bits but for the page that rows stand in; 16 rows (tokens x query heads of one
 * kv head) a warp.
 *
 *   few    one tile of 16 rows: each of 4 warps computes all scores, and a quarter of the output
 *   many   four tiles of 16 rows: a warp a tile; of 128 packed values two, two warps a tile
 *
 * A row's scores, softmax and sums take the same steps in the same order in both, so they give the
 * same bits. The next page is on its way while one is read (cuda_attend_stage.cuh).
 */
#ifndef QUIRE_KERNELS_CUDA_ATTEND_WALK_CUH
#define QUIRE_KERNELS_CUDA_ATTEND_WALK_CUH

#include "kernels/cuda/cuda_attend_packed.cuh"
#include "kernels/cuda/cuda_attend_values.cuh"

#define THREADS STAGE_THREADS
#define WARPS (THREADS / WARP_LANES)
#define BLOCKS_PER_SM 2 /* what shared memory allows; so registers need not be spared */

/* Whether a page is read as codes: every one before that of the block's rows. */
template <int bits>
static __device__ __forceinline__ bool is_packed(const struct attend_walk &walk, uint32_t page)
{
    return bits < 16 && !is_own_page(walk.block, page);
}

/* One softmax step over a page, in its two forms. */
template <int dim, int bits, int n_tiles>
static __device__ __forceinline__ void
step_values(const struct attend_run &run, const struct attend_walk &walk, uint32_t page,
            const union stage<dim, bits> &stage, const struct tile_rows &rows,
            const uint32_t (&q)[dim / 16][4], struct softmax &span, uint32_t column,
            float (&o)[n_tiles][4])
{
    float s[TOKEN_TILES][4], c[2];
    score<dim>(run, q, stage.values.k, rows, s);
    if (!is_open(run, walk.block, page))
        mask(run, walk, rows, page, s);
    soften(s, span, c);
    add_values<dim, n_tiles>(s, c, stage.values.v, column, o);
}

template <int dim, int bits, int n_tiles>
static __device__ __forceinline__ void
step_codes(const struct attend_run &run, const struct attend_walk &walk, uint32_t page,
           const union stage<dim, bits> &stage, const struct tile_rows &rows,
           const uint32_t (&q)[dim / 16][4], struct softmax &span, uint32_t column,
           float (&o)[n_tiles][4])
{
    if constexpr (bits < 16) {
        float s[TOKEN_TILES][4], c[2];
        score_codes(run, q, stage.codes, rows, s);
        if (!is_open(run, walk.block, page))
            mask(run, walk, rows, page, s);
        soften(s, span, c);
        add_codes(s, c, stage.codes, column, o);
    }
}

template <int dim, int row_warps, int bits>
static __device__ __forceinline__ void walk_unit(const struct attend_run &run,
                                                 const struct attend_walk &walk,
                                                 struct tile_memory<dim, bits> &memory,
                                                 uint32_t &parities)
{
    constexpr int column_warps = WARPS / row_warps, n_tiles = dim / 8 / column_warps;
    uint32_t column = warp_idx() % column_warps * n_tiles * 8;
    struct tile_rows rows = rows_of(run, walk, warp_idx() / column_warps);
    uint32_t q[dim / 16][4];
    load_queries<dim>(run, rows, q);

    float o[n_tiles][4] = {};
    struct softmax span = softmax_empty(), group = softmax_empty(), sum = softmax_empty();
    bool group_is_empty = true, sum_is_empty = true;
    bring(source_of(run, walk, walk.first_page), 0, memory);
    for (uint32_t page = walk.first_page; page <= walk.last_page; page++) {
        uint32_t now = (page - walk.first_page) % 2;
        await(now, parities, memory);
        __syncthreads(); /* the page has come for all, and the other stage has been read */
        if (page < walk.last_page)
            bring(source_of(run, walk, page + 1), now ^ 1, memory);

        if (is_packed<bits>(walk, page))
            step_codes<dim>(run, walk, page, memory.stages[now], rows, q, span, column, o);
        else
            step_values<dim>(run, walk, page, memory.stages[now], rows, q, span, column, o);

        bool is_last = page == walk.last_page;
        if (!ends_span(page) && !is_last)
            continue;
        struct tile_cells cells = cells_of<dim>(run, walk, rows, column + lane_idx() % 4 * 2);
        add_lanes(span);
        fold<n_tiles>(span, o, group, group_is_empty, cells.group);
        group_is_empty = false;
        if (has_groups(walk) && (ends_group(page) || is_last)) {
            read_back<n_tiles>(cells.group, o);
            fold<n_tiles>(group, o, sum, sum_is_empty, cells.out);
            sum_is_empty = false;
            group = softmax_empty();
            group_is_empty = true;
        }
        span = softmax_empty();
#pragma unroll
        for (int n = 0; n < n_tiles; n++)
#pragma unroll
            for (int i = 0; i < 4; i++)
                o[n][i] = 0.0f;
    }
    if (has_groups(walk))
        group = sum;
    if (column == 0 && lane_idx() % 4 == 0)
        write_state(run, walk, rows, group);
}

template <int dim, int row_warps, int bits>
static __global__ void __launch_bounds__(THREADS, BLOCKS_PER_SM) walk_tiles(struct attend_run run)
{
    using tile_memory_of = struct tile_memory<dim, bits>;
    DYNAMIC_SHARED(tile_memory_of, memory);
    constexpr uint32_t attend_class = row_warps == 1 ? ATTEND_FEW : ATTEND_MANY;
    uint32_t n_units = run.counts->n_parts[attend_class] * run.n_vheads;
    uint32_t parities = 0;
    open_stages(*memory);
    for (uint32_t unit; (unit = take_unit(run, attend_class)) < n_units;)
        walk_unit<dim, row_warps, bits>(run, walk_of(run, attend_class, unit), *memory, parities);
}

template <int dim, int row_warps, int bits>
static cudaError_t launch_walk(const struct attend_run &run, unsigned grid, cudaStream_t stream)
{
    size_t bytes = sizeof(struct tile_memory<dim, bits>);
    cudaError_t error = allow_shared(walk_tiles<dim, row_warps, bits>, bytes);
    if (error != cudaSuccess)
        return error;
    return launch(walk_tiles<dim, row_warps, bits>, grid, THREADS, bytes, stream, run);
}

template <int bits>
static cudaError_t launch_tiles(const struct attend_run &run, enum attend_class attend_class,
                                unsigned grid, cudaStream_t stream)
{
    bool is_few = attend_class == ATTEND_FEW;
    if (run.args.group.shape.k_dim == 64)
        return is_few ? launch_walk<64, 1, bits>(run, grid, stream)
                      : launch_walk<64, WARPS, bits>(run, grid, stream);
    constexpr int row_warps = ATTEND_MANY_ROWS(bits < 16, 128) / ATTEND_TILE_ROWS;
    return is_few ? launch_walk<128, 1, bits>(run, grid, stream)
                  : launch_walk<128, row_warps, bits>(run, grid, stream);
}

#endif
