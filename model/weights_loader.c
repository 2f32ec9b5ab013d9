#include "model/weights_loader.h"

#include "base/status.h"
#include "kernels/tensor_type.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

const struct gguf_tensor *loader_find(struct loader *loader, const char *name)
{
    const struct gguf_tensor *tensor = gguf_tensor_find(loader->file, name);
    assert(tensor != NULL); /* model_plan_read has seen it */
    return tensor;
}

void loader_progress(struct loader *loader, const struct gguf_tensor *tensor)
{
    gguf_tensor_drop(loader->file, tensor);
    loader->n_done += tensor->n_bytes;
    if (loader->options != NULL && loader->options->on_progress != NULL)
        loader->options->on_progress(loader->options->on_progress_arg, loader->n_done,
                                     loader->n_total);
}

struct weight *loader_matrix(struct loader *loader, enum weight_fuse fuse,
                             const struct weight_source *sources, uint32_t n)
{
    struct weight *weight = NULL;

    if (loader->status < 0)
        return NULL;
    loader->status =
        loader->ops->weight_load(loader->device, fuse, sources, n, 0, 1, &weight, loader->why);
    if (loader->status < 0)
        return NULL;
    loader->n_bytes += loader->ops->weight_info(weight).bytes;
    return weight;
}

struct weight *loader_weight(struct loader *loader, enum weight_fuse fuse,
                             const char *const *names, uint32_t n)
{
    struct weight_source sources[3] = {{.n_in = 0}};
    const struct gguf_tensor *tensors[3];

    assert(n >= 1 && n <= 3);
    if (loader->status < 0)
        return NULL;
    for (uint32_t i = 0; i < n; i++) {
        tensors[i] = loader_find(loader, names[i]);
        sources[i] = (struct weight_source){.type = tensors[i]->type,
                                            .n_in = (uint32_t)tensors[i]->dims[0],
                                            .n_out = (uint32_t)tensors[i]->dims[1],
                                            .bytes = tensors[i]->bytes,
                                            .name = names[i]};
    }
    struct weight *weight = loader_matrix(loader, fuse, sources, n);
    for (uint32_t i = 0; i < n && weight != NULL; i++)
        loader_progress(loader, tensors[i]);
    return weight;
}

void *loader_upload(struct loader *loader, const void *host, size_t bytes)
{
    void *memory = NULL;

    if (loader->status == STATUS_OK)
        loader->status = device_alloc(loader->device, bytes, &memory, loader->why);
    if (loader->status == STATUS_OK)
        loader->status = device_upload(loader->device, memory, host, bytes);
    if (loader->status < 0) {
        device_free(loader->device, memory);
        return NULL;
    }
    loader->n_bytes += bytes;
    return memory;
}

float *loader_vectors(struct loader *loader, const char *const *names, const uint64_t *lengths,
                      uint32_t n)
{
    uint64_t n_values = 0;

    if (loader->status < 0)
        return NULL;
    for (uint32_t i = 0; i < n; i++)
        n_values += lengths[i];
    float *host = calloc(n_values, sizeof *host), *next = host;
    if (host == NULL) {
        loader->status = refuse(loader->why, STATUS_NO_MEMORY, "no memory for %s", names[0]);
        return NULL;
    }
    for (uint32_t i = 0; i < n; i++) {
        const struct gguf_tensor *tensor = gguf_tensor_find(loader->file, names[i]);
        if (tensor != NULL) {
            assert(tensor->dims[0] == lengths[i]);
            tensor_type_row_to_f32(tensor->type, tensor->bytes, (uint32_t)lengths[i], next);
            loader_progress(loader, tensor);
        }
        next += lengths[i];
    }
    float *device = loader_upload(loader, host, n_values * sizeof *host);
    free(host);
    return device;
}

float *loader_vector(struct loader *loader, const char *name)
{
    return loader_vectors(loader, &name, &loader_find(loader, name)->dims[0], 1);
}

struct layer_name loader_name(uint32_t layer, const char *part)
{
    struct layer_name name;
    snprintf(name.text, sizeof name.text, "blk.%u.%s", layer, part);
    return name;
}

float *loader_layer_vector(struct loader *loader, uint32_t layer, const char *part)
{
    struct layer_name name = loader_name(layer, part);
    return loader_vector(loader, name.text);
}

float *loader_layer_optional(struct loader *loader, uint32_t layer, const char *part)
{
    struct layer_name name = loader_name(layer, part);
    bool is_there = gguf_tensor_find(loader->file, name.text) != NULL;
    return is_there ? loader_vector(loader, name.text) : NULL;
}

struct weight *loader_layer_weight(struct loader *loader, uint32_t layer, const char *part)
{
    struct layer_name name = loader_name(layer, part);
    return loader_weight(loader, WEIGHT_PLAIN, (const char *[]){name.text}, 1);
}

struct weight_source loader_source(const struct gguf_tensor *tensor, const char *name, uint64_t e,
                                   uint64_t first_row, uint64_t n_out)
{
    uint64_t row_bytes = tensor->n_bytes / (tensor->dims[1] * tensor->dims[2]);
    return (struct weight_source){
        .type = tensor->type,
        .n_in = (uint32_t)tensor->dims[0],
        .n_out = (uint32_t)n_out,
        .bytes = tensor->bytes + (e * tensor->dims[1] + first_row) * row_bytes,
        .name = name};
}

struct weight *loader_experts(struct loader *loader, enum weight_fuse fuse,
                              const char *const *names, uint32_t n_names)
{
    const struct gguf_tensor *tensors[2];
    uint32_t n_sides = fuse == WEIGHT_EXPERTS_GATE_UP ? 2 : 1;

    if (loader->status < 0)
        return NULL;
    for (uint32_t i = 0; i < n_names; i++)
        tensors[i] = loader_find(loader, names[i]);
    uint32_t n = (uint32_t)tensors[0]->dims[2];
    struct weight_source *sources = calloc((size_t)n * n_sides, sizeof *sources);
    if (sources == NULL) {
        loader->status = refuse(loader->why, STATUS_NO_MEMORY, "no memory for %s", names[0]);
        return NULL;
    }
    for (uint32_t i = 0; i < n * n_sides; i++) {
        uint32_t side = i / n, at = side < n_names ? side : 0;
        uint64_t n_out = tensors[at]->dims[1] * n_names / n_sides;
        sources[i] = loader_source(tensors[at], names[at], i % n, side > at ? n_out : 0, n_out);
    }
    struct weight *weight = loader_matrix(loader, fuse, sources, n * n_sides);
    free(sources);
    for (uint32_t i = 0; i < n_names && weight != NULL; i++)
        loader_progress(loader, tensors[i]);
    return weight;
}
