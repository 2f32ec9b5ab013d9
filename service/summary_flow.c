#include "service/summary_flow.h"

#include "base/clock.h"
#include "service/server.h"
#include "service/work.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define WINDOW_BYTES_MIN 256
#define GUESSED_BYTES_PER_TOKEN 5.0
#define WINDOW_SLACK 1.25 /* a window is this much longer than a section should be */
#define RETRY_NS (100 * NS_PER_MS)

/* --- runs --- */

static struct summary_run *free_run(struct summarize *state)
{
    for (int i = 0; i < SUMMARY_RUNS; i++)
        if (state->runs[i].state == RUN_FREE)
            return &state->runs[i];
    return NULL;
}

static uint32_t count_runs(const struct summarize *state)
{
    uint32_t n = 0;
    for (int i = 0; i < SUMMARY_RUNS; i++)
        n += state->runs[i].state != RUN_FREE;
    return n;
}

static void retry_later(struct summarize *state)
{
    timers_arm(server_timers(state->call->service->server), &state->retry,
               summary_now_ns() + RETRY_NS);
}

static int send_run(struct summarize *state, struct summary_run *run, struct why *why)
{
    struct summary_terms terms = {.sampling = state->options.sampling,
                                  .salt = state->options.cache_salt,
                                  .max_tokens = run->is_final ? state->options.max_tokens
                                                              : state->options.section_max_tokens};
    int status = summary_run_send(state->call, run, &terms);
    if (status == STATUS_NO_MEMORY)
        return refuse(why, status, "no memory for a prompt of %zu tokens", run->n_ids);
    if (status == STATUS_AGAIN && summary_now_ns() - run->opened_ns > SUMMARY_RETRY_NS_MAX)
        return refuse(why, STATUS_EXHAUSTED,
                      "the server had more requests under way than it takes for %d s: try again",
                      (int)(SUMMARY_RETRY_NS_MAX / NS_PER_S));
    if (status == STATUS_AGAIN)
        retry_later(state);
    else
        state->n_covered += run->level == 0 ? run->end - run->begin : 0;
    return STATUS_OK;
}

static void on_retry(struct timer *timer)
{
    struct summarize *state =
        (struct summarize *)((char *)timer - offsetof(struct summarize, retry));
    struct why why = {.text = ""};
    for (int i = 0; i < SUMMARY_RUNS; i++) {
        if (state->runs[i].state != RUN_UNSENT)
            continue;
        int status = send_run(state, &state->runs[i], &why);
        if (status < 0) {
            summary_end_refused(state, status, &why, NULL);
            return;
        }
    }
}

/* Takes the prompt out of the work. */
static struct summary_run *open_run(struct summarize *state, struct summary_work *work)
{
    struct summary_run *run = free_run(state);
    assert(run != NULL); /* work begins only when one is free, and one is under way at a time */
    summary_run_open(run, state->next_tag++, work->ids, work->n_ids, work->submit,
                     summary_now_ns());
    work->ids = NULL;
    work->submit = NULL;
    return run;
}

static int open_cut(struct summarize *state, struct summary_work *work, struct why *why)
{
    struct summary_run *run = open_run(state, work);
    run->is_final = work->kind == SUMMARY_WHOLE;
    run->index = state->n_sections++;
    run->begin = work->begin;
    run->end = work->begin + work->n_cut;
    run->n_tokens = work->n_tokens;
    state->n_cut += work->n_cut;
    state->n_tokens_cut += work->n_tokens;
    state->n_replaced += work->n_replaced;
    byte_queue_drop(&state->held, work->n_cut);

    double per_token = (double)work->n_cut / (double)(work->n_tokens > 0 ? work->n_tokens : 1);
    double window = state->plan->n_section * per_token * WINDOW_SLACK;
    state->window = window > WINDOW_BYTES_MIN ? (size_t)window : WINDOW_BYTES_MIN;
    if (run->is_final)
        state->stage = STAGE_ANSWERING;
    else if (state->n_levels == 0)
        state->n_levels = 1;
    return send_run(state, run, why);
}

