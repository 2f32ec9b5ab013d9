/* Messages of the loop: submits are answered at once, also while a step runs; what would disturb it
 * (pages of a cancelled sequence that it is writing) waits for its end. */
#include "engine/engine_state.h"
#include "base/text.h"
#include "model/model.h"
#include "model/vocabulary.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

static int fill(struct event_refused *out, int status, double asked, double there, const char *unit,
                const char *setting)
{
    out->status = status;
    out->numbers[0] = asked;
    out->numbers[1] = there;
    snprintf(out->unit, sizeof out->unit, "%s", unit);
    snprintf(out->setting, sizeof out->setting, "%s", setting);
    return status;
}

#define SAY(out, ...) snprintf((out)->text, sizeof(out)->text, __VA_ARGS__)

static int check_alive(const struct engine *engine, struct event_refused *out)
{
    if (!engine->is_lost)
        return STATUS_OK;
    SAY(out, "the device failed and the server is ending: send the call again when it has been "
             "started anew");
    return out->status = STATUS_UNAVAILABLE;
}

/* Beyond what a GPU's memory left of the trained context, of which nobody asked for less. */
static int refuse_beyond_memory(const struct engine *engine, uint64_t asked,
                                struct event_refused *out)
{
    uint32_t context = engine->options.max_context;
    SAY(out,
        "this takes %" PRIu64 " tokens of context; the memory of %s holds %u: shorten the prompt, "
        "lower max_tokens, or serve on a GPU with more memory (--device)",
        asked, engine->info.device, context);
    return fill(out, STATUS_TOO_LARGE, (double)asked, context, "tokens", "--device");
}

/* Tokens that the sequence may generate; refuses what cannot fit. */
static int check_size(const struct engine *engine, const struct submit *submit, uint32_t *n_output,
                      struct event_refused *out)
{
    uint32_t context = engine->options.max_context, room = engine->info.max_context;
    uint64_t asked = (uint64_t)submit->n_ids + (submit->has_max_tokens ? submit->max_tokens : 1);

    if (submit->n_ids == 0 || (submit->has_max_tokens && submit->max_tokens == 0)) {
        SAY(out, "%s",
            submit->n_ids == 0 ? "the prompt holds no token"
                               : "max_tokens is 0; it takes 1 or more");
        return fill(out, STATUS_INVALID, 0, 1, "tokens", "");
    }
    if (asked > context) {
        bool may_grow = engine->info.trained_context > context;
        if (may_grow && !engine->has_asked_context)
            return refuse_beyond_memory(engine, asked, out);
        SAY(out,
            "this takes %" PRIu64 " tokens of context (a prompt of %u and an answer of %" PRIu64
            "); the server gives %u: shorten the prompt, lower max_tokens%s",
            asked, submit->n_ids, asked - submit->n_ids, context,
            may_grow ? ", or start it with a larger --max-context" : "");
        return fill(out, STATUS_INVALID, (double)asked, context, "tokens",
                    may_grow ? "--max-context" : "");
    }
    if (asked > room) {
        char need[TEXT_NUMBER_BYTES], have[TEXT_NUMBER_BYTES];
        SAY(out,
            "this takes %" PRIu64
            " tokens (%s of keys and values); the cache holds %u (%s): start the server with a "
            "larger --kv-memory",
            asked, text_bytes(need, asked * engine->info.token_bytes), room,
            text_bytes(have, engine->info.kv_bytes));
        return fill(out, STATUS_TOO_LARGE, (double)asked, room, "tokens", "--kv-memory");
    }
    /* last: of a prompt that fits, so that the step does not wait while millions are read; an
     * estimate may have none */
    for (uint32_t i = 0; submit->ids != NULL && i < submit->n_ids; i++)
        if (submit->ids[i] >= engine->info.vocabulary) {
            SAY(out, "token id %u at position %u is beyond the vocabulary of %u", submit->ids[i], i,
                engine->info.vocabulary);
            return fill(out, STATUS_INVALID, submit->ids[i], engine->info.vocabulary - 1,
                        "token id", "");
        }
    *n_output = submit->has_max_tokens ? submit->max_tokens : room - submit->n_ids;
    return STATUS_OK;
}

