/* Messages of the loop: submits are answered at once, also while a step runs; what would disturb it
 * (pages of a cancelled sequence that it is writing) waits for its end. */
#include "engine/choices.h"
#include "engine/engine_state.h"
#include "engine/preempt.h"
#include "engine/prompt_prefix.h"
#include "model/model.h"
#include "model/vocabulary.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

static uint64_t seed_of(const struct engine *engine, const struct submit *submit)
{
    uint64_t seed = submit->sampling.seed;
    if (!submit->sampling.has_seed && getrandom(&seed, sizeof seed, 0) < 0)
        seed = (uint64_t)clock_now(engine->clock);
    return seed;
}

static struct sequence *open_sequence(struct engine *engine, struct submit *submit,
                                      uint32_t n_output, uint32_t n_ahead, uint32_t n_credit)
{
    struct sequence *sequence = list_entry(engine->free.next, struct sequence, link);
    struct slice stops[STOP_STRINGS_MAX];

    list_unlink(&sequence->link);
    memset(sequence, 0, sizeof *sequence);
    sequence->submit = submit;
    sequence->kv = KV_SEQ_NONE;
    sequence->state = SEQUENCE_QUEUED;
    sequence->promised_output = n_output;
    sequence->n_credit = n_credit;
    sequence->mask_ns = MASK_NS_FIRST;
    sequence->n_ahead_first = n_ahead;
    sequence->n_ahead_told = AHEAD_UNTOLD;
    const struct vocabulary *vocabulary = model_vocabulary(engine->model);
    detok_init(&sequence->detok, vocabulary, submit->want_special,
               submit->grammar == NULL && /* whose text is shown as it is */
                   vocabulary_is_control(vocabulary, submit->ids[submit->n_ids - 1]));
    for (uint32_t i = 0; i < submit->stop.n; i++)
        stops[i] = slice_of(submit->stop.bytes[i], submit->stop.len[i]);
    int status = stop_init(&sequence->stop, stops, submit->stop.n, NULL);
    assert(status == STATUS_OK); /* checked by admit */
    (void)status;
    engine->counts.n[SEQUENCE_QUEUED]++;
    engine->n_runs++;
    engine->n_grammars += submit->grammar != NULL;
    list_init(&sequence->link);
    list_append(&engine->runs, &sequence->link);
    return sequence;
}

/* Gives the first of its choices. */
static struct sequence *open_choices(struct engine *engine, struct submit *submit,
                                     const struct event_accepted *accepted)
{
    uint64_t seed = seed_of(engine, submit);
    uint32_t n_credit = submit_credit(accepted->n_choices);
    struct sequence *first = NULL;

    while (submit != NULL) {
        struct submit *next = submit->next_choice;
        submit->next_choice = NULL;
        struct sequence *sequence =
            open_sequence(engine, submit, accepted->max_tokens, accepted->n_ahead, n_credit);
        sequence->seed = seed;
        if (first == NULL)
            first = sequence;
        else
            choices_join(first, sequence);
        submit = next;
    }
    return first;
}

/* Who waits for its reader gives way to who waits for pages. */
static bool open_pages(struct engine *engine, struct sequence *sequence, int64_t now_ns)
{
    if (choices_open_pages(engine, sequence))
        return true;
    return !engine->is_blocked && preempt_for(engine, sequence, now_ns) &&
           choices_open_pages(engine, sequence);
}

static void admit(struct engine *engine, struct submit *submit)
{
    struct event_refused refused = {.status = STATUS_OK};
    struct event_accepted accepted = {0};
    uint32_t n_output;

    if (judge_submit(engine, submit, &n_output, &accepted, &refused) < 0) {
        engine->stats.n_refused++;
        publish_refused(engine, submit, &refused);
        submit_free(submit);
        return;
    }
    struct sequence *first = open_choices(engine, submit, &accepted);
    if (accepted.n_ahead == 0) /* promised at once, so that the next one is told the truth */
        open_pages(engine, first, clock_now(engine->clock));
    accepted.seed = first->seed;
    accepted.n_prompt = submit->n_ids;
    engine->stats.n_admitted++;
    struct event *event = publish_begin(engine, EVENT_ACCEPTED, submit->call_id, submit->tag,
                                        EVENT_BYTES_OF(accepted));
    event->accepted = accepted;
    publish_end(engine, EVENT_BYTES_OF(accepted));
}

/* --- other messages --- */

static bool is_of(const struct sequence *sequence, const struct message *message)
{
    return sequence->submit->call_id == message->call_id &&
           (message->tag == TAG_ALL || message->tag == sequence->submit->tag);
}

static void handle_cancel(struct engine *engine, const struct message *message)
{
    list_for_each_safe(node, &engine->runs)
    {
        struct sequence *sequence = list_entry(node, struct sequence, link);
        if (!is_of(sequence, message) || sequence->state == SEQUENCE_FINISHED)
            continue;
        engine->stats.n_cancelled++;
        finish_run(engine, sequence, END_CANCELLED);
        if (sequence->n_steps == 0)
            admission_end(engine, sequence); /* else admission_sweep does when they are over */
    }
}

