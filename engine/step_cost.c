#include "engine/step_cost.h"

#include <stddef.h>

static const struct lookback everything;

void step_work_add_decode(struct step_work *work, uint64_t n_context)
{
    work->n_decode++;
    work->decode_tokens +=
        lookback_decode(work->lookback != NULL ? work->lookback : &everything, n_context);
}

void step_work_add_prefill(struct step_work *work, uint64_t n_context, uint32_t n_rows)
{
    work->n_prefill += n_rows;
    work->prefill_tokens +=
        lookback_prefill(work->lookback != NULL ? work->lookback : &everything, n_context, n_rows);
}

double step_cost_of(const struct step_cost *cost, const struct step_work *work)
{
    return cost->step_ns + step_cost_decode(cost, work->n_decode, work->decode_tokens) +
           work->n_prefill * cost->prefill_row_ns +
           work->prefill_tokens * cost->prefill_token_ns;
}

double step_cost_decode(const struct step_cost *cost, uint32_t n_rows, double n_tokens)
{
    return n_rows * cost->decode_row_ns + n_tokens * cost->decode_token_ns;
}

double step_cost_prefill(const struct step_cost *cost, uint64_t n_context, uint64_t n_rows)
{
    return (double)n_rows * cost->prefill_row_ns +
           lookback_prefill(&cost->lookback, n_context, n_rows) * cost->prefill_token_ns;
}

/* By halving: chunks leave it no closed form. */
uint32_t step_cost_rows_within(const struct step_cost *cost, uint64_t n_context, double ns)
{
    uint64_t fits = 0, beyond = CONTEXT_TOKENS_MAX + 1;

    while (beyond - fits > 1 && ns > 0) {
        uint64_t middle = fits + (beyond - fits) / 2;
        if (step_cost_prefill(cost, n_context, middle) <= ns)
            fits = middle;
        else
            beyond = middle;
    }
    return (uint32_t)fits;
}
