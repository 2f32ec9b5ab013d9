/* kernels/cpu/cpu_page_seal.h: one run of f16 values made codes, by instruction set; the same bytes
 * from each.
 *
 * Least and greatest value are those of the values that are numbers, zeros positive; both infinite
 * where none is. A NaN has code 0.
 */
#ifndef QUIRE_KERNELS_CPU_PAGE_SEAL_H
#define QUIRE_KERNELS_CPU_PAGE_SEAL_H

#include "kernels/ops.h"

/* n values, at most MODEL_HEAD_DIM_MAX, to a row of cpu_page.h. */
typedef void cpu_seal_row(const uint16_t *halves, uint32_t n, enum kv_dtype dtype, uint8_t *codes,
                          float *least, float *step);

cpu_seal_row cpu_seal_row_scalar, cpu_seal_row_avx2, cpu_seal_row_avx512;

#endif
