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

#include "kernels/kv_page.h"

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

#define OPS_SEAL 7 /* of a value: least, greatest, difference, quotient, rounding, two clamps */

/* page_seal of either backend: each page whose last token is one of the rows is read as it was
 * written, and written packed. */
static inline struct op_cost op_cost_seal(const struct rows_view *rows,
                                          const struct kv_group_view *group, size_t open_bytes,
                                          size_t full_bytes)
{
    const struct kv_shape *shape = &group->shape;
    double width = shape->k_dim + (shape->v_in_k ? 0 : shape->v_dim), n = 0;
    for (uint32_t s = 0; s < rows->n_seqs; s++) {
        uint32_t begin = rows->seq_begin[s], end = rows->seq_begin[s + 1];
        if (begin < end) {
            struct kv_page_run filled =
                kv_pages_filled(rows->position[begin], rows->position[end - 1]);
            n += filled.end - filled.begin;
        }
    }
    return (struct op_cost){.read = n * (double)open_bytes,
                            .written = n * (double)full_bytes,
                            .float_ops = n * OPS_SEAL * PAGE_TOKENS * shape->n_kv_heads * width};
}

#endif
