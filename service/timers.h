/* service/timers.h: any number of timers over one clock. A timer lives inside its owner's struct:
 * nothing to allocate, nothing to close; a disarmed timer may be freed at once.
 *
 *                 due 10            a pairing heap: each node is due no later than its children
 *                /   |   \
 *            due 12 due 30 due 11
 *
 * Invariant: a timer is in the heap exactly while armed. Thread: the loop.
 */
#ifndef QUIRE_SERVICE_TIMERS_H
#define QUIRE_SERVICE_TIMERS_H

#include <stdbool.h>
#include <stdint.h>

struct timer {
    void (*fire)(struct timer *timer); /* disarmed before it is called; may arm itself again */
    int64_t due_ns;
    struct timer *child, *next; /* first child; next sibling */
    struct timer *prev;         /* previous sibling, or the parent of a first child */
    bool armed;
};

struct timers {
    struct timer *root;
    int64_t running_ns; /* now of the run under way, else 0 */
};

/* moves it when armed */
void timers_arm(struct timers *timers, struct timer *timer, int64_t due_ns);
/* harmless when not armed */
void timers_disarm(struct timers *timers, struct timer *timer);
/* due time of the first; INT64_MAX when there is none */
int64_t timers_next_ns(const struct timers *timers);
/* Fires all that are due at now_ns; those armed meanwhile wait for the next run even if due.
 * Returns how many fired. */
int timers_run(struct timers *timers, int64_t now_ns);

#endif
