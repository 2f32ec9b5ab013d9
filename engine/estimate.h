/* engine/estimate.h: seconds, from rates that were measured: at the start by a warm-up, then by
 * every step. Pure but for its own numbers. */
#ifndef QUIRE_ENGINE_ESTIMATE_H
#define QUIRE_ENGINE_ESTIMATE_H

#include "engine/scheduler.h"

#include <stdint.h>

struct estimate {
    struct step_cost cost; /* decaying means of what steps took */
    bool has_decode, has_prefill;
};

/* One finished step: rows by kind and its time. */
void estimate_learn(struct estimate *estimate, uint32_t n_decode_rows, uint32_t n_prefill_rows,
                    int64_t step_ns);

struct work_ahead {
    uint64_t n_prefill; /* prompt tokens admitted before and not yet read */
    uint64_t
        n_decode; /* output tokens until pages become free; 0 when the new one has pages at once */
};

/* Seconds until the first token of a prompt of n_prompt tokens, and of n_output more. */
double estimate_first_token_s(const struct estimate *estimate, const struct work_ahead *ahead,
                              uint32_t n_prompt);
double estimate_output_s(const struct estimate *estimate, uint32_t n_output);

#endif
