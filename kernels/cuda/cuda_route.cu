/* kernels/cuda/cuda_route.cu: a warp a row, the bits of kernels/cpu/cpu_route.c.
 *
 * Lane i owns experts and groups i, i + 32, ...: it alone reads and writes their keys, which order
 * as choice values do and are 0 for what is taken or out. The best is the greatest key, of equal
 * ones the lowest index, over all lanes.
 */
#include "kernels/cuda/cuda_key.cuh"
#include "kernels/cuda/cuda_math.cuh"
#include "kernels/cuda/cuda_stream.cuh"

#include <assert.h>

extern "C" {
#include "base/status.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/route_rule.h"
}

#define CHAINS 16
#define WEIGHT_SUM_MIN 0x1p-14f

/* Of numbers alone; all NaN gives minus infinity. In every lane. */
static __device__ __forceinline__ float greatest_of(const float *logits, uint32_t n)
{
    uint32_t greatest = key_of(-INFINITY);
    for (uint32_t i = lane_idx(); i < n; i += WARP_LANES)
        if (logits[i] == logits[i])
            greatest = max(greatest, key_of(logits[i]));
    return float_of_key(__reduce_max_sync(ALL_LANES, greatest));
}

/* The sum of 16 chains and their fold, in every lane. */
static __device__ __forceinline__ float sum_of(const float *values, uint32_t n)
{
    float sum = 0.0f;
    for (uint32_t i = lane_idx(); lane_idx() < CHAINS && i < n; i += CHAINS)
        sum = __fadd_rn(sum, values[i]);
    for (unsigned apart = CHAINS / 2; apart > 0; apart /= 2)
        sum = __fadd_rn(sum, __shfl_down_sync(ALL_LANES, sum, apart));
    return __shfl_sync(ALL_LANES, sum, 0);
}

static __device__ __forceinline__ void softmax(const float *logits, uint32_t n, float *scores)
{
    float most = greatest_of(logits, n);
    for (uint32_t i = lane_idx(); i < n; i += WARP_LANES)
        scores[i] = cuda_exp(__fadd_rn(logits[i], -most));
    __syncwarp(); /* lanes of the sum read all */
    float sum = sum_of(scores, n);
    __syncwarp(); /* all have been read */
    for (uint32_t i = lane_idx(); i < n; i += WARP_LANES)
        scores[i] = __fdiv_rn(scores[i], sum);
}

static __device__ __forceinline__ void sigmoid(const float *logits, uint32_t n, float *scores)
{
    for (uint32_t i = lane_idx(); i < n; i += WARP_LANES)
        scores[i] = __fdiv_rn(1.0f, __fadd_rn(1.0f, cuda_exp(-logits[i])));
}

/* The first of the greatest keys, in every lane; its owner takes it out. */
static __device__ __forceinline__ uint32_t take_best(uint32_t *keys, uint32_t n)
{
    uint32_t best = 0, idx = UINT32_MAX;
    for (uint32_t i = lane_idx(); i < n; i += WARP_LANES)
        if (keys[i] > best) {
            best = keys[i];
            idx = i;
        }
    uint32_t greatest = __reduce_max_sync(ALL_LANES, best);
    idx = __reduce_min_sync(ALL_LANES, best == greatest ? idx : UINT32_MAX);
    if (idx % WARP_LANES == lane_idx())
        keys[idx] = 0;
    return idx;
}

/* The greatest value of a group, and the second where two count. */
static __device__ __forceinline__ uint32_t group_key(const uint32_t *keys, uint32_t n,
                                                     uint32_t n_best)
{
    uint32_t first = 0, second = 0;
    for (uint32_t i = 0; i < n; i++) {
        second = max(second, min(first, keys[i]));
        first = max(first, keys[i]);
    }
    if (n_best == 1 || n == 1)
        return first;
    return key_of(__fadd_rn(float_of_key(first), float_of_key(second)));
}

/* Experts of groups that are not among the best are out. */
static __device__ __forceinline__ void keep_groups(const struct route_rule &rule, uint32_t *keys,
                                                   uint32_t *groups)
{
    uint32_t size = rule.n_experts / rule.n_groups;
    __syncwarp(); /* the keys of a group are other lanes' */
    for (uint32_t g = lane_idx(); g < rule.n_groups; g += WARP_LANES)
        groups[g] = group_key(keys + g * size, size, rule.group_best);
    for (uint32_t i = 0; i < rule.n_groups_used; i++)
        take_best(groups, rule.n_groups);
    __syncwarp(); /* and who has taken a group as well; all keys have been read */
    for (uint32_t e = lane_idx(); e < rule.n_experts; e += WARP_LANES)
        keys[e] = groups[e / size] == 0 ? keys[e] : 0;
}

static __global__ void __launch_bounds__(WARP_LANES) route_rows(struct route_args args, int *error)
{
    SHARED(float[MODEL_EXPERTS_MAX], scores);
    SHARED(uint32_t[MODEL_EXPERTS_MAX], keys);
    SHARED(uint32_t[MODEL_EXPERTS_MAX], groups);
    const struct route_rule &rule = args.rule;
    const float *logits = args.logits + (size_t)blockIdx.x * rule.n_experts;
    uint32_t *experts = args.experts + (size_t)blockIdx.x * rule.n_used;
    float *weights = args.weights + (size_t)blockIdx.x * rule.n_used;

    if (rule.score == ROUTE_SOFTMAX)
        softmax(logits, rule.n_experts, scores);
    else
        sigmoid(logits, rule.n_experts, scores);
    bool is_nan = false;
    for (uint32_t e = lane_idx(); e < rule.n_experts; e += WARP_LANES) {
        float choice = rule.chooses_by_logit ? logits[e] : scores[e];
        choice = args.bias != NULL ? __fadd_rn(choice, args.bias[e]) : choice;
        is_nan = is_nan || choice != choice;
        keys[e] = key_of(choice);
    }
    if (__any_sync(ALL_LANES, is_nan)) {
        for (uint32_t slot = lane_idx(); slot < rule.n_used; slot += WARP_LANES) {
            experts[slot] = slot;
            weights[slot] = 0.0f;
        }
        cuda_fail(error, STATUS_INTERNAL);
        return;
    }
    if (rule.n_groups > 1)
        keep_groups(rule, keys, groups);
    __syncwarp(); /* every lane reads the scores of those chosen */

    float sum = 0.0f;
    for (uint32_t slot = 0; slot < rule.n_used; slot++) {
        uint32_t best = take_best(keys, rule.n_experts);
        sum = __fadd_rn(sum, scores[best]);
        if (slot % WARP_LANES == lane_idx()) {
            experts[slot] = best;
            weights[slot] = scores[best];
        }
    }
    sum = sum > WEIGHT_SUM_MIN ? sum : WEIGHT_SUM_MIN;
    for (uint32_t slot = lane_idx(); slot < rule.n_used; slot += WARP_LANES) {
        float weight = rule.normalise ? __fdiv_rn(weights[slot], sum) : weights[slot];
        weights[slot] = __fmul_rn(weight, rule.scale);
    }
}

extern "C" void cuda_route(struct stream *stream, const struct route_args *args)
{
    assert(route_rule_is_sound(&args->rule));
    assert(args->n_rows == 0 ||
           (args->logits != NULL && args->experts != NULL && args->weights != NULL));
    cudaStream_t cuda;
    if (!cuda_stream_begin(stream, "route", &cuda) || args->n_rows == 0)
        return;
    cuda_stream_check(stream, "route", launch(route_rows, args->n_rows, WARP_LANES, 0, cuda, *args,
                                              cuda_stream_error(stream)));
}
