/* kernels/tensor_block.h: what 32 values of a quantised row are, in the file's fields and in exact
 * numbers: the one place that knows the formulas of models.md 2.2.
 *
 *   file's bytes --read--> codes, scales --values--> w, d, m: value = d * w (+ m)
 *
 * A block of 256 values counts as eight of 32. Where two scales stand in 32 values, [0] is that of
 * the first 16, [1] that of the others; elsewhere both are the same. Q2_K and Q3_K multiply the
 * code by its small scale in integers, which is exact and leaves one d to a block; Q3_K does so
 * with both signs turned, so that w fits a signed byte.
 */
#ifndef QUIRE_KERNELS_TENSOR_BLOCK_H
#define QUIRE_KERNELS_TENSOR_BLOCK_H

#include "kernels/tensor_type.h"

#define TENSOR_BLOCK_VALUES 32

struct tensor_block {                 /* as the file has it */
    uint8_t code[TENSOR_BLOCK_VALUES]; /* unsigned; of Q8_0 the byte XOR 0x80 */
    uint8_t scale[2], minimum[2];      /* bare fields of the K types, IQ4_XS and MXFP4 (exponent) */
    uint16_t d, m;                     /* f16 bits; m is dmin of the K types */
};

struct tensor_values {
    int16_t w[TENSOR_BLOCK_VALUES]; /* -128..127 */
    float d[2], m[2];
};

/* Whether values of this type are d * w + m, and not d * w. */
bool tensor_block_has_minimum(uint32_t type);
/* Block b of 32 values of a row that stands at any alignment. Types of integers only. */
void tensor_block_read(uint32_t type, const uint8_t *row, uint32_t block_idx,
                       struct tensor_block *out);
void tensor_block_values(uint32_t type, const struct tensor_block *block,
                         struct tensor_values *out);
void tensor_block_to_f32(uint32_t type, const struct tensor_values *values, float *out /* [32] */);
/* One value of F32, F16 or BF16. */
float tensor_block_float(uint32_t type, const uint8_t *bytes);

/* The values of IQ4_NL and IQ4_XS, and of MXFP4 twice what they are. */
extern const int8_t tensor_block_iq4[16], tensor_block_mxfp4[16];

#endif
