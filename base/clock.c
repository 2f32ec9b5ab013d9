#include "base/clock.h"

#include <assert.h>
#include <time.h>

static int64_t monotonic_now(const struct clock *clock)
{
    (void)clock;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * NS_PER_S + now.tv_nsec;
}

/* Atomic, because a test advances the clock of an engine that runs in another thread. */
static int64_t fake_now(const struct clock *clock)
{
    return __atomic_load_n(&clock->fake_ns, __ATOMIC_RELAXED);
}

const struct clock clock_monotonic = {.now_ns = monotonic_now};

struct clock clock_fake(int64_t start_ns)
{
    return (struct clock){.now_ns = fake_now, .fake_ns = start_ns};
}

void clock_advance(struct clock *clock, int64_t ns)
{
    assert(clock->now_ns == fake_now && ns >= 0);
    __atomic_fetch_add(&clock->fake_ns, ns, __ATOMIC_RELAXED);
}
