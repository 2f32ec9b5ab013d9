#include "engine/estimate.h"

#include "limits.h"

#include <math.h>
#include <string.h>

#define NOISE 0.02      /* variance of one step's time against the sum of its terms */
#define SPREAD 0.002    /* variance of a term when the warm-up has measured it */
#define DRIFT 0.0001    /* what it grows by with each step: machines change */
#define SPREAD_MAX 1.0  /* of a term that no step has shown for long */
#define SURPRISE_MAX 2.0 /* a step that took so many times more or less says no more than that */
#define SCALE_MIN 0.02  /* of a rested value: no term becomes nothing */
#define REST_NS 30e9    /* in which two thirds of a difference are forgotten */
#define TERMS ESTIMATE_TERMS

static double at_least(double value, double least)
{
    return value > least ? value : least;
}

/* What so many tokens more took; none more tell nothing. */
static double token_ns(double more_ns, double n_tokens, double least_ns)
{
    return n_tokens > 0 ? at_least(more_ns / n_tokens, least_ns) : least_ns;
}

/* No term may be 0: it would never learn. */
void estimate_init(struct estimate *estimate, const struct warm_steps *warm, int64_t max_step_ns)
{
    double row_ns = warm->n_rows > 1
                        ? (warm->prefill_ns - warm->decode_ns) / (warm->n_rows - 1)
                        : warm->decode_ns / 2;
    row_ns = at_least(row_ns, warm->decode_ns / 1000);
    double least_ns = row_ns / 1e5;
    double decode_tokens = lookback_decode(&warm->lookback, warm->n_deep + warm->n_rows) -
                           lookback_decode(&warm->lookback, warm->n_rows);
    double prefill_tokens = lookback_prefill(&warm->lookback, warm->n_deep, warm->n_rows) -
                            lookback_prefill(&warm->lookback, 0, warm->n_rows);
    estimate->max_step_ns = max_step_ns;
    estimate->cost = (struct step_cost){
        .step_ns = at_least(warm->decode_ns - row_ns, warm->decode_ns / 2),
        .decode_row_ns = at_least(row_ns < warm->decode_ns / 2 ? row_ns : warm->decode_ns / 2, 1),
        .prefill_row_ns = at_least(row_ns, 1),
        .decode_token_ns =
            token_ns(warm->deep_decode_ns - warm->decode_ns, decode_tokens, least_ns),
        .prefill_token_ns =
            token_ns(warm->deep_prefill_ns - warm->prefill_ns, prefill_tokens, least_ns),
        .lookback = warm->lookback,
    };
    estimate->rested = estimate->cost;
    memset(estimate->spread, 0, sizeof estimate->spread);
    for (int i = 0; i < TERMS; i++)
        estimate->spread[i][i] = SPREAD;
}

static void terms_of(struct step_cost *cost, double *terms[TERMS])
{
    terms[0] = &cost->step_ns;
    terms[1] = &cost->decode_row_ns;
    terms[2] = &cost->decode_token_ns;
    terms[3] = &cost->prefill_row_ns;
    terms[4] = &cost->prefill_token_ns;
}

/* gain[i]: how far term i moves for a step that took twice what was thought. share[i]: of what was
 * thought, the part of its rested value. */
static void weigh(struct estimate *estimate, const double share[TERMS], double gain[TERMS])
{
    double moved[TERMS] = {0}, variance = NOISE;

    for (int i = 0; i < TERMS; i++) {
        estimate->spread[i][i] = fmin(estimate->spread[i][i] + DRIFT, SPREAD_MAX);
        for (int k = 0; k < TERMS; k++)
            moved[i] += estimate->spread[i][k] * share[k];
    }
    for (int i = 0; i < TERMS; i++)
        variance += share[i] * moved[i];
    for (int i = 0; i < TERMS; i++)
        gain[i] = moved[i] / variance;
    for (int i = 0; i < TERMS; i++)
        for (int k = 0; k < TERMS; k++)
            estimate->spread[i][k] -= gain[i] * moved[k];
}

void estimate_learn(struct estimate *estimate, const struct step_work *work, int64_t step_ns)
{
    const double amounts[TERMS] = {1, work->n_decode, work->decode_tokens, work->n_prefill,
                                   work->prefill_tokens};
    double expected_ns = step_cost_of(&estimate->cost, work);
    double *terms[TERMS], *rested[TERMS], share[TERMS], gain[TERMS];

    if (expected_ns <= 0 || step_ns <= 0)
        return;
    terms_of(&estimate->cost, terms);
    terms_of(&estimate->rested, rested);
    for (int i = 0; i < TERMS; i++)
        share[i] = *rested[i] * amounts[i] / expected_ns;
    weigh(estimate, share, gain);
    double surprise =
        fmin(fmax((double)step_ns / expected_ns, 1 / SURPRISE_MAX), SURPRISE_MAX) - 1;
    for (int i = 0; i < TERMS; i++)
        *terms[i] = at_least(*terms[i] + gain[i] * surprise * *rested[i], SCALE_MIN * *rested[i]);
}

void estimate_rest(struct estimate *estimate, int64_t idle_ns)
{
    double *terms[TERMS], *rested[TERMS], keep = exp(-(double)idle_ns / REST_NS);

    terms_of(&estimate->cost, terms);
    terms_of(&estimate->rested, rested);
    for (int i = 0; i < TERMS; i++)
        *terms[i] = *rested[i] + keep * (*terms[i] - *rested[i]);
}

/* Prompts share their steps with all that decodes, and get what max_step_ns leaves of each. */
double estimate_first_token_s(const struct estimate *estimate, const struct work_ahead *ahead,
                              uint32_t n_prompt)
{
    const struct step_cost *cost = &estimate->cost;
    double beside_ns =
        cost->step_ns + step_cost_decode(cost, ahead->n_decode, ahead->decode_tokens);
    uint32_t n_rows = n_prompt > ahead->n_cached ? n_prompt - ahead->n_cached : 0;
    double rows_ns = ahead->prefill_ns + step_cost_prefill(cost, ahead->n_cached, n_rows);
    double room_ns = at_least((double)estimate->max_step_ns - beside_ns,
                              PREFILL_CHUNK_MIN * cost->prefill_row_ns);
    double n_steps = fmax(ceil(rows_ns / at_least(room_ns, 1)),
                          ceil(n_rows / (double)STEP_ROWS_MAX));
    return (rows_ns + (n_steps + (double)ahead->n_wait) * beside_ns) / 1e9;
}

double estimate_output_s(const struct estimate *estimate, const struct work_ahead *ahead,
                         uint32_t n_prompt, uint32_t n_output, uint32_t n_steps)
{
    double n_tokens = ahead->decode_tokens +
                      lookback_decode(&estimate->cost.lookback, n_prompt + (uint64_t)n_output / 2);
    double step_ns = estimate->cost.step_ns +
                     step_cost_decode(&estimate->cost, ahead->n_decode + 1, n_tokens);
    return n_output * (double)n_steps * step_ns / 1e9;
}
