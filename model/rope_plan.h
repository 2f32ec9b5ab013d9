/* model/rope_plan.h: the angles of RoPE from a file's numbers (models.md 4.3), all in double.
 *
 *   theta_k = base^(-2k / n) / factor_k          angle = position * inv_freq[k], k = 0 .. n/2 - 1
 *
 * NONE and LINEAR: inv_freq = theta / s. YARN: between theta / s and theta by a ramp over k, and
 * cos and sin are multiplied by g(1) / g(u), g(m) = 1 + 0.1 m ln s and g(0) = 1; or, as DeepSeek's
 * own code has it, scores by g(10 u)^2, and cos and sin only where u is 0. Sources: the YaRN paper
 * (Peng et al., 2023) in the form that GGUF runtimes use.
 */
#ifndef QUIRE_MODEL_ROPE_PLAN_H
#define QUIRE_MODEL_ROPE_PLAN_H

#include "model/layer_plan.h"

enum rope_scaling { ROPE_SCALING_NONE, ROPE_SCALING_LINEAR, ROPE_SCALING_YARN };

struct rope_source {
    uint32_t n_rot; /* rotated dims, even */
    double base;    /* finite, >= 1 */
    enum rope_scaling scaling;
    double factor;           /* s; finite, > 0 */
    double original_context; /* L of YaRN, tokens */
    double beta_fast, beta_slow;
    double log_multiplier; /* u of YaRN */
    bool grows_scores;     /* the second form of YARN above */
    double attn_factor;    /* extra multiplier of cos and sin */
    const float *factors;  /* [n_rot / 2] of rope_freqs.weight, or NULL */
};

/* Allocates out->inv_freq, freed by model_plan_release. STATUS_CORRUPT when a pair turns too far a
 * token, STATUS_NO_MEMORY. */
int rope_plan_make(const struct rope_source *source, struct rope_plan *out, struct why *why);

#endif
