#include "model/vocabulary.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/log.h"
#include "base/status.h"
#include "base/utf8.h"
#include "limits.h"
#include "model/byte_alphabet.h"
#include "model/merge_table.h"
#include "model/pretokenizer.h"
#include "model/special_table.h"

#define QUOTED_BYTES 80

_Static_assert(MODEL_VOCABULARY_MAX < VOCABULARY_NO_TOKEN, "an id is never VOCABULARY_NO_TOKEN");

struct vocabulary {
    uint32_t n_tokens;
    uint8_t *bytes; /* raw bytes of all tokens, one after the other */
    size_t *begins; /* [n_tokens + 1] offsets in bytes */
    uint8_t *kinds; /* [n_tokens] enum token_kind */
    bool *is_end;   /* [n_tokens] ends generation */
    size_t longest;
    uint32_t *plain_slots; /* [plain_mask + 1] ids by raw bytes, half of them NO_TOKEN */
    uint64_t plain_mask;
    uint32_t byte_ids[256];
    int64_t bos_id, eos_id, unknown_id, padding_id;
    bool adds_bos, adds_eos;
    uint8_t *chat_template;
    size_t chat_template_len;
    struct pretokenizer *pretokenizer;
    struct merge_table merges;
    struct special_table always;  /* user-defined tokens */
    struct special_table special; /* these and control and unknown ones */
};

static const char *const end_texts[] = {
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|eom_id|>",
    "</s>",
    "<EOT>",
    "<\xEF\xBD\x9C"
    "end\xE2\x96\x81of\xE2\x96\x81sentence\xEF\xBD\x9C>",
    "<|eot|>",
    "<|eom|>",
    "<end_of_turn>",
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|file_sep|>",
    "<reponame>",
};

/* --- building --- */

static bool is_end_text(struct slice text)
{
    for (size_t i = 0; i < sizeof end_texts / sizeof end_texts[0]; i++)
        if (slice_equal(text, slice_from(end_texts[i])))
            return true;
    return false;
}

static const char *quote(char out[QUOTED_BYTES], struct slice text)
{
    return log_quote(out, QUOTED_BYTES, (const char *)text.bytes, text.len);
}

static int check_source(const struct vocabulary_source *source, struct why *why)
{
    char quoted[QUOTED_BYTES];
    if (source->model.len == 0)
        return refuse(why, STATUS_UNSUPPORTED,
                      "tokenizer.ggml.model is absent; this build reads gpt2 (byte-level BPE)");
    if (!slice_equal(source->model, slice_from("gpt2")))
        return refuse(why, STATUS_UNSUPPORTED,
                      "tokenizer.ggml.model is %s; this build reads gpt2 (byte-level BPE)",
                      quote(quoted, source->model));
    if (source->n_tokens == 0 || source->n_tokens > MODEL_VOCABULARY_MAX)
        return refuse(why, STATUS_CORRUPT, "tokenizer.ggml.tokens has %u tokens, not 1 to %u",
                      source->n_tokens, MODEL_VOCABULARY_MAX);
    if (source->types != NULL && source->n_types < source->n_tokens)
        return refuse(why, STATUS_CORRUPT, "tokenizer.ggml.token_type has %u entries for %u tokens",
                      source->n_types, source->n_tokens);
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
    v->bos_id = source->bos_id;
    v->eos_id = source->eos_id;
    /* Nothing is built on these two; converters write 2^32 - 1 for "none". */
    v->unknown_id = known_id(source, source->unknown_id);
    v->padding_id = known_id(source, source->padding_id);

    if (source->add_bos == 1 && v->bos_id < 0)
        return refuse(why, STATUS_CORRUPT,
                      "tokenizer.ggml.add_bos_token is true and there is no bos_token_id");
    if (source->add_eos == 1 && v->eos_id < 0)
        return refuse(why, STATUS_CORRUPT,
                      "tokenizer.ggml.add_eos_token is true and there is no eos_token_id");
    bool adds_bos =
        source->add_bos >= 0 ? source->add_bos == 1 : pretokenizer_adds_bos(v->pretokenizer);
    v->adds_bos = adds_bos && v->bos_id >= 0;
    v->adds_eos = source->add_eos == 1;

    const int64_t ends[] = {source->eos_id, source->eot_id, source->eom_id};
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++)
        if (ends[i] >= 0)
            v->is_end[ends[i]] = true;
    return STATUS_OK;
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

/* The slot of these bytes, or the empty slot where they belong. */
static uint32_t *plain_slot(const struct vocabulary *v, struct slice bytes)
{
    uint64_t i = hash64(bytes.bytes, bytes.len, 0) & v->plain_mask;
    while (v->plain_slots[i] != VOCABULARY_NO_TOKEN &&
           !slice_equal(vocabulary_bytes(v, v->plain_slots[i]), bytes))
        i = (i + 1) & v->plain_mask;
    return &v->plain_slots[i];
}

