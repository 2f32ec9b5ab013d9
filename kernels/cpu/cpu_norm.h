/* kernels/cpu/cpu_norm.h: one row of RMS norm, by instruction set.
 *
 * Sum of squares: 16 lanes, lane i % 16 takes x[i] by fma, i ascending; cpu_fold16. Then scale = 1
 * / sqrt(sum / width + eps) and out[i] = (x[i] * scale) * weight[i]; without weights (NULL) x[i] *
 * scale. `out` may be x.
 */
#ifndef QUIRE_KERNELS_CPU_NORM_H
#define QUIRE_KERNELS_CPU_NORM_H

#include <stdint.h>

typedef void cpu_norm_row(const float *x, const float *weight, float eps, uint32_t width,
                          float *out);

cpu_norm_row cpu_norm_row_scalar, cpu_norm_row_avx2, cpu_norm_row_avx512;

#endif
