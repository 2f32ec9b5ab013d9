/* kernels/cuda/cuda_codes.cuh: what a lane holds of a weight tile: its codes as they stand in
 * memory (cuda_weight.h), out of which operand A of each step is made, and the scales of its two
 * outputs.
 */
#ifndef QUIRE_KERNELS_CUDA_CODES_CUH
#define QUIRE_KERNELS_CUDA_CODES_CUH

#include "kernels/cuda/cuda_half.cuh"

extern "C" {
#include "kernels/cuda/cuda_weight.h"
}

template <int type>
static constexpr bool is_16_bits = type == TENSOR_F16 || type == TENSOR_BF16; /* without scales */
template <int type>
static constexpr bool has_scales_of_16 = type == CUDA_PLANE_HALVES || type == CUDA_PLANE_SIXTEENS;

template <int type> struct cuda_codes {
    static constexpr bool is_bytes =
        type == TENSOR_Q8_0 || type == CUDA_PLANE_BYTES || has_scales_of_16<type>;
    static constexpr int n_loads = is_16_bits<type> ? 4 : is_bytes ? 2 : 1;
    uint4 loads[n_loads];
};

/* Scales of outputs r and r + 8 in both groups of a tile. Bits of f16: d; d and m in a word; d and
 * two small scales. Or of f32: d; d and m; d of two halves, m of two. */
template <int type> struct cuda_scales {
    static constexpr int n = type == CUDA_PLANE_HALVES ? 4 : type == CUDA_PLANE_NIBBLES ? 2 : 1;
    static constexpr bool is_short = type == TENSOR_Q4_0 || type == TENSOR_Q8_0; /* d alone */
    static constexpr bool has_minimum = type == TENSOR_Q4_1 || n > 1;
    static constexpr uint32_t tile_bytes = is_16_bits<type> ? 0 : is_short ? 64 : 128 * n;
    uint32_t words[4 * n];
};

/* Word i of a vector; i is known when loops are unrolled. */
static __device__ __forceinline__ uint32_t word_of(const uint4 &words, int i)
{
    return i == 0 ? words.x : i == 1 ? words.y : i == 2 ? words.z : words.w;
}

static __device__ __forceinline__ __half2 half2_of(uint32_t bits)
{
    __half2_raw raw;
    raw.x = (unsigned short)bits;
    raw.y = (unsigned short)(bits >> 16);
    return raw;
}

/* a - b in two halves, each rounded once */
static __device__ __forceinline__ uint32_t subtract_halves(uint32_t a, uint32_t b)
{
    __half2_raw raw = __hsub2(half2_of(a), half2_of(b));
    return (uint32_t)raw.x | (uint32_t)raw.y << 16;
}

/* A half as two numbers of bf16, whose sum it is: the eight leading bits, and the three behind. */
static __device__ __forceinline__ float first_of_half(float half)
{
    return __uint_as_float(__float_as_uint(half) & 0xffff0000u);
}

/* Two numbers of bf16 in a word. */
static __device__ __forceinline__ uint32_t bfloats_of(float low, float high)
{
    return __byte_perm(__float_as_uint(low), __float_as_uint(high), 0x7632);
}

#define LOP3_AND_OR 0xea            /* (a & b) | c */
#define HALVES_1024 0x64006400u     /* 1024 + n: n in the low bits of the mantissa */
#define HALVES_1032 0x64086408u
#define HALVES_1152 0x64806480u
#define HALVES_ONE 0x3c003c00u

/* Operand A of one step of a tile. */
template <int type>
static __device__ __forceinline__ void fragment_of(uint32_t (&a)[4], const cuda_codes<type> &codes,
                                                   int step)
{
    if (is_16_bits<type>) {
#pragma unroll
        for (int i = 0; i < 4; i++)
            a[i] = word_of(codes.loads[step % cuda_codes<type>::n_loads], i);
    } else if (cuda_codes<type>::is_bytes) {
        const uint4 &group = codes.loads[step / 2 % cuda_codes<type>::n_loads];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            uint32_t word = word_of(group, step % 2 * 2 + i / 2);
            uint32_t biased = __byte_perm(word, HALVES_1024, i % 2 == 0 ? 0x5150 : 0x5352);
            a[i] = subtract_halves(biased, HALVES_1152);
        }
    } else {
        uint32_t word = word_of(codes.loads[0], step);
#pragma unroll
        for (int i = 0; i < 4; i++)
            a[i] = subtract_halves(lop3<LOP3_AND_OR>(word >> 4 * i, 0x000f000fu, HALVES_1024),
                                   type == TENSOR_Q4_0 ? HALVES_1032 : HALVES_1024);
    }
}

template <int type>
static __device__ __forceinline__ void load_codes(cuda_codes<type> &codes, const uint8_t *tile)
{
#pragma unroll
    for (int i = 0; i < cuda_codes<type>::n_loads; i++)
        codes.loads[i] =
            *(const uint4 *)(tile + i * CUDA_LOAD_BYTES + lane_idx() * CUDA_LANE_BYTES);
}

template <int type>
static __device__ __forceinline__ void load_scales(cuda_scales<type> &scales, const uint8_t *tile)
{
    uint32_t r = lane_idx() / 4;
    if (is_16_bits<type>)
        return;
    if (!cuda_scales<type>::is_short) {
        constexpr int n = cuda_scales<type>::n;
#pragma unroll
        for (int load = 0; load < n; load++) {
            uint4 words = *(const uint4 *)(tile + (r * n + load) * 16);
#pragma unroll
            for (int i = 0; i < 4; i++)
                scales.words[4 * load + i] = word_of(words, i);
        }
    } else {
        uint2 halves = *(const uint2 *)(tile + r * 8);
        scales.words[0] = halves.x & 0xffff;
        scales.words[1] = halves.x >> 16;
        scales.words[2] = halves.y & 0xffff;
        scales.words[3] = halves.y >> 16;
    }
}

/* d times the small scale of a half: exact. */
static __device__ __forceinline__ float scale_of_16(uint32_t word, uint32_t half)
{
    uint32_t biased = word >> (16 + 8 * half) & 0xff; /* + 2^23 the mantissa of a float */
    float small = __fadd_rn(__uint_as_float(0x4b000000u | biased), -8388736.0f);
    return __fmul_rn(float_of_half(word & 0xffff), small);
}

/* Scale `i` of a lane's four; parts: d of each half, then the minimum of each. */
template <int type>
static __device__ __forceinline__ float scale_of(const cuda_scales<type> &scales, int i, int part)
{
    if (type == CUDA_PLANE_SIXTEENS)
        return scale_of_16(scales.words[i], part);
    if (type == TENSOR_Q4_1 || cuda_scales<type>::is_short)
        return float_of_half(part == 0 ? scales.words[i] & 0xffff : scales.words[i] >> 16);
    return __uint_as_float(scales.words[i * cuda_scales<type>::n + part]);
}

#endif
