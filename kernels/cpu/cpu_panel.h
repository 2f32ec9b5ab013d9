/* kernels/cpu/cpu_panel.h: the layout of struct act on the CPU, and the quantizers.
 *
 * A panel group holds PANEL_ROWS = 12 rows (the last one of a step fewer: m = n_rows % 12). Row r
 * of a step stands in group r / 12 at r % 12. Per block of 32 values a group holds, for its m rows
 * (cpu_kernels.md 2 and 14):
 *
 *   ACTIVATIONS_16:   v[m][32] i16        | da[m] f32 | sa[m] f32 | nb[m] i32 | nh[m] i32   m > 1
 *                     hi[32] i8 | lo[32] i8 | the same                                      m = 1
 *   ACTIVATIONS_INT8: q[m][32] i8         | the same
 *
 * 80 m and 48 m bytes. v = 256 hi + lo: a row that is alone meets weights as the tile has them, in
 * bytes; several meet weights that were widened for all of them. sa = da * sum, nb = -128 * sum; nh
 * = -128 * the sum of the first 16 values, for weights with two scales in a block.
 *
 * ACT_FLOATS: plain rows f32 [n_rows, width] behind the blocks form (64-byte aligned). ACT_QUERY:
 * plain rows f32.
 * The address of a row's data depends on n_rows only through m; its values never do.
 */
#ifndef QUIRE_KERNELS_CPU_PANEL_H
#define QUIRE_KERNELS_CPU_PANEL_H

#include "kernels/cpu/cpu_stream.h"

#define PANEL_ROWS 12
#define BLOCK_VALUES 32
#define PANEL_BYTES_16 80
#define PANEL_BYTES_INT8 48

size_t cpu_act_bytes(const struct device *device, uint32_t max_rows, uint32_t width,
                     uint32_t forms);
/* Where the f32 rows stand (ACT_FLOATS or ACT_QUERY). */
float *cpu_act_floats(const struct act *act, enum activations activations);
/* First byte of the group that holds rows [12 * group_idx, ...) of n_rows rows. */
uint8_t *cpu_act_group(const struct act *act, enum activations activations, uint32_t group_idx,
                       uint32_t n_rows);

/* Row from_row of from_rows as row to_row of to_rows, in all forms of `to`, which `from` has too:
 * the same values, nothing is quantized again. Of equal width; one writer a row. */
void cpu_panel_copy(const struct act *from, uint32_t from_row, uint32_t from_rows,
                    const struct act *to, uint32_t to_row, uint32_t to_rows,
                    enum activations activations);

/* Writes values [first, first + n) (first and n multiples of 32, or the padded end) of row r in all
 * forms that the act has. The row's width may end inside a block: the rest of the last block is
 * zero. One writer a (row, block). */
struct cpu_panel_ops {
    void (*write)(const struct act *act, enum activations activations, uint32_t row,
                  uint32_t n_rows, uint32_t first, uint32_t n, const float *values);
};
/* The same bits from each; chosen by isa. */
const struct cpu_panel_ops *cpu_panel_ops(enum isa isa);

#endif
