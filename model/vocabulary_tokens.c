#include "model/vocabulary_state.h"

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/status.h"
#include "base/utf8.h"
#include "limits.h"
#include "model/byte_alphabet.h"

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

/* What chat formats part their turns and their tools by (chat_family.c), beside ends. */
static const char *const turn_texts[] = {
    "<|im_start|>",
    "<|im_sep|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|python_tag|>",
    "<|header_start|>",
    "<|header_end|>",
    "<|python_start|>",
    "<|python_end|>",
    "[INST]",
    "[/INST]",
    "[SYSTEM_PROMPT]",
    "[/SYSTEM_PROMPT]",
    "[AVAILABLE_TOOLS]",
    "[/AVAILABLE_TOOLS]",
    "[TOOL_CALLS]",
    "[TOOL_RESULTS]",
    "[/TOOL_RESULTS]",
    "[TOOL_CONTENT]",
    "[CALL_ID]",
    "[ARGS]",
    "<\xEF\xBD\x9C"
    "User\xEF\xBD\x9C>",
    "<\xEF\xBD\x9C"
    "Assistant\xEF\xBD\x9C>",
};

#define IS_ONE_OF(text, texts) is_one_of(text, texts, sizeof(texts) / sizeof *(texts))

static bool is_one_of(struct slice text, const char *const *texts, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (slice_equal(text, slice_from(texts[i])))
            return true;
    return false;
}

static bool is_end_text(struct slice text)
{
    return IS_ONE_OF(text, end_texts);
}

/* The slot of these bytes, or the empty slot where they belong. */
uint32_t *vocabulary_plain_slot(const struct vocabulary *v, struct slice bytes)
{
    uint64_t i = hash64(bytes.bytes, bytes.len, 0) & v->plain_mask;
    while (v->plain_slots[i] != VOCABULARY_NO_TOKEN &&
           !slice_equal(vocabulary_bytes(v, v->plain_slots[i]), bytes))
        i = (i + 1) & v->plain_mask;
    return &v->plain_slots[i];
}

/* "<0x0A>", how SentencePiece writes a byte. */
static bool is_byte_text(struct slice text, uint8_t *byte)
{
    static const char digits[] = "0123456789ABCDEF";
    if (text.len != 6 || memcmp(text.bytes, "<0x", 3) != 0 || text.bytes[5] != '>')
        return false;
    const char *high = memchr(digits, text.bytes[3], 16), *low = memchr(digits, text.bytes[4], 16);
    if (high == NULL || low == NULL)
        return false;
    *byte = (uint8_t)((high - digits) * 16 + (low - digits));
    return true;
}

/* What the token is taken for. A turn's mark that is user-defined, which is found in any text,
 * would be written by the texts of users: it is control, as publishers have most of theirs.
 * ChatML's and ends are control whatever the file says. */
static enum token_kind kind_of(const struct vocabulary_source *source, uint32_t id, bool is_end,
                               bool is_sentencepiece)
{
    struct slice text = source->tokens[id];
    uint8_t byte;
    enum token_kind kind = TOKEN_NORMAL;
    if (source->types != NULL && source->types[id] != TOKEN_UNDEFINED)
        kind = (enum token_kind)source->types[id];
    else if (is_sentencepiece && is_byte_text(text, &byte))
        kind = TOKEN_BYTE;
    bool is_marker = is_end_text(text) || slice_equal(text, slice_from("<|im_start|>"));
    if (is_marker)
        return TOKEN_CONTROL;
    bool is_of_format = is_end || (int64_t)id == source->bos_id || IS_ONE_OF(text, turn_texts);
    if (kind == TOKEN_USER_DEFINED && is_of_format)
        return TOKEN_CONTROL;
    return kind;
}

/* The raw bytes of a token of byte-level BPE. True: merging may make it. */
static bool spell_byte_level(struct slice text, enum token_kind kind, uint8_t *raw, size_t *len)
{
    bool is_special = kind == TOKEN_CONTROL || kind == TOKEN_UNKNOWN || kind == TOKEN_USER_DEFINED;
    bool is_spelled = byte_alphabet_decode(text, raw, len);
    if (text.len > 0 && (is_special || !is_spelled)) {
        is_spelled = is_spelled && slice_equal(slice_of(raw, *len), text);
        memcpy(raw, text.bytes, text.len);
        *len = text.len;
    }
    return is_spelled && kind != TOKEN_CONTROL && kind != TOKEN_UNKNOWN;
}

/* The same of SentencePiece, in which U+2581 stands for a blank. Unused tokens are never made, so
 * none is ever written; models whose unused tokens are steps to others are not known. */
