#include "kernels/cpu/cpu_math.h"

#include "kernels/cpu/cpu_sincos.h"

void cpu_sincos(double angle, double *sine, double *cosine)
{
    cpu_sincos_body(angle, sine, cosine);
}
