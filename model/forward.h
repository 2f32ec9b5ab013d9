/* model/forward.h: the forward pass, written once: walks the plans over struct ops and only
 * enqueues.
 *
 *   embed -> [norm, linear qkv, rope_append, attend, linear out, norm, linear_glu, linear down] per
 * layer
 *         -> norm -> linear head -> logits
 *   with experts, for linear_glu and linear down: linear router, route, moe; then those of the
 * expert that all rows share
 *
 * The last layer gathers the rows whose logits are asked for before its feed-forward; in a step
 * that asks for none it ends at rope_append: later steps need no more than keys and values.
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
    const uint32_t *output_rows;  /* [n_outputs]: rows whose logits are wanted, ascending */
    uint32_t n_outputs;           /* may be 0: then only keys and values are made */
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
float *forward_logits(const struct forward *forward);   /* device [max_outputs, vocabulary] */
uint64_t forward_bytes(const struct forward *forward);  /* device memory of the workspace */
/* most ops one forward_run enqueues: sizes the stream */
uint32_t forward_ops_max(const struct model *model);

#endif
