#include "tools/inspect_json.h"

#include "kernels/tensor_type.h"
#include "model/chat_template.h"
#include "model/vocabulary.h"
#include "tools/json_print.h"

static void print_key(struct json_print *json, const struct file_facts *facts, const char *name,
                      const char *key)
{
    struct slice text;
    if (gguf_string(facts->file, key, &text, NULL) == 1)
        json_print_text(json, name, text);
}

static void print_files(struct json_print *json, const struct file_facts *facts)
{
    json_print_open(json, "files", '[');
    for (uint32_t i = 0; i < gguf_n_files(facts->file); i++) {
        json_print_open(json, NULL, '{');
        json_print_string(json, "path", gguf_file_path(facts->file, i));
        json_print_uint(json, "bytes", gguf_file_bytes(facts->file, i));
        json_print_close(json, '}');
    }
    json_print_close(json, ']');
    json_print_uint(json, "gguf_version", gguf_version(facts->file));
    json_print_uint(json, "n_keys", gguf_n_values(facts->file));
    json_print_uint(json, "n_tensors", gguf_n_tensors(facts->file));
}

static void print_shape(struct json_print *json, const struct file_facts *facts)
{
    const struct model_plan *plan = &facts->plan;

    json_print_uint(json, "n_parameters", facts->n_parameters);
    json_print_uint(json, "weight_bytes", facts->weight_bytes);
    if (!facts->has_plan)
        return;
    json_print_uint(json, "n_layers", plan->n_layers);
    json_print_uint(json, "width", plan->width);
    json_print_uint(json, "n_ff", plan->layers[0].n_ff);
    json_print_uint(json, "n_heads", plan->layers[0].n_heads);
    json_print_uint(json, "n_kv_heads", plan->layers[0].kv.n_kv_heads);
    json_print_uint(json, "head_dim", plan->layers[0].kv.k_dim);
    json_print_uint(json, "context", plan->context);
    json_print_uint(json, "vocabulary", plan->vocabulary);
    json_print_bool(json, "tied_output", plan->tied_output);
}

static void print_types(struct json_print *json, const struct file_facts *facts)
{
    json_print_open(json, "tensor_types", '[');
    for (uint32_t i = 0; i < facts->n_types; i++) {
        const struct type_facts *type = &facts->types[i];
        const struct tensor_type_info *info = tensor_type_info(type->type);
        json_print_open(json, NULL, '{');
        json_print_string(json, "type", info->name);
        json_print_uint(json, "n_tensors", type->n_tensors);
        json_print_uint(json, "n_parameters", type->n_parameters);
        json_print_uint(json, "bytes", type->n_bytes);
        json_print_bool(json, "is_read", info->is_read);
        json_print_close(json, '}');
    }
    json_print_close(json, ']');
    json_print_open(json, "unused_tensors", '[');
    for (uint64_t i = 0; facts->n_unused > 0 && i < gguf_n_tensors(facts->file); i++)
        if (!facts->plan.uses_tensor[i])
            json_print_text(json, NULL, gguf_tensor_at(facts->file, i)->name);
    json_print_close(json, ']');
}

static void print_geometry(struct json_print *json, const struct file_facts *facts)
{
    static const enum kv_dtype dtypes[] = {KV_F16, KV_F32};

    if (!facts->has_geometry)
        return;
    json_print_open(json, "kv", '{');
    json_print_bool(json, "is_exact", facts->has_plan);
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++) {
        uint64_t bytes = facts->kv_values * kv_dtype_bytes(dtypes[i]);
        json_print_open(json, kv_dtype_name(dtypes[i]), '{');
        json_print_uint(json, "token_bytes", bytes);
        json_print_uint(json, "bytes_at_131072", bytes * 131072);
        json_print_uint(json, "bytes_at_1048576", bytes * 1048576);
        json_print_close(json, '}');
    }
    json_print_close(json, '}');
}

static void print_words(struct json_print *json, const struct file_facts *facts)
{
    json_print_open(json, "tokenizer", '{');
    print_key(json, facts, "model", "tokenizer.ggml.model");
    print_key(json, facts, "pre", "tokenizer.ggml.pre");
    json_print_bool(json, "is_read", facts->vocabulary != NULL);
    if (facts->vocabulary != NULL) {
        json_print_uint(json, "n_tokens", vocabulary_n_tokens(facts->vocabulary));
        json_print_bool(json, "adds_bos", vocabulary_adds_bos(facts->vocabulary));
        json_print_bool(json, "adds_eos", vocabulary_adds_eos(facts->vocabulary));
    }
    json_print_close(json, '}');
    json_print_open(json, "chat_template", '{');
    json_print_bool(json, "is_present", facts->has_chat_text);
    json_print_bool(json, "is_recognised", facts->chat_template != NULL);
    if (facts->chat_template != NULL)
        json_print_string(json, "family", chat_template_family(facts->chat_template));
    else if (facts->chat_refusal.text[0] != '\0')
        json_print_string(json, "refusal", facts->chat_refusal.text);
    json_print_close(json, '}');
}

void inspect_json_print(FILE *to, const struct file_facts *facts)
{
    struct json_print json = {.to = to};

    json_print_open(&json, NULL, '{');
    print_files(&json, facts);
    print_key(&json, facts, "architecture", "general.architecture");
    print_key(&json, facts, "name", "general.name");
    print_shape(&json, facts);
    print_types(&json, facts);
    print_geometry(&json, facts);
    print_words(&json, facts);
    json_print_bool(&json, "is_sound", facts->status == STATUS_OK);
    bool is_served = facts->status == STATUS_OK && facts->n_unsupported == 0;
    json_print_bool(&json, "runs", is_served && !facts->is_vocabulary);
    json_print_bool(&json, "serves_text_alone", is_served && facts->is_vocabulary);
    json_print_open(&json, "unsupported", '[');
    for (uint32_t i = 0; i < facts->n_unsupported; i++)
        json_print_string(&json, NULL, facts->unsupported[i].text);
    json_print_close(&json, ']');
    if (facts->status < 0)
        json_print_string(&json, "fault", facts->bad.text);
    json_print_close(&json, '}');
    putc('\n', to);
}
