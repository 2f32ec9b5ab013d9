/* kernels/q_temperature.h: what queries of a position are multiplied by, on every backend: q_scale,
 * grown with the position (ops.h). In double, rounded once.
 */
#ifndef QUIRE_KERNELS_Q_TEMPERATURE_H
#define QUIRE_KERNELS_Q_TEMPERATURE_H

#include "kernels/exact_math.h"
#include "kernels/ops.h"

HOST_DEVICE float q_temperature_factor(float q_scale, const struct q_temperature *temperature,
                                       uint32_t position)
{
    if (temperature->scale == 0)
        return q_scale;
    uint32_t n = (position + temperature->offset) / temperature->length;
    double grown = fma((double)temperature->scale, exact_math_ln(1.0 + (double)n), 1.0);
    return (float)((double)q_scale * grown);
}

#endif
