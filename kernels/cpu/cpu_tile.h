/* kernels/cpu/cpu_tile.h: one tile (16 rows of a weight, all of k) in memory.
 *
 *   tile       front: scales of all blocks (Q4_0 and its like), padded to 64 bytes
 *              then groups: head | block | ... | block      K types and IQ4_XS: 8 blocks of 32
 *                           block                           others: 1, without a head
 *
 *   type       front   head                           block
 *   Q4_0 IQ4_NL d                                     nibbles 256
 *   MXFP4      e                                      nibbles 256
 *   Q5_0       d                                      nibbles 256 | bits 64
 *   Q8_0       d                                      bytes 512
 *   Q4_1                                              nibbles 256 | d | m
 *   Q5_1                                              nibbles 256 | bits 64 | d | m
 *   Q4_K               d | dmin | 8 x (scale, min)    nibbles 256
 *   Q5_K               d | dmin | 8 x (scale, min)    nibbles 256 | bits 64
 *   IQ4_XS             d | 32   | 8 x scale           nibbles 256
 *   Q6_K               d | 32   | 8 x 2 scales        nibbles 256 | twos 128
 *   Q3_K               d | 32   | 8 x 2 scales        twos 128 | bits 64
 *   Q2_K               d | dmin | 8 x 2 (scale, min)  twos 128
 *
 * d, m and dmin are 16 f16, one a row; e and each scale 16 bytes, the file's fields widened (of
 * Q2_K low nibble the scale, high nibble the minimum). Byte 4r + j of a line of 64 holds row r:
 *   nibbles  line g 0..3: low half w[8g + j], high half w[8g + 4 + j]
 *   bytes    line g 0..7: w[4g + j] XOR 0x80
 *   twos     line p 0..1: bits 2q of w[16p + 4q + j]
 *   bits     bit g: the top bit of w[4g + j]
 * F32: n_in x 16 f32. F16, BF16: n_in x 16 halves, padded to 64 bytes. A tile is whole lines.
 */
#ifndef QUIRE_KERNELS_CPU_TILE_H
#define QUIRE_KERNELS_CPU_TILE_H

#include "kernels/cpu/cpu_panel.h"
#include "kernels/cpu/cpu_weight.h"
#include "kernels/tensor_block.h"

#define GROUP_BYTES 64
#define TILE_NIBBLES_BYTES 256
#define TILE_TWOS_BYTES 128
#define TILE_BITS_BYTES 64
#define TILE_BYTES_BYTES 512
#define TILE_SCALES_BYTES 32  /* 16 x f16 */
#define TILE_FIELD_BYTES 16   /* a byte a row */
#define TILE_HEAD_SCALES 64   /* d and dmin */

struct cpu_tile_layout {
    uint32_t front_bytes; /* of a block, in front of the tile */
    uint32_t head_bytes, field_bytes; /* of n_sub blocks; of one of them, within the head */
    uint32_t n_sub;
    uint32_t block_bytes;
};

/* Constant where the type is: kernels fold it. Types of integers only. */
static inline __attribute__((always_inline)) struct cpu_tile_layout
cpu_tile_layout(const uint32_t type)
{
    const uint32_t four = TILE_NIBBLES_BYTES, five = four + TILE_BITS_BYTES;
    const uint32_t two = TILE_TWOS_BYTES, d = TILE_SCALES_BYTES, field = TILE_FIELD_BYTES;
    switch (type) {
    case TENSOR_Q8_0:
        return (struct cpu_tile_layout){d, 0, 0, 1, TILE_BYTES_BYTES};
    case TENSOR_Q4_1:
        return (struct cpu_tile_layout){0, 0, 0, 1, four + 2 * d};
    case TENSOR_Q5_0:
        return (struct cpu_tile_layout){d, 0, 0, 1, five};
    case TENSOR_Q5_1:
        return (struct cpu_tile_layout){0, 0, 0, 1, five + 2 * d};
    case TENSOR_MXFP4:
        return (struct cpu_tile_layout){field, 0, 0, 1, four};
    case TENSOR_IQ4_XS:
        return (struct cpu_tile_layout){0, TILE_HEAD_SCALES + 8 * field, field, 8, four};
    case TENSOR_Q4_K:
        return (struct cpu_tile_layout){0, TILE_HEAD_SCALES + 16 * field, 2 * field, 8, four};
    case TENSOR_Q5_K:
        return (struct cpu_tile_layout){0, TILE_HEAD_SCALES + 16 * field, 2 * field, 8, five};
    case TENSOR_Q6_K:
        return (struct cpu_tile_layout){0, TILE_HEAD_SCALES + 16 * field, 2 * field, 8, four + two};
    case TENSOR_Q3_K:
        return (struct cpu_tile_layout){0, TILE_HEAD_SCALES + 16 * field, 2 * field, 8,
                                        two + TILE_BITS_BYTES};
    case TENSOR_Q2_K:
        return (struct cpu_tile_layout){0, TILE_HEAD_SCALES + 16 * field, 2 * field, 8, two};
    default: /* Q4_0, IQ4_NL */
        return (struct cpu_tile_layout){d, 0, 0, 1, four};
    }
}

struct cpu_tile_place { /* block b of a tile of integers */
    const uint8_t *block, *front, *head, *field; /* head and field: of types that have them */
};

static inline __attribute__((always_inline)) struct cpu_tile_place
cpu_tile_place(const uint32_t type, const uint8_t *tile, uint32_t n_in, size_t b)
{
    const struct cpu_tile_layout layout = cpu_tile_layout(type);
    size_t front = (size_t)n_in / BLOCK_VALUES * layout.front_bytes;
    size_t group_bytes = layout.head_bytes + (size_t)layout.n_sub * layout.block_bytes;
    const uint8_t *head = tile + (front + 63) / 64 * 64 + b / layout.n_sub * group_bytes;
    return (struct cpu_tile_place){
        .block = head + layout.head_bytes + b % layout.n_sub * layout.block_bytes,
        .front = tile + b * layout.front_bytes,
        .head = head,
        .field = head + TILE_HEAD_SCALES + b % layout.n_sub * layout.field_bytes,
    };
}

/* Whether weights of this type multiply f32 rows (ACT_FLOATS) under these activations, and not
 * panels (ACT_BLOCKS). */
static inline bool cpu_tile_wants_floats(uint32_t type, enum activations activations)
{
    return tensor_type_is_float(type) || activations == ACTIVATIONS_F32;
}

uint64_t cpu_tile_bytes(uint32_t type, uint32_t n_in); /* whole lines */

/* Repacks n_rows <= 16 rows that stand row_bytes apart in the file's form. `tile` is zeroed. */
void cpu_tile_repack(uint32_t type, uint32_t n_in, const uint8_t *rows, uint32_t n_rows,
                     uint8_t *tile);

/* One row of one block, as the file has it and exactly; integer types only. */
void cpu_tile_read_block(uint32_t type, uint32_t n_in, const uint8_t *tile, uint32_t row,
                         uint32_t block_idx, struct tensor_block *out);
void cpu_tile_read(uint32_t type, uint32_t n_in, const uint8_t *tile, uint32_t row,
                   uint32_t block_idx, struct tensor_values *out);
/* The exact f32 values of one row of one block (fewer than 32 at the end of a float row), as
 * tensor_type_row_to_f32 gives them from the file. */
void cpu_tile_block_to_f32(uint32_t type, uint32_t n_in, const uint8_t *tile, uint32_t row,
                           uint32_t block_idx, float *out);

#endif
