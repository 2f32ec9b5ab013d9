#include "base/threads.h"

#include <assert.h>
#include <errno.h>
#include <linux/futex.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cgroup.h"
#include "base/clock.h"
#include "base/status.h"

#define LINE 128
#define GROUP 8            /* a flat barrier up to here, leaders of eight above */
#define SPIN_NS 100000     /* between runs, before a worker parks */
#define SPINS_PATIENT 1000 /* within a run, before a worker sleeps: near 50 us */
#define SPINS_CROWDED 50   /* with more workers than cores: spinning keeps the awaited one out */
#define CPUS_MAX 65536
#define TURN_NS 20000000u /* the kernel takes 0.1 to 100 ms */
#define NICE_MAX 19

/* Counts that their owner stores and others wait for, each owner on a line of its own. */
struct seat {
    _Alignas(LINE) _Atomic uint32_t met;   /* barriers that this worker has come to */
    _Alignas(LINE) _Atomic uint32_t group; /* barriers that this leader's eight have all come to */
    _Alignas(LINE) _Atomic uint32_t done;  /* runs that this worker has left */
};

struct team {
    _Alignas(LINE) _Atomic uint32_t run; /* the newest run; workers spin, then sleep on it */
    void (*work)(void *arg, int worker_idx);
    void *arg;
    bool closing;
    _Alignas(LINE) _Atomic uint32_t n_parked;
    _Alignas(LINE) _Atomic uint32_t n_asleep; /* within a run, on another worker's count */
    _Alignas(LINE) _Atomic uint32_t released; /* barriers passed, with more than GROUP workers */
    _Alignas(LINE) int n_threads;
    int n_started; /* workers with a thread: 1 .. n_started */
    int spins;
    int64_t spin_ns;
    pthread_t threads[TEAM_THREADS_MAX];
    struct seat seats[];
};

struct start {
    struct team *team;
    int worker_idx;
};

/* The kernel's struct sched_attr, which glibc 2.36 does not declare. */
struct turn {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime_ns, deadline_ns, period_ns;
};

void thread_let_others_first(void)
{
    struct turn turn = {.size = sizeof turn};
    if (syscall(SYS_sched_getattr, 0, &turn, sizeof turn, 0) != 0 || turn.policy != SCHED_OTHER)
        return;
    turn.nice += turn.nice + NICE_OF_WORKERS <= NICE_MAX ? NICE_OF_WORKERS : 0;
    turn.runtime_ns = TURN_NS;
    syscall(SYS_sched_setattr, 0, &turn, 0);
}

/* Counts wrap: a is at or past b. */
static bool reached(_Atomic uint32_t *count, uint32_t target)
{
    return (int32_t)(atomic_load_explicit(count, memory_order_acquire) - target) >= 0;
}

static void futex(_Atomic uint32_t *word, int what, uint32_t value)
{
    syscall(SYS_futex, word, what | FUTEX_PRIVATE_FLAG, value, NULL, NULL, 0);
}

/* Spins, and then sleeps: when another program holds the awaited worker's core, an idle core beside
 * it takes that worker over at once, and a spinning one never would. The count of the sleepers goes
 * up before the kernel looks at the word, and announce stores the word before it reads the
 * count. */
static void wait_for(struct team *team, _Atomic uint32_t *count, uint32_t target)
{
    for (int spins = team->spins; spins > 0; spins--) {
        if (reached(count, target))
            return;
        thread_relax();
    }
    atomic_fetch_add(&team->n_asleep, 1);
    for (uint32_t now; (int32_t)((now = atomic_load(count)) - target) < 0;)
        futex(count, FUTEX_WAIT, now);
    atomic_fetch_sub(&team->n_asleep, 1);
}

static void announce(struct team *team, _Atomic uint32_t *count, uint32_t value)
{
    atomic_store(count, value);
    if (atomic_load(&team->n_asleep) > 0)
        futex(count, FUTEX_WAKE, INT32_MAX);
}

/* Spins for a while and then sleeps until run is no longer `seen`. The count of the parked goes up
 * before the kernel looks at the word, and team_run stores the word before it reads the count: one
 * of the two always sees the other. */
