/* The llama architecture: Llama 2 and 3, Mistral, SmolLM, and with experts in every layer Mixtral;
 * mistral3: Ministral 3, Mistral Small 3.1. RoPE on adjacent pairs, biases where a file has
 * them. */
#include "model/arch_decoder.h"

#define TEMPERATURE_SCALE_MAX 1e3

void arch_llama_read(struct arch_reader *reader, struct model_plan *plan)
{
    struct experts_plan experts = arch_experts_of(ROUTE_SOFTMAX, true);
    arch_read_plain(reader, ROPE_NORM, &experts, plan);
}

/* Queries of every layer grow with the position, from the length on that the model was trained to
 * before it was stretched. */
void arch_mistral3_read(struct arch_reader *reader, struct model_plan *plan)
{
    struct q_temperature temperature = {.offset = 0};

    arch_read_plain(reader, ROPE_NORM, NULL, plan);
    temperature.scale =
        arch_real_or(reader, "attention.temperature_scale", 0, TEMPERATURE_SCALE_MAX, 0);
    uint32_t original = arch_number_or(reader, "rope.scaling.original_context_length", 1, INT32_MAX,
                                       plan->context);
    temperature.length =
        arch_number_or(reader, "attention.temperature_length", 1, INT32_MAX, original);
    for (uint32_t i = 0; i < plan->n_layers && reader->status == STATUS_OK; i++)
        plan->layers[i].q_temperature = temperature;
}
