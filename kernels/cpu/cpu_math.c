#include "kernels/cpu/cpu_math.h"

#include "kernels/cpu/cpu_sincos.h"

#define LN_2 0x1.62e42fefa39efp-1

void cpu_sincos(double angle, double *sine, double *cosine)
{
    cpu_sincos_body(angle, sine, cosine);
}

/* x = m * 2^e with m in [sqrt(1/2), sqrt(2)); ln m = 2 atanh(s), s = (m - 1) / (m + 1), |s| <
 * 0.172, terms to s^23 */
double cpu_ln(double x)
{
    int e;
    double m = frexp(x, &e);
    if (m < 0x1.6a09e667f3bcdp-1) {
        m *= 2;
        e--;
    }
    double s = (m - 1.0) / (m + 1.0);
    double z = s * s;
    double sum = 1.0 / 23;
    for (int k = 21; k >= 1; k -= 2)
        sum = fma(sum, z, 1.0 / k);
    return fma((double)e, LN_2, 2.0 * s * sum);
}
