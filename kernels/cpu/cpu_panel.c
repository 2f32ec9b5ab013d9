#include "kernels/cpu/cpu_panel.h"
#include "kernels/cpu/cpu_panel_forms.h"
#include "kernels/cpu/cpu_x86.h"

#include <assert.h>
#include <math.h>
#include <string.h>

static size_t round_up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

static size_t n_blocks_of(uint32_t width)
{
    return ((size_t)width + BLOCK_VALUES - 1) / BLOCK_VALUES;
}

size_t cpu_panel_row_bytes(enum activations activations)
{
    switch (activations) {
    case ACTIVATIONS_16:
        return PANEL_BYTES_16;
    case ACTIVATIONS_INT8:
        return PANEL_BYTES_INT8;
    case ACTIVATIONS_F32:
        return 0; /* blocks are never multiplied: only floats are kept */
    }
    return 0;
}

static size_t blocks_bytes(enum activations activations, uint32_t max_rows, uint32_t width,
                           uint32_t forms)
{
    if (!(forms & ACT_BLOCKS))
        return 0;
    return round_up(n_blocks_of(width) * max_rows * cpu_panel_row_bytes(activations), 64);
}

size_t cpu_act_bytes(const struct device *device, uint32_t max_rows, uint32_t width, uint32_t forms)
{
    size_t bytes = blocks_bytes(device_cpu(device)->activations, max_rows, width, forms);
    if (forms & (ACT_FLOATS | ACT_QUERY))
        bytes += round_up((size_t)max_rows * width * sizeof(float), 64);
    return bytes;
}

float *cpu_act_floats(const struct act *act, enum activations activations)
{
    assert(act->forms & (ACT_FLOATS | ACT_QUERY));
    uint8_t *base = act->base;
    return (float *)(base + blocks_bytes(activations, act->max_rows, act->width, act->forms));
}

uint8_t *cpu_act_group(const struct act *act, enum activations activations, uint32_t group_idx,
                       uint32_t n_rows)
{
    assert(act->forms & ACT_BLOCKS && n_rows <= act->max_rows);
    assert((size_t)group_idx * PANEL_ROWS < n_rows);
    (void)n_rows; /* full groups stand before this one whatever n_rows is */
    size_t row_bytes = n_blocks_of(act->width) * cpu_panel_row_bytes(activations);
    return (uint8_t *)act->base + (size_t)group_idx * PANEL_ROWS * row_bytes;
}

struct cpu_panel_block cpu_panel_block(uint8_t *group, enum activations activations, uint32_t m,
                                       uint32_t row, uint32_t block_idx)
{
    uint8_t *block = group + (size_t)block_idx * m * cpu_panel_row_bytes(activations);
    bool is_16 = activations == ACTIVATIONS_16, is_alone = m == 1;
    uint8_t *scales = block + (is_16 ? 2 : 1) * m * BLOCK_VALUES;
    return (struct cpu_panel_block){
        .v = is_16 && !is_alone ? (int16_t *)block + (size_t)row * BLOCK_VALUES : NULL,
        .hi = is_16 && !is_alone ? NULL : (int8_t *)block + (size_t)row * BLOCK_VALUES,
        .lo = is_16 && is_alone ? (int8_t *)block + BLOCK_VALUES : NULL,
        .da = (float *)scales + row,
        .sa = (float *)scales + m + row,
        .nb = (int32_t *)scales + 2 * (size_t)m + row,
        .nh = (int32_t *)scales + 3 * (size_t)m + row,
    };
}

/* A row within its group of a panel of n_rows rows. */
struct group_row {
    uint8_t *group;
    uint32_t m, row;
};

static struct group_row group_row_of(const struct act *act, enum activations activations,
                                     uint32_t row, uint32_t n_rows)
{
    uint32_t group_idx = row / PANEL_ROWS, left = n_rows - group_idx * PANEL_ROWS;
    return (struct group_row){.group = cpu_act_group(act, activations, group_idx, n_rows),
                              .m = left < PANEL_ROWS ? left : PANEL_ROWS,
                              .row = row % PANEL_ROWS};
}

void cpu_panel_write(const struct act *act, enum activations activations, uint32_t row,
                     uint32_t n_rows, uint32_t first, uint32_t n, const float *values,
                     cpu_panel_quantize *quantize)
{
    assert(row < n_rows && n_rows <= act->max_rows);
    assert(first % BLOCK_VALUES == 0 && first < act->width);
    assert(n % BLOCK_VALUES == 0 || first + n == act->width);
    uint32_t n_real = n < act->width - first ? n : act->width - first;

    if (act->forms & (ACT_FLOATS | ACT_QUERY)) {
        float *rows = cpu_act_floats(act, activations);
        memcpy(rows + (size_t)row * act->width + first, values, n_real * sizeof(float));
    }
    if (!(act->forms & ACT_BLOCKS) || activations == ACTIVATIONS_F32)
        return;

    struct group_row at = group_row_of(act, activations, row, n_rows);
    for (uint32_t i = 0; i < n_real; i += BLOCK_VALUES) {
        float padded[BLOCK_VALUES] = {0};
        const float *block_values = values + i;
        if (n_real - i < BLOCK_VALUES) {
            memcpy(padded, values + i, (n_real - i) * sizeof(float));
            block_values = padded;
        }
        struct cpu_panel_block to =
            cpu_panel_block(at.group, activations, at.m, at.row, (first + i) / BLOCK_VALUES);
        quantize(block_values, &to);
    }
}

