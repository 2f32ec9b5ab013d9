/* kernels/cpu/cpu_tile.h: one tile (16 rows of a weight, all of k) in memory, and the inner kernels
 * that multiply it.
 *
 *   Q4_1   n_blocks x 320: four nibble groups of 64 bytes | d 16 x f16 | m 16 x f16
 *   Q4_0   d: n_blocks x 16 f16, padded to 64 bytes | n_blocks x 256: four nibble groups
 *   Q8_0   d: n_blocks x 16 f16, padded to 64 bytes | n_blocks x 512: eight byte groups
 *   F32    n_in x 16 f32          F16    n_in x 16 f16, padded to 64 bytes
 *
 * Byte 4r + j of a group holds row r. Nibble group g: low half w[8g + j], high half w[8g + 4 + j].
 * Byte group g: w[4g + j] XOR 0x80. A tile is a whole number of 64-byte lines.
 *
 * A kernel continues the chains of m rows over blocks [begin, end): what stands in acc before and
 * after are the same floats whether k was cut or not, so chunks, panel groups and workers never
 * show in a result.
 */
#ifndef QUIRE_KERNELS_CPU_TILE_H
#define QUIRE_KERNELS_CPU_TILE_H

#include "kernels/cpu/cpu_panel.h"
#include "kernels/cpu/cpu_weight.h"
#include "kernels/tensor_type.h"

#define GROUP_BYTES 64
#define TILE_Q4_BYTES 256 /* nibbles of one block */
#define TILE_Q4_1_BYTES 320
#define TILE_Q8_BYTES 512
#define TILE_SCALES_BYTES 32 /* 16 x f16 */

/* Whether weights of this type multiply f32 rows (ACT_FLOATS) under these activations, and not
 * panels (ACT_BLOCKS). */
static inline bool cpu_tile_wants_floats(uint32_t type, enum activations activations)
{
    return type == TENSOR_F32 || type == TENSOR_F16 || activations == ACTIVATIONS_F32;
}

/* Bytes of one block of 32 values in the main area of a tile (floats: of 32 values of k). */
size_t cpu_tile_block_bytes(uint32_t type);
/* Bytes of the scales that stand in front of a tile; 0 for types that have none there. */
static inline size_t cpu_tile_front_bytes(uint32_t type, uint32_t n_in)
{
    if (type != TENSOR_Q4_0 && type != TENSOR_Q8_0)
        return 0;
    size_t bytes = (size_t)n_in / BLOCK_VALUES * TILE_SCALES_BYTES;
    return (bytes + 63) / 64 * 64;
}
uint64_t cpu_tile_bytes(uint32_t type, uint32_t n_in); /* whole lines */

/* Repacks n_rows <= 16 rows that stand row_bytes apart in the file's form. `tile` is zeroed. */
void cpu_tile_repack(uint32_t type, uint32_t n_in, const uint8_t *rows, uint32_t n_rows,
                     uint8_t *tile);

struct cpu_tile_values {            /* one row of one block, exactly; integer types only */
    int16_t w[BLOCK_VALUES];        /* offsets applied: Q4_0 n - 8, Q4_1 n, Q8_0 q */
    float d, m;                     /* value = d * w + m */
};
void cpu_tile_read(uint32_t type, uint32_t n_in, const uint8_t *tile, uint32_t row,
                   uint32_t block_idx, struct cpu_tile_values *out);
/* The exact f32 values of one row of one block (fewer than 32 at the end of a float row), as
 * tensor_type_row_to_f32 gives them from the file. */
void cpu_tile_block_to_f32(uint32_t type, uint32_t n_in, const uint8_t *tile, uint32_t row,
                           uint32_t block_idx, float *out);

struct cpu_tile_span {
    const uint8_t *tile;
    uint32_t n_in;
    uint32_t m;            /* rows, 1..12 */
    uint32_t begin, end;   /* blocks of 32 values; the last one of a float weight may be partial */
    const void *rows;      /* the panel group of the m rows; or their f32 rows [m, n_in] */
    size_t prefetch_bytes; /* how far ahead of the weights to prefetch; 0: they are in cache */
    float *acc;            /* [m, 16], 64-byte aligned */
};

typedef void cpu_tile_multiply(const struct cpu_tile_span *span);

/* The kernel for m rows (1..12) of these activations. Equal to the bit for every isa. */
cpu_tile_multiply *cpu_tile_kernel(enum isa isa, uint32_t type, enum activations activations,
                                   uint32_t m);

/* out[i] = silu(gate[i]) * up[i], 16 values. */
typedef void cpu_tile_glu(const float *gate, const float *up, float *out);
cpu_tile_glu *cpu_tile_glu_kernel(enum isa isa);

/* The forms behind them; the scalar one is the definition (cpu_tile.c). `forms` are indexed by
 * cpu_tile_slot. */
#define TILE_SLOTS 5
static inline int cpu_tile_slot(uint32_t type)
{
    switch (type) {
    case TENSOR_F32:
        return 0;
    case TENSOR_F16:
        return 1;
    case TENSOR_Q4_0:
        return 2;
    case TENSOR_Q4_1:
        return 3;
    default:
        return 4;
    }
}
extern cpu_tile_multiply *const cpu_linear_avx2[TILE_SLOTS][3][PANEL_ROWS];
extern cpu_tile_multiply *const cpu_linear_avx512[TILE_SLOTS][3][PANEL_ROWS];
cpu_tile_glu cpu_glu_avx2, cpu_glu_avx512;

#endif
