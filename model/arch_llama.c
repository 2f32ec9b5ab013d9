/* The llama architecture: Llama 2 and 3, Mistral, SmolLM, and with experts in every layer Mixtral;
 * mistral3: Ministral 3, Mistral Small 3.1. RoPE on adjacent pairs, biases where a file has
 * them. */
#include "model/arch_decoder.h"

void arch_llama_read(struct arch_reader *reader, struct model_plan *plan)
{
    struct experts_plan experts = arch_experts_of(ROUTE_SOFTMAX, true);
    arch_read_plain(reader, ROPE_NORM, &experts, plan);
}

/* Queries of every layer grow with the position. */
void arch_mistral3_read(struct arch_reader *reader, struct model_plan *plan)
{
    arch_read_plain(reader, ROPE_NORM, NULL, plan);
    struct q_temperature temperature = arch_read_temperature(reader, plan);
    for (uint32_t i = 0; i < plan->n_layers && reader->status == STATUS_OK; i++)
        plan->layers[i].q_temperature = temperature;
}
