/* tools/run.h: a model with a cache and a forward pass, stepped by hand: what logits and bench
 * share.
 *
 *   run_open     device, weights
 *   run_prepare  cache, workspace
 *   run_begin -> run_step ... -> run_end
 *
 * A step holds pieces of several sequences; the outputs of a piece are its last rows. Everything is
 * committed at the end of its step. Thread: one.
 */
#ifndef QUIRE_TOOLS_RUN_H
#define QUIRE_TOOLS_RUN_H

#include "kernels/ops.h"
#include "kvcache/kv_cache.h"
#include "model/forward.h"
#include "model/model.h"

struct run_options {
    const char *model_path;
    struct device_options device;
    struct kv_dtypes kv_dtypes;
    bool quiet; /* no progress on standard error */
};

struct run_sizes {
    uint32_t n_sequences;
    uint64_t n_tokens; /* most tokens of one sequence */
    uint32_t max_rows, max_outputs;
    bool draws; /* each output row is also drawn from, greedily */
    bool no_last_layer_saving; /* forward_keep_last_layer_whole */
};

struct run_arrays { /* one block, laid out alike on host (of device_alloc_host) and device */
    struct row_input *inputs;
    uint32_t *position, *row_seq, *seq_begin;
    uint32_t *output_rows, *output_position, *output_seq, *output_begin;
    struct sample_params *params;
};

struct run {
    struct device *device;
    const struct ops *ops;
    struct model *model;
    struct kv_dtypes kv_dtypes;
    struct run_sizes sizes;
    struct kv_cache *cache;
    struct forward *forward;
    struct stream *stream;
    struct run_arrays host, on_device;
    void *host_block, *device_block;
    size_t block_bytes;
    struct sample_result *results; /* host [max_outputs], when draws */
    struct sample_result *results_on_device;
    void *sample_workspace;
};

struct run_piece {
    kv_seq_id seq;
    const uint32_t *ids;
    uint32_t n_rows, n_outputs; /* n_outputs <= n_rows */
};

/* The plan alone: its numbers are enough to refuse what a minute of loading would only come to. The
 * caller releases *out with model_plan_release. STATUS_* of gguf_open and model_plan_read. */
int run_read_plan(const char *path, struct model_plan *out, struct why *why);
/* Opens the device and loads the model, with progress. STATUS_* of device_open, model_load
 * and model_shape_check_pages; run_close is then needed all the same. */
int run_open(const struct run_options *options, struct run *run, struct why *why);
/* Once. STATUS_NO_MEMORY with numbers. */
int run_prepare(struct run *run, const struct run_sizes *sizes, struct why *why);
void run_close(struct run *run);

int run_begin(struct run *run, kv_seq_id *out, struct why *why); /* a sequence of up to n_tokens */
void run_end(struct run *run, kv_seq_id seq);
/* Runs the pieces, each of another sequence, and waits. Status of the stream. */
int run_step(struct run *run, const struct run_piece *pieces, uint32_t n_pieces, struct why *why);
/* Copies logits of outputs [first, first + n) of the last step to out [n, vocabulary]. */
int run_read_logits(struct run *run, uint32_t first, uint32_t n, float *out, struct why *why);

#endif
