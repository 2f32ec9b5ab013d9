#include "kernels/cpu/cpu_tile.h"

#include <assert.h>
#include <string.h>

size_t cpu_tile_block_bytes(uint32_t type)
{
    switch (type) {
    case TENSOR_F32:
        return BLOCK_VALUES * TILE_ROWS * sizeof(float);
    case TENSOR_F16:
        return BLOCK_VALUES * TILE_ROWS * sizeof(uint16_t);
    case TENSOR_Q4_0:
        return TILE_Q4_BYTES;
    case TENSOR_Q4_1:
        return TILE_Q4_1_BYTES;
    case TENSOR_Q8_0:
        return TILE_Q8_BYTES;
    }
    assert(!"a type that this build reads");
    return 0;
}

uint64_t cpu_tile_bytes(uint32_t type, uint32_t n_in)
{
    if (type == TENSOR_F32)
        return (uint64_t)n_in * TILE_ROWS * sizeof(float);
    if (type == TENSOR_F16)
        return ((uint64_t)n_in * TILE_ROWS * sizeof(uint16_t) + 63) / 64 * 64;
    return cpu_tile_front_bytes(type, n_in) +
           (uint64_t)n_in / BLOCK_VALUES * cpu_tile_block_bytes(type);
}

static uint32_t load32(const uint8_t *bytes)
{
    uint32_t word;
    memcpy(&word, bytes, sizeof word);
    return word;
}

static void store32(uint8_t *bytes, uint32_t word)
{
    memcpy(bytes, &word, sizeof word);
}

/* q[16] of the file: byte j holds value j (low) and value j + 16 (high). */
static void repack_nibbles(const uint8_t *q, uint32_t row, uint8_t *groups)
{
    const uint32_t low = 0x0f0f0f0f, high = 0xf0f0f0f0;
    uint8_t *to = groups + 4 * row;
    for (int half = 0; half < 2; half++) { /* values 0..7 and 16..23, then 8..15 and 24..31 */
        uint32_t a = load32(q + 8 * half), b = load32(q + 8 * half + 4);
        store32(to + GROUP_BYTES * half, (a & low) | (b & low) << 4);
        store32(to + GROUP_BYTES * (2 + half), (a & high) >> 4 | (b & high));
    }
}

static void repack_q4_row(uint32_t type, uint32_t n_in, const uint8_t *from, uint32_t row,
                          uint8_t *tile)
{
    uint8_t *front = tile, *block = tile + cpu_tile_front_bytes(type, n_in);
    for (uint32_t b = 0; b < n_in / BLOCK_VALUES; b++) {
        if (type == TENSOR_Q4_1) {
            repack_nibbles(from + 4, row, block);
            memcpy(block + TILE_Q4_BYTES + 2 * row, from, 2);
            memcpy(block + TILE_Q4_BYTES + TILE_SCALES_BYTES + 2 * row, from + 2, 2);
            from += 20, block += TILE_Q4_1_BYTES;
        } else {
            repack_nibbles(from + 2, row, block);
            memcpy(front + 2 * row, from, 2);
            from += 18, block += TILE_Q4_BYTES, front += TILE_SCALES_BYTES;
        }
    }
}

static void repack_q8_row(uint32_t n_in, const uint8_t *from, uint32_t row, uint8_t *tile)
{
    uint8_t *front = tile, *block = tile + cpu_tile_front_bytes(TENSOR_Q8_0, n_in);
    for (uint32_t b = 0; b < n_in / BLOCK_VALUES; b++) {
        memcpy(front + 2 * row, from, 2);
        for (uint32_t g = 0; g < 8; g++)
            store32(block + GROUP_BYTES * g + 4 * row, load32(from + 2 + 4 * g) ^ 0x80808080);
        from += 34, block += TILE_Q8_BYTES, front += TILE_SCALES_BYTES;
    }
}

