/* What a step gave: committed rows, new tokens, their text, the ends of runs. */
#include "engine/choices.h"
#include "engine/engine_state.h"
#include "engine/preempt.h"
#include "model/grammar.h"
#include "model/model.h"
#include "model/vocabulary.h"

#include <assert.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#define PROGRESS_NS (100 * NS_PER_MS)

/* At most every PROGRESS_NS, and never worth the room of anything else; NULL: not now. */
static struct event *begin_progress(struct engine *engine, struct sequence *sequence,
                                    enum run_phase phase, int64_t now_ns)
{
    if (now_ns - sequence->progress_ns < PROGRESS_NS ||
        !events_have_room(engine, engine->n_running))
        return NULL;
    sequence->progress_ns = now_ns;
    struct event *event = publish_begin(engine, EVENT_PROGRESS, sequence->submit->call_id,
                                        sequence->submit->tag, EVENT_BYTES_OF(progress));
    event->progress = (struct event_progress){.phase = phase};
    return event;
}

/* What is left takes as much longer as it costs more: later rows look back on more. */
static double prefill_left_s(const struct engine *engine, const struct sequence *sequence,
                             double spent_s)
{
    const struct step_cost *cost = &engine->estimate.cost;
    uint32_t n_done = sequence->n_prefilled, n_left = sequence_n_text(sequence) - n_done;
    double done_ns = step_cost_prefill(cost, sequence->n_begun, n_done - sequence->n_begun);

    return done_ns > 0 ? spent_s * step_cost_prefill(cost, n_done, n_left) / done_ns : 0;
}

static void publish_progress(struct engine *engine, struct sequence *sequence, int64_t now_ns)
{
    struct event *event = begin_progress(engine, sequence, RUN_PREFILL, now_ns);
    if (event == NULL)
        return;
    struct event_progress *progress = &event->progress;
    double spent_s = (double)(now_ns - sequence->reads_ns) / NS_PER_S;
    progress->n_done = sequence->n_prefilled;
    progress->n_total = sequence_n_text(sequence);
    progress->per_s =
        spent_s > 0 ? (sequence->n_prefilled - sequence->n_begun) / spent_s : 0;
    progress->left_s = prefill_left_s(engine, sequence, spent_s);
    publish_end(engine, EVENT_BYTES_OF(progress));
}

/* Text that the token makes showable; at the end of the run also what was held back. */
static size_t show(struct engine *engine, struct sequence *sequence, uint32_t id, bool is_end_token,
                   bool is_end)
{
    size_t n = 0, n_shown;

    if (!is_end_token)
        n = detok_push(&sequence->detok, id, engine->detokenized);
    if (is_end)
        n += detok_flush(&sequence->detok, engine->detokenized + n);
    n_shown = stop_push(&sequence->stop, slice_of(engine->detokenized, n), engine->shown);
    if (is_end && sequence->stop.matched < 0)
        n_shown += stop_flush(&sequence->stop, engine->shown + n_shown);
    assert(n_shown <= EVENT_TEXT_BYTES_MAX);
    return n_shown;
}

static void publish_delta(struct engine *engine, struct sequence *sequence,
                          const struct sample_result *result, size_t n_text)
{
    const struct submit *submit = sequence->submit;
    bool wants_token = submit->want_ids || submit->want_logprobs;

    if (!submit->want_text)
        n_text = 0;
    size_t bytes = offsetof(struct event, delta) + sizeof(struct event_delta) + n_text;
    if (n_text == 0 && !wants_token)
        return;
    struct event *event = publish_begin(engine, EVENT_DELTA, submit->call_id, submit->tag, bytes);
    struct event_delta *delta = &event->delta;
    *delta = (struct event_delta){.has_token = true};
    delta->id = result->id;
    delta->has_logprob = submit->want_logprobs;
    delta->logprob = result->logprob;
    delta->n_top = submit->want_logprobs ? result->n_top : 0;
    for (uint32_t i = 0; i < delta->n_top; i++)
        delta->top[i] =
            (struct token_logprob){.id = result->top_id[i], .logprob = result->top_logprob[i]};
    delta->text_bytes = (uint32_t)n_text;
    memcpy(delta->text, engine->shown, n_text);
    publish_end(engine, bytes);
    assert(sequence->n_credit > 0);
    sequence->n_credit--;
}

/* An end of the model's or of the request's own. */
static bool is_end_of(const struct engine *engine, const struct sequence *sequence, uint32_t id)
{
    const struct submit *submit = sequence->submit;

    if (!submit->ignore_eos &&
        vocabulary_is_end_of_generation(model_vocabulary(engine->model), id))
        return true;
    for (uint32_t i = 0; i < submit->n_stop_tokens; i++)
        if (submit->stop_tokens[i] == id && sequence->n_generated > submit->min_tokens)
            return true;
    return false;
}

/* True: the grammar can only end here, so the run does without drawing that; or cannot go on. */
static bool follow_grammar(const struct engine *engine, struct sequence *sequence, uint32_t id)
{
    struct grammar *grammar = sequence->submit->grammar;
    struct why why = {.text = ""};

    int64_t begun_ns = clock_now(engine->clock);
    sequence->grammar_status = grammar_accept(grammar, id, &why);
    sequence_learn_mask(sequence, clock_now(engine->clock) - begun_ns);
    if (sequence->grammar_status < 0)
        snprintf(sequence->grammar_why, sizeof sequence->grammar_why, "%s", why.text);
    return sequence->grammar_status < 0 || !grammar_may_go_on(grammar);
}

