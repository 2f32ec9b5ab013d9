#include "service/summary_run.h"

#include "base/hash.h"
#include "service/service.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static void set_state(struct summary_run *run, enum summary_run_state next)
{
    static const bool legal[4][4] = {
        [RUN_FREE] = {[RUN_UNSENT] = true},
        [RUN_UNSENT] = {[RUN_SENT] = true, [RUN_FREE] = true},
        [RUN_SENT] = {[RUN_ACCEPTED] = true, [RUN_UNSENT] = true, [RUN_FREE] = true},
        [RUN_ACCEPTED] = {[RUN_FREE] = true},
    };
    assert(legal[run->state][next]);
    run->state = next;
}

void summary_run_open(struct summary_run *run, uint32_t tag, uint32_t *ids, size_t n_ids,
                      struct submit *submit, int64_t now_ns)
{
    assert(run->state == RUN_FREE);
    *run = (struct summary_run){
        .tag = tag, .ids = ids, .n_ids = n_ids, .submit = submit, .opened_ns = now_ns};
    set_state(run, RUN_UNSENT);
}

/* The final answer is drawn with the seed that was told; each section with one of its own. */
static uint64_t seed_of(const struct summary_run *run, uint64_t seed)
{
    uint32_t place[2] = {run->level, run->index};
    return run->is_final ? seed : hash64(place, sizeof place, seed);
}

/* One that was refused for want of room is gone with its names. */
static int have_submit(struct summary_run *run)
{
    if (run->submit != NULL)
        return STATUS_OK;
    run->submit = submit_create((uint32_t)run->n_ids);
    if (run->submit == NULL)
        return STATUS_NO_MEMORY;
    memcpy(run->submit->ids, run->ids, run->n_ids * sizeof *run->ids);
    return STATUS_OK;
}

int summary_run_send(struct call *call, struct summary_run *run, const struct summary_terms *terms)
{
    int status = have_submit(run);
    if (status < 0)
        return status;
    struct submit *submit = run->submit;
    submit->call_id = call->id;
    submit->tag = run->tag;
    submit->has_max_tokens = true;
    submit->max_tokens = terms->max_tokens;
    submit->sampling = terms->sampling;
    submit->sampling.has_seed = true;
    submit->sampling.seed = seed_of(run, terms->sampling.seed);
    submit->salt = terms->salt;
    submit->want_text = true;
    submit->deadline_ns = call->deadline_ns;
    submit->arrived_ns = run->opened_ns;
    if (!service_send(call->service, &(struct message){.kind = MESSAGE_SUBMIT, .submit = submit}))
        return STATUS_AGAIN;
    run->submit = NULL; /* the engine's */
    set_state(run, RUN_SENT);
    return STATUS_OK;
}

void summary_run_accept(struct summary_run *run)
{
    set_state(run, RUN_ACCEPTED);
    run->clock.came_ns = run->opened_ns;
    free(run->ids);
    run->ids = NULL;
}

void summary_run_refuse(struct summary_run *run)
{
    set_state(run, RUN_UNSENT);
}

int summary_run_append(struct summary_run *run, struct slice text)
{
    if (run->len + text.len > run->cap) {
        size_t cap = 2 * (run->len + text.len);
        uint8_t *grown = realloc(run->text, cap);
        if (grown == NULL)
            return STATUS_NO_MEMORY;
        run->text = grown;
        run->cap = cap;
    }
    if (text.len > 0)
        memcpy(run->text + run->len, text.bytes, text.len);
    run->len += text.len;
    return STATUS_OK;
}

void summary_run_credit(struct call *call, struct summary_run *run)
{
    run->n_credit_owed++;
    if (call_unsent_bytes(call) <= OUT_BUFFER_MARK_BYTES)
        summary_run_pay(call, run);
}

void summary_run_pay(struct call *call, struct summary_run *run)
{
    if (run->n_credit_owed > 0)
        service_credit(call, run->tag, run->n_credit_owed);
    run->n_credit_owed = 0;
}

void summary_run_close(struct summary_run *run)
{
    free(run->ids);
    free(run->text);
    submit_free(run->submit);
    if (run->state != RUN_FREE)
        set_state(run, RUN_FREE);
    *run = (struct summary_run){.state = RUN_FREE};
}
