/* engine/engine_state.h: what the files of the engine share. Nobody else includes it.
 *
 * Thread: all of it belongs to the step thread while that runs, but for the rings, `signal`, and
 * the digest.
 */
#ifndef QUIRE_ENGINE_ENGINE_STATE_H
#define QUIRE_ENGINE_ENGINE_STATE_H

#include "base/clock.h"
#include "base/ring.h"
#include "engine/engine.h"
#include "engine/estimate.h"
#include "engine/flight.h"
#include "engine/scheduler.h"
#include "engine/sequence.h"

#include <pthread.h>
#include <stdatomic.h>

struct engine {
    struct engine_options options;
    const struct clock *clock;
    struct device *device;
    struct model *model;
    struct kv_cache *cache;
    struct forward *forward;
    struct device_batch *on_device;
    struct flight *flight; /* the steps under way */
    struct scheduler scheduler;
    struct estimate estimate;
    struct engine_model_info info;
    uint64_t free_bytes;    /* of the device, before the model was loaded */
    bool has_asked_context; /* --max-context was given, and must fit */

    struct sequence *sequences; /* [max_sequences + max_queued] */
    struct list free, runs;     /* of sequences; runs stand in line (scheduler.h), those without
                                   pages in order of admission */
    struct sequence_counts counts;
    uint32_t n_runs, n_running; /* all, and those that hold pages */
    uint32_t n_grammars;        /* of all */
    struct candidate *candidates; /* [SEQUENCES_MAX] */
    struct sequence **candidate_sequences; /* [SEQUENCES_MAX], scratch */
    struct schedule schedule;
    uint8_t *detokenized, *shown; /* scratch of one token's text */
    struct engine_stats stats;
    int64_t started_ns;
    bool has_news;    /* events since the last wake */
    int64_t looked_ns, look_ns; /* look.c: when groups were looked at, and how long that took */
    bool is_blocked;  /* a run with free pages waits for room in ring B */
    bool is_recalling; /* one waits for the rest of its pages out of the host pool */
    bool is_lost;     /* the device failed */

    struct ring *messages;    /* ring A */
    struct byte_ring *events; /* ring B */
    uint32_t n_unanswered;    /* the loop's: runs and questions whose answer it has not popped */
    int signal_fd;            /* eventfd: the step thread sleeps on it */
    _Atomic int is_parked, is_stopping;
    void (*wake)(void *arg);
    void *wake_arg;
    pthread_t thread;
    bool has_thread;

    pthread_t digest_thread;
    bool has_digest_thread, told_digest;
    volatile int stop_digest;
    _Atomic int has_digest; /* 1: hex is written; -1: it failed */
    char digest_hex[65];
    _Atomic int is_identified; /* the cache is, and any thread may name pages by it */
};

/* --- publish.c: events --- */
size_t events_capacity(const struct engine_options *options);
/* Room for all that n_running sequences may still say, whatever the loop sends and leaves unread.
 */
bool events_have_room(const struct engine *engine, uint32_t n_running);
struct event *publish_begin(struct engine *engine, enum event_kind kind, uint64_t call_id,
                            uint32_t tag, size_t bytes_max);
void publish_end(struct engine *engine, size_t bytes);
void publish_refused(struct engine *engine, const struct submit *submit,
                     const struct event_refused *refused);
void publish_wake(struct engine *engine); /* one wake when there is news */
#define EVENT_BYTES_OF(member)                                                                     \
    (offsetof(struct event, member) + sizeof(((struct event *)0)->member))

/* --- admission.c: messages --- */
void admission_drain(struct engine *engine); /* ring A; also while it waits for a step */
void admission_open_pages(struct engine *engine); /* waiting sequences, in order */
/* Pages, slot; no event. No step under way has rows of it. */
void admission_end(struct engine *engine, struct sequence *sequence);
/* Overdue sequences end; of those that have ended, and are in no step, pages come home, and then
 * the reader hears of it. */
void admission_sweep(struct engine *engine);

/* --- look.c: what it tells of itself --- */
void look_stats(struct engine *engine, const struct message *message);
void look_tables(struct engine *engine, const struct message *message);

/* --- judge.c: what admission says --- */
/* Of a request now; *accepted holds the estimates as far as it came, *n_output what each choice may
 * take. Changes nothing but that its pages get their names. */
int judge_submit(struct engine *engine, struct submit *submit, uint32_t *n_output,
                 struct event_accepted *accepted, struct event_refused *refused);

/* --- judge_wait.c: when it has its turn --- */
/* Of the others' prompts that have pages, as much as of this one is read first, since they share
 * alike; of those that wait before it, all. n_cached: with what another is reading of it, which it
 * will not read. own: its place in the queue; NULL: behind all. */
struct work_ahead judge_work_ahead(const struct engine *engine, const struct submit *submit,
                                   const struct sequence *own, const struct kv_family *family,
                                   uint32_t *n_ahead);
/* Under a grammar a token waits for the mask that the one before it decides: of steps that overlap
 * it has every second one. */
uint32_t judge_steps_a_token(const struct engine *engine, const struct submit *submit);
/* Seconds until a waiting sequence gets pages, or until what it waits for of its prompt is read, by
 * the measured rates; 0: not known, since nothing runs (readers take nothing). */
double judge_wait_s(const struct engine *engine, const struct sequence *sequence);

/* --- finish.c: ends of runs --- */
/* No more rows from here on; the steps that have some come home first. */
void finish_run(struct engine *engine, struct sequence *sequence, enum sequence_end end);
void finish_tell(struct engine *engine, const struct sequence *sequence);

/* --- accept.c: what a step gave --- */
void accept_step(struct engine *engine, const struct batch *batch);
#define WAITING_NS NS_PER_S /* between two words to a run that waits, when nothing changes */
void accept_tell_waiting(struct engine *engine);

int warm_up(struct engine *engine, struct why *why); /* warm_up.c: first costs */

/* engine_cache.c: the cache, as large as the device and the options have it; fills in
 * options.kv_memory_bytes, and options.max_context where less was left than the model could use. */
int engine_cache_open(struct engine *engine, const struct kv_dtypes *dtypes, struct why *why);
uint32_t engine_outputs_max(const struct engine *engine); /* rows of logits in one step */

#endif
