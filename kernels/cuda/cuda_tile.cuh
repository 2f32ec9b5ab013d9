/* kernels/cuda/cuda_tile.cuh: a warp's product of weight tiles and rows of activations.
 *
 *   acc[t]    16 outputs x 8 rows as m16n8k16 lays them out: lane l = 4 r + c holds outputs r
 *             (0, 1) and r + 8 (2, 3) of rows 8 t + 2 c (0, 2) and 8 t + 2 c + 1 (1, 3)
 *
 * Blocks of integers: each group of 32 inputs is one chain of two mma, from zero, of exact codes
 * and f16 activations; acc = fma(d, sum, acc), then for a minimum acc = fma(m, sum of x, acc),
 * where the sum of x is the product with ones. HALVES and SIXTEENS: a chain of one mma for each 16
 * inputs; then both minima. F16: one chain of mma. BF16: one chain too, which multiplies each step
 * by the leading eight bits of the activations, then by the three behind them. F32: fma, k
 * ascending.
 * Callers walk the inputs upward from a multiple of 64 in whole tiles, so that a row's bits depend
 * on nothing but that row.
 */
#ifndef QUIRE_KERNELS_CUDA_TILE_CUH
#define QUIRE_KERNELS_CUDA_TILE_CUH

#include "kernels/cuda/cuda_codes.cuh"

extern "C" {
#include "kernels/cuda/cuda_act.h"
}

/* Blocks of up to eight rows that a multiprocessor can hold at least: for loads under way. */
#define CUDA_BLOCKS_OF_8_ROWS (QUIRE_SM < 100 ? 3 : 2)

/* Rows of activations that a block multiplies, from its first row on. */
struct cuda_rows {
    const uint16_t *halves; /* [n][stride], their values are half * scales[row] */
    const float *scales;
    const float *floats;    /* [n][width] */
    uint32_t stride, width;
    uint32_t n_in;          /* values of a row that are multiplied: floats end there */
    uint32_t n;
};

static __device__ __forceinline__ struct cuda_rows rows_from(const struct cuda_act_rows &act,
                                                             uint32_t first, uint32_t n_rows)
{
    struct cuda_rows rows = {act.halves + (size_t)first * act.stride, act.scales + first,
                             act.floats + (size_t)first * act.width, act.stride, act.width,
                             act.width, n_rows - first};
    return rows;
}

/* The same of n_in values from a multiple of 64 on, or of floats alone. */
static __device__ __forceinline__ struct cuda_rows part_of_rows(const struct cuda_rows &rows,
                                                                uint32_t first, uint32_t n_in)
{
    struct cuda_rows part = rows;
    part.halves += first;
    part.floats += first;
    part.n_in = n_in;
    return part;
}

/* The sums of a group as acc lays them out; of the two halves where each has its scale. */
template <int type> struct cuda_sums {
    static constexpr int n = has_scales_of_16<type> ? 2 : 1;
    float of[n][4];
};

/* A lane's part of a group of 8 rows: two words of operand B for each step. */
template <int type> struct cuda_x {
    uint4 words;
    uint4 rest;          /* of BF16 alone: words are the leading bits then */
    cuda_sums<type> sum; /* where there is a minimum */
};

/* A lane's eight halves of a group of a row: four of each step. */
template <int type>
static __device__ __forceinline__ uint4 load_x(const uint16_t *group)
{
    uint32_t c = lane_idx() % 4;
    if (!has_scales_of_16<type>)
        return *(const uint4 *)(group + 8 * c);
    uint2 first = *(const uint2 *)(group + 4 * c), second = *(const uint2 *)(group + 16 + 4 * c);
    return make_uint4(first.x, first.y, second.x, second.y);
}

/* Two halves of a row become their leading bits and the rest. */
static __device__ __forceinline__ void split_halves(uint32_t halves, uint32_t &word, uint32_t &rest)
{
    float low = float_of_half(halves & 0xffff), high = float_of_half(halves >> 16);
    float low_first = first_of_half(low), high_first = first_of_half(high);
    word = bfloats_of(low, high);
    rest = bfloats_of(__fadd_rn(low, -low_first), __fadd_rn(high, -high_first)); /* exact */
}

/* What multiply_group wants of the halves that load_x has brought. */
template <int type>
static __device__ __forceinline__ cuda_x<type> prepare_x(const uint4 &halves)
{
    cuda_x<type> x = {};
    x.words = halves;
    if constexpr (type == TENSOR_BF16) {
        split_halves(halves.x, x.words.x, x.rest.x);
        split_halves(halves.y, x.words.y, x.rest.y);
        split_halves(halves.z, x.words.z, x.rest.z);
        split_halves(halves.w, x.words.w, x.rest.w);
    }
    if constexpr (cuda_scales<type>::has_minimum) {
        const uint32_t first[2] = {halves.x, halves.y}, second[2] = {halves.z, halves.w};
        const uint32_t ones[4] = {HALVES_ONE, HALVES_ONE, HALVES_ONE, HALVES_ONE};
        mma_f16(x.sum.of[0], ones, first);
        mma_f16(x.sum.of[cuda_sums<type>::n - 1], ones, second);
    }
    return x;
}

