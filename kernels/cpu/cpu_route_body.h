/* kernels/cpu/cpu_route_body.h: one value of a router's scores, for the scalar form and for the
 * ends of rows in the others. Inline functions are static: each instruction set compiles its own
 * copy. */
#ifndef QUIRE_KERNELS_CPU_ROUTE_BODY_H
#define QUIRE_KERNELS_CPU_ROUTE_BODY_H

#include "kernels/cpu/cpu_math.h"

/* Of numbers alone; all NaN gives minus infinity. */
static inline float route_max(const float *logits, uint32_t begin, uint32_t n, float max)
{
    for (uint32_t i = begin; i < n; i++)
        max = logits[i] > max ? logits[i] : max;
    return max;
}

static inline float route_exp(float logit, float max)
{
    return cpu_exp2((logit - max) * LOG2_E);
}

static inline float route_sigmoid(float logit)
{
    return 1.0f / (1.0f + cpu_exp2(-logit * LOG2_E));
}

#endif
