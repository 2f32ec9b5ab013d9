#include "engine/estimate.h"

#define DECAY 0.2 /* weight of the newest step */

static void blend(double *mean, bool *has, double value)
{
    *mean = *has ? *mean + DECAY * (value - *mean) : value;
    *has = true;
}

void estimate_learn(struct estimate *estimate, uint32_t n_decode_rows, uint32_t n_prefill_rows,
                    int64_t step_ns)
{
    if (n_prefill_rows == 0) {
        blend(&estimate->cost.fixed_ns, &estimate->has_decode, (double)step_ns);
        return;
    }
    if (n_prefill_rows < PREFILL_CHUNK_MIN)
        return; /* the tail of a prompt says little about a row */
    double decode_ns = n_decode_rows > 0 ? estimate->cost.fixed_ns : 0;
    double row_ns = ((double)step_ns - decode_ns) / n_prefill_rows;
    if (row_ns > 0)
        blend(&estimate->cost.row_ns, &estimate->has_prefill, row_ns);
}

double estimate_first_token_s(const struct estimate *estimate, const struct work_ahead *ahead,
                              uint32_t n_prompt)
{
    double prefill_ns = (double)(ahead->n_prefill + n_prompt) * estimate->cost.row_ns;
    return (prefill_ns + (double)ahead->n_decode * estimate->cost.fixed_ns) / 1e9;
}

double estimate_output_s(const struct estimate *estimate, uint32_t n_output)
{
    return n_output * estimate->cost.fixed_ns / 1e9;
}
