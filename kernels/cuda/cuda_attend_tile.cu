/* kernels/cuda/cuda_attend_tile.cu: attention over f16 pages by mma, 16 rows (tokens x query heads
 * of one kv head) a warp.
 *
 *   few    one tile of 16 rows: each of 4 warps computes all scores, and a quarter of the output
 *   many   four tiles of 16 rows: a warp a tile
 *
 * A row's scores, softmax and sums take the same steps in the same order in both, so they give the
 * same bits: S = q K' by k16 steps, dims ascending; then P V by k16 steps, tokens ascending.
 *
 * The next page is on its way while one is read (cuda_attend_stage.cuh).
 */
#include "kernels/cuda/cuda_attend_stage.cuh"

#define THREADS STAGE_THREADS
#define WARPS (THREADS / WARP_LANES)
#define BLOCKS_PER_SM 2 /* what shared memory allows; so registers need not be spared */
#define TOKEN_TILES (PAGE_TOKENS / 8)

/* The two rows of a tile that a lane holds: lane / 4, and 8 below. */
struct tile_rows {
    bool is_real[2];
    uint32_t row[2], head[2];    /* of the step; query head of the model */
    uint32_t begin[2], end[2];   /* positions that it sees: [begin, end) */
    float q_scale[2];
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
        token = rows.is_real[i] ? token : 0;
        uint32_t position = block.last_position - (block.n_rows - 1) + token;
        rows.row[i] = block.row + token;
        rows.head[i] = walk.vhead * run.group_heads + idx % run.group_heads;
        rows.begin[i] = first_visible(run.args.group, position);
        rows.end[i] = rows.is_real[i] ? position + 1 : 0;
        rows.q_scale[i] = run.q.scales[rows.row[i]];
    }
    return rows;
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

/* s = scores of the page's 64 tokens, in units of log2. */
template <int dim>
static __device__ __forceinline__ void score(const uint32_t (&q)[dim / 16][4],
                                             const plane<dim> &k_plane,
                                             const struct tile_rows &rows,
                                             float (&s)[TOKEN_TILES][4])
{
#pragma unroll
    for (int n = 0; n < TOKEN_TILES; n++)
#pragma unroll
        for (int i = 0; i < 4; i++)
            s[n][i] = 0.0f;
    uint32_t token = lane_idx() / 16 * 8 + lane_idx() % 8, column = lane_idx() / 8 % 2 * CHUNK;
#pragma unroll
    for (int k = 0; k < dim / 16; k++)
#pragma unroll
        for (int n = 0; n < TOKEN_TILES; n += 2) {
            uint32_t pair[4];
            ldmatrix_x4(pair, &k_plane[(uint32_t)n * 8 + token][(uint32_t)k * 16 + column]);
            uint32_t left[2] = {pair[0], pair[1]}, right[2] = {pair[2], pair[3]};
            mma_f16(s[n], q[k], left);
            mma_f16(s[n + 1], q[k], right);
        }
#pragma unroll
    for (int n = 0; n < TOKEN_TILES; n++)
#pragma unroll
        for (int i = 0; i < 4; i++)
            s[n][i] = __fmul_rn(s[n][i], rows.q_scale[i / 2]);
}

static __device__ __forceinline__ bool sees(const struct tile_rows &rows, int row, uint32_t page,
                                            int n, int i)
{
    uint32_t column = (uint32_t)n * 8 + lane_idx() % 4 * 2 + (uint32_t)i % 2;
    uint32_t position = page * PAGE_TOKENS + column;
    return position >= rows.begin[row] && position < rows.end[row];
}

