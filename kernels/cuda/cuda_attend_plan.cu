/* kernels/cuda/cuda_attend_plan.cu: cuts the rows of a step into blocks and parts; one block of
 * threads. Places in the lists come from counters: their order differs between runs, results do
 * not.
 */
#include "kernels/cuda/cuda_attend.cuh"

#define THREADS 256
#define WARPS (THREADS / WARP_LANES)

/* The rows of one sequence that row `r` is among: [begin, end). */
static __device__ __forceinline__ void find_sequence(const struct rows_view &rows, uint32_t r,
                                                     uint32_t *begin, uint32_t *end)
{
    uint32_t low = 0, high = rows.n_seqs; /* seq_begin[low] <= r < seq_begin[high] */
    while (high - low > 1) {
        uint32_t middle = (low + high) / 2;
        if (rows.seq_begin[middle] <= r)
            low = middle;
        else
            high = middle;
    }
    *begin = rows.seq_begin[low];
    *end = rows.seq_begin[low + 1];
}

/* Adds the block that begins at row r, if one does. In a group that packs the rows of a block stand
 * in one page: they read it as it was written, and all earlier ones packed. */
static __device__ __forceinline__ void cut_at(const struct attend_run &run, uint32_t r,
                                              struct attend_counts &counts)
{
    const struct rows_view &rows = run.args.rows;
    uint32_t begin, end, most = run.rows_max[ATTEND_MANY];
    find_sequence(rows, r, &begin, &end);
    uint32_t position = rows.position[r], slot = position % PAGE_TOKENS;
    if (kv_group_packs(&run.args.group)) {
        begin = max(begin, r - min(r, slot));
        end = min(end, r + PAGE_TOKENS - slot);
    }
    if ((r - begin) % most != 0)
        return;
    struct attend_block block;
    block.row = r;
    block.n_rows = min(most, end - r);
    block.seq = rows.row_seq[r];
    block.first_position = first_visible(run.args.group, position);
    block.last_position = position + block.n_rows - 1;
    block.attend_class = block.n_rows <= run.rows_max[ATTEND_FEW] ? ATTEND_FEW : ATTEND_MANY;
    block.cut = ATTEND_WHOLE;
    block.first_state = 0;
    uint32_t idx = atomicAdd(&counts.n_blocks, 1u);
    run.blocks[idx] = block;
    for (uint32_t i = 0; i < block.n_rows; i++)
        run.row_block[r + i] = idx;
    for (uint32_t cut = 0; cut < ATTEND_CUTS; cut++)
        atomicAdd(&counts.n_wanted[block.attend_class][cut],
                  n_parts_of(block, cut) * block.n_rows);
}

/* The finest cuts whose states fit; few rows are cut rather than many. */
static __device__ __forceinline__ void choose(const struct attend_counts &counts,
                                              uint32_t max_states, uint32_t *few, uint32_t *many)
{
    *few = ATTEND_BY_SPAN;
    *many = ATTEND_BY_SPAN;
    while (counts.n_wanted[ATTEND_FEW][*few] + counts.n_wanted[ATTEND_MANY][*many] > max_states &&
           (*few != ATTEND_WHOLE || *many != ATTEND_WHOLE)) {
        if (*many != ATTEND_WHOLE)
            ++*many;
        else
            ++*few;
    }
}

static __global__ void __launch_bounds__(THREADS) plan_rows(struct attend_run run)
{
    SHARED(struct attend_counts, counts);
    uint32_t *words = (uint32_t *)&counts;
    for (uint32_t i = threadIdx.x; i < sizeof counts / sizeof *words; i += THREADS)
        words[i] = 0;
    __syncthreads();
    for (uint32_t r = threadIdx.x; r < run.args.rows.n_rows; r += THREADS)
        cut_at(run, r, counts);
    __syncthreads();

    uint32_t few, many;
    choose(counts, run.max_states, &few, &many);
    for (uint32_t b = warp_idx(); b < counts.n_blocks; b += WARPS) { /* a warp a block */
        struct attend_block *block = &run.blocks[b];
        uint32_t attend_class = block->attend_class, cut = attend_class == ATTEND_FEW ? few : many;
        uint32_t n_parts = n_parts_of(*block, cut), first_part = 0;
        if (lane_idx() == 0) {
            block->cut = cut;
            block->first_state = atomicAdd(&counts.n_states, n_parts * block->n_rows);
            first_part = atomicAdd(&counts.n_parts[attend_class], n_parts);
        }
        first_part = __shfl_sync(ALL_LANES, first_part, 0);
        for (uint32_t p = lane_idx(); p < n_parts; p += WARP_LANES) {
            run.parts[attend_class][first_part + p].block = b;
            run.parts[attend_class][first_part + p].part = p;
        }
    }
    __syncthreads();
    uint32_t *to = (uint32_t *)run.counts;
    for (uint32_t i = threadIdx.x; i < sizeof counts / sizeof *words; i += THREADS)
        to[i] = words[i];
}

cudaError_t cuda_attend_plan(const struct attend_run &run, cudaStream_t stream)
{
    return launch(plan_rows, 1, THREADS, 0, stream, run);
}
