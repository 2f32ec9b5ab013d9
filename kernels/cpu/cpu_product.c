/* The definition of every product of a tile with rows. */
#include "kernels/cpu/cpu_product.h"
#include "kernels/cpu/cpu_math.h"
#include "kernels/cpu/cpu_panel_forms.h"
#include "kernels/cpu/cpu_x86.h"

#include <assert.h>

/* The exact sum over values [begin, end) of a block. */
static int32_t dot(const int16_t *w, const struct cpu_panel_block *x, int begin, int end)
{
    int32_t s = 0;
    for (int k = begin; k < end; k++)
        s += w[k] * cpu_panel_value(x, k);
    return s;
}

static void multiply_block(enum cpu_form form, const struct tensor_values *weight,
                           const struct cpu_panel_block *x, float *acc)
{
    float da = *x->da;
    int32_t first = -(*x->nh >> 7), sum = -(*x->nb >> 7); /* exact: multiples of 128 */
    *acc = fmaf((float)dot(weight->w, x, 0, BLOCK_VALUES), weight->d[0] * da, *acc);
    if (form == FORM_ONE_MINIMUM)
        *acc = fmaf(weight->m[0], *x->sa, *acc);
    if (form == FORM_ONE_TWO_MINIMA) {
        *acc = fmaf(weight->m[0], da * (float)first, *acc);
        *acc = fmaf(weight->m[1], da * (float)(sum - first), *acc);
    }
}

/* Output o of GROUP_BLOCKS blocks with all rows. */
static void multiply_group(const struct cpu_span *span, uint32_t first_block, uint32_t o)
{
    uint8_t *group = (uint8_t *)(uintptr_t)span->rows;
    float t[PANEL_ROWS] = {0};
    struct tensor_block weight;
    for (uint32_t b = first_block; b < first_block + GROUP_BLOCKS; b++) {
        struct tensor_values values;
        cpu_tile_read_block(span->type, span->n_in, span->tile, o, b, &weight);
        tensor_block_values(span->type, &weight, &values);
        for (uint32_t row = 0; row < span->m; row++) {
            struct cpu_panel_block x = cpu_panel_block(group, span->activations, span->m, row, b);
            int32_t s = (int8_t)weight.scale[0] * dot(values.w, &x, 0, 16) +
                        (int8_t)weight.scale[1] * dot(values.w, &x, 16, BLOCK_VALUES);
            t[row] = fmaf((float)s, *x.da, t[row]);
        }
    }
    for (uint32_t row = 0; row < span->m; row++) {
        float *acc = &span->acc[row * TILE_ROWS + o];
        *acc = fmaf(t[row], f16_to_f32(weight.d), *acc);
    }
}

static void multiply_groups(const struct cpu_span *span)
{
    assert(span->begin % GROUP_BLOCKS == 0 && span->end % GROUP_BLOCKS == 0);
    for (uint32_t b = span->begin; b < span->end; b += GROUP_BLOCKS)
        for (uint32_t o = 0; o < TILE_ROWS; o++)
            multiply_group(span, b, o);
}

static void multiply_blocks(const struct cpu_span *span)
{
    uint8_t *group = (uint8_t *)(uintptr_t)span->rows;
    enum cpu_form form = cpu_form_of(span->type);
    for (uint32_t b = span->begin; b < span->end; b++) {
        for (uint32_t o = 0; o < TILE_ROWS; o++) {
            struct tensor_values weight;
            cpu_tile_read(span->type, span->n_in, span->tile, o, b, &weight);
            for (uint32_t row = 0; row < span->m; row++) {
                struct cpu_panel_block x =
                    cpu_panel_block(group, span->activations, span->m, row, b);
                multiply_block(form, &weight, &x, &span->acc[row * TILE_ROWS + o]);
            }
        }
    }
}

/* w as tensor_type_row_to_f32 gives it. */
static void multiply_floats(const struct cpu_span *span)
{
    for (uint32_t b = span->begin; b < span->end; b++) {
        uint32_t first = b * BLOCK_VALUES, left = span->n_in - first;
        uint32_t n = left < BLOCK_VALUES ? left : BLOCK_VALUES;
        for (uint32_t o = 0; o < TILE_ROWS; o++) {
            float weight[BLOCK_VALUES];
            cpu_tile_block_to_f32(span->type, span->n_in, span->tile, o, b, weight);
            for (uint32_t row = 0; row < span->m; row++) {
                const float *x = (const float *)span->rows + (size_t)row * span->row_floats + first;
                float *acc = &span->acc[row * TILE_ROWS + o];
                for (uint32_t k = 0; k < n; k++)
                    *acc = fmaf(weight[k], x[k], *acc);
            }
        }
    }
}

void cpu_multiply_scalar(const struct cpu_span *span)
{
    if (cpu_tile_wants_floats(span->type, span->activations))
        multiply_floats(span);
    else if (cpu_form_of(span->type) == FORM_TWO)
        multiply_groups(span);
    else
        multiply_blocks(span);
}

const struct cpu_products *cpu_products(enum isa isa)
{
    switch (isa) {
    case ISA_AVX512:
        return CPU_X86(&cpu_products_avx512);
    case ISA_AVX2:
        return CPU_X86(&cpu_products_avx2);
    default:
        return NULL;
    }
}

static void glu_scalar(const float *gate, const float *up, float *out)
{
    for (int i = 0; i < TILE_ROWS; i++)
        out[i] = cpu_silu(gate[i]) * up[i];
}

cpu_tile_glu *cpu_tile_glu_kernel(enum isa isa)
{
    switch (isa) {
    case ISA_AVX512:
        return CPU_X86(cpu_glu_avx512);
    case ISA_AVX2:
        return CPU_X86(cpu_glu_avx2);
    default:
        return glu_scalar;
    }
}
