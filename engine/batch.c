#include "engine/batch.h"

#include "base/status.h"
#include "model/model.h"
#include "model/vocabulary.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static int upload_banned(struct batch *batch, const struct vocabulary *vocabulary, struct why *why)
{
    uint32_t *ids = malloc((batch->vocabulary + 1) * sizeof *ids);
    if (ids == NULL)
        return refuse(why, STATUS_NO_MEMORY, "no memory for %u ids", batch->vocabulary);
    for (uint32_t id = 0; id < batch->vocabulary; id++)
        if (vocabulary_is_end_of_generation(vocabulary, id))
            ids[batch->n_banned++] = id;
    int status = device_alloc(batch->device, (batch->n_banned + 1) * sizeof *ids,
                              (void **)&batch->banned_on_device, why);
    if (status == STATUS_OK && batch->n_banned > 0)
        status = device_upload(batch->device, batch->banned_on_device, ids,
                               batch->n_banned * sizeof *ids);
    free(ids);
    return status;
}

int batch_create(struct device *device, const struct model *model, uint32_t max_sequences,
                 struct batch **out, struct why *why)
{
    struct batch *batch = calloc(1, sizeof *batch);
    uint32_t max_outputs = max_sequences < STEP_ROWS_MAX ? max_sequences : STEP_ROWS_MAX;

    if (batch == NULL)
        return refuse(why, STATUS_NO_MEMORY, "no memory for a batch");
    batch->device = device;
    batch->vocabulary = model_plan(model)->vocabulary;
    batch->n_slots = max_sequences;
    int status = device_alloc_host(device, sizeof *batch->host, (void **)&batch->host, why);
    if (status == STATUS_OK)
        status = device_alloc_host(device, max_outputs * sizeof *batch->results,
                                   (void **)&batch->results, why);
    const struct ops *ops = device_ops(device);
    const struct {
        size_t bytes;
        void **memory;
    } parts[] = {
        {sizeof *batch->on_device, (void **)&batch->on_device},
        {max_outputs * sizeof *batch->results, (void **)&batch->results_on_device},
        {(size_t)batch->n_slots * batch->vocabulary * sizeof *batch->counts,
         (void **)&batch->counts},
        {ops->sample_workspace_bytes(device, max_outputs, batch->vocabulary), &batch->workspace},
    };
    for (size_t i = 0; i < sizeof parts / sizeof *parts && status == STATUS_OK; i++)
        status = device_alloc(device, parts[i].bytes, parts[i].memory, why);
    if (status == STATUS_OK)
        status = upload_banned(batch, model_vocabulary(model), why);
    if (status < 0) {
        batch_free(batch);
        return status;
    }
    *out = batch;
    return STATUS_OK;
}

void batch_free(struct batch *batch)
{
    if (batch == NULL)
        return;
    device_free(batch->device, batch->on_device);
    device_free(batch->device, batch->results_on_device);
    device_free(batch->device, batch->counts);
    device_free(batch->device, batch->workspace);
    device_free(batch->device, batch->banned_on_device);
    device_free_host(batch->device, batch->host);
    device_free_host(batch->device, batch->results);
    free(batch);
}

void batch_clear(struct batch *batch)
{
    batch->n_rows = batch->n_seqs = batch->n_outputs = batch->max_position = 0;
}

static struct sample_params params_of(const struct sequence *sequence)
{
    const struct submit *submit = sequence->submit;
    const struct sampling *sampling = &submit->sampling;

    return (struct sample_params){
        .temperature = sampling->temperature,
        .top_p = sampling->top_p,
        .min_p = sampling->min_p,
        .repetition = sampling->repetition,
        .top_k = sampling->top_k,
        .n_top = submit->want_logprobs ? submit->n_top : 0,
        .want_logprob = submit->want_logprobs,
        .mask_banned = submit->ignore_eos,
        .count_slot = sampling->repetition != 1 ? (int32_t)sequence->kv : -1,
        .seed = sequence->seed,
        .position = sequence->n_generated,
    };
}

