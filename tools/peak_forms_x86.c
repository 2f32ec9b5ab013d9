/* x86-64: the widest of 512, 256 and 128 bits. */
#include "tools/peak_forms.h"

#include <immintrin.h>

#include "kernels/device.h"

__attribute__((target("avx512f,avx512vnni"))) static void int8_avx512(void *arg, int worker_idx)
{
    const struct peak_meter *meter = arg;
    __m512i acc[PEAK_CHAINS], a = _mm512_set1_epi32(worker_idx + 1);
    __m512i b = _mm512_set1_epi32((int)meter->seed);
#pragma GCC unroll 12
    for (int i = 0; i < PEAK_CHAINS; i++)
        acc[i] = a;
    for (uint32_t turn = 0; turn < PEAK_TURNS; turn++) {
#pragma GCC unroll 12
        for (int i = 0; i < PEAK_CHAINS; i++)
            __asm__ volatile("vpdpbusd %1, %2, %0" : "+v"(acc[i]) : "v"(a), "v"(b));
    }
#pragma GCC unroll 12
    for (int i = 1; i < PEAK_CHAINS; i++)
        acc[0] = _mm512_xor_si512(acc[0], acc[i]);
    peak_keep((uint32_t)_mm512_reduce_add_epi32(acc[0]));
}

__attribute__((target("avx512f"))) static void fma_avx512(void *arg, int worker_idx)
{
    const struct peak_meter *meter = arg;
    __m512 acc[PEAK_CHAINS], a = _mm512_set1_ps(1e-9f * (float)(worker_idx + 1));
    __m512 b = _mm512_set1_ps((float)meter->seed);
#pragma GCC unroll 12
    for (int i = 0; i < PEAK_CHAINS; i++)
        acc[i] = a;
    for (uint32_t turn = 0; turn < PEAK_TURNS; turn++) {
#pragma GCC unroll 12
        for (int i = 0; i < PEAK_CHAINS; i++)
            __asm__ volatile("vfmadd231ps %1, %2, %0" : "+v"(acc[i]) : "v"(a), "v"(b));
    }
#pragma GCC unroll 12
    for (int i = 1; i < PEAK_CHAINS; i++)
        acc[0] = _mm512_add_ps(acc[0], acc[i]);
    peak_keep((uint32_t)_mm512_reduce_add_ps(acc[0]));
}

/* The product alone: what a kernel adds to widen its sums is the kernel's cost. */
__attribute__((target("avx2"))) static void int8_avx2(void *arg, int worker_idx)
{
    const struct peak_meter *meter = arg;
    __m256i acc[PEAK_CHAINS], b = _mm256_set1_epi32((int)meter->seed);
#pragma GCC unroll 12
    for (int i = 0; i < PEAK_CHAINS; i++)
        acc[i] = _mm256_set1_epi32(worker_idx + i);
    for (uint32_t turn = 0; turn < PEAK_TURNS; turn++) {
#pragma GCC unroll 12
        for (int i = 0; i < PEAK_CHAINS; i++)
            __asm__ volatile("vpmaddubsw %1, %0, %0" : "+x"(acc[i]) : "x"(b));
    }
#pragma GCC unroll 12
    for (int i = 1; i < PEAK_CHAINS; i++)
        acc[0] = _mm256_xor_si256(acc[0], acc[i]);
    peak_keep((uint32_t)_mm256_extract_epi32(acc[0], 0));
}

__attribute__((target("avx2,fma"))) static void fma_avx2(void *arg, int worker_idx)
{
    const struct peak_meter *meter = arg;
    __m256 acc[PEAK_CHAINS], a = _mm256_set1_ps(1e-9f * (float)(worker_idx + 1));
    __m256 b = _mm256_set1_ps((float)meter->seed);
#pragma GCC unroll 12
    for (int i = 0; i < PEAK_CHAINS; i++)
        acc[i] = a;
    for (uint32_t turn = 0; turn < PEAK_TURNS; turn++) {
#pragma GCC unroll 12
        for (int i = 0; i < PEAK_CHAINS; i++)
            __asm__ volatile("vfmadd231ps %1, %2, %0" : "+x"(acc[i]) : "x"(a), "x"(b));
    }
#pragma GCC unroll 12
    for (int i = 1; i < PEAK_CHAINS; i++)
        acc[0] = _mm256_add_ps(acc[0], acc[i]);
    peak_keep((uint32_t)_mm256_cvtss_f32(acc[0]));
}

/* Multiplication, then addition: what a machine without fused ones has. */
static void fma_sse2(void *arg, int worker_idx)
{
    const struct peak_meter *meter = arg;
    __m128 acc[PEAK_CHAINS], a = _mm_set1_ps(1e-9f * (float)(worker_idx + 1));
    __m128 b = _mm_set1_ps((float)meter->seed);
#pragma GCC unroll 12
    for (int i = 0; i < PEAK_CHAINS; i++)
        acc[i] = a;
    for (uint32_t turn = 0; turn < PEAK_TURNS; turn++) {
#pragma GCC unroll 12
        for (int i = 0; i < PEAK_CHAINS; i++) {
            __m128 product = a;
            __asm__ volatile("mulps %2, %1\n\taddps %1, %0" : "+x"(acc[i]), "+x"(product) : "x"(b));
        }
    }
#pragma GCC unroll 12
    for (int i = 1; i < PEAK_CHAINS; i++)
        acc[0] = _mm_add_ps(acc[0], acc[i]);
    peak_keep((uint32_t)_mm_cvtss_f32(acc[0]));
}

/* Pairs of 16-bit products: bytes widened first, which SSE2 has to do. */
static void int8_sse2(void *arg, int worker_idx)
{
    const struct peak_meter *meter = arg;
    __m128i acc[PEAK_CHAINS], b = _mm_set1_epi32((int)meter->seed);
#pragma GCC unroll 12
    for (int i = 0; i < PEAK_CHAINS; i++)
        acc[i] = _mm_set1_epi32(worker_idx + i);
    for (uint32_t turn = 0; turn < PEAK_TURNS; turn++) {
#pragma GCC unroll 12
        for (int i = 0; i < PEAK_CHAINS; i++)
            __asm__ volatile("pmaddwd %1, %0" : "+x"(acc[i]) : "x"(b));
    }
#pragma GCC unroll 12
    for (int i = 1; i < PEAK_CHAINS; i++)
        acc[0] = _mm_xor_si128(acc[0], acc[i]);
    peak_keep((uint32_t)_mm_cvtsi128_si32(acc[0]));
}

struct peak_forms peak_forms_widest(void)
{
    if (isa_is_available(ISA_AVX512))
        return (struct peak_forms){{int8_avx512, 64, "vpdpbusd, 512 bits"},
                                   {fma_avx512, 16, "vfmadd231ps, 512 bits"}};
    if (isa_is_available(ISA_AVX2))
        return (struct peak_forms){{int8_avx2, 32, "vpmaddubsw, 256 bits"},
                                   {fma_avx2, 8, "vfmadd231ps, 256 bits"}};
    return (struct peak_forms){{int8_sse2, 8, "pmaddwd, 128 bits"},
                               {fma_sse2, 4, "mulps and addps, 128 bits"}};
}
