#include "engine/step_cost.h"

#include <math.h>

static double tokens_seen(uint64_t n_context, uint64_t n_rows)
{
    double rows = (double)n_rows;
    return rows * (double)n_context + rows * (rows + 1) / 2;
}

void step_work_add_decode(struct step_work *work, uint64_t n_context)
{
    work->n_decode++;
    work->decode_tokens += n_context + 1;
}

void step_work_add_prefill(struct step_work *work, uint64_t n_context, uint32_t n_rows)
{
    work->n_prefill += n_rows;
    work->prefill_tokens += n_rows * n_context + n_rows * ((uint64_t)n_rows + 1) / 2;
}

double step_cost_of(const struct step_cost *cost, const struct step_work *work)
{
    return cost->step_ns + step_cost_decode(cost, work->n_decode, work->decode_tokens) +
           work->n_prefill * cost->prefill_row_ns +
           (double)work->prefill_tokens * cost->prefill_token_ns;
}

double step_cost_decode(const struct step_cost *cost, uint32_t n_rows, uint64_t n_tokens)
{
    return n_rows * cost->decode_row_ns + (double)n_tokens * cost->decode_token_ns;
}

double step_cost_prefill(const struct step_cost *cost, uint64_t n_context, uint64_t n_rows)
{
    return (double)n_rows * cost->prefill_row_ns +
           tokens_seen(n_context, n_rows) * cost->prefill_token_ns;
}

/* The root of first_ns * n + prefill_token_ns * n^2 / 2 = ns, in the form that divides by no zero
 * when rows look back for nothing. */
uint32_t step_cost_rows_within(const struct step_cost *cost, uint64_t n_context, double ns)
{
    double first_ns = cost->prefill_row_ns + ((double)n_context + 0.5) * cost->prefill_token_ns;
    double n = 2 * ns / (first_ns + sqrt(first_ns * first_ns + 2 * cost->prefill_token_ns * ns));

    if (ns <= 0)
        return 0;
    return n < UINT32_MAX ? (uint32_t)n : UINT32_MAX;
}
