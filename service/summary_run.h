/* service/summary_run.h: one prompt of a summary on its way through the engine.
 *
 *   FREE --open--> UNSENT --send--> SENT --EVENT_ACCEPTED--> ACCEPTED --finished--> FREE
 *                     ^--- refused for want of room ---'
 *
 * A run keeps its prompt until the engine has accepted it: a full ring or queue in the middle of a
 * long summary is waited for, not an end of all that was done. Credit is owed per run while the
 * reader takes nothing, as in generate.h. Thread: the loop.
 */
#ifndef QUIRE_SERVICE_SUMMARY_RUN_H
#define QUIRE_SERVICE_SUMMARY_RUN_H

#include "engine/message.h"
#include "service/call.h"

enum summary_run_state { RUN_FREE, RUN_UNSENT, RUN_SENT, RUN_ACCEPTED };

struct summary_run {
    enum summary_run_state state;
    bool is_final;
    uint32_t tag;
    uint32_t level, index; /* of the section that it writes */
    uint64_t begin, end;   /* bytes of the document that it stands for */
    uint32_t n_tokens;     /* of the document in its prompt: level 0 only */
    uint32_t *ids;         /* malloc'ed prompt, [n_ids]; NULL once accepted */
    size_t n_ids;
    struct submit *submit; /* of it, to be sent; NULL: another is made */
    uint64_t n_prefilled;
    uint32_t n_completion, n_credit_owed;
    uint8_t *text;         /* what it wrote, [len]; not kept of the final one */
    size_t len, cap;
    int64_t opened_ns;
    struct call_clock clock;
};

/* What is the same for all runs of a call. */
struct summary_terms {
    struct sampling sampling;
    uint32_t max_tokens;
    struct cache_salt salt;
};

/* Takes ids, and a submit of them, which may be NULL. */
void summary_run_open(struct summary_run *run, uint32_t tag, uint32_t *ids, size_t n_ids,
                      struct submit *submit, int64_t now_ns);
/* STATUS_AGAIN: the ring is full, try later. STATUS_NO_MEMORY. */
int summary_run_send(struct call *call, struct summary_run *run, const struct summary_terms *terms);
void summary_run_accept(struct summary_run *run);
void summary_run_refuse(struct summary_run *run); /* for want of room: it may be sent again */
int summary_run_append(struct summary_run *run, struct slice text); /* STATUS_NO_MEMORY */
/* Returns the credit of one delta now, or when the out-buffer has drained. */
void summary_run_credit(struct call *call, struct summary_run *run);
void summary_run_pay(struct call *call, struct summary_run *run); /* what is owed */
void summary_run_close(struct summary_run *run);

#endif
