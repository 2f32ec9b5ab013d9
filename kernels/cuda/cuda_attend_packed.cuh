/* kernels/cuda/cuda_attend_packed.cuh: one page of codes by mma, in the steps of
 * cuda_attend_values.cuh. Codes become f16 in registers, exactly; scales go into q and p:
 *
 *   k[t][d] = least[d] + step[d] code     s = up * sum of f16(q[d] step[d] / up) code + z
 *   v[t][d] = least[t] + step[t] code     o = up * sum of f16(p[t] step[t] / up) code + (o c + w)
 *
 * with z = sum of q[d] least[d] and w = sum of p[t] least[t] in f32, and `up` the power of two
 * above the page's greatest step: so no product passes the range of f16, and what is lost below it
 * is nothing beside the greatest. Four lanes hold a row; each sums its own dims or tokens,
 * ascending, then lanes are added by xor 1 and 2.
 */
#ifndef QUIRE_KERNELS_CUDA_ATTEND_PACKED_CUH
#define QUIRE_KERNELS_CUDA_ATTEND_PACKED_CUH

#include "kernels/cuda/cuda_attend_tile.cuh"
#include "kernels/cuda/cuda_codes.cuh"

/* The pair of f16 codes of register e of operand B; a word of q4 holds two steps of 16 dims. */
template <int bits>
static __device__ __forceinline__ uint32_t key_codes(uint32_t word, int step, int e)
{
    uint32_t biased = bits == 8 ? __byte_perm(word, HALVES_1024, e == 0 ? 0x5150 : 0x5352)
                                : lop3<LOP3_AND_OR>(word >> 4 * (2 * step + e), 0x000f000fu,
                                                    HALVES_1024);
    return subtract_halves(biased, HALVES_1024);
}

/* The same of two tokens' V: tile `part` of the 2 or 4 whose columns stand in a word. */
template <int bits>
static __device__ __forceinline__ uint32_t value_codes(uint32_t word, uint32_t part)
{
    uint32_t biased = bits == 8 ? __byte_perm(word, HALVES_1024, part == 0 ? 0x5250 : 0x5351)
                                : lop3<LOP3_AND_OR>(word >> 4 * part, 0x000f000fu, HALVES_1024);
    return subtract_halves(biased, HALVES_1024);
}

/* One by the power of two above the greatest of n steps. */
template <int n>
static __device__ __forceinline__ float down_to_one(const float *steps)
{
    uint32_t greatest = 0;
#pragma unroll
    for (int i = 0; i < n; i += WARP_LANES)
        greatest = max(greatest, __float_as_uint(steps[i + (int)lane_idx()]));
    greatest = __reduce_max_sync(ALL_LANES, greatest);
    return power_of_two(126 - (int)(greatest >> 23));
}

/* Of a power of two. */
static __device__ __forceinline__ float inverse(float power)
{
    return __uint_as_float((254u << 23) - __float_as_uint(power));
}

/* The lanes of a row, added in one order for all. */
static __device__ __forceinline__ float sum_of_row(float sum)
{
    sum += __shfl_xor_sync(ALL_LANES, sum, 1);
    return sum + __shfl_xor_sync(ALL_LANES, sum, 2);
}

/* Operand A of one step of S: q under the steps of its dims; z grows by q under their least. */
static __device__ __forceinline__ void scale_queries(const uint32_t (&q)[4], const float *least,
                                                     const float *steps, float down,
                                                     uint32_t (&a)[4], float (&z)[2])
{
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float2 step = *(const float2 *)(steps + half * 8);
        float2 low = *(const float2 *)(least + half * 8);
        step.x = __fmul_rn(step.x, down);
        step.y = __fmul_rn(step.y, down);
#pragma unroll
        for (int row = 0; row < 2; row++) {
            uint32_t pair = q[2 * half + row];
            float first = float_of_half(pair & 0xffff), second = float_of_half(pair >> 16);
            z[row] = fmaf(second, low.y, fmaf(first, low.x, z[row]));
            a[2 * half + row] = pack(__fmul_rn(first, step.x), __fmul_rn(second, step.y));
        }
    }
}

