/* The definition of every product of a tile with rows; the other instruction sets equal it to the
 * bit. */
#include "kernels/cpu/cpu_tile.h"
#include "kernels/cpu/cpu_math.h"
#include "kernels/cpu/cpu_panel_forms.h"

#include <assert.h>

/* acc = fma(f32(s), d_w * d_x, acc), then fma(m_w, d_x * sum(x), acc) for types with a minimum; s
 * exact. */
static void multiply_block(uint32_t type, const struct cpu_tile_values *weight,
                           const struct cpu_panel_block *x, float *acc)
{
    int32_t s = 0;
    for (int k = 0; k < BLOCK_VALUES; k++) {
        int32_t v = x->lo != NULL ? x->hi[k] * 256 + x->lo[k] : x->hi[k];
        s += weight->w[k] * v;
    }
    *acc = fmaf((float)s, weight->d * *x->da, *acc);
    if (type == TENSOR_Q4_1)
        *acc = fmaf(weight->m, *x->sa, *acc);
}

static void multiply_blocks(const struct cpu_tile_span *span, uint32_t type,
                            enum activations activations)
{
    uint8_t *group = (uint8_t *)(uintptr_t)span->rows;
    for (uint32_t b = span->begin; b < span->end; b++) {
        for (uint32_t o = 0; o < TILE_ROWS; o++) {
            struct cpu_tile_values weight;
            cpu_tile_read(type, span->n_in, span->tile, o, b, &weight);
            for (uint32_t row = 0; row < span->m; row++) {
                struct cpu_panel_block x = cpu_panel_block(group, activations, span->m, row, b);
                multiply_block(type, &weight, &x, &span->acc[row * TILE_ROWS + o]);
            }
        }
    }
}

/* acc = fma(w, x, acc), k ascending; w as tensor_type_row_to_f32 gives it. */
static void multiply_floats(const struct cpu_tile_span *span, uint32_t type)
{
    for (uint32_t b = span->begin; b < span->end; b++) {
        uint32_t first = b * BLOCK_VALUES, left = span->n_in - first;
        uint32_t n = left < BLOCK_VALUES ? left : BLOCK_VALUES;
        for (uint32_t o = 0; o < TILE_ROWS; o++) {
            float weight[BLOCK_VALUES];
            cpu_tile_block_to_f32(type, span->n_in, span->tile, o, b, weight);
            for (uint32_t row = 0; row < span->m; row++) {
                const float *x = (const float *)span->rows + (size_t)row * span->n_in + first;
                float *acc = &span->acc[row * TILE_ROWS + o];
                for (uint32_t k = 0; k < n; k++)
                    *acc = fmaf(weight[k], x[k], *acc);
            }
        }
    }
}

#define BLOCKS_KERNELS(name, type)                                                                 \
    static void name##_16(const struct cpu_tile_span *span)                                        \
    {                                                                                              \
        multiply_blocks(span, type, ACTIVATIONS_16);                                               \
    }                                                                                              \
    static void name##_int8(const struct cpu_tile_span *span)                                      \
    {                                                                                              \
        multiply_blocks(span, type, ACTIVATIONS_INT8);                                             \
    }
#define FLOATS_KERNEL(name, type)                                                                  \
    static void name##_floats(const struct cpu_tile_span *span)                                    \
    {                                                                                              \
        multiply_floats(span, type);                                                               \
    }

BLOCKS_KERNELS(q4_0, TENSOR_Q4_0)
BLOCKS_KERNELS(q4_1, TENSOR_Q4_1)
BLOCKS_KERNELS(q8_0, TENSOR_Q8_0)
FLOATS_KERNEL(q4_0, TENSOR_Q4_0)
FLOATS_KERNEL(q4_1, TENSOR_Q4_1)
FLOATS_KERNEL(q8_0, TENSOR_Q8_0)
FLOATS_KERNEL(f32, TENSOR_F32)
FLOATS_KERNEL(f16, TENSOR_F16)

static cpu_tile_multiply *const scalar_kernels[TILE_SLOTS][3] = {
    {f32_floats, f32_floats, f32_floats},
    {f16_floats, f16_floats, f16_floats},
    {[ACTIVATIONS_16] = q4_0_16, [ACTIVATIONS_INT8] = q4_0_int8, [ACTIVATIONS_F32] = q4_0_floats},
    {[ACTIVATIONS_16] = q4_1_16, [ACTIVATIONS_INT8] = q4_1_int8, [ACTIVATIONS_F32] = q4_1_floats},
    {[ACTIVATIONS_16] = q8_0_16, [ACTIVATIONS_INT8] = q8_0_int8, [ACTIVATIONS_F32] = q8_0_floats},
};

static void glu_scalar(const float *gate, const float *up, float *out)
{
    for (int i = 0; i < TILE_ROWS; i++)
        out[i] = cpu_silu(gate[i]) * up[i];
}

cpu_tile_multiply *cpu_tile_kernel(enum isa isa, uint32_t type, enum activations activations,
                                   uint32_t m)
{
    assert(m >= 1 && m <= PANEL_ROWS && tensor_type_info(type)->is_read);
    int slot = cpu_tile_slot(type);
    switch (isa) {
    case ISA_AVX512:
        return cpu_linear_avx512[slot][activations][m - 1];
    case ISA_AVX2:
        return cpu_linear_avx2[slot][activations][m - 1];
    default:
        return scalar_kernels[slot][activations];
    }
}

cpu_tile_glu *cpu_tile_glu_kernel(enum isa isa)
{
    switch (isa) {
    case ISA_AVX512:
        return cpu_glu_avx512;
    case ISA_AVX2:
        return cpu_glu_avx2;
    default:
        return glu_scalar;
    }
}
