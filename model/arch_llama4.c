/* llama4: every fourth layer sees the whole context, turns nothing and lets its queries grow with
 * the position; the others see their chunk, turn adjacent pairs, and then norm q and k without
 * weights (not Maverick, which has 128 experts). Every n-th layer has experts, which are chosen by
 * their logits and read x times their sigmoid, and a shared one. models.md 4.4. */
#include "model/arch_decoder.h"

#include "limits.h"

#define CHUNK 8192
#define PERIOD 4
#define TEMPERATURE_SCALE 0.1
#define TEMPERATURE_SCALE_MAX 1e3
#define EXPERTS_WITHOUT_NORM 128

struct attention {
    struct arch_heads heads;
    struct arch_windows chunks;
    struct q_temperature temperature; /* of layers that see everything */
    enum qk_norm qk_norm;             /* of the others */
};

static void read_attention(struct arch_reader *reader, const struct model_plan *plan,
                           struct attention *out)
{
    uint32_t window = arch_number_or(reader, "attention.sliding_window", 0, UINT32_MAX, CHUNK);
    if (window == 0)
        arch_fault(reader, STATUS_UNSUPPORTED,
                   "llama4.attention.sliding_window is 0: a model without chunks, which this build "
                   "does not run; Scout and Maverick have chunks of %d tokens",
                   CHUNK);
    arch_read_heads(reader, plan, &out->heads);
    uint32_t chunk = arch_number_or(reader, "attention.chunk_size", 1, INT32_MAX, CHUNK);
    out->chunks = arch_read_windows(reader, chunk, PERIOD);
    out->temperature.offset = 1;
    out->temperature.length =
        arch_number_or(reader, "attention.temperature_length", 1, INT32_MAX, CHUNK);
    out->temperature.scale = arch_real_or(reader, "attention.temperature_scale", 0,
                                          TEMPERATURE_SCALE_MAX, TEMPERATURE_SCALE);
    uint32_t n_experts = arch_number_or(reader, "expert_count", 0, UINT32_MAX, 0);
    out->qk_norm = n_experts == EXPERTS_WITHOUT_NORM ? QK_NORM_NONE : QK_NORM_AFTER;
}

static void read_layer(struct arch_reader *reader, const struct attention *attention, uint32_t i,
                       struct model_plan *plan)
{
    struct layer_plan *layer = &plan->layers[i];

    if (arch_has_window(&attention->chunks, i)) {
        arch_place_layer(plan, i, KV_CHUNKED, attention->chunks.window, &attention->heads);
        layer->rope = ROPE_NORM;
        layer->qk_norm = attention->qk_norm;
    } else {
        arch_place_layer(plan, i, KV_FULL, 0, &attention->heads);
        layer->rope = ROPE_NONE;
        layer->q_temperature = attention->temperature;
    }
    arch_read_attention(reader, i, &attention->heads, plan);
}

void arch_llama4_read(struct arch_reader *reader, struct model_plan *plan)
{
    struct attention attention;

    arch_read_sizes(reader, plan);
    read_attention(reader, plan, &attention);
    uint32_t step = arch_number(reader, "interleave_moe_layer_step", 0, INT32_MAX);
    uint32_t n_ff = arch_number(reader, "feed_forward_length", 1, MODEL_FF_MAX);
    struct experts_plan experts = arch_experts_of(ROUTE_SIGMOID, false);
    bool has_experts = arch_experts_read(reader, n_ff, &experts) && step > 0;
    experts.rule.chooses_by_logit = experts.scales_input = true;
    experts.n_shared_ff = experts.n_ff;
    arch_rope_read(reader, attention.heads.n_rot, false, plan);
    arch_read_ends(reader, plan, false);
    for (uint32_t i = 0; i < plan->n_layers && reader->status == STATUS_OK; i++) {
        read_layer(reader, &attention, i, plan);
        if (has_experts && (i + 1) % step == 0)
            arch_experts_layer(reader, i, &experts, plan);
        else
            arch_read_dense(reader, i, n_ff, plan);
    }
}