/* Scores that a row does not see become very small: their p is an exact zero. */
static __device__ __forceinline__ void mask(const struct tile_rows &rows, uint32_t page,
                                            float (&s)[TOKEN_TILES][4])
{
#pragma unroll
    for (int n = 0; n < TOKEN_TILES; n++)
#pragma unroll
        for (int i = 0; i < 4; i++)
            s[n][i] = sees(rows, i / 2, page, n, i) ? s[n][i] : -INFINITY;
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

static __device__ __forceinline__ uint32_t pack(float low, float high)
{
    __half2_raw halves = __floats2half2_rn(low, high);
    return (uint32_t)halves.x | (uint32_t)halves.y << 16;
}

/* o = o * c + P V, values from `column` on. */
template <int dim, int n_tiles>
static __device__ __forceinline__ void add_values(const float (&p)[TOKEN_TILES][4],
                                                  const float (&c)[2], const plane<dim> &v_plane,
                                                  uint32_t column, float (&o)[n_tiles][4])
{
#pragma unroll
    for (int n = 0; n < n_tiles; n++)
#pragma unroll
        for (int i = 0; i < 4; i++)
            o[n][i] = __fmul_rn(o[n][i], c[i / 2]);
#pragma unroll
    for (int k = 0; k < PAGE_TOKENS / 16; k++) {
        uint32_t a[4] = {pack(p[2 * k][0], p[2 * k][1]), pack(p[2 * k][2], p[2 * k][3]),
                         pack(p[2 * k + 1][0], p[2 * k + 1][1]),
                         pack(p[2 * k + 1][2], p[2 * k + 1][3])};
#pragma unroll
        for (int n = 0; n < n_tiles; n += 2) {
            uint32_t pair[4];
            ldmatrix_x4_trans(pair, &v_plane[(uint32_t)k * 16 + lane_idx() % 16]
                                            [column + ((uint32_t)n + lane_idx() / 16) * CHUNK]);
            uint32_t left[2] = {pair[0], pair[1]}, right[2] = {pair[2], pair[3]};
            mma_f16(o[n], a, left);
            mma_f16(o[n + 1], a, right);
        }
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

template <int dim, int row_warps>
static __device__ __forceinline__ void walk_unit(const struct attend_run &run,
                                                 const struct attend_walk &walk,
                                                 struct tile_memory<dim> &memory,
                                                 uint32_t &parities)
{
    constexpr int column_warps = WARPS / row_warps, n_tiles = dim / 8 / column_warps;
    uint32_t column = warp_idx() % column_warps * n_tiles * 8;
    struct tile_rows rows = rows_of(run, walk, warp_idx() / column_warps);
    struct tile_cells cells = cells_of<dim>(run, walk, rows, column + lane_idx() % 4 * 2);
    uint32_t q[dim / 16][4];
    load_queries<dim>(run, rows, q);

    float o[n_tiles][4] = {};
    struct softmax span = softmax_empty(), group = softmax_empty(), sum = softmax_empty();
    bool group_is_empty = true, sum_is_empty = true;
    bring<dim>(source_of(run, walk, walk.first_page), 0, memory);
    for (uint32_t page = walk.first_page; page <= walk.last_page; page++) {
        uint32_t now = (page - walk.first_page) % 2;
        await<dim>(now, parities, memory);
        __syncthreads(); /* the page has come for all, and the other stage has been read */
        if (page < walk.last_page)
            bring<dim>(source_of(run, walk, page + 1), now ^ 1, memory);

        float s[TOKEN_TILES][4], c[2];
        score<dim>(q, memory.stages[now].k, rows, s);
        if (!is_open(run, walk.block, page))
            mask(rows, page, s);
        soften(s, span, c);
        add_values<dim, n_tiles>(s, c, memory.stages[now].v, column, o);

        bool is_last = page == walk.last_page;
        if (!ends_span(page) && !is_last)
            continue;
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

template <int dim, int row_warps>
static __global__ void __launch_bounds__(THREADS, BLOCKS_PER_SM) walk_tiles(struct attend_run run)
{
    DYNAMIC_SHARED(struct tile_memory<dim>, memory);
    constexpr uint32_t attend_class = row_warps == 1 ? ATTEND_FEW : ATTEND_MANY;
    uint32_t n_units = run.counts->n_parts[attend_class] * run.n_vheads;
    uint32_t parities = 0;
    open_stages<dim>(*memory);
    for (uint32_t unit; (unit = take_unit(run, attend_class)) < n_units;)
        walk_unit<dim, row_warps>(run, walk_of(run, attend_class, unit), *memory, parities);
}

template <int dim, int row_warps>
static cudaError_t launch_tiles(const struct attend_run &run, unsigned grid, cudaStream_t stream)
{
    size_t bytes = sizeof(struct tile_memory<dim>);
    cudaError_t error = allow_shared(walk_tiles<dim, row_warps>, bytes);
    if (error != cudaSuccess)
        return error;
    return launch(walk_tiles<dim, row_warps>, grid, THREADS, bytes, stream, run);
}

cudaError_t cuda_attend_tiles(const struct attend_run &run, enum attend_class attend_class,
                              unsigned grid, cudaStream_t stream)
{
    bool is_few = attend_class == ATTEND_FEW;
    if (run.args.group.shape.k_dim == 64)
        return is_few ? launch_tiles<64, 1>(run, grid, stream)
                      : launch_tiles<64, WARPS>(run, grid, stream);
    return is_few ? launch_tiles<128, 1>(run, grid, stream)
                  : launch_tiles<128, WARPS>(run, grid, stream);
}