/* acc += the sums of a group times the scales of outputs r and r + 8. */
static __device__ __forceinline__ void add_scaled(float (&acc)[4], const float (&sum)[4],
                                                  float scale, float upper_scale)
{
    acc[0] = fmaf(scale, sum[0], acc[0]);
    acc[1] = fmaf(scale, sum[1], acc[1]);
    acc[2] = fmaf(upper_scale, sum[2], acc[2]);
    acc[3] = fmaf(upper_scale, sum[3], acc[3]);
}

/* One group of 32 inputs: acc += weights x rows. */
template <int type>
static __device__ __forceinline__ void multiply_group(float (&acc)[4], const uint32_t (&a)[2][4],
                                                      const cuda_x<type> &x,
                                                      const cuda_scales<type> &scales, int group)
{
    const uint32_t first[2] = {x.words.x, x.words.y}, second[2] = {x.words.z, x.words.w};
    if (type == TENSOR_F16) {
        mma_f16(acc, a[0], first);
        mma_f16(acc, a[1], second);
        return;
    }
    if (type == TENSOR_BF16) {
        const uint32_t first_rest[2] = {x.rest.x, x.rest.y}, second_rest[2] = {x.rest.z, x.rest.w};
        mma_bf16(acc, a[0], first);
        mma_bf16(acc, a[0], first_rest);
        mma_bf16(acc, a[1], second);
        mma_bf16(acc, a[1], second_rest);
        return;
    }
    constexpr int n = cuda_sums<type>::n;
    cuda_sums<type> sum = {};
    mma_f16(sum.of[0], a[0], first);
    mma_f16(sum.of[n - 1], a[1], second);
#pragma unroll
    for (int half = 0; half < n; half++)
        add_scaled(acc, sum.of[half], scale_of<type>(scales, 2 * group, half),
                   scale_of<type>(scales, 2 * group + 1, half));
    if constexpr (cuda_scales<type>::has_minimum) {
#pragma unroll
        for (int half = 0; half < n; half++)
            add_scaled(acc, x.sum.of[half], scale_of<type>(scales, 2 * group, n + half),
                       scale_of<type>(scales, 2 * group + 1, n + half));
    }
}

/* Tiles begin .. end - 1 of a stripe of tiles, with rows straight from global memory. */
template <int type, int row_tiles>
static __device__ __forceinline__ void multiply_halves(float (&acc)[row_tiles][4],
                                                       const uint8_t *codes, const uint8_t *scales,
                                                       const struct cuda_rows &rows, uint32_t begin,
                                                       uint32_t end)
{
    /* tiles under way together, as many as leave room for three blocks of eight rows */
    constexpr int depth = type == CUDA_PLANE_HALVES                        ? 1
                          : is_16_bits<type> || type == CUDA_PLANE_NIBBLES ? 2
                                                                           : 4;
    constexpr uint32_t tile_bytes = cuda_codes<type>::n_loads * CUDA_LOAD_BYTES;
    constexpr uint32_t scale_bytes = cuda_scales<type>::tile_bytes;
    uint32_t r = lane_idx() / 4;
    for (uint32_t first = begin; first < end; first += depth) {
        cuda_codes<type> tile[depth];
        cuda_scales<type> scale[depth];
#pragma unroll
        for (int i = 0; i < depth; i++) {
            uint32_t at = min(first + (uint32_t)i, end - 1);
            load_codes<type>(tile[i], codes + (size_t)at * tile_bytes);
            load_scales<type>(scale[i], scales + (size_t)at * scale_bytes);
        }
#pragma unroll
        for (int i = 0; i < depth; i++) {
            if (first + i >= end) /* all lanes alike */
                break;
#pragma unroll
            for (int group = 0; group < 2; group++) {
                uint32_t a[2][4];
                fragment_of<type>(a[0], tile[i], 2 * group);
                fragment_of<type>(a[1], tile[i], 2 * group + 1);
                size_t at = (size_t)(first + i) * CUDA_TILE_INPUTS + group * CUDA_GROUP_INPUTS;
#pragma unroll
                for (int t = 0; t < row_tiles; t++) {
                    uint32_t row = 8 * t + r;
                    uint4 halves = make_uint4(0, 0, 0, 0);
                    if (row < rows.n)
                        halves = load_x<type>(rows.halves + (size_t)row * rows.stride + at);
                    multiply_group<type>(acc[t], a, prepare_x<type>(halves), scale[i], group);
                }
            }
        }
    }
}