/* Under a grammar a token waits for the mask that the one before it decides: of steps that overlap
 * it has every second one. */
static uint32_t steps_a_token(const struct engine *engine, const struct submit *submit)
{
    return submit->grammar != NULL ? engine->flight->depth : 1;
}

/* Of the others' prompts that have pages, as much as of this one is read first, since they share
 * alike; of those that wait before it, all. own: its place in the queue; NULL: behind all. */
static struct work_ahead work_ahead(const struct engine *engine, const struct submit *submit,
                                    const struct sequence *own, uint64_t n_tokens,
                                    uint32_t *n_ahead)
{
    const struct step_cost *cost = &engine->estimate.cost;
    double own_ns = step_cost_prefill(cost, 0, submit->n_ids);
    bool is_behind = false;
    struct work_ahead ahead = {0};
    uint64_t soonest = UINT64_MAX;

    *n_ahead = 0;
    list_for_each(node, &engine->runs)
    {
        const struct sequence *other = list_entry(node, struct sequence, link);
        is_behind |= other == own;
        if (is_behind && !sequence_has_pages(other))
            continue;
        if (other->state == SEQUENCE_FINISHED) { /* its pages come home with its step */
            soonest = 0;
            continue;
        }
        double other_ns = step_cost_prefill(cost, other->n_prefilled,
                                            other->submit->n_ids - other->n_prefilled);
        ahead.prefill_ns += sequence_has_pages(other) && other_ns > own_ns ? own_ns : other_ns;
        if (!sequence_has_pages(other)) {
            ++*n_ahead;
            continue;
        }
        uint64_t left = (uint64_t)(other->promised_output - other->n_generated) *
                        steps_a_token(engine, other->submit);
        soonest = left < soonest ? left : soonest;
        if (other->state == SEQUENCE_DECODE) {
            ahead.n_decode++;
            ahead.decode_tokens += sequence_n_context(other);
        }
    }
    if ((*n_ahead > 0 || !kv_cache_fits_now(engine->cache, n_tokens)) && soonest != UINT64_MAX)
        ahead.n_wait = soonest;
    return ahead;
}

double admission_wait_s(const struct engine *engine, const struct sequence *sequence)
{
    const struct submit *submit = sequence->submit;
    uint32_t n_ahead;

    if (engine->counts.n[SEQUENCE_PREFILL] + engine->counts.n[SEQUENCE_DECODE] == 0)
        return 0;
    struct work_ahead ahead =
        work_ahead(engine, submit, sequence, (uint64_t)submit->n_ids + sequence->promised_output,
                   &n_ahead);
    ahead.n_decode += engine->counts.n[SEQUENCE_PREFILL]; /* before they give their pages back */
    return estimate_first_token_s(&engine->estimate, &ahead, 0);
}

static int check_deadline(const struct engine *engine, const struct submit *submit, double needed_s,
                          struct event_refused *out)
{
    double left_s = (double)(submit->deadline_ns - clock_now(engine->clock)) / NS_PER_S;

    if (submit->deadline_ns == 0 || needed_s <= left_s)
        return STATUS_OK;
    SAY(out,
        "this takes about %.2f seconds (a prompt of %u tokens%s), and the deadline leaves %.2f: "
        "give it more "
        "time, or ask for less",
        needed_s, submit->n_ids, submit->has_max_tokens ? " and all of max_tokens" : "",
        left_s > 0 ? left_s : 0);
    return fill(out, STATUS_DEADLINE, needed_s, left_s > 0 ? left_s : 0, "seconds", "");
}

