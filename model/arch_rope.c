/* The keys of RoPE, and rope_freqs.weight: models.md 4.3. */
#include "limits.h"
#include "model/arch_decoder.h"
#include "model/rope_plan.h"

#include "base/log.h"
#include "kernels/tensor_type.h"

#include <math.h>
#include <stdlib.h>

#define ROPE_BASE_DEFAULT 10000.0
#define ROPE_BASE_MAX 1e12
#define FACTOR_MIN 1e-6
#define FACTOR_MAX 1e6

static enum rope_scaling read_scaling(struct arch_reader *reader)
{
    struct slice text = arch_text_or(reader, "rope.scaling.type", "linear");
    char quoted[64];

    if (slice_equal(text, slice_from("none")))
        return ROPE_SCALING_NONE;
    if (slice_equal(text, slice_from("linear")))
        return ROPE_SCALING_LINEAR;
    if (slice_equal(text, slice_from("yarn")))
        return ROPE_SCALING_YARN;
    arch_fault(reader, STATUS_UNSUPPORTED,
               "rope.scaling.type is %s; this build knows none, linear and yarn",
               log_quote(quoted, sizeof quoted, (const char *)text.bytes, text.len));
    return ROPE_SCALING_NONE;
}

/* rope_freqs.weight as f32, malloc'ed, or NULL. */
static float *read_factors(struct arch_reader *reader, uint32_t n_pairs)
{
    if (reader->status < 0 || !arch_has(reader, "rope_freqs.weight"))
        return NULL;
    arch_vector(reader, "rope_freqs.weight", n_pairs);
    if (reader->status < 0)
        return NULL;

    const struct gguf_tensor *tensor = gguf_tensor_find(reader->file, "rope_freqs.weight");
    float *factors = malloc(n_pairs * sizeof *factors);
    if (factors == NULL) {
        arch_fault(reader, STATUS_NO_MEMORY, "no memory for %u factors", n_pairs);
        return NULL;
    }
    tensor_type_row_to_f32(tensor->type, tensor->bytes, n_pairs, factors);
    for (uint32_t k = 0; k < n_pairs; k++)
        if (!((double)factors[k] >= FACTOR_MIN && (double)factors[k] <= FACTOR_MAX))
            arch_fault(reader, STATUS_CORRUPT, "rope_freqs.weight[%u] is %g; it must be %g to %g",
                       k, (double)factors[k], FACTOR_MIN, FACTOR_MAX);
    return factors;
}

void arch_rope_read(struct arch_reader *reader, uint32_t n_rot, bool grows_scores,
                    struct model_plan *plan)
{
    struct rope_source source = {.n_rot = n_rot, .grows_scores = grows_scores};

    source.base = arch_real_or(reader, "rope.freq_base", 1, ROPE_BASE_MAX, ROPE_BASE_DEFAULT);
    source.scaling = read_scaling(reader);
    double old = arch_real_or(reader, "rope.scale_linear", 0, FACTOR_MAX, 0);
    source.factor = arch_real_or(reader, "rope.scaling.factor", 0, FACTOR_MAX, old);
    if (source.factor == 0)
        source.factor = 1; /* as written by converters that mean "none" */
    else if (source.factor < FACTOR_MIN)
        arch_fault(reader, STATUS_CORRUPT, "rope.scaling.factor is %g; it must be %g to %g",
                   source.factor, FACTOR_MIN, FACTOR_MAX);
    source.original_context = arch_number_or(reader, "rope.scaling.original_context_length", 1,
                                             INT32_MAX, plan->context);
    source.beta_fast =
        arch_real_or(reader, "rope.scaling.yarn_beta_fast", FACTOR_MIN, FACTOR_MAX, 32);
    source.beta_slow =
        arch_real_or(reader, "rope.scaling.yarn_beta_slow", FACTOR_MIN, FACTOR_MAX, 1);
    source.log_multiplier =
        arch_real_or(reader, "rope.scaling.yarn_log_multiplier", 0, FACTOR_MAX, 0);
    source.attn_factor =
        arch_real_or(reader, "rope.scaling.attn_factor", FACTOR_MIN, FACTOR_MAX, 1);
    if (source.scaling == ROPE_SCALING_YARN && source.base <= 1)
        arch_fault(reader, STATUS_CORRUPT, "rope.freq_base is %g; yarn needs one above 1",
                   source.base);

    float *factors = read_factors(reader, n_rot / 2);
    source.factors = factors;
    if (reader->status == STATUS_OK)
        reader->status = rope_plan_make(&source, &plan->ropes[0], reader->why);
    if (reader->status == STATUS_OK)
        plan->n_ropes = 1;
    free(factors);
}
