/* engine/scheduler.h: who gets how many rows in the next step. Pure: no clock, no sequence, nothing
 * but these numbers.
 *
 *   decoding sequences    one row each, first              (when there are more than rows: in turn)
 *   prefilling sequences  share what is left of the rows that the step's time allows, in turn
 *
 * Promises, tested over random histories: no more than max_rows rows; every candidate gets rows
 * within a bounded number of steps; higher priorities first among those that prefill; a prefill
 * gets PREFILL_CHUNK_MIN rows or all it lacks, when it gets any.
 */
#ifndef QUIRE_ENGINE_SCHEDULER_H
#define QUIRE_ENGINE_SCHEDULER_H

#include "limits.h"

#include <stdbool.h>
#include <stdint.h>

struct scheduler {
    uint32_t max_rows;
    int64_t max_step_ns;
    uint64_t last_decode,
        last_prefill; /* order of the one served last in a step that could not serve all */
};

struct candidate {
    uint64_t order; /* unique, ascending in the array */
    bool is_prefill;
    int32_t priority;
    uint32_t n_wanted; /* rows it could use: 1 for decode, the rest of the prompt for prefill */
};

struct step_cost {
    double fixed_ns; /* of a step with decoding rows only, whatever they are */
    double row_ns;   /* of each row of a prefill */
};

struct schedule_item {
    uint32_t candidate_idx;
    uint32_t n_rows;
};

struct schedule {
    uint32_t n_items, n_rows;
    struct schedule_item items[STEP_ROWS_MAX]; /* in the order of candidates */
};

/* max_rows: 2 * PREFILL_CHUNK_MIN to STEP_ROWS_MAX. */
void scheduler_init(struct scheduler *scheduler, uint32_t max_rows, int64_t max_step_ns);
void scheduler_plan(struct scheduler *scheduler, const struct candidate *candidates, uint32_t n,
                    const struct step_cost *cost, struct schedule *out);

#endif
