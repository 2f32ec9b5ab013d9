/* What admission says of a request: its numbers, or why not, and what would change that. Nothing
 * here changes anything. */
#include "engine/choices.h"
#include "engine/engine_state.h"
#include "engine/preempt.h"
#include "engine/prompt_prefix.h"

#include "base/text.h"
#include "model/model.h"
#include "model/vocabulary.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

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

static void say_beyond_cache(const struct engine *engine, uint64_t asked, struct event_refused *out)
{
    const struct kv_family family = {.n_promised = asked};
    char need[TEXT_NUMBER_BYTES], have[TEXT_NUMBER_BYTES];
    struct kv_cache_stats cache;

    kv_cache_read_stats(engine->cache, &cache);
    SAY(out,
        "this takes %" PRIu64 " tokens, %" PRIu64 " pages (%s of keys and values); the cache holds "
        "%u tokens, %u pages (%s), of which %u are free: shorten the prompt, lower max_tokens, or "
        "start the server with a larger --kv-memory",
        asked, kv_cache_family_pages(engine->cache, &family),
        text_bytes(need, kv_cache_family_bytes(engine->cache, &family)), engine->info.max_context,
        cache.n_pages, text_bytes(have, engine->info.kv_bytes), cache.n_available);
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
        say_beyond_cache(engine, asked, out);
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

/* The most tokens that each of the choices can have; 1 at least. */
static uint32_t most_output(const struct engine *engine, const struct submit *submit,
                            uint32_t n_choices)
{
    uint32_t fits = 1, beyond = engine->info.max_context - submit->n_ids + 1;

    while (beyond - fits > 1) {
        uint32_t middle = fits + (beyond - fits) / 2;
        struct kv_family family = choices_family(submit, n_choices, middle);
        if (kv_cache_family_fits_ever(engine->cache, &family))
            fits = middle;
        else
            beyond = middle;
    }
    return fits;
}

static void say_choices_beyond_cache(const struct engine *engine, const struct kv_family *family,
                                     uint32_t n_prompt, uint32_t n_output,
                                     struct event_refused *out)
{
    char need[TEXT_NUMBER_BYTES], have[TEXT_NUMBER_BYTES];
    struct kv_cache_stats cache;

    kv_cache_read_stats(engine->cache, &cache);
    SAY(out,
        "%u answers of %u tokens to a prompt of %u take %" PRIu64 " pages (%s of keys and values); "
        "the cache holds %u (%s), of which %u are free: ask for fewer (n, best_of), lower "
        "max_tokens, or start the server with a larger --kv-memory",
        family->n_forks + 1, n_output, n_prompt, kv_cache_family_pages(engine->cache, family),
        text_bytes(need, kv_cache_family_bytes(engine->cache, family)), cache.n_pages,
        text_bytes(have, engine->info.kv_bytes), cache.n_available);
}

/* What all choices take together. */
static int check_choices(const struct engine *engine, const struct submit *submit,
                         uint32_t n_choices, uint32_t *n_output, struct event_refused *out)
{
    uint32_t max_sequences = engine->options.max_sequences;

    if (n_choices == 1)
        return STATUS_OK;
    if (n_choices > max_sequences) {
        SAY(out,
            "%u answers to one prompt (n, best_of) are as many sequences; the server holds %u: ask "
            "for fewer, or start it with a larger --max-sequences",
            n_choices, max_sequences);
        return fill(out, STATUS_TOO_LARGE, n_choices, max_sequences, "sequences",
                    "--max-sequences");
    }
    if (!submit->has_max_tokens)
        *n_output = most_output(engine, submit, n_choices);
    struct kv_family family = choices_family(submit, n_choices, *n_output);
    if (kv_cache_family_fits_ever(engine->cache, &family))
        return STATUS_OK;
    say_choices_beyond_cache(engine, &family, submit->n_ids, *n_output, out);
    uint64_t n_pages = kv_cache_family_pages(engine->cache, &family);
    return fill(out, STATUS_TOO_LARGE, (double)n_pages, (double)engine->info.n_pages, "pages",
                "--kv-memory");
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

/* Runs without pages: those that want some, and those that gave theirs up and that nobody reads. */
static uint32_t count_waiting(const struct engine *engine, uint32_t *n_away)
{
    uint32_t n = 0;

    *n_away = 0;
    list_for_each(node, &engine->runs)
    {
        const struct sequence *sequence = list_entry(node, struct sequence, link);
        if (sequence_has_pages(sequence) || sequence->state == SEQUENCE_FINISHED)
            continue;
        bool is_away = preempt_is_away(sequence);
        *n_away += is_away;
        n += !is_away;
    }
    return n;
}

static int refuse_places(const struct engine *engine, uint32_t n, uint32_t n_waiting,
                         uint32_t n_away, struct event_refused *out)
{
    uint32_t max_sequences = engine->options.max_sequences, max_queued = engine->options.max_queued;

    SAY(out,
        "%u answers run, %u wait for pages and %u gave theirs up until they are read on; the "
        "server takes %u in all (--max-sequences %u and --max-queued %u), and %u more are too "
        "many: try again later, or start it with a larger --max-queued",
        engine->n_runs - n_waiting - n_away, n_waiting, n_away, max_sequences + max_queued,
        max_sequences, max_queued, n);
    return fill(out, STATUS_EXHAUSTED, engine->n_runs + n, max_sequences + max_queued, "requests",
                "--max-queued");
}

static int refuse_to_wait(const struct engine *engine, const struct kv_family *family, uint32_t n,
                          uint32_t n_waiting, struct event_refused *out)
{
    uint32_t max_queued = engine->options.max_queued;
    struct kv_cache_stats cache;
    char bytes[TEXT_NUMBER_BYTES];

    kv_cache_read_stats(engine->cache, &cache);
    SAY(out,
        "this needs %" PRIu64 " pages (%s), and %u of %u are free; %u of %u sequences have pages, "
        "%u wait for theirs, and %u more may not (--max-queued %u): try again later, or start the "
        "server with a larger --max-queued or --kv-memory",
        kv_cache_family_pages(engine->cache, family),
        text_bytes(bytes, kv_cache_family_bytes(engine->cache, family)), cache.n_available,
        cache.n_pages, cache.n_sequences, engine->options.max_sequences, n_waiting, n, max_queued);
    return fill(out, STATUS_EXHAUSTED, n_waiting + n, max_queued, "requests", "--max-queued");
}

static int check_room(struct engine *engine, const struct kv_family *family,
                      struct event_refused *out)
{
    uint32_t n = family->n_forks + 1, n_away, n_waiting = count_waiting(engine, &n_away);

    if (engine->n_runs + n > engine->options.max_sequences + engine->options.max_queued)
        return refuse_places(engine, n, n_waiting, n_away, out);
    if (n_waiting + n <= engine->options.max_queued)
        return STATUS_OK;
    bool starts_now =
        n_waiting == 0 && (kv_cache_family_fits_now(engine->cache, family) ||
                           preempt_would_do(engine, *family, clock_now(engine->clock)));
    return starts_now ? STATUS_OK : refuse_to_wait(engine, family, n, n_waiting, out);
}

/* A NaN here would be the device's error, and with it everybody's. */
static int check_sampling(const struct submit *submit, struct event_refused *out)
{
    const struct sampling *s = &submit->sampling;

    bool is_good = isfinite(s->temperature) && s->temperature >= 0 && s->top_p >= 0 &&
                   s->min_p >= 0 && s->min_p <= 1 && s->typical_p >= 0 && isfinite(s->repetition) &&
                   s->repetition > 0 && isfinite(s->frequency) && isfinite(s->presence) &&
                   submit->n_top <= TOP_LOGPROBS_MAX && s->n_biases <= LOGIT_BIASES_MAX;
    for (uint32_t i = 0; i < s->n_biases && is_good; i++)
        is_good = fabsf(s->biases[i].bias) <= LOGIT_BIAS_MAX;
    if (is_good)
        return STATUS_OK;
    SAY(out,
        "sampling is out of range: temperature %g (0 or more), top_p %g (0 to 1), min_p %g (0 to "
        "1), typical_p %g (0 to 1), repetition_penalty %g (above 0), frequency_penalty %g, "
        "presence_penalty %g, "
        "logprobs %u (at most %d), %u logit biases (at most %d, each -%d to %d)",
        s->temperature, s->top_p, s->min_p, s->typical_p, s->repetition, s->frequency, s->presence,
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
    uint32_t n = 0;
    for (const struct submit *choice = submit; choice != NULL; choice = choice->next_choice)
        n += choice->grammar != NULL;
    if (n == 0 || engine->n_grammars + n <= GRAMMARS_MAX)
        return STATUS_OK;
    SAY(out,
        "%u requests with a grammar or schema are under way, and no more may: try again when one "
        "has ended, or ask without one",
        engine->n_grammars);
    return fill(out, STATUS_EXHAUSTED, engine->n_grammars + n, GRAMMARS_MAX, "grammars", "");
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

static int check(const struct engine *engine, const struct submit *submit, uint32_t n_choices,
                 uint32_t *n_output, struct event_refused *refused)
{
    int status = check_alive(engine, refused);
    if (status == STATUS_OK)
        status = check_size(engine, submit, n_output, refused);
    if (status == STATUS_OK)
        status = check_choices(engine, submit, n_choices, n_output, refused);
    if (status == STATUS_OK)
        status = check_sampling(submit, refused);
    if (status == STATUS_OK)
        status = check_ids(engine, submit, refused);
    if (status == STATUS_OK)
        status = check_stops(submit, refused);
    return status == STATUS_OK ? check_grammars(engine, submit, refused) : status;
}

int judge_submit(struct engine *engine, struct submit *submit, uint32_t *n_output,
                 struct event_accepted *accepted, struct event_refused *refused)
{
    uint32_t n_choices = submit_n_choices(submit);
    double total_s = 0;

    *n_output = 0;
    accepted->n_choices = refused->n_choices = n_choices;
    int status = check(engine, submit, n_choices, n_output, refused);
    if (status < 0)
        return status;
    struct kv_family family = choices_family(submit, n_choices, *n_output);
    prompt_prefix_name(engine, submit); /* behind the checks: it takes time by the page */
    prompt_prefix_match(engine, submit, &family);
    struct work_ahead ahead = judge_work_ahead(engine, submit, NULL, &family, &accepted->n_ahead);
    accepted->n_cached = family.match.n_pages * PAGE_TOKENS;
    accepted->max_tokens = *n_output;
    accepted->first_token_s = estimate_first_token_s(&engine->estimate, &ahead, submit->n_ids);
    total_s = accepted->first_token_s;
    ahead.n_decode += n_choices - 1; /* beside the first */
    ahead.decode_tokens +=
        (n_choices - 1) * lookback_decode(&engine->estimate.cost.lookback, submit->n_ids);
    if (submit->has_max_tokens)
        accepted->total_s = total_s += estimate_output_s(&engine->estimate, &ahead, submit->n_ids,
                                                         submit->max_tokens,
                                                         judge_steps_a_token(engine, submit));
    status = check_room(engine, &family, refused);
    return status == STATUS_OK ? check_deadline(engine, submit, total_s, refused) : status;
}
