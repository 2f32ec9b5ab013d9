/* engine/step_cost.h: what a step takes, as a sum of five terms that are measured.
 *
 *   step   = step_ns                          any step: the weights are read once
 *          + decode_row_ns     a decoding row
 *          + decode_token_ns   a token that a decoding row looks back on
 *          + prefill_row_ns    a row of a prompt
 *          + prefill_token_ns  a token that a row of a prompt looks back on
 *
 * So a prompt's cost grows with its square where layers see everything, as attention does
 * (engine/lookback.h). Pure: numbers in, numbers out.
 */
#ifndef QUIRE_ENGINE_STEP_COST_H
#define QUIRE_ENGINE_STEP_COST_H

#include "engine/lookback.h"

struct step_cost {
    double step_ns, decode_row_ns, decode_token_ns, prefill_row_ns, prefill_token_ns;
    struct lookback lookback;
};

/* Rows of a step by kind, and the tokens that each looked back on, in sum. */
struct step_work {
    const struct lookback *lookback; /* NULL: everything is seen */
    uint32_t n_decode, n_prefill;
    double decode_tokens, prefill_tokens;
};

/* n_context tokens of the sequence are in the cache before the first of these rows. */
void step_work_add_decode(struct step_work *work, uint64_t n_context);
void step_work_add_prefill(struct step_work *work, uint64_t n_context, uint32_t n_rows);

double step_cost_of(const struct step_cost *cost, const struct step_work *work);
/* The part of n_rows decoding rows that look back on n_tokens in sum; step_ns is not in it. */
double step_cost_decode(const struct step_cost *cost, uint32_t n_rows, double n_tokens);
/* The part of n_rows rows of a prompt behind n_context tokens; nor here. */
double step_cost_prefill(const struct step_cost *cost, uint64_t n_context, uint64_t n_rows);
/* Rows of a prompt behind n_context tokens whose part is at most ns; at most CONTEXT_TOKENS_MAX. */
uint32_t step_cost_rows_within(const struct step_cost *cost, uint64_t n_context, double ns);

#endif
