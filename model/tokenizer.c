#include "model/tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "base/text.h"
#include "base/utf8.h"
#include "model/neighbours.h"
#include "model/pretokenizer.h"
#include "model/special_table.h"
#include "model/vocabulary.h"

/* A window and the rest of its last character: of a longer text what a first piece may see. */
#define PREFIXED_BYTES (PIECE_WINDOW_BYTES + 3)

int text_encoder_init(struct text_encoder *encoder, const struct vocabulary *vocabulary,
                      bool parse_special, struct why *why)
{
    const struct pretokenizer *pretokenizer = vocabulary_pretokenizer(vocabulary);
    *encoder = (struct text_encoder){.vocabulary = vocabulary,
                                     .parse_special = parse_special,
                                     .wants_prefix = vocabulary_adds_space_prefix(vocabulary)};
    bpe_init(&encoder->bpe, vocabulary);
    return pretokenizer != NULL ? piece_matcher_create(pretokenizer, &encoder->matcher, why)
                                : STATUS_OK;
}

void text_encoder_release(struct text_encoder *encoder)
{
    piece_matcher_free(encoder->matcher);
    encoder->matcher = NULL;
    free(encoder->prefixed);
    encoder->prefixed = NULL;
    bpe_release(&encoder->bpe);
}

/* Says how far the text had got when the tokens ran out. */
static int refuse_at(int status, uint64_t at, struct why *why)
{
    char bytes[TEXT_NUMBER_BYTES];
    return refuse_prefix(why, status, "at byte %s of the text", text_count(bytes, at));
}

/* The piece at the start of `rest`, as pretokenizer_next and neighbours_next have it. */
static int next_piece(struct text_encoder *encoder, struct slice rest, bool at_end, size_t *len,
                      struct why *why)
{
    const struct neighbours *neighbours = vocabulary_neighbours(encoder->vocabulary);
    if (neighbours != NULL)
        return neighbours_next(neighbours, rest, at_end, len);
    return pretokenizer_next(vocabulary_pretokenizer(encoder->vocabulary), encoder->matcher, rest,
                             at_end, len, why);
}

/* n_blank: bytes at the start of `rest` that are not in the text, which begins at `begin`. */
static int encode_piece(struct text_encoder *encoder, struct slice rest, bool at_end,
                        uint64_t begin, uint64_t n_blank, struct token_buffer *out, size_t *len,
                        struct why *why)
{
    int status = next_piece(encoder, rest, at_end, len, why);
    if (status == STATUS_AGAIN)
        return status;
    if (status < 0)
        return refuse_at(status, begin, why);
    status = bpe_encode(&encoder->bpe, slice_of(rest.bytes, *len), begin - n_blank, out, why);
    return status == STATUS_TOO_LARGE ? refuse_at(status, begin, why) : status;
}

/* The first piece of a text that is read as if a blank stood before it: pieces see a copy that has
 * the blank. *len: bytes of rest, 0 when the blank is a piece of its own. */
static int encode_first_piece(struct text_encoder *encoder, struct slice rest, bool at_end,
                              uint64_t begin, struct token_buffer *out, size_t *len,
                              struct why *why)
{
    size_t n = rest.len, n_before = out->n;
    if (encoder->prefixed == NULL)
        encoder->prefixed = malloc(1 + PREFIXED_BYTES);
    if (encoder->prefixed == NULL)
        return refuse(why, STATUS_NO_MEMORY, "no memory for a piece of %d bytes", PREFIXED_BYTES);
    if (n > PREFIXED_BYTES) { /* what is left is a window all the same, which is always cut */
        for (n = PREFIXED_BYTES; (rest.bytes[n] & 0xC0) == 0x80;)
            n--;
    }
    encoder->prefixed[0] = ' ';
    memcpy(encoder->prefixed + 1, rest.bytes, n);
    int status = encode_piece(encoder, slice_of(encoder->prefixed, 1 + n), at_end && n == rest.len,
                              begin, 1, out, len, why);
    if (status < 0)
        return status;
    if (out->with_spans)
        out->spans[n_before].begin = begin;
    encoder->wants_prefix = false;
    --*len;
    return STATUS_OK;
}

