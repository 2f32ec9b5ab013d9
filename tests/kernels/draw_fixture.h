/* tests/kernels/draw_fixture.h: rows of logits on the host, sampled by the op on a device of their
 * own. */
#ifndef QUIRE_TESTS_DRAW_FIXTURE_H
#define QUIRE_TESTS_DRAW_FIXTURE_H

#include "kernels/ops.h"
#include "tests/under_tsan.h"

struct draw { /* what a sampling op gets, on the host */
    const float *logits;
    uint32_t n_rows, vocabulary;
    const struct sample_params *params;
    const uint32_t *counts;
    uint32_t n_slots;
    const uint32_t *banned;
    uint32_t n_banned;
    const uint32_t *masks; /* [n_masks, words of the vocabulary] */
    uint32_t n_masks;
    const struct sample_bias *biases;
    uint32_t n_biases;
};

extern const struct sample_params plain; /* temperature 1, nothing else */

int sample_on(enum isa isa, int n_threads, const struct draw *draw, struct sample_result *results);
int sample_by(const struct device_options *options, const struct draw *draw,
              struct sample_result *results);

#define VOCABULARY 5003 /* whole registers and a rest */
#define N_ROWS (UNDER_TSAN ? 20 : 60)

/* Words of a mask */
#define MASK_WORDS(vocabulary) (((vocabulary) + 31) / 32)
#define N_BIASES 40
/* The logit of a token before the temperature, by the formulas of ops.h: the definition. */
float changed_logit(const struct draw *draw, uint32_t r, uint32_t id);

struct crowd { /* many rows with every mix of settings */
    float logits[N_ROWS * VOCABULARY];
    struct sample_params params[N_ROWS];
    uint32_t counts[2 * VOCABULARY];
    uint32_t banned[5];
    uint32_t masks[2 * MASK_WORDS(VOCABULARY)];
    struct sample_bias biases[N_BIASES];
    struct draw draw;
};

struct crowd *make_crowd(void); /* malloc'd; always the same */

#endif
