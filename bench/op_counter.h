/* bench/op_counter.h: a device that computes nothing and counts what its ops would cost: the
 * forward pass runs over it.
 *
 *   model/forward.c --ops--> counted norm, linear, ... --struct cost_model--> a line a kernel
 *
 * Its memory is the host's, so arrays are read where they stand; where nothing is written the
 * system gives no memory. Only experts are chosen: rows take them in turns. Thread: one.
 */
#ifndef QUIRE_BENCH_OP_COUNTER_H
#define QUIRE_BENCH_OP_COUNTER_H

#include "kernels/device_backend.h"
#include "kernels/op_cost.h"
#include "kernels/ops.h"

#define COUNTER_LINES_MAX 64
#define COUNTER_NAME_BYTES 64

/* What the kernels of one backend cost. */
struct cost_model {
    const char *name;    /* "CPU" */
    size_t weight_bytes; /* of its struct weight */
    int (*weight_plan)(enum weight_fuse fuse, const struct weight_source *sources,
                       uint32_t n_sources, enum activations activations, struct weight *out,
                       struct why *why);
    struct weight_info (*weight_info)(const struct weight *weight);
    struct op_cost (*embed)(const struct embed_args *args);
    struct op_cost (*norm)(const struct norm_args *args, enum activations activations);
    struct op_cost (*quantize)(const struct quantize_args *args, enum activations activations);
    struct op_cost (*linear)(const struct linear_args *args, enum activations activations);
    struct op_cost (*linear_heads)(const struct linear_heads_args *args,
                                   enum activations activations);
    struct op_cost (*linear_glu)(const struct linear_glu_args *args, enum activations activations);
    struct op_cost (*route)(const struct route_args *args);
    struct op_cost (*moe)(const struct moe_args *args, enum activations activations);
    struct op_cost (*rope_append)(const struct rope_append_args *args);
    struct op_cost (*page_seal)(const struct page_seal_args *args);
    struct op_cost (*attend)(const struct attend_args *args, enum activations activations);
    struct op_cost (*gather)(const struct gather_args *args);
    struct op_cost (*greedy)(const struct sample_args *args);
};

extern const struct cost_model cost_model_cpu;  /* bench/cost_model_cpu.c */
extern const struct cost_model cost_model_cuda; /* bench/cost_model_cuda.c */

struct counter_line { /* of one kernel, or one matrix */
    char name[COUNTER_NAME_BYTES];
    uint32_t n_calls;
    struct op_cost cost;
};

struct op_counter {
    struct device base; /* first: what streams and the forward pass are handed */
    struct device_backend backend;
    struct ops ops;
    const struct cost_model *model;
    enum activations activations;
    bool owns_weights; /* they were loaded by it, and have names */
    uint32_t n_lines;
    struct counter_line lines[COUNTER_LINES_MAX];
};

/* The counter stays where it is from now on. owns_weights false: the forward pass brings weights
 * that the backend itself has made. */
void op_counter_init(struct op_counter *counter, const struct cost_model *model,
                     enum activations activations, bool owns_weights);
void op_counter_clear(struct op_counter *counter);
/* Adds an op that is not part of the forward pass. Lines beyond the last are dropped. */
void op_counter_add(struct op_counter *counter, const char *name, const struct op_cost *cost);
struct op_cost op_counter_total(const struct op_counter *counter);

#endif
