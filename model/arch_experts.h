/* model/arch_experts.h: the experts of a layer, read from keys and checked against tensors, for
 * every arch_*.c that has them (models.md 3.1, 3.2, 4.7).
 *
 *   ffn_gate_inp [width, E]        router; exp_probs_b.bias [E]: to choose by, where there is one
 *   ffn_{gate,up}_exps [width, w, E], or ffn_gate_up_exps [width, 2 w, E]; ffn_down_exps
 *   ffn_{gate,up,down}_shexp       the shared expert; ffn_gate_inp_shexp [width]: its gate
 */
#ifndef QUIRE_MODEL_ARCH_EXPERTS_H
#define QUIRE_MODEL_ARCH_EXPERTS_H

#include "model/arch_reader.h"

/* How an architecture chooses where its file has no key for it: one group, no scale. */
struct experts_plan arch_experts_of(enum route_score score, bool normalise);
/* Reads what the file says about experts, over what *experts holds; of n_ff values each where
 * neither has their width. False: it has none (expert_count absent or 0), or a fault. */
bool arch_experts_read(struct arch_reader *reader, uint32_t n_ff, struct experts_plan *experts);
/* Fills the feed-forward of the layer and checks its tensors, norm included. A shared expert is
 * there when experts->n_shared_ff is not 0. */
void arch_experts_layer(struct arch_reader *reader, uint32_t layer_idx,
                        const struct experts_plan *experts, struct model_plan *plan);

#endif
