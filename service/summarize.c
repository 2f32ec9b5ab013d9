#include "service/summarize.h"

#include "service/service.h"
#include "service/summary_flow.h"
#include "service/summary_state.h"
#include "service/wire.h"

#include <string.h>
#include <sys/random.h>

size_t summarize_state_bytes(void)
{
    return sizeof(struct summarize);
}

static int no_memory(struct why *why)
{
    return refuse(why, STATUS_NO_MEMORY, "no memory for the next step of this summary");
}

/* --- events of the engine --- */

static struct summary_run *find_run(struct summarize *state, uint32_t tag)
{
    for (int i = 0; i < SUMMARY_RUNS; i++)
        if (state->runs[i].state != RUN_FREE && state->runs[i].tag == tag)
            return &state->runs[i];
    return NULL;
}

static int handle_delta(struct summarize *state, struct summary_run *run,
                        const struct event_delta *delta, struct why *why)
{
    struct slice text = slice_of(delta->text, delta->text_bytes);

    state->call->usage.n_completion += delta->has_token;
    run->n_completion += delta->has_token;
    run->n_prefilled = run->n_ids;
    if (run->is_final) {
        if (text.len > 0)
            summary_send_answer(state, text);
        summary_tell_progress(state, WIRE_PHASE_ANSWER, run->n_completion,
                              state->options.max_tokens);
    } else {
        if (text.len > 0)
            summary_send_section(state, run, text, false);
        if (summary_run_append(run, text) < 0)
            return no_memory(why);
        summary_tell_sections(state);
    }
    summary_run_credit(state->call, run);
    return STATUS_OK;
}

static void handle_progress(struct summarize *state, struct summary_run *run,
                            const struct event_progress *progress)
{
    if (progress->phase == RUN_PREFILL && run->n_completion == 0) /* else it reads it again */
        run->n_prefilled = progress->n_done;
    if (!run->is_final)
        summary_tell_sections(state);
    else if (progress->phase == RUN_WAITING)
        summary_tell_waiting(state, progress);
    else
        summary_tell_progress(state, WIRE_PHASE_PREFILL, progress->n_done, progress->n_total);
}

/* A section is written: it goes to the tree. */
static int close_section(struct summarize *state, struct summary_run *run, struct why *why)
{
    summary_send_section(state, run, slice_of(NULL, 0), true);
    int status = summary_tree_add(&state->tree, run->level, run->index, run->begin, run->end,
                                  slice_of(run->text, run->len),
                                  run->n_completion + SUMMARY_PARTING_TOKENS);
    if (status < 0)
        return no_memory(why);
    state->n_tokens_done += run->n_tokens;
    summary_run_close(run);
    summary_tell_sections(state);
    return summary_flow_advance(state, why);
}

/* In the middle of a summary a full queue is waited for; the first run hears it at once. */
static bool may_retry(const struct summarize *state, const struct summary_run *run,
                      const struct event_refused *refused)
{
    return refused->status == STATUS_EXHAUSTED && run->state == RUN_SENT &&
           state->call->usage.n_prompt > 0 &&
           summary_now_ns() - run->opened_ns < SUMMARY_RETRY_NS_MAX;
}

static void handle_refused(struct summarize *state, struct summary_run *run,
                           const struct event_refused *refused)
{
    if (may_retry(state, run, refused)) {
        summary_flow_retry(state, run);
        return;
    }
    service_count_time(state->call, &run->clock);
    summary_run_close(run);
    summary_end_refused(state, refused->status, NULL, refused);
}

/* By the engine's own measure. */
static void count_run(struct call *call, struct summary_run *run,
                      const struct event_finished *finished)
{
    call->usage.queue_s += finished->queue_s;
    call->usage.prefill_s += finished->prefill_s;
    call->usage.decode_s += finished->decode_s;
    run->clock.came_ns = 0;
}

static void handle_event(struct call *call, const struct event *event)
{
    struct summarize *state = call_state_of(call);
    struct summary_run *run = find_run(state, event->tag);
    struct why why = {.text = ""};
    int status = STATUS_OK;

    if (run == NULL)
        return;
    service_follow(&run->clock, event);
    switch (event->kind) {
    case EVENT_ACCEPTED:
        call->usage.n_prompt += event->accepted.n_prompt;
        summary_run_accept(run);
        break;
    case EVENT_PROGRESS:
        handle_progress(state, run, &event->progress);
        break;
    case EVENT_DELTA:
        status = handle_delta(state, run, &event->delta, &why);
        break;
    case EVENT_FINISHED:
        count_run(call, run, &event->finished);
        if (run->is_final) {
            summary_end_answered(state, event->finished.reason);
            return;
        }
        status = close_section(state, run, &why);
        break;
    case EVENT_REFUSED:
        handle_refused(state, run, &event->refused);
        return;
    default:
        break;
    }
    if (status == STATUS_OK && state->is_short)
        status = no_memory(&why);
    if (status < 0)
        summary_end_refused(state, status, &why, NULL);
    else
        summary_flow_open_window(state);
}

/* --- the upload --- */

static int take_options(struct call *call, const struct wire_summary_options *options,
                        struct why *why)
{
    struct summarize *state = call_state_of(call);
    struct service *service = call->service;

