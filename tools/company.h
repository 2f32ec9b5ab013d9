/* tools/company.h: other sequences that share the steps of ours, to prove that they do not matter.
 *
 * Each has random tokens and a random length, takes 1 to COMPANY_ROWS_MAX rows a step, and begins
 * anew, in other pages, when it has reached its end. Ours stands among them at a place that changes
 * from step to step. The dice are seeded: the same call gives the same company.
 */
#ifndef QUIRE_TOOLS_COMPANY_H
#define QUIRE_TOOLS_COMPANY_H

#include "tools/run.h"

#define COMPANY_MAX 64
#define COMPANY_ROWS_MAX 32

struct company_member {
    kv_seq_id seq;
    uint32_t n_done, n_tokens;
    uint32_t ids[COMPANY_ROWS_MAX]; /* of the step in hand */
};

struct company {
    struct run *run;
    uint32_t n, n_longest;
    uint64_t dice;
    struct company_member *members; /* [n] */
};

/* The longest member beside n tokens of ours, within a context. */
uint32_t company_longest(uint32_t n_tokens, uint32_t context);

/* n may be 0. The run has a sequence of n_longest tokens for each. */
int company_open(struct company *company, struct run *run, uint32_t n, uint32_t n_longest,
                 struct why *why);
void company_close(struct company *company);

/* The pieces [1 + n] of the next step: `ours` and one of each member, shuffled. *first_output:
 * index of our first row of logits. */
int company_join(struct company *company, const struct run_piece *ours, struct run_piece *pieces,
                 uint32_t *first_output, struct why *why);

#endif
