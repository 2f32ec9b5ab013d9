/* stream_ids FILE SEED PACKET [special]: the ids of standard input by the vocabulary of a GGUF
 * file, on one line, the text being fed in packets of 1 to PACKET bytes, cut anywhere. What
 * uploads do inside the server; no command shows their ids. */
#include "base/status.h"
#include "model/gguf.h"
#include "model/token_buffer.h"
#include "model/token_stream.h"
#include "model/vocabulary.h"
#include "model/vocabulary_gguf.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_BYTES_MAX (16u << 20)

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static int feed(struct token_stream *stream, struct slice text, uint64_t seed, uint64_t packet,
                struct token_buffer *out, struct why *why)
{
    for (size_t at = 0; at < text.len;) {
        size_t n = 1 + next_random(&seed) % packet;
        if (n > text.len - at)
            n = text.len - at;
        int status = token_stream_feed(stream, slice_of(text.bytes + at, n), out, why);
        if (status < 0)
            return status;
        at += n;
    }
    return token_stream_finish(stream, out, why);
}

int main(int argc, char **argv)
{
    struct why why = {.text = ""};
    struct gguf *file = NULL;
    struct vocabulary *vocabulary = NULL;
    struct token_stream *stream = NULL;
    struct token_buffer out;
    uint8_t *text = malloc(TEXT_BYTES_MAX);
    if (argc < 4 || text == NULL)
        return 2;
    size_t len = fread(text, 1, TEXT_BYTES_MAX, stdin);
    bool special = argc > 4 && strcmp(argv[4], "special") == 0;

    token_buffer_init(&out, TEXT_BYTES_MAX, false);
    int status = gguf_open(argv[1], &file, &why);
    if (status == STATUS_OK)
        status = vocabulary_gguf_read(file, &vocabulary, &why);
    if (status == STATUS_OK)
        status = token_stream_create(vocabulary, false, special, &stream, &why);
    if (status == STATUS_OK)
        status = feed(stream, slice_of(text, len), strtoull(argv[2], NULL, 10) + 1,
                      strtoull(argv[3], NULL, 10), &out, &why);
    for (size_t i = 0; i < out.n && status == STATUS_OK; i++)
        printf("%s%" PRIu32, i == 0 ? "" : " ", out.ids[i]);
    if (status < 0)
        fprintf(stderr, "stream_ids: %s\n", why.text);
    token_stream_free(stream);
    vocabulary_free(vocabulary);
    gguf_close(file);
    token_buffer_release(&out);
    free(text);
    return status < 0;
}
