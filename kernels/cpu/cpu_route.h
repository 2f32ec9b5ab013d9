/* kernels/cpu/cpu_route.h: the scores of one row of a router, by instruction set.
 *
 * SOFTMAX: e[i] = exp2((z[i] - max) * log2 e), 16 lanes of sums (lane i % 16, i ascending),
 * cpu_fold16, scores[i] = e[i] / sum. SIGMOID: scores[i] = 1 / (1 + exp2(-z[i] * log2 e)).
 */
#ifndef QUIRE_KERNELS_CPU_ROUTE_H
#define QUIRE_KERNELS_CPU_ROUTE_H

#include <stdint.h>

typedef void cpu_route_scores(const float *logits, uint32_t n, float *scores);

struct cpu_route_forms {
    cpu_route_scores *softmax, *sigmoid;
};
extern const struct cpu_route_forms cpu_route_scalar, cpu_route_avx2, cpu_route_avx512;

#endif
