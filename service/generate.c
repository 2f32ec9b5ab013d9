#include "service/generate.h"

#include "service/generate_state.h"
#include "service/wire.h"

size_t generate_state_bytes(void)
{
    return sizeof(struct generate);
}

/* --- events --- */

static void hold_delta(struct call *call, struct generate *state, const struct event *event)
{
    struct why why = {.text = ""};
    int status = held_answer_add(&state->choices[event->tag].held, call->service, &event->delta,
                                 state->want_logprobs, &why);
    if (status < 0)
        generate_fail(call, status, &why);
    else
        service_credit(call, event->tag, 1);
}

static void handle_delta(struct call *call, struct generate *state, const struct event *event)
{
    struct choice *choice = &state->choices[event->tag];

    call->usage.n_completion += event->delta.has_token;
    choice->n_counted += event->delta.has_token;
    if (generate_holds(state)) {
        hold_delta(call, state, event);
        return;
    }
    if (!generate_tell_delta(call, choice, &event->delta, event->tag))
        return;
    if (call_unsent_bytes(call) <= OUT_BUFFER_MARK_BYTES)
        service_credit(call, event->tag, 1);
    else
        choice->n_credit_owed++;
}

static void finish(struct call *call)
{
    generate_release(call);
    call_finish(call, STATUS_OK, NULL);
}

/* Tells the best answers as far as their reader takes them; on_drain goes on. */
static void tell_best(struct call *call, struct generate *state)
{
    while (state->n_told < state->n) {
        uint32_t idx = state->n_told;
        struct choice *choice = &state->choices[state->order[idx]];
        const struct event_delta *delta;
        while (call_unsent_bytes(call) <= OUT_BUFFER_MARK_BYTES &&
               (delta = held_answer_next(&choice->held)) != NULL)
            if (!generate_tell_delta(call, choice, delta, idx))
                return;
        if (call_unsent_bytes(call) > OUT_BUFFER_MARK_BYTES)
            return;
        state->n_told++;
        if (!generate_tell_end(call, state, choice, idx, state->n_told == state->n))
            return;
    }
    finish(call);
}

static void choose_best(struct call *call, struct generate *state)
{
    const struct held_answer *answers[CHOICES_MAX];

    for (uint32_t i = 0; i < state->n_choices; i++)
        answers[i] = &state->choices[i].held;
    held_answer_rank(answers, state->n_choices, state->order);
    tell_best(call, state);
}

static double longer(double a, double b)
{
    return a > b ? a : b;
}

static void count_end(struct call *call, struct generate *state, struct choice *choice)
{
    const struct event_finished *finished = &choice->finished;
    struct event_finished *total = &state->total;

    call->usage.n_completion += finished->n_completion - choice->n_counted;
    total->n_prompt = finished->n_prompt;
    total->n_completion += finished->n_completion;
    if (choice == &state->choices[0]) { /* it read the prompt */
        total->n_cached = finished->n_cached;
        total->cache_end = finished->cache_end;
    }
    total->queue_s = longer(total->queue_s, finished->queue_s);
    total->prefill_s = longer(total->prefill_s, finished->prefill_s);
    total->decode_s = longer(total->decode_s, finished->decode_s);
    total->paused_s = longer(total->paused_s, finished->paused_s);
    if (++state->n_over < state->n_choices)
        return;
    state->is_submitted = false;
    call->usage = (struct call_usage){.n_prompt = total->n_prompt,
                                      .n_completion = total->n_completion,
                                      .queue_s = total->queue_s,
                                      .prefill_s = total->prefill_s,
                                      .decode_s = total->decode_s};
}

static void handle_finished(struct call *call, struct generate *state, const struct event *event)
{
    struct choice *choice = &state->choices[event->tag];

    choice->finished = event->finished;
    count_end(call, state, choice);
    bool is_last = state->n_over == state->n_choices;
    if (generate_holds(state)) {
        if (is_last)
            choose_best(call, state);
        return;
    }
    if (generate_tell_end(call, state, choice, event->tag, is_last) && is_last)
        finish(call);
}

