/* model/forward.h: the forward pass, written once: walks the plans over struct ops and only
 * enqueues.
 *
 *   embed -> [norm, linear qkv, rope_append, attend, linear out, norm, linear_glu, linear down] per
 * layer
 *         -> norm -> linear head -> logits
 *   layers whose group packs: page_seal behind rope_append
 *   latent attention (forward_latent.c): several linears in front of rope_append and behind attend
 *   with experts, for linear_glu and linear down: linear router, route, moe; then those of the
 * expert that all rows share
 *
 * Of the last layer later steps need no more than keys and values. So where logits of some rows
 * are asked for, those rows alone go on behind them, and where of none, nothing does:
 *
 *   norm, linear kv, rope_append -> gather, norm, linear q, rope_append, attend, linear out, ...
 *   all rows                        those whose logits are wanted
 *
 * The workspace (x, panels, qkv, logits) is allocated once for at most max_rows rows and
 * max_outputs rows of logits.
 */
#ifndef QUIRE_MODEL_FORWARD_H
#define QUIRE_MODEL_FORWARD_H

#include "kernels/kv_view.h"
#include "kernels/ops.h"

struct model;
struct forward;

/* all pointers are device memory and live until the stream has passed */
struct forward_batch {
    const struct row_input *inputs; /* [rows.n_rows] */
    struct rows_view rows;
    /* [outputs.n_rows]: rows whose logits are wanted, ascending; those of a sequence adjacent */
    const uint32_t *output_rows;
    struct rows_view outputs; /* the same as rows of their own; n_rows may be 0 */
    const struct sample_result *sampled; /* for ROW_SAMPLED, or NULL */
};

/* What forward_create will take with the same arguments; it never shrinks as max_context grows. */
uint64_t forward_workspace_bytes(struct device *device, const struct model *model,
                                 uint32_t max_rows, uint32_t max_outputs, uint32_t max_context);
/* max_context: longest sequence, for the attention workspace. STATUS_NO_MEMORY with numbers. */
int forward_create(struct device *device, const struct model *model, uint32_t max_rows,
                   uint32_t max_outputs, uint32_t max_context, struct forward **out,
                   struct why *why);
void forward_free(struct forward *forward);
/* Enqueues one step. Logits of output row i stand at forward_logits(forward) + i * vocabulary when
 * the stream has passed. */
void forward_run(struct forward *forward, struct stream *stream, const struct forward_batch *batch,
                 const struct kv_view *view);
/* From now on all rows go through all of the last layer: to measure and to compare with. */
void forward_keep_last_layer_whole(struct forward *forward);
float *forward_logits(const struct forward *forward);   /* device [max_outputs, vocabulary] */
uint64_t forward_bytes(const struct forward *forward);  /* device memory of the workspace */
/* most ops one forward_run enqueues: sizes the stream */
uint32_t forward_ops_max(const struct model *model);

#endif
