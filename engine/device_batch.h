/* engine/device_batch.h: what all steps share on the device: the arrays of the step that runs, the
 * counts of tokens for penalties, masks of grammars, biases, and the tokens drawn last.
 *
 *   step n     arrays <- host n      count, forward, sample -> results -> host n
 *   step n+1   arrays <- host n+1    embed, count read results; sample -> results -> host n+1
 *
 * There is one of each since steps run in order: so a token that step n draws is read by step n+1
 * before the host has seen it. Thread: engine only. Allocates in create and nowhere else.
 */
#ifndef QUIRE_ENGINE_DEVICE_BATCH_H
#define QUIRE_ENGINE_DEVICE_BATCH_H

#include "engine/batch.h"
#include "model/forward.h"

struct model;

struct device_batch {
    struct device *device;
    struct batch_arrays *arrays;   /* device */
    struct sample_result *results; /* device [max_outputs] */
    uint32_t *counts;              /* device [n_slots, vocabulary] */
    uint32_t *masks;               /* device [max_outputs, mask_words] of the step that runs */
    struct sample_bias *biases;    /* device [max_outputs * LOGIT_BIASES_MAX], the same */
    uint32_t max_outputs, mask_words;
    uint32_t n_slots, vocabulary;
    uint32_t *banned;              /* device [n_banned]: ends of generation, ascending */
    uint32_t n_banned;
    void *workspace;               /* of sample */
};

struct batch_shape { /* what launches go by; arrays hold the rest */
    uint32_t n_rows, n_seqs, n_outputs, max_position;
};

/* n_slots: of sequences that hold pages. STATUS_NO_MEMORY with numbers. */
int device_batch_create(struct device *device, const struct model *model, uint32_t n_slots,
                        uint32_t max_outputs, struct device_batch **out, struct why *why);
void device_batch_free(struct device_batch *on_device);
/* Enqueues: forget what was counted for the sequence that had this slot before. */
void device_batch_forget(const struct device_batch *on_device, kv_seq_id slot,
                         struct stream *stream);
/* Enqueues: counts[vocabulary] is what was counted for this one; pinned, until the stream has
 * passed. */
void device_batch_recall(const struct device_batch *on_device, kv_seq_id slot,
                         const uint32_t *counts, struct stream *stream);
/* Enqueues: what was counted for one sequence counts for another too. */
void device_batch_copy(const struct device_batch *on_device, kv_seq_id from, kv_seq_id to,
                       struct stream *stream);
/* Enqueues what the device does with its arrays: count, forward pass, draws. */
void device_batch_run(const struct device_batch *on_device, const struct batch_shape *shape,
                      struct forward *forward, const struct kv_view *view, struct stream *stream);

#endif
