#include "kernels/tensor_type.h"

#include <assert.h>
#include <string.h>

#include "kernels/tensor_block.h"

static const struct tensor_type_info TYPES[] = {
    [TENSOR_F32] = {"F32", 1, 4, true},
    [TENSOR_F16] = {"F16", 1, 2, true},
    [TENSOR_Q4_0] = {"Q4_0", 32, 18, true},
    [TENSOR_Q4_1] = {"Q4_1", 32, 20, true},
    [TENSOR_Q5_0] = {"Q5_0", 32, 22, true},
    [TENSOR_Q5_1] = {"Q5_1", 32, 24, true},
    [TENSOR_Q8_0] = {"Q8_0", 32, 34, true},
    [9] = {"Q8_1", 32, 36, false},
    [TENSOR_Q2_K] = {"Q2_K", 256, 84, true},
    [TENSOR_Q3_K] = {"Q3_K", 256, 110, true},
    [TENSOR_Q4_K] = {"Q4_K", 256, 144, true},
    [TENSOR_Q5_K] = {"Q5_K", 256, 176, true},
    [TENSOR_Q6_K] = {"Q6_K", 256, 210, true},
    [15] = {"Q8_K", 256, 292, false},
    [16] = {"IQ2_XXS", 256, 66, false},
    [17] = {"IQ2_XS", 256, 74, false},
    [18] = {"IQ3_XXS", 256, 98, false},
    [19] = {"IQ1_S", 256, 50, false},
    [TENSOR_IQ4_NL] = {"IQ4_NL", 32, 18, true},
    [21] = {"IQ3_S", 256, 110, false},
    [22] = {"IQ2_S", 256, 82, false},
    [TENSOR_IQ4_XS] = {"IQ4_XS", 256, 136, true},
    [24] = {"I8", 1, 1, false},
    [25] = {"I16", 1, 2, false},
    [26] = {"I32", 1, 4, false},
    [27] = {"I64", 1, 8, false},
    [28] = {"F64", 1, 8, false},
    [29] = {"IQ1_M", 256, 56, false},
    [TENSOR_BF16] = {"BF16", 1, 2, true},
    [34] = {"TQ1_0", 256, 54, false},
    [35] = {"TQ2_0", 256, 66, false},
    [TENSOR_MXFP4] = {"MXFP4", 32, 17, true},
    [40] = {"NVFP4", 64, 36, false},
    [41] = {"Q1_0", 128, 18, false},
    [42] = {"Q2_0", 64, 18, false},
};

const struct tensor_type_info *tensor_type_info(uint32_t type)
{
    if (type >= sizeof TYPES / sizeof TYPES[0] || TYPES[type].name == NULL)
        return NULL;
    return &TYPES[type];
}

uint64_t tensor_type_bytes(uint32_t type, uint64_t n_in, uint64_t n_rows)
{
    const struct tensor_type_info *info = tensor_type_info(type);
    if (info == NULL || n_in == 0 || n_rows == 0 || n_in % info->block_values != 0)
        return 0;

    uint64_t row_bytes, bytes;
    if (__builtin_mul_overflow(n_in / info->block_values, (uint64_t)info->block_bytes,
                               &row_bytes) ||
        __builtin_mul_overflow(row_bytes, n_rows, &bytes))
        return 0;
    return bytes;
}

void tensor_type_row_to_f32(uint32_t type, const void *row, uint32_t n_in, float *out)
{
    const struct tensor_type_info *info = tensor_type_info(type);
    assert(info != NULL && info->is_read && n_in % info->block_values == 0);

    const uint8_t *bytes = row;
    if (tensor_type_is_float(type)) {
        for (uint32_t i = 0; i < n_in; i++, bytes += info->block_bytes)
            out[i] = tensor_block_float(type, bytes);
        return;
    }
    for (uint32_t b = 0; b < n_in / TENSOR_BLOCK_VALUES; b++) {
        struct tensor_block block;
        struct tensor_values values;
        tensor_block_read(type, bytes, b, &block);
        tensor_block_values(type, &block, &values);
        tensor_block_to_f32(type, &values, out + (size_t)b * TENSOR_BLOCK_VALUES);
    }
}

const char *tensor_type_read_list(void)
{
    return "F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, "
           "IQ4_NL, IQ4_XS, MXFP4";
}

static float float_of_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* A signalling NaN becomes quiet, as the conversion instructions make it. */
float f16_to_f32(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000) << 16;
    uint32_t exponent = (half >> 10) & 31;
    uint32_t mantissa = half & 0x3ff;

    if (exponent == 31) {
        uint32_t quiet = mantissa != 0 ? 1u << 22 : 0;
        return float_of_bits(sign | 0x7f800000 | quiet | mantissa << 13);
    }
    if (exponent == 0) { /* mantissa * 2^-24, exact in f32 */
        float value = (float)mantissa * 0x1p-24f;
        return sign != 0 ? -value : value;
    }
    return float_of_bits(sign | (exponent + 112) << 23 | mantissa << 13);
}

/* bits / 2^shift, rounded to nearest, ties to even */
static uint32_t shift_to_even(uint32_t bits, uint32_t shift)
{
    uint32_t kept = bits >> shift;
    uint32_t rest = bits & ((1u << shift) - 1);
    uint32_t half = 1u << (shift - 1);
    return kept + (rest > half || (rest == half && (kept & 1)));
}

uint16_t f16_from_f32(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint32_t sign = bits >> 16 & 0x8000;
    bits &= 0x7fffffff;

    if (bits > 0x7f800000)
        return (uint16_t)(sign | 0x7e00 | (bits >> 13 & 0x1ff));
    if (bits >= 0x477ff000) /* 65520 and above round to infinity */
        return (uint16_t)(sign | 0x7c00);
    if (bits >= 0x38800000) /* 2^-14: normal; a carry out of the mantissa steps the exponent */
        return (uint16_t)(sign | shift_to_even(bits - (112u << 23), 13));
    if (bits < 0x33000000) /* below 2^-25 */
        return (uint16_t)sign;

    uint32_t mantissa = (bits & 0x7fffff) | 0x800000;
    return (uint16_t)(sign | shift_to_even(mantissa, 126 - (bits >> 23)));
}

uint16_t f16_from_f32_saturating(float value, bool *saturated)
{
    *saturated = value > 65504.0f || value < -65504.0f;
    if (*saturated)
        value = value > 0 ? 65504.0f : -65504.0f;
    return f16_from_f32(value);
}