void batch_add(struct batch *batch, struct sequence *sequence, uint32_t n_rows)
{
    struct batch_arrays *host = batch->host;
    const struct submit *submit = sequence->submit;
    bool is_prefill = sequence->n_prefilled < submit->n_ids;
    uint32_t first = sequence_n_context(sequence);

    assert(batch->n_rows + n_rows <= STEP_ROWS_MAX && n_rows > 0);
    assert(!is_prefill || n_rows <= submit->n_ids - sequence->n_prefilled);
    host->seq_begin[batch->n_seqs] = batch->n_rows;
    for (uint32_t i = 0; i < n_rows; i++) {
        uint32_t row = batch->n_rows++;
        host->ids[row] = is_prefill ? submit->ids[first + i] : sequence->last_id;
        host->inputs[row] = (struct row_input){.kind = ROW_TOKEN, .value = host->ids[row]};
        host->position[row] = first + i;
        host->row_seq[row] = sequence->kv;
    }
    if (first + n_rows - 1 > batch->max_position)
        batch->max_position = first + n_rows - 1;
    if (!is_prefill || sequence->n_prefilled + n_rows == submit->n_ids) {
        host->output_rows[batch->n_outputs] = batch->n_rows - 1;
        host->params[batch->n_outputs] = params_of(sequence);
        batch->outputs[batch->n_outputs++] = sequence;
    }
    batch->n_rows_of[batch->n_seqs] = n_rows;
    batch->sequences[batch->n_seqs++] = sequence;
    host->seq_begin[batch->n_seqs] = batch->n_rows;
}

uint32_t batch_ops_max(uint32_t max_sequences)
{
    return max_sequences + 8; /* a count for each, copies, sample */
}

/* Every token is counted when it is read, prompt and output alike, before the draw behind it. */
static void count_tokens(const struct batch *batch, const struct ops *ops, struct stream *stream)
{
    for (uint32_t s = 0; s < batch->n_seqs; s++) {
        const struct sequence *sequence = batch->sequences[s];
        if (sequence->submit->sampling.repetition == 1)
            continue;
        ops->count(stream,
                   &(struct count_args){.counts = batch->counts,
                                        .vocabulary = batch->vocabulary,
                                        .slot = sequence->kv,
                                        .reset = sequence->n_prefilled == 0,
                                        .ids = batch->on_device->ids + batch->host->seq_begin[s],
                                        .n = batch->n_rows_of[s]});
    }
}

void batch_run(struct batch *batch, struct forward *forward, struct kv_cache *cache,
               struct stream *stream)
{
    const struct ops *ops = device_ops(batch->device);
    struct batch_arrays *device = batch->on_device;
    struct kv_view view;
    struct forward_batch pass = {.inputs = device->inputs,
                                 .rows = {.n_rows = batch->n_rows,
                                          .n_seqs = batch->n_seqs,
                                          .position = device->position,
                                          .row_seq = device->row_seq,
                                          .seq_begin = device->seq_begin,
                                          .max_position = batch->max_position},
                                 .output_rows = device->output_rows,
                                 .n_outputs = batch->n_outputs};

    for (uint32_t s = 0; s < batch->n_seqs; s++)
        kv_cache_append(cache, batch->sequences[s]->kv, batch->n_rows_of[s], stream);
    kv_cache_view(cache, &view);
    device_write(stream, device, batch->host, sizeof *batch->host);
    count_tokens(batch, ops, stream);
    forward_run(forward, stream, &pass, &view);
    if (batch->n_outputs > 0) {
        ops->sample(stream, &(struct sample_args){.logits = forward_logits(forward),
                                                  .n_rows = batch->n_outputs,
                                                  .vocabulary = batch->vocabulary,
                                                  .params = device->params,
                                                  .counts = batch->counts,
                                                  .n_slots = batch->n_slots,
                                                  .banned = batch->banned_on_device,
                                                  .n_banned = batch->n_banned,
                                                  .workspace = batch->workspace,
                                                  .results = batch->results_on_device});
        device_read(stream, batch->results, batch->results_on_device,
                    batch->n_outputs * sizeof *batch->results);
    }
    kv_cache_fetch_counters(cache, stream);
}
