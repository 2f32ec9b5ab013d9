/* The matrices of latent attention. A file has them as attention multiplies them (attn_k_b,
 * attn_v_b), or as they were trained: attn_kv_b, in which each head has the rows that make its
 * keys, then those that make its values. Of these the rows of keys are transposed, and kept as f32:
 * another rounding would make another model; those of values stay as they are. */
#include "model/weights_loader.h"

#include "base/status.h"
#include "kernels/tensor_type.h"

#include <stdlib.h>

/* Rows [first_row, first_row + n) of a tensor as columns: to [n_in][n]. */
static void transpose(const struct gguf_tensor *tensor, uint64_t first_row, uint32_t n,
                      float *row, float *to)
{
    uint32_t n_in = (uint32_t)tensor->dims[0];
    size_t row_bytes = tensor->n_bytes / tensor->dims[1];
    for (uint32_t i = 0; i < n; i++) {
        tensor_type_row_to_f32(tensor->type, tensor->bytes + (first_row + i) * row_bytes, n_in,
                               row);
        for (uint32_t k = 0; k < n_in; k++)
            to[(size_t)k * n + i] = row[k];
    }
}

struct joined { /* attn_kv_b */
    const struct gguf_tensor *tensor;
    const char *name;
    uint32_t n_heads, nope_dim, value_dim;
    struct weight_source *sources; /* [n_heads] */
    float *values;                 /* [rank], then [n_heads, rank, nope_dim] */
};

static struct weight *load_heads(struct loader *loader, const struct joined *joined)
{
    return loader_matrix(loader, WEIGHT_HEADS, joined->sources, joined->n_heads);
}

static struct weight *load_keys(struct loader *loader, const struct joined *joined)
{
    uint32_t rank = (uint32_t)joined->tensor->dims[0], n = joined->nope_dim;
    float *to = joined->values + rank;
    for (uint32_t h = 0; h < joined->n_heads; h++, to += (size_t)rank * n) {
        transpose(joined->tensor, (uint64_t)h * (n + joined->value_dim), n, joined->values, to);
        joined->sources[h] = (struct weight_source){
            .type = TENSOR_F32, .n_in = n, .n_out = rank, .bytes = to, .name = joined->name};
    }
    return load_heads(loader, joined);
}

static struct weight *load_values(struct loader *loader, const struct joined *joined)
{
    for (uint32_t h = 0; h < joined->n_heads; h++) {
        uint64_t head = (uint64_t)h * (joined->nope_dim + joined->value_dim);
        joined->sources[h] = loader_source(joined->tensor, joined->name, 0,
                                           head + joined->nope_dim, joined->value_dim);
    }
    return load_heads(loader, joined);
}

static void load_joined(struct loader *loader, uint32_t layer, const struct layer_plan *plan,
                        struct latent_weights *out)
{
    struct layer_name name = loader_name(layer, "attn_kv_b.weight");
    struct joined joined = {.name = name.text,
                            .n_heads = plan->n_heads,
                            .nope_dim = plan->latent.nope_dim,
                            .value_dim = plan->latent.value_dim};
    size_t rank = plan->kv.v_dim;

    if (loader->status < 0)
        return;
    joined.tensor = loader_find(loader, name.text);
    joined.sources = calloc(joined.n_heads, sizeof *joined.sources);
    joined.values =
        malloc(rank * (1 + (size_t)joined.n_heads * joined.nope_dim) * sizeof *joined.values);
    if (joined.sources == NULL || joined.values == NULL) {
        loader->status = refuse(loader->why, STATUS_NO_MEMORY, "no memory for %s", name.text);
    } else {
        out->k_b = load_keys(loader, &joined);
        if (loader->status == STATUS_OK)
            out->v_b = load_values(loader, &joined);
        if (loader->status == STATUS_OK)
            loader_progress(loader, joined.tensor);
    }
    free(joined.values);
    free(joined.sources);
}

void loader_latent(struct loader *loader, uint32_t layer, const struct layer_plan *plan,
                   struct latent_weights *out)
{
    struct layer_name k_b = loader_name(layer, "attn_k_b.weight"),
                      v_b = loader_name(layer, "attn_v_b.weight");
    bool is_whole = plan->latent.q_rank == 0;

    if (!is_whole) {
        out->q_a = loader_layer_weight(loader, layer, "attn_q_a.weight");
        out->q_a_norm = loader_layer_vector(loader, layer, "attn_q_a_norm.weight");
    }
    out->q = loader_layer_weight(loader, layer, is_whole ? "attn_q.weight" : "attn_q_b.weight");
    out->kv_a = loader_layer_weight(loader, layer, "attn_kv_a_mqa.weight");
    out->kv_a_norm = loader_layer_vector(loader, layer, "attn_kv_a_norm.weight");
    if (plan->latent.is_joined) {
        load_joined(loader, layer, plan, out);
        return;
    }
    out->k_b = loader_experts(loader, WEIGHT_HEADS, (const char *[]){k_b.text}, 1);
    out->v_b = loader_experts(loader, WEIGHT_HEADS, (const char *[]){v_b.text}, 1);
}
