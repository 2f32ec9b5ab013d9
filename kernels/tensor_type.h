/* kernels/tensor_type.h: the tensor types of GGUF files: sizes, names, and the readable
 * dequantisation of a row.
 *
 * Ids are the file's (models.md 2.1). Every id that has ever been given out has a row, so that a
 * refusal can name it; `is_read` says whether this build multiplies it.
 */
#ifndef QUIRE_KERNELS_TENSOR_TYPE_H
#define QUIRE_KERNELS_TENSOR_TYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum tensor_type {
    TENSOR_F32 = 0,
    TENSOR_F16 = 1,
    TENSOR_Q4_0 = 2,
    TENSOR_Q4_1 = 3,
    TENSOR_Q5_0 = 6,
    TENSOR_Q5_1 = 7,
    TENSOR_Q8_0 = 8,
    TENSOR_Q2_K = 10,
    TENSOR_Q3_K = 11,
    TENSOR_Q4_K = 12,
    TENSOR_Q5_K = 13,
    TENSOR_Q6_K = 14,
    TENSOR_IQ4_NL = 20,
    TENSOR_IQ4_XS = 23,
    TENSOR_BF16 = 30,
    TENSOR_MXFP4 = 39,
    TENSOR_TYPES /* one more than the largest that is read */
};

struct tensor_type_info {
    const char *name;      /* "Q4_1" */
    uint32_t block_values; /* values of one block, along the contiguous dimension */
    uint32_t block_bytes;
    bool is_read;
};

const struct tensor_type_info *tensor_type_info(uint32_t type); /* NULL: unknown or removed id */
/* Bytes of n_rows rows of n_in values; 0 when the type is unknown, n_in is not whole blocks, or the
 * product overflows. */
uint64_t tensor_type_bytes(uint32_t type, uint64_t n_in, uint64_t n_rows);
/* The exact values of one row of whole blocks as models.md 2.2 gives them. The type must be read by
 * this build. */
void tensor_type_row_to_f32(uint32_t type, const void *row, uint32_t n_in, float *out);
const char *tensor_type_read_list(void); /* "F32, F16, BF16, Q4_0, ..." */

static inline bool tensor_type_is_float(uint32_t type)
{
    return type == TENSOR_F32 || type == TENSOR_F16 || type == TENSOR_BF16;
}

float f16_to_f32(uint16_t half);           /* exact, NaN kept */
uint16_t f16_from_f32(float value);        /* round to nearest even; overflow gives infinity */
/* +-65504 beyond the range; NaN stays NaN */
uint16_t f16_from_f32_saturating(float value, bool *saturated);

#endif
