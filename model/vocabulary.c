#include "model/vocabulary_state.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/status.h"
#include "limits.h"
#include "model/pretokenizer.h"

#define READS "this build reads gpt2 (byte-level BPE) and llama (SentencePiece)"

enum { SENTENCEPIECE_UNKNOWN, SENTENCEPIECE_BOS, SENTENCEPIECE_EOS };

_Static_assert(MODEL_VOCABULARY_MAX < VOCABULARY_NO_TOKEN, "an id is never VOCABULARY_NO_TOKEN");

/* --- building --- */

const char *vocabulary_quote(char out[VOCABULARY_QUOTED_BYTES], struct slice text)
{
    return log_quote(out, VOCABULARY_QUOTED_BYTES, (const char *)text.bytes, text.len);
}

static int check_source(const struct vocabulary_source *source, struct why *why)
{
    char quoted[VOCABULARY_QUOTED_BYTES];
    bool is_sentencepiece = slice_equal(source->model, slice_from("llama"));
    if (source->model.len == 0)
        return refuse(why, STATUS_UNSUPPORTED, "tokenizer.ggml.model is absent; " READS);
    if (!is_sentencepiece && !slice_equal(source->model, slice_from("gpt2")))
        return refuse(why, STATUS_UNSUPPORTED,
                      "tokenizer.ggml.model is %s; " READS ": take a model that has one of these",
                      vocabulary_quote(quoted, source->model));
    if (source->n_tokens == 0 || source->n_tokens > MODEL_VOCABULARY_MAX)
        return refuse(why, STATUS_CORRUPT, "tokenizer.ggml.tokens has %u tokens, not 1 to %u",
                      source->n_tokens, MODEL_VOCABULARY_MAX);
    if (source->types != NULL && source->n_types < source->n_tokens)
        return refuse(why, STATUS_CORRUPT, "tokenizer.ggml.token_type has %u entries for %u tokens",
                      source->n_types, source->n_tokens);
    if (is_sentencepiece && source->scores == NULL)
        return refuse(
            why, STATUS_CORRUPT,
            "tokenizer.ggml.scores is absent, and llama (SentencePiece) merges by scores");
    if (source->scores != NULL && source->n_scores < source->n_tokens)
        return refuse(why, STATUS_CORRUPT, "tokenizer.ggml.scores has %u entries for %u tokens",
                      source->n_scores, source->n_tokens);
    if (source->n_merges > VOCABULARY_MERGES_MAX)
        return refuse(why, STATUS_CORRUPT, "tokenizer.ggml.merges has %u entries, over %u",
                      source->n_merges, VOCABULARY_MERGES_MAX);
    return STATUS_OK;
}

/* An id that generation obeys must exist; -1 says that the file has none. */
static int check_id(const struct vocabulary_source *source, const char *key, int64_t id,
                    struct why *why)
{
    if (id >= -1 && id < (int64_t)source->n_tokens)
        return STATUS_OK;
    return refuse(why, STATUS_CORRUPT, "tokenizer.ggml.%s is %" PRId64 " in a vocabulary of %u",
                  key, id, source->n_tokens);
}

static int64_t known_id(const struct vocabulary_source *source, int64_t id)
{
    return id >= 0 && id < (int64_t)source->n_tokens ? id : -1;
}

/* Where a SentencePiece file does not say, its ids are those of the library's trainer. */
static int64_t id_or(const struct vocabulary *v, const struct vocabulary_source *source, int64_t id,
                     int64_t trained)
{
    return id == -1 && v->is_sentencepiece ? known_id(source, trained) : id;
}

static int read_additions(struct vocabulary *v, const struct vocabulary_source *source,
                          struct why *why)
{
    if (source->add_bos == 1 && v->bos_id < 0)
        return refuse(why, STATUS_CORRUPT,
                      "tokenizer.ggml.add_bos_token is true and there is no bos_token_id");
    if (source->add_eos == 1 && v->eos_id < 0)
        return refuse(why, STATUS_CORRUPT,
                      "tokenizer.ggml.add_eos_token is true and there is no eos_token_id");
    bool adds_bos = v->is_sentencepiece || pretokenizer_adds_bos(v->pretokenizer);
    if (source->add_bos >= 0)
        adds_bos = source->add_bos == 1;
    v->adds_bos = adds_bos && v->bos_id >= 0;
    v->adds_eos = source->add_eos == 1;
    v->adds_space_prefix =
        source->add_space_prefix >= 0 ? source->add_space_prefix == 1 : v->is_sentencepiece;
    return STATUS_OK;
}

