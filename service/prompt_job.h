/* service/prompt_job.h: a GenerateRequest on its way to the tokens of its prompt and the grammar of
 * its answer, which a worker makes.
 *
 *   unpack into job->arena --prompt_job_start--> worker: compile, render, tokenize, name pages
 *                                                              --on_ready--> submit
 *
 * A job owns the unpacked request, so that a cancelled call leaves the worker something to read; it
 * is freed after on_ready, or when its call is gone. Thread: the loop, but for the worker's part.
 */
#ifndef QUIRE_SERVICE_PROMPT_JOB_H
#define QUIRE_SERVICE_PROMPT_JOB_H

#include "service/service.h"
#include "service/wire.h"

/* Of a prompt that comes as tokens: so many are taken up by the loop, more by a worker. */
#define PROMPT_AT_ONCE_TOKENS 4096

struct prompt_job {
    struct service *service;
    struct call_table *calls;
    uint64_t call_id;
    const struct engine *engine;
    struct arena arena;
    size_t held_bytes; /* of the service's account */
    struct wire_generate request;
    uint32_t *ids; /* malloc'ed */
    size_t n_ids;
    struct submit *submit; /* of the prompt, once it has tokens; NULL: no memory, or taken */
    struct grammar *grammars[CHOICES_MAX]; /* one a choice; NULL: none, or the submit has it */
    struct chat_cut cut;
    int status;
    struct why why;
    void (*on_ready)(struct call *call, struct prompt_job *job); /* the prompt has tokens */
};

/* For a message of so many bytes; NULL when memory is out. The caller unpacks into its arena. */
struct prompt_job *prompt_job_create(struct call *call, size_t message_bytes);
void prompt_job_free(struct prompt_job *job);
/* Takes the job, also when it returns an error: STATUS_EXHAUSTED with numbers. A prompt of up to
 * PROMPT_AT_ONCE_TOKENS that is tokens already, and asks for no grammar, is ready at once. */
int prompt_job_start(struct call *call, struct prompt_job *job, struct why *why);
/* What the engine is to be told of it, with the job's prompt and grammars, once; NULL when memory
 * is out. */
struct submit *prompt_job_submit(const struct call *call, struct prompt_job *job);

#endif
