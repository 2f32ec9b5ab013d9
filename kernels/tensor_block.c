#include "kernels/tensor_block.h"

#include <assert.h>
#include <string.h>

#define SUPER_BLOCKS 8 /* of 32 values in a block of 256 */

const int8_t tensor_block_iq4[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                     1,    13,   25,  38,  53,  69,  89,  113};
const int8_t tensor_block_mxfp4[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

bool tensor_block_has_minimum(uint32_t type)
{
    return type == TENSOR_Q4_1 || type == TENSOR_Q5_1 || type == TENSOR_Q2_K ||
           type == TENSOR_Q4_K || type == TENSOR_Q5_K;
}

static uint16_t half_at(const uint8_t *bytes)
{
    uint16_t half;
    memcpy(&half, bytes, sizeof half);
    return half;
}

static uint32_t word_at(const uint8_t *bytes)
{
    uint32_t word;
    memcpy(&word, bytes, sizeof word);
    return word;
}

/* Codes are read eight at a time: a byte each of a word, so that one shift and one mask serve all.
 */
#define EACH_BYTE(value) ((uint64_t)(value) * 0x0101010101010101u)

static uint64_t eight_at(const uint8_t *bytes)
{
    uint64_t word;
    memcpy(&word, bytes, sizeof word);
    return word;
}

static void put_eight(uint8_t *bytes, uint64_t word)
{
    memcpy(bytes, &word, sizeof word);
}

static void set_scales(struct tensor_block *out, uint32_t first, uint32_t second)
{
    out->scale[0] = (uint8_t)first;
    out->scale[1] = (uint8_t)second;
}

/* --- blocks of 32 --- */

/* Byte j of 16 holds value j in its low half and value j + 16 in its high half. */
static void read_nibbles(const uint8_t *q, uint8_t *code)
{
    for (int j = 0; j < 16; j += 8) {
        uint64_t both = eight_at(q + j);
        put_eight(code + j, both & EACH_BYTE(15));
        put_eight(code + j + 16, both >> 4 & EACH_BYTE(15));
    }
}

/* Bit j is the fifth of value j. */
static void add_fifth_bits(const uint8_t *bits, uint8_t *code)
{
    for (int j = 0; j < TENSOR_BLOCK_VALUES; j += 8) {
        uint64_t apart = EACH_BYTE(bits[j / 8]) & 0x8040201008040201u; /* bit i in byte i alone */
        uint64_t set = (apart + EACH_BYTE(0x7f)) & EACH_BYTE(0x80);
        put_eight(code + j, eight_at(code + j) | set >> 3);
    }
}

static void read_small(uint32_t type, const uint8_t *from, struct tensor_block *out)
{
    if (type == TENSOR_MXFP4) {
        set_scales(out, from[0], from[0]);
        read_nibbles(from + 1, out->code);
        return;
    }
    out->d = half_at(from);
    from += 2;
    if (type == TENSOR_Q4_1 || type == TENSOR_Q5_1) {
        out->m = half_at(from);
        from += 2;
    }
    if (type == TENSOR_Q8_0) {
        for (int j = 0; j < TENSOR_BLOCK_VALUES; j += 8)
            put_eight(out->code + j, eight_at(from + j) ^ EACH_BYTE(0x80));
        return;
    }
    bool is_five = type == TENSOR_Q5_0 || type == TENSOR_Q5_1;
    read_nibbles(is_five ? from + 4 : from, out->code);
    if (is_five)
        add_fifth_bits(from, out->code);
}

/* --- 32 of a block of 256; sub is 0 to 7 --- */

/* Value v = 128 h + 32 k + l stands in bits 2k of byte 32 h + l. */
static void read_twos(const uint8_t *q, uint32_t sub, uint8_t *code)
{
    q += sub / 4 * 32;
    for (int l = 0; l < TENSOR_BLOCK_VALUES; l += 8)
        put_eight(code + l, eight_at(q + l) >> 2 * (sub % 4) & EACH_BYTE(3));
}

static void read_q2_k(const uint8_t *from, uint32_t sub, struct tensor_block *out)
{
    const uint8_t *s = from + 2 * sub;
    read_twos(from + 16, sub, out->code);
    out->d = half_at(from + 80);
    out->m = half_at(from + 82);
    set_scales(out, s[0] & 15, s[1] & 15);
    out->minimum[0] = s[0] >> 4;
    out->minimum[1] = s[1] >> 4;
}

/* Six bits of sixteen scales: the low four of b and b - 8 in one byte, the high two of four in
 * another. */
static uint32_t q3_k_scale(const uint8_t *s, uint32_t b)
{
    uint32_t low = b < 8 ? s[b] & 15 : s[b - 8] >> 4;
    return low | (s[8 + b % 4] >> 2 * (b / 4) & 3) << 4;
}

static void read_q3_k(const uint8_t *from, uint32_t sub, struct tensor_block *out)
{
    read_twos(from + 32, sub, out->code);
    for (int l = 0; l < TENSOR_BLOCK_VALUES; l += 8)
        put_eight(out->code + l,
                  eight_at(out->code + l) | (eight_at(from + l) >> sub & EACH_BYTE(1)) << 2);
    out->d = half_at(from + 108);
    set_scales(out, q3_k_scale(from + 96, 2 * sub), q3_k_scale(from + 96, 2 * sub + 1));
}

/* Q4_K and Q5_K: six bits of eight scales and eight minima in twelve bytes. */
static void read_scales_k4(const uint8_t *s, uint32_t b, struct tensor_block *out)
{
    uint32_t scale = s[b] & 63, minimum = s[b + 4] & 63;
    if (b >= 4) {
        scale = (s[b + 4] & 15) | (s[b - 4] >> 6) << 4;
        minimum = s[b + 4] >> 4 | (s[b] >> 6) << 4;
    }
    set_scales(out, scale, scale);
    out->minimum[0] = out->minimum[1] = (uint8_t)minimum;
}

/* Sub-blocks 2p and 2p + 1 share 32 bytes, low and high nibbles. */
static void read_q45_k(uint32_t type, const uint8_t *from, uint32_t sub, struct tensor_block *out)
{
    const uint8_t *q = from + (type == TENSOR_Q5_K ? 48 : 16) + sub / 2 * 32;
    for (int l = 0; l < TENSOR_BLOCK_VALUES; l += 8) {
        uint64_t code = eight_at(q + l) >> 4 * (sub % 2) & EACH_BYTE(15);
        if (type == TENSOR_Q5_K)
            code |= (eight_at(from + 16 + l) >> sub & EACH_BYTE(1)) << 4;
        put_eight(out->code + l, code);
    }
    out->d = half_at(from);
    out->m = half_at(from + 2);
    read_scales_k4(from + 4, sub, out);
}

static void read_q6_k(const uint8_t *from, uint32_t sub, struct tensor_block *out)
{
    uint32_t half = sub / 4, k = sub % 4;
    const uint8_t *low = from + 64 * half + 32 * (k % 2);
    read_twos(from + 128, sub, out->code);
    for (int l = 0; l < TENSOR_BLOCK_VALUES; l += 8)
        put_eight(out->code + l, eight_at(out->code + l) << 4 |
                                     (eight_at(low + l) >> 4 * (k / 2) & EACH_BYTE(15)));
    out->d = half_at(from + 208);
    set_scales(out, from[192 + 2 * sub], from[192 + 2 * sub + 1]);
}

static void read_iq4_xs(const uint8_t *from, uint32_t sub, struct tensor_block *out)
{
    uint32_t scale = (from[4 + sub / 2] >> 4 * (sub % 2) & 15) |
                     (uint32_t)(half_at(from + 2) >> 2 * sub & 3) << 4;
    read_nibbles(from + 8 + 16 * sub, out->code);
    out->d = half_at(from);
    set_scales(out, scale, scale);
}

void tensor_block_read(uint32_t type, const uint8_t *row, uint32_t block_idx,
                       struct tensor_block *out)
{
    const struct tensor_type_info *info = tensor_type_info(type);
    bool is_super = info->block_values == SUPER_BLOCKS * TENSOR_BLOCK_VALUES;
    uint32_t sub = is_super ? block_idx % SUPER_BLOCKS : 0;
    const uint8_t *from =
        row + (size_t)(is_super ? block_idx / SUPER_BLOCKS : block_idx) * info->block_bytes;
    out->d = out->m = 0;
    out->minimum[0] = out->minimum[1] = 0;
    set_scales(out, 0, 0);
    switch (type) {
    case TENSOR_Q2_K:
        read_q2_k(from, sub, out);
        break;
    case TENSOR_Q3_K:
        read_q3_k(from, sub, out);
        break;
    case TENSOR_Q4_K:
    case TENSOR_Q5_K:
        read_q45_k(type, from, sub, out);
        break;
    case TENSOR_Q6_K:
        read_q6_k(from, sub, out);
        break;
    case TENSOR_IQ4_XS:
        read_iq4_xs(from, sub, out);
        break;
    default:
        read_small(type, from, out);
    }
}

/* --- numbers --- */

/* Half of 2^(e - 127), because the codes are twice their value; e = 255 counts as a number. */
static float half_power(uint32_t e)
{
    uint32_t bits = e < 2 ? 0x00200000u << e : (e - 1) << 23;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static int value_of(uint32_t type, const struct tensor_block *block, int j)
{
    int code = block->code[j], scale = block->scale[j / 16];
    switch (type) {
    case TENSOR_Q4_0:
        return code - 8;
    case TENSOR_Q5_0:
        return code - 16;
    case TENSOR_Q8_0:
        return code - 128;
    case TENSOR_Q6_K:
        return code - 32;
    case TENSOR_Q2_K:
        return code * scale;
    case TENSOR_Q3_K:
        return -(code - 4) * (scale - 32);
    case TENSOR_IQ4_NL:
    case TENSOR_IQ4_XS:
        return tensor_block_iq4[code];
    case TENSOR_MXFP4:
        return tensor_block_mxfp4[code];
    default:
        return code;
    }
}

static float scale_of(uint32_t type, const struct tensor_block *block, int half)
{
    float d = f16_to_f32(block->d);
    switch (type) {
    case TENSOR_Q3_K:
        return -d;
    case TENSOR_Q4_K:
    case TENSOR_Q5_K:
        return d * (float)block->scale[half];
    case TENSOR_Q6_K:
        return d * (float)(int8_t)block->scale[half];
    case TENSOR_IQ4_XS:
        return d * (float)(block->scale[half] - 32);
    case TENSOR_MXFP4:
        return half_power(block->scale[half]);
    default:
        return d;
    }
}

void tensor_block_values(uint32_t type, const struct tensor_block *block,
                         struct tensor_values *out)
{
    assert(!tensor_type_is_float(type));
    bool is_k = type == TENSOR_Q2_K || type == TENSOR_Q4_K || type == TENSOR_Q5_K;
    float m = f16_to_f32(block->m);
    for (int j = 0; j < TENSOR_BLOCK_VALUES; j++)
        out->w[j] = (int16_t)value_of(type, block, j);
    for (int half = 0; half < 2; half++) {
        out->d[half] = scale_of(type, block, half);
        out->m[half] = is_k ? -(m * (float)block->minimum[half]) : m;
    }
}

void tensor_block_to_f32(uint32_t type, const struct tensor_values *values, float *out)
{
    bool has_minimum = tensor_block_has_minimum(type);
    for (int j = 0; j < TENSOR_BLOCK_VALUES; j++) {
        float product = values->d[j / 16] * (float)values->w[j];
        out[j] = has_minimum ? product + values->m[j / 16] : product;
    }
}

float tensor_block_float(uint32_t type, const uint8_t *bytes)
{
    uint32_t bits;
    float value;
    if (type == TENSOR_F16)
        return f16_to_f32(half_at(bytes));
    bits = type == TENSOR_F32 ? word_at(bytes) : (uint32_t)half_at(bytes) << 16;
    memcpy(&value, &bits, sizeof value);
    return value;
}
