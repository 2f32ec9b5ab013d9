#include "engine/choices.h"

#include "engine/engine_state.h"
#include "engine/prompt_prefix.h"

#include <assert.h>

struct kv_family choices_family(const struct submit *first, uint32_t n_choices, uint32_t n_output)
{
    bool are_many = n_choices > 1 && first->n_ids > 0;
    return (struct kv_family){.n_promised = (uint64_t)first->n_ids + n_output,
                              .n_shared = are_many ? first->n_ids - 1 : 0,
                              .n_forks = n_choices - 1};
}

uint64_t choices_pages(const struct engine *engine, const struct kv_family *family)
{
    uint64_t n_pages = kv_cache_pages_of(engine->cache, family->n_promised);
    return family->n_forks == 0 ? n_pages : kv_cache_family_pages(engine->cache, family);
}

void choices_join(struct sequence *first, struct sequence *other)
{
    other->next_choice = first->next_choice != NULL ? first->next_choice : first;
    first->next_choice = other;
    other->n_launched = other->n_prefilled = first->submit->n_ids - 1;
}

uint32_t choices_count(const struct sequence *sequence)
{
    uint32_t n = 1;
    for (const struct sequence *other = sequence->next_choice;
         other != NULL && other != sequence; other = other->next_choice)
        n++;
    return n;
}

bool choices_open_pages(struct engine *engine, struct sequence *first)
{
    uint32_t n = choices_count(first);
    struct kv_family family = choices_family(first->submit, n, first->promised_output);
    kv_seq_id slots[CHOICES_MAX];
    struct sequence *sequence = first;

    assert(n <= CHOICES_MAX);
    if (!events_have_room(engine, engine->n_running + n)) {
        engine->is_blocked = true;
        return false;
    }
    prompt_prefix_name_text(engine, first);
    prompt_prefix_match_text(engine, first, &family);
    if (!kv_cache_family_fits_now(engine->cache, &family))
        return false;
    prompt_prefix_verify(engine, first, &family);
    if (kv_cache_open_family(engine->cache, &family, slots, NULL) < 0)
        return false;
    for (uint32_t i = 0; i < n; i++, sequence = sequence->next_choice)
        sequence->kv = slots[i];
    prompt_prefix_begin(engine, first, &family.match);
    engine->n_running += n;
    return true;
}

void choices_set_state(struct engine *engine, struct sequence *first, enum sequence_state next,
                       int64_t now_ns)
{
    struct sequence *sequence = first;

    do {
        sequence_set_state(sequence, next, &engine->counts, now_ns);
        sequence = sequence->next_choice;
    } while (sequence != NULL && sequence != first);
}

void choices_try_fork(struct engine *engine, struct sequence *first)
{
    struct sequence *other = first->next_choice;
    uint32_t n_shared = first->submit->n_ids - 1;

    if (other == NULL || first->n_prefilled < n_shared)
        return;
    assert(first->submit->choice_idx == 0 && first->n_launched == n_shared);
    first->next_choice = NULL;
    while (other != first) {
        struct sequence *next = other->next_choice;
        kv_cache_fork_into(engine->cache, first->kv, other->kv);
        other->has_counts = first->has_counts; /* else its first row begins the counts */
        if (first->has_counts)
            device_batch_copy(engine->on_device, first->kv, other->kv, engine->flight->stream);
        other->next_choice = NULL;
        other = next;
    }
}
