/* engine/estimate.h: seconds, from costs that were measured: at the start by a warm-up, then by
 * every step. Pure but for its own numbers. */
#ifndef QUIRE_ENGINE_ESTIMATE_H
#define QUIRE_ENGINE_ESTIMATE_H

#include "engine/step_cost.h"

#define ESTIMATE_TERMS 5 /* of struct step_cost */

struct estimate {
    struct step_cost cost;   /* follows what steps take */
    struct step_cost rested; /* of the warm-up */
    /* how unsure each term is, as a part of its rested value, and which move together */
    double spread[ESTIMATE_TERMS][ESTIMATE_TERMS];
    int64_t max_step_ns;
};

/* What the warm-up measured: a step of n_rows rows of a prompt and one of a single decoding row, at
 * no context, and both again behind n_deep tokens (0: no room for that). */
struct warm_steps {
    uint32_t n_rows;
    uint64_t n_deep;
    double prefill_ns, decode_ns, deep_prefill_ns, deep_decode_ns;
    struct lookback lookback; /* of the model that it was measured of */
};
void estimate_init(struct estimate *estimate, const struct warm_steps *warm, int64_t max_step_ns);
/* One finished step: what it took more or less than thought goes to the terms that explain it best,
 * by recursive least squares. */
void estimate_learn(struct estimate *estimate, const struct step_work *work, int64_t step_ns);
/* Nothing ran for so long: costs that a busy hour drove up go back to those of the warm-up, else
 * they would refuse deadlines for ever, since nobody runs who could teach better. */
void estimate_rest(struct estimate *estimate, int64_t idle_ns);

struct work_ahead {
    double prefill_ns;       /* of prompts that are read before this one's end */
    uint32_t n_cached;       /* tokens of its own prompt that the cache holds */
    uint64_t n_wait;         /* steps until pages become free; 0 when it has pages at once */
    uint32_t n_decode;       /* rows that decode beside it ... */
    double decode_tokens;    /* ... and what they look back on, in sum */
};

/* Seconds until the first token of a prompt of n_prompt tokens, and of n_output tokens behind it,
 * each of which takes n_steps steps. */
double estimate_first_token_s(const struct estimate *estimate, const struct work_ahead *ahead,
                              uint32_t n_prompt);
double estimate_output_s(const struct estimate *estimate, const struct work_ahead *ahead,
                         uint32_t n_prompt, uint32_t n_output, uint32_t n_steps);

#endif
