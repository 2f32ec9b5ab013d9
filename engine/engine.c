#include "engine/engine.h"

#include "base/hash.h"
#include "base/log.h"
#include "base/threads.h"
#include "engine/engine_state.h"
#include "engine/preempt.h"
#include "engine/prompt_prefix.h"
#include "kvcache/page_key.h"
#include "model/digest_cache.h"
#include "model/model.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define BLOCKED_MS 1 /* the loop reads ring B meanwhile, and does not tell */

/* --- the step --- */

static int64_t mask_ns_of(const struct sequence *sequence)
{
    if (sequence->submit->grammar == NULL)
        return 0;
    return sequence->mask_ns > 1 ? sequence->mask_ns : 1;
}

static void plan(struct engine *engine)
{
    uint32_t n = 0, n_uncounted = 0;

    list_for_each(node, &engine->runs)
    {
        struct sequence *sequence = list_entry(node, struct sequence, link);
        uint32_t n_wanted = sequence_n_wanted(sequence);
        bool lacks_counts = sequence_lacks_counts(sequence);
        if (n_wanted == 0 || (lacks_counts && n_uncounted == COUNT_ROWS_MAX))
            continue;
        n_uncounted += lacks_counts;
        engine->candidate_sequences[n] = sequence;
        engine->candidates[n++] = (struct candidate){.is_prefill = sequence_is_reading(sequence),
                                                     .priority = sequence->submit->priority,
                                                     .n_wanted = n_wanted,
                                                     .n_context = sequence->n_launched,
                                                     .mask_ns = mask_ns_of(sequence)};
    }
    scheduler_plan(&engine->scheduler, engine->candidates, n, &engine->estimate.cost,
                   &engine->schedule);
}

/* False: nobody has a row for a step. */
static bool launch(struct engine *engine)
{
    const struct schedule *schedule = &engine->schedule;

    plan(engine);
    if (schedule->n_rows == 0)
        return false;
    struct batch *batch = flight_next(engine->flight, clock_now(engine->clock));
    for (uint32_t i = 0; i < schedule->n_items; i++) {
        struct sequence *sequence = engine->candidate_sequences[schedule->items[i].candidate_idx];
        batch_add(batch, sequence, schedule->items[i].n_rows);
        list_unlink(&sequence->link); /* to the end of the line */
        list_append(&engine->runs, &sequence->link);
    }
    flight_launch(engine->flight);
    return true;
}

static void poll_messages(void *arg)
{
    admission_drain(arg);
}

/* The device is gone: everybody is told, what can be saved is saved (nothing yet), the thread ends.
 * */
static int fail_all(struct engine *engine, int status)
{
    flight_drop(engine->flight);
    list_for_each(node, &engine->runs)
    {
        struct sequence *sequence = list_entry(node, struct sequence, link);
        if (sequence->state != SEQUENCE_FINISHED)
            finish_run(engine, sequence, END_LOST);
    }
    admission_sweep(engine);
    publish_begin(engine, EVENT_LOST, 0, 0, sizeof(struct event));
    publish_end(engine, offsetof(struct event, accepted));
    publish_wake(engine);
    log_write(LOG_ERROR, "device_lost", "status=%s", status_name(status));
    return status;
}

static void check(struct engine *engine)
{
#ifdef QUIRE_CHECKS
    struct why why;
    if (kv_cache_check(engine->cache, &why) < 0) {
        char quoted[WHY_BYTES];
        log_write(LOG_ERROR, "kv_cache_check", "error=%s",
                  log_quote(quoted, sizeof quoted, why.text, strlen(why.text)));
        abort();
    }
#else
    (void)engine;
#endif
}

static void account(struct engine *engine, const struct batch *batch, int64_t step_ns)
{
    struct engine_stats *stats = &engine->stats;
    double step_s = (double)step_ns / NS_PER_S;
    double prefill_s = step_s * batch->work.n_prefill / batch->n_rows;

    estimate_learn(&engine->estimate, &batch->work, step_ns);
    stats->n_steps++;
    stats->busy_s += step_s;
    stats->prefill_busy_s += prefill_s;
    stats->decode_busy_s += step_s - prefill_s;
}

/* Waits for the oldest step under way, answering messages meanwhile, and takes what it gave. */
static int retire(struct engine *engine)
{
    int64_t step_ns;

    int status = flight_wait(engine->flight, poll_messages, engine);
    if (status < 0)
        return fail_all(engine, status);
    const struct batch *batch = flight_retire(engine->flight, clock_now(engine->clock), &step_ns);
    account(engine, batch, step_ns);
    accept_step(engine, batch); /* commit, stop, text: ring B */
    admission_sweep(engine);
    check(engine);
    publish_wake(engine);
    return STATUS_OK;
}

