#include "service/timers.h"

#include <assert.h>
#include <stddef.h>

/* Makes the later of two roots the first child of the other. */
static struct timer *meld(struct timer *a, struct timer *b)
{
    if (a == NULL)
        return b;
    if (b == NULL)
        return a;
    if (b->due_ns < a->due_ns) {
        struct timer *swap = a;
        a = b;
        b = swap;
    }
    b->prev = a;
    b->next = a->child;
    if (a->child != NULL)
        a->child->prev = b;
    a->child = b;
    a->next = NULL;
    a->prev = NULL;
    return a;
}

/* Melds siblings in pairs from the left, then the pairs from the right: this keeps it shallow. */
static struct timer *meld_siblings(struct timer *first)
{
    struct timer *pairs = NULL; /* linked through prev, last pair first */
    while (first != NULL) {
        struct timer *a = first;
        struct timer *b = a->next;
        first = b == NULL ? NULL : b->next;
        a->next = a->prev = NULL;
        if (b != NULL)
            b->next = b->prev = NULL;
        struct timer *pair = meld(a, b);
        pair->prev = pairs;
        pairs = pair;
    }
    struct timer *root = NULL;
    while (pairs != NULL) {
        struct timer *pair = pairs;
        pairs = pair->prev;
        pair->prev = NULL;
        root = meld(root, pair);
    }
    return root;
}

static void unlink_timer(struct timers *timers, struct timer *timer)
{
    struct timer *below = meld_siblings(timer->child);
    timer->child = NULL;
    if (timer == timers->root) {
        timers->root = below;
        return;
    }
    if (timer->prev->child == timer)
        timer->prev->child = timer->next;
    else
        timer->prev->next = timer->next;
    if (timer->next != NULL)
        timer->next->prev = timer->prev;
    timer->next = timer->prev = NULL;
    timers->root = meld(timers->root, below);
}

void timers_arm(struct timers *timers, struct timer *timer, int64_t due_ns)
{
    assert(timer->fire != NULL);
    if (timers->running_ns != 0 && due_ns <= timers->running_ns)
        due_ns = timers->running_ns + 1; /* of one that arms itself anew at once the loop lets go */
    if (timer->armed && timer->due_ns == due_ns)
        return;
    timers_disarm(timers, timer);
    timer->due_ns = due_ns;
    timer->armed = true;
    timers->root = meld(timers->root, timer);
}

void timers_disarm(struct timers *timers, struct timer *timer)
{
    if (!timer->armed)
        return;
    unlink_timer(timers, timer);
    timer->armed = false;
}

int64_t timers_next_ns(const struct timers *timers)
{
    return timers->root == NULL ? INT64_MAX : timers->root->due_ns;
}

int timers_run(struct timers *timers, int64_t now_ns)
{
    int n_fired = 0;
    assert(timers->running_ns == 0);
    timers->running_ns = now_ns;
    while (timers->root != NULL && timers->root->due_ns <= now_ns) {
        struct timer *timer = timers->root;
        timers_disarm(timers, timer);
        timer->fire(timer);
        n_fired++;
    }
    timers->running_ns = 0;
    return n_fired;
}
