/* The way back from a tile to the numbers of the file, one row of one block at a time. */
#include "kernels/cpu/cpu_tile.h"

#include <string.h>

static uint16_t half_at(const uint8_t *bytes)
{
    uint16_t half;
    memcpy(&half, bytes, sizeof half);
    return half;
}

static uint8_t nibble_at(const uint8_t *line, uint32_t k)
{
    return line[GROUP_BYTES * (k / 8)] >> (k % 8 < 4 ? 0 : 4) & 15;
}

static uint8_t two_at(const uint8_t *line, uint32_t k)
{
    return line[GROUP_BYTES * (k / 16)] >> 2 * (k / 4 % 4) & 3;
}

static uint8_t bit_at(const uint8_t *line, uint32_t k)
{
    return *line >> k / 4 & 1;
}

/* Code k of a block of a row, whose byte in a line of 64 is `line`. */
static uint8_t code_at(uint32_t type, const uint8_t *block, uint32_t row, uint32_t k)
{
    const uint8_t *line = block + 4 * row + k % 4;
    switch (type) {
    case TENSOR_Q8_0:
        return line[GROUP_BYTES * (k / 4)];
    case TENSOR_Q2_K:
        return two_at(line, k);
    case TENSOR_Q3_K:
        return (uint8_t)(two_at(line, k) | bit_at(line + TILE_TWOS_BYTES, k) << 2);
    case TENSOR_Q6_K:
        return (uint8_t)(nibble_at(line, k) | two_at(line + TILE_NIBBLES_BYTES, k) << 4);
    case TENSOR_Q5_0:
    case TENSOR_Q5_1:
    case TENSOR_Q5_K:
        return (uint8_t)(nibble_at(line, k) | bit_at(line + TILE_NIBBLES_BYTES, k) << 4);
    default:
        return nibble_at(line, k);
    }
}

static void read_scales(uint32_t type, const struct cpu_tile_place *at, uint32_t row,
                        struct tensor_block *out)
{
    struct cpu_tile_layout layout = cpu_tile_layout(type);
    const uint8_t *field = at->field + row, *d = at->front;
    if (type == TENSOR_MXFP4) {
        out->scale[0] = out->scale[1] = at->front[row];
        return;
    }
    if (layout.head_bytes > 0)
        d = at->head;
    else if (layout.front_bytes == 0)
        d = at->block + layout.block_bytes - 2 * TILE_SCALES_BYTES;
    out->d = half_at(d + 2 * row);
    if (tensor_block_has_minimum(type))
        out->m = half_at(d + TILE_SCALES_BYTES + 2 * row);
    bool has_pair = type == TENSOR_Q4_K || type == TENSOR_Q5_K;
    for (int half = 0; half < 2 && layout.head_bytes > 0; half++) {
        bool is_shared = has_pair || type == TENSOR_IQ4_XS;
        uint8_t byte = field[is_shared ? 0 : half * TILE_FIELD_BYTES];
        out->scale[half] = type == TENSOR_Q2_K ? byte & 15 : byte;
        if (type == TENSOR_Q2_K)
            out->minimum[half] = byte >> 4;
        else if (has_pair)
            out->minimum[half] = field[TILE_FIELD_BYTES];
    }
}

void cpu_tile_read_block(uint32_t type, uint32_t n_in, const uint8_t *tile, uint32_t row,
                         uint32_t block_idx, struct tensor_block *out)
{
    struct cpu_tile_place at = cpu_tile_place(type, tile, n_in, block_idx);
    *out = (struct tensor_block){.d = 0};
    for (uint32_t k = 0; k < BLOCK_VALUES; k++)
        out->code[k] = code_at(type, at.block, row, k);
    read_scales(type, &at, row, out);
}

void cpu_tile_read(uint32_t type, uint32_t n_in, const uint8_t *tile, uint32_t row,
                   uint32_t block_idx, struct tensor_values *out)
{
    struct tensor_block block;
    cpu_tile_read_block(type, n_in, tile, row, block_idx, &block);
    tensor_block_values(type, &block, out);
}

void cpu_tile_block_to_f32(uint32_t type, uint32_t n_in, const uint8_t *tile, uint32_t row,
                           uint32_t block_idx, float *out)
{
    if (!tensor_type_is_float(type)) {
        struct tensor_values values;
        cpu_tile_read(type, n_in, tile, row, block_idx, &values);
        tensor_block_to_f32(type, &values, out);
        return;
    }
    size_t first = (size_t)block_idx * BLOCK_VALUES;
    size_t n = n_in - first < BLOCK_VALUES ? n_in - first : BLOCK_VALUES;
    size_t value_bytes = type == TENSOR_F32 ? sizeof(float) : sizeof(uint16_t);
    for (size_t k = 0; k < n; k++)
        out[k] = tensor_block_float(type, tile + ((first + k) * TILE_ROWS + row) * value_bytes);
}
