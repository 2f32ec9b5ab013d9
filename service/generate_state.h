/* service/generate_state.h: what generate.c and generate_tell.c share of a call of Generate. Nobody
 * else includes it.
 *
 * Of n answers at once, or, where there are more to choose from, one behind the other when all have
 * ended:
 *
 *   deltas of choices -----------------------------------------------------> reader
 *   deltas of choices -> held -> the last ends: rank -> the best n, in turn -> reader
 */
#ifndef QUIRE_SERVICE_GENERATE_STATE_H
#define QUIRE_SERVICE_GENERATE_STATE_H

#include "service/held_answer.h"
#include "service/prompt_job.h"
#include "service/service.h"
#include "service/tool_reply.h"

struct choice {
    struct tool_reply reply;
    uint32_t n_credit_owed;
    uint64_t n_counted; /* tokens of its deltas */
    struct held_answer held; /* of best_of */
    struct event_finished finished; /* once it has ended */
};

struct generate {
    struct engine_client client; /* first: service_on_wake reads it */
    bool want_text, want_ids, want_logprobs, is_submitted;
    struct stop_list stop;
    struct call_clock clock;
    struct chat_cut cut;
    uint32_t n, n_choices, n_over; /* wanted, drawn, ended */
    struct event_finished total;   /* of those that have ended */
    struct choice choices[CHOICES_MAX]; /* [n_choices] */
    uint32_t order[CHOICES_MAX], n_told; /* of best_of, once it is known: the best first */
};

/* Answers are held until the best is known. */
static inline bool generate_holds(const struct generate *state)
{
    return state->n_choices > state->n;
}

/* --- generate_tell.c; where one gives false the call has ended, and its state may be gone --- */

void generate_release(struct call *call); /* what the choices hold */
/* Since nothing is left out of an answer, the call ends. */
void generate_fail(struct call *call, int status, const struct why *why);
/* Sends the bytes that stand in the service's out. */
bool generate_send(struct call *call, size_t bytes);
/* What a reader sees of the choice, as number idx. */
bool generate_tell_delta(struct call *call, struct choice *choice, const struct event_delta *delta,
                         uint32_t idx);
/* The end of a choice, which the reader knows as number idx. */
bool generate_tell_end(struct call *call, struct generate *state, struct choice *choice,
                       uint32_t idx, bool is_last);

#endif
