/* engine/lookback.h: on how many tokens a row looks back, itself among them; mean over all layers.
 *
 *   row at position p, in a layer that sees   everything      p + 1
 *                                             a window of W   p + 1, at most W
 *                                             a chunk of W    p % W + 1
 *
 * Rows of a prompt pass through the last layer without looking (model/forward.c), so that layer
 * counts as nothing for them. Pure: numbers in, numbers out.
 */
#ifndef QUIRE_ENGINE_LOOKBACK_H
#define QUIRE_ENGINE_LOOKBACK_H

#include "kernels/kv_view.h"
#include "limits.h"

struct model_plan;

struct lookback_group {
    enum kv_kind kind;
    uint32_t window;
    uint32_t n_layers, n_prompt_layers; /* that look back for a decoding row, for a prompt's */
};

struct lookback {
    uint32_t n_layers; /* 0: everything is seen by every row, and there are no groups */
    uint32_t n_groups;
    struct lookback_group groups[KV_GROUPS_MAX];
};

void lookback_of_plan(const struct model_plan *plan, struct lookback *out);
/* In sum, of n_rows rows of a prompt, or one that decodes, behind n_context tokens. */
double lookback_prefill(const struct lookback *lookback, uint64_t n_context, uint64_t n_rows);
double lookback_decode(const struct lookback *lookback, uint64_t n_context);

#endif
