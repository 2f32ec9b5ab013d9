#include "model/rope_plan.h"

#include "base/status.h"
#include "limits.h"

#include <math.h>
#include <stdlib.h>

/* The dimension whose wavelength turns `beta` times within the original context. */
static double correction(const struct rope_source *source, double beta)
{
    return source->n_rot * log(source->original_context / (2 * M_PI * beta)) /
           (2 * log(source->base));
}

static double clamp(double x, double low, double high)
{
    return x < low ? low : x > high ? high : x;
}

static double attention_growth(double factor, double multiplier)
{
    return factor <= 1 ? 1 : 0.1 * multiplier * log(factor) + 1;
}

static void set_yarn_scales(const struct rope_source *source, struct rope_plan *out)
{
    double u = source->log_multiplier, scale = attention_growth(source->factor, 1);
    if (u != 0 && source->grows_scores) {
        out->score_scale = pow(attention_growth(source->factor, 10 * u), 2);
        return;
    }
    if (u != 0)
        scale /= attention_growth(source->factor, u);
    out->scale = (float)(source->attn_factor * scale);
}

/* sine and cosine are exact to angles of 2^31 (kernels/exact_math.h) */
#define TURN_MAX (0x1p31 / CONTEXT_TOKENS_MAX)

int rope_plan_make(const struct rope_source *source, struct rope_plan *out, struct why *why)
{
    double low = 0, high = 0, s = source->scaling == ROPE_SCALING_NONE ? 1 : source->factor;

    out->n_pairs = source->n_rot / 2;
    out->scale = (float)source->attn_factor;
    out->score_scale = 1;
    out->inv_freq = malloc(out->n_pairs * sizeof *out->inv_freq);
    if (out->inv_freq == NULL)
        return refuse(why, STATUS_NO_MEMORY, "no memory for %u angles", out->n_pairs);
    if (source->scaling == ROPE_SCALING_YARN) {
        low = fmax(0, floor(correction(source, source->beta_fast)));
        high = fmin(source->n_rot - 1, ceil(correction(source, source->beta_slow)));
        set_yarn_scales(source, out);
    }
    for (uint32_t k = 0; k < out->n_pairs; k++) {
        double theta = pow(source->base, -2.0 * k / source->n_rot);
        if (source->factors != NULL)
            theta /= (double)source->factors[k];
        double ramp = clamp((k - low) / fmax(0.001, high - low), 0, 1);
        out->inv_freq[k] = source->scaling == ROPE_SCALING_YARN
                               ? theta / s * ramp + theta * (1 - ramp)
                               : theta / s;
        if (!(out->inv_freq[k] <= TURN_MAX)) {
            double turn = out->inv_freq[k];
            free(out->inv_freq);
            out->inv_freq = NULL;
            return refuse(why, STATUS_CORRUPT,
                          "the file's RoPE turns pair %u by %g a token; at most %g is possible: "
                          "its scaling factor of %g or its rope_freqs are too small",
                          k, turn, TURN_MAX, source->factor);
        }
    }
    return STATUS_OK;
}
