/* kernels/cuda/cuda_weight.h: matrices on a GPU, in the order in which lanes multiply them.
 *
 *   segment   a source: codes  [n_tiles][n_in_tiles][tile_bytes]        tiles of 16 outputs x 64
 *                       scales [n_tiles][n_in_tiles][scale_bytes]       inputs; zeros beyond both
 *
 * In a tile stands, for each lane of a warp, what m16n8k16 wants of its operand A, 16 bytes a load:
 *   lane l = 4 r + c   outputs r and r + 8, of each group of 32 inputs those from 8 c to 8 c + 7
 *   step               two a group: of those 8 inputs the first four, the last four; in HALVES a
 *                      step is 16 inputs as they follow one another, of which lane l has from 4 c
 *                      on; likewise in SIXTEENS
 *   register i         output r + 8 (i % 2), inputs 2 (i / 2) and the next one of the four
 * Any order of the inputs is allowed under one scale, if activations take the same: here a lane's
 * eight stand side by side in the row, a load of 16 bytes too (of those two planes two of 8).
 *
 *   4 bits   [lane][step 4] words; nibble i is register i's first value, nibble i + 4 its second
 *   8 bits   [group 2][lane][step 2][register 4][2] bytes, code + 128
 *   f16      [step 4][lane][register 4][2] halves; bf16 likewise
 *   f32      [inputs / 4][output 16][4] floats, for f32 multiplication
 *   scales   [r 8][group 2][output r, r + 8]: f16; Q4_1: pairs (d, m) of f16; NIBBLES: of f32;
 *            BYTES: f32; HALVES: f32 (d, d, m, m) of the first 16 inputs and the others; SIXTEENS:
 *            an f16 and for each 16 a byte, small scale + 128, whose product is their d
 *
 * The planes of a type hold the numbers of tensor_block.h exactly (bits a weight, scales counted):
 *   F32 (32)      F32                          BYTES (9)     IQ4_XS, MXFP4
 *   F16, BF16 (16)                             NIBBLES (6)   Q4_K
 *   Q4_0 (4.5)    Q4_0                         HALVES (12)   Q5_1, Q5_K, Q2_K
 *   Q4_1 (5)      Q4_1                         SIXTEENS (9)  Q6_K
 *   Q8_0 (8.5)    Q8_0, Q5_0, Q3_K, IQ4_NL: a signed byte under one f16
 *
 * Experts stand one behind the other, expert_bytes apart, each laid out as a weight of its own.
 * Sums along k are taken in CUDA_PARTS parts of whole tiles, which are added in order: a fixed
 * split for a matrix, whatever the rows and the chip.
 */
#ifndef QUIRE_KERNELS_CUDA_WEIGHT_H
#define QUIRE_KERNELS_CUDA_WEIGHT_H

#include "kernels/host_device.h"
#include "kernels/ops.h"
#include "kernels/tensor_type.h"

#define CUDA_TILE_OUTPUTS 16
#define CUDA_TILE_INPUTS 64
#define CUDA_TILE_STEPS 4 /* of 16 inputs */
#define CUDA_GROUP_INPUTS 32 /* under one scale */
#define CUDA_PLANE_ALIGNMENT 256 /* of codes, and of scales */
#define CUDA_LANE_BYTES 16 /* of one load ... */
#define CUDA_LOAD_BYTES 512 /* ... and of the whole warp */
#define CUDA_PARTS 8
#define CUDA_SEGMENTS_MAX 3

enum cuda_plane { /* those of a type's own name count as it does */
    CUDA_PLANE_BYTES = TENSOR_TYPES,
    CUDA_PLANE_NIBBLES,
    CUDA_PLANE_HALVES,
    CUDA_PLANE_SIXTEENS,
};

/* enum tensor_type or cuda_plane: how a matrix of this type stands on the device. */
HOST_DEVICE uint32_t cuda_plane_of(uint32_t type)
{
    switch (type) {
    case TENSOR_F32:
    case TENSOR_F16:
    case TENSOR_BF16:
    case TENSOR_Q4_0:
    case TENSOR_Q4_1:
        return type;
    case TENSOR_Q8_0:
    case TENSOR_Q5_0:
    case TENSOR_Q3_K:
    case TENSOR_IQ4_NL:
        return TENSOR_Q8_0;
    case TENSOR_Q4_K:
        return CUDA_PLANE_NIBBLES;
    case TENSOR_Q5_1:
    case TENSOR_Q5_K:
    case TENSOR_Q2_K:
        return CUDA_PLANE_HALVES;
    case TENSOR_Q6_K:
        return CUDA_PLANE_SIXTEENS;
    default:
        return CUDA_PLANE_BYTES;
    }
}

struct cuda_segment {
    uint32_t type;                  /* as cuda_plane_of gives it */
    uint32_t n_out, n_tiles;
    uint32_t first_tile, first_out; /* among those of the whole weight; 0 for gate and up */
    const uint8_t *codes;           /* device */
    const uint8_t *scales;          /* device; NULL for types without */
};