static void open_sequence(struct engine *engine, struct submit *submit, uint32_t n_output,
                          uint32_t n_ahead)
{
    struct sequence *sequence = list_entry(engine->free.next, struct sequence, link);
    struct slice stops[STOP_STRINGS_MAX];

    list_unlink(&sequence->link);
    memset(sequence, 0, sizeof *sequence);
    sequence->submit = submit;
    sequence->kv = KV_SEQ_NONE;
    sequence->state = SEQUENCE_QUEUED;
    sequence->promised_output = n_output;
    sequence->n_credit = CALL_CREDIT_EVENTS;
    sequence->mask_ns = MASK_NS_FIRST;
    sequence->n_ahead_first = n_ahead;
    sequence->n_ahead_told = AHEAD_UNTOLD;
    sequence->seed = submit->sampling.seed;
    if (!submit->sampling.has_seed && getrandom(&sequence->seed, sizeof sequence->seed, 0) < 0)
        sequence->seed = (uint64_t)clock_now(engine->clock);
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
}

/* Safe while a step runs: it takes pages out of the free ones and touches nothing else. */
static bool open_pages(struct engine *engine, struct sequence *sequence)
{
    uint64_t promised = (uint64_t)sequence->submit->n_ids + sequence->promised_output;
    if (!events_have_room(engine, engine->n_running + 1)) {
        engine->is_blocked = true;
        return false;
    }
    if (kv_cache_open(engine->cache, promised, &sequence->kv, NULL) < 0) {
        sequence->kv = KV_SEQ_NONE;
        return false;
    }
    engine->n_running++;
    return true;
}

static uint32_t count_waiting(const struct engine *engine)
{
    uint32_t n = 0;

    list_for_each(node, &engine->runs)
    {
        const struct sequence *sequence = list_entry(node, struct sequence, link);
        n += !sequence_has_pages(sequence) && sequence->state != SEQUENCE_FINISHED;
    }
    return n;
}

static int check_room(const struct engine *engine, uint64_t n_tokens, struct event_refused *out)
{
    uint32_t n_waiting = count_waiting(engine);
    bool starts_now = n_waiting == 0 && kv_cache_fits_now(engine->cache, n_tokens);
    if (!list_is_empty(&engine->free) && (starts_now || n_waiting < engine->options.max_queued))
        return STATUS_OK;
    SAY(out,
        "%u requests are waiting for pages, and no more may: try again later, or start the server "
        "with a larger "
        "--max-queued or --kv-memory",
        n_waiting);
    return fill(out, STATUS_EXHAUSTED, n_waiting + 1, engine->options.max_queued, "requests",
                "--max-queued");
}

/* A NaN here would be the device's error, and with it everybody's. */
static int check_sampling(const struct submit *submit, struct event_refused *out)
{
    const struct sampling *s = &submit->sampling;

    bool is_good = isfinite(s->temperature) && s->temperature >= 0 && s->top_p >= 0 &&
                   s->min_p >= 0 && s->min_p <= 1 && isfinite(s->repetition) &&
                   s->repetition > 0 && isfinite(s->frequency) && isfinite(s->presence) &&
                   submit->n_top <= TOP_LOGPROBS_MAX && s->n_biases <= LOGIT_BIASES_MAX;
    for (uint32_t i = 0; i < s->n_biases && is_good; i++)
        is_good = fabsf(s->biases[i].bias) <= LOGIT_BIAS_MAX;
    if (is_good)
        return STATUS_OK;
    SAY(out,
        "sampling is out of range: temperature %g (0 or more), top_p %g (0 to 1), min_p %g (0 to "
        "1), repetition_penalty %g (above 0), frequency_penalty %g, presence_penalty %g, "
        "logprobs %u (at most %d), %u logit biases (at most %d, each -%d to %d)",
        s->temperature, s->top_p, s->min_p, s->repetition, s->frequency, s->presence,
        submit->n_top, TOP_LOGPROBS_MAX, s->n_biases, LOGIT_BIASES_MAX, LOGIT_BIAS_MAX,
        LOGIT_BIAS_MAX);
    return out->status = STATUS_INVALID;
}

/* Ids that a request names beside its prompt, and what its parts ask of each other. */
static int check_ids(const struct engine *engine, const struct submit *submit,
                     struct event_refused *out)
{
    uint32_t vocabulary = engine->info.vocabulary, id = 0;