/* s = scores of the page's 64 tokens, in units of log2. */
template <int dim, int bits>
static __device__ __forceinline__ void score_codes(const struct attend_run &run,
                                                   const uint32_t (&q)[dim / 16][4],
                                                   const struct code_stage<dim, bits> &page,
                                                   const struct tile_rows &rows,
                                                   float (&s)[TOKEN_TILES][4])
{
    constexpr int word_steps = bits == 4 ? 2 : 1; /* of 16 dims */
    const float *least = page.k_scales, *steps = page.k_scales + dim;
    uint32_t dim_of_lane = lane_idx() % 4 * 2;
    float down = down_to_one<dim>(steps), z[2] = {0.0f, 0.0f};
#pragma unroll
    for (int n = 0; n < TOKEN_TILES; n++)
#pragma unroll
        for (int i = 0; i < 4; i++)
            s[n][i] = 0.0f;
#pragma unroll
    for (int k = 0; k < dim / 16; k += word_steps) {
        uint32_t words[TOKEN_TILES / 4][4];
#pragma unroll
        for (int n = 0; n < TOKEN_TILES / 4; n++)
            ldmatrix_x4(words[n], &page.k[(uint32_t)n * 32 + lane_idx()]
                                         [k / word_steps * CUDA_PAGE_BLOCK_BYTES]);
#pragma unroll
        for (int step = 0; step < word_steps; step++) {
            uint32_t a[4], first = (uint32_t)(k + step) * 16 + dim_of_lane;
            scale_queries(q[k + step], least + first, steps + first, down, a, z);
#pragma unroll
            for (int n = 0; n < TOKEN_TILES; n++) {
                uint32_t b[2] = {key_codes<bits>(words[n / 4][n % 4], step, 0),
                                 key_codes<bits>(words[n / 4][n % 4], step, 1)};
                mma_f16(s[n], a, b);
            }
        }
    }
    float scale[2];
#pragma unroll
    for (int row = 0; row < 2; row++) {
        scale[row] = q_scale_of(run, rows, row);
        z[row] = __fmul_rn(sum_of_row(z[row]), scale[row]);
    }
#pragma unroll
    for (int n = 0; n < TOKEN_TILES; n++)
#pragma unroll
        for (int i = 0; i < 4; i++)
            s[n][i] = fmaf(s[n][i], __fmul_rn(inverse(down), scale[i / 2]), z[i / 2]);
}

/* p takes the steps of its tokens; w is what it makes of their least values. */
static __device__ __forceinline__ void scale_weights(float (&p)[TOKEN_TILES][4],
                                                     const float (&v_scales)[2 * PAGE_TOKENS],
                                                     float down, float (&w)[2])
{
    w[0] = w[1] = 0.0f;
#pragma unroll
    for (int n = 0; n < TOKEN_TILES; n++) {
        uint32_t token = (uint32_t)n * 8 + lane_idx() % 4 * 2;
        float2 low = *(const float2 *)&v_scales[token];
        float2 step = *(const float2 *)&v_scales[PAGE_TOKENS + token];
#pragma unroll
        for (int row = 0; row < 2; row++) {
            float &first = p[n][2 * row], &second = p[n][2 * row + 1];
            w[row] = fmaf(second, low.y, fmaf(first, low.x, w[row]));
            first = __fmul_rn(first, __fmul_rn(step.x, down));
            second = __fmul_rn(second, __fmul_rn(step.y, down));
        }
    }
    w[0] = sum_of_row(w[0]);
    w[1] = sum_of_row(w[1]);
}

/* o = o * c + P V, values from `column` on. */
template <int dim, int bits, int n_tiles>
static __device__ __forceinline__ void add_codes(float (&p)[TOKEN_TILES][4], const float (&c)[2],
                                                 const struct code_stage<dim, bits> &page,
                                                 uint32_t column, float (&o)[n_tiles][4])
{
    constexpr int word_tiles = 16 / bits; /* whose columns stand in a word */
    constexpr int at_once = n_tiles < word_tiles ? n_tiles : word_tiles;
    float down = down_to_one<PAGE_TOKENS>(page.v_scales + PAGE_TOKENS), w[2];
    scale_weights(p, page.v_scales, down, w);
    uint32_t a[PAGE_TOKENS / 16][4];
#pragma unroll
    for (int k = 0; k < PAGE_TOKENS / 16; k++)
#pragma unroll
        for (int i = 0; i < 4; i++)
            a[k][i] = pack(p[2 * k + i / 2][i % 2 * 2], p[2 * k + i / 2][i % 2 * 2 + 1]);
#pragma unroll
    for (int n = 0; n < n_tiles; n += at_once) {
        uint32_t tile = column / 8 + (uint32_t)n, part = tile % word_tiles;
        float sums[at_once][4] = {};
#pragma unroll
        for (int k = 0; k < PAGE_TOKENS / 16; k += 2) {
            uint32_t words[4]; /* of 32 tokens */
            ldmatrix_x4_trans(words, &page.v[(uint32_t)k * 16 + lane_idx()]
                                            [tile / word_tiles * CUDA_PAGE_BLOCK_BYTES]);
#pragma unroll
            for (int i = 0; i < 2 * at_once; i++) {
                int step = i / at_once, which = i % at_once;
                uint32_t b[2] = {value_codes<bits>(words[2 * step], part + (uint32_t)which),
                                 value_codes<bits>(words[2 * step + 1], part + (uint32_t)which)};
                mma_f16(sums[which], a[k + step], b);
            }
        }
#pragma unroll
        for (int i = 0; i < at_once; i++)
#pragma unroll
            for (int j = 0; j < 4; j++)
                o[n + i][j] = fmaf(sums[i][j], inverse(down),
                                   fmaf(o[n + i][j], c[j / 2], w[j / 2]));
    }
}

#endif