/* What the token is taken for. Turn markers are control whatever the file says, or text of users
 * could write them. */
static enum token_kind kind_of(const struct vocabulary_source *source, uint32_t id, bool is_end)
{
    struct slice text = source->tokens[id];
    enum token_kind kind = TOKEN_NORMAL;
    if (source->types != NULL && source->types[id] != TOKEN_UNDEFINED)
        kind = (enum token_kind)source->types[id];
    bool is_marker = is_end_text(text) || slice_equal(text, slice_from("<|im_start|>"));
    if (is_marker)
        return TOKEN_CONTROL;
    if (kind == TOKEN_USER_DEFINED && (is_end || (int64_t)id == source->bos_id))
        return TOKEN_CONTROL;
    return kind;
}

static int read_token(struct vocabulary *v, const struct vocabulary_source *source, uint32_t id,
                      struct why *why)
{
    struct slice text = source->tokens[id];
    if (source->types != NULL && (source->types[id] < 0 || source->types[id] > TOKEN_BYTE))
        return refuse(why, STATUS_CORRUPT,
                      "tokenizer.ggml.token_type of token %u is %d, not 0 to %d", id,
                      source->types[id], TOKEN_BYTE);
    if (is_end_text(text))
        v->is_end[id] = true;
    enum token_kind kind = kind_of(source, id, v->is_end[id]);
    bool is_special = kind == TOKEN_CONTROL || kind == TOKEN_UNKNOWN || kind == TOKEN_USER_DEFINED;
    if (is_special && text.len > SPECIAL_BYTES_MAX)
        return refuse(why, STATUS_CORRUPT, "special token %u has %zu bytes of text, over %d", id,
                      text.len, SPECIAL_BYTES_MAX);

    uint8_t *raw = v->bytes + v->begins[id];
    size_t len = 0;
    bool is_spelled = byte_alphabet_decode(text, raw, &len);
    if (text.len > 0 && (is_special || !is_spelled)) {
        is_spelled = is_spelled && slice_equal(slice_of(raw, len), text);
        memcpy(raw, text.bytes, text.len);
        len = text.len;
    }
    v->kinds[id] = (uint8_t)kind;
    v->begins[id + 1] = v->begins[id] + len;
    if (len > v->longest)
        v->longest = len;
    /* Of plain tokens with the same bytes the last one counts, as in llama.cpp. */
    if (is_spelled && len > 0 && kind != TOKEN_CONTROL && kind != TOKEN_UNKNOWN)
        *plain_slot(v, slice_of(raw, len)) = id;
    return STATUS_OK;
}

/* Bytes of ordinary text. SmolLM2 has no token for 04 06 13 14 16 1D, nor for F1 and F2, which
 * begin
 * planes that Unicode has not assigned; C0, C1 and F5 to FF never occur in UTF-8. */
static bool is_needed(uint8_t byte)
{
    return byte == '\t' || byte == '\n' || (byte >= 0x20 && byte < 0x7F) ||
           (byte >= 0x80 && byte <= 0xBF) || (byte >= 0xC2 && byte <= 0xF0);
}

static int read_tokens(struct vocabulary *v, const struct vocabulary_source *source,
                       struct why *why)
{
    for (uint32_t id = 0; id < v->n_tokens; id++) {
        int status = read_token(v, source, id, why);
        if (status < 0)
            return status;
    }
    for (unsigned byte = 0; byte < 256; byte++) {
        uint8_t one = (uint8_t)byte;
        v->byte_ids[byte] = VOCABULARY_NO_TOKEN;
        if (!vocabulary_find_plain(v, slice_of(&one, 1), &v->byte_ids[byte]) && is_needed(one))
            return refuse(why, STATUS_CORRUPT,
                          "byte 0x%02X has no token of its own among the %u of "
                          "tokenizer.ggml.tokens, so ordinary text could not be written",
                          byte, v->n_tokens);
    }
    return STATUS_OK;
}

/* Text that is not UTF-8 is never found in text that is. */
static bool can_stand_in_text(struct slice text)
{
    return text.len > 0 && utf8_is_valid(text.bytes, text.len, NULL);
}

static int build_specials(struct vocabulary *v, struct why *why)
{
    struct special *specials = malloc((v->n_tokens + 1u) * sizeof *specials);
    if (specials == NULL)
        return refuse(why, STATUS_NO_MEMORY, "no memory for the special tokens of %u", v->n_tokens);
    size_t n = 0;
    for (uint32_t id = 0; id < v->n_tokens; id++)
        if (v->kinds[id] == TOKEN_USER_DEFINED && can_stand_in_text(vocabulary_bytes(v, id)))
            specials[n++] = (struct special){.text = vocabulary_bytes(v, id), .id = id};
    int status = special_table_init(&v->always, specials, n, why);
    for (uint32_t id = 0; id < v->n_tokens; id++)
        if (vocabulary_is_control(v, id) && can_stand_in_text(vocabulary_bytes(v, id)))
            specials[n++] = (struct special){.text = vocabulary_bytes(v, id), .id = id};
    if (status == STATUS_OK)
        status = special_table_init(&v->special, specials, n, why);
    free(specials);
    return status;
}