static void handle_credit(struct engine *engine, const struct message *message)
{
    list_for_each(node, &engine->runs)
    {
        struct sequence *sequence = list_entry(node, struct sequence, link);
        if (!is_of(sequence, message))
            continue;
        uint32_t room = CALL_CREDIT_EVENTS - sequence->n_credit; /* ring B counts on this */
        sequence->n_credit += message->n_credit < room ? message->n_credit : room;
        if (sequence->state == SEQUENCE_PAUSED && sequence->n_credit > 0)
            sequence_set_state(sequence, SEQUENCE_DECODE, &engine->counts,
                               clock_now(engine->clock));
    }
}

static void handle_estimate(struct engine *engine, const struct message *message)
{
    struct submit *submit = message->submit;
    struct event_refused refused = {.status = STATUS_OK};
    struct kv_cache_stats cache;
    uint32_t n_output;

    struct event *event =
        publish_begin(engine, EVENT_ESTIMATE, message->call_id, 0, EVENT_BYTES_OF(estimate));
    struct event_estimate *out = &event->estimate;
    *out = (struct event_estimate){.accepted = {.n_prompt = submit->n_ids}};
    out->status = judge_submit(engine, submit, &n_output, &out->accepted, &refused);
    snprintf(out->text, sizeof out->text, "%s", refused.text);
    kv_cache_read_stats(engine->cache, &cache);
    struct kv_family family =
        choices_family(submit, submit_n_choices(submit),
                       n_output > 0 ? n_output : submit->max_tokens); /* refused for its size */
    out->n_pages = choices_pages(engine, &family);
    out->n_bytes = kv_cache_family_bytes(engine->cache, &family);
    out->n_free_pages = cache.n_available;
    publish_end(engine, EVENT_BYTES_OF(estimate));
    submit_free(message->submit);
}

void admission_drain(struct engine *engine)
{
    struct message message;

    while (ring_try_pop(engine->messages, &message)) {
        switch (message.kind) {
        case MESSAGE_SUBMIT:
            admit(engine, message.submit);
            break;
        case MESSAGE_CANCEL:
            handle_cancel(engine, &message);
            break;
        case MESSAGE_CREDIT:
            handle_credit(engine, &message);
            break;
        case MESSAGE_STATS:
            look_stats(engine, &message);
            break;
        case MESSAGE_TABLES:
            look_tables(engine, &message);
            break;
        case MESSAGE_ESTIMATE:
            handle_estimate(engine, &message);
            break;
        }
    }
    publish_wake(engine);
}

/* --- ends, and pages for those that wait --- */

static void close_pages(struct engine *engine, struct sequence *sequence)
{
    assert(sequence->state == SEQUENCE_FINISHED && sequence->n_steps == 0);
    if (!sequence_has_pages(sequence))
        return;
    kv_cache_close(engine->cache, sequence->kv);
    sequence->kv = KV_SEQ_NONE;
    engine->n_running--;
}

void admission_end(struct engine *engine, struct sequence *sequence)
{
    close_pages(engine, sequence);
    engine->n_grammars -= sequence->submit->grammar != NULL;
    submit_free(sequence->submit);
    sequence->submit = NULL;
    list_unlink(&sequence->link);
    list_append(&engine->free, &sequence->link);
    engine->n_runs--;
}

void admission_sweep(struct engine *engine)
{
    int64_t now_ns = clock_now(engine->clock);

    list_for_each_safe(node, &engine->runs)
    {
        struct sequence *sequence = list_entry(node, struct sequence, link);
        int64_t deadline_ns = sequence->submit->deadline_ns;
        if (sequence->state != SEQUENCE_FINISHED && deadline_ns != 0 && now_ns >= deadline_ns)
            finish_run(engine, sequence, END_OVERDUE);
        if (sequence->state != SEQUENCE_FINISHED || sequence->n_steps > 0)
            continue;
        close_pages(engine, sequence);
        finish_tell(engine, sequence);
        admission_end(engine, sequence);
    }
}

/* False: another is reading what it would read, and the pages of it come by themselves; or the host
 * pool has more of it than comes at once. */
static bool start(struct engine *engine, struct sequence *sequence, bool had_pages, int64_t now_ns)
{
    if (prompt_prefix_waits(engine, sequence))
        return false;
    if ((had_pages || kv_cache_has_host(engine->cache)) &&
        prompt_prefix_match_again(engine, sequence)) {
        engine->is_recalling = true;
        return false;
    }
    choices_set_state(engine, sequence, SEQUENCE_PREFILL, now_ns);
    choices_try_fork(engine, sequence);
    return true;
}

void admission_open_pages(struct engine *engine)
{
    int64_t now_ns = clock_now(engine->clock);
    bool is_full = false;

    engine->is_blocked = engine->is_recalling = false;
    list_for_each(node, &engine->runs)
    {
        struct sequence *sequence = list_entry(node, struct sequence, link);
        bool is_new = sequence->state == SEQUENCE_QUEUED;
        if (!is_new && sequence->state != SEQUENCE_WAITING_PAGES && !preempt_may_return(sequence))
            continue;
        if (sequence->submit->choice_idx > 0 && sequence->state != SEQUENCE_SPILLED)
            continue; /* as the first */
        /* In order, nobody overtakes: so a large one is never starved by small ones. */
        bool had_pages = sequence_has_pages(sequence);
        if (had_pages || (!is_full && open_pages(engine, sequence, now_ns))) {
            if (start(engine, sequence, had_pages, now_ns))
                continue;
        } else {
            is_full = true;
        }
        if (is_new)
            choices_set_state(engine, sequence, SEQUENCE_WAITING_PAGES, now_ns);
    }
}
