/* bench/cuda/gpu_check_run.h: a model with pages and a forward pass, stepped by hand on any device.
 *
 *   check_run_open -> check_run_step ... -> check_run_close
 *   or, as many ahead as the device's depth: check_run_launch, check_run_launch, check_run_wait ...
 *
 * Each sequence has its own pages, all of them from the start, in an order that a seed gives; the
 * sequence is its own slot in the table. A group that sees a chunk has as many pages as can be seen
 * or written at once: its table names them over and over. Host arrays are one set a step under way.
 * Nothing is allocated in a step. Thread: one.
 */
#ifndef QUIRE_BENCH_GPU_CHECK_RUN_H
#define QUIRE_BENCH_GPU_CHECK_RUN_H

#include "kernels/op_cost.h"
#include "model/forward.h"
#include "model/model.h"

struct check_run_sizes {
    uint32_t n_seqs;
    uint64_t n_tokens; /* most tokens of one sequence */
    uint32_t max_rows, max_outputs;
};

struct check_run_arrays { /* one block, laid out alike on host and device */
    struct row_input *inputs;
    uint32_t *position, *row_seq, *seq_begin;
    uint32_t *output_rows, *output_position, *output_seq, *output_begin;
    struct sample_params *params;
};

struct check_run_set { /* host memory of a step under way */
    void *block; /* what `arrays` are places in */
    struct check_run_arrays arrays;
    struct sample_result *results; /* [max_outputs] */
};

struct check_run {
    struct device *device;
    const struct ops *ops;
    const struct model *model;
    struct check_run_sizes sizes;
    struct forward *forward;
    struct stream *stream;
    struct kv_view view;
    size_t group_bytes[KV_GROUPS_MAX]; /* of its pages */
    size_t pages_bytes;                /* of all groups */
    uint32_t *first_page;              /* device: zeros, of every group */
    struct check_run_set sets[DEVICE_DEPTH_MAX];
    uint64_t n_launched;
    struct check_run_arrays on_device;
    void *device_block;
    size_t block_bytes;
    struct sample_result *results_on_device;
    void *sample_workspace;
    struct graph *graph; /* of a step of one row and one output, or NULL */
};

struct check_piece { /* adjacent rows of one sequence */
    uint32_t seq, position;
    const uint32_t *ids;        /* NULL: one row, what output 0 of the step before drew */
    uint32_t n_rows, n_outputs; /* outputs are the last rows */
};

/* check_run_close is needed in any case. STATUS_NO_MEMORY, with numbers: bytes of pages that are
 * needed and free, when it is they that do not fit. */
int check_run_open(struct check_run *run, struct device *device, const struct model *model,
                   const struct check_run_sizes *sizes, struct why *why);
void check_run_close(struct check_run *run);
/* Keys and values as a seed has them. CUDA alone. */
int check_run_fill_pages(struct check_run *run, uint64_t seed, struct why *why);

/* From now on steps of one row and one output are runs of one graph, where the device has graphs.
 * No step may be under way. */
int check_run_make_graph(struct check_run *run, struct why *why);
void check_run_drop_graph(struct check_run *run);

/* Enqueues a step, draws from each output greedily, and submits; fewer than device_depth steps may
 * be under way. */
void check_run_launch(struct check_run *run, const struct check_piece *pieces, uint32_t n_pieces);
int check_run_wait(struct check_run *run, struct why *why); /* for the oldest */
/* Both. No step may be under way. */
int check_run_step(struct check_run *run, const struct check_piece *pieces, uint32_t n_pieces,
                   struct why *why);
/* Logits of the last step's outputs, [n, vocabulary]. */
int check_run_read_logits(struct check_run *run, uint32_t n, float *out, struct why *why);

/* What a step of n_rows behind `position` tokens, of one sequence, costs on a GPU. */
int check_step_cost(const struct model *model, uint32_t position, uint32_t n_rows,
                    uint32_t n_outputs, struct op_cost *out, struct why *why);

#endif
