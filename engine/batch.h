/* engine/batch.h: the flat arrays of one step, built on the host and copied to the device in one
 * piece.
 *
 *   rows      seq 3: token token token | seq 5: token | seq 9: token     adjacent by sequence
 *   outputs   the last row of each sequence that wants a token           ascending
 *
 * Positions within a sequence ascend by one. Thread: engine only. Allocates in batch_create and
 * nowhere else.
 */
#ifndef QUIRE_ENGINE_BATCH_H
#define QUIRE_ENGINE_BATCH_H

#include "engine/sequence.h"
#include "kernels/ops.h"
#include "model/forward.h"

struct batch_arrays { /* the same layout on host and device */
    struct row_input inputs[STEP_ROWS_MAX];
    uint32_t ids[STEP_ROWS_MAX]; /* of inputs, for counting */
    uint32_t position[STEP_ROWS_MAX], row_seq[STEP_ROWS_MAX];
    uint32_t seq_begin[STEP_ROWS_MAX + 1];
    uint32_t output_rows[STEP_ROWS_MAX];
    struct sample_params params[STEP_ROWS_MAX];
};

struct batch {
    struct device *device;
    struct batch_arrays *host, *on_device; /* host, here and below: of device_alloc_host */
    struct sample_result *results, *results_on_device; /* host and device [max_outputs] */
    /* [n_banned] ends of generation, ascending */
    uint32_t *banned_on_device;
    uint32_t n_banned;
    uint32_t *counts; /* device [n_slots, vocabulary] for repetition penalties */
    uint32_t n_slots, vocabulary;
    void *workspace; /* of sample */
    /* of the step under way */
    uint32_t n_rows, n_seqs, n_outputs, max_position;
    struct sequence *sequences[STEP_ROWS_MAX]; /* [n_seqs] */
    uint32_t n_rows_of[STEP_ROWS_MAX];         /* [n_seqs] */
    struct sequence *outputs[STEP_ROWS_MAX];   /* [n_outputs] */
};

/* STATUS_NO_MEMORY with numbers; the caller frees *out with batch_free. */
int batch_create(struct device *device, const struct model *model, uint32_t max_sequences,
                 struct batch **out, struct why *why);
void batch_free(struct batch *batch);
void batch_clear(struct batch *batch);
/* The next n_rows of a sequence: of its prompt, or its newest token. */
void batch_add(struct batch *batch, struct sequence *sequence, uint32_t n_rows);
/* Enqueues upload, forward pass, sampling, and the reading of results. */
void batch_run(struct batch *batch, struct forward *forward, struct kv_cache *cache,
               struct stream *stream);
uint32_t batch_ops_max(uint32_t max_sequences);

#endif
