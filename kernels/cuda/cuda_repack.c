#include "kernels/cuda/cuda_weight.h"

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

static void put_f16(struct cuda_quad at, struct quad_codes codes, uint8_t *tile)
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

/* Codes `first` to first + 3 of a block of the file. */
static struct quad_codes quad_of_block(uint32_t type, const uint8_t *block, uint32_t first)
{
    struct quad_codes codes;
    for (uint32_t i = 0; i < 4; i++) {
        uint32_t at = first + i;
        if (type == TENSOR_Q8_0) {
            codes.code[i] = block[2 + at] ^ 128u;
        } else { /* byte j: value j below, value j + 16 above */
            const uint8_t *nibbles = block + (type == TENSOR_Q4_1 ? 4 : 2);
            codes.code[i] = at < 16 ? nibbles[at] & 15u : nibbles[at - 16] >> 4;
        }
    }
    return codes;
}

static void repack_blocks(const struct weight_source *source, const uint8_t *row, uint32_t output,
                          uint8_t *codes, uint8_t *scales)
{
    uint32_t type = source->type, tile_bytes = cuda_tile_bytes(type);
    uint32_t scale_bytes = cuda_tile_scale_bytes(type), pair = type == TENSOR_Q4_1 ? 4 : 2;
    const struct tensor_type_info *info = tensor_type_info(type);
    for (uint32_t first = 0; first < source->n_in; first += CUDA_GROUP_INPUTS) {
        const uint8_t *block = row + (size_t)first / CUDA_GROUP_INPUTS * info->block_bytes;
        uint32_t within = first % CUDA_TILE_INPUTS;
        uint8_t *tile = codes + (size_t)first / CUDA_TILE_INPUTS * tile_bytes;
        uint8_t *tile_scales = scales + (size_t)first / CUDA_TILE_INPUTS * scale_bytes;
        memcpy(tile_scales + cuda_scale_idx(output, within / CUDA_GROUP_INPUTS) * pair, block,
               pair);
        for (uint32_t i = 0; i < CUDA_GROUP_INPUTS; i += 4) {
            struct cuda_quad at = cuda_quad_of(output, within + i);
            if (type == TENSOR_Q8_0)
                put_q8(at, quad_of_block(type, block, i), tile);
            else
                put_q4(at, quad_of_block(type, block, i), tile);
        }
    }
}

static void repack_f16(const struct weight_source *source, const uint8_t *row, uint32_t output,
                       uint8_t *codes)
{
    for (uint32_t first = 0; first < source->n_in; first += 4) {
        struct quad_codes quad = {{0}};
        for (uint32_t i = 0; i < 4 && first + i < source->n_in; i++)
            quad.code[i] = load16(row + 2 * ((size_t)first + i));
        uint8_t *tile = codes + (size_t)first / CUDA_TILE_INPUTS * cuda_tile_bytes(TENSOR_F16);
        put_f16(cuda_quad_of(output, first % CUDA_TILE_INPUTS), quad, tile);
    }
}

static void repack_f32(const struct weight_source *source, const uint8_t *row, uint32_t output,
                       uint8_t *codes)
{
    for (uint32_t first = 0; first < source->n_in; first += 4) {
        uint32_t left = source->n_in - first, n = left < 4 ? left : 4;
        uint8_t *to = codes + ((size_t)first / 4 * CUDA_TILE_OUTPUTS + output) * 4 * sizeof(float);
        memcpy(to, row + first * sizeof(float), n * sizeof(float));
    }
}

void cuda_repack(const struct weight_source *source, const uint8_t *rows, uint32_t n_rows,
                 uint8_t *codes, uint8_t *scales)
{
    assert(n_rows <= CUDA_TILE_OUTPUTS);
    size_t n_in_tiles = ((size_t)source->n_in + CUDA_TILE_INPUTS - 1) / CUDA_TILE_INPUTS;
    size_t row_bytes = tensor_type_bytes(source->type, source->n_in, 1);
    memset(codes, 0, n_in_tiles * cuda_tile_bytes(source->type));
    memset(scales, 0, n_in_tiles * cuda_tile_scale_bytes(source->type));
    for (uint32_t output = 0; output < n_rows; output++) {
        const uint8_t *row = rows + output * row_bytes;
        if (source->type == TENSOR_F32)
            repack_f32(source, row, output, codes);
        else if (source->type == TENSOR_F16)
            repack_f16(source, row, output, codes);
        else
            repack_blocks(source, row, output, codes, scales);
    }
}
