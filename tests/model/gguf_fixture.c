#include "gguf_fixture.h"

#include "kernels/tensor_type.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ALIGNMENT 32

static void append(uint8_t **to, size_t *n_to, const void *bytes, size_t n)
{
    *to = realloc(*to, *n_to + n + 1);
    assert(*to != NULL);
    if (n > 0)
        memcpy(*to + *n_to, bytes, n);
    *n_to += n;
}

static void append_string(uint8_t **to, size_t *n_to, const char *text)
{
    uint64_t len = strlen(text);
    append(to, n_to, &len, sizeof len);
    append(to, n_to, text, len);
}

void gguf_writer_init(struct gguf_writer *writer)
{
    memset(writer, 0, sizeof *writer);
    writer->version = 3;
}

void gguf_writer_release(struct gguf_writer *writer)
{
    free(writer->keys);
    free(writer->infos);
    free(writer->data);
}

void gguf_add_raw(struct gguf_writer *writer, const char *key, uint32_t kind, const void *bytes,
                  size_t n)
{
    append_string(&writer->keys, &writer->n_keys_bytes, key);
    append(&writer->keys, &writer->n_keys_bytes, &kind, sizeof kind);
    append(&writer->keys, &writer->n_keys_bytes, bytes, n);
    writer->n_keys++;
}

void gguf_add_u32(struct gguf_writer *writer, const char *key, uint32_t number)
{
    gguf_add_raw(writer, key, GGUF_U32, &number, sizeof number);
}

void gguf_add_f32(struct gguf_writer *writer, const char *key, float number)
{
    gguf_add_raw(writer, key, GGUF_F32, &number, sizeof number);
}

void gguf_add_string(struct gguf_writer *writer, const char *key, const char *text)
{
    gguf_add_raw(writer, key, GGUF_STRING, "", 0);
    append_string(&writer->keys, &writer->n_keys_bytes, text);
}

void gguf_add_strings(struct gguf_writer *writer, const char *key, const char *const *texts,
                      uint64_t n)
{
    uint32_t element = GGUF_STRING;
    gguf_add_raw(writer, key, GGUF_ARRAY, &element, sizeof element);
    append(&writer->keys, &writer->n_keys_bytes, &n, sizeof n);
    for (uint64_t i = 0; i < n; i++)
        append_string(&writer->keys, &writer->n_keys_bytes, texts[i]);
}

void gguf_add_tensor(struct gguf_writer *writer, const char *name, uint32_t type, uint32_t n_dims,
                     const uint64_t *dims, const void *bytes, size_t n_bytes)
{
    static const uint8_t zeros[ALIGNMENT];
    uint64_t offset = writer->n_data_bytes;

    append_string(&writer->infos, &writer->n_infos_bytes, name);
    append(&writer->infos, &writer->n_infos_bytes, &n_dims, sizeof n_dims);
    append(&writer->infos, &writer->n_infos_bytes, dims, n_dims * sizeof *dims);
    append(&writer->infos, &writer->n_infos_bytes, &type, sizeof type);
    append(&writer->infos, &writer->n_infos_bytes, &offset, sizeof offset);
    append(&writer->data, &writer->n_data_bytes, bytes, n_bytes);
    append(&writer->data, &writer->n_data_bytes, zeros,
           (ALIGNMENT - n_bytes % ALIGNMENT) % ALIGNMENT);
    writer->n_tensors++;
}

void gguf_write_as(const struct gguf_writer *writer, const char *path, size_t n_cut)
{
    static const uint8_t zeros[ALIGNMENT];
    uint8_t *file = NULL;
    size_t n = 0;

    append(&file, &n, "GGUF", 4);
    append(&file, &n, &writer->version, sizeof writer->version);
    append(&file, &n, &writer->n_tensors, sizeof writer->n_tensors);
    append(&file, &n, &writer->n_keys, sizeof writer->n_keys);
    append(&file, &n, writer->keys, writer->n_keys_bytes);
    append(&file, &n, writer->infos, writer->n_infos_bytes);
    append(&file, &n, zeros, (ALIGNMENT - n % ALIGNMENT) % ALIGNMENT);
    append(&file, &n, writer->data, writer->n_data_bytes);

    FILE *out = fopen(path, "wb");
    assert(out != NULL && n_cut <= n);
    assert(fwrite(file, 1, n - n_cut, out) == n - n_cut);
    fclose(out);
    free(file);
}

