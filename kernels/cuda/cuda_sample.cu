/* kernels/cuda/cuda_sample.cu: the draw, the chain of kernels/cpu/cpu_sample.c to the bit. */
#include "kernels/cuda/cuda_sample.cuh"
#include "kernels/cuda/cuda_sample_typical.cuh"

#include <assert.h>

extern "C" {
#include "base/status.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/philox.h"
}

static __device__ __forceinline__ bool is_greedy(const struct sample_params *params)
{
    return !(params->temperature > 0.0f);
}

/* --- prepare --- */

/* Marks the strip's banned ids. */
static __device__ __forceinline__ void mark_banned(const struct sample_args &args, uint32_t begin,
                                                   uint32_t n, uint8_t (&is_banned)[STRIP])
{
    for (uint32_t i = threadIdx.x; i < STRIP; i += STRIP_THREADS)
        is_banned[i] = 0;
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < args.n_banned; i += STRIP_THREADS)
        if (args.banned[i] - begin < n)
            is_banned[args.banned[i] - begin] = 1;
    __syncthreads();
}

/* Sets the strip's biases. */
static __device__ __forceinline__ void spread_biases(const struct sample_args &args,
                                                     const struct sample_params *params,
                                                     uint32_t begin, uint32_t n,
                                                     float (&bias_of)[STRIP])
{
    for (uint32_t i = threadIdx.x; i < STRIP; i += STRIP_THREADS)
        bias_of[i] = 0.0f;
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < params->n_biases; i += STRIP_THREADS) {
        struct sample_bias bias = args.biases[params->first_bias + i];
        if (bias.id - begin < n)
            bias_of[bias.id - begin] = bias.bias;
    }
    __syncthreads();
}

/* The penalties of a token, by its count. */
static __device__ __forceinline__ float penalized(float value, uint32_t count,
                                                  const struct sample_params *params)
{
    float repetition = params->repetition;
    if (count != 0 && repetition != 1.0f)
        value = value > 0 ? __fdiv_rn(value, repetition) : __fmul_rn(value, repetition);
    if (count > 1 && (params->frequency != 0.0f || params->presence != 0.0f)) {
        value = __fadd_rn(value, -__fmul_rn(params->frequency, (float)(count / 2)));
        value = __fadd_rn(value, -params->presence);
    }
    return value;
}

/* What the row's settings name is there. */
static __device__ __forceinline__ bool has_places(const struct sample_args &args,
                                                  const struct sample_params *params,
                                                  bool has_counts)
{
    if (has_counts &&
        (args.counts == NULL || (uint32_t)params->count_slot >= args.n_slots))
        return false;
    if (params->mask_slot >= 0 && ((uint32_t)params->mask_slot >= args.n_masks ||
                                   (size_t)args.mask_words * 32 < args.vocabulary))
        return false;
    return params->n_biases == 0 || (params->n_biases <= args.n_biases &&
                                     params->first_bias <= args.n_biases - params->n_biases);
}