struct weight { /* of CUDA; read-only after load */
    enum weight_fuse fuse;
    uint32_t n_in, n_out; /* as weight_info gives them */
    uint32_t n_in_tiles;  /* ceil(n_in / 64) */
    uint32_t n_tiles;     /* of all segments, of one expert */
    uint32_t n_segments;
    uint32_t act_forms;
    uint32_t n_experts;   /* 0: none; then expert_bytes are all */
    size_t expert_bytes;
    size_t bytes;
    uint8_t *memory;      /* device, one allocation */
    struct cuda_segment segments[CUDA_SEGMENTS_MAX]; /* of the first expert */
};

/* The same matrix of another expert. */
HOST_DEVICE struct cuda_segment cuda_segment_of_expert(const struct weight *weight,
                                                       uint32_t segment_idx, uint32_t expert_idx)
{
    struct cuda_segment segment = weight->segments[segment_idx];
    segment.codes += expert_idx * weight->expert_bytes;
    if (segment.scales != NULL)
        segment.scales += expert_idx * weight->expert_bytes;
    return segment;
}

/* Bytes of codes and of scales in a tile of a plane. */
HOST_DEVICE uint32_t cuda_tile_bytes(uint32_t type)
{
    uint32_t values = CUDA_TILE_OUTPUTS * CUDA_TILE_INPUTS;
    switch (type) {
    case TENSOR_F32:
        return 4 * values;
    case TENSOR_F16:
    case TENSOR_BF16:
        return 2 * values;
    case TENSOR_Q8_0:
    case CUDA_PLANE_BYTES:
    case CUDA_PLANE_HALVES:
    case CUDA_PLANE_SIXTEENS:
        return values;
    default:
        return values / 2;
    }
}

HOST_DEVICE bool cuda_scales_are_floats(uint32_t type)
{
    return type == CUDA_PLANE_BYTES || type == CUDA_PLANE_NIBBLES || type == CUDA_PLANE_HALVES;
}

HOST_DEVICE uint32_t cuda_tile_scale_bytes(uint32_t type)
{
    uint32_t n_scales = CUDA_TILE_OUTPUTS * (CUDA_TILE_INPUTS / CUDA_GROUP_INPUTS);
    switch (type) {
    case TENSOR_F32:
    case TENSOR_F16:
    case TENSOR_BF16:
        return 0;
    case TENSOR_Q4_1:
    case CUDA_PLANE_BYTES:
    case CUDA_PLANE_SIXTEENS:
        return 4 * n_scales;
    case CUDA_PLANE_NIBBLES:
        return 8 * n_scales;
    case CUDA_PLANE_HALVES:
        return 16 * n_scales;
    default:
        return 2 * n_scales;
    }
}

/* Where the first of four neighbours along the inputs stands, which are one lane's values of one
 * step: registers (output / 8) and (output / 8) + 2. `input` is a multiple of 4 within the tile. */
struct cuda_quad {
    uint32_t lane, step;
    uint32_t upper; /* 0: outputs 0-7, 1: 8-15 */
};

HOST_DEVICE struct cuda_quad cuda_quad_of(uint32_t plane, uint32_t output, uint32_t input)
{
    bool by_16 = plane == CUDA_PLANE_HALVES || plane == CUDA_PLANE_SIXTEENS;
    struct cuda_quad quad;
    quad.lane = output % 8 * 4 + (by_16 ? input % 16 / 4 : input % CUDA_GROUP_INPUTS / 8);
    quad.step = by_16 ? input / 16 : input / CUDA_GROUP_INPUTS * 2 + input % 8 / 4;
    quad.upper = output / 8;
    return quad;
}

/* The index of a scale (or pair) of a tile. */
HOST_DEVICE uint32_t cuda_scale_idx(uint32_t output, uint32_t group)
{
    return output % 8 * 4 + group * 2 + output / 8;
}

/* Writes n_in_tiles tiles of codes and scales; `rows` are 1 to 16 rows of the source. */
void cuda_repack(const struct weight_source *source, const uint8_t *rows, uint32_t n_rows,
                 uint8_t *codes, uint8_t *scales);

/* Sizes and places, without memory: codes and scales count from zero. STATUS_UNSUPPORTED,
 * STATUS_INVALID, STATUS_TOO_LARGE. */
int cuda_weight_plan(enum weight_fuse fuse, const struct weight_source *sources, uint32_t n_sources,
                     struct weight *out, struct why *why);
/* Once: weight->bytes of device memory, aligned to 256; the segments' places become addresses. */
void cuda_weight_place(struct weight *weight, void *memory);

int cuda_weight_load(struct device *device, enum weight_fuse fuse,
                     const struct weight_source *sources, uint32_t n_sources, uint32_t rank,
                     uint32_t n_ranks, struct weight **out, struct why *why);
void cuda_weight_free(struct device *device, struct weight *weight);
struct weight_info cuda_weight_info(const struct weight *weight);

#endif