const char *gguf_write(const struct gguf_writer *writer, size_t n_cut)
{
    static char path[256];
    snprintf(path, sizeof path, "%s/fixture-%d.gguf", BINARY_DIR, (int)getpid());
    gguf_write_as(writer, path, n_cut);
    return path;
}

int gguf_open_written(const struct gguf_writer *writer, struct gguf **out, struct why *why)
{
    struct gguf *file = NULL;
    const char *path = gguf_write(writer, 0);
    int status = gguf_open(path, &file, why);

    unlink(path);
    if (out != NULL)
        *out = file;
    else
        gguf_close(file);
    return status;
}

/* --- a tiny model --- */

float tiny_value(const char *tensor, uint64_t i)
{
    uint64_t x = i + 1;
    for (const char *c = tensor; *c != '\0'; c++)
        x = x * 6364136223846793005u + (uint8_t)*c;
    x ^= x >> 33;
    x *= 0xff51afd7ed558ccdu;
    x ^= x >> 33;
    x *= 0xc4ceb9fe1a85ec53u;
    x ^= x >> 33;
    float unit = (float)(x >> 40) / (float)(1 << 24) - 0.5f;
    return strstr(tensor, "norm") != NULL ? 1.0f + 0.2f * unit : 0.4f * unit;
}

static void add_matrices(struct gguf_writer *writer, const char *name, uint64_t n_in,
                         uint64_t n_out, uint64_t n_matrices)
{
    uint64_t n = n_in * n_out * n_matrices, dims[3] = {n_in, n_out, n_matrices};
    float *values = malloc(n * sizeof *values);

    assert(values != NULL);
    for (uint64_t i = 0; i < n; i++)
        values[i] = tiny_value(name, i);
    gguf_add_tensor(writer, name, TENSOR_F32, n_matrices > 1 ? 3 : n_out > 1 ? 2 : 1, dims, values,
                    n * sizeof *values);
    free(values);
}

static void add_values(struct gguf_writer *writer, const char *name, uint64_t n_in, uint64_t n_out)
{
    add_matrices(writer, name, n_in, n_out, 1);
}

static void add_vocabulary(struct gguf_writer *writer, uint32_t n)
{
    const char **tokens = malloc(n * sizeof *tokens);
    char(*texts)[16] = malloc(n * sizeof *texts);

    assert(tokens != NULL && texts != NULL && n >= 256);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t other = 0,
                 byte = i; /* bytes 0..255 by the map of models.md 6.3, then numbered words */
        for (uint32_t b = 0; b < i && i < 256; b++)
            other += !((b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174);
        bool plain = (i >= 33 && i <= 126) || (i >= 161 && i <= 172) || (i >= 174 && i <= 255);
        uint32_t point = plain ? byte : 256 + other;
        if (i >= 256)
            snprintf(texts[i], sizeof *texts, "<w%u>", i);
        else if (point < 128)
            snprintf(texts[i], sizeof *texts, "%c", (char)point);
        else
            snprintf(texts[i], sizeof *texts, "%c%c", (char)(0xC0 | point >> 6),
                     (char)(0x80 | (point & 63)));
        tokens[i] = texts[i];
    }
    gguf_add_string(writer, "tokenizer.ggml.model", "gpt2");
    gguf_add_string(writer, "tokenizer.ggml.pre", "smollm");
    gguf_add_strings(writer, "tokenizer.ggml.tokens", tokens, n);
    gguf_add_strings(writer, "tokenizer.ggml.merges", (const char *const[]){"a b"}, 0);
    gguf_add_u32(writer, "tokenizer.ggml.eos_token_id", n - 1);
    free(tokens);
    free(texts);
}

