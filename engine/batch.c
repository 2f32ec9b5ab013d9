#include "engine/batch.h"

#include "base/status.h"
#include "model/grammar.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int batch_create(struct device *device, uint32_t max_outputs, uint32_t vocabulary,
                 const struct lookback *lookback, struct batch **out, struct why *why)
{
    struct batch *batch = calloc(1, sizeof *batch);

    if (batch == NULL)
        return refuse(why, STATUS_NO_MEMORY, "no memory for a batch (%zu bytes)", sizeof *batch);
    batch->device = device;
    batch->lookback = *lookback;
    batch->mask_words = (uint32_t)grammar_mask_words(vocabulary);
    batch->vocabulary = vocabulary;
    const struct {
        size_t bytes;
        void **memory;
    } parts[] = {
        {sizeof *batch->arrays, (void **)&batch->arrays},
        {max_outputs * sizeof *batch->results, (void **)&batch->results},
        {(size_t)max_outputs * batch->mask_words * sizeof *batch->masks, (void **)&batch->masks},
        {(size_t)max_outputs * LOGIT_BIASES_MAX * sizeof *batch->biases, (void **)&batch->biases},
        {(size_t)COUNT_ROWS_MAX * vocabulary * sizeof *batch->count_rows,
         (void **)&batch->count_rows},
    };
    int status = STATUS_OK;
    for (size_t i = 0; i < sizeof parts / sizeof *parts && status == STATUS_OK; i++)
        status = device_alloc_host(device, parts[i].bytes, parts[i].memory, why);
    if (status < 0) {
        batch_free(batch);
        return refuse_prefix(why, status, "a batch of %u outputs", max_outputs);
    }
    *out = batch;
    return STATUS_OK;
}

void batch_free(struct batch *batch)
{
    if (batch == NULL)
        return;
    device_free_host(batch->device, batch->arrays);
    device_free_host(batch->device, batch->results);
    device_free_host(batch->device, batch->masks);
    device_free_host(batch->device, batch->biases);
    device_free_host(batch->device, batch->count_rows);
    free(batch);
}

void batch_clear(struct batch *batch, int64_t now_ns)
{
    batch->n_rows = batch->n_seqs = batch->n_outputs = batch->max_position = 0;
    batch->n_masks = batch->n_biases = batch->n_count_rows = 0;
    batch->work = (struct step_work){.lookback = &batch->lookback};
    batch->begun_ns = now_ns;
}

/* Of the token at `position`. */
static uint32_t count_slot_of(const struct sequence *sequence, uint32_t position)
{
    if (!sequence_is_counted(sequence))
        return COUNT_NONE;
    return sequence->kv | (position < sequence->submit->n_ids ? 0 : COUNT_OUTPUT);
}

/* Of the token that the row at `position` draws. */
static struct sample_params params_of(const struct sequence *sequence, uint32_t position)
{
    const struct submit *submit = sequence->submit;
    const struct sampling *sampling = &submit->sampling;
    uint32_t output_position = position + 1 - submit->n_ids;

    return (struct sample_params){
        .temperature = sampling->temperature,
        .top_p = sampling->top_p,
        .min_p = sampling->min_p,
        .typical_p = sampling->typical_p,
        .repetition = sampling->repetition,
        .frequency = sampling->frequency,
        .presence = sampling->presence,
        .top_k = sampling->top_k,
        .n_top = submit->want_logprobs ? submit->n_top : 0,
        .want_logprob = submit->want_logprobs,
        .mask_banned = submit->ignore_eos || output_position < submit->min_tokens,
        .count_slot = sequence_is_counted(sequence) ? (int32_t)sequence->kv : -1,
        .mask_slot = -1,
        .choice_idx = submit->choice_idx,
        .seed = sequence->seed,
        .position = output_position,
    };
}

/* The token at the sequence's next place: one of the prompt, the newest, or the one that the step
 * before this draws. */
static struct row_input next_input(const struct sequence *sequence)
{
    if (sequence_is_reading(sequence))
        return (struct row_input){.kind = ROW_TOKEN,
                                  .value = sequence_text_id(sequence, sequence->n_launched)};
    uint32_t n_drawn = sequence_n_drawn(sequence);
    assert(n_drawn <= 1); /* or the step before it would have to be under way still */
    if (n_drawn == 1)
        return (struct row_input){.kind = ROW_SAMPLED, .value = sequence->output_idx};
    return (struct row_input){.kind = ROW_TOKEN, .value = sequence->last_id};
}

static void add_mask(struct batch *batch, const struct grammar *grammar,
                     struct sample_params *params)
{
    uint32_t *words = batch->masks + (size_t)batch->n_masks * batch->mask_words;

    memcpy(words, grammar_mask(grammar), batch->mask_words * sizeof *words);
    params->mask_slot = (int32_t)batch->n_masks++;
    /* a grammar that can only end goes before the least number of tokens */
    params->mask_banned &= grammar_may_go_on(grammar);
}

