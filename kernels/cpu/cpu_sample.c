#include "kernels/cpu/cpu_sample_cut.h"

#include <assert.h>

#include "base/status.h"
#include "kernels/cpu/cpu_math.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/cpu_x86.h"
#include "kernels/philox.h"

#define LOGPROB_FLOOR (-9999.0f)
#define DRAW_BLOCK 1024

struct sample_run {
    struct sample_args args;
    const struct cpu_sample_ops *ops;
};

static size_t row_bytes(uint32_t vocabulary)
{
    size_t values = ((size_t)vocabulary + 15) / 16 * 16;
    return values * (3 * sizeof(float) + sizeof(uint32_t));
}

size_t cpu_sample_workspace_bytes(const struct device *device, uint32_t max_rows,
                                  uint32_t vocabulary)
{
    (void)max_rows; /* a worker has one row in hand */
    return row_bytes(vocabulary) * (size_t)device_n_threads(device);
}

/* --- the draw --- */

static uint32_t draw_of_all(const struct cpu_sample_row *row, uint64_t random)
{
    uint64_t total = row->ops->mass(row->e, row->vocabulary);
    uint64_t left = (uint64_t)((unsigned __int128)random * total >> 64);
    for (uint32_t begin = 0; begin < row->vocabulary; begin += DRAW_BLOCK) {
        uint32_t n = row->vocabulary - begin < DRAW_BLOCK ? row->vocabulary - begin : DRAW_BLOCK;
        uint64_t block = row->ops->mass(row->e + begin, n);
        if (left >= block) {
            left -= block;
            continue;
        }
        uint32_t id = begin;
        for (uint64_t mass; left >= (mass = cpu_sample_mass(row->e[id])); id++)
            left -= mass;
        return id;
    }
    assert(false); /* left < total */
    return 0;
}

static uint32_t draw_of_kept(const struct cpu_sample_row *row, uint64_t random)
{
    uint64_t left = (uint64_t)((unsigned __int128)random * cpu_sample_kept_mass(row) >> 64);
    for (uint32_t i = 0; i < row->n_ids; i++) {
        uint64_t mass = cpu_sample_mass(row->e[row->ids[i]]);
        if (left < mass)
            return row->ids[i];
        left -= mass;
    }
    assert(false); /* left < the kept mass, which is not 0: the best token is always kept */
    return 0;
}

static uint32_t draw(struct cpu_sample_row *row, const struct sample_params *params, float max)
{
    row->ops->weigh(row->x, max, params->temperature, row->vocabulary, row->e);
    cpu_sample_cut(row, params);
    uint64_t random = philox(params->seed, params->choice_idx, params->position);
    return row->all ? draw_of_all(row, random) : draw_of_kept(row, random);
}

/* --- log-probabilities of the raw logits --- */

static float logprob_of(float logit, float max, double log_sum)
{
    double logprob = (double)logit - (double)max - log_sum;
    return logprob < (double)LOGPROB_FLOOR ? LOGPROB_FLOOR : (float)logprob;
}

static void report_top(const struct cpu_sample_row *row, const float *logits, float max,
                       double log_sum, uint32_t n_top, struct sample_result *result)
{
    uint32_t n_ids = cpu_sample_collect_best(row, logits, max, n_top), n = 0;
    for (uint32_t i = 0; i < n_ids; i++) {
        uint32_t id = row->ids[i], at = n;
        while (at > 0 && logits[id] > logits[result->top_id[at - 1]])
            at--;
        if (at == n_top)
            continue;
        n += n < n_top;
        for (uint32_t j = n - 1; j > at; j--)
            result->top_id[j] = result->top_id[j - 1];
        result->top_id[at] = id;
    }
    for (uint32_t i = 0; i < n; i++)
        result->top_logprob[i] = logprob_of(logits[result->top_id[i]], max, log_sum);
    result->n_top = n;
}

static int report(const struct cpu_sample_row *row, const struct sample_params *params,
                  const float *logits, struct sample_result *result)
{
    float max = row->ops->max(logits, row->vocabulary);
    if (!isfinite(max))
        return STATUS_INTERNAL;
    double log_sum = exact_math_ln(row->ops->exp_sum(logits, max, row->vocabulary));
    result->logprob = logprob_of(logits[result->id], max, log_sum);
    uint32_t n_top = params->n_top < TOP_LOGPROBS_MAX ? params->n_top : TOP_LOGPROBS_MAX;
    if (n_top > 0)
        report_top(row, logits, max, log_sum, n_top, result);
    return STATUS_OK;
}

/* --- one row --- */

static uint32_t first_at(const float *x, float value)
{
    uint32_t i = 0;
    while (x[i] != value)
        i++;
    return i;
}

static bool penalizes(const struct sample_params *params)
{
    return params->count_slot >= 0 && (params->repetition != 1.0f || params->frequency != 0.0f ||
                                       params->presence != 0.0f);
}

static bool changes_logits(const struct sample_params *params)
{
    return params->mask_banned != 0 || params->mask_slot >= 0 || params->n_biases > 0 ||
           penalizes(params);
}

static int add_biases(const struct sample_args *args, const struct sample_params *params,
                      struct cpu_sample_row *row)
{
    if (params->n_biases > args->n_biases || params->first_bias > args->n_biases - params->n_biases)
        return STATUS_INTERNAL;
    for (uint32_t i = 0; i < params->n_biases; i++) {
        const struct sample_bias *bias = &args->biases[params->first_bias + i];
        if (bias->id < row->vocabulary)
            row->x[bias->id] += bias->bias;
    }
    return STATUS_OK;
}

