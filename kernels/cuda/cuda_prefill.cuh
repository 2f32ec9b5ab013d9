/* kernels/cuda/cuda_prefill.cuh: the product of a block of tiles with many rows, to the bit what
 * multiply_part and sum_of_parts of cuda_tile.cuh give for each row.
 *
 *   block   8 tiles of outputs x 64 rows; a ring of stages of 64 inputs, filled by cp.async
 *   warp    2 of the tiles x 32 rows (4 row tiles); acc of the part that it is in, and the total of
 *           the parts before
 *
 *   stage   codes   [tile 8][load][lane]      as they stand in global memory
 *           scales  [tile 8]
 *           x       [group 2][row 64][8 halves of each lane]    16 bytes a lane, no bank twice
 */
#ifndef QUIRE_KERNELS_CUDA_PREFILL_CUH
#define QUIRE_KERNELS_CUDA_PREFILL_CUH

#include "kernels/cuda/cuda_tile.cuh"

#define PREFILL_TILES 8
#define PREFILL_ROWS 64
#define PREFILL_WARPS 8
#define PREFILL_THREADS (PREFILL_WARPS * WARP_LANES)
#define PREFILL_STAGES 3
#define PREFILL_ROW_TILES 4 /* of a warp */

template <int type> struct prefill_stage {
    uint4 codes[PREFILL_TILES][cuda_codes<type>::n_loads][WARP_LANES];
    uint4 scales[PREFILL_TILES][is_16_bits<type> ? 4 : cuda_scales<type>::tile_bytes / 16];
    uint4 x[2][PREFILL_ROWS][4];
};

template <int type> struct prefill_ring {
    prefill_stage<type> stages[PREFILL_STAGES];
};

/* Tile i of the block: with one matrix its tile first + i, with two the tile first + i / 2 of the
 * matrix i % 2. Beyond the last tile stands the last one again. */
struct prefill_tiles {
    const struct cuda_segment *even, *odd; /* the same with one matrix */
    uint32_t first, n_in_tiles;
};

static __device__ __forceinline__ const struct cuda_segment *
prefill_segment(const struct prefill_tiles &tiles, uint32_t i)
{
    return i % 2 == 0 ? tiles.even : tiles.odd;
}

static __device__ __forceinline__ uint32_t prefill_tile_idx(const struct prefill_tiles &tiles,
                                                            uint32_t i)
{
    return tiles.first + (tiles.even == tiles.odd ? i : i / 2);
}

/* Starts the copies of tile `at` along the inputs. */
template <int type>
static __device__ __forceinline__ void prefill_bring(prefill_stage<type> &stage,
                                                     const struct prefill_tiles &tiles,
                                                     const struct cuda_rows &rows, uint32_t at)
{
    constexpr uint32_t n_codes = cuda_codes<type>::n_loads * WARP_LANES;
    for (uint32_t i = threadIdx.x; i < PREFILL_TILES * n_codes; i += PREFILL_THREADS) {
        const struct cuda_segment *segment = prefill_segment(tiles, i / n_codes);
        uint32_t tile_idx = min(prefill_tile_idx(tiles, i / n_codes), segment->n_tiles - 1);
        const uint4 *from = (const uint4 *)segment->codes;
        from += ((size_t)tile_idx * tiles.n_in_tiles + at) * n_codes + i % n_codes;
        cp_async_16(&stage.codes[0][0][0] + i, from);
    }
    constexpr uint32_t n_scales = sizeof stage.scales[0] / sizeof(uint4);
    static_assert(PREFILL_TILES * n_scales <= PREFILL_THREADS, "a thread brings one line at most");
    if (!is_16_bits<type> && threadIdx.x < PREFILL_TILES * n_scales) {
        uint32_t i = threadIdx.x;
        const struct cuda_segment *segment = prefill_segment(tiles, i / n_scales);
        uint32_t tile_idx = min(prefill_tile_idx(tiles, i / n_scales), segment->n_tiles - 1);
        const uint4 *from = (const uint4 *)segment->scales;
        from += ((size_t)tile_idx * tiles.n_in_tiles + at) * n_scales + i % n_scales;
        cp_async_16(&stage.scales[0][0] + i, from);
    }
    for (uint32_t i = threadIdx.x; i < PREFILL_ROWS * 8; i += PREFILL_THREADS) {
        uint32_t row = i / 8, group = i % 8 / 4, c = i % 4;
        bool exists = row < rows.n;
        const uint16_t *from = rows.halves + (size_t)(exists ? row : 0) * rows.stride +
                               (size_t)at * CUDA_TILE_INPUTS + i % 8 * 8;
        cp_async_16(&stage.x[group][row][c], from, exists);
    }
}

