/* kernels/cpu/cpu_panel_forms.h: what the forms of the quantizer share: where the parts of a block
 * stand, and its scales.
 *
 * Quantizer (cpu_kernels.md 14): limit L = 32512 (16-bit) or 127 (int8), d = amax * (1 / L), v =
 * round_even(x * (L / amax)). Where the magnitudes of 16-bit v sum to more than 16 L, half of L
 * takes its place: so 32 products with weights of up to 4096 (a code of Q6_K times its scale) never
 * leave 32 bits, 4096 (16 L + 16) < 2^31. A block of zeros, or so small that L / amax overflows,
 * has v = 0 and d = 0. A block that holds a NaN or an Inf has v = 0 and d = sa = NaN: the outputs
 * that read it become NaN, nothing else does.
 *
 * Inline functions are static: each instruction set compiles its own copy.
 */
#ifndef QUIRE_KERNELS_CPU_PANEL_FORMS_H
#define QUIRE_KERNELS_CPU_PANEL_FORMS_H

#include "kernels/cpu/cpu_panel.h"

#include <math.h>

#define PANEL_LIMIT_16 32512.0f
#define PANEL_SUM_16 (16 * 32512) /* of the magnitudes of a block; more halves the limit */
#define PANEL_LIMIT_INT8 127.0f
#define PANEL_SMALLEST 1e-34f /* 32512 / 1e-34 is still a finite f32 */

struct cpu_panel_block { /* one row of one block; NULL is what the panel does not have */
    int16_t *v;          /* [32] 16-bit values */
    int8_t *hi, *lo;     /* [32] their bytes; of int8 activations hi, the values */
    float *da, *sa;
    int32_t *nb, *nh;
};

typedef void cpu_panel_quantize(const float *x /* [32] */, const struct cpu_panel_block *to);

size_t cpu_panel_row_bytes(enum activations activations); /* of one row and block */
struct cpu_panel_block cpu_panel_block(uint8_t *group, enum activations activations, uint32_t m,
                                       uint32_t row, uint32_t block_idx);
static inline bool cpu_panel_block_is_16(const struct cpu_panel_block *block)
{
    return block->v != NULL || block->lo != NULL;
}

static inline int32_t cpu_panel_value(const struct cpu_panel_block *block, int k)
{
    if (block->v != NULL)
        return block->v[k];
    return block->lo != NULL ? block->hi[k] * 256 + block->lo[k] : block->hi[k];
}

static inline void cpu_panel_set(const struct cpu_panel_block *block, int k, int32_t value)
{
    if (block->v != NULL) {
        block->v[k] = (int16_t)value;
    } else if (block->lo != NULL) {
        block->hi[k] = (int8_t)((value + 128) >> 8);
        block->lo[k] = (int8_t)(uint8_t)value;
    } else {
        block->hi[k] = (int8_t)value;
    }
}

/* The body of every `write`: floats, padding, and quantize() block by block. */
void cpu_panel_write(const struct act *act, enum activations activations, uint32_t row,
                     uint32_t n_rows, uint32_t first, uint32_t n, const float *values,
                     cpu_panel_quantize *quantize);

/* L / amax, or 0 for a block whose values are all written as 0. */
static inline float cpu_panel_scale(uint32_t amax_bits, float amax, float limit)
{
    return amax_bits < 0x7f800000 && amax >= PANEL_SMALLEST ? limit / amax : 0.0f;
}

static inline void cpu_panel_finish(const struct cpu_panel_block *to, uint32_t amax_bits,
                                    float amax, float limit, int32_t sum, int32_t first)
{
    float d = 0.0f;
    if (amax_bits >= 0x7f800000)
        d = NAN;
    else if (amax >= PANEL_SMALLEST)
        d = amax * (1.0f / limit);
    *to->da = d;
    *to->sa = d * (float)sum;
    *to->nb = -128 * sum;
    *to->nh = -128 * first;
}

void cpu_panel_write_avx2(const struct act *act, enum activations activations, uint32_t row,
                          uint32_t n_rows, uint32_t first, uint32_t n, const float *values);
void cpu_panel_write_avx512(const struct act *act, enum activations activations, uint32_t row,
                            uint32_t n_rows, uint32_t first, uint32_t n, const float *values);

#endif