static __global__ void __launch_bounds__(STRIP_THREADS)
    prepare_strips(struct sample_args args, struct sample_space space)
{
    SHARED(uint8_t[STRIP], is_banned);
    SHARED(float[STRIP], bias_of);
    SHARED(uint32_t[STRIP_THREADS / WARP_LANES], of_warp);
    uint32_t row = blockIdx.y, begin = blockIdx.x * STRIP;
    uint32_t n = min(args.vocabulary - begin, (uint32_t)STRIP);
    const struct sample_params *params = &args.params[row];
    const float *logits = args.logits + (size_t)row * args.vocabulary + begin;
    float *x = space.x + (size_t)row * space.x_stride + begin;

    bool has_mask = params->mask_banned != 0;
    bool has_counts = params->count_slot >= 0 &&
                      (params->repetition != 1.0f || params->frequency != 0.0f ||
                       params->presence != 0.0f);
    bool is_broken = !has_places(args, params, has_counts);
    bool has_bias = params->n_biases > 0 && !is_broken; /* all blocks of the row alike */
    if (has_mask)
        mark_banned(args, begin, n, is_banned);
    if (has_bias)
        spread_biases(args, params, begin, n, bias_of);
    const uint32_t *counts = NULL, *words = NULL;
    if (has_counts && !is_broken)
        counts = args.counts + (size_t)params->count_slot * args.vocabulary + begin;
    if (params->mask_slot >= 0 && !is_broken)
        words = args.masks + (size_t)params->mask_slot * args.mask_words + begin / 32;

    uint32_t best = 0, best_raw = 0;
    for (uint32_t i = threadIdx.x; i < n; i += STRIP_THREADS) {
        float raw = logits[i], value = raw;
        if (has_bias)
            value = __fadd_rn(value, bias_of[i]);
        if (has_mask && is_banned[i] != 0)
            value = -INFINITY;
        if (words != NULL && (words[i / 32] >> i % 32 & 1) == 0)
            value = -INFINITY;
        if (counts != NULL)
            value = penalized(value, counts[i], params);
        x[i] = value;
        best = max(best, key_of(value));
        best_raw = max(best_raw, key_of(raw));
    }
    best = block_max(best, of_warp);
    best_raw = block_max(best_raw, of_warp);
    if (threadIdx.x == 0) {
        struct sample_strip *strip = &space.strips[(size_t)row * space.n_strips + blockIdx.x];
        strip->best = is_broken ? KEY_NAN : best;
        strip->best_raw = best_raw;
    }
}

/* The row's best key, for all threads of the block. */
template <uint32_t n_warps>
static __device__ __forceinline__ uint32_t best_of(const struct sample_strip *strips,
                                                   uint32_t n_strips,
                                                   uint32_t (&of_warp)[n_warps])
{
    uint32_t best = 0;
    for (uint32_t s = threadIdx.x; s < n_strips; s += n_warps * WARP_LANES)
        best = max(best, strips[s].best);
    return block_max(best, of_warp);
}

/* --- weigh --- */

/* Keys above it have x >= ln(min_p), x being relative to the best. */
static __device__ __forceinline__ uint32_t floor_of(float min_p)
{
    if (!(min_p > 0.0f))
        return 0;
    double exact = exact_math_ln(min_p < 1.0f ? (double)min_p : 1.0);
    float threshold = (float)exact;
    return key_of(threshold) - ((double)threshold < exact ? 0 : 1);
}

/* Keys above it are of the level or of one before. */
static __device__ __forceinline__ uint32_t floor_of_level(uint32_t level, uint32_t floor)
{
    if (level == NEAR_LEVELS - 1)
        return floor;
    return max(floor, key_of(level == 0 ? -8.0f : -32.0f));
}

struct strip_sums {
    uint64_t n[NEAR_LEVELS], mass[NEAR_LEVELS];
};

static __device__ __forceinline__ void add_warps(const struct strip_sums (&of_warp)[8],
                                                 struct sample_strip *strip)
{
    strip->kept_mass = 0;
    strip->n_ties = 0;
    for (uint32_t level = 0; level < NEAR_LEVELS; level++) {
        uint64_t n = 0, mass = 0;
        for (uint32_t w = 0; w < STRIP_THREADS / WARP_LANES; w++) {
            n += of_warp[w].n[level];
            mass += of_warp[w].mass[level];
        }
        strip->n[level] = n;
        strip->mass[level] = mass;
        strip->kept_mass += mass;
    }
}