/* The text between two special tokens. */
static int encode_fragment(struct text_encoder *encoder, struct slice fragment, bool at_end,
                           uint64_t begin, struct token_buffer *out, size_t *n_done,
                           struct why *why)
{
    *n_done = 0;
    while (*n_done < fragment.len) {
        struct slice rest = slice_of(fragment.bytes + *n_done, fragment.len - *n_done);
        size_t len = 0;
        int status =
            encoder->wants_prefix
                ? encode_first_piece(encoder, rest, at_end, begin + *n_done, out, &len, why)
                : encode_piece(encoder, rest, at_end, begin + *n_done, 0, out, &len, why);
        if (status < 0)
            return status == STATUS_AGAIN ? STATUS_OK : status;
        *n_done += len;
    }
    return STATUS_OK;
}

int text_encoder_advance(struct text_encoder *encoder, struct slice rest, bool at_end,
                         uint64_t begin, struct token_buffer *out, size_t *n_done, struct why *why)
{
    const struct special_table *specials =
        vocabulary_specials(encoder->vocabulary, encoder->parse_special);
    size_t at = 0;
    int status = STATUS_OK;
    while (at < rest.len) {
        struct slice tail = slice_of(rest.bytes + at, rest.len - at);
        struct special_match match = special_table_search(specials, tail, at_end);
        bool is_closed = match.outcome == SPECIAL_FOUND || at_end;
        size_t n_fragment = 0;
        status = encode_fragment(encoder, slice_of(tail.bytes, match.at), is_closed, begin + at,
                                 out, &n_fragment, why);
        at += n_fragment;
        if (status < 0 || match.outcome != SPECIAL_FOUND)
            break;

        struct token_span span = {.begin = begin + at, .end = begin + at + match.len};
        status = token_buffer_push(out, match.id, span, why);
        if (status < 0) {
            status = refuse_at(status, begin + at, why);
            break;
        }
        at += match.len;
        encoder->wants_prefix = vocabulary_adds_space_prefix(encoder->vocabulary);
    }
    *n_done = at;
    return status;
}

int text_encoder_open(struct text_encoder *encoder, struct token_buffer *out, struct why *why)
{
    if (!vocabulary_adds_bos(encoder->vocabulary))
        return STATUS_OK;
    uint32_t bos = (uint32_t)vocabulary_bos_id(encoder->vocabulary);
    return token_buffer_push(out, bos, (struct token_span){0}, why);
}

int text_encoder_close(struct text_encoder *encoder, uint64_t end, struct token_buffer *out,
                       struct why *why)
{
    if (!vocabulary_adds_eos(encoder->vocabulary))
        return STATUS_OK;
    uint32_t eos = (uint32_t)vocabulary_eos_id(encoder->vocabulary);
    return token_buffer_push(out, eos, (struct token_span){.begin = end, .end = end}, why);
}

int tokenizer_encode(const struct vocabulary *vocabulary, struct slice text, bool add_special,
                     bool parse_special, struct token_buffer *out, struct why *why)
{
    size_t bad = 0;
    if (text.len > 0 && !utf8_is_valid(text.bytes, text.len, &bad))
        return refuse(why, STATUS_INVALID,
                      "the text is not UTF-8: byte 0x%02X at offset %zu of %zu", text.bytes[bad],
                      bad, text.len);

    struct text_encoder encoder;
    size_t n_before = out->n, n_done = 0;
    int status = text_encoder_init(&encoder, vocabulary, parse_special, why);
    if (status == STATUS_OK && add_special)
        status = text_encoder_open(&encoder, out, why);
    if (status == STATUS_OK)
        status = text_encoder_advance(&encoder, text, true, 0, out, &n_done, why);
    if (status == STATUS_OK && add_special)
        status = text_encoder_close(&encoder, text.len, out, why);
    text_encoder_release(&encoder);
    if (status < 0)
        out->n = n_before;
    return status;
}
