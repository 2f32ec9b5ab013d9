#include "tools/file_facts.h"

#include "kernels/tensor_type.h"
#include "model/chat_template.h"
#include "model/model.h"
#include "model/vocabulary.h"
#include "model/vocabulary_gguf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t n_values_of(const struct gguf_tensor *tensor)
{
    return tensor->dims[0] * tensor->dims[1] * tensor->dims[2] * tensor->dims[3];
}

static int by_bytes(const void *a, const void *b)
{
    const struct type_facts *x = a, *y = b;
    return x->n_bytes > y->n_bytes ? -1 : x->n_bytes < y->n_bytes;
}

static void count_tensors(struct file_facts *facts)
{
    for (uint64_t i = 0; i < gguf_n_tensors(facts->file); i++) {
        const struct gguf_tensor *tensor = gguf_tensor_at(facts->file, i);
        uint32_t t = 0;
        while (t < facts->n_types && facts->types[t].type != tensor->type)
            t++;
        if (t == FACTS_TYPES_MAX)
            continue; /* cannot be: gguf_open refuses unknown types, and fewer are known */
        if (t == facts->n_types)
            facts->types[facts->n_types++] = (struct type_facts){.type = tensor->type};
        facts->types[t].n_tensors++;
        facts->types[t].n_parameters += n_values_of(tensor);
        facts->types[t].n_bytes += tensor->n_bytes;
        facts->n_parameters += n_values_of(tensor);
        facts->weight_bytes += tensor->n_bytes;
    }
    qsort(facts->types, facts->n_types, sizeof *facts->types, by_bytes);
    for (uint32_t i = 0; i < gguf_n_files(facts->file); i++)
        facts->n_bytes += gguf_file_bytes(facts->file, i);
}

/* What is wrong goes where it belongs: a bad file, or one that this build does not run. */
static void take_reason(struct file_facts *facts, int status, const struct why *why)
{
    if (status == STATUS_UNSUPPORTED) {
        if (facts->n_unsupported < FACTS_REASONS_MAX)
            facts->unsupported[facts->n_unsupported++] = *why;
        return;
    }
    if (facts->status == STATUS_OK) {
        facts->status = status;
        facts->bad = *why;
    }
}

/* --- keys and values --- */

struct key_reader {
    const struct gguf *file;
    struct slice architecture;
    bool is_clear; /* no key was there as anything but one number of a sane size */
};

/* $architecture.key; 0 when it is absent. */
static uint64_t number_of(struct key_reader *reader, const char *key)
{
    char full[160];
    uint64_t number = 0;

    snprintf(full, sizeof full, "%.*s.%s", (int)reader->architecture.len,
             (const char *)reader->architecture.bytes, key);
    if (gguf_u64(reader->file, full, &number, NULL) < 0 || number > MODEL_WIDTH_MAX) {
        reader->is_clear = false;
        return 0;
    }
    return number;
}

/* For files without a plan: every layer alike, as the common keys say. 0 when they do not. */
static uint64_t suggested_values(const struct gguf *file)
{
    struct key_reader reader = {.file = file, .is_clear = true};
    if (gguf_string(file, "general.architecture", &reader.architecture, NULL) != 1 ||
        reader.architecture.len > 64)
        return 0;

    uint64_t layers = number_of(&reader, "block_count");
    uint64_t width = number_of(&reader, "embedding_length");
    uint64_t heads = number_of(&reader, "attention.head_count");
    uint64_t kv_heads = number_of(&reader, "attention.head_count_kv");
    uint64_t k = number_of(&reader, "attention.key_length");
    uint64_t v = number_of(&reader, "attention.value_length");
    bool is_latent = number_of(&reader, "attention.key_length_mla") > 0;
    if (!reader.is_clear || layers == 0 || heads == 0)
        return 0;
    if (is_latent) /* one vector a token and layer; V is a part of it */
        return layers * k;
    kv_heads = kv_heads == 0 ? heads : kv_heads;
    k = k == 0 ? width / heads : k;
    v = v == 0 ? width / heads : v;
    return kv_heads <= MODEL_HEADS_MAX && k + v <= 2 * MODEL_HEAD_DIM_MAX &&
                   layers <= MODEL_LAYERS_MAX
               ? layers * kv_heads * (k + v)
               : 0;
}

static void read_plan(struct file_facts *facts)
{
    static const struct kv_dtypes floats = {.global = KV_F32, .local = KV_F32};
    struct why why = {.text = ""};
    int status = model_plan_read(facts->file, &facts->plan, &why);

    facts->has_plan = status == STATUS_OK;
    if (!facts->has_plan) {
        take_reason(facts, status, &why);
        facts->kv_values = suggested_values(facts->file);
    } else {
        facts->kv_values = model_plan_token_bytes(&facts->plan, &floats) / kv_dtype_bytes(KV_F32);
        for (uint64_t i = 0; i < gguf_n_tensors(facts->file); i++)
            facts->n_unused += !facts->plan.uses_tensor[i];
    }
    facts->has_geometry = facts->kv_values > 0;
}

/* --- text --- */

static void read_text(struct file_facts *facts)
{
    struct why why = {.text = ""};
    struct slice template = slice_of(NULL, 0);
    int status = facts->has_plan
                     ? model_read_vocabulary(facts->file, &facts->plan, &facts->vocabulary, &why)
                     : vocabulary_gguf_read(facts->file, &facts->vocabulary, &why);

    if (status < 0) {
        bool is_model = facts->has_plan || gguf_find(facts->file, "tokenizer.ggml.model") != NULL;
        if (is_model) /* an image encoder has no tokenizer, and that is not its fault */
            take_reason(facts, status, &why);
        facts->vocabulary = NULL;
        return;
    }
    facts->has_chat_text =
        gguf_string(facts->file, "tokenizer.chat_template", &template, NULL) == 1 &&
        template.len > 0;
    struct chat_source source = {.text = vocabulary_chat_template(facts->vocabulary)};
    gguf_string(facts->file, "tokenizer.ggml.pre", &source.pre, NULL);
    status = chat_template_create(&source, facts->vocabulary, &facts->chat_template,
                                  &facts->chat_refusal);
    if (status < 0)
        facts->chat_template = NULL;
    if (status < 0 && status != STATUS_UNSUPPORTED)
        take_reason(facts, status, &facts->chat_refusal);
}

int file_facts_gather(const char *path, struct file_facts *out, struct why *why)
{
    *out = (struct file_facts){.status = STATUS_OK};
    int status = gguf_open(path, &out->file, why);
    if (status < 0)
        return status;
    count_tensors(out);
    out->is_vocabulary = model_holds_vocabulary_alone(out->file);
    if (!out->is_vocabulary)
        read_plan(out);
    read_text(out);
    return STATUS_OK;
}

void file_facts_release(struct file_facts *facts)
{
    chat_template_free(facts->chat_template);
    vocabulary_free(facts->vocabulary);
    if (facts->has_plan)
        model_plan_release(&facts->plan);
    gguf_close(facts->file);
}
