#include "kernels/cpu/cpu_route.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/status.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/cpu_route_body.h"
#include "kernels/cpu/cpu_x86.h"
#include "kernels/route_rule.h"

#define WEIGHT_SUM_MIN 0x1p-14f

struct route_run {
    struct route_args args;
    cpu_route_scores *scores;
};

struct route_row { /* in a worker's scratch */
    float scores[MODEL_EXPERTS_MAX];
    float choice[MODEL_EXPERTS_MAX];
    bool is_out[MODEL_EXPERTS_MAX]; /* taken, or of a group that is not kept */
    float groups[MODEL_EXPERTS_MAX];
    bool is_kept[MODEL_EXPERTS_MAX]; /* of groups */
};
_Static_assert(sizeof(struct route_row) <= CPU_SCRATCH_BYTES, "a row fits in the scratch");

static void softmax_scalar(const float *logits, uint32_t n, float *scores)
{
    float lanes[16] = {0}, max = route_max(logits, 0, n, -INFINITY);
    for (uint32_t i = 0; i < n; i++) {
        scores[i] = route_exp(logits[i], max);
        lanes[i % 16] += scores[i];
    }
    float sum = cpu_fold16(lanes);
    for (uint32_t i = 0; i < n; i++)
        scores[i] /= sum;
}

static void sigmoid_scalar(const float *logits, uint32_t n, float *scores)
{
    for (uint32_t i = 0; i < n; i++)
        scores[i] = route_sigmoid(logits[i]);
}

const struct cpu_route_forms cpu_route_scalar = {softmax_scalar, sigmoid_scalar};

/* The first of the greatest values that are not out; one is in. */
static uint32_t best_of(const float *values, const bool *is_out, uint32_t n)
{
    uint32_t best = n;
    for (uint32_t i = 0; i < n; i++)
        if (!is_out[i] && (best == n || values[i] > values[best]))
            best = i;
    assert(best < n);
    return best;
}

/* The greatest value of a group, and the second where two count. */
static float group_value(const float *choice, uint32_t n, uint32_t n_best)
{
    float first = choice[0], second = -INFINITY;
    for (uint32_t i = 1; i < n; i++) {
        float lower = choice[i] > first ? first : choice[i];
        first = choice[i] > first ? choice[i] : first;
        second = lower > second ? lower : second;
    }
    return n_best == 2 && n > 1 ? first + second : first;
}

/* Experts of groups that are not among the best are out. */
static void keep_groups(const struct route_rule *rule, struct route_row *row)
{
    uint32_t size = rule->n_experts / rule->n_groups;
    for (uint32_t g = 0; g < rule->n_groups; g++)
        row->groups[g] = group_value(row->choice + g * size, size, rule->group_best);
    memset(row->is_kept, 0, sizeof row->is_kept);
    for (uint32_t i = 0; i < rule->n_groups_used; i++)
        row->is_kept[best_of(row->groups, row->is_kept, rule->n_groups)] = true;
    for (uint32_t e = 0; e < rule->n_experts; e++)
        row->is_out[e] = !row->is_kept[e / size];
}

static bool is_any_nan(const float *values, uint32_t n)
{
    bool is_any = false;
    for (uint32_t i = 0; i < n; i++)
        is_any = is_any || values[i] != values[i];
    return is_any;
}

static void weigh(const struct route_rule *rule, float *weights)
{
    float sum = 0, scale = rule->scale;
    for (uint32_t i = 0; i < rule->n_used; i++)
        sum += weights[i];
    sum = sum > WEIGHT_SUM_MIN ? sum : WEIGHT_SUM_MIN;
    for (uint32_t i = 0; i < rule->n_used; i++)
        weights[i] = (rule->normalise ? weights[i] / sum : weights[i]) * scale;
}

static int route_one(const struct route_run *run, uint32_t r, struct route_row *row)
{
    const struct route_args *args = &run->args;
    const struct route_rule *rule = &args->rule;
    const float *logits = args->logits + (size_t)r * rule->n_experts;
    uint32_t *experts = args->experts + (size_t)r * rule->n_used;
    float *weights = args->weights + (size_t)r * rule->n_used;

    run->scores(logits, rule->n_experts, row->scores);
    for (uint32_t e = 0; e < rule->n_experts; e++) {
        float score = rule->chooses_by_logit ? logits[e] : row->scores[e];
        row->choice[e] = args->bias != NULL ? score + args->bias[e] : score;
    }
    if (is_any_nan(row->choice, rule->n_experts)) {
        for (uint32_t i = 0; i < rule->n_used; i++) {
            experts[i] = i;
            weights[i] = 0;
        }
        return STATUS_INTERNAL;
    }
    keep_groups(rule, row);
    for (uint32_t i = 0; i < rule->n_used; i++) {
        experts[i] = best_of(row->choice, row->is_out, rule->n_experts);
        row->is_out[experts[i]] = true;
        weights[i] = row->scores[experts[i]];
    }
    weigh(rule, weights);
    return STATUS_OK;
}

static void run_route(const struct cpu_worker *worker, const void *entry)
{
    const struct route_run *run = entry;
    for (uint32_t r = (uint32_t)worker->idx; r < run->args.n_rows;
         r += (uint32_t)worker->n_workers) {
        int status = route_one(run, r, worker->scratch);
        if (status < 0)
            cpu_worker_fail(worker, status);
    }
}

static const struct cpu_route_forms *forms_of(enum isa isa)
{
    if (isa == ISA_AVX512)
        return CPU_X86(&cpu_route_avx512);
    return isa == ISA_AVX2 ? CPU_X86(&cpu_route_avx2) : &cpu_route_scalar;
}

void cpu_route(struct stream *stream, const struct route_args *args)
{
    const struct route_rule *rule = &args->rule;
    const struct cpu_route_forms *forms = forms_of(stream_isa(stream));
    assert(route_rule_is_sound(rule));
    assert(args->n_rows == 0 ||
           (args->logits != NULL && args->experts != NULL && args->weights != NULL));
    struct route_run run = {
        .args = *args,
        .scores = rule->score == ROUTE_SOFTMAX ? forms->softmax : forms->sigmoid,
    };
    cpu_stream_push(stream, "route", run_route, &run, sizeof run, true);
}
