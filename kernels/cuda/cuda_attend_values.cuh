/* kernels/cuda/cuda_attend_values.cuh: one page of f16 values by mma: S = q K' by k16 steps, dims
 * ascending, then P V by k16 steps, tokens ascending.
 */
#ifndef QUIRE_KERNELS_CUDA_ATTEND_VALUES_CUH
#define QUIRE_KERNELS_CUDA_ATTEND_VALUES_CUH

#include "kernels/cuda/cuda_attend_tile.cuh"

/* s = scores of the page's 64 tokens, in units of log2. */
template <int dim>
static __device__ __forceinline__ void score(const struct attend_run &run,
                                             const uint32_t (&q)[dim / 16][4],
                                             const plane<dim> &k_plane,
                                             const struct tile_rows &rows,
                                             float (&s)[TOKEN_TILES][4])
{
#pragma unroll
    for (int n = 0; n < TOKEN_TILES; n++)
#pragma unroll
        for (int i = 0; i < 4; i++)
            s[n][i] = 0.0f;
    uint32_t token = lane_idx() / 16 * 8 + lane_idx() % 8, column = lane_idx() / 8 % 2 * CHUNK;
#pragma unroll
    for (int k = 0; k < dim / 16; k++)
#pragma unroll
        for (int n = 0; n < TOKEN_TILES; n += 2) {
            uint32_t pair[4];
            ldmatrix_x4(pair, &k_plane[(uint32_t)n * 8 + token][(uint32_t)k * 16 + column]);
            uint32_t left[2] = {pair[0], pair[1]}, right[2] = {pair[2], pair[3]};
            mma_f16(s[n], q[k], left);
            mma_f16(s[n + 1], q[k], right);
        }
    const float scale[2] = {q_scale_of(run, rows, 0), q_scale_of(run, rows, 1)};
#pragma unroll
    for (int n = 0; n < TOKEN_TILES; n++)
#pragma unroll
        for (int i = 0; i < 4; i++)
            s[n][i] = __fmul_rn(s[n][i], scale[i / 2]);
}

/* o = o * c + P V, values from `column` on. */
template <int dim, int n_tiles>
static __device__ __forceinline__ void add_values(const float (&p)[TOKEN_TILES][4],
                                                  const float (&c)[2], const plane<dim> &v_plane,
                                                  uint32_t column, float (&o)[n_tiles][4])
{
#pragma unroll
    for (int n = 0; n < n_tiles; n++)
#pragma unroll
        for (int i = 0; i < 4; i++)
            o[n][i] = __fmul_rn(o[n][i], c[i / 2]);
#pragma unroll
    for (int k = 0; k < PAGE_TOKENS / 16; k++) {
        uint32_t a[4] = {pack(p[2 * k][0], p[2 * k][1]), pack(p[2 * k][2], p[2 * k][3]),
                         pack(p[2 * k + 1][0], p[2 * k + 1][1]),
                         pack(p[2 * k + 1][2], p[2 * k + 1][3])};
#pragma unroll
        for (int n = 0; n < n_tiles; n += 2) {
            uint32_t pair[4];
            ldmatrix_x4_trans(pair, &v_plane[(uint32_t)k * 16 + lane_idx() % 16]
                                            [column + ((uint32_t)n + lane_idx() / 16) * CHUNK]);
            uint32_t left[2] = {pair[0], pair[1]}, right[2] = {pair[2], pair[3]};
            mma_f16(o[n], a, left);
            mma_f16(o[n + 1], a, right);
        }
    }
}

#endif
