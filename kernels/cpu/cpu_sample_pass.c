/* The passes as defined: see cpu_sample.h. */
#include "kernels/cpu/cpu_sample.h"

#include "kernels/cpu/cpu_math.h"

static float scalar_max(const float *x, uint32_t n)
{
    float max = -INFINITY;
    for (uint32_t i = 0; i < n; i++) {
        if (x[i] != x[i])
            return NAN;
        max = x[i] > max ? x[i] : max;
    }
    return max;
}

static void scalar_repeat(float *x, const uint32_t *counts, float r, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        if (counts[i] != 0)
            x[i] = x[i] > 0 ? x[i] / r : x[i] * r;
}

static void scalar_weigh(float *x, float max, float temperature, uint32_t n, float *e)
{
    for (uint32_t i = 0; i < n; i++) {
        x[i] = (x[i] - max) / temperature + 0.0f;
        e[i] = cpu_exp2(x[i] * LOG2_E);
    }
}

static uint64_t scalar_mass(const float *e, uint32_t n)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < n; i++)
        sum += cpu_sample_mass(e[i]);
    return sum;
}

static uint32_t scalar_collect(const float *x, uint32_t n, float threshold, uint32_t *ids)
{
    uint32_t n_ids = 0;
    for (uint32_t i = 0; i < n; i++)
        if (x[i] >= threshold)
            ids[n_ids++] = i;
    return n_ids;
}

static double scalar_exp_sum(const float *x, float max, uint32_t n)
{
    double lanes[16] = {0};
    for (uint32_t i = 0; i < n; i++)
        lanes[i % 16] += (double)cpu_exp2((x[i] - max) * LOG2_E);
    return cpu_fold16_double(lanes);
}

const struct cpu_sample_ops cpu_sample_scalar = {scalar_max,  scalar_repeat,  scalar_weigh,
                                                 scalar_mass, scalar_collect, scalar_exp_sum};
