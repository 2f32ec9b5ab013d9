#include "model/layer_plan.h"

#include "base/log.h"
#include "base/status.h"
#include "base/utf8.h"
#include "model/arch_reader.h"
#include "model/gguf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    void (*read)(struct arch_reader *reader, struct model_plan *plan);
} architectures[] = {
    {"deepseek2", arch_deepseek2_read},
    {"llama", arch_llama_read},
    {"llama4", arch_llama4_read},
    {"mistral3", arch_mistral3_read},
    {"qwen2", arch_qwen2_read},
    {"qwen2moe", arch_qwen2moe_read},
    {"qwen3", arch_qwen3_read},
    {"qwen3moe", arch_qwen3moe_read},
};
#define ARCHITECTURES_READ                                                                         \
    "deepseek2, llama, llama4, mistral3, qwen2, qwen2moe, qwen3 and qwen3moe"

static int check_kind(const struct gguf *file, struct slice architecture, struct why *why)
{
    struct slice type = slice_from("model");
    char quoted[64];
    int found = gguf_string(file, "general.type", &type, why);
    if (found < 0)
        return found;
    if (slice_equal(architecture, slice_from("clip")) || slice_equal(type, slice_from("mmproj")))
        return refuse(why, STATUS_UNSUPPORTED,
                      "this is an image encoder (mmproj, architecture clip), not a language model: "
                      "give the model's own file");
    if (slice_equal(type, slice_from("adapter")))
        return refuse(why, STATUS_UNSUPPORTED,
                      "this is an adapter (general.type adapter), not a model: merge it into its "
                      "base model first");
    if (!slice_equal(type, slice_from("model")))
        return refuse(why, STATUS_UNSUPPORTED,
                      "general.type is %s; only files of type model can be run",
                      log_quote(quoted, sizeof quoted, (const char *)type.bytes, type.len));
    return STATUS_OK;
}

static void read_name(const struct gguf *file, struct model_plan *plan)
{
    struct slice name;
    struct why ignored;

    if (gguf_string(file, "general.name", &name, &ignored) == 1 && name.len > 0) {
        size_t len = name.len < sizeof plan->name
                         ? name.len
                         : utf8_complete_len(name.bytes, sizeof plan->name - 1);
        if (utf8_is_valid(name.bytes, len, NULL)) {
            snprintf(plan->name, sizeof plan->name, "%.*s", (int)len, (const char *)name.bytes);
            return;
        }
    }
    const char *path = gguf_file_path(file, 0), *slash = strrchr(path, '/');
    snprintf(plan->name, sizeof plan->name, "%s", slash != NULL ? slash + 1 : path);
    char *suffix = strstr(plan->name, ".gguf");
    if (suffix != NULL)
        *suffix = '\0';
}

static void count_weights(const struct gguf *file, struct model_plan *plan)
{
    for (uint64_t i = 0; i < gguf_n_tensors(file); i++) {
        const struct gguf_tensor *tensor = gguf_tensor_at(file, i);
        plan->n_parameters += tensor->dims[0] * tensor->dims[1] * tensor->dims[2] * tensor->dims[3];
        plan->weight_bytes += tensor->n_bytes;
    }
}

/* Converters once wrote what can be computed: no weights. */
static bool is_harmless(struct slice name)
{
    static const char suffix[] = ".attn_rot_embd.weight";
    size_t n = sizeof suffix - 1;
    return name.len > n && memcmp(name.bytes + name.len - n, suffix, n) == 0;
}

/* Of a layer at the end that only guesses further tokens. */
static bool is_passed(const struct arch_reader *reader, struct slice name)
{
    char text[16] = "";
    unsigned layer;

    snprintf(text, sizeof text, "%.*s", (int)(name.len < 15 ? name.len : 15),
             (const char *)name.bytes);
    return sscanf(text, "blk.%9u.", &layer) == 1 && layer < reader->n_layers &&
           layer >= reader->n_layers - reader->n_passed;
}

/* With a weight left out it would be another model, and nobody would see. */
static void check_all_used(struct arch_reader *reader)
{
    char quoted[80];
    uint64_t n_unused = 0;
    struct slice first = {.len = 0};

    for (uint64_t i = 0; i < gguf_n_tensors(reader->file); i++) {
        struct slice name = gguf_tensor_at(reader->file, i)->name;
        if (reader->uses_tensor[i] || is_harmless(name) || is_passed(reader, name))
            continue;
        first = n_unused++ == 0 ? name : first;
    }
    if (n_unused > 0)
        arch_fault(reader, STATUS_UNSUPPORTED,
                   "the file holds %llu tensors that a %s model does not have (the first is %s): "
                   "without them it would be another model; use a file of the plain architecture",
                   (unsigned long long)n_unused, reader->architecture,
                   log_quote(quoted, sizeof quoted, (const char *)first.bytes, first.len));
}

int model_plan_read(const struct gguf *file, struct model_plan *out, struct why *why)
{
    struct slice architecture;
    char quoted[80];

    memset(out, 0, sizeof *out);
    int found = gguf_string(file, "general.architecture", &architecture, why);
    if (found < 0)
        return found;
    if (found == 0)
        return refuse(why, STATUS_CORRUPT, "key general.architecture is missing");
    int status = check_kind(file, architecture, why);
    if (status < 0)
        return status;

    for (size_t i = 0; i < sizeof architectures / sizeof *architectures; i++) {
        if (!slice_equal(architecture, slice_from(architectures[i].name)))
            continue;
        struct arch_reader reader = {
            .file = file, .architecture = architectures[i].name, .why = why};
        out->uses_tensor = calloc(gguf_n_tensors(file) + 1, sizeof *out->uses_tensor);
        if (out->uses_tensor == NULL)
            return refuse(why, STATUS_NO_MEMORY, "no memory for a plan");
        reader.uses_tensor = out->uses_tensor;
        snprintf(out->architecture, sizeof out->architecture, "%s", architectures[i].name);
        read_name(file, out);
        count_weights(file, out);
        architectures[i].read(&reader, out);
        if (reader.status == STATUS_OK)
            check_all_used(&reader);
        if (reader.status < 0)
            model_plan_release(out);
        return reader.status;
    }
    log_quote(quoted, sizeof quoted, (const char *)architecture.bytes, architecture.len);
    return refuse(why, STATUS_UNSUPPORTED, "general.architecture is %s; this build runs %s", quoted,
                  ARCHITECTURES_READ);
}

void model_plan_read_names(const struct gguf *file, struct model_plan *out)
{
    struct slice architecture;
    struct why ignored;

    memset(out, 0, sizeof *out);
    read_name(file, out);
    if (gguf_string(file, "general.architecture", &architecture, &ignored) == 1)
        log_quote(out->architecture, sizeof out->architecture, (const char *)architecture.bytes,
                  architecture.len);
}

void model_plan_release(struct model_plan *plan)
{
    for (uint32_t i = 0; i < plan->n_ropes; i++)
        free(plan->ropes[i].inv_freq);
    free(plan->layers);
    free(plan->uses_tensor);
    memset(plan, 0, sizeof *plan);
}

uint64_t model_plan_token_bytes(const struct model_plan *plan, const struct kv_dtypes *dtypes)
{
    uint64_t bytes = 0;

    for (uint32_t i = 0; i < plan->n_groups; i++) {
        const struct kv_group_plan *group = &plan->groups[i];
        enum kv_dtype dtype = kv_dtypes_of(dtypes, group->kind);
        bytes += group->n_layers * (uint64_t)kv_shape_page_bytes(&group->shape, dtype);
    }
    return bytes / PAGE_TOKENS;
}
