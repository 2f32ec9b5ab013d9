/* kernels/cpu/cpu_vector_avx2.h: the vectors of cpu_unpack_body.h and cpu_one_body.h: two of 8
 * rows. */
#ifndef QUIRE_KERNELS_CPU_VECTOR_AVX2_H
#define QUIRE_KERNELS_CPU_VECTOR_AVX2_H

#include "kernels/cpu/cpu_forms.h"

#define VEC_ROWS 8
#define VEC_BYTES 32

typedef __m256 vec_floats;
typedef __m256i vec_ints;

INLINE vec_ints vec_load(const void *from)
{
    return _mm256_loadu_si256(from);
}

INLINE vec_ints vec_all_bytes(int value)
{
    return _mm256_set1_epi8((char)value);
}

INLINE vec_ints vec_all_words(uint32_t value)
{
    return _mm256_set1_epi32((int)value);
}

/* 16 bytes, again in every 128 bits */
INLINE vec_ints vec_all_lanes(const int8_t *from)
{
    return _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)from));
}

INLINE vec_ints vec_and(vec_ints a, vec_ints b)
{
    return _mm256_and_si256(a, b);
}

INLINE vec_ints vec_or(vec_ints a, vec_ints b)
{
    return _mm256_or_si256(a, b);
}

/* of 16 bits: the caller masks what crosses a byte; n is constant */
INLINE vec_ints vec_right(vec_ints a, int n)
{
    return _mm256_srli_epi16(a, n);
}

INLINE vec_ints vec_left(vec_ints a, int n)
{
    return _mm256_slli_epi16(a, n);
}

INLINE vec_ints vec_add_bytes(vec_ints a, vec_ints b)
{
    return _mm256_add_epi8(a, b);
}

INLINE vec_ints vec_subtract_bytes(vec_ints a, vec_ints b)
{
    return _mm256_sub_epi8(a, b);
}

/* of 16 bits */
INLINE vec_ints vec_subtract_pairs(vec_ints a, vec_ints b)
{
    return _mm256_sub_epi16(a, b);
}

INLINE vec_ints vec_multiply_pairs(vec_ints a, vec_ints b)
{
    return _mm256_mullo_epi16(a, b);
}

INLINE vec_ints vec_multiply_words(vec_ints a, vec_ints b)
{
    return _mm256_mullo_epi32(a, b);
}

INLINE vec_ints vec_look_up(vec_ints table, vec_ints idx)
{
    return _mm256_shuffle_epi8(table, idx);
}

/* Where bit `bit` of a byte of `bits` is set that of b, else that of a. */
INLINE vec_ints vec_choose(vec_ints a, vec_ints b, vec_ints bits, int bit)
{
    return _mm256_blendv_epi8(a, b, _mm256_slli_epi16(bits, 7 - bit));
}

/* A byte of a row each, to 32 bits: of this part's rows */
INLINE vec_ints vec_widen_bytes(const uint8_t *from)
{
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)from));
}

INLINE vec_ints vec_widen_signed(const uint8_t *from)
{
    return _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)from));
}

/* Byte j of each 32 bits, unsigned, less `offset`. */
INLINE vec_floats vec_byte_to_float(vec_ints a, int j, int offset)
{
    vec_ints n = _mm256_and_si256(_mm256_srli_epi32(a, 8 * j), _mm256_set1_epi32(255));
    return _mm256_cvtepi32_ps(_mm256_sub_epi32(n, _mm256_set1_epi32(offset)));
}

INLINE vec_floats vec_to_float(vec_ints a)
{
    return _mm256_cvtepi32_ps(a);
}

INLINE vec_ints vec_subtract_words(vec_ints a, vec_ints b)
{
    return _mm256_sub_epi32(a, b);
}

INLINE vec_ints vec_left_words(vec_ints a, int n)
{
    return _mm256_slli_epi32(a, n);
}

INLINE vec_ints vec_right_words(vec_ints a, int n)
{
    return _mm256_srli_epi32(a, n);
}

INLINE vec_floats vec_as_floats(vec_ints a)
{
    return _mm256_castsi256_ps(a);
}

/* f16 and bf16, a row each */
INLINE vec_floats vec_load_halves(const uint8_t *from)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)from));
}

INLINE vec_floats vec_load_brains(const uint8_t *from)
{
    vec_ints bits = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)from));
    return _mm256_castsi256_ps(_mm256_slli_epi32(bits, 16));
}

INLINE vec_floats vec_load_floats(const void *from)
{
    return _mm256_loadu_ps(from);
}

INLINE void vec_store_floats(void *to, vec_floats a)
{
    _mm256_storeu_ps(to, a);
}

INLINE vec_floats vec_all_floats(float value)
{
    return _mm256_set1_ps(value);
}

INLINE vec_floats vec_multiply(vec_floats a, vec_floats b)
{
    return _mm256_mul_ps(a, b);
}

INLINE vec_floats vec_add(vec_floats a, vec_floats b)
{
    return _mm256_add_ps(a, b);
}

INLINE vec_floats vec_negate(vec_floats a)
{
    return _mm256_castsi256_ps(
        _mm256_xor_si256(_mm256_castps_si256(a), _mm256_set1_epi32(INT32_MIN)));
}

INLINE vec_floats vec_fma(vec_floats a, vec_floats b, vec_floats c)
{
    return _mm256_fmadd_ps(a, b, c);
}

#endif
