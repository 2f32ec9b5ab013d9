/* kernels/cuda/cuda_attend.cu: attend on the host: its workspace, and which kernels take it. */
#include "kernels/cuda/cuda_attend.cuh"
#include "kernels/cuda/cuda_stream.cuh"

#include <assert.h>

extern "C" {
#include "kernels/cuda/cuda_ops.h"
}

/* The next `bytes` of a workspace; without a base they are only counted. */
static void *take(char *base, size_t *at, size_t bytes)
{
    void *taken = base == NULL ? NULL : base + *at;
    *at += cuda_act_round_up(bytes, CUDA_ACT_ALIGNMENT);
    return taken;
}

/* Gives each part of the workspace its place, states last: a state too many is written past the
 * end, where it is seen. Returns the bytes of all. */
static size_t place(struct attend_run *run, uint32_t n_rows, uint32_t n_heads, uint32_t v_dim,
                    void *workspace)
{
    char *base = (char *)workspace;
    size_t at = 0, states = run->max_states, heads = n_heads;
    run->counts = (struct attend_counts *)take(base, &at, sizeof *run->counts);
    run->blocks = (struct attend_block *)take(base, &at, n_rows * sizeof *run->blocks);
    run->row_block = (uint32_t *)take(base, &at, n_rows * sizeof *run->row_block);
    run->scratch = (float *)take(base, &at, n_rows * heads * v_dim * sizeof(float));
    for (int i = 0; i < ATTEND_CLASSES; i++)
        run->parts[i] = (struct attend_part *)take(base, &at, states * sizeof *run->parts[i]);
    run->ml = (float *)take(base, &at, states * heads * 2 * sizeof(float));
    run->o = (float *)take(base, &at, states * heads * v_dim * sizeof(float));
    return at;
}

static uint32_t n_spans(uint32_t n_tokens)
{
    return (n_tokens + SPAN_TOKENS - 1) / SPAN_TOKENS;
}

extern "C" size_t cuda_attend_workspace_bytes(const struct device *, uint32_t n_heads,
                                              const struct kv_shape *shape, uint32_t max_rows,
                                              uint32_t max_context)
{
    struct attend_run run = {};
    uint32_t states = n_spans(max_context);
    states = states < ATTEND_STATES_MIN ? ATTEND_STATES_MIN : states;
    run.max_states = max_rows + (states < ATTEND_STATES_MAX ? states : ATTEND_STATES_MAX);
    return place(&run, max_rows, n_heads, shape->v_dim, NULL);
}

/* As many states as the workspace holds. */
static void place_all(struct attend_run *run, const struct attend_args *args)
{
    uint32_t n_rows = args->rows.n_rows, v_dim = args->group.shape.v_dim;
    size_t state_bytes = (size_t)args->n_heads * v_dim * sizeof(float);
    uint32_t fits = n_rows; /* one a row must */
    uint32_t beyond = (uint32_t)(args->workspace_bytes / state_bytes) + 1;
    while (beyond - fits > 1) {
        run->max_states = fits + (beyond - fits) / 2;
        if (place(run, n_rows, args->n_heads, v_dim, NULL) <= args->workspace_bytes)
            fits = run->max_states;
        else
            beyond = run->max_states;
    }
    run->max_states = fits;
    size_t bytes = place(run, n_rows, args->n_heads, v_dim, args->workspace);
    assert(bytes <= args->workspace_bytes);
    (void)bytes;
}

/* Blocks of threads for the units of so many blocks of rows: they take unit after unit, so fewer
 * will do. */
static unsigned grid_for(const struct attend_run *run, uint32_t n_blocks)
{
    uint64_t parts = (uint64_t)n_blocks * n_spans(run->args.rows.max_position + 1);
    uint64_t units = (parts < run->max_states ? parts : run->max_states) * run->n_vheads;
    return (unsigned)(units < ATTEND_GRID_MAX ? units : ATTEND_GRID_MAX);
}

/* A sequence ends with few rows, or is many. */
static cudaError_t launch_tiles(const struct attend_run *run, cudaStream_t stream)
{
    uint32_t n_rows = run->args.rows.n_rows, n_seqs = run->args.rows.n_seqs;
    auto *tiles = kv_group_packs(&run->args.group) ? cuda_attend_packed_tiles : cuda_attend_tiles;
    cudaError_t error = tiles(*run, ATTEND_FEW, grid_for(run, n_seqs), stream);
    if (error != cudaSuccess || n_rows == n_seqs)
        return error;
    uint32_t n_blocks = n_rows / run->rows_max[ATTEND_MANY] + n_seqs;
    return tiles(*run, ATTEND_MANY, grid_for(run, n_blocks), stream);
}

static cudaError_t launch_all(const struct attend_run *run, bool tiled, cudaStream_t stream)
{
    cudaError_t error = cuda_attend_plan(*run, stream);
    if (error == cudaSuccess)
        error = tiled ? launch_tiles(run, stream)
                      : cuda_attend_plain(*run, grid_for(run, run->args.rows.n_rows), stream);
    if (error == cudaSuccess)
        error = cuda_attend_merge(*run, stream);
    return error;
}

extern "C" void cuda_attend(struct stream *stream, const struct attend_args *args)
{
    const struct kv_shape *shape = &args->group.shape;
    assert(shape->n_kv_heads > 0 && args->n_heads % shape->n_kv_heads == 0);
    assert(shape->k_dim <= MODEL_HEAD_DIM_MAX && shape->v_dim <= MODEL_HEAD_DIM_MAX);
    assert(args->q.width == args->n_heads * shape->k_dim &&
           args->out.width == args->n_heads * shape->v_dim);
    assert(args->rows.n_rows <= args->q.max_rows && args->rows.n_rows <= args->out.max_rows);
    assert(args->group.kind == KV_FULL || args->group.window > 0);
    assert(!shape->v_in_k || shape->v_dim <= shape->k_dim);
    assert(kv_group_packs(&args->group) == (args->group.open.base != NULL));
    cudaStream_t cuda;
    if (!cuda_stream_begin(stream, "attend", &cuda) || args->rows.n_rows == 0)
        return;

    struct attend_run run = {};
    run.args = *args;
    run.q = cuda_act_rows_of(&args->q);
    run.out = cuda_act_rows_of(&args->out);
    run.group_heads = args->n_heads / shape->n_kv_heads;
    run.error = cuda_stream_error(stream);
    bool tiled = attend_is_tiled(&args->group, run.group_heads);
    run.n_vheads = tiled ? shape->n_kv_heads : args->n_heads;
    run.rows_max[ATTEND_FEW] = tiled ? ATTEND_TILE_ROWS / run.group_heads : 1;
    uint32_t many_rows = ATTEND_MANY_ROWS(kv_group_packs(&args->group), shape->k_dim);
    run.rows_max[ATTEND_MANY] = tiled ? many_rows / run.group_heads : 1;
    place_all(&run, args);
    cuda_stream_check(stream, "attend", launch_all(&run, tiled, cuda));
}