static int open_join(struct summarize *state, struct summary_work *work, struct why *why)
{
    struct summary_run *run = open_run(state, work);
    run->level = UINT32_MAX; /* covers no bytes of its own */
    if (work->kind == SUMMARY_FINAL) {
        run->is_final = true;
        run->end = state->n_received;
        state->stage = STAGE_ANSWERING;
    } else {
        run->level = work->group.level + 1;
        run->index = work->group.index;
        run->begin = work->group.begin;
        run->end = work->group.end;
        summary_tree_take(&state->tree, &work->group);
        if (state->n_levels < run->level + 1)
            state->n_levels = run->level + 1;
    }
    state->n_group_max = UINT32_MAX;
    return send_run(state, run, why);
}

/* --- work --- */

void summary_flow_open_window(struct summarize *state)
{
    struct call_table *calls = state->call->table;
    uint64_t id = state->call->id;
    if (state->is_paused && state->held.len <= state->window && state->stage == STAGE_READING) {
        state->is_paused = false;
        call_want_more(state->call);
        if (call_find(calls, id) == NULL)
            return;
    }
    if (!state->is_accepted && state->stage > STAGE_PLANNING)
        summary_tell_accepted(state);
}

static void use_plan(struct summarize *state)
{
    const struct summary_plan *plan = state->plan;
    double n = plan->n_whole > plan->n_section ? plan->n_whole : plan->n_section;
    state->window = (size_t)(n * GUESSED_BYTES_PER_TOKEN * WINDOW_SLACK) + WINDOW_BYTES_MIN;
    summary_tree_init(&state->tree, plan->n_join);
    state->stage = STAGE_READING;
}

static int use_cut(struct summarize *state, struct summary_work *work, struct why *why)
{
    const struct summary_plan *plan = state->plan;
    if (work->outcome == SUMMARY_MORE) {
        state->window *= 2;
        return STATUS_OK;
    }
    uint64_t n_two = 2 * ((uint64_t)plan->section_max_tokens + SUMMARY_PARTING_TOKENS);
    if (work->kind == SUMMARY_SECTION && n_two > plan->n_join)
        return refuse(why, STATUS_INVALID,
                      "the document needs sections, and two of their summaries take %llu tokens of "
                      "the %u that a prompt has for them: give fewer section_max_tokens (now %u) "
                      "or fewer max_tokens (now %u)",
                      (unsigned long long)n_two, plan->n_join, plan->section_max_tokens,
                      plan->max_tokens);
    return open_cut(state, work, why);
}

static int use_join(struct summarize *state, struct summary_work *work, struct why *why)
{
    if (work->outcome == SUMMARY_DONE)
        return open_join(state, work, why);
    /* Written again, summaries took more tokens than when they were made: fewer at once, half of
     * them where it is by far. */
    uint32_t n = work->kind == SUMMARY_FINAL ? summary_tree_count(&state->tree)
                                             : work->group.n_nodes;
    if (n < 2)
        return refuse(why, STATUS_OUT_OF_RANGE,
                      "one summary of %u tokens and its prompt do not fit the context: give fewer "
                      "section_max_tokens",
                      state->plan->section_max_tokens);
    state->n_group_max = work->is_beyond ? n - n / 2 : n - 1;
    return STATUS_OK;
}

static int no_memory(struct why *why)
{
    return refuse(why, STATUS_NO_MEMORY, "no memory for the next step of this summary");
}

static void on_worked(void *arg, int status)
{
    struct summary_work *work = arg;
    struct call *call = call_find(work->calls, work->call_id);
    if (call == NULL) {
        summary_work_free(work);
        return;
    }
    struct summarize *state = call_state_of(call);
    state->has_work = false;
    if (status < 0)
        refuse(&work->why, STATUS_UNAVAILABLE, "the server is stopping");
    else
        status = work->status;
    if (status == STATUS_OK && work->task == SUMMARY_PLAN)
        use_plan(state);
    else if (status == STATUS_OK && work->task == SUMMARY_CUT)
        status = use_cut(state, work, &work->why);
    else if (status == STATUS_OK)
        status = use_join(state, work, &work->why);
    if (status == STATUS_OK)
        status = summary_flow_advance(state, &work->why);
    if (status == STATUS_OK && state->is_short)
        status = no_memory(&work->why);
    if (status < 0)
        summary_end_refused(state, status, &work->why, NULL);
    else
        summary_flow_open_window(state);
    summary_work_free(work);
}

