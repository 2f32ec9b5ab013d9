#include "engine/sequence.h"

#include <assert.h>

#define TO(state) (1u << SEQUENCE_##state)

static const uint8_t legal[SEQUENCE_STATES] = {
    [SEQUENCE_QUEUED] = TO(WAITING_PAGES) | TO(PREFILL) | TO(FINISHED),
    [SEQUENCE_WAITING_PAGES] = TO(PREFILL) | TO(FINISHED),
    [SEQUENCE_PREFILL] = TO(DECODE) | TO(PAUSED) | TO(SPILLED) | TO(FINISHED),
    [SEQUENCE_DECODE] = TO(PAUSED) | TO(SPILLED) | TO(FINISHED),
    [SEQUENCE_PAUSED] = TO(DECODE) | TO(SPILLED) | TO(FINISHED),
    [SEQUENCE_SPILLED] = TO(PREFILL) | TO(DECODE) | TO(PAUSED) | TO(FINISHED),
    [SEQUENCE_FINISHED] = 0,
};

const char *sequence_state_name(enum sequence_state state)
{
    static const char *const names[SEQUENCE_STATES] = {
        "QUEUED", "WAITING_PAGES", "PREFILL", "DECODE", "PAUSED", "SPILLED", "FINISHED"};
    return names[state];
}

void sequence_set_state(struct sequence *sequence, enum sequence_state next,
                        struct sequence_counts *counts, int64_t now_ns)
{
    enum sequence_state before = sequence->state;

    assert(legal[before] & (1u << next));
    assert(counts->n[before] > 0);
    if (before == SEQUENCE_PAUSED || before == SEQUENCE_SPILLED)
        sequence->paused_ns += now_ns - sequence->paused_since_ns;
    if (next == SEQUENCE_PAUSED || next == SEQUENCE_SPILLED)
        sequence->paused_since_ns = now_ns;
    if (next == SEQUENCE_PREFILL)
        sequence->reads_ns = now_ns;
    if (next == SEQUENCE_PREFILL && before != SEQUENCE_SPILLED)
        sequence->started_ns = now_ns;
    if (next == SEQUENCE_DECODE && sequence->decode_ns == 0)
        sequence->decode_ns = now_ns;
    counts->n[before]--;
    counts->n[next] += next != SEQUENCE_FINISHED;
    sequence->state = next;
}

bool sequence_has_pages(const struct sequence *sequence)
{
    return sequence->kv != KV_SEQ_NONE;
}

uint32_t sequence_n_context(const struct sequence *sequence)
{
    uint32_t n_drawn = sequence->n_generated - sequence->n_reread; /* behind the text */
    return sequence->n_prefilled + (n_drawn > 0 ? n_drawn - 1 : 0);
}

uint32_t sequence_n_text(const struct sequence *sequence)
{
    return sequence->submit->n_ids + sequence->n_reread;
}

uint32_t sequence_text_id(const struct sequence *sequence, uint32_t i)
{
    const struct submit *submit = sequence->submit;
    return i < submit->n_ids ? submit->ids[i] : submit->answer[i - submit->n_ids];
}

bool sequence_is_reading(const struct sequence *sequence)
{
    return sequence->n_launched < sequence_n_text(sequence);
}

bool sequence_is_counted(const struct sequence *sequence)
{
    const struct sampling *sampling = &sequence->submit->sampling;
    return sampling->repetition != 1 || sampling->frequency != 0 || sampling->presence != 0;
}

bool sequence_lacks_counts(const struct sequence *sequence)
{
    return sequence_is_counted(sequence) && !sequence->has_counts && sequence->n_launched > 0;
}

uint32_t sequence_n_drawn(const struct sequence *sequence)
{
    if (sequence_is_reading(sequence))
        return 0;
    return sequence->n_launched - sequence->submit->n_ids + 1 - sequence->n_generated;
}

void sequence_learn_mask(struct sequence *sequence, int64_t took_ns)
{
    int64_t before_ns = sequence->mask_ns;
    sequence->mask_ns = took_ns > before_ns ? took_ns : before_ns + (took_ns - before_ns) / 8;
}

uint32_t sequence_n_wanted(const struct sequence *sequence)
{
    if (sequence->state != SEQUENCE_PREFILL && sequence->state != SEQUENCE_DECODE)
        return 0;
    if (sequence_is_reading(sequence)) {
        uint32_t n_left = sequence_n_text(sequence) - sequence->n_launched;
        return sequence->next_choice != NULL ? n_left - 1 : n_left; /* the last when it is forked */
    }
    uint32_t n_drawn = sequence_n_drawn(sequence);
    if (sequence->submit->grammar != NULL && n_drawn > 0)
        return 0;
    return sequence->n_generated + n_drawn < sequence->promised_output &&
           n_drawn < sequence->n_credit;
}
