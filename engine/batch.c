#include "engine/batch.h"

#include "base/status.h"

#include <assert.h>
#include <stdlib.h>

int batch_create(struct device *device, uint32_t max_outputs, struct batch **out, struct why *why)
{
    struct batch *batch = calloc(1, sizeof *batch);
    void *arrays = NULL, *results = NULL;

    if (batch == NULL)
        return refuse(why, STATUS_NO_MEMORY, "no memory for a batch (%zu bytes)", sizeof *batch);
    int status = device_alloc_host(device, sizeof *batch->arrays, &arrays, why);
    if (status == STATUS_OK)
        status = device_alloc_host(device, max_outputs * sizeof *batch->results, &results, why);
    batch->device = device;
    batch->arrays = arrays;
    batch->results = results;
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
    free(batch);
}

void batch_clear(struct batch *batch, int64_t now_ns)
{
    batch->n_rows = batch->n_seqs = batch->n_outputs = batch->max_position = 0;
    batch->work = (struct step_work){.n_decode = 0};
    batch->begun_ns = now_ns;
}

static uint32_t count_slot_of(const struct sequence *sequence)
{
    return sequence->submit->sampling.repetition != 1 ? sequence->kv : COUNT_NONE;
}

/* Of the token that the row at `position` draws. */
static struct sample_params params_of(const struct sequence *sequence, uint32_t position)
{
    const struct submit *submit = sequence->submit;
    const struct sampling *sampling = &submit->sampling;
    uint32_t count_slot = count_slot_of(sequence);

    return (struct sample_params){
        .temperature = sampling->temperature,
        .top_p = sampling->top_p,
        .min_p = sampling->min_p,
        .repetition = sampling->repetition,
        .top_k = sampling->top_k,
        .n_top = submit->want_logprobs ? submit->n_top : 0,
        .want_logprob = submit->want_logprobs,
        .mask_banned = submit->ignore_eos,
        .count_slot = count_slot != COUNT_NONE ? (int32_t)count_slot : -1,
        .seed = sequence->seed,
        .position = position + 1 - submit->n_ids,
    };
}

/* The token at the sequence's next place: one of the prompt, the newest, or the one that the step
 * before this draws. */
static struct row_input next_input(const struct sequence *sequence)
{
    if (sequence_is_reading(sequence))
        return (struct row_input){.kind = ROW_TOKEN,
                                  .value = sequence->submit->ids[sequence->n_launched]};
    uint32_t n_drawn = sequence_n_drawn(sequence);
    assert(n_drawn <= 1); /* or the step before it would have to be under way still */
    if (n_drawn == 1)
        return (struct row_input){.kind = ROW_SAMPLED, .value = sequence->output_idx};
    return (struct row_input){.kind = ROW_TOKEN, .value = sequence->last_id};
}

static void add_output(struct batch *batch, struct sequence *sequence)
{
    struct batch_arrays *arrays = batch->arrays;
    uint32_t row = batch->n_rows - 1;

    arrays->output_rows[batch->n_outputs] = row;
    arrays->params[batch->n_outputs] = params_of(sequence, arrays->position[row]);
    sequence->output_idx = batch->n_outputs;
    batch->outputs[batch->n_outputs++] = sequence;
}

void batch_add(struct batch *batch, struct sequence *sequence, uint32_t n_rows)
{
    struct batch_arrays *arrays = batch->arrays;
    uint32_t first = sequence->n_launched;
    bool is_reading = sequence_is_reading(sequence);

    assert(n_rows > 0 && n_rows <= sequence_n_wanted(sequence));
    assert(batch->n_rows + n_rows <= STEP_ROWS_MAX);
    arrays->seq_begin[batch->n_seqs] = batch->n_rows;
    for (uint32_t i = 0; i < n_rows; i++) {
        uint32_t row = batch->n_rows++;
        arrays->inputs[row] = next_input(sequence);
        arrays->position[row] = sequence->n_launched++;
        arrays->row_seq[row] = sequence->kv;
        arrays->count_slots[row] = count_slot_of(sequence);
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
        arrays->output_rows[row] = row;
        arrays->params[row] =
            (struct sample_params){.top_p = 1, .repetition = 1, .count_slot = -1};
        arrays->seq_begin[row + 1] = row + 1;
    }
}