static __global__ void __launch_bounds__(STRIP_THREADS)
    weigh_strips(struct sample_args args, struct sample_space space)
{
    SHARED(uint32_t[STRIP_THREADS / WARP_LANES], of_warp);
    SHARED(struct strip_sums[STRIP_THREADS / WARP_LANES], sums_of_warp);
    SHARED(uint32_t, shared_floor);
    uint32_t row = blockIdx.y, begin = blockIdx.x * STRIP;
    uint32_t n = min(args.vocabulary - begin, (uint32_t)STRIP);
    const struct sample_params *params = &args.params[row];
    struct sample_strip *strips = space.strips + (size_t)row * space.n_strips;
    float *x = space.x + (size_t)row * space.x_stride + begin;
    if (is_greedy(params)) /* all blocks of the row alike */
        return;
    if (threadIdx.x == 0)
        shared_floor = floor_of(params->min_p);
    uint32_t best = best_of(strips, space.n_strips, of_warp); /* has barriers */
    if (!is_finite_key(best))
        return;

    float max_x = float_of_key(best), temperature = params->temperature;
    uint32_t floor = shared_floor;
    struct strip_sums sums = {};
    uint32_t peak = 0;
    for (uint32_t i = threadIdx.x; i < n; i += STRIP_THREADS) {
        float value = __fadd_rn(__fdiv_rn(__fadd_rn(x[i], -max_x), temperature), 0.0f);
        x[i] = value;
        uint32_t key = key_of(value), done = 0;
        peak = max(peak, key);
        uint64_t mass = mass_of(value);
        for (uint32_t level = 0; level < NEAR_LEVELS; level++) {
            bool is_here = done == 0 && key > floor_of_level(level, floor);
            done |= is_here ? 1 : 0;
            sums.n[level] += is_here ? 1 : 0;
            sums.mass[level] += is_here ? mass : 0;
        }
    }
    for (uint32_t level = 0; level < NEAR_LEVELS; level++) {
        uint64_t n_here = warp_sum(sums.n[level]), mass = warp_sum(sums.mass[level]);
        if (lane_idx() == 0) {
            sums_of_warp[warp_idx()].n[level] = n_here;
            sums_of_warp[warp_idx()].mass[level] = mass;
        }
    }
    peak = block_max(peak, of_warp);
    if (threadIdx.x == 0) { /* the barriers of block_max stand before */
        strips[blockIdx.x].floor = floor;
        strips[blockIdx.x].peak = peak;
        add_warps(sums_of_warp, &strips[blockIdx.x]);
    }
}

/* --- choose --- */

struct levels { /* each with those before it */
    uint64_t n[NEAR_LEVELS], mass[NEAR_LEVELS];
};

/* By warp 0. */
static __device__ __forceinline__ void add_levels(const struct choice_row &row,
                                                  struct levels *levels)
{
    uint64_t n = 0, mass = 0;
    for (uint32_t level = 0; level < NEAR_LEVELS; level++) {
        for (uint32_t s = lane_idx(); s < row.n_strips; s += WARP_LANES) {
            n += row.strips[s].n[level];
            mass += row.strips[s].mass[level];
        }
        uint64_t all_n = warp_sum(n), all_mass = warp_sum(mass);
        if (lane_idx() == 0) {
            levels->n[level] = all_n;
            levels->mass[level] = all_mass;
        }
    }
}

/* Leaves in each strip the mass and the ties that are kept. A warp a strip; by the whole block. */
static __device__ __forceinline__ void weigh_kept(const struct choice_row &row, struct kept kept)
{
    for (uint32_t s = warp_idx(); s < row.n_strips; s += ROW_WARPS) {
        uint32_t end = min(row.vocabulary, (s + 1) * STRIP);
        uint64_t mass = 0;
        uint32_t n_ties = 0;
        if (row.strips[s].peak < kept.least) /* nothing is kept here */
            end = 0;
#pragma unroll 8
        for (uint32_t i = s * STRIP + lane_idx(); i < end; i += WARP_LANES) {
            uint32_t key = key_of(row.x[i]);
            mass += key > kept.least ? mass_of(row.x[i]) : 0;
            n_ties += key == kept.least ? 1 : 0;
        }
        mass = warp_sum(mass);
        n_ties = __reduce_add_sync(ALL_LANES, n_ties);
        if (lane_idx() == 0) {
            row.strips[s].kept_mass = mass;
            row.strips[s].n_ties = n_ties;
        }
    }
    __syncthreads();
}

static __device__ __forceinline__ uint64_t tie_mass(struct kept kept)
{
    return kept.n_ties > 0 ? mass_of(float_of_key(kept.least)) : 0;
}

/* Of all that is kept, from the strips. By a whole warp. */
static __device__ __forceinline__ uint64_t kept_mass(const struct choice_row &row,
                                                     struct kept kept)
{
    uint64_t mass = 0, n_ties = 0;
    for (uint32_t s = lane_idx(); s < row.n_strips; s += WARP_LANES) {
        mass += row.strips[s].kept_mass;
        n_ties += row.strips[s].n_ties;
    }
    mass = warp_sum(mass);
    n_ties = warp_sum(n_ties);
    return mass + (n_ties < kept.n_ties ? n_ties : kept.n_ties) * tie_mass(kept);
}