/* The plain token of some bytes of merge `rank`. 1 found; 0 it is a special token, which merging
 * must not make. */
static int side_of_merge(const struct vocabulary *v, uint32_t rank, struct slice merge,
                         struct slice side, uint32_t *id, struct why *why)
{
    char quoted[QUOTED_BYTES], whole[QUOTED_BYTES];
    if (vocabulary_find_plain(v, side, id))
        return 1;
    uint32_t special;
    if (vocabulary_find_special(v, side, &special))
        return 0;
    return refuse(why, STATUS_CORRUPT,
                  "merge %u of tokenizer.ggml.merges, %s, needs %s, which is no token", rank,
                  quote(whole, merge), quote(quoted, side));
}

/* raw: room for both sides of any merge. */
static int read_merge(struct vocabulary *v, uint32_t rank, struct slice text, uint8_t *raw,
                      struct why *why)
{
    char quoted[QUOTED_BYTES];
    const uint8_t *blank = text.len > 1 ? memchr(text.bytes + 1, ' ', text.len - 1) : NULL;
    if (blank == NULL)
        return refuse(why, STATUS_CORRUPT,
                      "merge %u of tokenizer.ggml.merges, %s, has no space between two tokens",
                      rank, quote(quoted, text));
    if (text.len > 2 * (size_t)TOKEN_BYTES_MAX + 1)
        return refuse(why, STATUS_CORRUPT,
                      "merge %u of tokenizer.ggml.merges has %zu bytes, over %d", rank, text.len,
                      2 * TOKEN_BYTES_MAX + 1);

    size_t at = (size_t)(blank - text.bytes), n_left, n_right;
    if (!byte_alphabet_decode(slice_of(text.bytes, at), raw, &n_left) ||
        !byte_alphabet_decode(slice_of(blank + 1, text.len - at - 1), raw + n_left, &n_right))
        return refuse(
            why, STATUS_CORRUPT,
            "merge %u of tokenizer.ggml.merges, %s, has a character outside the byte alphabet",
            rank, quote(quoted, text));

    uint32_t left, right, merged;
    int found = side_of_merge(v, rank, text, slice_of(raw, n_left), &left, why);
    if (found == 1)
        found = side_of_merge(v, rank, text, slice_of(raw + n_left, n_right), &right, why);
    if (found == 1)
        found = side_of_merge(v, rank, text, slice_of(raw, n_left + n_right), &merged, why);
    if (found == 1)
        merge_table_add(&v->merges, left, right, rank, merged);
    return found < 0 ? found : STATUS_OK;
}

static int read_merges(struct vocabulary *v, const struct vocabulary_source *source,
                       struct why *why)
{
    int status = merge_table_init(&v->merges, source->n_merges, why);
    if (status < 0)
        return status;
    uint8_t *raw = malloc(2 * (size_t)TOKEN_BYTES_MAX + 1);
    if (raw == NULL)
        return refuse(why, STATUS_NO_MEMORY, "no memory to read merges");
    for (uint32_t rank = 0; rank < source->n_merges && status == STATUS_OK; rank++)
        status = read_merge(v, rank, source->merges[rank], raw, why);
    free(raw);
    return status;
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

    status = pretokenizer_create(source->pre, &v->pretokenizer, why);
    if (status == STATUS_OK)
        status = allocate(v, source, why);
    if (status == STATUS_OK)
        status = read_ids(v, source, why);
    if (status == STATUS_OK)
        status = read_tokens(v, source, why);
    if (status == STATUS_OK)
        status = build_specials(v, why);
    if (status == STATUS_OK)
        status = read_merges(v, source, why);
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
    uint32_t found = *plain_slot(v, bytes);
    if (found != VOCABULARY_NO_TOKEN)
        *id = found;
    return found != VOCABULARY_NO_TOKEN;
}

const struct pretokenizer *vocabulary_pretokenizer(const struct vocabulary *v)
{
    return v->pretokenizer;
}

const struct merge_table *vocabulary_merges(const struct vocabulary *v)
{
    return &v->merges;
}

const uint32_t *vocabulary_byte_ids(const struct vocabulary *v)
{
    return v->byte_ids;
}

const struct special_table *vocabulary_specials(const struct vocabulary *v, bool parse_special)
{
    return parse_special ? &v->special : &v->always;
}
