/* kernels/cpu/cpu_page_seal_body.h: what the instruction sets share of cpu_page_seal.h, compiled
 * once in each (static). `range` and `encode` take n values, a multiple of CPU_PAGE_BLOCK.
 */
#ifndef QUIRE_KERNELS_CPU_PAGE_SEAL_BODY_H
#define QUIRE_KERNELS_CPU_PAGE_SEAL_BODY_H

#include "kernels/cpu/cpu_page.h"
#include "kernels/cpu/cpu_page_seal.h"

#include <math.h>
#include <string.h>

typedef void seal_range(const uint16_t *halves, uint32_t n, float *min, float *max);
/* code = round to even((x - least) / step), from 0 to top; NaN is 0 */
typedef void seal_encode(const uint16_t *halves, uint32_t n, float least, float step, float top,
                         uint8_t *codes);

static inline void seal_row(seal_range *range, seal_encode *encode, const uint16_t *halves,
                            uint32_t n, enum kv_dtype dtype, uint8_t *codes, float *least,
                            float *step)
{
    uint16_t padded[MODEL_HEAD_DIM_MAX];
    uint8_t wide[MODEL_HEAD_DIM_MAX] = {0};
    uint32_t whole = (n + CPU_PAGE_BLOCK - 1) / CPU_PAGE_BLOCK * CPU_PAGE_BLOCK;
    float top = dtype == KV_Q4 ? 15.0f : 255.0f, min, max;

    if (n < whole) { /* with one that is there: it changes no range */
        memcpy(padded, halves, n * sizeof *halves);
        for (uint32_t i = n; i < whole; i++)
            padded[i] = halves[0];
        halves = padded;
    }
    range(halves, whole, &min, &max);
    *least = min + 0.0f;
    *step = (max + 0.0f - *least) / top;
    if (*step != 0)
        encode(halves, whole, *least, *step, top, wide);
    if (dtype == KV_Q8) {
        memcpy(codes, wide, n);
        return;
    }
    memset(wide + n, 0, whole - n);
    for (uint32_t b = 0; b < whole; b += CPU_PAGE_BLOCK)
        for (uint32_t i = 0; i < CPU_PAGE_BLOCK / 2; i++)
            codes[b / 2 + i] = (uint8_t)(wide[b + i] | wide[b + CPU_PAGE_BLOCK / 2 + i] << 4);
}

#endif