static int read_ids(struct vocabulary *v, const struct vocabulary_source *source, struct why *why)
{
    int status = check_id(source, "bos_token_id", source->bos_id, why);
    if (status == STATUS_OK)
        status = check_id(source, "eos_token_id", source->eos_id, why);
    if (status == STATUS_OK)
        status = check_id(source, "eot_token_id", source->eot_id, why);
    if (status == STATUS_OK)
        status = check_id(source, "eom_token_id", source->eom_id, why);
    if (status < 0)
        return status;
    v->bos_id = id_or(v, source, source->bos_id, SENTENCEPIECE_BOS);
    v->eos_id = id_or(v, source, source->eos_id, SENTENCEPIECE_EOS);
    /* Nothing is built on these two; converters write 2^32 - 1 for "none". */
    v->unknown_id = known_id(source, id_or(v, source, source->unknown_id, SENTENCEPIECE_UNKNOWN));
    v->padding_id = known_id(source, source->padding_id);

    const int64_t ends[] = {v->eos_id, source->eot_id, source->eom_id};
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++)
        if (ends[i] >= 0)
            v->is_end[ends[i]] = true;
    return read_additions(v, source, why);
}

static int allocate(struct vocabulary *v, const struct vocabulary_source *source, struct why *why)
{
    size_t n_bytes = 0;
    for (uint32_t id = 0; id < source->n_tokens; id++) {
        size_t len = source->tokens[id].len;
        if (len > TOKEN_BYTES_MAX)
            return refuse(why, STATUS_CORRUPT,
                          "token %u of tokenizer.ggml.tokens has %zu bytes, over %d", id, len,
                          TOKEN_BYTES_MAX);
        n_bytes += len;
    }
    uint64_t n_slots = 4;
    while (n_slots < 2 * (uint64_t)source->n_tokens)
        n_slots *= 2;

    v->n_tokens = source->n_tokens;
    v->plain_mask = n_slots - 1;
    v->bytes = malloc(n_bytes + 1);
    v->begins = calloc(v->n_tokens + 1u, sizeof *v->begins);
    v->kinds = calloc(v->n_tokens, sizeof *v->kinds);
    v->is_end = calloc(v->n_tokens, sizeof *v->is_end);
    v->plain_slots = malloc(n_slots * sizeof *v->plain_slots);
    v->chat_template = malloc(source->chat_template.len + 1);
    if (v->bytes == NULL || v->begins == NULL || v->kinds == NULL || v->is_end == NULL ||
        v->plain_slots == NULL || v->chat_template == NULL)
        return refuse(why, STATUS_NO_MEMORY, "no memory for a vocabulary of %u tokens (%zu bytes)",
                      v->n_tokens, n_bytes);
    memset(v->plain_slots, 0xFF, n_slots * sizeof *v->plain_slots);
    if (source->chat_template.len > 0)
        memcpy(v->chat_template, source->chat_template.bytes, source->chat_template.len);
    v->chat_template_len = source->chat_template.len;
    return STATUS_OK;
}

int vocabulary_create(const struct vocabulary_source *source, struct vocabulary **out,
                      struct why *why)
{
    int status = check_source(source, why);
    if (status < 0)
        return status;
    struct vocabulary *v = calloc(1, sizeof *v);
    if (v == NULL)
        return refuse(why, STATUS_NO_MEMORY, "no memory for a vocabulary");

