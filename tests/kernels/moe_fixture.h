/* tests/kernels/moe_fixture.h: experts in the file's form, rows that choose among them, a moe of
 * any backend, and what that backend's own linears give for it, expert by expert.
 */
#ifndef QUIRE_TESTS_MOE_FIXTURE_H
#define QUIRE_TESTS_MOE_FIXTURE_H

#include "kernels/ops.h"

struct moe_case {
    uint32_t gate_type, up_type, down_type;
    uint32_t n_experts, n_used;
    uint32_t n_in, n_ff, n_out;
    uint32_t n_rows;
    bool scales_input;
    enum linear_mode mode;
    uint32_t extra_stride; /* y_stride = n_out + extra_stride */
};

struct moe_inputs { /* malloc'd */
    struct weight_source *gate_up, *down; /* [2 * n_experts], [n_experts] */
    float *rows;                          /* [n_rows, n_in] */
    uint32_t *experts; /* [n_rows, n_used]: most rows choose expert 0 among others, none the last
                          where there are more than are used */
    float *weights;    /* [n_rows, n_used] */
};

struct moe_bench { /* of one backend */
    struct device *device;
    struct stream *stream;
    const struct ops *ops;
    void *owner;
    /* A panel with these rows; the caller frees its base. */
    struct act (*panel)(void *owner, const float *rows, uint32_t n_rows, uint32_t width,
                        uint32_t forms);
};

struct moe_inputs moe_inputs_of(const struct moe_case *c);
void moe_inputs_free(const struct moe_case *c, struct moe_inputs *inputs);

/* Weights, panel, routing and workspace on the device, the latter garbage; y is 0.5 everywhere. */
struct moe_args moe_open(struct moe_bench *bench, const struct moe_case *c,
                         const struct moe_inputs *inputs);
void moe_close(struct moe_bench *bench, const struct moe_args *args);
/* Submits and waits; malloc'd [n_rows, y_stride]. */
float *moe_wait(struct moe_bench *bench, const struct moe_case *c, const struct moe_args *args,
                int *status);
/* malloc'd [n_rows, y_stride]; y is 0.5 everywhere before. *status gets that of the stream. */
float *moe_result(struct moe_bench *bench, const struct moe_case *c,
                  const struct moe_inputs *inputs, int *status);
/* The same, made of linear with each expert's matrices alone and sums in the order of slots. */
float *moe_of_linears(struct moe_bench *bench, const struct moe_case *c,
                      const struct moe_inputs *inputs);

#endif
