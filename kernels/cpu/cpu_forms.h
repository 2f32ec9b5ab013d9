/* kernels/cpu/cpu_forms.h: what the instruction sets share of the products of a tile: one function
 * for each form, activations and number of rows. Inline functions are static: each instruction set
 * compiles its own copy.
 */
#ifndef QUIRE_KERNELS_CPU_FORMS_H
#define QUIRE_KERNELS_CPU_FORMS_H

#include "kernels/cpu/cpu_product.h"

#include <immintrin.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline, unused))

/* Sanitizers check every access: unrolled rows would take them minutes to compile, for the same
 * bits. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define UNROLL(n)
#else
#define UNROLL_TEXT(text) _Pragma(#text)
#define UNROLL(n) UNROLL_TEXT(GCC unroll n)
#endif

INLINE float float_at(const uint8_t *bytes)
{
    float value;
    memcpy(&value, bytes, sizeof value);
    return value;
}

INLINE int32_t int_at(const uint8_t *bytes)
{
    int32_t value;
    memcpy(&value, bytes, sizeof value);
    return value;
}

INLINE void prefetch_lines(const uint8_t *from, size_t bytes)
{
    for (size_t i = 0; i < bytes; i += 64)
        _mm_prefetch((const char *)from + i, _MM_HINT_T0);
}

/* A block of this type, and its head where that begins a group. */
INLINE void prefetch_block(const uint32_t type, const struct cpu_tile_place *at, size_t b,
                           size_t ahead)
{
    const struct cpu_tile_layout layout = cpu_tile_layout(type);
    prefetch_lines(at->block + ahead, layout.block_bytes);
    if (layout.head_bytes > 0 && b % layout.n_sub == 0)
        prefetch_lines(at->head + ahead, layout.head_bytes);
}

/* What the codes of a type stand above its values, as the unpackers give them: a power of two, or
 * 0 for types with a minimum. */
INLINE int offset_of(const uint32_t type)
{
    switch (type) {
    case TENSOR_Q4_0:
        return 8;
    case TENSOR_Q5_0:
    case TENSOR_MXFP4:
        return 16;
    case TENSOR_Q6_K:
        return 32;
    case TENSOR_Q8_0:
    case TENSOR_IQ4_NL:
    case TENSOR_IQ4_XS:
    case TENSOR_Q3_K:
        return 128;
    default:
        return 0;
    }
}

INLINE size_t row_bytes_of(const bool is_16)
{
    return is_16 ? PANEL_BYTES_16 : PANEL_BYTES_INT8;
}

/* One row of a block of a panel. */
struct panel_row {
    const uint8_t *x;  /* its values: of 16-bit activations 16 bits each, where m = 1 high bytes */
    const uint8_t *lo; /* low bytes: of 16-bit activations where m = 1 */
    const uint8_t *da, *sa, *nb, *nh;
};

INLINE struct panel_row panel_row_of(const uint8_t *block, const bool is_16, const int m, int i)
{
    const int value_bytes = is_16 ? 2 : 1;
    const uint8_t *floats = block + value_bytes * m * BLOCK_VALUES + 4 * i;
    return (struct panel_row){.x = block + value_bytes * i * BLOCK_VALUES,
                              .lo = block + BLOCK_VALUES,
                              .da = floats,
                              .sa = floats + 4 * m,
                              .nb = floats + 8 * m,
                              .nh = floats + 12 * m};
}

/* One function a number of rows: FOR_EACH_M(X, name, ...) makes X(name, 2, ...) to X(name, 12,
 * ...); KERNELS(name) lists them. */
#define FOR_EACH_M(X, name, ...)                                                                   \
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
#define KERNELS(name) {NULL, FOR_EACH_M(KERNEL_NAME, name, 0)}

/* The integer types: X(suffix, type). */
#define FOR_EACH_INTEGER_TYPE(X)                                                                   \
    X(q4_0, TENSOR_Q4_0)                                                                           \
    X(q4_1, TENSOR_Q4_1)                                                                           \
    X(q5_0, TENSOR_Q5_0)                                                                           \
    X(q5_1, TENSOR_Q5_1)                                                                           \
    X(q8_0, TENSOR_Q8_0)                                                                           \
    X(q2_k, TENSOR_Q2_K)                                                                           \
    X(q3_k, TENSOR_Q3_K)                                                                           \
    X(q4_k, TENSOR_Q4_K)                                                                           \
    X(q5_k, TENSOR_Q5_K)                                                                           \
    X(q6_k, TENSOR_Q6_K)                                                                           \
    X(iq4_nl, TENSOR_IQ4_NL)                                                                       \
    X(iq4_xs, TENSOR_IQ4_XS)                                                                       \
    X(mxfp4, TENSOR_MXFP4)

#endif