static __device__ __forceinline__ uint64_t needed_mass(float top_p, uint64_t total)
{
    double wanted = ceil((double)top_p * (double)total);
    uint64_t need = wanted < 1.0 ? 1 : (uint64_t)wanted;
    return need < total ? need : total;
}

/* min_p, top_k, typical_p and top_p: the strips then hold what is kept. By the whole block. */
static __device__ __forceinline__ struct kept cut_row(const struct choice_row &row,
                                                      const struct sample_params &params,
                                                      const struct levels &levels,
                                                      struct mean_sum *sum, struct radix *radix)
{
    const struct logit_keys keys = {row.x, row.strips, &sample_strip::peak};
    uint32_t floor = row.strips[0].floor, level = 0;
    struct kept kept = {floor, 0};
    uint64_t total = levels.mass[NEAR_LEVELS - 1];
    bool has_cut = params.top_k > 0 && params.top_k < levels.n[NEAR_LEVELS - 1];
    if (has_cut) {
        while (levels.n[level] < params.top_k)
            level++;
        kept = find_cut(keys, row.vocabulary, floor_of_level(level, floor), params.top_k, false,
                        radix);
        weigh_kept(row, kept);
        total = kept_mass(row, kept);
    }
    if (params.typical_p > 0.0f && params.typical_p < 1.0f) {
        drop_cut(row, kept);
        cut_typical(row, needed_mass(params.typical_p, total), total, sum, radix);
        kept = {KEY_LOWEST, 0};
        weigh_kept(row, kept);
        total = kept_mass(row, kept);
        has_cut = true;
    }
    if (params.top_p < 1.0f) {
        uint64_t need = needed_mass(params.top_p, total);
        uint32_t least = kept.least;
        if (!has_cut) {
            while (levels.mass[level] < need)
                level++;
            least = floor_of_level(level, floor);
        }
        kept = find_cut(keys, row.vocabulary, least, need, true, radix);
        weigh_kept(row, kept);
    }
    return kept;
}

/* The first id whose running sum of kept masses exceeds random * total / 2^64. By warp 0. */
static __device__ __forceinline__ uint32_t draw_of(const struct choice_row &row, struct kept kept,
                                                   uint64_t random)
{
    struct draw draw = {__umul64hi(random, kept_mass(row, kept)), tie_mass(kept), kept.n_ties};
    uint32_t begin = 0, end = 0;
    for (uint32_t first = 0; first < row.n_strips; first += WARP_LANES) {
        uint32_t s = first + lane_idx();
        bool is_here = s < row.n_strips;
        uint32_t lane = draw_among_lanes(&draw, is_here ? row.strips[s].kept_mass : 0,
                                         is_here ? row.strips[s].n_ties : 0);
        if (lane == WARP_LANES)
            continue;
        begin = (first + lane) * STRIP;
        end = min(begin + STRIP, row.vocabulary);
        break;
    }
    for (uint32_t first = begin; first < end; first += WARP_LANES) {
        uint32_t i = first + lane_idx();
        uint32_t key = i < end ? key_of(row.x[i]) : 0;
        uint32_t lane = draw_among_lanes(&draw, key > kept.least ? mass_of(row.x[i]) : 0,
                                         i < end && key == kept.least ? 1 : 0);
        if (lane < WARP_LANES)
            return first + lane;
    }
    return begin; /* not reached: what is left is less than the kept mass */
}

/* The lowest id whose key is the row's best. By the whole block. */
static __device__ __forceinline__ uint32_t first_at(const struct choice_row &row, uint32_t best,
                                                    uint32_t (&of_warp)[ROW_WARPS])
{
    uint32_t strip = UINT32_MAX, id = UINT32_MAX;
    for (uint32_t s = threadIdx.x; s < row.n_strips; s += ROW_THREADS)
        if (row.strips[s].best == best)
            strip = min(strip, s);
    strip = block_min(strip, of_warp);
    uint32_t end = min(row.vocabulary, (strip + 1) * STRIP);
    for (uint32_t i = strip * STRIP + threadIdx.x; i < end; i += ROW_THREADS)
        if (key_of(row.x[i]) == best)
            id = min(id, i);
    return block_min(id, of_warp);
}