    for (uint32_t i = 0; i < submit->sampling.n_biases && id < vocabulary; i++)
        id = submit->sampling.biases[i].id;
    for (uint32_t i = 0; i < submit->n_stop_tokens && id < vocabulary; i++)
        id = submit->stop_tokens[i];
    if (id >= vocabulary) {
        SAY(out, "token id %u of logit_bias or stop_tokens is beyond the vocabulary of %u", id,
            vocabulary);
        return fill(out, STATUS_INVALID, id, vocabulary - 1, "token id", "");
    }
    for (uint32_t i = 0; i < submit->n_stop_tokens && submit->ignore_eos; i++) {
        if (!vocabulary_is_end_of_generation(model_vocabulary(engine->model),
                                             submit->stop_tokens[i]))
            continue;
        SAY(out,
            "stop_tokens names %u, an end of generation, which ignore_eos keeps from being drawn: "
            "leave one of them out",
            submit->stop_tokens[i]);
        return out->status = STATUS_INVALID;
    }
    if (submit->grammar == NULL || !submit->ignore_eos)
        return STATUS_OK;
    SAY(out, "ignore_eos beside a grammar or schema: where its text is complete nothing could be "
             "drawn; leave one of them out");
    return out->status = STATUS_INVALID;
}

/* Waiting ones hold theirs too. */
static int check_grammars(const struct engine *engine, const struct submit *submit,
                          struct event_refused *out)
{
    if (submit->grammar == NULL || engine->n_grammars < GRAMMARS_MAX)
        return STATUS_OK;
    SAY(out,
        "%u requests with a grammar or schema are under way, and no more may: try again when one "
        "has ended, or ask without one",
        engine->n_grammars);
    return fill(out, STATUS_EXHAUSTED, engine->n_grammars + 1.0, GRAMMARS_MAX, "grammars", "");
}

static int check_stops(const struct submit *submit, struct event_refused *out)
{
    struct slice stops[STOP_STRINGS_MAX];
    struct stop scratch;
    struct why why;

    for (uint32_t i = 0; i < submit->stop.n && i < STOP_STRINGS_MAX; i++)
        stops[i] = slice_of(submit->stop.bytes[i], submit->stop.len[i]);
    int status = stop_init(&scratch, stops, submit->stop.n, &why);
    if (status < 0)
        SAY(out, "%s", why.text);
    out->status = status;
    return status;
}

/* What admission says now; *accepted holds the estimates as far as it came. Changes nothing. */
static int judge(const struct engine *engine, const struct submit *submit, uint32_t *n_output,
                 struct event_accepted *accepted, struct event_refused *refused)
{
    double total_s = 0;

    *n_output = 0;
    int status = check_alive(engine, refused);
    if (status == STATUS_OK)
        status = check_size(engine, submit, n_output, refused);
    if (status == STATUS_OK)
        status = check_sampling(submit, refused);
    if (status == STATUS_OK)
        status = check_ids(engine, submit, refused);
    if (status == STATUS_OK)
        status = check_stops(submit, refused);
    if (status == STATUS_OK)
        status = check_grammars(engine, submit, refused);
    if (status < 0)
        return status;
    uint64_t n_tokens = (uint64_t)submit->n_ids + *n_output;
    struct work_ahead ahead = work_ahead(engine, submit, NULL, n_tokens, &accepted->n_ahead);
    accepted->max_tokens = *n_output;
    accepted->first_token_s = estimate_first_token_s(&engine->estimate, &ahead, submit->n_ids);
    total_s = accepted->first_token_s;
    if (submit->has_max_tokens)
        accepted->total_s = total_s += estimate_output_s(&engine->estimate, &ahead, submit->n_ids,
                                                         submit->max_tokens,
                                                         steps_a_token(engine, submit));
    status = check_room(engine, n_tokens, refused);
    return status == STATUS_OK ? check_deadline(engine, submit, total_s, refused) : status;
}