/* acc += 64 inputs; the warp's tiles are first_tile and the next, its rows begin at first_row. */
template <int type>
static __device__ __forceinline__ void prefill_multiply(float (&acc)[2][PREFILL_ROW_TILES][4],
                                                        const prefill_stage<type> &stage,
                                                        uint32_t first_tile, uint32_t first_row)
{
    uint32_t r = lane_idx() / 4;
    cuda_codes<type> codes[2];
    cuda_scales<type> scales[2];
#pragma unroll
    for (int i = 0; i < 2; i++) {
        load_codes<type>(codes[i], (const uint8_t *)&stage.codes[first_tile + i]);
        load_scales<type>(scales[i], (const uint8_t *)&stage.scales[first_tile + i]);
    }
#pragma unroll
    for (int group = 0; group < 2; group++) {
        uint32_t a[2][2][4];
#pragma unroll
        for (int i = 0; i < 2; i++) {
            fragment_of<type>(a[i][0], codes[i], 2 * group);
            fragment_of<type>(a[i][1], codes[i], 2 * group + 1);
        }
#pragma unroll
        for (int t = 0; t < PREFILL_ROW_TILES; t++) {
            const uint4 *row = stage.x[group][first_row + 8 * t + r];
            cuda_x<type> x = prepare_x<type>(load_x<type>((const uint16_t *)row));
#pragma unroll
            for (int i = 0; i < 2; i++)
                multiply_group<type>(acc[i][t], a[i], x, scales[i], group);
        }
    }
}

static __device__ __forceinline__ void
prefill_end_part(float (&total)[2][PREFILL_ROW_TILES][4], float (&acc)[2][PREFILL_ROW_TILES][4])
{
#pragma unroll
    for (int i = 0; i < 2; i++)
#pragma unroll
        for (int t = 0; t < PREFILL_ROW_TILES; t++)
#pragma unroll
            for (int j = 0; j < 4; j++) {
                total[i][t][j] = __fadd_rn(total[i][t][j], acc[i][t][j]);
                acc[i][t][j] = 0.0f;
            }
}

/* The whole chains of the warp's two tiles and rows, before their scales. */
template <int type>
static __device__ __forceinline__ void prefill_chains(float (&total)[2][PREFILL_ROW_TILES][4],
                                                      prefill_ring<type> &ring,
                                                      const struct prefill_tiles &tiles,
                                                      const struct cuda_rows &rows)
{
    uint32_t first_tile = warp_idx() / 2 * 2, first_row = warp_idx() % 2 * 32;
    uint32_t n = tiles.n_in_tiles, part = 0, part_end = n / CUDA_PARTS;
    float acc[2][PREFILL_ROW_TILES][4];
#pragma unroll
    for (int i = 0; i < 2; i++)
#pragma unroll
        for (int t = 0; t < PREFILL_ROW_TILES; t++)
#pragma unroll
            for (int j = 0; j < 4; j++)
                total[i][t][j] = acc[i][t][j] = 0.0f;

    for (uint32_t at = 0; at < PREFILL_STAGES - 1; at++) {
        if (at < n)
            prefill_bring<type>(ring.stages[at], tiles, rows, at);
        cp_async_commit();
    }
    for (uint32_t at = 0; at < n; at++) {
        cp_async_wait<PREFILL_STAGES - 2>();
        __syncthreads(); /* this stage has come for all; the one before has been read by all */
        uint32_t next = at + PREFILL_STAGES - 1;
        if (next < n)
            prefill_bring<type>(ring.stages[next % PREFILL_STAGES], tiles, rows, next);
        cp_async_commit();

        for (; at >= part_end; part_end = (uint32_t)((uint64_t)n * (part + 1) / CUDA_PARTS)) {
            prefill_end_part(total, acc);
            part++;
        }
        prefill_multiply<type>(acc, ring.stages[at % PREFILL_STAGES], first_tile, first_row);
    }
    prefill_end_part(total, acc);
}

/* Where total[i][t][j] of a lane belongs: its row of the block, its output of the matrix. */
static __device__ __forceinline__ uint32_t prefill_row(int t, int j)
{
    return warp_idx() % 2 * 32 + 8 * t + lane_idx() % 4 * 2 + j % 2;
}

static __device__ __forceinline__ uint32_t prefill_output(const struct prefill_tiles &tiles, int i,
                                                          int j)
{
    uint32_t tile_idx = prefill_tile_idx(tiles, warp_idx() / 2 * 2 + i);
    return tile_idx * CUDA_TILE_OUTPUTS + lane_idx() / 4 + j / 2 * 8;
}

#endif
