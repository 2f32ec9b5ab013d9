#include "kernels/cpu/cpu_tile.h"

#include <assert.h>
#include <string.h>

#define WORDS 8 /* of four codes in a block */
/* Values that all rows of a tile are brought for at a time: runs of a row that the file is read in,
 * and few enough lines of the tile to stay in L1. */
#define PIECE_VALUES 512
#define INLINE static inline __attribute__((always_inline))

uint64_t cpu_tile_bytes(uint32_t type, uint32_t n_in)
{
    if (tensor_type_is_float(type)) {
        uint64_t value_bytes = type == TENSOR_F32 ? sizeof(float) : sizeof(uint16_t);
        return (n_in * value_bytes * TILE_ROWS + 63) / 64 * 64;
    }
    struct cpu_tile_layout layout = cpu_tile_layout(type);
    uint64_t n_blocks = n_in / BLOCK_VALUES;
    return (n_blocks * layout.front_bytes + 63) / 64 * 64 +
           n_blocks / layout.n_sub * layout.head_bytes + n_blocks * layout.block_bytes;
}

static void store16(uint8_t *bytes, uint16_t half)
{
    memcpy(bytes, &half, sizeof half);
}

static void store32(uint8_t *bytes, uint32_t word)
{
    memcpy(bytes, &word, sizeof word);
}

static uint32_t load32(const uint8_t *bytes)
{
    uint32_t word;
    memcpy(&word, bytes, sizeof word);
    return word;
}

/* --- codes: word g holds w[4g] to w[4g + 3], a byte each --- */

static void put_nibbles(const uint32_t words[WORDS], uint8_t *to)
{
    for (int g = 0; g < 4; g++)
        store32(to + GROUP_BYTES * g,
                (words[2 * g] & 0x0f0f0f0f) | (words[2 * g + 1] & 0x0f0f0f0f) << 4);
}

/* Two bits of each code, from bit `shift` on. */
static void put_twos(const uint32_t words[WORDS], int shift, uint8_t *to)
{
    for (int p = 0; p < 2; p++) {
        uint32_t line = 0;
        for (int q = 0; q < 4; q++)
            line |= (words[4 * p + q] >> shift & 0x03030303) << 2 * q;
        store32(to + GROUP_BYTES * p, line);
    }
}

static void put_bits(const uint32_t words[WORDS], int shift, uint8_t *to)
{
    uint32_t line = 0;
    for (int g = 0; g < WORDS; g++)
        line |= (words[g] >> shift & 0x01010101) << g;
    store32(to, line);
}

INLINE void put_codes(const uint32_t type, const uint8_t *code, uint8_t *to)
{
    uint32_t words[WORDS];
    for (int g = 0; g < WORDS; g++)
        words[g] = load32(code + 4 * g);
    switch (type) {
    case TENSOR_Q8_0:
        for (int g = 0; g < WORDS; g++)
            store32(to + GROUP_BYTES * g, words[g]);
        break;
    case TENSOR_Q2_K:
        put_twos(words, 0, to);
        break;
    case TENSOR_Q3_K:
        put_twos(words, 0, to);
        put_bits(words, 2, to + TILE_TWOS_BYTES);
        break;
    case TENSOR_Q6_K:
        put_nibbles(words, to);
        put_twos(words, 4, to + TILE_NIBBLES_BYTES);
        break;
    case TENSOR_Q5_0:
    case TENSOR_Q5_1:
    case TENSOR_Q5_K:
        put_bits(words, 4, to + TILE_NIBBLES_BYTES);
        /* fall through */
    default:
        put_nibbles(words, to);
    }
}

/* --- scales --- */

/* Where d and m of a block stand, of row 0; m NULL where the type has none. */
INLINE void places_of_halves(const uint32_t type, const struct cpu_tile_place *at,
                             const uint8_t **d, const uint8_t **m)
{
    struct cpu_tile_layout layout = cpu_tile_layout(type);
    *d = at->front;
    *m = NULL;
    if (layout.head_bytes > 0) {
        *d = at->head;
        *m = at->head + TILE_SCALES_BYTES;
    } else if (layout.front_bytes == 0) {
        *d = at->block + layout.block_bytes - 2 * TILE_SCALES_BYTES;
        *m = *d + TILE_SCALES_BYTES;
    }
    if (!tensor_block_has_minimum(type))
        *m = NULL;
}

