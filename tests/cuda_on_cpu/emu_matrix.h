/* tests/cuda_on_cpu/emu_matrix.h: matrix fragments spread over a warp: ldmatrix, stmatrix, mma.
 *
 * Lane l, row r = l / 4, column c = l % 4. Of an 8x8 tile of 16-bit values a lane holds row r,
 * columns 2c and 2c + 1. m16n8k16: A is four such tiles (rows 0-7 then 8-15, k 0-7 then 8-15), B
 * two (its columns are the tile's rows), C rows r and r + 8, columns 2c and 2c + 1. 8-bit operands
 * hold four values along k where 16-bit ones hold two. (PTX manual, warp-level matrix fragments.)
 *
 * Products are exact, sums are taken in double and rounded once, int8 sums are exact: a neutral
 * stand-in for tensor cores, which align and truncate, each generation its own way.
 */
#ifndef QUIRE_EMU_MATRIX_H
#define QUIRE_EMU_MATRIX_H

#include <stdint.h>

#include "tests/cuda_on_cpu/emu_block.h"

/* `tiles` is 1, 2 or 4; the first 8 * tiles lanes say where rows are, at multiples of 16 bytes. */
void emu_ldmatrix(uint32_t *registers, int tiles, bool transposed, const void *row,
                  struct emu_site site);
void emu_stmatrix(void *row, int tiles, bool transposed, const uint32_t *registers,
                  struct emu_site site);

enum emu_mma { EMU_MMA_F16, EMU_MMA_BF16, EMU_MMA_E4M3, EMU_MMA_S8 };

/* d += a b; d is four floats, or four int32 for S8. */
void emu_mma(enum emu_mma type, void *d, const uint32_t *a, const uint32_t *b,
             struct emu_site site);

static inline void ldmatrix_x1(uint32_t (&registers)[1], const void *row, EMU_SITE_PARAMETERS)
{
    emu_ldmatrix(registers, 1, false, row, EMU_SITE);
}

static inline void ldmatrix_x2(uint32_t (&registers)[2], const void *row, EMU_SITE_PARAMETERS)
{
    emu_ldmatrix(registers, 2, false, row, EMU_SITE);
}

static inline void ldmatrix_x4(uint32_t (&registers)[4], const void *row, EMU_SITE_PARAMETERS)
{
    emu_ldmatrix(registers, 4, false, row, EMU_SITE);
}

static inline void ldmatrix_x1_trans(uint32_t (&registers)[1], const void *row, EMU_SITE_PARAMETERS)
{
    emu_ldmatrix(registers, 1, true, row, EMU_SITE);
}

static inline void ldmatrix_x2_trans(uint32_t (&registers)[2], const void *row, EMU_SITE_PARAMETERS)
{
    emu_ldmatrix(registers, 2, true, row, EMU_SITE);
}

static inline void ldmatrix_x4_trans(uint32_t (&registers)[4], const void *row, EMU_SITE_PARAMETERS)
{
    emu_ldmatrix(registers, 4, true, row, EMU_SITE);
}

static inline void stmatrix_x1(void *row, const uint32_t (&registers)[1], EMU_SITE_PARAMETERS)
{
    emu_require_sm(90, "stmatrix", EMU_SITE);
    emu_stmatrix(row, 1, false, registers, EMU_SITE);
}

static inline void stmatrix_x2(void *row, const uint32_t (&registers)[2], EMU_SITE_PARAMETERS)
{
    emu_require_sm(90, "stmatrix", EMU_SITE);
    emu_stmatrix(row, 2, false, registers, EMU_SITE);
}

static inline void stmatrix_x4(void *row, const uint32_t (&registers)[4], EMU_SITE_PARAMETERS)
{
    emu_require_sm(90, "stmatrix", EMU_SITE);
    emu_stmatrix(row, 4, false, registers, EMU_SITE);
}

static inline void stmatrix_x4_trans(void *row, const uint32_t (&registers)[4], EMU_SITE_PARAMETERS)
{
    emu_require_sm(90, "stmatrix", EMU_SITE);
    emu_stmatrix(row, 4, true, registers, EMU_SITE);
}

/* d += a b; d holds rows r and r + 8, columns 2c and 2c + 1. */
static inline void mma_f16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                           EMU_SITE_PARAMETERS)
{
    emu_mma(EMU_MMA_F16, d, a, b, EMU_SITE);
}

static inline void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                            EMU_SITE_PARAMETERS)
{
    emu_mma(EMU_MMA_BF16, d, a, b, EMU_SITE);
}

static inline void mma_s8(int32_t (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                          EMU_SITE_PARAMETERS)
{
    emu_mma(EMU_MMA_S8, d, a, b, EMU_SITE);
}

static inline void mma_e4m3(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                            EMU_SITE_PARAMETERS)
{
    emu_require_sm(89, "mma of e4m3", EMU_SITE);
    emu_mma(EMU_MMA_E4M3, d, a, b, EMU_SITE);
}

#endif