    if (options->total_bytes > DOCUMENT_BYTES_MAX)
        return refuse_numbers(
            why, STATUS_TOO_LARGE,
            (struct why_numbers){(double)options->total_bytes, DOCUMENT_BYTES_MAX, "bytes", NULL},
            "total_bytes is %llu; a document may have %u: send it in parts",
            (unsigned long long)options->total_bytes, DOCUMENT_BYTES_MAX);
    state->plan = summary_plan_create(service->engine, &service->model, options);
    if (state->plan == NULL)
        return no_memory(why);
    state->call = call;
    state->client.on_event = handle_event;
    state->options = *options;
    state->options.instruction = slice_of(NULL, 0); /* lives in the plan */
    if (!options->sampling.has_seed &&
        getrandom(&state->options.sampling.seed, sizeof state->options.sampling.seed, 0) !=
            (ssize_t)sizeof state->options.sampling.seed)
        state->options.sampling.seed = (uint64_t)summary_now_ns();
    state->began_ns = summary_now_ns();
    state->n_group_max = UINT32_MAX;
    byte_queue_init(&state->held, &service->text_bytes);
    summary_tree_init(&state->tree, 0);
    state->stage = STAGE_PLANNING;

    int status = summary_flow_begin(state, why);
    state->is_paused = status == STATUS_OK;
    return status == STATUS_OK ? STATUS_AGAIN : status;
}

/* A cut upload must not pass for the whole of a document. */
static int refuse_size(const struct summarize *state, uint64_t n_came, struct why *why)
{
    return refuse_numbers(
        why, STATUS_INVALID,
        (struct why_numbers){(double)state->options.total_bytes, (double)n_came, "bytes", NULL},
        "total_bytes said %llu, and %llu bytes came: send all of the document, or leave "
        "total_bytes out",
        (unsigned long long)state->options.total_bytes, (unsigned long long)n_came);
}

static int take_text(struct summarize *state, struct slice text, struct why *why)
{
    if (state->n_received + text.len > DOCUMENT_BYTES_MAX)
        return refuse_numbers(
            why, STATUS_TOO_LARGE,
            (struct why_numbers){(double)(state->n_received + text.len), DOCUMENT_BYTES_MAX,
                                 "bytes", NULL},
            "the document has more than %u bytes, the limit: send it in parts",
            DOCUMENT_BYTES_MAX);
    if (state->options.total_bytes > 0 && state->n_received + text.len > state->options.total_bytes)
        return refuse_size(state, state->n_received + text.len, why);
    int status = service_room_for_text(state->call->service, text.len, why);
    if (status < 0)
        return status;
    if (byte_queue_reserve(&state->held, text.len) < 0)
        return refuse(why, STATUS_NO_MEMORY, "no memory for the next %zu bytes of the document",
                      text.len);
    byte_queue_append(&state->held, text);
    state->n_received += text.len;
    summary_tell_upload(state);
    status = state->is_short ? no_memory(why) : summary_flow_advance(state, why);
    if (status < 0)
        return status;
    state->is_paused = state->held.len > state->window;
    return state->is_paused ? STATUS_AGAIN : STATUS_OK;
}

/* A refusal from inside a callback: no on_cancel follows, so everything is given back here. */
static int refuse_upload(struct call *call, int status, const struct why *why)
{
    struct summarize *state = call_state_of(call);
    if (state->call == NULL)
        return service_refuse_request(call, status, why);
    summary_end_refused(state, status, why, NULL);
    return STATUS_OK;
}

static int on_message(struct call *call, struct slice body, struct why *why)
{
    struct summarize *state = call_state_of(call);
    struct wire_summarize message;
    struct arena arena;

    arena_init(&arena, wire_arena_bytes(body.len));
    int status = service_check_weights(call->service, why);
    if (status == STATUS_OK)
        status = wire_unpack_summarize(&arena, body, &message, why);
    bool is_first = state->stage == STAGE_OPTIONS;
    if (status == STATUS_OK && is_first != message.has_options)
        status = refuse(why, STATUS_INVALID,
                        is_first ? "text came before options: send options first"
                                 : "options came twice: send them in the first message only");
    if (status == STATUS_OK && is_first)
        status = take_options(call, &message.options, why);
    else if (status == STATUS_OK)
        status = take_text(state, message.text, why);
    arena_release(&arena);
    if (status < 0 && status != STATUS_AGAIN)
        return refuse_upload(call, status, why);
    return status;
}

static int on_end(struct call *call, struct why *why)
{
    struct summarize *state = call_state_of(call);
    int status = STATUS_OK;

    if (state->stage == STAGE_OPTIONS)
        status = refuse(why, STATUS_INVALID, "nothing was sent: send options, then the document");
    else if (state->n_received == 0)
        status = refuse(why, STATUS_INVALID, "the document is empty: it needs at least one byte");
    else if (state->n_received < state->options.total_bytes)
        status = refuse_size(state, state->n_received, why);
    if (status == STATUS_OK) {
        state->has_ended = true;
        status = summary_flow_advance(state, why);
    }
    return status < 0 ? refuse_upload(call, status, why) : STATUS_OK;
}

static void on_cancel(struct call *call)
{
    struct summarize *state = call_state_of(call);
    if (state->call != NULL)
        summary_end_cancelled(state);
}

static void on_drain(struct call *call)
{
    struct summarize *state = call_state_of(call);
    if (state->call == NULL)
        return;
    for (int i = 0; i < SUMMARY_RUNS; i++)
        if (state->runs[i].state != RUN_FREE)
            summary_run_pay(call, &state->runs[i]);
}

const struct call_handler summarize_handler = {
    .on_message = on_message,
    .on_end = on_end,
    .on_cancel = on_cancel,
    .on_drain = on_drain,
};
