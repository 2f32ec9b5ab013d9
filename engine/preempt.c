#include "engine/preempt.h"

#include "engine/choices.h"
#include "engine/engine_state.h"
#include "engine/prompt_prefix.h"
#include "kvcache/kv_relief.h"

#include <assert.h>

static bool may_give_way(const struct engine *engine, const struct sequence *sequence,
                         int64_t now_ns)
{
    return sequence->state == SEQUENCE_PAUSED && sequence->n_steps == 0 &&
           sequence->submit->answer != NULL &&
           now_ns - sequence->paused_since_ns >= engine->options.preempt_ns;
}

static void give_way(struct engine *engine, struct sequence *sequence, int64_t now_ns)
{
    assert(sequence->next_choice == NULL && sequence_has_pages(sequence));
    kv_cache_close(engine->cache, sequence->kv);
    sequence->kv = KV_SEQ_NONE;
    engine->n_running--;
    sequence->n_reread = sequence->n_generated;
    sequence->n_prefilled = sequence->n_launched = sequence->n_begun = 0;
    sequence->has_counts = false;
    sequence_set_state(sequence, SEQUENCE_SPILLED, &engine->counts, now_ns);
    list_unlink(&sequence->link);
    list_append(&engine->runs, &sequence->link);
    engine->stats.n_preempted++;
}

/* --- who --- */

static uint32_t find_all(const struct engine *engine, int64_t now_ns, struct sequence **out)
{
    uint32_t n = 0;

    list_for_each(node, &engine->runs)
    {
        struct sequence *sequence = list_entry(node, struct sequence, link);
        if (may_give_way(engine, sequence, now_ns))
            out[n++] = sequence;
    }
    return n;
}

static bool without_all(struct engine *engine, const struct kv_family *family,
                        struct sequence *const *runs, uint32_t n)
{
    kv_relief_begin(engine->cache, family);
    for (uint32_t i = 0; i < n; i++)
        kv_relief_add(engine->cache, runs[i]->kv);
    return kv_relief_suffices(engine->cache);
}

/* With its match, or where only that fits, with none. */
static bool would_do(struct engine *engine, struct kv_family *family, struct sequence *const *runs,
                     uint32_t n)
{
    if (n == 0 || without_all(engine, family, runs, n))
        return n > 0;
    kv_cache_match(engine->cache, NULL, &family->match);
    return without_all(engine, family, runs, n);
}

/* The youngest of those whose pages would do alone: it has the least to read again. */
static struct sequence *find_one(struct engine *engine, const struct kv_family *family,
                                 struct sequence *const *runs, uint32_t n)
{
    struct sequence *youngest = NULL;

    kv_relief_begin(engine->cache, family);
    for (uint32_t i = 0; i < n; i++) {
        kv_relief_add(engine->cache, runs[i]->kv);
        if (kv_relief_suffices(engine->cache) &&
            (youngest == NULL || sequence_n_context(runs[i]) < sequence_n_context(youngest)))
            youngest = runs[i];
        kv_relief_remove(engine->cache, runs[i]->kv);
    }
    return youngest;
}

/* Keeps its pages rather than the other: it would leave fewer, or has more to read again. */
static bool is_spared_before(const struct sequence *a, const struct sequence *b)
{
    uint64_t a_promised = (uint64_t)a->submit->n_ids + a->promised_output;
    uint64_t b_promised = (uint64_t)b->submit->n_ids + b->promised_output;
    return a_promised != b_promised ? a_promised < b_promised
                                    : sequence_n_context(a) > sequence_n_context(b);
}

/* Of all n, who are in, the few without whom it would not do: they come first in runs. */
static uint32_t spare_others(struct engine *engine, struct sequence **runs, uint32_t n)
{
    for (uint32_t n_needed = 0; n_needed < n;) {
        uint32_t at = n_needed;
        for (uint32_t i = at + 1; i < n; i++)
            at = is_spared_before(runs[i], runs[at]) ? i : at;
        struct sequence *next = runs[at];
        kv_relief_remove(engine->cache, next->kv);
        if (kv_relief_suffices(engine->cache)) {
            runs[at] = runs[--n];
            continue;
        }
        kv_relief_add(engine->cache, next->kv);
        runs[at] = runs[n_needed];
        runs[n_needed++] = next;
    }
    return n;
}

/* --- what --- */

bool preempt_would_do(struct engine *engine, struct kv_family family, int64_t now_ns)
{
    struct sequence **runs = engine->candidate_sequences;
    return would_do(engine, &family, runs, find_all(engine, now_ns, runs));
}

bool preempt_for(struct engine *engine, const struct sequence *first, int64_t now_ns)
{
    struct sequence **runs = engine->candidate_sequences; /* of a plan that is yet to be made */
    struct kv_family family =
        choices_family(first->submit, choices_count(first), first->promised_output);
    uint32_t n = find_all(engine, now_ns, runs);

    if (n > 0)
        prompt_prefix_match_text(engine, first, &family);
    if (!would_do(engine, &family, runs, n))
        return false;
    struct sequence *alone = find_one(engine, &family, runs, n);
    if (alone != NULL) {
        give_way(engine, alone, now_ns);
        return true;
    }
    without_all(engine, &family, runs, n);
    n = spare_others(engine, runs, n);
    for (uint32_t i = 0; i < n; i++)
        give_way(engine, runs[i], now_ns);
    return true;
}

bool preempt_is_away(const struct sequence *sequence)
{
    return sequence->state == SEQUENCE_SPILLED && sequence->n_credit == 0;
}

bool preempt_may_return(const struct sequence *sequence)
{
    return sequence->state == SEQUENCE_SPILLED && sequence->n_credit > 0;
}
