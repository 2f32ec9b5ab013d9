/* tests/kernels/cuda_linear_fixture.h: panels of activations on a GPU from rows of the host, and
 * one linear.
 */
#ifndef QUIRE_TESTS_CUDA_LINEAR_FIXTURE_H
#define QUIRE_TESTS_CUDA_LINEAR_FIXTURE_H

#include "tests/kernels/linear_fixture.h"
#include "tests/kernels/twin_fixture.h"
#include "tests/under_tsan.h"

/* One type for each way in which matrices stand on the device. What is not of the repacking
 * alone is tested with these. Under TSan one for each way in which threads share what they read:
 * straight from memory; a stage without scales; with the fewest codes; with the most scales. */
extern const uint32_t plane_types[];
#define N_PLANE_TYPES (UNDER_TSAN ? 4 : 10)

/* Rounds each value to f16, as a panel without scales holds it. */
void round_to_f16(float *values, size_t n);
/* The scale of a panel's row of halves: 1, or where a value is beyond f16 the power of two that
 * brings it below 2^15. */
float panel_scale(const float *row, uint32_t width);
/* A panel that holds `rows` [n_rows, width] (host), with room for no other row. */
struct act twin_panel(struct twin *twin, const float *rows, uint32_t n_rows, uint32_t width,
                      uint32_t forms);
struct weight *twin_load(struct twin *twin, enum weight_fuse fuse,
                         const struct weight_source *sources, uint32_t n_sources);

/* y[r, o] of a linear without bias; malloc'd [n_rows, n_out]. */
float *twin_product(struct twin *twin, const struct weight *weight, const float *rows,
                    uint32_t n_rows);

#endif