struct part {
    const char *name;
    uint64_t n_in, n_out, n;
};

static void add_parts(struct gguf_writer *writer, uint32_t layer, const struct part *parts,
                      size_t n)
{
    char name[64];
    for (size_t p = 0; p < n; p++) {
        snprintf(name, sizeof name, "blk.%u.%s", layer, parts[p].name);
        add_matrices(writer, name, parts[p].n_in, parts[p].n_out, parts[p].n);
    }
}

static void add_feed_forward(struct gguf_writer *writer, uint32_t layer,
                             const struct tiny_shape *shape, const struct tiny_experts *experts)
{
    uint64_t width = shape->width, ff = shape->n_ff;
    const struct part dense[] = {{"ffn_gate.weight", width, ff, 1},
                                 {"ffn_up.weight", width, ff, 1},
                                 {"ffn_down.weight", ff, width, 1}};
    if (experts == NULL) {
        add_parts(writer, layer, dense, 3);
        return;
    }
    const struct part parts[] = {{"ffn_gate_inp.weight", width, experts->n, 1},
                                 {"ffn_down_exps.weight", ff, width, experts->n},
                                 {"ffn_gate_exps.weight", width, ff, experts->n},
                                 {"ffn_up_exps.weight", width, ff, experts->n}};
    const struct part fused = {"ffn_gate_up_exps.weight", width, 2 * ff, experts->n};
    add_parts(writer, layer, parts, experts->is_fused ? 2 : 4);
    if (experts->is_fused)
        add_parts(writer, layer, &fused, 1);
}

struct gguf_key gguf_key_of(const char *architecture, const char *key)
{
    struct gguf_key full;
    snprintf(full.text, sizeof full.text, "%s.%s", architecture, key);
    return full;
}

static void add_tiny_keys(struct gguf_writer *writer, const char *architecture,
                          const struct tiny_shape *shape)
{
    const struct {
        const char *key;
        uint32_t number;
    } numbers[] = {
        {"block_count", shape->n_layers},
        {"context_length", 2048},
        {"embedding_length", shape->width},
        {"feed_forward_length", shape->n_ff},
        {"attention.head_count", shape->n_heads},
        {"attention.head_count_kv", shape->n_kv_heads},
    };
    gguf_add_string(writer, "general.architecture", architecture);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        gguf_add_u32(writer, gguf_key_of(architecture, numbers[i].key).text, numbers[i].number);
    gguf_add_f32(writer, gguf_key_of(architecture, "attention.layer_norm_rms_epsilon").text, 1e-5f);
}

static void add_tiny(struct gguf_writer *writer, const char *architecture,
                     const struct tiny_shape *shape, const struct tiny_experts *experts)
{
    uint64_t head = shape->width / shape->n_heads, kv = head * shape->n_kv_heads;

    add_tiny_keys(writer, architecture, shape);
    add_vocabulary(writer, shape->vocabulary);
    add_values(writer, "token_embd.weight", shape->width, shape->vocabulary);
    add_values(writer, "output_norm.weight", shape->width, 1);
    for (uint32_t i = 0; i < shape->n_layers; i++) {
        const struct part parts[] = {
            {"attn_norm.weight", shape->width, 1, 1},
            {"attn_q.weight", shape->width, shape->width, 1},
            {"attn_k.weight", shape->width, kv, 1},
            {"attn_v.weight", shape->width, kv, 1},
            {"attn_output.weight", shape->width, shape->width, 1},
            {"ffn_norm.weight", shape->width, 1, 1},
        };
        add_parts(writer, i, parts, sizeof parts / sizeof *parts);
        add_feed_forward(writer, i, shape, experts);
    }
}

void gguf_add_tiny_llama(struct gguf_writer *writer, const struct tiny_shape *shape)
{
    add_tiny(writer, "llama", shape, NULL);
}

void gguf_add_tiny_of(struct gguf_writer *writer, const char *architecture,
                      const struct tiny_shape *shape)
{
    add_tiny(writer, architecture, shape, NULL);
}

