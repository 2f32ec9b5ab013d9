#include "kernels/cuda/cuda_weight.h"
#include "kernels/tensor_block.h"

#include <assert.h>
#include <string.h>

/* Four neighbours of one row along the inputs, as the file has them. */
struct quad_codes {
    uint32_t code[4];
};

static void store16(uint8_t *to, uint32_t value)
{
    uint16_t half = (uint16_t)value;
    memcpy(to, &half, sizeof half);
}

static void store32(uint8_t *to, uint32_t value)
{
    memcpy(to, &value, sizeof value);
}

static void put_q4(struct cuda_quad at, struct quad_codes codes, uint8_t *tile)
{
    uint8_t *word = tile + at.lane * CUDA_LANE_BYTES + at.step * 4;
    uint32_t low = at.upper, high = at.upper + 2, nibbles;
    memcpy(&nibbles, word, sizeof nibbles);
    nibbles |= codes.code[0] << 4 * low | codes.code[1] << 4 * (low + 4) |
               codes.code[2] << 4 * high | codes.code[3] << 4 * (high + 4);
    store32(word, nibbles);
}

static void put_q8(struct cuda_quad at, struct quad_codes codes, uint8_t *tile)
{
    uint8_t *group = tile + at.step / 2 * CUDA_LOAD_BYTES + at.lane * CUDA_LANE_BYTES;
    uint8_t *registers = group + at.step % 2 * 8;
    store16(registers + at.upper * 2, codes.code[0] | codes.code[1] << 8);
    store16(registers + (at.upper + 2) * 2, codes.code[2] | codes.code[3] << 8);
}

static void put_16_bits(struct cuda_quad at, struct quad_codes codes, uint8_t *tile)
{
    uint8_t *registers = tile + at.step * CUDA_LOAD_BYTES + at.lane * CUDA_LANE_BYTES;
    store32(registers + at.upper * 4, codes.code[0] | codes.code[1] << 16);
    store32(registers + (at.upper + 2) * 4, codes.code[2] | codes.code[3] << 16);
}

static uint32_t load16(const uint8_t *from)
{
    uint16_t half;
    memcpy(&half, from, sizeof half);
    return half;
}

static void put_float(uint8_t *to, float value)
{
    memcpy(to, &value, sizeof value);
}

/* The scales of one output and group; block: as the file has them. */
static void put_scales(uint32_t plane, const struct tensor_block *block,
                       const struct tensor_values *values, uint32_t idx, uint8_t *scales)
{
    switch (plane) {
    case CUDA_PLANE_BYTES:
        put_float(scales + 4 * idx, values->d[0]);
        break;
    case CUDA_PLANE_NIBBLES:
        put_float(scales + 8 * idx, values->d[0]);
        put_float(scales + 8 * idx + 4, values->m[0]);
        break;
    case CUDA_PLANE_HALVES:
        for (uint32_t half = 0; half < 2; half++) {
            put_float(scales + 16 * idx + 4 * half, values->d[half]);
            put_float(scales + 16 * idx + 8 + 4 * half, values->m[half]);
        }
        break;
    case CUDA_PLANE_SIXTEENS:
        store32(scales + 4 * idx, block->d | (block->scale[0] ^ 0x80u) << 16 |
                                      (block->scale[1] ^ 0x80u) << 24);
        break;
    case TENSOR_Q4_1:
        store32(scales + 4 * idx, block->d | (uint32_t)block->m << 16);
        break;
    default: /* d is an f16, or that of the file with its sign turned */
        store16(scales + 2 * idx, f16_from_f32(values->d[0]));
    }
}

static void put_codes(uint32_t plane, const struct tensor_block *block,
                      const struct tensor_values *values, uint32_t first, struct cuda_quad at,
                      uint8_t *tile)
{
    bool is_nibbles = cuda_tile_bytes(plane) < CUDA_TILE_OUTPUTS * CUDA_TILE_INPUTS;
    struct quad_codes codes;
    for (uint32_t i = 0; i < 4; i++)
        codes.code[i] = is_nibbles ? block->code[first + i]
                                   : (uint32_t)(values->w[first + i] + 128);
    if (is_nibbles)
        put_q4(at, codes, tile);
    else
        put_q8(at, codes, tile);
}

static void repack_blocks(const struct weight_source *source, const uint8_t *row, uint32_t output,
                          uint8_t *codes, uint8_t *scales)
{
    uint32_t plane = cuda_plane_of(source->type), tile_bytes = cuda_tile_bytes(plane);
    uint32_t scale_bytes = cuda_tile_scale_bytes(plane);
    for (uint32_t first = 0; first < source->n_in; first += CUDA_GROUP_INPUTS) {
        struct tensor_block block;
        struct tensor_values values;
        uint32_t within = first % CUDA_TILE_INPUTS, tile_idx = first / CUDA_TILE_INPUTS;
        tensor_block_read(source->type, row, first / CUDA_GROUP_INPUTS, &block);
        tensor_block_values(source->type, &block, &values);
        put_scales(plane, &block, &values, cuda_scale_idx(output, within / CUDA_GROUP_INPUTS),
                   scales + (size_t)tile_idx * scale_bytes);
        for (uint32_t i = 0; i < CUDA_GROUP_INPUTS; i += 4)
            put_codes(plane, &block, &values, i, cuda_quad_of(plane, output, within + i),
                      codes + (size_t)tile_idx * tile_bytes);
    }
}

/* of F16 and BF16 */
static void repack_16_bits(const struct weight_source *source, const uint8_t *row, uint32_t output,
                       uint8_t *codes)
{
    for (uint32_t first = 0; first < source->n_in; first += 4) {
        struct quad_codes quad = {{0}};
        for (uint32_t i = 0; i < 4 && first + i < source->n_in; i++)
            quad.code[i] = load16(row + 2 * ((size_t)first + i));
        uint8_t *tile = codes + (size_t)first / CUDA_TILE_INPUTS * cuda_tile_bytes(TENSOR_F16);
        put_16_bits(cuda_quad_of(source->type, output, first % CUDA_TILE_INPUTS), quad, tile);
    }
}

static void repack_floats(const struct weight_source *source, const uint8_t *row, uint32_t output,
                          uint8_t *codes)
{
    for (size_t i = 0; i < source->n_in; i++)
        put_float(codes + ((i / 4 * CUDA_TILE_OUTPUTS + output) * 4 + i % 4) * sizeof(float),
                  tensor_block_float(source->type, row + i * sizeof(float)));
}

void cuda_repack(const struct weight_source *source, const uint8_t *rows, uint32_t n_rows,
                 uint8_t *codes, uint8_t *scales)
{
    assert(n_rows <= CUDA_TILE_OUTPUTS);
    size_t n_in_tiles = ((size_t)source->n_in + CUDA_TILE_INPUTS - 1) / CUDA_TILE_INPUTS;
    size_t row_bytes = tensor_type_bytes(source->type, source->n_in, 1);
    uint32_t plane = cuda_plane_of(source->type);
    memset(codes, 0, n_in_tiles * cuda_tile_bytes(plane));
    memset(scales, 0, n_in_tiles * cuda_tile_scale_bytes(plane));
    for (uint32_t output = 0; output < n_rows; output++) {
        const uint8_t *row = rows + output * row_bytes;
        if (plane == TENSOR_F32)
            repack_floats(source, row, output, codes);
        else if (plane == TENSOR_F16 || plane == TENSOR_BF16)
            repack_16_bits(source, row, output, codes);
        else
            repack_blocks(source, row, output, codes, scales);
    }
}
