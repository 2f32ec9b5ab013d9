#include "engine/device_batch.h"

#include "base/status.h"
#include "model/grammar.h"
#include "model/model.h"
#include "model/vocabulary.h"

#include <stdlib.h>

static int upload_banned(struct device_batch *on_device, const struct vocabulary *vocabulary,
                         struct why *why)
{
    uint32_t *ids = malloc((on_device->vocabulary + 1) * sizeof *ids);
    if (ids == NULL)
        return refuse(why, STATUS_NO_MEMORY, "no memory for %u ids", on_device->vocabulary);
    for (uint32_t id = 0; id < on_device->vocabulary; id++)
        if (vocabulary_is_end_of_generation(vocabulary, id))
            ids[on_device->n_banned++] = id;
    int status = device_alloc(on_device->device, (on_device->n_banned + 1) * sizeof *ids,
                              (void **)&on_device->banned, why);
    if (status == STATUS_OK && on_device->n_banned > 0)
        status = device_upload(on_device->device, on_device->banned, ids,
                               on_device->n_banned * sizeof *ids);
    free(ids);
    return status;
}

int device_batch_create(struct device *device, const struct model *model, uint32_t n_slots,
                        uint32_t max_outputs, struct device_batch **out, struct why *why)
{
    struct device_batch *on_device = calloc(1, sizeof *on_device);

    if (on_device == NULL)
        return refuse(why, STATUS_NO_MEMORY, "no memory for a batch");
    on_device->device = device;
    on_device->vocabulary = model_plan(model)->vocabulary;
    on_device->n_slots = n_slots;
    on_device->max_outputs = max_outputs;
    on_device->mask_words = (uint32_t)grammar_mask_words(on_device->vocabulary);
    const struct {
        size_t bytes;
        void **memory;
    } parts[] = {
        {sizeof *on_device->arrays, (void **)&on_device->arrays},
        {max_outputs * sizeof *on_device->results, (void **)&on_device->results},
        {(size_t)n_slots * on_device->vocabulary * sizeof *on_device->counts,
         (void **)&on_device->counts},
        {(size_t)max_outputs * on_device->mask_words * sizeof *on_device->masks,
         (void **)&on_device->masks},
        {(size_t)max_outputs * LOGIT_BIASES_MAX * sizeof *on_device->biases,
         (void **)&on_device->biases},
        {device_ops(device)->sample_workspace_bytes(device, max_outputs, on_device->vocabulary),
         &on_device->workspace},
    };
    int status = STATUS_OK;
    for (size_t i = 0; i < sizeof parts / sizeof *parts && status == STATUS_OK; i++)
        status = device_alloc(device, parts[i].bytes, parts[i].memory, why);
    if (status == STATUS_OK)
        status = upload_banned(on_device, model_vocabulary(model), why);
    if (status < 0) {
        device_batch_free(on_device);
        return status;
    }
    *out = on_device;
    return STATUS_OK;
}

void device_batch_free(struct device_batch *on_device)
{
    if (on_device == NULL)
        return;
    device_free(on_device->device, on_device->arrays);
    device_free(on_device->device, on_device->results);
    device_free(on_device->device, on_device->counts);
    device_free(on_device->device, on_device->masks);
    device_free(on_device->device, on_device->biases);
    device_free(on_device->device, on_device->banned);
    device_free(on_device->device, on_device->workspace);
    free(on_device);
}

void device_batch_forget(const struct device_batch *on_device, kv_seq_id slot,
                         struct stream *stream)
{
    device_ops(on_device->device)
        ->count_zero(stream, &(struct count_zero_args){.counts = on_device->counts,
                                                       .vocabulary = on_device->vocabulary,
                                                       .slot = slot});
}

void device_batch_recall(const struct device_batch *on_device, kv_seq_id slot,
                         const uint32_t *counts, struct stream *stream)
{
    device_write(stream, on_device->counts + (size_t)slot * on_device->vocabulary, counts,
                 on_device->vocabulary * sizeof *counts);
}

void device_batch_copy(const struct device_batch *on_device, kv_seq_id from, kv_seq_id to,
                       struct stream *stream)
{
    device_ops(on_device->device)
        ->count_copy(stream, &(struct count_copy_args){.counts = on_device->counts,
                                                       .vocabulary = on_device->vocabulary,
                                                       .from = from,
                                                       .to = to});
}

void device_batch_run(const struct device_batch *on_device, const struct batch_shape *shape,
                      struct forward *forward, const struct kv_view *view, struct stream *stream)
{
    const struct ops *ops = device_ops(on_device->device);
    const struct batch_arrays *arrays = on_device->arrays;
    struct forward_batch pass = {.inputs = arrays->inputs,
                                 .rows = {.n_rows = shape->n_rows,
                                          .n_seqs = shape->n_seqs,
                                          .position = arrays->position,
                                          .row_seq = arrays->row_seq,
                                          .seq_begin = arrays->seq_begin,
                                          .max_position = shape->max_position},
                                 .output_rows = arrays->output_rows,
                                 .outputs = {.n_rows = shape->n_outputs,
                                             .n_seqs = shape->n_outputs,
                                             .position = arrays->output_position,
                                             .row_seq = arrays->output_seq,
                                             .seq_begin = arrays->output_begin,
                                             .max_position = shape->max_position},
                                 .sampled = on_device->results};

    /* Each token is counted when it is read, prompt and output alike, before the draw behind it. */
    ops->count(stream, &(struct count_args){.counts = on_device->counts,
                                            .vocabulary = on_device->vocabulary,
                                            .n_slots = on_device->n_slots,
                                            .inputs = arrays->inputs,
                                            .sampled = on_device->results,
                                            .slots = arrays->count_slots,
                                            .n_rows = shape->n_rows});
    forward_run(forward, stream, &pass, view);
    if (shape->n_outputs > 0)
        ops->sample(stream, &(struct sample_args){.logits = forward_logits(forward),
                                                  .n_rows = shape->n_outputs,
                                                  .vocabulary = on_device->vocabulary,
                                                  .params = arrays->params,
                                                  .counts = on_device->counts,
                                                  .n_slots = on_device->n_slots,
                                                  .masks = on_device->masks,
                                                  .n_masks = on_device->max_outputs,
                                                  .mask_words = on_device->mask_words,
                                                  .biases = on_device->biases,
                                                  .n_biases = on_device->max_outputs *
                                                              LOGIT_BIASES_MAX,
                                                  .banned = on_device->banned,
                                                  .n_banned = on_device->n_banned,
                                                  .workspace = on_device->workspace,
                                                  .results = on_device->results});
}
