/* tests/kernels/linear_fixture.h: an open CPU device with a stream, random weights in the file's
 * form, rows in a panel, one linear. */
#ifndef QUIRE_TESTS_LINEAR_FIXTURE_H
#define QUIRE_TESTS_LINEAR_FIXTURE_H

#include "kernels/ops.h"
#include "kernels/tensor_type.h"

struct rig {
    struct device *device;
    struct stream *stream;
    const struct ops *ops;
    enum isa isa;
    enum activations activations;
};

struct rig rig_open(enum isa isa, enum activations activations, int n_threads);
void rig_close(struct rig *rig);
float *rig_alloc_floats(struct rig *rig, size_t n);
void rig_run(struct rig *rig); /* submit and wait; the status must be OK */

/* A panel that holds `rows` [n_rows, width] (host), written by the rig's own instruction set. */
struct act rig_act(struct rig *rig, uint32_t max_rows, uint32_t width, uint32_t forms);
void rig_fill_act(struct rig *rig, const struct act *act, const float *rows, uint32_t n_rows);

extern const uint32_t linear_types[];
#define N_LINEAR_TYPES 16
/* The next width that is whole blocks of the type. */
uint32_t linear_width(uint32_t type, uint32_t n_in);

uint32_t random_next(uint64_t *state);
float random_float(uint64_t *state); /* about normal, deviation 1 */
/* malloc'd; all quants and signs of scales occur. The caller frees it. */
uint8_t *random_weight(uint32_t type, uint32_t n_in, uint32_t n_out, uint64_t seed);
/* malloc'd [n_rows, width]; some values are 100 times larger, some blocks are zero. */
float *random_rows(uint32_t n_rows, uint32_t width, uint64_t seed);
struct weight *rig_load(struct rig *rig, enum weight_fuse fuse, const struct weight_source *sources,
                        uint32_t n_sources);

struct linear_case {
    uint32_t type, n_in, n_out, n_rows;
    enum linear_mode mode;
    bool has_bias;
    uint32_t extra_stride; /* y_stride = n_out + extra_stride */
    uint64_t seed;
};
/* Runs the case on a fresh device; malloc'd [n_rows, y_stride]. y starts as 0.5, columns beyond
 * n_out must stay so. */
float *linear_result(enum isa isa, enum activations activations, int n_threads,
                     const struct linear_case *c);

#endif
