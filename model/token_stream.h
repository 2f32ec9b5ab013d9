/* model/token_stream.h: tokenizes a text while it arrives, in pieces of any size, cut anywhere
 * (inside a character too).
 *
 *        fed           | in tokens .......... | held back |  to come
 *                                             ^ a border that no later text can move
 *
 * The ids are exactly those of tokenizer_encode on the whole text, whatever the packets: a
 * border between pieces is taken only when the pattern has decided it without asking for the
 * next character (PCRE2_PARTIAL_HARD), or when the window of PIECE_WINDOW_BYTES that both sides
 * obey is full. So a text without a blank for 64 KiB is cut at the same places here and there.
 *
 * Memory: TOKEN_STREAM_BYTES and the encoder, however long the text. One thread at a time.
 */
#ifndef QUIRE_MODEL_TOKEN_STREAM_H
#define QUIRE_MODEL_TOKEN_STREAM_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"
#include "model/pretokenizer.h"
#include "model/token_buffer.h"

#define TOKEN_STREAM_BYTES (2 * PIECE_WINDOW_BYTES) /* of text held at most */

struct token_stream;
struct vocabulary;
struct why;

/* The vocabulary outlives the stream; the caller frees *out with token_stream_free.
 * STATUS_NO_MEMORY. */
int token_stream_create(const struct vocabulary *vocabulary, bool add_special, bool parse_special,
                        struct token_stream **out, struct why *why);
void token_stream_free(struct token_stream *stream);
/* Takes all of `bytes` and appends what is decided to `out`, the same buffer each time or a
 * fresh one; spans count from the start of the stream. Errors of tokenizer_encode, offsets from
 * the start of the stream; after one only free is allowed. */
int token_stream_feed(struct token_stream *stream, struct slice bytes, struct token_buffer *out,
                      struct why *why);
/* The end of the text: appends the rest. STATUS_INVALID also when the text ends inside a
 * character. Only free may follow. */
int token_stream_finish(struct token_stream *stream, struct token_buffer *out, struct why *why);
uint64_t token_stream_n_bytes(const struct token_stream *stream); /* fed so far */
/* of these in tokens; the rest is held back */
uint64_t token_stream_n_done(const struct token_stream *stream);

#endif
