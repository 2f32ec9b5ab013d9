#include "model/token_stream.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "base/utf8.h"
#include "model/special_table.h"
#include "model/tokenizer.h"

/* Less than this is not worth a try. */
#define ATTEMPT_BYTES 4096

struct token_stream {
    struct text_encoder encoder;
    bool add_special, is_open; /* is_open: what stands before the text has been written */
    uint64_t n_done;           /* bytes of the text in tokens: held[0] is byte n_done */
    size_t n_held;
    size_t n_valid; /* of held: whole characters */
    size_t
        next_attempt; /* n_held that makes the next try worth it: work stays linear in the text */
    uint8_t held[TOKEN_STREAM_BYTES];
};

/* A full buffer always moves: behind what a special token may hold back there is still a whole
 * window. */
_Static_assert(TOKEN_STREAM_BYTES >= PIECE_WINDOW_BYTES + SPECIAL_BYTES_MAX + 8, "a window fits");
_Static_assert(ATTEMPT_BYTES < TOKEN_STREAM_BYTES, "a try comes before the buffer is full");

int token_stream_create(const struct vocabulary *vocabulary, bool add_special, bool parse_special,
                        struct token_stream **out, struct why *why)
{
    struct token_stream *stream = calloc(1, sizeof *stream);
    if (stream == NULL)
        return refuse(why, STATUS_NO_MEMORY, "no memory for a stream of text (%zu bytes)",
                      sizeof *stream);
    int status = text_encoder_init(&stream->encoder, vocabulary, parse_special, why);
    if (status < 0) {
        token_stream_free(stream);
        return status;
    }
    stream->add_special = add_special;
    stream->next_attempt = ATTEMPT_BYTES;
    *out = stream;
    return STATUS_OK;
}

void token_stream_free(struct token_stream *stream)
{
    if (stream == NULL)
        return;
    text_encoder_release(&stream->encoder);
    free(stream);
}

uint64_t token_stream_n_bytes(const struct token_stream *stream)
{
    return stream->n_done + stream->n_held;
}

uint64_t token_stream_n_done(const struct token_stream *stream)
{
    return stream->n_done;
}

/* Checks what has come since the last time, up to the last whole character. */
static int validate(struct token_stream *stream, struct why *why)
{
    const uint8_t *fresh = stream->held + stream->n_valid;
    size_t n_fresh = utf8_complete_len(fresh, stream->n_held - stream->n_valid), bad = 0;
    if (!utf8_is_valid(fresh, n_fresh, &bad)) {
        unsigned long long at = stream->n_done + stream->n_valid + bad;
        return refuse(why, STATUS_INVALID, "the text is not UTF-8: byte 0x%02X at offset %llu",
                      fresh[bad], at);
    }
    stream->n_valid += n_fresh;
    return STATUS_OK;
}

static int advance(struct token_stream *stream, bool at_end, struct token_buffer *out,
                   struct why *why)
{
    size_t n = 0;
    int status = STATUS_OK;
    if (!stream->is_open && stream->add_special)
        status = text_encoder_open(&stream->encoder, out, why);
    stream->is_open = true;
    if (status == STATUS_OK)
        status = text_encoder_advance(&stream->encoder, slice_of(stream->held, stream->n_valid),
                                      at_end, stream->n_done, out, &n, why);
    stream->n_done += n;
    stream->n_held -= n;
    stream->n_valid -= n;
    memmove(stream->held, stream->held + n, stream->n_held);

    stream->next_attempt = 2 * stream->n_held;
    if (stream->next_attempt < ATTEMPT_BYTES)
        stream->next_attempt = ATTEMPT_BYTES;
    if (stream->next_attempt > TOKEN_STREAM_BYTES)
        stream->next_attempt = TOKEN_STREAM_BYTES;
    return status;
}

int token_stream_feed(struct token_stream *stream, struct slice bytes, struct token_buffer *out,
                      struct why *why)
{
    while (bytes.len > 0) {
        size_t n = TOKEN_STREAM_BYTES - stream->n_held;
        assert(n > 0);
        if (n > bytes.len)
            n = bytes.len;
        memcpy(stream->held + stream->n_held, bytes.bytes, n);
        stream->n_held += n;
        bytes = slice_of(bytes.bytes + n, bytes.len - n);

        int status = validate(stream, why);
        if (status == STATUS_OK && stream->n_held >= stream->next_attempt)
            status = advance(stream, false, out, why);
        if (status < 0)
            return status;
    }
    return STATUS_OK;
}

int token_stream_finish(struct token_stream *stream, struct token_buffer *out, struct why *why)
{
    if (stream->n_valid < stream->n_held) {
        unsigned long long at = stream->n_done + stream->n_valid;
        return refuse(why, STATUS_INVALID, "the text ends inside a UTF-8 character, at offset %llu",
                      at);
    }
    int status = advance(stream, true, out, why);
    if (status == STATUS_OK && stream->add_special)
        status = text_encoder_close(&stream->encoder, stream->n_done, out, why);
    return status;
}
