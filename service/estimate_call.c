#include "service/estimate_call.h"

#include "service/prompt_job.h"

#include <stdlib.h>

struct estimate_call {
    struct engine_client client; /* first: service_on_wake reads it */
};

size_t estimate_state_bytes(void)
{
    return sizeof(struct estimate_call);
}

static void handle_event(struct call *call, const struct event *event)
{
    struct service *service = call->service;
    if (event->kind != EVENT_ESTIMATE)
        return;
    size_t bytes = wire_pack_estimate(service->out, sizeof service->out, &event->estimate);
    service_answer(call, slice_of(service->out, bytes));
}

/* The engine frees the submit. */
static void ask(struct call *call, struct submit *submit)
{
    struct message message = {.kind = MESSAGE_ESTIMATE, .call_id = call->id, .submit = submit};
    if (submit == NULL) {
        service_refuse(call, STATUS_NO_MEMORY, "no memory for the tokens of this prompt");
        return;
    }
    if (service_send(call->service, &message))
        return;
    submit_free(submit);
    service_refuse(call, STATUS_EXHAUSTED,
                   "the server has more requests under way than it takes: try again in a second");
}

static void on_ready(struct call *call, struct prompt_job *job)
{
    ask(call, prompt_job_submit(call, job));
}

/* A prompt of which nothing but its length is known. */
static struct submit *submit_of(const struct call *call, const struct wire_estimate *in)
{
    struct submit *submit = submit_create(0);
    if (submit == NULL)
        return NULL;
    free(submit->ids);
    submit->ids = NULL;
    submit->n_ids = in->n_prompt;
    submit->call_id = call->id;
    submit->has_max_tokens = in->has_max_tokens;
    submit->max_tokens = in->max_tokens;
    submit->deadline_ns = call->deadline_ns;
    submit->arrived_ns = call->arrived_ns;
    return submit;
}

static int on_message(struct call *call, struct slice body, struct why *why)
{
    struct estimate_call *state = call_state_of(call);
    struct prompt_job *job = prompt_job_create(call, body.len);
    struct wire_estimate in;

    if (job == NULL)
        return refuse(why, STATUS_NO_MEMORY, "no memory for a request of %zu bytes", body.len);
    state->client.on_event = handle_event;
    int status = service_check_weights(call->service, why);
    if (status == STATUS_OK)
        status = wire_unpack_estimate(&job->arena, body, &in, why);
    if (status == STATUS_OK && in.has_request) {
        job->request = in.request;
        job->on_ready = on_ready;
        status = prompt_job_start(call, job, why);
    } else {
        if (status == STATUS_OK)
            ask(call, submit_of(call, &in));
        prompt_job_free(job);
    }
    return status < 0 ? service_refuse_request(call, status, why) : STATUS_OK;
}

static void on_cancel(struct call *call)
{
    (void)call; /* the answer finds nobody */
}

const struct call_handler estimate_handler = {.on_message = on_message, .on_cancel = on_cancel};
