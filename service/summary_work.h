/* service/summary_work.h: what Summarize does with text, on workers: measure, cut, tokenize.
 *
 *   SUMMARY_PLAN   instruction          -> what every prompt spends beside its text
 *   SUMMARY_CUT    window of the document -> its first section as a prompt; or all of it, whole;
 *                                          or "more": it may be longer than the window
 *   SUMMARY_JOIN   summaries            -> a merge or the final prompt; or "too long"
 *
 * The outcome depends on the document alone, never on when its bytes came: a window has the same
 * size at the same place, and is shorter only at the document's end.
 *
 * Thread: create, share and free on the loop; run on a worker, which owns the work meanwhile. A
 * plan is read-only once its own work is done.
 */
#ifndef QUIRE_SERVICE_SUMMARY_WORK_H
#define QUIRE_SERVICE_SUMMARY_WORK_H

#include "service/call.h"
#include "service/summary_prompt.h"
#include "service/summary_tree.h"
#include "service/wire.h"

/* What all prompts of one call share. */
struct summary_plan {
    uint32_t n_owners; /* counted on the loop */
    const struct engine *engine;
    bool has_chat;
    struct cache_salt salt;      /* that prompts are named by */
    uint32_t n_context;          /* tokens of one sequence */
    uint32_t max_tokens, section_max_tokens;
    uint32_t section_tokens_asked; /* 0: not asked for */
    bool replaces_invalid;       /* bytes that are no UTF-8, instead of refusing them */
    uint32_t n_reserve;          /* of the context, for the final answer */
    /* document tokens, alone, that may be read whole: their prompt decides; 0: never */
    uint32_t n_whole;
    uint32_t n_section;          /* document tokens of a section at most */
    uint32_t n_join;             /* tokens of summaries in a merge or final prompt */
    size_t instruction_bytes;
    uint8_t instruction[];
};

/* STATUS_NO_MEMORY: NULL. */
struct summary_plan *summary_plan_create(const struct engine *engine,
                                         const struct engine_model_info *model,
                                         const struct wire_summary_options *options);
void summary_plan_drop(struct summary_plan *plan); /* may be NULL; freed by the last owner */

enum summary_kind {
    SUMMARY_WHOLE,   /* the document in one piece */
    SUMMARY_SECTION, /* a section of it */
    SUMMARY_MERGE,   /* summaries of neighbouring parts, to one */
    SUMMARY_FINAL,   /* summaries of all parts, to the last one */
};
enum summary_task { SUMMARY_PLAN, SUMMARY_CUT, SUMMARY_JOIN };
enum summary_outcome { SUMMARY_DONE, SUMMARY_MORE, SUMMARY_TOO_LONG };

struct summary_work {
    struct call_table *calls;
    uint64_t call_id;
    enum summary_task task;
    struct summary_plan *plan;
    /* in */
    enum summary_kind kind;   /* JOIN: MERGE or FINAL; CUT: out, SECTION or WHOLE */
    uint8_t *text;            /* malloc'ed: the window, or the summaries */
    size_t len;
    uint64_t begin;           /* CUT: of the window in the document */
    bool at_end;              /* CUT: no byte follows the window */
    struct summary_group group; /* JOIN of a merge; its text is this text */
    /* out */
    enum summary_outcome outcome;
    bool is_beyond;           /* TOO_LONG: the prompt alone is longer than the context */
    size_t n_cut;             /* bytes of the window that stand in the prompt */
    uint32_t n_tokens;        /* of the document, in them */
    size_t n_replaced;
    uint32_t *ids;            /* malloc'ed prompt */
    size_t n_ids;
    struct submit *submit;    /* of that, under its names; NULL: the step thread makes them */
    int status;
    struct why why;
};

/* Takes a share of the plan. NULL: no memory. */
struct summary_work *summary_work_create(struct call *call, enum summary_task task,
                                         struct summary_plan *plan);
void summary_work_run(void *work);
void summary_work_free(struct summary_work *work);

#endif
