/* tests/model/gguf_fixture.h: writes GGUF files, sound and otherwise, for tests. */
#ifndef QUIRE_TESTS_MODEL_GGUF_FIXTURE_H
#define QUIRE_TESTS_MODEL_GGUF_FIXTURE_H

#include "model/gguf.h"

#include <stdint.h>
#include <stdio.h>

struct gguf_writer {
    uint8_t *keys, *infos, *data;
    size_t n_keys_bytes, n_infos_bytes, n_data_bytes;
    uint64_t n_keys, n_tensors;
    uint32_t version; /* 3 */
};

void gguf_writer_init(struct gguf_writer *writer);
void gguf_writer_release(struct gguf_writer *writer);
void gguf_add_raw(struct gguf_writer *writer, const char *key, uint32_t kind, const void *bytes,
                  size_t n);
void gguf_add_u32(struct gguf_writer *writer, const char *key, uint32_t number);
void gguf_add_f32(struct gguf_writer *writer, const char *key, float number);
void gguf_add_string(struct gguf_writer *writer, const char *key, const char *text);
void gguf_add_strings(struct gguf_writer *writer, const char *key, const char *const *texts,
                      uint64_t n);
void gguf_add_tensor(struct gguf_writer *writer, const char *name, uint32_t type, uint32_t n_dims,
                     const uint64_t *dims, const void *bytes, size_t n_bytes);
/* Writes the file and returns its path (valid until the next call); n_cut bytes are left off its
 * end. */
const char *gguf_write(const struct gguf_writer *writer, size_t n_cut);
void gguf_write_as(const struct gguf_writer *writer, const char *path, size_t n_cut);
/* Opens what the writer holds: the status, with the sentence in why. *out may be NULL to close at
 * once. */
int gguf_open_written(const struct gguf_writer *writer, struct gguf **out, struct why *why);

/* A tiny random llama: 300 tokens, F32 unless type says otherwise; deterministic. */
struct tiny_shape {
    uint32_t n_layers, width, n_heads, n_kv_heads, n_ff, vocabulary;
};
#define TINY_SHAPE ((struct tiny_shape){2, 64, 4, 2, 96, 300})
void gguf_add_tiny_llama(struct gguf_writer *writer, const struct tiny_shape *shape);
/* The same with experts for the feed-forward, of n_ff values each, as Mixtral has them. */
struct tiny_experts {
    uint32_t n, n_used;
    bool is_fused; /* gate and up in one tensor */
};
#define TINY_EXPERTS ((struct tiny_experts){5, 2, false})
void gguf_add_tiny_experts(struct gguf_writer *writer, const struct tiny_shape *shape,
                           const struct tiny_experts *experts);
/* The same keys and tensors under another architecture's name. */
void gguf_add_tiny_of(struct gguf_writer *writer, const char *architecture,
                      const struct tiny_shape *shape);
void gguf_add_tiny_experts_of(struct gguf_writer *writer, const char *architecture,
                              const struct tiny_shape *shape, const struct tiny_experts *experts);
/* A tiny deepseek2 of two layers, the first of them dense: 4 heads of nope 16 | rope 8, values of
 * 12, rank 24, six experts and a shared one. */
struct tiny_latent {
    bool is_joined;  /* attn_kv_b, and the keys that belong to it */
    bool has_q_rank; /* queries of a rank of 20 */
};
void gguf_add_tiny_latent(struct gguf_writer *writer, const struct tiny_latent *latent);
/* A key of an architecture: <architecture>.<key>. */
struct gguf_key {
    char text[96];
};
struct gguf_key gguf_key_of(const char *architecture, const char *key);
/* The same value for the same tensor and index on every call: what a naive reference reads. */
float tiny_value(const char *tensor, uint64_t i);

#endif
