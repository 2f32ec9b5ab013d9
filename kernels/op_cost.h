/* kernels/op_cost.h: what one call of an op costs, counted as the kernel's source has it: for
 * rooflines.
 *
 * Bytes are those of weights, pages, activations and vectors that come from memory or go there,
 * once a walk over them; what a kernel reads again while it is in cache is not counted. An
 * operation is one multiplication, addition, comparison or rounding; a fused one counts two. Those
 * of matrix instructions count whole tiles, with the rows that only fill them up.
 */
#ifndef QUIRE_KERNELS_OP_COST_H
#define QUIRE_KERNELS_OP_COST_H

struct op_cost {
    double read, written;                 /* bytes */
    double int8_ops, half_ops, float_ops; /* of bytes; of f16 by matrix instructions; of floats */
};

static inline void op_cost_add(struct op_cost *sum, const struct op_cost *cost)
{
    sum->read += cost->read;
    sum->written += cost->written;
    sum->int8_ops += cost->int8_ops;
    sum->half_ops += cost->half_ops;
    sum->float_ops += cost->float_ops;
}

#endif
