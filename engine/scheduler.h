/* engine/scheduler.h: who gets how many rows in the next step. Pure: no clock, no sequence, nothing
 * but these numbers.
 *
 *   decoding sequences    one row each, first              (when there are more than rows: in turn)
 *   prefilling sequences  share, in turn, what is left of the rows and of the step's time
 *
 * Promises, tested over random histories: no more than max_rows rows; a decoding candidate gets a
 * row within a bounded number of steps, whatever else there is; of those that prefill the highest
 * priority comes first, and within it each gets rows within a bounded number of steps; a prefill
 * gets PREFILL_CHUNK_MIN rows or all it lacks, when it gets any; only one chunk of that length may
 * take a step beyond its time.
 *
 * Who draws under a grammar makes the step thread work out a mask when the step is over. The masks
 * of those that decode take at most a MASK_SHARE of max_step_ns, and so, with them, do those of
 * prompts that end; but one of each kind is always taken. Who is left out keeps its place, and
 * nobody of its kind overtakes it.
 *
 * Candidates stand in line: who arrives, and who was served, in the order of the schedule, goes to
 * its end. So nobody who comes later and leaves soon can hold up those who were there.
 */
#ifndef QUIRE_ENGINE_SCHEDULER_H
#define QUIRE_ENGINE_SCHEDULER_H

#include "engine/step_cost.h"
#include "limits.h"

#include <stdbool.h>
#include <stdint.h>

#define MASK_SHARE 4 /* the part of a step's time that masks may take is one of so many */

struct scheduler {
    uint32_t max_rows;
    int64_t max_step_ns;
};

struct candidate {
    bool is_prefill;
    int32_t priority;
    uint32_t n_wanted;  /* rows it could use: 1 for decode, the rest of the prompt for prefill */
    uint32_t n_context; /* tokens that it has in the cache */
    int64_t mask_ns;    /* its next mask takes about so long; 0: it has no grammar */
};

struct schedule_item {
    uint32_t candidate_idx;
    uint32_t n_rows;
};

struct schedule {
    uint32_t n_items, n_rows;
    struct schedule_item items[STEP_ROWS_MAX]; /* in the order of the line */
};

/* max_rows: 2 * PREFILL_CHUNK_MIN to STEP_ROWS_MAX. */
void scheduler_init(struct scheduler *scheduler, uint32_t max_rows, int64_t max_step_ns);
/* n candidates, 0 to SEQUENCES_MAX, in line; out names those that get rows. */
void scheduler_plan(const struct scheduler *scheduler, const struct candidate *candidates,
                    uint32_t n, const struct step_cost *cost, struct schedule *out);

#endif
