/* kernels/cpu/cpu_linear_forms.h: what the instruction sets share of the products of a tile: where
 * a block stands, and one function for each type, activations and number of rows.
 *
 * A file that includes this writes two bodies, forced inline so that their constants fold,
 *     multiply_blocks(span, type, is_16, m)      multiply_floats(span, type, m)
 * and ends in LINEAR_FORMS and a table that is LINEAR_TABLE. Inline functions are static: each
 * instruction set compiles its own copy.
 */
#ifndef QUIRE_KERNELS_CPU_LINEAR_FORMS_H
#define QUIRE_KERNELS_CPU_LINEAR_FORMS_H

#include "kernels/cpu/cpu_tile.h"

#include <immintrin.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

/* Sanitizers check every access: unrolled rows would take them minutes to compile, for the same
 * bits. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define UNROLL(n)
#else
#define UNROLL_TEXT(text) _Pragma(#text)
#define UNROLL(n) UNROLL_TEXT(GCC unroll n)
#endif

struct block_place {
    const uint8_t *block, *scales;
};

INLINE size_t block_bytes_of(const uint32_t type)
{
    return type == TENSOR_Q8_0   ? TILE_Q8_BYTES
           : type == TENSOR_Q4_1 ? TILE_Q4_1_BYTES
                                 : TILE_Q4_BYTES;
}

/* Block b of a tile of integers. */
INLINE struct block_place place_of(const struct cpu_tile_span *span, const uint32_t type, size_t b)
{
    const uint8_t *block =
        span->tile + cpu_tile_front_bytes(type, span->n_in) + b * block_bytes_of(type);
    return (struct block_place){block, type == TENSOR_Q4_1 ? block + TILE_Q4_BYTES
                                                           : span->tile + b * TILE_SCALES_BYTES};
}

INLINE float float_at(const uint8_t *bytes)
{
    float value;
    memcpy(&value, bytes, sizeof value);
    return value;
}

INLINE void prefetch_lines(const uint8_t *from, size_t bytes)
{
    for (size_t i = 0; i < bytes; i += 64)
        _mm_prefetch((const char *)from + i, _MM_HINT_T0);
}

/* One function a number of rows: FOR_EACH_M(X, name, ...) makes X(name, 1, ...) to X(name, 12,
 * ...); KERNELS(name) lists them. */
#define FOR_EACH_M(X, name, ...)                                                                   \
    X(name, 1, __VA_ARGS__)                                                                        \
    X(name, 2, __VA_ARGS__)                                                                        \
    X(name, 3, __VA_ARGS__)                                                                        \
    X(name, 4, __VA_ARGS__)                                                                        \
    X(name, 5, __VA_ARGS__)                                                                        \
    X(name, 6, __VA_ARGS__)                                                                        \
    X(name, 7, __VA_ARGS__)                                                                        \
    X(name, 8, __VA_ARGS__)                                                                        \
    X(name, 9, __VA_ARGS__)                                                                        \
    X(name, 10, __VA_ARGS__)                                                                       \
    X(name, 11, __VA_ARGS__)                                                                       \
    X(name, 12, __VA_ARGS__)
#define KERNEL_NAME(name, m, unused) name##_##m,
#define KERNELS(name) {FOR_EACH_M(KERNEL_NAME, name, 0)}

#define BLOCKS_KERNEL(name, m, type, is_16)                                                        \
    static void name##_##m(const struct cpu_tile_span *span)                                       \
    {                                                                                              \
        multiply_blocks(span, type, is_16, m);                                                     \
    }
#define FLOATS_KERNEL(name, m, type)                                                               \
    static void name##_##m(const struct cpu_tile_span *span)                                       \
    {                                                                                              \
        multiply_floats(span, type, m);                                                            \
    }

#define LINEAR_FORMS                                                                               \
    FOR_EACH_M(BLOCKS_KERNEL, q4_0_16, TENSOR_Q4_0, true)                                          \
    FOR_EACH_M(BLOCKS_KERNEL, q4_1_16, TENSOR_Q4_1, true)                                          \
    FOR_EACH_M(BLOCKS_KERNEL, q8_0_16, TENSOR_Q8_0, true)                                          \
    FOR_EACH_M(BLOCKS_KERNEL, q4_0_int8, TENSOR_Q4_0, false)                                       \
    FOR_EACH_M(BLOCKS_KERNEL, q4_1_int8, TENSOR_Q4_1, false)                                       \
    FOR_EACH_M(BLOCKS_KERNEL, q8_0_int8, TENSOR_Q8_0, false)                                       \
    FOR_EACH_M(FLOATS_KERNEL, q4_0_floats, TENSOR_Q4_0)                                            \
    FOR_EACH_M(FLOATS_KERNEL, q4_1_floats, TENSOR_Q4_1)                                            \
    FOR_EACH_M(FLOATS_KERNEL, q8_0_floats, TENSOR_Q8_0)                                            \
    FOR_EACH_M(FLOATS_KERNEL, f32_floats, TENSOR_F32)                                              \
    FOR_EACH_M(FLOATS_KERNEL, f16_floats, TENSOR_F16)

/* Of integer types: by activations. */
#define BY_ACTIVATIONS(name)                                                                       \
    {                                                                                              \
        [ACTIVATIONS_16] = KERNELS(name##_16), [ACTIVATIONS_INT8] = KERNELS(name##_int8),          \
        [ACTIVATIONS_F32] = KERNELS(name##_floats)                                                 \
    }

/* In the order of cpu_tile_slot. */
#define LINEAR_TABLE                                                                               \
    {                                                                                              \
        {KERNELS(f32_floats), KERNELS(f32_floats), KERNELS(f32_floats)},                           \
            {KERNELS(f16_floats), KERNELS(f16_floats), KERNELS(f16_floats)}, BY_ACTIVATIONS(q4_0), \
            BY_ACTIVATIONS(q4_1), BY_ACTIVATIONS(q8_0)                                             \
    }

#endif