static __global__ void __launch_bounds__(ROW_THREADS, 1)
    choose_rows(struct sample_args args, struct sample_space space, int *error)
{
    SHARED(uint32_t[ROW_WARPS], of_warp);
    SHARED(struct levels, levels);
    SHARED(struct mean_sum, sum);
    SHARED(struct radix, radix);
    struct choice_row row = {space.x + (size_t)blockIdx.x * space.x_stride,
                             space.strips + (size_t)blockIdx.x * space.n_strips, args.vocabulary,
                             space.n_strips};
    const struct sample_params params = args.params[blockIdx.x];
    struct sample_result *result = &args.results[blockIdx.x];
    for (uint32_t i = threadIdx.x; i < sizeof *result / sizeof(uint32_t); i += ROW_THREADS)
        ((uint32_t *)result)[i] = 0; /* thread 0: the id */

    uint32_t best = best_of(row.strips, row.n_strips, of_warp), id;
    if (!is_finite_key(best)) { /* a NaN, or nothing is left to draw */
        if (threadIdx.x == 0)
            cuda_fail(error, STATUS_INTERNAL);
        return;
    }
    if (is_greedy(&params)) {
        id = first_at(row, best, of_warp);
    } else {
        if (warp_idx() == 0)
            add_levels(row, &levels);
        __syncthreads();
        struct kept kept = cut_row(row, params, levels, &sum, &radix);
        if (warp_idx() != 0)
            return; /* no barrier follows */
        id = draw_of(row, kept, philox(params.seed, params.choice_idx, params.position));
    }
    if (threadIdx.x == 0)
        result->id = id;
}

/* --- the op --- */

static struct sample_space space_of(void *workspace, uint32_t n_rows, uint32_t vocabulary,
                                    size_t *bytes)
{
    struct sample_space space = {};
    space.x_stride = (vocabulary + 15) / 16 * 16;
    space.n_strips = (vocabulary + STRIP - 1) / STRIP;
    size_t x_bytes = (size_t)n_rows * space.x_stride * sizeof(float);
    space.x = (float *)workspace;
    space.strips = (struct sample_strip *)((char *)workspace + x_bytes);
    *bytes = x_bytes + (size_t)n_rows * space.n_strips * sizeof *space.strips;
    return space;
}

extern "C" size_t cuda_sample_workspace_bytes(const struct device *, uint32_t max_rows,
                                              uint32_t vocabulary)
{
    size_t bytes;
    space_of(NULL, max_rows, vocabulary, &bytes);
    return bytes;
}

extern "C" void cuda_sample(struct stream *stream, const struct sample_args *args)
{
    assert(args->vocabulary > 0 && args->vocabulary <= MODEL_VOCABULARY_MAX);
    assert(args->n_rows == 0 ||
           (args->logits != NULL && args->params != NULL && args->results != NULL));
    assert(args->n_masks == 0 || args->masks != NULL);
    assert(args->n_biases == 0 || args->biases != NULL);
    assert(args->workspace != NULL && (uintptr_t)args->workspace % 64 == 0);
    cudaStream_t cuda;
    if (!cuda_stream_begin(stream, "sample", &cuda) || args->n_rows == 0)
        return;
    size_t bytes;
    struct sample_space space = space_of(args->workspace, args->n_rows, args->vocabulary, &bytes);
    int *error = cuda_stream_error(stream);
    dim3 strips(space.n_strips, args->n_rows);
    cuda_stream_check(stream, "sample",
                      launch(prepare_strips, strips, STRIP_THREADS, 0, cuda, *args, space));
    cuda_stream_check(stream, "sample",
                      launch(weigh_strips, strips, STRIP_THREADS, 0, cuda, *args, space));
    cuda_stream_check(stream, "sample",
                      launch(choose_rows, args->n_rows, ROW_THREADS, 0, cuda, *args, space, error));
    cuda_stream_check(stream, "sample", cuda_sample_report(cuda, *args, space, error));
}