static void wait_for_run(struct team *team, uint32_t seen)
{
    int64_t start = clock_now(&clock_monotonic);
    while (clock_now(&clock_monotonic) - start < team->spin_ns) {
        for (int i = 0; i < 32; i++) {
            if (atomic_load_explicit(&team->run, memory_order_acquire) != seen)
                return;
            thread_relax();
        }
    }
    atomic_fetch_add(&team->n_parked, 1);
    while (atomic_load(&team->run) == seen)
        futex(&team->run, FUTEX_WAIT, seen);
    atomic_fetch_sub(&team->n_parked, 1);
}

static void *worker_main(void *arg)
{
    struct start start = *(struct start *)arg;
    free(arg);
    struct team *team = start.team;
    char name[24];
    snprintf(name, sizeof name, "worker-%d", start.worker_idx);
    pthread_setname_np(pthread_self(), name);
    thread_let_others_first();

    uint32_t seen = 0;
    for (;;) {
        wait_for_run(team, seen);
        seen++;
        if (team->closing)
            return NULL;
        team->work(team->arg, start.worker_idx);
        announce(team, &team->seats[start.worker_idx].done, seen);
    }
}

static void announce_run(struct team *team)
{
    atomic_fetch_add(&team->run, 1);
    if (atomic_load(&team->n_parked) > 0)
        futex(&team->run, FUTEX_WAKE, INT32_MAX);
}

/* The mask of this process, whatever the number of processors; *bytes is its size. Free with
 * CPU_FREE. */
static cpu_set_t *allowed_set(size_t *bytes)
{
    for (int cpus = CPU_SETSIZE; cpus <= CPUS_MAX; cpus *= 2) {
        cpu_set_t *set = CPU_ALLOC((size_t)cpus);
        if (set == NULL)
            return NULL;
        *bytes = CPU_ALLOC_SIZE((size_t)cpus);
        if (sched_getaffinity(0, *bytes, set) == 0)
            return set;
        CPU_FREE(set);
        if (errno != EINVAL)
            return NULL;
    }
    return NULL;
}

/* Makes the thread to come stay on the idx-th core of the set, counted round. */
static int pin_to(pthread_attr_t *attributes, const cpu_set_t *set, size_t bytes, int idx)
{
    int n_cores = CPU_COUNT_S(bytes, set);
    int left = n_cores > 0 ? idx % n_cores : 0;
    for (size_t core = 0; core < bytes * 8; core++) {
        if (!CPU_ISSET_S(core, bytes, set) || left-- > 0)
            continue;
        cpu_set_t *one = CPU_ALLOC(bytes * 8);
        if (one == NULL)
            return ENOMEM;
        CPU_ZERO_S(bytes, one);
        CPU_SET_S(core, bytes, one);
        int error = pthread_attr_setaffinity_np(attributes, bytes, one);
        CPU_FREE(one);
        return error;
    }
    return ESRCH;
}

static int start_worker(struct team *team, int worker_idx, const cpu_set_t *pin, size_t pin_bytes)
{
    pthread_attr_t attributes;
    int error = pthread_attr_init(&attributes);
    if (error != 0)
        return error;
    if (pin != NULL)
        error = pin_to(&attributes, pin, pin_bytes, worker_idx);
    struct start *start = error == 0 ? malloc(sizeof *start) : NULL;
    if (error == 0 && start == NULL)
        error = ENOMEM;
    if (error == 0) {
        *start = (struct start){.team = team, .worker_idx = worker_idx};
        error = pthread_create(&team->threads[worker_idx], &attributes, worker_main, start);
        if (error != 0)
            free(start);
    }
    pthread_attr_destroy(&attributes);
    return error;
}

