/* service/held_answer.h: an answer that is kept until it is known whether it is one of the best.
 *
 *   event_delta --add--> bytes [ delta, text | delta, text | ... ]  --next--> event_delta
 *                        sum of log-probabilities, tokens
 *
 * Its bytes are of the service's account of texts. Thread: the loop.
 */
#ifndef QUIRE_SERVICE_HELD_ANSWER_H
#define QUIRE_SERVICE_HELD_ANSWER_H

#include "service/service.h"

struct held_answer {
    uint8_t *bytes; /* [len] of cap, malloc'ed */
    size_t len, cap, n_read;
    double logprob_sum;
    uint64_t n_tokens;
};

/* Takes a copy; keeps_logprobs: of its log-probabilities too, which are counted all the same.
 * STATUS_NO_MEMORY, STATUS_EXHAUSTED with numbers. */
int held_answer_add(struct held_answer *held, struct service *service,
                    const struct event_delta *delta, bool keeps_logprobs, struct why *why);
/* In the order of adding; NULL: no more. Valid until release. */
const struct event_delta *held_answer_next(struct held_answer *held);
/* -infinity of one without tokens */
double held_answer_mean(const struct held_answer *held);
void held_answer_release(struct held_answer *held, struct service *service);
/* The indices of all n answers, the best first; of equal ones the first. */
void held_answer_rank(const struct held_answer *const *answers, uint32_t n, uint32_t *order);

#endif
