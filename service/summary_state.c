#include "service/summary_state.h"

#include "base/clock.h"
#include "service/server.h"

#include <assert.h>

int64_t summary_now_ns(void)
{
    return clock_now(&clock_monotonic);
}

/* A message that finds no memory leaves a gap: the call ends at its next step. */
static void send_packed(struct summarize *state, size_t bytes)
{
    assert(bytes > 0); /* asserted in limits.h */
    int status = call_send(state->call, slice_of(state->call->service->out, bytes));
    assert(status != STATUS_EXHAUSTED); /* credit keeps the buffer below its end: limits.h */
    if (status < 0)
        state->is_short = true;
}

/* --- ends --- */

/* Gives back everything but what a worker holds, which finds nobody when it is done. */
static void release(struct summarize *state)
{
    if (state->stage == STAGE_OPTIONS)
        return;
    timers_disarm(server_timers(state->call->service->server), &state->retry);
    for (int i = 0; i < SUMMARY_RUNS; i++) {
        service_count_time(state->call, &state->runs[i].clock);
        summary_run_close(&state->runs[i]);
    }
    summary_tree_release(&state->tree);
    byte_queue_release(&state->held);
    summary_plan_drop(state->plan);
    state->plan = NULL;
}

static void end_runs(struct summarize *state)
{
    for (int i = 0; i < SUMMARY_RUNS; i++)
        if (state->runs[i].state != RUN_FREE) {
            service_cancel_runs(state->call, TAG_ALL);
            return;
        }
}

void summary_end_refused(struct summarize *state, int status, const struct why *why,
                         const struct event_refused *refused)
{
    struct call *call = state->call;
    end_runs(state);
    release(state);
    if (refused != NULL)
        service_refuse_event(call, refused);
    else
        service_refuse_why(call, status, why);
}

void summary_end_answered(struct summarize *state, enum finish_reason reason)
{
    struct call *call = state->call;
    struct service *service = call->service;
    struct wire_summary summary = {
        .reason = reason,
        .n_covered = state->n_covered,
        .n_total = state->n_received,
        .n_replaced = state->n_replaced,
        .n_sections = state->n_sections,
        .n_levels = state->n_levels,
        .n_prompt = call->usage.n_prompt,
        .n_completion = call->usage.n_completion,
        .seconds = (double)(summary_now_ns() - state->began_ns) / (double)NS_PER_S,
    };
    send_packed(state,
                wire_pack_summary_finished(service->out, sizeof service->out, &summary));
    bool is_short = state->is_short;
    release(state);
    if (is_short)
        service_refuse(call, STATUS_NO_MEMORY, "no memory for the end of this summary");
    else
        call_finish(call, STATUS_OK, NULL);
}

void summary_end_cancelled(struct summarize *state)
{
    end_runs(state);
    release(state);
}

/* --- what the peer hears --- */

void summary_tell_accepted(struct summarize *state)
{
    struct service *service = state->call->service;
    send_packed(state, wire_pack_summary_accepted(service->out, sizeof service->out,
                                                  state->call->request_id,
                                                  state->options.sampling.seed));
    state->is_accepted = true;
}

static bool is_time_to_tell(struct summarize *state, enum wire_phase phase, uint64_t n_done,
                            uint64_t n_total, struct wire_progress *out)
{
    return state->is_accepted && call_unsent_bytes(state->call) <= OUT_BUFFER_MARK_BYTES &&
           summary_progress_tell(&state->progress, summary_now_ns(), phase, n_done, n_total, out);
}

static void send_progress(struct summarize *state, const struct wire_progress *progress)
{
    struct service *service = state->call->service;
    send_packed(state, wire_pack_summary_progress(service->out, sizeof service->out, progress));
}

void summary_tell_progress(struct summarize *state, enum wire_phase phase, uint64_t n_done,
                           uint64_t n_total)
{
    struct wire_progress progress;
    if (is_time_to_tell(state, phase, n_done, n_total, &progress))
        send_progress(state, &progress);
}

void summary_tell_waiting(struct summarize *state, const struct event_progress *waiting)
{
    struct wire_progress progress;
    if (!is_time_to_tell(state, WIRE_PHASE_WAITING, waiting->n_done, waiting->n_total, &progress))
        return;
    progress.left_s = waiting->left_s;
    send_progress(state, &progress);
}

/* Tokens of the document: of a section as its prompt is read and its summary written. The total is
 * a guess until the last byte is cut. */
void summary_tell_sections(struct summarize *state)
{
    uint64_t n_done = state->n_tokens_done;
    uint64_t n_total = 0;
    for (int i = 0; i < SUMMARY_RUNS; i++) {
        const struct summary_run *run = &state->runs[i];
        if (run->state != RUN_FREE && run->n_ids > 0)
            n_done += (uint64_t)run->n_tokens * (run->n_prefilled + run->n_completion) /
                      (run->n_ids + state->options.section_max_tokens);
    }
    bool is_all_cut = state->has_ended && state->n_cut == state->n_received;
    if (is_all_cut)
        n_total = state->n_tokens_cut;
    else if (state->n_cut > 0 && state->options.total_bytes > state->n_cut)
        n_total = (uint64_t)((double)state->n_tokens_cut * (double)state->options.total_bytes /
                             (double)state->n_cut);
    summary_tell_progress(state, WIRE_PHASE_SECTIONS, n_done, n_total);
}

void summary_tell_upload(struct summarize *state)
{
    if (state->n_sections > 0)
        return;
    summary_tell_progress(state, WIRE_PHASE_UPLOAD, state->n_received, state->options.total_bytes);
}

void summary_send_section(struct summarize *state, const struct summary_run *run,
                          struct slice text, bool is_last)
{
    struct service *service = state->call->service;
    struct wire_section section = {.level = run->level,
                                   .index = run->index,
                                   .begin = run->begin,
                                   .end = run->end,
                                   .text = text,
                                   .is_last = is_last};
    send_packed(state, wire_pack_section(service->out, sizeof service->out, &section));
}

void summary_send_answer(struct summarize *state, struct slice text)
{
    struct service *service = state->call->service;
    send_packed(state, wire_pack_summary_delta(service->out, sizeof service->out, text));
}