void gguf_add_tiny_experts_of(struct gguf_writer *writer, const char *architecture,
                              const struct tiny_shape *shape, const struct tiny_experts *experts)
{
    gguf_add_u32(writer, gguf_key_of(architecture, "expert_count").text, experts->n);
    gguf_add_u32(writer, gguf_key_of(architecture, "expert_used_count").text, experts->n_used);
    add_tiny(writer, architecture, shape, experts);
}

void gguf_add_tiny_experts(struct gguf_writer *writer, const struct tiny_shape *shape,
                           const struct tiny_experts *experts)
{
    gguf_add_tiny_experts_of(writer, "llama", shape, experts);
}

/* --- latent attention --- */

static void add_latent_keys(struct gguf_writer *writer, const struct tiny_latent *latent)
{
    const struct {
        const char *key;
        uint32_t number;
    } numbers[] = {
        {"attention.kv_lora_rank", 24},      {"rope.dimension_count", 8},
        {"leading_dense_block_count", 1},    {"expert_count", 6},
        {"expert_used_count", 2},            {"expert_feed_forward_length", 32},
        {"expert_shared_count", 2},          {"attention.key_length", latent->is_joined ? 24 : 32},
        {"attention.value_length", latent->is_joined ? 12 : 24},
        {"attention.key_length_mla", 24},    {"attention.value_length_mla", 12},
        {"attention.q_lora_rank", 20},
    };
    struct tiny_shape shape = TINY_SHAPE;
    shape.n_kv_heads = latent->is_joined ? 4 : 1;
    add_tiny_keys(writer, "deepseek2", &shape);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        bool is_absent = (latent->is_joined && strstr(numbers[i].key, "_mla") != NULL) ||
                         (!latent->has_q_rank && strstr(numbers[i].key, "q_lora") != NULL);
        if (!is_absent)
            gguf_add_u32(writer, gguf_key_of("deepseek2", numbers[i].key).text, numbers[i].number);
    }
}

void gguf_add_tiny_latent(struct gguf_writer *writer, const struct tiny_latent *latent)
{
    const struct part common[] = {
        {"attn_norm.weight", 64, 1, 1},       {"attn_kv_a_mqa.weight", 64, 32, 1},
        {"attn_kv_a_norm.weight", 24, 1, 1},  {"attn_output.weight", 48, 64, 1},
        {"ffn_norm.weight", 64, 1, 1},
    };
    const struct part ranked[] = {{"attn_q_a.weight", 64, 20, 1},
                                  {"attn_q_a_norm.weight", 20, 1, 1},
                                  {"attn_q_b.weight", 20, 96, 1}};
    const struct part whole[] = {{"attn_q.weight", 64, 96, 1}};
    const struct part joined[] = {{"attn_kv_b.weight", 24, 4 * (16 + 12), 1}};
    const struct part apart[] = {{"attn_k_b.weight", 16, 24, 4}, {"attn_v_b.weight", 24, 12, 4}};
    const struct part shared[] = {{"ffn_gate_shexp.weight", 64, 64, 1},
                                  {"ffn_up_shexp.weight", 64, 64, 1},
                                  {"ffn_down_shexp.weight", 64, 64, 1}};
    struct tiny_shape shape = TINY_SHAPE;
    struct tiny_experts experts = {6, 2, false};

    add_latent_keys(writer, latent);
    add_vocabulary(writer, shape.vocabulary);
    add_values(writer, "token_embd.weight", shape.width, shape.vocabulary);
    add_values(writer, "output_norm.weight", shape.width, 1);
    for (uint32_t i = 0; i < 2; i++) {
        add_parts(writer, i, common, 5);
        add_parts(writer, i, latent->has_q_rank ? ranked : whole, latent->has_q_rank ? 3 : 1);
        add_parts(writer, i, latent->is_joined ? joined : apart, latent->is_joined ? 1 : 2);
        if (i == 0) {
            add_feed_forward(writer, i, &shape, NULL);
            continue;
        }
        shape.n_ff = 32;
        add_feed_forward(writer, i, &shape, &experts);
        add_parts(writer, i, shared, 3);
    }
}
