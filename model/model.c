#include "model/model.h"

#include "base/status.h"
#include "base/text.h"
#include "kernels/device.h"
#include "kernels/gpu_matrix.h"
#include "model/chat_template.h"
#include "model/gguf.h"
#include "model/token_trie.h"
#include "model/vocabulary.h"
#include "model/vocabulary_gguf.h"
#include "model/weights.h"

#include <stdlib.h>

struct model {
    struct device *device;
    struct gguf *file;
    struct model_plan plan;
    struct model_weights weights;
    struct vocabulary *vocabulary;
    struct token_trie *token_trie;
    struct chat_template *chat_template;
    struct why chat_refusal;
};

int model_read_vocabulary(const struct gguf *file, const struct model_plan *plan,
                          struct vocabulary **out, struct why *why)
{
    struct vocabulary *vocabulary;

    int status = vocabulary_gguf_read(file, &vocabulary, why);
    if (status < 0)
        return status;
    if (vocabulary_n_tokens(vocabulary) != plan->vocabulary) {
        status = refuse(why, STATUS_CORRUPT,
                        "tokenizer.ggml.tokens holds %u tokens, token_embd.weight %u rows",
                        vocabulary_n_tokens(vocabulary), plan->vocabulary);
        vocabulary_free(vocabulary);
        return status;
    }
    *out = vocabulary;
    return STATUS_OK;
}

static int load_template(struct model *model, const char *chat_format, struct why *why)
{
    bool is_asked = chat_format != NULL && chat_format[0] != '\0';
    struct chat_source source = {.text = vocabulary_chat_template(model->vocabulary),
                                 .format = slice_from(is_asked ? chat_format : "")};
    gguf_string(model->file, "tokenizer.ggml.pre", &source.pre, NULL);
    int status = chat_template_create(&source, model->vocabulary, &model->chat_template,
                                      is_asked ? why : &model->chat_refusal);
    if (is_asked)
        return status;
    return status == STATUS_NO_MEMORY ? refuse(why, status, "no memory for the chat template")
                                      : STATUS_OK;
}

/* Before minutes of loading: a GPU's memory does not grow. */
static int check_room(const struct model *model, struct why *why)
{
    char need[TEXT_NUMBER_BYTES], left[TEXT_NUMBER_BYTES];

    if (!device_is_gpu(model->device))
        return STATUS_OK;
    uint64_t free_bytes = device_memory_free(model->device);
    uint64_t bytes = weights_planned_bytes(model->file, &model->plan, gpu_matrix_bytes);
    if (bytes <= free_bytes)
        return STATUS_OK;
    return refuse(why, STATUS_NO_MEMORY,
                  "its weights take %s and %s has %s free; take a smaller model, a GPU with more "
                  "memory (--device) or --backend cpu",
                  text_bytes(need, bytes), device_name(model->device),
                  text_bytes(left, free_bytes));
}

bool model_holds_vocabulary_alone(const struct gguf *file)
{
    return gguf_n_tensors(file) == 0 && gguf_find(file, "tokenizer.ggml.tokens") != NULL;
}

static int load_vocabulary(struct model *model, const char *chat_format, struct why *why)
{
    model_plan_read_names(model->file, &model->plan);
    int status = vocabulary_gguf_read(model->file, &model->vocabulary, why);
    if (status < 0)
        return status;
    model->plan.vocabulary = vocabulary_n_tokens(model->vocabulary);
    return load_template(model, chat_format, why);
}

/* What the open file holds: a refusal says what is wrong, the caller of which file. */
static int load_file(struct model *model, const struct model_options *options, struct why *why)
{
    const char *chat_format = options != NULL ? options->chat_format : NULL;
    if (options != NULL && options->takes_vocabulary && model_holds_vocabulary_alone(model->file))
        return load_vocabulary(model, chat_format, why);
    int status = model_plan_read(model->file, &model->plan, why);
    if (status == STATUS_OK)
        status = check_room(model, why);
    if (status == STATUS_OK)
        status = model_read_vocabulary(model->file, &model->plan, &model->vocabulary, why);
    if (status == STATUS_OK)
        status = token_trie_create(model->vocabulary, &model->token_trie, why);
    if (status == STATUS_OK)
        status = load_template(model, chat_format, why);
    if (status == STATUS_OK)
        status =
            weights_load(model->device, model->file, &model->plan, options, &model->weights, why);
    return status;
}

int model_load(struct device *device, const char *path, const struct model_options *options,
               struct model **out, struct why *why)
{
    struct model *model = calloc(1, sizeof *model);
    if (model == NULL)
        return refuse(why, STATUS_NO_MEMORY, "no memory for a model");

    model->device = device;
    int status = gguf_open(path, &model->file, why);
    if (status == STATUS_OK) {
        status = load_file(model, options, why);
        if (status < 0)
            refuse_prefix(why, status, "%s", path);
    }
    if (status == STATUS_OK)
        status = gguf_check_unchanged(model->file, why);
    if (status < 0) {
        model_free(model);
        return status;
    }
    *out = model;
    return STATUS_OK;
}

void model_free(struct model *model)
{
    if (model == NULL)
        return;
    weights_release(model->device, &model->plan, &model->weights);
    chat_template_free(model->chat_template);
    token_trie_free(model->token_trie);
    vocabulary_free(model->vocabulary);
    model_plan_release(&model->plan);
    gguf_close(model->file);
    free(model);
}

bool model_is_vocabulary(const struct model *model)
{
    return model->plan.n_layers == 0;
}

const struct model_plan *model_plan(const struct model *model)
{
    return &model->plan;
}

const struct vocabulary *model_vocabulary(const struct model *model)
{
    return model->vocabulary;
}

const struct token_trie *model_token_trie(const struct model *model)
{
    return model->token_trie;
}

const struct chat_template *model_chat_template(const struct model *model)
{
    return model->chat_template;
}

const char *model_chat_refusal(const struct model *model)
{
    return model->chat_refusal.text;
}

const struct gguf *model_file(const struct model *model)
{
    return model->file;
}

const struct model_weights *model_weights(const struct model *model)
{
    return &model->weights;
}

uint64_t model_weight_bytes(const struct model *model)
{
    return model->weights.bytes;
}

uint64_t model_step_bytes(const struct model *model)
{
    return model->weights.step_bytes;
}
