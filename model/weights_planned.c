/* What weights_load will take, tensor by tensor, before anything is loaded. */
#include "model/weights.h"

#include "kernels/tensor_type.h"
#include "model/gguf.h"

#include <stdio.h>

typedef uint64_t matrix_counter(uint32_t type, uint64_t n_in, uint64_t n_out);

static bool ends_with(struct slice name, const char *suffix)
{
    size_t n = strlen(suffix);
    return name.len >= n && memcmp(name.bytes + name.len - n, suffix, n) == 0;
}

/* Loaded as f32; of rope_freqs angles are made. */
static bool is_vector(struct slice name)
{
    return ends_with(name, "norm.weight") || ends_with(name, ".bias") ||
           slice_equal(name, slice_from("rope_freqs.weight"));
}

/* The layer whose keys and values of a latent vector stand in one tensor, as weights_latent.c takes
 * them apart; NULL: another tensor. */
static const struct layer_plan *layer_of_joined(const struct model_plan *plan, struct slice name)
{
    char text[24] = "";
    unsigned layer;

    if (!ends_with(name, ".attn_kv_b.weight"))
        return NULL;
    snprintf(text, sizeof text, "%.*s", (int)(name.len < 23 ? name.len : 23),
             (const char *)name.bytes);
    if (sscanf(text, "blk.%9u.", &layer) != 1 || layer >= plan->n_layers)
        return NULL;
    return &plan->layers[layer];
}

static uint64_t bytes_of(const struct model_plan *plan, const struct gguf_tensor *tensor,
                         matrix_counter *matrix_bytes)
{
    const struct layer_plan *layer = layer_of_joined(plan, tensor->name);
    uint64_t n_in = tensor->dims[0], n_out = tensor->dims[1], n_each = tensor->dims[2];

    if (is_vector(tensor->name))
        return n_in * sizeof(float);
    if (layer != NULL)
        return layer->n_heads *
               (matrix_bytes(TENSOR_F32, layer->latent.nope_dim, n_in) +
                matrix_bytes(tensor->type, n_in, layer->latent.value_dim));
    if (ends_with(tensor->name, "ffn_gate_up_exps.weight"))
        return 2 * n_each * matrix_bytes(tensor->type, n_in, n_out / 2);
    return n_each * matrix_bytes(tensor->type, n_in, n_out);
}

uint64_t weights_planned_bytes(const struct gguf *file, const struct model_plan *plan,
                               matrix_counter *matrix_bytes)
{
    uint64_t bytes = 0;
    for (uint64_t i = 0; i < gguf_n_tensors(file); i++)
        if (plan->uses_tensor[i])
            bytes += bytes_of(plan, gguf_tensor_at(file, i), matrix_bytes);
    return bytes;
}