static void add_biases(struct batch *batch, const struct sampling *sampling,
                       struct sample_params *params)
{
    params->first_bias = batch->n_biases;
    params->n_biases = sampling->n_biases;
    for (uint32_t i = 0; i < sampling->n_biases; i++)
        batch->biases[batch->n_biases++] =
            (struct sample_bias){sampling->biases[i].id, sampling->biases[i].bias};
}

static void set_output(struct batch_arrays *arrays, uint32_t idx, uint32_t row)
{
    arrays->output_rows[idx] = row;
    arrays->output_position[idx] = arrays->position[row];
    arrays->output_seq[idx] = arrays->row_seq[row];
    arrays->output_begin[idx] = idx;
    arrays->output_begin[idx + 1] = idx + 1;
}

static void add_output(struct batch *batch, struct sequence *sequence)
{
    struct batch_arrays *arrays = batch->arrays;
    struct sample_params *params = &arrays->params[batch->n_outputs];
    uint32_t row = batch->n_rows - 1;

    set_output(arrays, batch->n_outputs, row);
    *params = params_of(sequence, arrays->position[row]);
    add_biases(batch, &sequence->submit->sampling, params);
    if (sequence->submit->grammar != NULL)
        add_mask(batch, sequence->submit->grammar, params);
    sequence->output_idx = batch->n_outputs;
    batch->outputs[batch->n_outputs++] = sequence;
}

/* Of the text's tokens that are in the cache already, as the op counts them. */
static void add_counts(struct batch *batch, const struct sequence *sequence)
{
    uint32_t *counts = batch->count_rows + (size_t)batch->n_count_rows * batch->vocabulary;

    assert(batch->n_count_rows < COUNT_ROWS_MAX);
    assert(sequence_is_reading(sequence));
    memset(counts, 0, batch->vocabulary * sizeof *counts);
    for (uint32_t i = 0; i < sequence->n_launched; i++) {
        uint32_t *place = &counts[sequence_text_id(sequence, i)];
        *place = i < sequence->submit->n_ids ? 1 : *place + 2;
    }
    batch->count_slots[batch->n_count_rows++] = sequence->kv;
}

void batch_add(struct batch *batch, struct sequence *sequence, uint32_t n_rows)
{
    struct batch_arrays *arrays = batch->arrays;
    uint32_t first = sequence->n_launched;
    bool is_reading = sequence_is_reading(sequence);

    assert(n_rows > 0 && n_rows <= sequence_n_wanted(sequence));
    assert(batch->n_rows + n_rows <= STEP_ROWS_MAX);
    if (sequence_lacks_counts(sequence))
        add_counts(batch, sequence);
    sequence->has_counts = sequence_is_counted(sequence);
    arrays->seq_begin[batch->n_seqs] = batch->n_rows;
    for (uint32_t i = 0; i < n_rows; i++) {
        uint32_t row = batch->n_rows++;
        arrays->inputs[row] = next_input(sequence);
        arrays->position[row] = sequence->n_launched++;
        arrays->row_seq[row] = sequence->kv;
        arrays->count_slots[row] = count_slot_of(sequence, arrays->position[row]);
    }
    if (first + n_rows - 1 > batch->max_position)
        batch->max_position = first + n_rows - 1;
    if (is_reading)
        step_work_add_prefill(&batch->work, first, n_rows);
    else
        step_work_add_decode(&batch->work, first);
    if (!sequence_is_reading(sequence))
        add_output(batch, sequence);
    batch->n_rows_of[batch->n_seqs] = n_rows;
    batch->sequences[batch->n_seqs++] = sequence;
    arrays->seq_begin[batch->n_seqs] = batch->n_rows;
    sequence->n_steps++;
}

bool batch_is_decode(const struct batch *batch)
{
    return batch->n_rows == batch->n_outputs;
}

void batch_fill_up(struct batch *batch, uint32_t n_rows, kv_seq_id padding)
{
    struct batch_arrays *arrays = batch->arrays;

    assert(batch_is_decode(batch) && n_rows <= STEP_ROWS_MAX);
    assert(n_rows >= batch->n_rows && n_rows - batch->n_rows <= PAGE_TOKENS);
    for (uint32_t row = batch->n_rows; row < n_rows; row++) {
        arrays->inputs[row] = (struct row_input){.kind = ROW_TOKEN, .value = 0};
        arrays->position[row] = row - batch->n_rows;
        arrays->row_seq[row] = padding;
        arrays->count_slots[row] = COUNT_NONE;
        set_output(arrays, row, row);
        arrays->params[row] =
            (struct sample_params){.top_p = 1, .repetition = 1, .count_slot = -1, .mask_slot = -1};
        arrays->seq_begin[row + 1] = row + 1;
    }
}