static void admit(struct engine *engine, struct submit *submit)
{
    struct event_refused refused = {.status = STATUS_OK};
    struct event_accepted accepted = {0};
    uint32_t n_output;

    if (judge(engine, submit, &n_output, &accepted, &refused) < 0) {
        engine->stats.n_refused++;
        publish_refused(engine, submit, &refused);
        submit_free(submit);
        return;
    }
    open_sequence(engine, submit, n_output, accepted.n_ahead);
    struct sequence *sequence = list_entry(engine->runs.prev, struct sequence, link);
    if (accepted.n_ahead == 0) /* promised at once, so that the next one is told the truth */
        open_pages(engine, sequence);
    accepted.seed = sequence->seed;
    accepted.n_prompt = submit->n_ids;
    accepted.max_tokens = n_output;
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
    const struct submit *submit = message->submit;
    struct event_refused refused = {.status = STATUS_OK};
    struct kv_cache_stats cache;
    uint32_t n_output;

    struct event *event =
        publish_begin(engine, EVENT_ESTIMATE, message->call_id, 0, EVENT_BYTES_OF(estimate));
    struct event_estimate *out = &event->estimate;
    *out = (struct event_estimate){.accepted = {.n_prompt = submit->n_ids}};
    out->status = judge(engine, submit, &n_output, &out->accepted, &refused);
    snprintf(out->text, sizeof out->text, "%s", refused.text);
    kv_cache_read_stats(engine->cache, &cache);
    uint64_t n_tokens = (uint64_t)submit->n_ids +
                        (n_output > 0 ? n_output : submit->max_tokens); /* refused for its size */
    out->n_pages = kv_cache_pages_of(engine->cache, n_tokens);
    out->n_bytes = out->n_pages * cache.page_bytes;
    out->n_free_pages = cache.n_available;
    publish_end(engine, EVENT_BYTES_OF(estimate));
    submit_free(message->submit);
}

static void handle_stats(struct engine *engine, const struct message *message)
{
    struct kv_cache_stats cache;
    struct engine_stats *stats = &engine->stats;

    kv_cache_read_stats(engine->cache, &cache);
    stats->uptime_s = (double)(clock_now(engine->clock) - engine->started_ns) / NS_PER_S;
    stats->n_pages = cache.n_pages;
    stats->n_pages_used = cache.n_used;
    stats->n_pages_reserved = cache.n_reserved;
    stats->n_saturated = cache.n_saturated;
    stats->n_queued = engine->counts.n[SEQUENCE_QUEUED] + engine->counts.n[SEQUENCE_WAITING_PAGES];
    stats->n_waiting_pages = engine->counts.n[SEQUENCE_WAITING_PAGES];
    stats->n_prefill = engine->counts.n[SEQUENCE_PREFILL];
    stats->n_decode = engine->counts.n[SEQUENCE_DECODE];
    stats->n_paused = engine->counts.n[SEQUENCE_PAUSED];
    struct event *event =
        publish_begin(engine, EVENT_STATS, message->call_id, 0, EVENT_BYTES_OF(stats));
    event->stats = *stats;
    publish_end(engine, EVENT_BYTES_OF(stats));
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
            handle_stats(engine, &message);
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

void admission_open_pages(struct engine *engine)
{
    int64_t now_ns = clock_now(engine->clock);
    bool is_full = false;

    engine->is_blocked = false;
    list_for_each(node, &engine->runs)
    {
        struct sequence *sequence = list_entry(node, struct sequence, link);
        bool is_new = sequence->state == SEQUENCE_QUEUED;
        if (!is_new && sequence->state != SEQUENCE_WAITING_PAGES)
            continue;
        /* In order of admission, nobody overtakes: so a large one is never starved by small ones.
         * */
        if (sequence_has_pages(sequence) || (!is_full && open_pages(engine, sequence))) {
            sequence_set_state(sequence, SEQUENCE_PREFILL, &engine->counts, now_ns);
            continue;
        }
        is_full = true;
        if (is_new)
            sequence_set_state(sequence, SEQUENCE_WAITING_PAGES, &engine->counts, now_ns);
    }
}