/* What may not be drawn becomes -infinity. */
static int mask(const struct sample_args *args, const struct sample_params *params,
                struct cpu_sample_row *row)
{
    if (params->mask_banned != 0)
        for (uint32_t i = 0; i < args->n_banned; i++)
            if (args->banned[i] < row->vocabulary)
                row->x[args->banned[i]] = -INFINITY;
    if (params->mask_slot < 0)
        return STATUS_OK;
    if ((uint32_t)params->mask_slot >= args->n_masks ||
        (size_t)args->mask_words * 32 < row->vocabulary)
        return STATUS_INTERNAL;
    const uint32_t *words = args->masks + (size_t)params->mask_slot * args->mask_words;
    for (uint32_t begin = 0; begin < row->vocabulary; begin += 32) {
        uint32_t word = words[begin / 32];
        uint32_t n = row->vocabulary - begin < 32 ? row->vocabulary - begin : 32;
        for (uint32_t i = 0; i < n && word != UINT32_MAX; i++)
            if ((word >> i & 1) == 0)
                row->x[begin + i] = -INFINITY;
    }
    return STATUS_OK;
}

/* Of what stands in the output. */
static void penalize_output(float *x, const uint32_t *counts, float frequency, float presence,
                            uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        if (counts[i] > 1)
            x[i] = x[i] - frequency * (float)(counts[i] / 2) - presence;
}

/* Copies the logits to row->x with biases, masks and penalties in them. */
static int prepare(const struct sample_args *args, const struct sample_params *params,
                   const float *logits, struct cpu_sample_row *row)
{
    memcpy(row->x, logits, row->vocabulary * sizeof(float));
    int status = params->n_biases > 0 ? add_biases(args, params, row) : STATUS_OK;
    if (status == STATUS_OK)
        status = mask(args, params, row);
    if (status < 0 || !penalizes(params))
        return status;
    if (args->counts == NULL || (uint32_t)params->count_slot >= args->n_slots)
        return STATUS_INTERNAL;
    const uint32_t *counts = args->counts + (size_t)params->count_slot * row->vocabulary;
    if (params->repetition != 1.0f)
        row->ops->repeat(row->x, counts, params->repetition, row->vocabulary);
    if (params->frequency != 0.0f || params->presence != 0.0f)
        penalize_output(row->x, counts, params->frequency, params->presence, row->vocabulary);
    return STATUS_OK;
}

static int sample_row(const struct sample_args *args, uint32_t r, struct cpu_sample_row *row)
{
    const struct sample_params *params = &args->params[r];
    const float *logits = args->logits + (size_t)r * args->vocabulary;
    struct sample_result *result = &args->results[r];
    memset(result, 0, sizeof *result);

    bool greedy = !(params->temperature > 0.0f);
    const float *x = logits;
    if (!greedy || changes_logits(params)) {
        int status = prepare(args, params, logits, row);
        if (status < 0)
            return status;
        x = row->x;
    }
    float max = row->ops->max(x, row->vocabulary);
    if (!isfinite(max)) /* a NaN, or nothing is left to draw */
        return STATUS_INTERNAL;
    result->id = greedy ? first_at(x, max) : draw(row, params, max);
    if (params->want_logprob != 0 || params->n_top > 0)
        return report(row, params, logits, result);
    return STATUS_OK;
}

static void run_sample(const struct cpu_worker *worker, const void *args)
{
    const struct sample_run *run = args;
    uint32_t vocabulary = run->args.vocabulary;
    size_t n_values = ((size_t)vocabulary + 15) / 16 * 16;
    struct cpu_sample_row row = {
        .ops = run->ops,
        .vocabulary = vocabulary,
        .x =
            (float *)((uint8_t *)run->args.workspace + (size_t)worker->idx * row_bytes(vocabulary)),
        .buckets = worker->scratch,
    };
    row.e = row.x + n_values;
    row.near = row.e + n_values;
    row.ids = (uint32_t *)(row.near + n_values);
    for (;;) {
        uint32_t r = team_counter_take(worker->counter, 1);
        if (r >= run->args.n_rows)
            return;
        int status = sample_row(&run->args, r, &row);
        if (status < 0)
            cpu_worker_fail(worker, status);
    }
}

static const struct cpu_sample_ops *sample_ops_of(enum isa isa)
{
    if (isa == ISA_AVX512)
        return CPU_X86(&cpu_sample_avx512);
    if (isa == ISA_AVX2)
        return CPU_X86(&cpu_sample_avx2);
    return &cpu_sample_scalar;
}

void cpu_sample(struct stream *stream, const struct sample_args *args)
{
    assert(args->vocabulary > 0 && args->vocabulary <= MODEL_VOCABULARY_MAX);
    assert(args->n_rows == 0 ||
           (args->logits != NULL && args->params != NULL && args->results != NULL));
    assert(args->n_masks == 0 || args->masks != NULL);
    assert(args->n_biases == 0 || args->biases != NULL);
    assert(args->workspace != NULL && (uintptr_t)args->workspace % 64 == 0);
    struct sample_run run = {*args, sample_ops_of(stream_isa(stream))};
    cpu_stream_push(stream, "sample", run_sample, &run, sizeof run, true);
}