static int submit_work(struct summarize *state, struct summary_work *work, struct why *why)
{
    int status = work_submit(server_loop(state->call->service->server), summary_work_run,
                             on_worked, work);
    if (status < 0) {
        summary_work_free(work);
        return refuse(why, status, "too many texts are being tokenized: try again in a second");
    }
    state->has_work = true;
    return STATUS_OK;
}

static int begin_cut(struct summarize *state, struct why *why)
{
    struct summary_work *work = summary_work_create(state->call, SUMMARY_CUT, state->plan);
    if (work == NULL)
        return no_memory(why);
    struct slice front = byte_queue_front(&state->held);
    work->at_end = front.len <= state->window;
    work->len = work->at_end ? front.len : state->window;
    work->begin = state->n_cut;
    work->text = malloc(work->len);
    if (work->text == NULL) {
        summary_work_free(work);
        return no_memory(why);
    }
    memcpy(work->text, front.bytes, work->len);
    return submit_work(state, work, why);
}

static int begin_merge(struct summarize *state, uint32_t level, struct why *why)
{
    if (level + 1 >= SUMMARY_LEVELS_MAX)
        return refuse(why, STATUS_TOO_LARGE,
                      "the document needs more than %d levels of summaries: give more "
                      "section_tokens or fewer section_max_tokens",
                      SUMMARY_LEVELS_MAX);
    struct summary_work *work = summary_work_create(state->call, SUMMARY_JOIN, state->plan);
    if (work == NULL)
        return no_memory(why);
    work->kind = SUMMARY_MERGE;
    if (summary_tree_group(&state->tree, level, state->n_group_max, &work->group) < 0) {
        summary_work_free(work);
        return no_memory(why);
    }
    work->text = work->group.text;
    work->len = work->group.len;
    return submit_work(state, work, why);
}

static int begin_final(struct summarize *state, struct why *why)
{
    uint32_t level;
    bool is_too_long = state->n_group_max < summary_tree_count(&state->tree);
    if (!summary_tree_fits(&state->tree) || is_too_long) {
        summary_tree_lowest(&state->tree, &level);
        return begin_merge(state, level, why);
    }
    struct summary_work *work = summary_work_create(state->call, SUMMARY_JOIN, state->plan);
    if (work == NULL)
        return no_memory(why);
    work->kind = SUMMARY_FINAL;
    if (summary_tree_all(&state->tree, &work->text, &work->len) < 0) {
        summary_work_free(work);
        return no_memory(why);
    }
    return submit_work(state, work, why);
}

int summary_flow_begin(struct summarize *state, struct why *why)
{
    struct summary_work *work = summary_work_create(state->call, SUMMARY_PLAN, state->plan);
    state->retry.fire = on_retry;
    return work == NULL ? no_memory(why) : submit_work(state, work, why);
}

void summary_flow_retry(struct summarize *state, struct summary_run *run)
{
    if (run->level == 0)
        state->n_covered -= run->end - run->begin;
    summary_run_refuse(run);
    retry_later(state);
}

int summary_flow_advance(struct summarize *state, struct why *why)
{
    uint32_t level;
    if (state->has_work || state->stage < STAGE_READING || state->stage == STAGE_ANSWERING ||
        free_run(state) == NULL)
        return STATUS_OK;
    if (summary_tree_is_full(&state->tree, &level)) /* first: it bounds what is held */
        return begin_merge(state, level, why);
    if (state->stage == STAGE_READING) {
        bool is_window = state->held.len > state->window || state->has_ended;
        if (state->held.len > 0 && is_window)
            return begin_cut(state, why);
        if (!state->has_ended)
            return STATUS_OK;
        state->stage = STAGE_JOINING;
    }
    if (count_runs(state) > 0)
        return STATUS_OK; /* what they write is part of what comes next */
    return begin_final(state, why);
}