/* The same of an F32 matrix. */
template <int row_tiles>
static __device__ __forceinline__ void multiply_floats(float (&acc)[row_tiles][4],
                                                       const uint8_t *codes,
                                                       const struct cuda_rows &rows, uint32_t begin,
                                                       uint32_t end)
{
    const float *weights = (const float *)codes;
    uint32_t r = lane_idx() / 4, c = lane_idx() % 4;
    uint32_t n = min(end * CUDA_TILE_INPUTS, rows.n_in);
    for (uint32_t k = begin * CUDA_TILE_INPUTS; k < n; k++) {
        const float *quad = weights + (size_t)(k / 4) * CUDA_TILE_OUTPUTS * 4 + k % 4;
        float w = quad[4 * r], upper_w = quad[4 * (r + 8)];
#pragma unroll
        for (int t = 0; t < row_tiles; t++) {
#pragma unroll
            for (uint32_t i = 0; i < 2; i++) {
                uint32_t row = 8 * t + 2 * c + i;
                float x = row < rows.n ? rows.floats[(size_t)row * rows.width + k] : 0.0f;
                acc[t][i] = fmaf(w, x, acc[t][i]);
                acc[t][i + 2] = fmaf(upper_w, x, acc[t][i + 2]);
            }
        }
    }
}

/* Part `part` of CUDA_PARTS of tile `tile_idx` of the segment; acc starts from zero. */
template <int row_tiles>
static __device__ __forceinline__ void multiply_part(float (&acc)[row_tiles][4],
                                                     const struct cuda_segment &segment,
                                                     uint32_t tile_idx, uint32_t n_in_tiles,
                                                     const struct cuda_rows &rows, uint32_t part)
{
    uint32_t begin = (uint32_t)((uint64_t)n_in_tiles * part / CUDA_PARTS);
    uint32_t end = (uint32_t)((uint64_t)n_in_tiles * (part + 1) / CUDA_PARTS);
    size_t first = (size_t)tile_idx * n_in_tiles;
    const uint8_t *codes = segment.codes + first * cuda_tile_bytes(segment.type);
    const uint8_t *scales = segment.scales + first * cuda_tile_scale_bytes(segment.type);
#pragma unroll
    for (int t = 0; t < row_tiles; t++)
        acc[t][0] = acc[t][1] = acc[t][2] = acc[t][3] = 0.0f;
    switch (segment.type) { /* all threads alike */
    case TENSOR_F32:
        multiply_floats<row_tiles>(acc, codes, rows, begin, end);
        break;
    case TENSOR_F16:
        multiply_halves<TENSOR_F16, row_tiles>(acc, codes, scales, rows, begin, end);
        break;
    case TENSOR_BF16:
        multiply_halves<TENSOR_BF16, row_tiles>(acc, codes, scales, rows, begin, end);
        break;
    case TENSOR_Q4_0:
        multiply_halves<TENSOR_Q4_0, row_tiles>(acc, codes, scales, rows, begin, end);
        break;
    case TENSOR_Q4_1:
        multiply_halves<TENSOR_Q4_1, row_tiles>(acc, codes, scales, rows, begin, end);
        break;
    case TENSOR_Q8_0:
        multiply_halves<TENSOR_Q8_0, row_tiles>(acc, codes, scales, rows, begin, end);
        break;
    case CUDA_PLANE_BYTES:
        multiply_halves<CUDA_PLANE_BYTES, row_tiles>(acc, codes, scales, rows, begin, end);
        break;
    case CUDA_PLANE_NIBBLES:
        multiply_halves<CUDA_PLANE_NIBBLES, row_tiles>(acc, codes, scales, rows, begin, end);
        break;
    case CUDA_PLANE_HALVES:
        multiply_halves<CUDA_PLANE_HALVES, row_tiles>(acc, codes, scales, rows, begin, end);
        break;
    case CUDA_PLANE_SIXTEENS:
        multiply_halves<CUDA_PLANE_SIXTEENS, row_tiles>(acc, codes, scales, rows, begin, end);
        break;
    }
}

/* --- the parts of one tile, from all warps of a block --- */

#define CUDA_PARTS_PITCH 20 /* floats; the lanes of a warp store to different banks */

template <int row_tiles> struct cuda_parts {
    float of[CUDA_PARTS][8 * row_tiles][CUDA_PARTS_PITCH]; /* [part][row][output] */
};

template <int row_tiles>
static __device__ __forceinline__ void store_part(cuda_parts<row_tiles> &parts, uint32_t part,
                                                  const float (&acc)[row_tiles][4])
{
    uint32_t r = lane_idx() / 4, c = lane_idx() % 4;
#pragma unroll
    for (int t = 0; t < row_tiles; t++) {
        uint32_t row = 8 * t + 2 * c;
        parts.of[part][row][r] = acc[t][0];
        parts.of[part][row + 1][r] = acc[t][1];
        parts.of[part][row][r + 8] = acc[t][2];
        parts.of[part][row + 1][r + 8] = acc[t][3];
    }
}

/* The whole chain of one output: parts in order, then the row's scale. */
template <int row_tiles>
static __device__ __forceinline__ float sum_of_parts(const cuda_parts<row_tiles> &parts,
                                                     uint32_t row, uint32_t output,
                                                     const struct cuda_segment &segment,
                                                     const struct cuda_rows &rows)
{
    float sum = 0.0f;
    for (uint32_t part = 0; part < CUDA_PARTS; part++)
        sum = __fadd_rn(sum, parts.of[part][row][output]);
    return segment.type == TENSOR_F32 ? sum : __fmul_rn(sum, rows.scales[row]);
}

#endif