static void repack_float_row(size_t value_bytes, uint32_t n_in, const uint8_t *from, uint32_t row,
                             uint8_t *tile)
{
    for (size_t k = 0; k < n_in; k++)
        memcpy(tile + (k * TILE_ROWS + row) * value_bytes, from + k * value_bytes, value_bytes);
}

void cpu_tile_repack(uint32_t type, uint32_t n_in, const uint8_t *rows, uint32_t n_rows,
                     uint8_t *tile)
{
    assert(n_rows <= TILE_ROWS);
    size_t row_bytes = tensor_type_bytes(type, n_in, 1);
    for (uint32_t row = 0; row < n_rows; row++, rows += row_bytes) {
        switch (type) {
        case TENSOR_F32:
            repack_float_row(sizeof(float), n_in, rows, row, tile);
            break;
        case TENSOR_F16:
            repack_float_row(sizeof(uint16_t), n_in, rows, row, tile);
            break;
        case TENSOR_Q4_0:
        case TENSOR_Q4_1:
            repack_q4_row(type, n_in, rows, row, tile);
            break;
        case TENSOR_Q8_0:
            repack_q8_row(n_in, rows, row, tile);
            break;
        }
    }
}

static float half_at(const uint8_t *bytes)
{
    uint16_t half;
    memcpy(&half, bytes, sizeof half);
    return f16_to_f32(half);
}

static void read_nibbles(const uint8_t *groups, uint32_t row, int offset, int16_t *w)
{
    for (uint32_t g = 0; g < 4; g++) {
        for (uint32_t j = 0; j < 4; j++) {
            uint8_t byte = groups[GROUP_BYTES * g + 4 * row + j];
            w[8 * g + j] = (int16_t)((byte & 15) - offset);
            w[8 * g + 4 + j] = (int16_t)((byte >> 4) - offset);
        }
    }
}

void cpu_tile_read(uint32_t type, uint32_t n_in, const uint8_t *tile, uint32_t row,
                   uint32_t block_idx, struct cpu_tile_values *out)
{
    const uint8_t *block =
        tile + cpu_tile_front_bytes(type, n_in) + (size_t)block_idx * cpu_tile_block_bytes(type);
    out->m = 0;
    if (type == TENSOR_Q4_1) {
        read_nibbles(block, row, 0, out->w);
        out->d = half_at(block + TILE_Q4_BYTES + 2 * row);
        out->m = half_at(block + TILE_Q4_BYTES + TILE_SCALES_BYTES + 2 * row);
        return;
    }
    out->d = half_at(tile + (size_t)block_idx * TILE_SCALES_BYTES + 2 * row);
    if (type == TENSOR_Q4_0) {
        read_nibbles(block, row, 8, out->w);
        return;
    }
    assert(type == TENSOR_Q8_0);
    for (uint32_t k = 0; k < BLOCK_VALUES; k++)
        out->w[k] = (int8_t)(block[GROUP_BYTES * (k / 4) + 4 * row + k % 4] ^ 0x80);
}

void cpu_tile_block_to_f32(uint32_t type, uint32_t n_in, const uint8_t *tile, uint32_t row,
                           uint32_t block_idx, float *out)
{
    size_t first = (size_t)block_idx * BLOCK_VALUES;
    size_t n = n_in - first < BLOCK_VALUES ? n_in - first : BLOCK_VALUES;
    if (type == TENSOR_F32) {
        for (size_t k = 0; k < n; k++)
            memcpy(&out[k], tile + ((first + k) * TILE_ROWS + row) * sizeof *out, sizeof *out);
        return;
    }
    if (type == TENSOR_F16) {
        for (size_t k = 0; k < n; k++)
            out[k] = half_at(tile + ((first + k) * TILE_ROWS + row) * sizeof(uint16_t));
        return;
    }
    struct cpu_tile_values values;
    cpu_tile_read(type, n_in, tile, row, block_idx, &values);
    for (size_t k = 0; k < n; k++) {
        float product = values.d * (float)values.w[k];
        out[k] = type == TENSOR_Q4_1 ? product + values.m : product;
    }
}
