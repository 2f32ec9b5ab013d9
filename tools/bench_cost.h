/* tools/bench_cost.h: what a step must do at least, counted from the plan: operations and bytes.
 *
 * An operation is a multiplication or an addition. Linears count every weight once a row,
 * attention every visible key and value once a query head; norms and the like are left out. What
 * forward.h leaves out at the end is not counted either: in the last layer all rows have keys and
 * values made, and n_last_rows the rest. Of experts those count that a row chooses. Bytes: weights
 * once a step, keys and values once a row and kv head.
 */
#ifndef QUIRE_TOOLS_BENCH_COST_H
#define QUIRE_TOOLS_BENCH_COST_H

#include "model/model.h"
#include "tools/peaks.h"

struct bench_cost {
    double linear_ops, attention_ops, bytes;
};

struct bench_work {
    uint64_t first, n_rows, n_steps; /* tokens at positions first, first + 1, ... */
    uint64_t n_outputs;              /* rows of logits */
    uint64_t n_last_rows;            /* that go through all of the last layer: at the end */
};

struct bench_cost bench_cost_of(const struct model *model, const struct kv_dtypes *dtypes,
                                const struct bench_work *work);

/* Operations a second that linears could reach at most: two integer passes for 16-bit activations,
 * one for int8; fma where weights or activations are floats. */
double bench_linear_peak(const struct peaks *peaks, enum activations activations,
                         bool has_block_weights);

/* Seconds that the cost takes at the peaks: the longer of computing and reading. */
double bench_least_seconds(const struct bench_cost *cost, const struct peaks *peaks,
                           double linear_peak);

#endif
