/* engine/batch.h: the rows of one step: flat arrays that are built on the host and copied to the
 * device in one piece, and whose they are.
 *
 *   rows      seq 3: token token token | seq 5: token | seq 9: token     adjacent by sequence
 *   outputs   the last row of each sequence that wants a token           ascending
 *
 * Positions within a sequence ascend by one. From its launch until its results are home the arrays
 * must stay as they are. Thread: engine only. Allocates in batch_create and nowhere else.
 */
#ifndef QUIRE_ENGINE_BATCH_H
#define QUIRE_ENGINE_BATCH_H

#include "engine/sequence.h"
#include "engine/step_cost.h"
#include "kernels/ops.h"
#include "limits.h"

#define COUNT_ROWS_MAX 4

struct batch_arrays { /* the same layout on host and device */
    struct row_input inputs[STEP_ROWS_MAX];
    uint32_t position[STEP_ROWS_MAX], row_seq[STEP_ROWS_MAX];
    uint32_t seq_begin[STEP_ROWS_MAX + 1];
    uint32_t count_slots[STEP_ROWS_MAX]; /* of a row, as count_args has them */
    uint32_t output_rows[STEP_ROWS_MAX];
    /* of the outputs as rows of their own, each the only one of its sequence */
    uint32_t output_position[STEP_ROWS_MAX], output_seq[STEP_ROWS_MAX];
    uint32_t output_begin[STEP_ROWS_MAX + 1];
    struct sample_params params[STEP_ROWS_MAX];
};

struct batch {
    struct device *device;
    struct batch_arrays *arrays;   /* pinned */
    struct sample_result *results; /* pinned, [n_outputs] of max_outputs; when the step is over */
    uint32_t *masks;               /* pinned, [n_masks, mask_words] of max_outputs */
    struct sample_bias *biases;    /* pinned, [n_biases] of max_outputs * LOGIT_BIASES_MAX */
    uint32_t mask_words, n_masks, n_biases;
    /* pinned, [n_count_rows, vocabulary] of COUNT_ROWS_MAX: counts of sequences that begin in this
     * step behind tokens that no row read; and their slots */
    uint32_t *count_rows;
    kv_seq_id count_slots[COUNT_ROWS_MAX];
    uint32_t n_count_rows, vocabulary;
    uint32_t n_rows, n_seqs, n_outputs, max_position;
    struct sequence *sequences[STEP_ROWS_MAX]; /* [n_seqs] */
    uint32_t n_rows_of[STEP_ROWS_MAX];         /* [n_seqs] */
    struct sequence *outputs[STEP_ROWS_MAX];   /* [n_outputs] */
    struct lookback lookback;
    struct step_work work;
    int64_t begun_ns;
};

/* STATUS_NO_MEMORY with numbers; the caller frees *out with batch_free. */
int batch_create(struct device *device, uint32_t max_outputs, uint32_t vocabulary,
                 const struct lookback *lookback, struct batch **out, struct why *why);
void batch_free(struct batch *batch);
void batch_clear(struct batch *batch, int64_t now_ns);
/* The next n_rows that the sequence wants. Its steps are one more from here on. At most
 * COUNT_ROWS_MAX of a batch lack counts (sequence_lacks_counts). */
void batch_add(struct batch *batch, struct sequence *sequence, uint32_t n_rows);
/* Each row draws a token. */
bool batch_is_decode(const struct batch *batch);
/* Rows of nobody behind those of a decode, until the arrays hold n_rows: each a sequence of its
 * own that draws, at its own position of the slot `padding`, PAGE_TOKENS at most. */
void batch_fill_up(struct batch *batch, uint32_t n_rows, kv_seq_id padding);

#endif