/* One that cannot go on ends all: a reader who asked for n is told why there are fewer. */
static void handle_refused(struct call *call, struct generate *state, const struct event *event)
{
    if (event->refused.was_accepted && state->n_over + 1 < state->n_choices)
        service_cancel_runs(call, TAG_ALL);
    state->is_submitted = false;
    generate_release(call);
    service_count_time(call, &state->clock);
    service_refuse_event(call, &event->refused);
}

static void handle_event(struct call *call, const struct event *event)
{
    struct generate *state = call_state_of(call);
    struct service *service = call->service;

    service_follow(&state->clock, event);
    switch (event->kind) {
    case EVENT_ACCEPTED:
        call->usage.n_prompt = event->accepted.n_prompt;
        generate_send(call, wire_pack_accepted(service->out, sizeof service->out, &event->accepted,
                                               call->request_id, &state->cut));
        break;
    case EVENT_PROGRESS: /* never worth waiting for */
        if (call_unsent_bytes(call) <= OUT_BUFFER_MARK_BYTES)
            generate_send(call,
                          wire_pack_progress(service->out, sizeof service->out, &event->progress));
        break;
    case EVENT_DELTA:
        handle_delta(call, state, event);
        break;
    case EVENT_FINISHED:
        handle_finished(call, state, event);
        break;
    case EVENT_REFUSED:
        handle_refused(call, state, event);
        break;
    default:
        break;
    }
}

/* --- from request to submit --- */

static void submit_prompt(struct call *call, struct prompt_job *job)
{
    struct generate *state = call_state_of(call);
    struct submit *submit = prompt_job_submit(call, job);

    if (submit == NULL) {
        service_refuse(call, STATUS_NO_MEMORY, "no memory for the tokens of this prompt");
        return;
    }
    bool has_tools = submit->want_special; /* the engine owns it then */
    if (!service_send(call->service, &(struct message){.kind = MESSAGE_SUBMIT, .submit = submit})) {
        submit_free(submit);
        service_refuse(
            call, STATUS_EXHAUSTED,
            "the server has more requests under way than it takes: try again in a second");
        return;
    }
    for (uint32_t i = 0; i < state->n_choices; i++)
        tool_reply_init(&state->choices[i].reply,
                        has_tools ? call->service->model.chat_tools : CHAT_TOOLS_NONE);
    state->cut = job->cut;
    state->is_submitted = true;
    state->clock.came_ns = call->arrived_ns;
}

static int begin(struct call *call, struct slice body, struct why *why)
{
    struct generate *state = call_state_of(call);
    struct prompt_job *job = prompt_job_create(call, body.len);

    if (job == NULL)
        return refuse(why, STATUS_NO_MEMORY, "no memory for a request of %zu bytes", body.len);
    int status = wire_unpack_generate(&job->arena, body, &job->request, why);
    if (status < 0) {
        prompt_job_free(job);
        return status;
    }
    state->client.on_event = handle_event;
    state->want_text = job->request.want_text;
    state->want_ids = job->request.want_ids;
    state->want_logprobs = job->request.want_logprobs;
    state->n = job->request.n;
    state->n_choices = job->request.best_of;
    state->stop = job->request.stop;
    job->on_ready = submit_prompt;
    return prompt_job_start(call, job, why);
}

static int on_message(struct call *call, struct slice body, struct why *why)
{
    int status = service_check_weights(call->service, why);
    if (status == STATUS_OK)
        status = begin(call, body, why);
    return status < 0 ? service_refuse_request(call, status, why) : STATUS_OK;
}

static void on_cancel(struct call *call)
{
    struct generate *state = call_state_of(call);

    generate_release(call);
    if (!state->is_submitted)
        return;
    service_count_time(call, &state->clock);
    service_cancel_runs(call, TAG_ALL);
}

static void on_drain(struct call *call)
{
    struct generate *state = call_state_of(call);

    for (uint32_t i = 0; i < state->n_choices; i++) {
        struct choice *choice = &state->choices[i];
        if (choice->n_credit_owed > 0)
            service_credit(call, i, choice->n_credit_owed);
        choice->n_credit_owed = 0;
    }
    if (generate_holds(state) && state->n_over == state->n_choices)
        tell_best(call, state);
}

const struct call_handler generate_handler = {
    .on_message = on_message,
    .on_cancel = on_cancel,
    .on_drain = on_drain,
};
