/* kernels/cpu/cpu_product.h: the inner kernels that multiply a tile with rows.
 *
 * A kernel continues the chains of m rows over blocks [begin, end): what stands in acc before and
 * after are the same floats whether k was cut or not, so chunks, panel groups and workers never
 * show in a result. The scalar form (cpu_product.c) is the definition; AVX2 and AVX-512 equal it
 * to the bit.
 *
 * One row multiplies the tile as it stands, because decode is bound by its bytes. More rows first
 * unpack a piece of it into wide blocks, which every type has alike and which stay in cache for
 * group after group of rows: so there is one loader a type and one kernel a form, not one a pair.
 *
 *   form             chain of a block
 *   ONE              acc = fma(f32(s), d * da, acc)
 *   ONE_MINIMUM      the same, then acc = fma(m, sa, acc)
 *   TWO              of a group of 8 blocks: t = fma(f32(S), da, t) block by block from 0 on, S the
 *                    exact sum of code * scale * x; then acc = fma(t, d, acc)
 *   ONE_TWO_MINIMA   as ONE, then fma(m_h, da * f32(sum_h), acc) for both halves h
 *   FLOATS           acc = fma(w, x, acc), k ascending
 */
#ifndef QUIRE_KERNELS_CPU_PRODUCT_H
#define QUIRE_KERNELS_CPU_PRODUCT_H

#include "kernels/cpu/cpu_tile.h"

enum cpu_form { FORM_ONE, FORM_ONE_MINIMUM, FORM_TWO, FORM_ONE_TWO_MINIMA, FORM_FLOATS, N_FORMS };

/* Of a type of integers. */
static inline __attribute__((always_inline)) enum cpu_form cpu_form_of(const uint32_t type)
{
    switch (type) {
    case TENSOR_Q4_1:
    case TENSOR_Q5_1:
    case TENSOR_Q4_K:
    case TENSOR_Q5_K:
        return FORM_ONE_MINIMUM;
    case TENSOR_Q6_K:
        return FORM_TWO;
    case TENSOR_Q2_K:
        return FORM_ONE_TWO_MINIMA;
    default:
        return FORM_ONE;
    }
}

#define GROUP_BLOCKS 8 /* of TWO: the 256 values of a K type */

struct cpu_span {
    uint32_t type;         /* enum tensor_type */
    enum activations activations;
    const uint8_t *tile;
    uint8_t *wide;         /* the blocks unpacked, 64-byte aligned; kernels of more than one row */
    uint32_t n_in;
    uint32_t row_floats;   /* from one f32 row to the next */
    uint32_t m;            /* rows, 1..12 */
    uint32_t begin, end;   /* blocks of 32 values, whole groups of TWO; the last one of a float
                              weight may be partial */
    const void *rows;      /* the panel group of the m rows; or their f32 rows [m, row_floats] */
    size_t prefetch_bytes; /* how far ahead of the weights to prefetch; 0: they are in cache */
    float *acc;            /* [m, 16], 64-byte aligned */
};

typedef void cpu_multiply(const struct cpu_span *span);

struct cpu_products { /* of one instruction set */
    cpu_multiply *const (*one)[3];    /* [TENSOR_TYPES]: m = 1, by activations */
    cpu_multiply *const (*unpack)[3]; /* [TENSOR_TYPES]: to span->wide, by activations */
    cpu_multiply *const *wide[N_FORMS][3]; /* [PANEL_ROWS]: by activations, then m - 1 from 1 on */
    uint32_t wide_bytes[N_FORMS][3];       /* of a block */
};
extern const struct cpu_products cpu_products_avx2, cpu_products_avx512;
/* NULL: multiply by cpu_multiply_scalar, any m, from the tile. */
const struct cpu_products *cpu_products(enum isa isa);
void cpu_multiply_scalar(const struct cpu_span *span);

/* out[i] = silu(gate[i]) * up[i], 16 values. */
typedef void cpu_tile_glu(const float *gate, const float *up, float *out);
cpu_tile_glu *cpu_tile_glu_kernel(enum isa isa);
cpu_tile_glu cpu_glu_avx2, cpu_glu_avx512;

#endif
