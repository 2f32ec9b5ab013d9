/* kernels/cpu/cpu_glu.h: silu(gate) * up of one unit (32 outputs) and some rows, into a panel: for
 * linear_glu, and for each expert of moe.
 */
#ifndef QUIRE_KERNELS_CPU_GLU_H
#define QUIRE_KERNELS_CPU_GLU_H

#include "kernels/cpu/cpu_walk.h"

#define GLU_GROUPS 4 /* of one pass: 12 KB of accumulators for the four tiles of a unit */

struct cpu_glu {
    const struct weight *weight;      /* GATE_UP */
    struct cpu_input input;
    const float *row_scales;          /* [n_rows]: of both chains, in front of biases; or NULL */
    const float *gate_bias, *up_bias; /* [n_out], or NULL */
    struct act out;                   /* of as many rows */
    const struct cpu_panel_ops *panel;
    cpu_tile_glu *multiply;
};

/* A cpu_walk_visit; arg is a struct cpu_glu. A pass has at most GLU_GROUPS groups. */
void cpu_glu_visit(const void *arg, uint32_t unit, struct cpu_pass *pass);

#endif