static void tell_digest(struct engine *engine)
{
    if (engine->told_digest || atomic_load_explicit(&engine->has_digest, memory_order_acquire) != 1)
        return;
    engine->told_digest = true;
    prompt_prefix_identify(engine, engine->digest_hex);
    struct event *event =
        publish_begin(engine, EVENT_WEIGHTS, 0, 0, EVENT_BYTES_OF(weights_sha256));
    memcpy(event->weights_sha256, engine->digest_hex, sizeof event->weights_sha256);
    publish_end(engine, EVENT_BYTES_OF(weights_sha256));
}

static int64_t sooner(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* The first deadline, word to a run that waits, or moment when another must give way to it;
 * INT64_MAX: none. */
static int64_t soonest_ns(const struct engine *engine)
{
    int64_t soonest = INT64_MAX, gives_way = INT64_MAX, now_ns = clock_now(engine->clock);
    bool is_waiting = false;

    list_for_each(node, &engine->runs)
    {
        const struct sequence *sequence = list_entry(node, struct sequence, link);
        int64_t deadline = sequence->submit->deadline_ns;
        bool waits = (sequence->state == SEQUENCE_WAITING_PAGES &&
                      sequence->submit->choice_idx == 0) ||
                     preempt_may_return(sequence);
        if (sequence->state != SEQUENCE_FINISHED && deadline != 0)
            soonest = sooner(deadline, soonest);
        if (waits)
            soonest = sooner(sequence->progress_ns + WAITING_NS, soonest);
        int64_t when = sequence->paused_since_ns + engine->options.preempt_ns;
        if (sequence->state == SEQUENCE_PAUSED && when > now_ns) /* else it was tried */
            gives_way = sooner(when, gives_way);
        is_waiting |= waits;
    }
    return is_waiting ? sooner(gives_way, soonest) : soonest;
}

/* Sleeps until a message, a digest, a stop, or soonest_ns. */
static int wait_for_news(struct engine *engine)
{
    int64_t soonest = soonest_ns(engine);
    uint64_t ignored;

    publish_wake(engine);
    int timeout_ms = engine->is_blocked ? BLOCKED_MS : -1;
    if (soonest != INT64_MAX) {
        int64_t left_ns = soonest - clock_now(engine->clock);
        int left_ms = left_ns <= 0              ? 0
                      : left_ns > 60 * NS_PER_S ? 60000
                                                : (int)(left_ns / NS_PER_MS) + 1;
        timeout_ms = timeout_ms < 0 || left_ms < timeout_ms ? left_ms : timeout_ms;
    }
    int64_t parked_ns = clock_now(engine->clock);
    atomic_store(&engine->is_parked, 1);
    /* the sender publishes, fences and looks at is_parked: one of us sees the other */
    ring_fence();
    if (ring_is_empty(engine->messages) && !atomic_load(&engine->is_stopping))
        poll(&(struct pollfd){.fd = engine->signal_fd, .events = POLLIN}, 1, timeout_ms);
    atomic_store(&engine->is_parked, 0);
    if (read(engine->signal_fd, &ignored, sizeof ignored) < 0)
        assert(errno == EAGAIN || errno == EINTR);
    estimate_rest(&engine->estimate, clock_now(engine->clock) - parked_ns);
    return STATUS_OK;
}

/* A device that takes two steps at a time (a GPU) is never without one while the host reads what
 * the last gave, speaks to the loop and plans the next:
 *
 *   device    | step n       | step n+1      | step n+2      |
 *   host        launch n+1 | accept n, launch n+2 | accept n+1, launch n+3 | ...
 *
 * So n+1 is launched before the tokens of n are known: its rows take them on the device. What only
 * the host sees (a stop string, an end of generation, a cancel) costs a row that nobody reads. A
 * CPU takes one step at a time: launch n, accept n, launch n+1. */
static int engine_step(struct engine *engine)
{
    admission_drain(engine);      /* submit, cancel, credit: ring A */
    admission_sweep(engine);      /* cancelled and overdue runs */
    admission_open_pages(engine); /* for those that wait */
    accept_tell_waiting(engine);  /* and those that still do hear of it */
    tell_digest(engine);
    while (flight_has_room(engine->flight) && launch(engine))
        ;
    if (!flight_is_empty(engine->flight))
        return retire(engine);
    return engine->is_recalling ? STATUS_OK : wait_for_news(engine);
}

static void *step_thread(void *arg)
{
    struct engine *engine = arg;

    pthread_setname_np(pthread_self(), "engine");
    thread_let_others_first();
    while (!atomic_load(&engine->is_stopping) && engine_step(engine) == STATUS_OK)
        ;
    flight_drop(engine->flight);
    engine->is_lost = true;
    while (!atomic_load(&engine->is_stopping)) { /* nothing runs any more, the door answers */
        admission_drain(engine);
        wait_for_news(engine);
    }
    return NULL;
}

/* --- the door --- */

static void ring_bell(struct engine *engine)
{
    uint64_t one = 1;
    ssize_t n = write(engine->signal_fd, &one, sizeof one);
    (void)n; /* a full counter has rung already */
}

/* Runs and questions that wait for their first word. */
static uint32_t n_asked(const struct message *message)
{
    if (message->kind == MESSAGE_SUBMIT)
        return submit_n_choices(message->submit);
    return message->kind == MESSAGE_STATS || message->kind == MESSAGE_TABLES ||
           message->kind == MESSAGE_ESTIMATE;
}

/* Those that this is the first word of. */
static uint32_t n_answered(const struct event *event)
{
    if (event->kind == EVENT_ACCEPTED)
        return event->accepted.n_choices;
    if (event->kind == EVENT_REFUSED)
        return event->refused.was_accepted ? 0 : event->refused.n_choices;
    return event->kind == EVENT_STATS || event->kind == EVENT_TABLES ||
           event->kind == EVENT_ESTIMATE;
}

/* On the loop, so that the step thread allocates nothing; memory is touched as it is filled.
 * Without it a run keeps its pages. */
static void make_texts(const struct engine *engine, struct submit *submit)
{
    for (; submit != NULL; submit = submit->next_choice) {
        uint32_t context = engine->info.max_context;
        uint32_t room = submit->n_ids < context ? context - submit->n_ids : 0;
        if (submit->has_max_tokens && submit->max_tokens < room)
            room = submit->max_tokens;
        if (submit->text != NULL || room == 0)
            continue;
        size_t n = (size_t)submit->n_ids + room;
        submit->text = malloc(n * sizeof *submit->text);
        submit->answer = submit->text == NULL ? NULL : submit->text + submit->n_ids;
        submit->text_keys = malloc((1 + n / PAGE_TOKENS) * sizeof *submit->text_keys);
    }
}

bool engine_try_send(struct engine *engine, const struct message *message)
{
    uint32_t n = n_asked(message);

    if (engine->info.is_vocabulary)
        return false;
    if (n > 0) {
        size_t n_kept = ring_capacity(engine->messages) - MESSAGE_RING_SLOTS;
        if (engine->n_unanswered + n > MESSAGE_RING_SLOTS ||
            ring_free_slots(engine->messages) <= n_kept)
            return false;
        engine->n_unanswered += n;
    }
    if (message->kind == MESSAGE_SUBMIT)
        make_texts(engine, message->submit);
    /* A lost credit would pause a run for good: should even the kept slots be full, the step thread
     * empties them before long, for which it needs nothing from here. */
    while (!ring_try_push(engine->messages, message))
        sched_yield();
    ring_fence();
    if (atomic_load(&engine->is_parked))
        ring_bell(engine);
    return true;
}

const struct event *engine_peek_event(struct engine *engine)
{
    size_t bytes;
    return engine->info.is_vocabulary ? NULL : byte_ring_peek(engine->events, &bytes);
}

void engine_pop_event(struct engine *engine)
{
    engine->n_unanswered -= n_answered(engine_peek_event(engine));
    byte_ring_pop(engine->events);
}

/* --- digest --- */

static void *digest_main(void *arg)
{
    struct engine *engine = arg;
    struct why why;
    uint8_t digest[SHA256_BYTES];
    struct digest_cache cache;

    pthread_setname_np(pthread_self(), "digest");
    digest_cache_init(&cache);
    int status =
        digest_cache_of(&cache, model_file(engine->model), &engine->stop_digest, digest, &why);
    if (status == STATUS_OK)
        sha256_hex(digest, engine->digest_hex);
    else if (status != STATUS_CANCELLED)
        log_write(LOG_WARN, "weights", "error=%s", status_name(status));
    atomic_store_explicit(&engine->has_digest, status == STATUS_OK ? 1 : -1, memory_order_release);
    ring_bell(engine);
    return NULL;
}

int engine_start(struct engine *engine, void (*wake)(void *arg), void *arg, struct why *why)
{
    engine->wake = wake;
    engine->wake_arg = arg;
    engine->started_ns = clock_now(engine->clock);
    if (engine->info.is_vocabulary)
        return STATUS_OK; /* nothing runs, and there are no weights to digest */
    int error = pthread_create(&engine->thread, NULL, step_thread, engine);
    if (error != 0)
        return refuse(why, STATUS_UNAVAILABLE, "the step thread did not start: %s",
                      strerror(error));
    engine->has_thread = true;
    error = pthread_create(&engine->digest_thread, NULL, digest_main, engine);
    engine->has_digest_thread =
        error == 0; /* without it the digest stays unknown, and nothing else */
    return STATUS_OK;
}

void engine_stop(struct engine *engine)
{
    atomic_store(&engine->is_stopping, 1);
    __atomic_store_n(&engine->stop_digest, 1, __ATOMIC_RELAXED);
    if (engine->has_thread)
        ring_bell(engine);
    if (engine->has_thread)
        pthread_join(engine->thread, NULL);
    if (engine->has_digest_thread)
        pthread_join(engine->digest_thread, NULL);
    engine->has_thread = engine->has_digest_thread = false;
}
