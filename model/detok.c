#include "model/detok.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "base/text.h"
#include "base/utf8.h"
#include "model/vocabulary.h"

#define REPLACEMENT_BYTES 3 /* of U+FFFD, for each byte at worst */
#define CHUNK_BYTES 256

void detok_init(struct detok *detok, const struct vocabulary *vocabulary, bool shows_control,
                bool begins_text)
{
    *detok = (struct detok){.vocabulary = vocabulary,
                            .shows_control = shows_control,
                            .drops_blank = begins_text && vocabulary_adds_space_prefix(vocabulary)};
}

struct slice detok_bytes(struct detok *detok, uint32_t id)
{
    if (vocabulary_is_control(detok->vocabulary, id) && !detok->shows_control)
        return slice_of(NULL, 0);
    struct slice bytes = vocabulary_bytes(detok->vocabulary, id);
    if (bytes.len > 0 && detok->drops_blank) {
        detok->drops_blank = false;
        if (bytes.bytes[0] == ' ')
            return slice_of(bytes.bytes + 1, bytes.len - 1);
    }
    return bytes;
}

size_t detok_bound(const struct vocabulary *vocabulary, uint32_t id)
{
    return REPLACEMENT_BYTES * (vocabulary_bytes(vocabulary, id).len + DETOK_PENDING_BYTES);
}

size_t detok_push(struct detok *detok, uint32_t id, uint8_t *out)
{
    struct slice token = detok_bytes(detok, id);
    size_t n_out = 0;
    while (token.len > 0) {
        uint8_t chunk[DETOK_PENDING_BYTES + CHUNK_BYTES];
        size_t n_taken = token.len < CHUNK_BYTES ? token.len : CHUNK_BYTES;
        memcpy(chunk, detok->pending, detok->n_pending);
        memcpy(chunk + detok->n_pending, token.bytes, n_taken);
        size_t n = detok->n_pending + n_taken;
        token = slice_of(token.bytes + n_taken, token.len - n_taken);

        size_t n_complete = utf8_complete_len(chunk, n);
        n_out += utf8_repair(chunk, n_complete, out + n_out, NULL);
        assert(n - n_complete <= DETOK_PENDING_BYTES);
        detok->n_pending = (uint8_t)(n - n_complete);
        memcpy(detok->pending, chunk + n_complete, detok->n_pending);
    }
    return n_out;
}

size_t detok_flush(struct detok *detok, uint8_t out[DETOK_FLUSH_BYTES])
{
    size_t n = utf8_repair(detok->pending, detok->n_pending, out, NULL);
    assert(n <= DETOK_FLUSH_BYTES);
    detok->n_pending = 0;
    return n;
}

static int check_ids(const struct vocabulary *vocabulary, const uint32_t *ids, size_t n,
                     struct why *why)
{
    uint32_t n_tokens = vocabulary_n_tokens(vocabulary);
    for (size_t i = 0; i < n; i++)
        if (ids[i] >= n_tokens)
            return refuse(why, STATUS_INVALID,
                          "token id %u at index %zu is not below %u, the "
                          "size of the vocabulary",
                          ids[i], i, n_tokens);
    return STATUS_OK;
}

int detok_all(const struct vocabulary *vocabulary, const uint32_t *ids, size_t n,
              bool shows_control, size_t max_bytes, uint8_t **out, size_t *len, struct why *why)
{
    int status = check_ids(vocabulary, ids, n, why);
    if (status < 0)
        return status;

    struct detok detok;
    detok_init(&detok, vocabulary, shows_control, true);
    uint8_t *text = NULL;
    size_t n_text = 0, capacity = 0;
    for (size_t i = 0; i <= n; i++) {
        size_t bound = i < n ? detok_bound(vocabulary, ids[i]) : DETOK_FLUSH_BYTES;
        if (bound > capacity - n_text) {
            capacity = 2 * (capacity + bound);
            uint8_t *grown = realloc(text, capacity);
            if (grown == NULL) {
                free(text);
                return refuse(why, STATUS_NO_MEMORY, "no memory for a text of %zu bytes", capacity);
            }
            text = grown;
        }
        n_text +=
            i < n ? detok_push(&detok, ids[i], text + n_text) : detok_flush(&detok, text + n_text);
        if (n_text > max_bytes) {
            char most[TEXT_NUMBER_BYTES];
            free(text);
            return refuse(why, STATUS_TOO_LARGE,
                          "the text of %zu tokens is over %s after %zu of "
                          "them; send fewer at a time",
                          n, text_bytes(most, max_bytes), i + (i < n));
        }
    }
    *out = text;
    *len = n_text;
    return STATUS_OK;
}