static void accept_token(struct engine *engine, struct sequence *sequence,
                         const struct sample_result *result, int64_t now_ns)
{
    bool is_grammar_over = false;

    sequence->last_id = result->id;
    if (sequence->submit->answer != NULL)
        sequence->submit->answer[sequence->n_generated] = result->id;
    sequence->n_generated++;
    engine->stats.n_generated_tokens++;
    bool is_end_token = is_end_of(engine, sequence, result->id);
    if (sequence->submit->grammar != NULL && !is_end_token)
        is_grammar_over = follow_grammar(engine, sequence, result->id);
    bool is_end = is_end_token || is_grammar_over ||
                  sequence->n_generated == sequence->promised_output;
    size_t n_text = show(engine, sequence, result->id, is_end_token, is_end);
    bool has_matched = sequence->stop.matched >= 0;
    bool is_cut = sequence->n_generated == sequence->promised_output;
    bool has_failed = sequence->grammar_status < 0; /* of a mask that may not be wanted any more */
    bool is_stopped = is_end_token || has_matched || (is_grammar_over && !has_failed);
    publish_delta(engine, sequence, result, n_text);
    if (has_failed && !has_matched && !is_cut)
        finish_run(engine, sequence, END_GRAMMAR);
    else if (is_end || is_stopped)
        finish_run(engine, sequence, is_stopped ? END_STOP : END_LENGTH);
    else if (sequence->n_credit == 0)
        sequence_set_state(sequence, SEQUENCE_PAUSED, &engine->counts, now_ns);
}

/* Their place in the queue: at once, when it has changed, and every WAITING_NS. */
static void tell_waiting(struct engine *engine, struct sequence *sequence, uint32_t n_before,
                         int64_t now_ns)
{
    bool is_news = n_before != sequence->n_ahead_told;

    if (now_ns - sequence->progress_ns < (is_news ? PROGRESS_NS : WAITING_NS))
        return;
    struct event *event = begin_progress(engine, sequence, RUN_WAITING, now_ns);
    if (event == NULL) {
        sequence->progress_ns = now_ns; /* no room: not before the next turn */
        return;
    }
    sequence->n_ahead_told = n_before;
    event->progress.n_total = sequence->n_ahead_first;
    event->progress.n_done =
        n_before < sequence->n_ahead_first ? sequence->n_ahead_first - n_before : 0;
    event->progress.left_s = judge_wait_s(engine, sequence);
    publish_end(engine, EVENT_BYTES_OF(progress));
}

void accept_tell_waiting(struct engine *engine)
{
    int64_t now_ns = clock_now(engine->clock);
    uint32_t n_before = 0;

    if (engine->counts.n[SEQUENCE_WAITING_PAGES] + engine->counts.n[SEQUENCE_SPILLED] == 0)
        return;
    list_for_each(node, &engine->runs)
    {
        struct sequence *sequence = list_entry(node, struct sequence, link);
        if ((sequence->state == SEQUENCE_WAITING_PAGES && sequence->submit->choice_idx == 0) ||
            preempt_may_return(sequence))
            tell_waiting(engine, sequence, n_before++, now_ns);
    }
}

/* What a row of the answer read is the newest token that is known: this step's come later. Of a run
 * that ended with two steps under way the token between them was dropped: nothing is remembered. */
static void commit(struct engine *engine, const struct sequence *sequence, uint32_t n_rows)
{
    const struct submit *submit = sequence->submit;
    uint32_t at = sequence->n_prefilled, n_prompt = 0;

    if (at == sequence_n_text(sequence)) {
        bool is_over = sequence->state == SEQUENCE_FINISHED;
        kv_cache_commit_ids(engine->cache, sequence->kv, is_over ? NULL : &sequence->last_id,
                            n_rows);
        return;
    }
    if (at < submit->n_ids) {
        n_prompt = n_rows < submit->n_ids - at ? n_rows : submit->n_ids - at;
        kv_cache_commit_ids(engine->cache, sequence->kv, submit->ids + at, n_prompt);
    }
    if (n_rows > n_prompt)
        kv_cache_commit_ids(engine->cache, sequence->kv,
                            submit->answer + (at + n_prompt - submit->n_ids), n_rows - n_prompt);
}

void accept_step(struct engine *engine, const struct batch *batch)
{
    int64_t now_ns = clock_now(engine->clock);

    for (uint32_t s = 0; s < batch->n_seqs; s++) {
        struct sequence *sequence = batch->sequences[s];
        commit(engine, sequence, batch->n_rows_of[s]);
        if (sequence->n_prefilled == sequence_n_text(sequence))
            continue;
        sequence->n_prefilled += batch->n_rows_of[s];
        if (sequence->n_reread > 0)
            engine->stats.n_reread_tokens += batch->n_rows_of[s];
        else
            engine->stats.n_prompt_tokens += batch->n_rows_of[s];
        if (sequence->state != SEQUENCE_PREFILL)
            continue; /* it ended while the step ran */
        if (sequence->submit->choice_idx == 0 || sequence->n_reread > 0)
            publish_progress(engine, sequence, now_ns);
        choices_try_fork(engine, sequence);
        if (sequence->n_prefilled == sequence_n_text(sequence))
            sequence_set_state(sequence, SEQUENCE_DECODE, &engine->counts, now_ns);
    }
    for (uint32_t i = 0; i < batch->n_outputs; i++) /* a token behind the end is nobody's */
        if (batch->outputs[i]->state == SEQUENCE_DECODE)
            accept_token(engine, batch->outputs[i], &batch->results[i], now_ns);
}
