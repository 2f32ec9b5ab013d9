/* kernels/cuda/cuda_sample_report.cu: log-probabilities of the raw logits, the bits of the CPU's.
 *
 * The sum of exponentials is 16 chains of additions in double (lane i % 16, i ascending) and their
 * fold: one half of warp 0 adds up a tile while the other warps work out the next one.
 */
#include "kernels/cuda/cuda_sample.cuh"

extern "C" {
#include "base/status.h"
}

#define TILE 2048
#define CHAINS 16
#define LOGPROB_FLOOR (-9999.0f)

struct report_row {
    const float *logits;
    const struct sample_strip *strips;
    uint32_t vocabulary, n_strips;
    float best; /* logit */
};

/* By the threads from `first` on. */
static __device__ __forceinline__ void fill_tile(float *tile, const struct report_row &row,
                                                 uint32_t begin, uint32_t first)
{
    uint32_t n = min(row.vocabulary - begin, (uint32_t)TILE);
    for (uint32_t i = threadIdx.x - first; i < n; i += ROW_THREADS - first)
        tile[i] = cuda_exp(__fadd_rn(row.logits[begin + i], -row.best));
}

/* ln of the sum over all of exp(logit - best); for lane 0 of warp 0. By the whole block. */
static __device__ __forceinline__ double log_sum_of(const struct report_row &row,
                                                    float (&tiles)[2][TILE])
{
    double sum = 0.0;
    fill_tile(tiles[0], row, 0, 0);
    for (uint32_t begin = 0, now = 0; begin < row.vocabulary; begin += TILE, now ^= 1) {
        __syncthreads(); /* the tile is there; the other one has been read */
        if (warp_idx() > 0) {
            if (begin + TILE < row.vocabulary)
                fill_tile(tiles[now ^ 1], row, begin + TILE, WARP_LANES);
        } else if (lane_idx() < CHAINS) {
            uint32_t n = min(row.vocabulary - begin, (uint32_t)TILE);
            for (uint32_t i = lane_idx(); i < n; i += CHAINS)
                sum += (double)tiles[now][i];
        }
    }
    if (warp_idx() != 0)
        return 0.0;
    for (unsigned apart = CHAINS / 2; apart > 0; apart /= 2)
        sum += __shfl_down_sync(ALL_LANES, sum, apart);
    return lane_idx() == 0 ? exact_math_ln(sum) : 0.0;
}

static __device__ __forceinline__ float logprob_of(float logit, float best, double log_sum)
{
    double logprob = (double)logit - (double)best - log_sum;
    return logprob < (double)LOGPROB_FLOOR ? LOGPROB_FLOOR : (float)logprob;
}

struct found {
    uint32_t n;
    uint32_t ids[TOP_LOGPROBS_MAX], keys[TOP_LOGPROBS_MAX];
};

/* The n best by (logit descending, id ascending), in any order; n is at most the vocabulary. Only
 * strips' bests are looked at first: with n of them, the least bounds what can be among the n. */
static __device__ __forceinline__ void find_best(const struct report_row &row, uint32_t n,
                                                 struct radix *radix, struct found *found,
                                                 uint32_t (&of_warp)[ROW_WARPS])
{
    uint32_t least = 0;
    if (row.n_strips > n)
        least = find_cut(strip_keys{row.strips}, row.n_strips, 0, n, false, radix).least;
    struct kept kept = find_cut(logit_keys{row.logits, row.strips, &sample_strip::best_raw},
                                row.vocabulary, least, n, false, radix);
    if (threadIdx.x == 0)
        found->n = 0;
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < row.vocabulary; i += ROW_THREADS) {
        uint32_t key = key_of(row.logits[i]);
        if (key <= kept.least)
            continue;
        uint32_t at = atomicAdd(&found->n, 1u);
        found->ids[at] = i;
        found->keys[at] = key;
    }
    __syncthreads();
    uint32_t n_above = found->n;
    for (uint32_t tie = 0, next = 0; tie < kept.n_ties; tie++) { /* mostly one */
        uint32_t id = UINT32_MAX;
        for (uint32_t i = next + threadIdx.x; i < row.vocabulary && id == UINT32_MAX;
             i += ROW_THREADS)
            id = key_of(row.logits[i]) == kept.least ? i : id;
        id = block_min(id, of_warp);
        next = id + 1;
        if (threadIdx.x == 0) {
            found->ids[n_above + tie] = id;
            found->keys[n_above + tie] = kept.least;
        }
    }
    __syncthreads();
}

static __device__ __forceinline__ void report_best(const struct report_row &row, uint32_t n,
                                                   const struct found &found, double log_sum,
                                                   struct sample_result *result)
{
    if (threadIdx.x >= n)
        return;
    uint32_t id = found.ids[threadIdx.x], key = found.keys[threadIdx.x], place = 0;
    for (uint32_t i = 0; i < n; i++)
        place += found.keys[i] > key || (found.keys[i] == key && found.ids[i] < id) ? 1 : 0;
    result->top_id[place] = id;
    result->top_logprob[place] = logprob_of(row.logits[id], row.best, log_sum);
}

static __global__ void __launch_bounds__(ROW_THREADS, 1)
    report_rows(struct sample_args args, struct sample_space space, int *error)
{
    SHARED(uint32_t[ROW_WARPS], of_warp);
    SHARED(float[2][TILE], tiles);
    SHARED(struct radix, radix);
    SHARED(struct found, found);
    SHARED(double, shared_log_sum);
    uint32_t n_top = args.params[blockIdx.x].n_top;
    if (args.params[blockIdx.x].want_logprob == 0 && n_top == 0)
        return;
    struct report_row row = {args.logits + (size_t)blockIdx.x * args.vocabulary,
                             space.strips + (size_t)blockIdx.x * space.n_strips, args.vocabulary,
                             space.n_strips, 0.0f};
    struct sample_result *result = &args.results[blockIdx.x];
    uint32_t best = 0, best_drawn = 0;
    for (uint32_t s = threadIdx.x; s < row.n_strips; s += ROW_THREADS) {
        best = max(best, row.strips[s].best_raw);
        best_drawn = max(best_drawn, row.strips[s].best);
    }
    best = block_max(best, of_warp);
    best_drawn = block_max(best_drawn, of_warp);
    if (!is_finite_key(best_drawn)) /* choose_rows has told */
        return;
    if (!is_finite_key(best)) {
        if (threadIdx.x == 0)
            cuda_fail(error, STATUS_INTERNAL);
        return;
    }
    row.best = float_of_key(best);
    double sum = log_sum_of(row, tiles);
    if (threadIdx.x == 0) {
        shared_log_sum = sum;
        result->logprob = logprob_of(row.logits[result->id], row.best, sum);
    }
    n_top = min(min(n_top, (uint32_t)TOP_LOGPROBS_MAX), args.vocabulary);
    if (n_top == 0)
        return;
    find_best(row, n_top, &radix, &found, of_warp);
    if (threadIdx.x == 0)
        result->n_top = n_top;
    report_best(row, n_top, found, shared_log_sum, result);
}

cudaError_t cuda_sample_report(cudaStream_t stream, const struct sample_args &args,
                               const struct sample_space &space, int *error)
{
    return launch(report_rows, args.n_rows, ROW_THREADS, 0, stream, args, space, error);
}
