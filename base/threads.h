/* base/threads.h: the worker team of a CPU device.
 *
 * team_run wakes n - 1 parked threads once, runs `work` on all n (the caller is index 0) and
 * returns when every one has left it. Inside, team_barrier spins for some 50 us and then sleeps, so
 * that a worker whose core another program took is run on the waiting one's; between runs workers
 * spin for SPIN_NS and then park on a futex.
 *
 *   worker 0 (caller)  --run--|==work==B==work==B==work==|--returns
 *   worker 1           parked  |==work==B==work==B==work==|  spin, park
 *
 * Thread: team_run from one thread at a time. No allocation after create.
 */
#ifndef QUIRE_BASE_THREADS_H
#define QUIRE_BASE_THREADS_H

#include <stdbool.h>
#include <stdint.h>

#define TEAM_THREADS_MAX 256

struct team;
struct why;

/* n_threads 1..TEAM_THREADS_MAX; pin: worker i stays on the i-th allowed core (caller is left
 * alone). STATUS_INVALID, STATUS_NO_MEMORY, STATUS_UNAVAILABLE. */
int team_create(int n_threads, bool pin, struct team **out, struct why *why);
void team_free(struct team *team); /* joins; no run may be in flight */
int team_size(const struct team *team);
void team_run(struct team *team, void (*work)(void *arg, int worker_idx), void *arg);
void team_barrier(struct team *team, int worker_idx); /* inside work; all workers must meet it */

/* A counter that workers take pieces from; the result must not depend on who takes what. */
struct team_counter {
    _Alignas(128) uint32_t next;
};
void team_counter_reset(struct team_counter *counter);
/* Returns the first index of n taken. */
uint32_t team_counter_take(struct team_counter *counter, uint32_t n);

/* For a thread that computes without a pause: one that sleeps most of the time (the loop, a client
 * on this machine) then runs as soon as it wakes, and not at the kernel's next tick, 4 ms later.
 * Asks for long turns (Linux 6.12 and newer) and gives up some weight (nice + NICE_OF_WORKERS);
 * what the kernel refuses is left as it was. */
#define NICE_OF_WORKERS 5
void thread_let_others_first(void);
/* For the turns of a loop that waits: leaves the core's other thread and its power alone. */
static inline void thread_relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Cores this process may run on, from the affinity mask and the cgroup quota; at least 1. */
int cores_allowed(void);
uint64_t memory_allowed(void); /* bytes: the smaller of physical memory and the cgroup limit */

#endif
