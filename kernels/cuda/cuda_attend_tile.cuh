/* kernels/cuda/cuda_attend_tile.cuh: what a lane holds of a tile of 16 rows (tokens x query heads
 * of one kv head) on its way over pages: which rows, their softmax, and where their states stand.
 */
#ifndef QUIRE_KERNELS_CUDA_ATTEND_TILE_CUH
#define QUIRE_KERNELS_CUDA_ATTEND_TILE_CUH

#include "kernels/cuda/cuda_attend_stage.cuh"

#define TOKEN_TILES (PAGE_TOKENS / 8)

/* The two rows of a tile that a lane holds: lane / 4, and 8 below. */
struct tile_rows {
    bool is_real[2];
    uint32_t row[2], head[2]; /* of the step; query head of the model */
};

struct softmax {
    float m[2], l[2];
};

static __device__ __forceinline__ struct softmax softmax_empty(void)
{
    return {{ATTEND_M_START, ATTEND_M_START}, {0.0f, 0.0f}};
}

static __device__ __forceinline__ struct tile_rows rows_of(const struct attend_run &run,
                                                           const struct attend_walk &walk,
                                                           uint32_t tile)
{
    const struct attend_block &block = walk.block;
    struct tile_rows rows;
#pragma unroll
    for (int i = 0; i < 2; i++) {
        uint32_t idx = tile * ATTEND_TILE_ROWS + lane_idx() / 4 + 8 * (uint32_t)i;
        uint32_t token = idx / run.group_heads;
        rows.is_real[i] = token < block.n_rows;
        rows.row[i] = block.row + (rows.is_real[i] ? token : 0);
        rows.head[i] = walk.vhead * run.group_heads + idx % run.group_heads;
    }
    return rows;
}

/* Read where it is wanted: registers are short (and so are those of tile_cells). */
static __device__ __forceinline__ float q_scale_of(const struct attend_run &run,
                                                   const struct tile_rows &rows, int i)
{
    return run.q.scales[rows.row[i]];
}

/* The A operands of S: k16 step k in q[k]. */
template <int dim>
static __device__ __forceinline__ void load_queries(const struct attend_run &run,
                                                    const struct tile_rows &rows,
                                                    uint32_t (&q)[dim / 16][4])
{
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const uint16_t *from = run.q.halves + (size_t)rows.row[i] * run.q.stride +
                               rows.head[i] * dim + lane_idx() % 4 * 2;
#pragma unroll
        for (int k = 0; k < dim / 16; k++) {
            q[k][i] = rows.is_real[i] ? *(const uint32_t *)(from + k * 16) : 0;
            q[k][i + 2] = rows.is_real[i] ? *(const uint32_t *)(from + k * 16 + 8) : 0;
        }
    }
}

/* Two values as f16, the lower one below. */
static __device__ __forceinline__ uint32_t pack(float low, float high)
{
    __half2_raw halves = __floats2half2_rn(low, high);
    return (uint32_t)halves.x | (uint32_t)halves.y << 16;
}

/* Scores that a row does not see become very small: their p is an exact zero. */
static __device__ __forceinline__ void mask(const struct attend_run &run,
                                            const struct attend_walk &walk,
                                            const struct tile_rows &rows, uint32_t page,
                                            float (&s)[TOKEN_TILES][4])
{
#pragma unroll
    for (int row = 0; row < 2; row++) {
        uint32_t own = walk.block.last_position - (walk.block.n_rows - 1) +
                       (rows.row[row] - walk.block.row);
        uint32_t begin = first_visible(run.args.group, own);
        uint32_t end = rows.is_real[row] ? own + 1 : 0;
#pragma unroll
        for (int n = 0; n < TOKEN_TILES; n++)
#pragma unroll
            for (int i = 0; i < 2; i++) {
                uint32_t column = (uint32_t)n * 8 + lane_idx() % 4 * 2 + (uint32_t)i;
                uint32_t position = page * PAGE_TOKENS + column;
                if (position < begin || position >= end)
                    s[n][2 * row + i] = -INFINITY;
            }
    }
}

/* s becomes p; c is what o is to be multiplied by. A lane's l sums its own columns: lanes are added
 * at the end of the span. */
static __device__ __forceinline__ void soften(float (&s)[TOKEN_TILES][4], struct softmax &span,
                                              float (&c)[2])
{
#pragma unroll
    for (int row = 0; row < 2; row++) {
        float m = span.m[row];
#pragma unroll
        for (int n = 0; n < TOKEN_TILES; n++)
            m = fmaxf(m, fmaxf(s[n][2 * row], s[n][2 * row + 1]));
        m = fmaxf(m, __shfl_xor_sync(ALL_LANES, m, 1));
        m = fmaxf(m, __shfl_xor_sync(ALL_LANES, m, 2));
        c[row] = rescale(span.m[row], m);
        float sum = 0.0f;
#pragma unroll
        for (int n = 0; n < TOKEN_TILES; n++) {
            s[n][2 * row] = exp2_approx(s[n][2 * row] - m);
            s[n][2 * row + 1] = exp2_approx(s[n][2 * row + 1] - m);
            sum += s[n][2 * row] + s[n][2 * row + 1];
        }
        span.m[row] = m;
        span.l[row] = fmaf(span.l[row], c[row], sum);
    }
}

