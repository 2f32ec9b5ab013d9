/* How long it takes until a request has its turn: what others do before it, and what they read of
 * its prompt for it. */
#include "engine/choices.h"
#include "engine/engine_state.h"
#include "engine/preempt.h"
#include "engine/prompt_prefix.h"

uint32_t judge_steps_a_token(const struct engine *engine, const struct submit *submit)
{
    return submit->grammar != NULL ? engine->flight->depth : 1;
}

/* What it has left to read: of choices that wait for their fork the last token. */
static double text_ns(const struct engine *engine, const struct sequence *sequence)
{
    uint32_t n_left = sequence_n_text(sequence) - sequence->n_prefilled;
    return step_cost_prefill(&engine->estimate.cost, sequence->n_prefilled, n_left);
}

/* What a run with pages does beside one that has most_ns to read, since prompts share alike. */
static void add_beside(const struct engine *engine, const struct sequence *other, double most_ns,
                       struct work_ahead *ahead)
{
    const struct step_cost *cost = &engine->estimate.cost;
    double other_ns = text_ns(engine, other);

    ahead->prefill_ns += other_ns > most_ns ? most_ns : other_ns;
    if (other->state == SEQUENCE_DECODE) {
        ahead->n_decode++;
        ahead->decode_tokens += lookback_decode(&cost->lookback, sequence_n_context(other));
    }
}

/* What another, who is reading it, has left of the prompt behind its first *n_known tokens; the
 * rest goes on at the new *n_known. */
static double lead_ns(const struct engine *engine, const struct submit *submit, uint32_t *n_known)
{
    uint32_t end;
    const struct sequence *leader = prompt_prefix_leader(engine, submit, *n_known, &end);

    if (leader == NULL)
        return 0;
    *n_known = end;
    return step_cost_prefill(&engine->estimate.cost, leader->n_prefilled,
                             end - leader->n_prefilled);
}

struct work_ahead judge_work_ahead(const struct engine *engine, const struct submit *submit,
                                   const struct sequence *own, const struct kv_family *family,
                                   uint32_t *n_ahead)
{
    const struct step_cost *cost = &engine->estimate.cost;
    uint32_t n_known = family->match.n_pages * PAGE_TOKENS;
    double own_ns = lead_ns(engine, submit, &n_known);
    bool is_behind = false;
    uint64_t soonest = UINT64_MAX;
    struct work_ahead ahead = {.n_cached = n_known};

    *n_ahead = 0;
    own_ns += step_cost_prefill(cost, n_known, submit->n_ids - n_known);
    list_for_each(node, &engine->runs)
    {
        const struct sequence *other = list_entry(node, struct sequence, link);
        is_behind |= other == own;
        if (!sequence_has_pages(other) && (is_behind || preempt_is_away(other)))
            continue;
        if (other->state == SEQUENCE_FINISHED) { /* its pages come home with its step */
            soonest = 0;
            continue;
        }
        if (!sequence_has_pages(other)) {
            ahead.prefill_ns += text_ns(engine, other);
            *n_ahead += other->submit->choice_idx == 0 || other->state == SEQUENCE_SPILLED;
            continue;
        }
        add_beside(engine, other, own_ns, &ahead);
        uint64_t left = (uint64_t)(other->promised_output - other->n_generated) *
                        judge_steps_a_token(engine, other->submit);
        soonest = left < soonest ? left : soonest;
    }
    if ((*n_ahead > 0 || !kv_cache_family_fits_now(engine->cache, family)) && soonest != UINT64_MAX)
        ahead.n_wait = soonest;
    return ahead;
}

/* It has its pages: until another has read what both begin with. */
static double wait_for_leader_s(const struct engine *engine, const struct sequence *sequence)
{
    uint32_t n_known = sequence->n_prefilled;
    double most_ns = lead_ns(engine, sequence->submit, &n_known);
    struct work_ahead ahead = {0};

    if (most_ns == 0)
        return 0;
    list_for_each(node, &engine->runs)
    {
        const struct sequence *other = list_entry(node, struct sequence, link);
        if (sequence_has_pages(other) && other->state != SEQUENCE_FINISHED &&
            other->state != SEQUENCE_WAITING_PAGES)
            add_beside(engine, other, most_ns, &ahead);
    }
    return estimate_first_token_s(&engine->estimate, &ahead, 0);
}

double judge_wait_s(const struct engine *engine, const struct sequence *sequence)
{
    const struct submit *submit = sequence->submit;
    struct kv_family family =
        choices_family(submit, choices_count(sequence), sequence->promised_output);
    uint32_t n_ahead;

    if (engine->counts.n[SEQUENCE_PREFILL] + engine->counts.n[SEQUENCE_DECODE] == 0)
        return 0;
    if (sequence_has_pages(sequence))
        return wait_for_leader_s(engine, sequence);
    struct work_ahead ahead = judge_work_ahead(engine, submit, sequence, &family, &n_ahead);
    ahead.n_cached = 0; /* of its own prompt nothing is counted */
    ahead.n_decode += engine->counts.n[SEQUENCE_PREFILL]; /* before they give their pages back */
    return estimate_first_token_s(&engine->estimate, &ahead, 0);
}
