#include "service/prompt_job.h"

#include "service/chat_prompt.h"
#include "service/server.h"
#include "service/work.h"

#include <stdlib.h>
#include <string.h>

/* All of a text is counted, so that a refusal can tell how much is too much. */
#define TOKENS_MAX GENERATE_MESSAGE_BYTES_MAX
#define ARENA_BESIDE_BYTES (64u << 10) /* that a submit may keep to itself beside its ids */

struct prompt_job *prompt_job_create(struct call *call, size_t message_bytes)
{
    struct prompt_job *job = calloc(1, sizeof *job);
    if (job == NULL)
        return NULL;
    job->service = call->service;
    job->calls = call->table;
    job->call_id = call->id;
    job->engine = call->service->engine;
    arena_init(&job->arena, wire_arena_bytes(message_bytes));
    return job;
}

void prompt_job_free(struct prompt_job *job)
{
    service_give_text(job->service, job->held_bytes);
    arena_release(&job->arena);
    for (uint32_t i = 0; i < CHOICES_MAX; i++)
        engine_free_grammar(job->grammars[i]);
    if (job->submit != NULL)
        submit_free(job->submit);
    free(job->ids);
    free(job);
}

static void tokenize(struct prompt_job *job)
{
    const struct wire_generate *request = &job->request;
    uint32_t room = request->truncates_oldest
                        ? chat_prompt_room(request, job->service->model.max_context)
                        : 0;

    if (request->prompt == WIRE_CHAT)
        job->status = chat_prompt_render(job->engine, &request->chat, TOKENS_MAX, room, &job->ids,
                                         &job->n_ids, &job->cut, &job->why);
    else
        job->status = engine_tokenize(job->engine, request->text, request->add_bos, false,
                                      TOKENS_MAX, &job->ids, NULL, &job->n_ids, &job->why);
    if (job->status == STATUS_OK && job->n_ids == 0)
        job->status = refuse(&job->why, STATUS_INVALID, "the prompt is empty: give some text%s",
                             job->service->model.has_bos ? ", or set add_bos" : "");
}

/* The ids change hands: a prompt may have millions. Those of the request bring its arena with them,
 * unless that holds much else. */
static struct submit *hand_over_ids(struct prompt_job *job)
{
    uint32_t n = (uint32_t)job->n_ids;
    struct submit *submit;

    if (job->ids != NULL) {
        submit = submit_create_of(job->ids, n, NULL);
        if (submit != NULL)
            job->ids = NULL;
    } else if (job->arena.used <= n * sizeof *job->request.ids + ARENA_BESIDE_BYTES) {
        submit = submit_create_of(job->request.ids, n, &job->arena);
    } else {
        submit = submit_create(n);
        if (submit != NULL)
            memcpy(submit->ids, job->request.ids, n * sizeof *submit->ids);
    }
    return submit;
}

/* The prompt under its names: where nobody waits for the thread that makes them. */
static void make_submit(struct prompt_job *job)
{
    job->submit = hand_over_ids(job);
    if (job->submit == NULL)
        return;
    job->submit->salt = job->request.cache_salt;
    engine_name_prompt(job->engine, job->submit);
}

/* What takes more than a moment. */
static void prepare(void *arg)
{
    struct prompt_job *job = arg;
    const struct wire_generate *request = &job->request;

    for (uint32_t i = 0; request->has_grammar && i < request->best_of && job->status == STATUS_OK;
         i++)
        job->status = engine_compile_grammar(job->engine, request->grammar_form, request->grammar,
                                             &job->grammars[i], &job->why);
    if (job->status == STATUS_OK && request->prompt != WIRE_TOKENS)
        tokenize(job);
    if (job->status == STATUS_OK)
        make_submit(job);
}

static void on_prepared(void *arg, int status)
{
    struct prompt_job *job = arg;
    struct call *call = call_find(job->calls, job->call_id);

    if (call != NULL) {
        if (status == STATUS_OK)
            status = job->status;
        if (status == STATUS_OK)
            job->on_ready(call, job);
        else if (job->why.text[0] != '\0')
            service_refuse_why(call, status, &job->why);
        else
            service_refuse(call, status, "the server is stopping");
    }
    prompt_job_free(job);
}

int prompt_job_start(struct call *call, struct prompt_job *job, struct why *why)
{
    int status = service_hold_text(call->service, job->arena.used, why);
    if (status < 0) {
        prompt_job_free(job);
        return status;
    }
    job->held_bytes = job->arena.used;
    if (job->request.prompt == WIRE_TOKENS && job->request.n_ids <= UINT32_MAX)
        job->n_ids = job->request.n_ids;
    if (job->request.prompt == WIRE_TOKENS && !job->request.has_grammar &&
        job->n_ids <= PROMPT_AT_ONCE_TOKENS) {
        make_submit(job);
        job->on_ready(call, job);
        prompt_job_free(job);
        return STATUS_OK;
    }
    status = work_submit(server_loop(call->service->server), prepare, on_prepared, job);
    if (status < 0) {
        prompt_job_free(job);
        return refuse(why, status, "too many prompts are being tokenized: try again in a second");
    }
    return STATUS_OK;
}

/* And a grammar to each. */
static struct submit *add_choices(struct submit *first, struct prompt_job *job)
{
    struct submit *choice = first;
    for (uint32_t i = 1; i < job->request.best_of; i++)
        if (submit_add_choice(first) == NULL) {
            submit_free(first);
            return NULL;
        }
    for (uint32_t i = 0; choice != NULL; choice = choice->next_choice, i++) {
        choice->grammar = job->grammars[i];
        job->grammars[i] = NULL;
    }
    return first;
}

struct submit *prompt_job_submit(const struct call *call, struct prompt_job *job)
{
    const struct wire_generate *request = &job->request;
    struct submit *submit = job->submit;

    if (submit == NULL)
        return NULL;
    job->submit = NULL;
    submit->min_tokens = request->min_tokens;
    submit->n_stop_tokens = request->n_stop_tokens;
    for (uint32_t i = 0; i < request->n_stop_tokens; i++)
        submit->stop_tokens[i] = request->stop_tokens[i];
    submit->call_id = call->id;
    submit->has_max_tokens = request->has_max_tokens;
    submit->max_tokens = request->max_tokens;
    submit->sampling = request->sampling;
    submit->stop = request->stop;
    submit->ignore_eos = request->ignore_eos;
    bool has_tools = request->prompt == WIRE_CHAT && request->chat.n_tools > 0;
    submit->want_text = request->want_text || has_tools; /* calls are read from it */
    submit->want_ids = request->want_ids;
    submit->want_logprobs = request->want_logprobs || request->best_of > request->n;
    submit->want_special = has_tools;
    submit->n_top = request->n_top;
    submit->deadline_ns = call->deadline_ns;
    submit->arrived_ns = call->arrived_ns;
    return add_choices(submit, job);
}
