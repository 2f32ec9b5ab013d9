/* kernels/cpu/cpu_one_body.h: one row with a tile as it stands, for all widths of vectors: what
 * floats do, and the table. A file that includes this has written
 *     multiply_one(span, type, is_16)
 */
#ifndef QUIRE_KERNELS_CPU_ONE_BODY_H
#define QUIRE_KERNELS_CPU_ONE_BODY_H

INLINE void multiply_values(const float *w, const size_t stride, const float *x, size_t n,
                            vec_floats *acc)
{
    for (size_t k = 0; k < n; k++)
        *acc = vec_fma(vec_load_floats(w + k * stride), vec_all_floats(x[k]), *acc);
}

/* One block of floats, unpacked where the tile does not hold them as such. */
INLINE void multiply_float_block(const struct cpu_span *span, const uint32_t type, size_t b,
                                 int part, vec_floats *acc)
{
    _Alignas(64) float values[BLOCK_VALUES * VEC_ROWS];
    size_t k = b * BLOCK_VALUES, left = span->n_in - k, n = left < 32 ? left : 32;
    const float *x = (const float *)span->rows + k;
    if (type == TENSOR_F32) {
        const uint8_t *tile = span->tile + k * TILE_ROWS * sizeof(float);
        prefetch_lines(tile + span->prefetch_bytes, BLOCK_VALUES * TILE_ROWS * sizeof(float));
        multiply_values((const float *)tile + part * VEC_ROWS, TILE_ROWS, x, n, acc);
        return;
    }
    if (tensor_type_is_float(type)) {
        prefetch_lines(span->tile + k * TILE_ROWS * 2 + span->prefetch_bytes,
                       BLOCK_VALUES * TILE_ROWS * 2);
        unpack_halves(type, span->tile, k, n, part, values, VEC_ROWS);
    } else {
        struct cpu_tile_place at = cpu_tile_place(type, span->tile, span->n_in, b);
        prefetch_block(type, &at, b, span->prefetch_bytes);
        unpack_values(type, &at, part, values, VEC_ROWS);
    }
    multiply_values(values, VEC_ROWS, x, n, acc);
}

INLINE void multiply_one_floats(const struct cpu_span *span, const uint32_t type)
{
    vec_floats acc[TILE_ROWS / VEC_ROWS];
    for (int part = 0; part < TILE_ROWS / VEC_ROWS; part++)
        acc[part] = vec_load_floats(span->acc + part * VEC_ROWS);
    for (size_t b = span->begin; b < span->end; b++)
        for (int part = 0; part < TILE_ROWS / VEC_ROWS; part++)
            multiply_float_block(span, type, b, part, &acc[part]);
    for (int part = 0; part < TILE_ROWS / VEC_ROWS; part++)
        vec_store_floats(span->acc + part * VEC_ROWS, acc[part]);
}

#define ONE_FLOATS(name, type)                                                                     \
    static void name##_floats(const struct cpu_span *span)                                         \
    {                                                                                              \
        multiply_one_floats(span, type);                                                           \
    }
#define ONE_KERNELS(name, type)                                                                    \
    ONE_FLOATS(name, type)                                                                         \
    static void name##_16(const struct cpu_span *span)                                             \
    {                                                                                              \
        multiply_one(span, type, true);                                                            \
    }                                                                                              \
    static void name##_int8(const struct cpu_span *span)                                           \
    {                                                                                              \
        multiply_one(span, type, false);                                                           \
    }
FOR_EACH_INTEGER_TYPE(ONE_KERNELS)
ONE_FLOATS(f32, TENSOR_F32)
ONE_FLOATS(f16, TENSOR_F16)
ONE_FLOATS(bf16, TENSOR_BF16)

#define ONE_ROW(name, type)                                                                        \
    [type] = {[ACTIVATIONS_16] = name##_16, [ACTIVATIONS_INT8] = name##_int8,                      \
              [ACTIVATIONS_F32] = name##_floats},
#define ONE_TABLE                                                                                  \
    {                                                                                              \
        FOR_EACH_INTEGER_TYPE(ONE_ROW)[TENSOR_F32] = {f32_floats, f32_floats, f32_floats},         \
        [TENSOR_F16] = {f16_floats, f16_floats, f16_floats},                                       \
        [TENSOR_BF16] = {bf16_floats, bf16_floats, bf16_floats},                                   \
    }

#endif
