/* base/clock.h: monotonic time in ns, and a fake for tests. Schedules and deadlines take `now` from
 * here only. */
#ifndef QUIRE_BASE_CLOCK_H
#define QUIRE_BASE_CLOCK_H

#include <stdint.h>

struct clock {
    int64_t (*now_ns)(const struct clock *clock);
    int64_t fake_ns; /* read by clock_fake only */
};

#define NS_PER_MS INT64_C(1000000)
#define NS_PER_S INT64_C(1000000000)

extern const struct clock clock_monotonic;
struct clock clock_fake(int64_t start_ns);           /* stands still until advanced */
void clock_advance(struct clock *clock, int64_t ns); /* fakes only */

static inline int64_t clock_now(const struct clock *clock)
{
    return clock->now_ns(clock);
}

#endif
