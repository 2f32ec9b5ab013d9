/* kernels/cpu/cpu_unpack_table.h: the unpackers of an instruction set and the table of all its
 * kernels. A file that includes this has written, behind cpu_unpack_body.h,
 *     store_wide(type, is_16, at, wide)    one block of integers      WIDE_BYTES(form, is_16)
 */
#ifndef QUIRE_KERNELS_CPU_UNPACK_TABLE_H
#define QUIRE_KERNELS_CPU_UNPACK_TABLE_H

INLINE void unpack_to_integers(const struct cpu_span *span, const uint32_t type, const bool is_16)
{
    uint8_t *wide = span->wide;
    for (size_t b = span->begin; b < span->end; b++) {
        struct cpu_tile_place at = cpu_tile_place(type, span->tile, span->n_in, b);
        prefetch_block(type, &at, b, span->prefetch_bytes);
        store_wide(type, is_16, &at, wide);
        wide += WIDE_BYTES(cpu_form_of(type), is_16);
    }
}

INLINE void unpack_to_floats(const struct cpu_span *span, const uint32_t type)
{
    float *to = (float *)span->wide;
    for (size_t b = span->begin; b < span->end; b++, to += BLOCK_VALUES * TILE_ROWS) {
        size_t k = b * BLOCK_VALUES, left = span->n_in - k;
        struct cpu_tile_place at = {.block = span->tile + k * TILE_ROWS * 2};
        if (tensor_type_is_float(type)) {
            prefetch_lines(at.block + span->prefetch_bytes, BLOCK_VALUES * TILE_ROWS * 2);
        } else {
            at = cpu_tile_place(type, span->tile, span->n_in, b);
            prefetch_block(type, &at, b, span->prefetch_bytes);
        }
        for (int part = 0; part < TILE_ROWS / VEC_ROWS; part++) {
            if (tensor_type_is_float(type))
                unpack_halves(type, span->tile, k, left < 32 ? left : 32, part,
                              to + part * VEC_ROWS, TILE_ROWS);
            else
                unpack_values(type, &at, part, to + part * VEC_ROWS, TILE_ROWS);
        }
    }
}

#define UNPACK_FLOATS(name, type)                                                                  \
    static void name##_floats(const struct cpu_span *span)                                         \
    {                                                                                              \
        unpack_to_floats(span, type);                                                              \
    }
#define UNPACK(name, type)                                                                         \
    UNPACK_FLOATS(name, type)                                                                      \
    static void name##_16(const struct cpu_span *span)                                             \
    {                                                                                              \
        unpack_to_integers(span, type, true);                                                      \
    }                                                                                              \
    static void name##_int8(const struct cpu_span *span)                                           \
    {                                                                                              \
        unpack_to_integers(span, type, false);                                                     \
    }
FOR_EACH_INTEGER_TYPE(UNPACK)
UNPACK_FLOATS(f16, TENSOR_F16)
UNPACK_FLOATS(bf16, TENSOR_BF16)

#define UNPACK_ROW(name, type)                                                                     \
    [type] = {[ACTIVATIONS_16] = name##_16, [ACTIVATIONS_INT8] = name##_int8,                      \
              [ACTIVATIONS_F32] = name##_floats},
static cpu_multiply *const unpackers[TENSOR_TYPES][3] = {
    FOR_EACH_INTEGER_TYPE(UNPACK_ROW)[TENSOR_F16] = {f16_floats, f16_floats, f16_floats},
    [TENSOR_BF16] = {bf16_floats, bf16_floats, bf16_floats},
};

#define WIDE_FORM(name, isa)                                                                       \
    {                                                                                              \
        [ACTIVATIONS_16] = cpu_wide_##name##_16_##isa,                                             \
        [ACTIVATIONS_INT8] = cpu_wide_##name##_int8_##isa                                          \
    }
#define WIDE_TABLES(name, isa)                                                                     \
    extern cpu_multiply *const cpu_wide_##name##_16_##isa[PANEL_ROWS];                             \
    extern cpu_multiply *const cpu_wide_##name##_int8_##isa[PANEL_ROWS];
#define FLOATS_BYTES (BLOCK_VALUES * TILE_ROWS * sizeof(float))
#define FORM_BYTES(form)                                                                           \
    {                                                                                              \
        [ACTIVATIONS_16] = WIDE_BYTES(form, true), [ACTIVATIONS_INT8] = WIDE_BYTES(form, false)    \
    }
#define PRODUCTS(isa)                                                                              \
    WIDE_TABLES(one, isa)                                                                          \
    WIDE_TABLES(minimum, isa)                                                                      \
    WIDE_TABLES(two, isa)                                                                          \
    WIDE_TABLES(two_minima, isa)                                                                   \
    extern cpu_multiply *const cpu_wide_floats_##isa[PANEL_ROWS];                                  \
    extern cpu_multiply *const cpu_one_##isa[TENSOR_TYPES][3];                                     \
    const struct cpu_products cpu_products_##isa = {                                               \
        .one = cpu_one_##isa,                                                                      \
        .unpack = unpackers,                                                                       \
        .wide = {[FORM_ONE] = WIDE_FORM(one, isa),                                                 \
                 [FORM_ONE_MINIMUM] = WIDE_FORM(minimum, isa),                                     \
                 [FORM_TWO] = WIDE_FORM(two, isa),                                                 \
                 [FORM_ONE_TWO_MINIMA] = WIDE_FORM(two_minima, isa),                               \
                 [FORM_FLOATS] = {cpu_wide_floats_##isa, cpu_wide_floats_##isa,                    \
                                  cpu_wide_floats_##isa}},                                         \
        .wide_bytes = {[FORM_ONE] = FORM_BYTES(FORM_ONE),                                          \
                       [FORM_ONE_MINIMUM] = FORM_BYTES(FORM_ONE_MINIMUM),                          \
                       [FORM_TWO] = FORM_BYTES(FORM_TWO),                                          \
                       [FORM_ONE_TWO_MINIMA] = FORM_BYTES(FORM_ONE_TWO_MINIMA),                    \
                       [FORM_FLOATS] = {FLOATS_BYTES, FLOATS_BYTES, FLOATS_BYTES}},                \
    };

#endif
