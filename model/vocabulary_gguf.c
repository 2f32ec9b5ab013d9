#include "model/vocabulary_gguf.h"

#include <stdlib.h>
#include <string.h>

#include "limits.h"
#include "model/gguf.h"
#include "model/vocabulary.h"

/* What must live until vocabulary_create has copied it. */
struct loaded_lists {
    struct slice *tokens, *merges;
    int32_t *types;
    double *scores;
};

/* A list of strings, or NULL and 0 when the key is absent. */
static int read_strings(const struct gguf *file, const char *key, uint64_t n_max,
                        struct slice **out, uint32_t *n, struct why *why)
{
    const struct gguf_value *value = gguf_find(file, key);
    if (value == NULL)
        return STATUS_OK;
    if (value->kind != GGUF_ARRAY || value->element != GGUF_STRING)
        return refuse(why, STATUS_CORRUPT, "%s is not an array of strings", key);
    if (value->n > n_max)
        return refuse(why, STATUS_CORRUPT, "%s has %llu entries, over %llu", key,
                      (unsigned long long)value->n, (unsigned long long)n_max);
    *out = calloc(value->n + 1, sizeof **out);
    if (*out == NULL)
        return refuse(why, STATUS_NO_MEMORY, "no memory for the %llu entries of %s",
                      (unsigned long long)value->n, key);
    for (uint64_t i = 0; i < value->n; i++)
        (*out)[i] = gguf_string_at(value, i);
    *n = (uint32_t)value->n;
    return STATUS_OK;
}

static int read_types(const struct gguf *file, struct vocabulary_source *source,
                      struct loaded_lists *lists, struct why *why)
{
    static const char key[] = "tokenizer.ggml.token_type";
    const struct gguf_value *value = gguf_find(file, key);
    if (value == NULL)
        return STATUS_OK;
    if (value->kind != GGUF_ARRAY || (value->element != GGUF_I32 && value->element != GGUF_U32))
        return refuse(why, STATUS_CORRUPT, "%s is not an array of 32-bit integers", key);
    if (value->n > MODEL_VOCABULARY_MAX)
        return refuse(why, STATUS_CORRUPT, "%s has %llu entries, over %u", key,
                      (unsigned long long)value->n, MODEL_VOCABULARY_MAX);
    lists->types = calloc(value->n + 1, sizeof *lists->types);
    if (lists->types == NULL)
        return refuse(why, STATUS_NO_MEMORY, "no memory for the %llu entries of %s",
                      (unsigned long long)value->n, key);
    memcpy(lists->types, value->bytes, value->n * sizeof *lists->types);
    source->types = lists->types;
    source->n_types = (uint32_t)value->n;
    return STATUS_OK;
}

/* Byte-level BPE never looks at them, but a list of another kind or length says that the file was
 * put together wrongly. */
static int read_scores(const struct gguf *file, struct vocabulary_source *source,
                       struct loaded_lists *lists, struct why *why)
{
    static const char key[] = "tokenizer.ggml.scores";
    const struct gguf_value *value = gguf_find(file, key);
    if (value == NULL)
        return STATUS_OK;
    if (value->kind != GGUF_ARRAY || (value->element != GGUF_F32 && value->element != GGUF_I32))
        return refuse(why, STATUS_CORRUPT, "%s is not an array of 32-bit numbers", key);
    if (value->n > MODEL_VOCABULARY_MAX)
        return refuse(why, STATUS_CORRUPT, "%s has %llu entries, over %u", key,
                      (unsigned long long)value->n, MODEL_VOCABULARY_MAX);
    lists->scores = calloc(value->n + 1, sizeof *lists->scores);
    if (lists->scores == NULL)
        return refuse(why, STATUS_NO_MEMORY, "no memory for the %llu entries of %s",
                      (unsigned long long)value->n, key);
    for (uint64_t i = 0; i < value->n; i++) {
        float real;
        int32_t whole;
        memcpy(&real, value->bytes + 4 * i, sizeof real);
        memcpy(&whole, value->bytes + 4 * i, sizeof whole);
        lists->scores[i] = value->element == GGUF_F32 ? (double)real : whole;
    }
    source->scores = lists->scores;
    source->n_scores = (uint32_t)value->n;
    return STATUS_OK;
}

static int read_id(const struct gguf *file, const char *key, int64_t *out, struct why *why)
{
    uint32_t id;
    int found = gguf_u32(file, key, &id, why);
    *out = found == 1 ? (int64_t)id : -1;
    return found < 0 ? found : STATUS_OK;
}

static int read_flag(const struct gguf *file, const char *key, int *out, struct why *why)
{
    bool flag;
    int found = gguf_bool(file, key, &flag, why);
    *out = found == 1 ? (int)flag : -1;
    return found < 0 ? found : STATUS_OK;
}

static int read_scalars(const struct gguf *file, struct vocabulary_source *source, struct why *why)
{
    int status = gguf_string(file, "tokenizer.ggml.model", &source->model, why);
    if (status >= 0)
        status = gguf_string(file, "tokenizer.ggml.pre", &source->pre, why);
    if (status >= 0)
        status = gguf_string(file, "tokenizer.chat_template", &source->chat_template, why);
    if (status >= 0)
        status = read_id(file, "tokenizer.ggml.bos_token_id", &source->bos_id, why);
    if (status >= 0)
        status = read_id(file, "tokenizer.ggml.eos_token_id", &source->eos_id, why);
    if (status >= 0)
        status = read_id(file, "tokenizer.ggml.eot_token_id", &source->eot_id, why);
    if (status >= 0)
        status = read_id(file, "tokenizer.ggml.eom_token_id", &source->eom_id, why);
    if (status >= 0)
        status = read_id(file, "tokenizer.ggml.unknown_token_id", &source->unknown_id, why);
    if (status >= 0)
        status = read_id(file, "tokenizer.ggml.padding_token_id", &source->padding_id, why);
    if (status >= 0)
        status = read_flag(file, "tokenizer.ggml.add_bos_token", &source->add_bos, why);
    if (status >= 0)
        status = read_flag(file, "tokenizer.ggml.add_eos_token", &source->add_eos, why);
    if (status >= 0)
        status = read_flag(file, "tokenizer.ggml.add_space_prefix", &source->add_space_prefix, why);
    return status < 0 ? status : STATUS_OK;
}

int vocabulary_gguf_read(const struct gguf *file, struct vocabulary **out, struct why *why)
{
    struct vocabulary_source source = {0};
    struct loaded_lists lists = {0};
    int status = read_scalars(file, &source, why);
    if (status == STATUS_OK)
        status = read_strings(file, "tokenizer.ggml.tokens", MODEL_VOCABULARY_MAX, &lists.tokens,
                              &source.n_tokens, why);
    if (status == STATUS_OK)
        status = read_strings(file, "tokenizer.ggml.merges", VOCABULARY_MERGES_MAX, &lists.merges,
                              &source.n_merges, why);
    if (status == STATUS_OK)
        status = read_types(file, &source, &lists, why);
    if (status == STATUS_OK)
        status = read_scores(file, &source, &lists, why);
    if (status == STATUS_OK) {
        source.tokens = lists.tokens;
        source.merges = lists.merges;
        status = vocabulary_create(&source, out, why);
    }
    free(lists.tokens);
    free(lists.merges);
    free(lists.types);
    free(lists.scores);
    return status;
}
