/* service/summary_state.h: what one Summarize call holds, how it ends, and what its peer is told.
 *
 *   OPTIONS --> PLANNING --> READING --> JOINING --> ANSWERING --> gone
 *                               '----- whole ----------^
 *
 * Shared by summarize.c (upload and events) and summary_flow.c (work and runs). Thread: the loop.
 */
#ifndef QUIRE_SERVICE_SUMMARY_STATE_H
#define QUIRE_SERVICE_SUMMARY_STATE_H

#include "service/byte_queue.h"
#include "service/service.h"
#include "service/summary_progress.h"
#include "service/summary_run.h"
#include "service/summary_tree.h"
#include "service/summary_work.h"
#include "service/timers.h"
#include "service/wire.h"

#define SUMMARY_PARTING_TOKENS 2 /* a blank line between two summaries */
#define SUMMARY_RETRY_NS_MAX INT64_C(60000000000) /* of one run that finds no room */

enum summarize_stage {
    STAGE_OPTIONS,  /* none came yet */
    STAGE_PLANNING,
    STAGE_READING,  /* bytes come, or wait to be cut */
    STAGE_JOINING,  /* every byte stands in a section */
    STAGE_ANSWERING /* the final run */
};

struct summarize {
    struct engine_client client; /* first: service_on_wake reads it */
    struct call *call;
    enum summarize_stage stage;
    struct summary_plan *plan;
    struct wire_summary_options options; /* but for the instruction, which is the plan's */
    int64_t began_ns;

    struct byte_queue held;    /* received and not yet cut */
    size_t window;             /* bytes that the next cut looks at */
    bool has_ended;            /* the peer has sent everything */
    bool is_paused;            /* it was told AGAIN */
    bool has_work;             /* a worker has some of it */
    bool is_accepted;          /* and the peer knows */
    bool is_short;             /* of memory: a message was left out */
    uint64_t n_received, n_cut, n_covered, n_replaced;
    uint64_t n_tokens_cut, n_tokens_done; /* of the document: in prompts, in finished sections */

    struct summary_run runs[SUMMARY_RUNS];
    struct summary_tree tree;
    struct timer retry;
    uint32_t next_tag, n_sections, n_levels;
    uint32_t n_group_max;      /* summaries in one prompt: fewer after one that was too long */
    struct summary_progress progress;
};

int64_t summary_now_ns(void);

/* --- ends: the call may not be touched afterwards --- */

/* With the engine's refusal when there is one, else with status and why. Cancels what runs. */
void summary_end_refused(struct summarize *state, int status, const struct why *why,
                         const struct event_refused *refused);
void summary_end_answered(struct summarize *state, enum finish_reason reason);
void summary_end_cancelled(struct summarize *state);

/* --- what the peer hears --- */

void summary_tell_accepted(struct summarize *state);
/* Progress is never worth waiting for: above the mark, and too soon, it is left out. */
void summary_tell_progress(struct summarize *state, enum wire_phase phase, uint64_t n_done,
                           uint64_t n_total);
/* The engine knows how long. */
void summary_tell_waiting(struct summarize *state, const struct event_progress *waiting);
void summary_tell_sections(struct summarize *state);
void summary_tell_upload(struct summarize *state);
void summary_send_section(struct summarize *state, const struct summary_run *run,
                          struct slice text, bool is_last);
void summary_send_answer(struct summarize *state, struct slice text);

#endif