    v->is_sentencepiece = slice_equal(source->model, slice_from("llama"));
    if (!v->is_sentencepiece)
        status = pretokenizer_create(source->pre, &v->pretokenizer, why);
    if (status == STATUS_OK)
        status = allocate(v, source, why);
    if (status == STATUS_OK)
        status = read_ids(v, source, why);
    if (status == STATUS_OK)
        status = vocabulary_tokens_read(v, source, why);
    if (status == STATUS_OK)
        status = v->is_sentencepiece ? vocabulary_scores_read(v, source, why)
                                     : vocabulary_merges_read(v, source, why);
    if (status < 0) {
        vocabulary_free(v);
        return status;
    }
    *out = v;
    return STATUS_OK;
}

void vocabulary_free(struct vocabulary *v)
{
    if (v == NULL)
        return;
    special_table_release(&v->special);
    special_table_release(&v->always);
    merge_table_release(&v->merges);
    neighbours_release(&v->neighbours);
    pretokenizer_free(v->pretokenizer);
    free(v->chat_template);
    free(v->plain_slots);
    free(v->is_end);
    free(v->kinds);
    free(v->begins);
    free(v->bytes);
    free(v);
}

/* --- reading --- */

uint32_t vocabulary_n_tokens(const struct vocabulary *v)
{
    return v->n_tokens;
}

struct slice vocabulary_bytes(const struct vocabulary *v, uint32_t id)
{
    assert(id < v->n_tokens);
    return slice_of(v->bytes + v->begins[id], v->begins[id + 1] - v->begins[id]);
}

size_t vocabulary_longest(const struct vocabulary *v)
{
    return v->longest;
}

bool vocabulary_is_control(const struct vocabulary *v, uint32_t id)
{
    assert(id < v->n_tokens);
    return v->kinds[id] == TOKEN_CONTROL || v->kinds[id] == TOKEN_UNKNOWN;
}

bool vocabulary_is_end_of_generation(const struct vocabulary *v, uint32_t id)
{
    assert(id < v->n_tokens);
    return v->is_end[id];
}

int64_t vocabulary_bos_id(const struct vocabulary *v)
{
    return v->bos_id;
}

int64_t vocabulary_eos_id(const struct vocabulary *v)
{
    return v->eos_id;
}

int64_t vocabulary_unknown_id(const struct vocabulary *v)
{
    return v->unknown_id;
}

int64_t vocabulary_padding_id(const struct vocabulary *v)
{
    return v->padding_id;
}

bool vocabulary_adds_bos(const struct vocabulary *v)
{
    return v->adds_bos;
}

bool vocabulary_adds_eos(const struct vocabulary *v)
{
    return v->adds_eos;
}

bool vocabulary_adds_space_prefix(const struct vocabulary *v)
{
    return v->adds_space_prefix;
}

struct slice vocabulary_chat_template(const struct vocabulary *v)
{
    return slice_of(v->chat_template, v->chat_template_len);
}

bool vocabulary_find_special(const struct vocabulary *v, struct slice text, uint32_t *id)
{
    return special_table_find(&v->special, text, id);
}

bool vocabulary_find_plain(const struct vocabulary *v, struct slice bytes, uint32_t *id)
{
    if (bytes.len == 0)
        return false;
    uint32_t found = *vocabulary_plain_slot(v, bytes);
    if (found != VOCABULARY_NO_TOKEN)
        *id = found;
    return found != VOCABULARY_NO_TOKEN;
}

const struct pretokenizer *vocabulary_pretokenizer(const struct vocabulary *v)
{
    return v->pretokenizer;
}

const struct neighbours *vocabulary_neighbours(const struct vocabulary *v)
{
    return v->is_sentencepiece ? &v->neighbours : NULL;
}

bool vocabulary_ignores_merges(const struct vocabulary *v)
{
    return !v->is_sentencepiece && pretokenizer_ignores_merges(v->pretokenizer);
}

const struct merge_table *vocabulary_merges(const struct vocabulary *v)
{
    return &v->merges;
}

const uint32_t *vocabulary_byte_ids(const struct vocabulary *v)
{
    return v->byte_ids;
}

bool vocabulary_says_byte(const struct vocabulary *v, uint8_t byte)
{
    return v->is_sentencepiece || v->byte_ids[byte] != VOCABULARY_NO_TOKEN;
}

const struct special_table *vocabulary_specials(const struct vocabulary *v, bool parse_special)
{
    return parse_special ? &v->special : &v->always;
}
