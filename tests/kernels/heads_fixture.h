/* tests/kernels/heads_fixture.h: a matrix a head in the file's form, a linear_heads of any backend,
 * and what that backend's own linears give for it, head by head.
 */
#ifndef QUIRE_TESTS_HEADS_FIXTURE_H
#define QUIRE_TESTS_HEADS_FIXTURE_H

#include "kernels/ops.h"

struct heads_case {
    uint32_t type, n_heads, n_in, n_out, n_rows;
    uint32_t n_tail;
    uint32_t extra; /* values of a head that are not taken: of rows between n_in and the tail, and
                       of y behind it */
};

struct heads_bench { /* of one backend */
    struct device *device;
    struct stream *stream;
    const struct ops *ops;
};

/* Rows [n_rows, n_heads * (n_in + extra + n_tail)] through quantize and linear_heads, the tails
 * behind the outputs; malloc'd [n_rows, n_heads * (n_out + n_tail + extra)]. What is not written
 * stays 0.5. */
float *heads_result(struct heads_bench *bench, const struct heads_case *c);
/* The same, made of quantize and linear with each head's values and matrix alone. */
float *heads_of_linears(struct heads_bench *bench, const struct heads_case *c);
size_t heads_values(const struct heads_case *c); /* of both */

#endif