/* Workers take no signals: those are for the threads that wait in a loop. */
static int start_workers(struct team *team, bool pin, struct why *why)
{
    size_t pin_bytes = 0;
    cpu_set_t *set = pin && team->n_threads > 1 ? allowed_set(&pin_bytes) : NULL;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = 0;
    for (int i = 1; i < team->n_threads && error == 0; i++) {
        error = start_worker(team, i, set, pin_bytes);
        if (error == 0)
            team->n_started = i;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (set != NULL)
        CPU_FREE(set);
    if (error == 0)
        return STATUS_OK;
    return refuse(why, error == ENOMEM ? STATUS_NO_MEMORY : STATUS_UNAVAILABLE,
                  "worker thread %d of %d did not start: %s; ask for fewer threads",
                  team->n_started + 1, team->n_threads, strerror(error));
}

int team_create(int n_threads, bool pin, struct team **out, struct why *why)
{
    if (n_threads < 1 || n_threads > TEAM_THREADS_MAX)
        return refuse(why, STATUS_INVALID, "a team has 1 to %d threads, not %d", TEAM_THREADS_MAX,
                      n_threads);
    size_t bytes = sizeof(struct team) + (size_t)n_threads * sizeof(struct seat);
    struct team *team = aligned_alloc(LINE, bytes);
    if (team == NULL)
        return refuse(why, STATUS_NO_MEMORY, "no memory for a team of %d threads (%zu bytes)",
                      n_threads, bytes);
    memset(team, 0, bytes);
    bool crowded = n_threads > cores_allowed();
    team->n_threads = n_threads;
    team->spins = crowded ? SPINS_CROWDED : SPINS_PATIENT;
    team->spin_ns = crowded ? 0 : SPIN_NS;
    int status = start_workers(team, pin, why);
    if (status < 0) {
        team_free(team);
        return status;
    }
    *out = team;
    return STATUS_OK;
}

void team_free(struct team *team)
{
    if (team == NULL)
        return;
    team->closing = true;
    announce_run(team);
    for (int i = 1; i <= team->n_started; i++)
        pthread_join(team->threads[i], NULL);
    free(team);
}

int team_size(const struct team *team)
{
    return team->n_threads;
}

void team_run(struct team *team, void (*work)(void *arg, int worker_idx), void *arg)
{
    if (team->n_threads == 1) {
        work(arg, 0);
        return;
    }
    team->work = work;
    team->arg = arg;
    announce_run(team);
    work(arg, 0);
    uint32_t run = atomic_load_explicit(&team->run, memory_order_relaxed);
    for (int i = 1; i < team->n_threads; i++)
        wait_for(team, &team->seats[i].done, run);
}

/* Two levels: leaders gather their eight, worker 0 gathers the leaders and releases everyone. */
static void barrier_of_many(struct team *team, int worker_idx, uint32_t mine)
{
    if (worker_idx % GROUP == 0) {
        for (int i = worker_idx + 1; i < worker_idx + GROUP && i < team->n_threads; i++)
            wait_for(team, &team->seats[i].met, mine);
        announce(team, &team->seats[worker_idx].group, mine);
    }
    if (worker_idx == 0) {
        for (int leader = GROUP; leader < team->n_threads; leader += GROUP)
            wait_for(team, &team->seats[leader].group, mine);
        announce(team, &team->released, mine);
    }
    wait_for(team, &team->released, mine);
}

void team_barrier(struct team *team, int worker_idx)
{
    assert(worker_idx >= 0 && worker_idx < team->n_threads);
    _Atomic uint32_t *met = &team->seats[worker_idx].met;
    uint32_t mine = atomic_load_explicit(met, memory_order_relaxed) + 1;
    announce(team, met, mine);
    if (team->n_threads > GROUP) {
        barrier_of_many(team, worker_idx, mine);
        return;
    }
    for (int i = 0; i < team->n_threads; i++) {
        if (i != worker_idx)
            wait_for(team, &team->seats[i].met, mine);
    }
}

void team_counter_reset(struct team_counter *counter)
{
    __atomic_store_n(&counter->next, 0, __ATOMIC_RELAXED);
}

uint32_t team_counter_take(struct team_counter *counter, uint32_t n)
{
    return __atomic_fetch_add(&counter->next, n, __ATOMIC_RELAXED);
}

int cores_allowed(void)
{
    size_t bytes = 0;
    cpu_set_t *set = allowed_set(&bytes);
    int n_cores = set == NULL ? (int)sysconf(_SC_NPROCESSORS_ONLN) : CPU_COUNT_S(bytes, set);
    if (set != NULL)
        CPU_FREE(set);
    double quota;
    if (cgroup_cores(CGROUP_MOUNT, CGROUP_MEMBERSHIP, &quota) && ceil(quota) < n_cores)
        n_cores = (int)ceil(quota);
    return n_cores < 1 ? 1 : n_cores;
}

uint64_t memory_allowed(void)
{
    uint64_t bytes = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    uint64_t limit;
    if (cgroup_memory(CGROUP_MOUNT, CGROUP_MEMBERSHIP, &limit) && limit < bytes)
        bytes = limit;
    return bytes;
}