/* Folds `from` with its o into `into`, whose o stands at `cells`; no two lanes share one. */
template <int n_tiles>
static __device__ __forceinline__ void fold(const struct softmax &from,
                                            const float (&o)[n_tiles][4], struct softmax &into,
                                            bool is_empty, float *const (&cells)[2])
{
#pragma unroll
    for (int row = 0; row < 2; row++) {
        float m = fmaxf(from.m[row], into.m[row]);
        float c_into = rescale(into.m[row], m), c_from = rescale(from.m[row], m);
        into.m[row] = m;
        into.l[row] = fmaf(from.l[row], c_from, __fmul_rn(into.l[row], c_into));
        if (cells[row] == NULL)
            continue;
#pragma unroll
        for (int n = 0; n < n_tiles; n++) {
            float2 *cell = (float2 *)(cells[row] + n * 8);
            float2 old = {0.0f, 0.0f};
            if (!is_empty)
                old = *cell;
            old.x = fmaf(o[n][2 * row], c_from, __fmul_rn(old.x, c_into));
            old.y = fmaf(o[n][2 * row + 1], c_from, __fmul_rn(old.y, c_into));
            *cell = old;
        }
    }
}

template <int n_tiles>
static __device__ __forceinline__ void read_back(float *const (&cells)[2], float (&o)[n_tiles][4])
{
#pragma unroll
    for (int row = 0; row < 2; row++)
#pragma unroll
        for (int n = 0; n < n_tiles; n++) {
            float2 cell = {0.0f, 0.0f};
            if (cells[row] != NULL)
                cell = *(const float2 *)(cells[row] + n * 8);
            o[n][2 * row] = cell.x;
            o[n][2 * row + 1] = cell.y;
        }
}

/* Where a walk leaves the o of a lane's rows. */
struct tile_cells {
    float *group[2]; /* of the spans since the group's begin */
    float *out[2];   /* the state; the same as group when the walk has one group only */
};

static __device__ __forceinline__ uint32_t state_of(const struct attend_walk &walk, uint32_t row)
{
    return walk.block.first_state + walk.part * walk.block.n_rows + (row - walk.block.row);
}

template <int dim>
static __device__ __forceinline__ struct tile_cells cells_of(const struct attend_run &run,
                                                             const struct attend_walk &walk,
                                                             const struct tile_rows &rows,
                                                             uint32_t column)
{
    struct tile_cells cells;
#pragma unroll
    for (int i = 0; i < 2; i++) {
        size_t n_heads = run.args.n_heads, head = rows.head[i];
        size_t state = state_of(walk, rows.row[i]);
        float *out = run.o + (state * n_heads + head) * dim + column;
        float *group = run.scratch + (rows.row[i] * n_heads + head) * dim + column;
        cells.out[i] = rows.is_real[i] ? out : NULL;
        cells.group[i] = rows.is_real[i] && has_groups(walk) ? group : cells.out[i];
    }
    return cells;
}

/* The lanes' sums of l, added in one order for all. */
static __device__ __forceinline__ void add_lanes(struct softmax &span)
{
#pragma unroll
    for (int row = 0; row < 2; row++) {
        span.l[row] += __shfl_xor_sync(ALL_LANES, span.l[row], 1);
        span.l[row] += __shfl_xor_sync(ALL_LANES, span.l[row], 2);
    }
}

static __device__ __forceinline__ void write_state(const struct attend_run &run,
                                                   const struct attend_walk &walk,
                                                   const struct tile_rows &rows,
                                                   const struct softmax &state)
{
#pragma unroll
    for (int i = 0; i < 2; i++) {
        if (!rows.is_real[i])
            continue;
        size_t at = (size_t)state_of(walk, rows.row[i]) * run.args.n_heads + rows.head[i];
        run.ml[at * 2] = state.m[i];
        run.ml[at * 2 + 1] = state.l[i];
    }
}

/* Whether all rows of the block see all of the page. */
static __device__ __forceinline__ bool is_open(const struct attend_run &run,
                                               const struct attend_block &block, uint32_t page)
{
    uint32_t first = block.last_position - (block.n_rows - 1);
    return page * PAGE_TOKENS >= first_visible(run.args.group, block.last_position) &&
           page * PAGE_TOKENS + PAGE_TOKENS - 1 <= first;
}

#endif
