/* tests/engine/door_fixture.h: an engine over a tiny random model, and the loop thread's part of
 * the
 * talk: runs that collect their events, credit given back or kept.
 */
#ifndef QUIRE_TESTS_DOOR_FIXTURE_H
#define QUIRE_TESTS_DOOR_FIXTURE_H

#include "engine/engine.h"

#define DOOR_RUNS_MAX 160
#define RUN_IDS_MAX 2048
#define RUN_TEXT_MAX 16384
#define TINY_VOCABULARY 261
#define TINY_CONTEXT 2048
#define TINY_END_ID 2
#define TINY_TOKEN_BYTES 256 /* of keys and values in f16 pages */

struct run { /* of several choices one each; the first is told what all are */
    uint64_t call_id;
    uint32_t tag;
    bool keeps_credit; /* its reader takes nothing: no credit goes back */
    bool is_accepted, is_refused, is_finished;
    struct event_accepted accepted;
    struct event_refused refused;
    struct event_finished finished;
    uint32_t ids[RUN_IDS_MAX], n_ids;
    float logprobs[RUN_IDS_MAX]; /* of ids; 0 where none were asked for */
    char text[RUN_TEXT_MAX];
    size_t n_text;
    uint32_t n_deltas, n_progress, n_waiting_progress, n_logprobs;
    struct event_progress progress;
};

struct door {
    struct engine *engine;
    int wake_fd;
    struct run *runs[DOOR_RUNS_MAX];
    uint32_t n_runs;
    struct engine_stats stats;
    struct event_tables tables;
    uint32_t n_stats, n_tables;
    char weights[65];
    bool is_lost;
};

struct engine_options door_options(void); /* over the tiny model; tests change what they want */
struct door *door_open(const struct engine_options *options);   /* created and started */
struct door *door_create(const struct engine_options *options); /* not started */
void door_start(struct door *door);
void door_close(struct door *door);
const char *tiny_model_path(void);

/* Prompt `which` of n tokens, the same on every call. want ids; greedy; max_tokens 0: not given. */
struct submit *door_submit(uint32_t which, uint32_t n_prompt, uint32_t max_tokens);
struct run *door_send(struct door *door, struct submit *submit); /* gives it a call_id */
struct run *door_choice(struct door *door, const struct run *first, uint32_t i);
void door_cancel(struct door *door, const struct run *run);
void door_credit(struct door *door, const struct run *run, uint32_t n);
/* Handles what has come; waits for the next wake up to timeout_ms when there is nothing. */
void door_turn(struct door *door, int timeout_ms);
void door_until_over(struct door *door, const struct run *run); /* refused or finished */
const struct engine_stats *door_stats(struct door *door);       /* asks, and waits for the answer */
const struct event_tables *door_tables(struct door *door, uint32_t id); /* the same */
/* A run of its own on an idle engine; the caller's copy. */
struct run *door_run_alone(struct door *door, uint32_t which, uint32_t n_prompt,
                           uint32_t max_tokens);

#endif