static void copy_values(const struct cpu_panel_block *x, const struct cpu_panel_block *y)
{
    if (x->v != NULL && y->v != NULL) {
        memcpy(y->v, x->v, BLOCK_VALUES * sizeof *x->v);
    } else if (x->v == NULL && y->v == NULL) {
        memcpy(y->hi, x->hi, BLOCK_VALUES);
        if (x->lo != NULL)
            memcpy(y->lo, x->lo, BLOCK_VALUES);
    } else {
        for (int k = 0; k < BLOCK_VALUES; k++)
            cpu_panel_set(y, k, cpu_panel_value(x, k));
    }
}

void cpu_panel_copy(const struct act *from, uint32_t from_row, uint32_t from_rows,
                    const struct act *to, uint32_t to_row, uint32_t to_rows,
                    enum activations activations)
{
    assert(from->width == to->width && (from->forms & to->forms) == to->forms);
    assert(from_row < from_rows && to_row < to_rows);
    if (to->forms & (ACT_FLOATS | ACT_QUERY))
        memcpy(cpu_act_floats(to, activations) + (size_t)to_row * to->width,
               cpu_act_floats(from, activations) + (size_t)from_row * to->width,
               to->width * sizeof(float));
    if (!(to->forms & ACT_BLOCKS) || activations == ACTIVATIONS_F32)
        return;

    struct group_row source = group_row_of(from, activations, from_row, from_rows);
    struct group_row target = group_row_of(to, activations, to_row, to_rows);
    uint32_t n_blocks = (uint32_t)n_blocks_of(to->width);
    for (uint32_t b = 0; b < n_blocks; b++) {
        struct cpu_panel_block x =
            cpu_panel_block(source.group, activations, source.m, source.row, b);
        struct cpu_panel_block y =
            cpu_panel_block(target.group, activations, target.m, target.row, b);
        copy_values(&x, &y);
        *y.da = *x.da;
        *y.sa = *x.sa;
        *y.nb = *x.nb;
        *y.nh = *x.nh;
    }
}

/* The bits of the largest |x|: as integers, so that a NaN or an Inf is larger than any number
 * whatever the order. */
static uint32_t largest_bits(const float *x)
{
    uint32_t largest = 0;
    for (int i = 0; i < BLOCK_VALUES; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        bits &= 0x7fffffff;
        largest = bits > largest ? bits : largest;
    }
    return largest;
}

/* The sum of magnitudes. */
static int32_t round_values(const float *x, float scale, int32_t *v)
{
    int32_t size = 0;
    for (int i = 0; i < BLOCK_VALUES; i++) {
        v[i] = scale != 0 ? (int32_t)lrintf(x[i] * scale) : 0;
        size += v[i] < 0 ? -v[i] : v[i];
    }
    return size;
}

static void quantize_scalar(const float *x, const struct cpu_panel_block *to)
{
    bool is_16 = cpu_panel_block_is_16(to);
    float limit = is_16 ? PANEL_LIMIT_16 : PANEL_LIMIT_INT8;
    uint32_t bits = largest_bits(x);
    float amax;
    memcpy(&amax, &bits, sizeof amax);

    int32_t v[BLOCK_VALUES], sum = 0, first = 0;
    int32_t size = round_values(x, cpu_panel_scale(bits, amax, limit), v);
    if (is_16 && size > PANEL_SUM_16) {
        limit /= 2;
        round_values(x, cpu_panel_scale(bits, amax, limit), v);
    }
    for (int i = 0; i < BLOCK_VALUES; i++) {
        sum += v[i];
        first += i < BLOCK_VALUES / 2 ? v[i] : 0;
        cpu_panel_set(to, i, v[i]);
    }
    cpu_panel_finish(to, bits, amax, limit, sum, first);
}

static void write_scalar(const struct act *act, enum activations activations, uint32_t row,
                         uint32_t n_rows, uint32_t first, uint32_t n, const float *values)
{
    cpu_panel_write(act, activations, row, n_rows, first, n, values, quantize_scalar);
}

const struct cpu_panel_ops *cpu_panel_ops(enum isa isa)
{
    static const struct cpu_panel_ops scalar = {.write = write_scalar};
    static const struct cpu_panel_ops avx2 = {.write = CPU_X86(cpu_panel_write_avx2)};
    static const struct cpu_panel_ops avx512 = {.write = CPU_X86(cpu_panel_write_avx512)};

    switch (isa) {
    case ISA_AVX2:
        return &avx2;
    case ISA_AVX512:
        return &avx512;
    default:
        return &scalar;
    }
}
