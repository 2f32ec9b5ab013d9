/* base/progress.h: "done of total, rate, time left" on standard error.
 *
 *   prefill  4,096 of 7,639 tokens  2,610/s  0:01 left
 *
 *   terminal:  one live line, redrawn at most 10 times a second
 *   elsewhere: one plain line when the phase begins, every 5 s, and when it ends
 *
 * A phase is one label; beginning another one ends the first. Thread: one.
 */
#ifndef QUIRE_BASE_PROGRESS_H
#define QUIRE_BASE_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct clock;

struct progress {
    const struct clock *clock;
    const char *unit; /* "tokens", "bytes" */
    char label[64];
    uint64_t n_done, n_total; /* total 0: unknown */
    double rate;              /* units/s given by the caller; 0: computed here */
    int64_t started_ns, drawn_ns;
    uint64_t started_done, drawn_done;
    bool live, open, quiet;
    bool drawn; /* a live line stands on the terminal */
};

void progress_init(struct progress *progress, const struct clock *clock, const char *unit,
                   bool quiet);
void progress_update(struct progress *progress, const char *label, uint64_t n_done,
                     uint64_t n_total, double rate);
/* Wipes a live line before other output; the next update redraws. */
void progress_clear(struct progress *progress);
void progress_end(struct progress *progress); /* leaves the last state visible, ends the line */

#endif
