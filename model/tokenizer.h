/* model/tokenizer.h: text to token ids.
 *
 *   text --special tokens cut out--> fragments --pretokenizer--> pieces --bpe--> ids
 *                                              (SentencePiece: neighbours)
 *
 * Three doors to the same work: tokenizer_encode for a text in hand, token_stream.h for one that
 * arrives in packets, and struct text_encoder, the working memory that both use. The ids depend
 * on the text alone.
 *
 * Text is UTF-8 (checked once; NUL is text like any other). Special tokens that users may not
 * write, such as the ends of turns, are text too unless parse_special says otherwise: encode
 * what users wrote without it. User-defined tokens are always found. Where special tokens
 * overlap, the leftmost wins, at one place the longest. Where the vocabulary adds a space prefix
 * (SentencePiece), text at the beginning or behind a special token is read as if a blank stood
 * before it; that blank takes no bytes of a span.
 *
 * Thread: any number of calls at once on one vocabulary; an encoder belongs to one thread at a
 * time.
 */
#ifndef QUIRE_MODEL_TOKENIZER_H
#define QUIRE_MODEL_TOKENIZER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"
#include "model/bpe.h"
#include "model/token_buffer.h"

struct piece_matcher;
struct vocabulary;
struct why;

/* Appends the tokens of `text`; add_special: the vocabulary's BOS before and EOS behind them,
 * where it asks for them. STATUS_INVALID (not UTF-8, or a byte without token: which and where),
 * STATUS_TOO_LARGE (over out->n_max), STATUS_NO_MEMORY: out is then as before. Spans, if `out` has
 * them, are bytes of text. Time O(n log n), memory beside `out` bounded by PIECE_WINDOW_BYTES. */
int tokenizer_encode(const struct vocabulary *vocabulary, struct slice text, bool add_special,
                     bool parse_special, struct token_buffer *out, struct why *why);

struct text_encoder {
    const struct vocabulary *vocabulary;
    struct piece_matcher *matcher;
    struct bpe bpe;
    bool parse_special;
    bool wants_prefix; /* the next text begins with a blank of its own */
    uint8_t *prefixed; /* a blank and the text behind it, once it is needed */
};

int text_encoder_init(struct text_encoder *encoder, const struct vocabulary *vocabulary,
                      bool parse_special, struct why *why); /* STATUS_NO_MEMORY */
void text_encoder_release(struct text_encoder *encoder);
/* Appends the tokens of as much of `rest` (valid UTF-8) as is decided: all of it at_end, else
 * what no later text can change. *n_done: bytes that are now in tokens. begin: offset of rest in
 * the text. */
int text_encoder_advance(struct text_encoder *encoder, struct slice rest, bool at_end,
                         uint64_t begin, struct token_buffer *out, size_t *n_done, struct why *why);
/* BOS and EOS, where the vocabulary asks for them. */
int text_encoder_open(struct text_encoder *encoder, struct token_buffer *out, struct why *why);
int text_encoder_close(struct text_encoder *encoder, uint64_t end, struct token_buffer *out,
                       struct why *why);

#endif
