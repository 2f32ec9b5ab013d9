#include "engine/preempt.h"

#include "engine/engine_state.h"

#include <assert.h>

static bool may_give_way(const struct engine *engine, const struct sequence *sequence,
                         int64_t now_ns)
{
    return sequence->state == SEQUENCE_PAUSED && sequence->n_steps == 0 &&
           sequence->submit->answer != NULL &&
           now_ns - sequence->paused_since_ns >= engine->options.preempt_ns;
}

static struct sequence *longest_paused(const struct engine *engine, int64_t now_ns)
{
    struct sequence *longest = NULL;

    list_for_each(node, &engine->runs)
    {
        struct sequence *sequence = list_entry(node, struct sequence, link);
        if (may_give_way(engine, sequence, now_ns) &&
            (longest == NULL || sequence->paused_since_ns < longest->paused_since_ns))
            longest = sequence;
    }
    return longest;
}

bool preempt_one(struct engine *engine, int64_t now_ns)
{
    struct sequence *sequence = longest_paused(engine, now_ns);

    if (sequence == NULL)
        return false;
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
