#include "engine/engine.h"

#include "base/hash.h"
#include "base/log.h"
#include "base/threads.h"
#include "engine/engine_state.h"
#include "model/gguf.h"
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

static bool can_run(const struct sequence *sequence)
{
    return sequence->state == SEQUENCE_PREFILL || sequence->state == SEQUENCE_DECODE;
}

static void plan(struct engine *engine)
{
    uint32_t n = 0;

    list_for_each(node, &engine->runs)
    {
        struct sequence *sequence = list_entry(node, struct sequence, link);
        if (!can_run(sequence))
            continue;
        bool is_prefill = sequence->state == SEQUENCE_PREFILL;
        engine->candidate_sequences[n] = sequence;
        engine->candidates[n++] = (struct candidate){
            .is_prefill = is_prefill,
            .priority = sequence->submit->priority,
            .n_wanted = is_prefill ? sequence->submit->n_ids - sequence->n_prefilled : 1,
            .n_context = sequence_n_context(sequence)};
    }
    scheduler_plan(&engine->scheduler, engine->candidates, n, &engine->estimate.cost,
                   &engine->schedule);
}

static void build_batch(struct engine *engine)
{
    batch_clear(engine->batch);
    engine->work = (struct step_work){.n_decode = 0};
    for (uint32_t i = 0; i < engine->schedule.n_items; i++) {
        const struct schedule_item *item = &engine->schedule.items[i];
        const struct candidate *candidate = &engine->candidates[item->candidate_idx];
        struct sequence *sequence = engine->candidate_sequences[item->candidate_idx];
        batch_add(engine->batch, sequence, item->n_rows);
        list_unlink(&sequence->link); /* to the end of the line */
        list_append(&engine->runs, &sequence->link);
        if (candidate->is_prefill)
            step_work_add_prefill(&engine->work, candidate->n_context, item->n_rows);
        else
            step_work_add_decode(&engine->work, candidate->n_context);
    }
}

static void poll_messages(void *arg)
{
    admission_drain(arg);
}

/* The device is gone: everybody is told, what can be saved is saved (nothing yet), the thread ends.
 * */
static int fail_all(struct engine *engine, int status)
{
    struct event_refused refused = {.status = STATUS_UNAVAILABLE, .was_accepted = true};
    snprintf(refused.text, sizeof refused.text,
             "the device failed in the middle of a step (%s) and the server is ending: send the "
             "call again when it has been started anew",
             status_text(status));

    list_for_each(node, &engine->runs)
    {
        struct sequence *sequence = list_entry(node, struct sequence, link);
        if (sequence->state == SEQUENCE_FINISHED)
            continue;
        sequence_set_state(sequence, SEQUENCE_FINISHED, &engine->counts, clock_now(engine->clock));
        publish_refused(engine, sequence->submit, &refused);
    }
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

/* Enqueues the batch and waits for it; messages are answered between its kernels. */
static int run_batch(struct engine *engine)
{
    batch_run(engine->batch, engine->forward, engine->cache, engine->stream);
    engine->is_stepping = true;
    device_submit(engine->stream);
    int status = device_wait(engine->stream, poll_messages, engine);
    engine->is_stepping = false;
    return status;
}

static void account(struct engine *engine, int64_t step_ns)
{
    struct engine_stats *stats = &engine->stats;
    double step_s = (double)step_ns / NS_PER_S;
    double prefill_s = step_s * engine->work.n_prefill / engine->schedule.n_rows;

    estimate_learn(&engine->estimate, &engine->work, step_ns);
    stats->n_steps++;
    stats->busy_s += step_s;
    stats->prefill_busy_s += prefill_s;
    stats->decode_busy_s += step_s - prefill_s;
}

static void tell_digest(struct engine *engine)
{
    if (engine->told_digest || atomic_load_explicit(&engine->has_digest, memory_order_acquire) != 1)
        return;
    engine->told_digest = true;
    struct event *event =
        publish_begin(engine, EVENT_WEIGHTS, 0, 0, EVENT_BYTES_OF(weights_sha256));
    memcpy(event->weights_sha256, engine->digest_hex, sizeof event->weights_sha256);
    publish_end(engine, EVENT_BYTES_OF(weights_sha256));
}

/* The first deadline, or word to a run that waits; INT64_MAX: none. */
static int64_t soonest_ns(const struct engine *engine)
{
    int64_t soonest = INT64_MAX;

    list_for_each(node, &engine->runs)
    {
        const struct sequence *sequence = list_entry(node, struct sequence, link);
        int64_t deadline = sequence->submit->deadline_ns, told = sequence->progress_ns;
        if (sequence->state != SEQUENCE_FINISHED && deadline != 0 && deadline < soonest)
            soonest = deadline;
        if (sequence->state == SEQUENCE_WAITING_PAGES && told + WAITING_NS < soonest)
            soonest = told + WAITING_NS;
    }
    return soonest;
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

static int engine_step(struct engine *engine)
{
    admission_drain(engine);      /* submit, cancel, credit: ring A */
    admission_sweep(engine);      /* cancelled and overdue runs */
    admission_open_pages(engine); /* for those that wait */
    accept_tell_waiting(engine);  /* and those that still do hear of it */
    tell_digest(engine);
    plan(engine);
    if (engine->schedule.n_rows == 0)
        return wait_for_news(engine);

    int64_t begun_ns = clock_now(engine->clock);
    build_batch(engine);
    int status = run_batch(engine);
    if (status < 0)
        return fail_all(engine, status);

    account(engine, clock_now(engine->clock) - begun_ns);
    accept_step(engine);     /* commit, stop, text: ring B */
    admission_sweep(engine); /* pages come home before the end of a run is heard of */
    check(engine);
    publish_wake(engine);
    return STATUS_OK;
}

static void *step_thread(void *arg)
{
    struct engine *engine = arg;

    pthread_setname_np(pthread_self(), "engine");
    thread_let_others_first();
    while (!atomic_load(&engine->is_stopping) && engine_step(engine) == STATUS_OK)
        ;
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

static bool asks(const struct message *message)
{
    return message->kind == MESSAGE_SUBMIT || message->kind == MESSAGE_STATS;
}

/* The first event of each run, and each reply to STATS. */
static bool answers(const struct event *event)
{
    return event->kind == EVENT_ACCEPTED || event->kind == EVENT_STATS ||
           (event->kind == EVENT_REFUSED && !event->refused.was_accepted);
}

bool engine_try_send(struct engine *engine, const struct message *message)
{
    if (asks(message)) {
        size_t n_kept = ring_capacity(engine->messages) - MESSAGE_RING_SLOTS;
        if (engine->n_unanswered == MESSAGE_RING_SLOTS ||
            ring_free_slots(engine->messages) <= n_kept)
            return false;
        engine->n_unanswered++;
    }
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
    return byte_ring_peek(engine->events, &bytes);
}

void engine_pop_event(struct engine *engine)
{
    const struct event *event = engine_peek_event(engine);

    if (answers(event))
        engine->n_unanswered--;
    byte_ring_pop(engine->events);
}

/* --- digest --- */

static void *digest_main(void *arg)
{
    struct engine *engine = arg;
    struct why why;
    uint8_t digest[SHA256_BYTES];

    pthread_setname_np(pthread_self(), "digest");
    int status = gguf_digest(model_file(engine->model), &engine->stop_digest, digest, &why);
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
    ring_bell(engine);
    if (engine->has_thread)
        pthread_join(engine->thread, NULL);
    if (engine->has_digest_thread)
        pthread_join(engine->digest_thread, NULL);
    engine->has_thread = engine->has_digest_thread = false;
}