INLINE void put_scales(const uint32_t type, const struct tensor_block *block,
                       const struct cpu_tile_place *at, uint32_t row)
{
    const uint8_t *d, *m;
    uint8_t *field = (uint8_t *)(uintptr_t)at->field + row;
    if (type == TENSOR_MXFP4) {
        ((uint8_t *)(uintptr_t)at->front)[row] = block->scale[0];
        return;
    }
    places_of_halves(type, at, &d, &m);
    store16((uint8_t *)(uintptr_t)d + 2 * row, block->d);
    if (m != NULL)
        store16((uint8_t *)(uintptr_t)m + 2 * row, block->m);
    switch (type) {
    case TENSOR_IQ4_XS:
        field[0] = block->scale[0];
        break;
    case TENSOR_Q4_K:
    case TENSOR_Q5_K:
        field[0] = block->scale[0];
        field[TILE_FIELD_BYTES] = block->minimum[0];
        break;
    case TENSOR_Q2_K:
        field[0] = (uint8_t)(block->scale[0] | block->minimum[0] << 4);
        field[TILE_FIELD_BYTES] = (uint8_t)(block->scale[1] | block->minimum[1] << 4);
        break;
    case TENSOR_Q3_K:
    case TENSOR_Q6_K:
        field[0] = block->scale[0];
        field[TILE_FIELD_BYTES] = block->scale[1];
        break;
    }
}

/* Values [begin, end) of a row. Constant types fold all places; one function each. */
INLINE void repack_blocks(const uint32_t type, uint32_t n_in, const uint8_t *from, uint32_t row,
                          uint32_t begin, uint32_t end, uint8_t *tile)
{
    for (uint32_t b = begin / BLOCK_VALUES; b < end / BLOCK_VALUES; b++) {
        struct tensor_block block;
        struct cpu_tile_place at = cpu_tile_place(type, tile, n_in, b);
        tensor_block_read(type, from, b, &block);
        put_codes(type, block.code, (uint8_t *)(uintptr_t)at.block + 4 * row);
        put_scales(type, &block, &at, row);
    }
}

INLINE void repack_floats(const size_t value_bytes, const uint8_t *from, uint32_t row,
                          uint32_t begin, uint32_t end, uint8_t *tile)
{
    for (size_t k = begin; k < end; k++)
        memcpy(tile + (k * TILE_ROWS + row) * value_bytes, from + k * value_bytes, value_bytes);
}

#define REPACK_CASE(type)                                                                          \
    case type:                                                                                     \
        repack_blocks(type, n_in, from, row, begin, end, tile);                                    \
        break;

static void repack_run(uint32_t type, uint32_t n_in, const uint8_t *from, uint32_t row,
                       uint32_t begin, uint32_t end, uint8_t *tile)
{
    switch (type) {
        REPACK_CASE(TENSOR_Q4_0)
        REPACK_CASE(TENSOR_Q4_1)
        REPACK_CASE(TENSOR_Q5_0)
        REPACK_CASE(TENSOR_Q5_1)
        REPACK_CASE(TENSOR_Q8_0)
        REPACK_CASE(TENSOR_Q2_K)
        REPACK_CASE(TENSOR_Q3_K)
        REPACK_CASE(TENSOR_Q4_K)
        REPACK_CASE(TENSOR_Q5_K)
        REPACK_CASE(TENSOR_Q6_K)
        REPACK_CASE(TENSOR_IQ4_NL)
        REPACK_CASE(TENSOR_IQ4_XS)
        REPACK_CASE(TENSOR_MXFP4)
    case TENSOR_F32:
        repack_floats(sizeof(float), from, row, begin, end, tile);
        break;
    default:
        repack_floats(sizeof(uint16_t), from, row, begin, end, tile);
    }
}

void cpu_tile_repack(uint32_t type, uint32_t n_in, const uint8_t *rows, uint32_t n_rows,
                     uint8_t *tile)
{
    assert(n_rows <= TILE_ROWS);
    size_t row_bytes = tensor_type_bytes(type, n_in, 1);
    for (uint32_t begin = 0; begin < n_in; begin += PIECE_VALUES) {
        uint32_t left = n_in - begin, end = begin + (left < PIECE_VALUES ? left : PIECE_VALUES);
        for (uint32_t row = 0; row < n_rows; row++)
            repack_run(type, n_in, rows + row * row_bytes, row, begin, end, tile);
    }
}
