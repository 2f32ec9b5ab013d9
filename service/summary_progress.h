/* service/summary_progress.h: how far a summary is: at most one message every 100 ms, with the rate
 * of its phase and the time that is left of it.
 *
 *   UPLOAD bytes -> SECTIONS tokens of all sections, or WAITING and PREFILL -> ANSWER tokens
 *
 * Thread: the loop.
 */
#ifndef QUIRE_SERVICE_SUMMARY_PROGRESS_H
#define QUIRE_SERVICE_SUMMARY_PROGRESS_H

#include "service/wire.h"

#define SUMMARY_PROGRESS_NS INT64_C(100000000)

struct summary_progress {
    bool has_begun;
    enum wire_phase phase;
    int64_t told_ns;    /* when the last message was made */
    int64_t phase_ns;   /* when the phase began, and what was done then */
    uint64_t phase_done;
};

/* Fills *out and returns true when it is time to tell. total 0: not known. */
bool summary_progress_tell(struct summary_progress *progress, int64_t now_ns,
                           enum wire_phase phase, uint64_t n_done, uint64_t n_total,
                           struct wire_progress *out);

#endif