static bool spell_sentencepiece(struct slice text, enum token_kind kind, uint8_t *raw, size_t *len)
{
    bool is_special = kind == TOKEN_CONTROL || kind == TOKEN_UNKNOWN || kind == TOKEN_USER_DEFINED;
    *len = 0;
    if (kind == TOKEN_BYTE) {
        *len = is_byte_text(text, raw) ? 1 : 0;
        return false;
    }
    for (size_t i = 0; i < text.len; ++*len) {
        bool is_blank =
            !is_special && text.len - i >= 3 && memcmp(text.bytes + i, VOCABULARY_BLANK, 3) == 0;
        raw[*len] = is_blank ? ' ' : text.bytes[i];
        i += is_blank ? 3 : 1;
    }
    return kind != TOKEN_CONTROL && kind != TOKEN_UNKNOWN && kind != TOKEN_UNUSED;
}

static int read_token(struct vocabulary *v, const struct vocabulary_source *source, uint32_t id,
                      struct why *why)
{
    char quoted[VOCABULARY_QUOTED_BYTES];
    struct slice text = source->tokens[id];
    if (source->types != NULL && (source->types[id] < 0 || source->types[id] > TOKEN_BYTE))
        return refuse(why, STATUS_CORRUPT,
                      "tokenizer.ggml.token_type of token %u is %d, not 0 to %d", id,
                      source->types[id], TOKEN_BYTE);
    if (is_end_text(text))
        v->is_end[id] = true;
    enum token_kind kind = kind_of(source, id, v->is_end[id], v->is_sentencepiece);
    bool is_special = kind == TOKEN_CONTROL || kind == TOKEN_UNKNOWN || kind == TOKEN_USER_DEFINED;
    if (is_special && text.len > SPECIAL_BYTES_MAX)
        return refuse(why, STATUS_CORRUPT, "special token %u has %zu bytes of text, over %d", id,
                      text.len, SPECIAL_BYTES_MAX);

    uint8_t *raw = v->bytes + v->begins[id];
    size_t len = 0;
    bool is_plain = v->is_sentencepiece ? spell_sentencepiece(text, kind, raw, &len)
                                        : spell_byte_level(text, kind, raw, &len);
    if (v->is_sentencepiece && kind == TOKEN_BYTE && len == 0)
        return refuse(
            why, STATUS_CORRUPT,
            "token %u of tokenizer.ggml.tokens is a byte by its type, and its text is %s, "
            "not <0x00> to <0xFF>",
            id, vocabulary_quote(quoted, text));
    v->kinds[id] = (uint8_t)kind;
    v->begins[id + 1] = v->begins[id] + len;
    if (len > v->longest)
        v->longest = len;
    if (v->is_sentencepiece && kind == TOKEN_BYTE)
        v->byte_ids[*raw] = id;
    /* Of plain tokens with the same bytes the last one counts, as in llama.cpp. */
    if (is_plain && len > 0)
        *vocabulary_plain_slot(v, slice_of(raw, len)) = id;
    return STATUS_OK;
}

/* Bytes of ordinary text. SmolLM2 has no token for 04 06 13 14 16 1D, nor for F1 and F2, which
 * begin planes that Unicode has not assigned; C0, C1 and F5 to FF never occur in UTF-8. */
static bool is_needed(uint8_t byte)
{
    return byte == '\t' || byte == '\n' || (byte >= 0x20 && byte < 0x7F) ||
           (byte >= 0x80 && byte <= 0xBF) || (byte >= 0xC2 && byte <= 0xF0);
}

/* Byte-level BPE begins with the tokens of bytes; SentencePiece ends with them, or with the unknown
 * token. */
static int check_bytes(struct vocabulary *v, struct why *why)
{
    for (unsigned byte = 0; byte < 256; byte++) {
        uint8_t one = (uint8_t)byte;
        if (!v->is_sentencepiece)
            vocabulary_find_plain(v, slice_of(&one, 1), &v->byte_ids[byte]);
        if (v->byte_ids[byte] != VOCABULARY_NO_TOKEN)
            continue;
        if (v->is_sentencepiece && v->unknown_id < 0)
            return refuse(why, STATUS_CORRUPT,
                          "byte 0x%02X has no token <0x%02X> among the %u of "
                          "tokenizer.ggml.tokens, and there is no unknown_token_id in its place",
                          byte, byte, v->n_tokens);
        if (!v->is_sentencepiece && is_needed(one))
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

int vocabulary_tokens_read(struct vocabulary *v, const struct vocabulary_source *source,
                           struct why *why)
{
    memset(v->byte_ids, 0xFF, sizeof v->byte_ids);
    for (uint32_t id = 0; id < v->n_tokens; id++) {
        int status = read_token(v, source, id, why);
        if (status < 0)
            return status;
    }
    int status = check_bytes(v, why);
    return status < 0 ? status : build_specials(v, why);
}
