#include "service/grpc_frame.h"

#include "base/text.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define BODY_FIRST_BYTES 1024
#define BODY_KEPT_BYTES 4096 /* a buffer up to this stays for the next message of a stream */

void grpc_reader_init(struct grpc_reader *reader, uint32_t limit, size_t *held, size_t held_max)
{
    *reader = (struct grpc_reader){.limit = limit, .held = held, .held_max = held_max};
}

void grpc_reader_release(struct grpc_reader *reader)
{
    free(reader->body);
    *reader->held -= reader->body_cap;
    reader->body = NULL;
    reader->body_cap = reader->n_body = 0;
    reader->n_prefix = 0;
}

static int check_prefix(struct grpc_reader *reader, struct why *why)
{
    char size[TEXT_NUMBER_BYTES], limit[TEXT_NUMBER_BYTES];
    uint8_t flag = reader->prefix[0];
    reader->body_len = grpc_frame_len(reader->prefix);
    if (flag == 1)
        return refuse(why, STATUS_INTERNAL,
                      "a message is flagged as compressed, but the call names no grpc-encoding");
    if (flag != 0)
        return refuse(why, STATUS_INTERNAL, "a message has the flag %u; only 0 is known here",
                      flag);
    if (reader->body_len > reader->limit)
        return refuse_numbers(
            why, STATUS_TOO_LARGE,
            (struct why_numbers){reader->body_len, reader->limit, "bytes", NULL},
            "the message has %s bytes; this method takes messages of at most %s bytes",
            text_count(size, reader->body_len), text_count(limit, reader->limit));
    return STATUS_OK;
}

/* Room for n more bytes of the body; doubles, but not beyond the announced length. */
static int reserve_body(struct grpc_reader *reader, size_t n, struct why *why)
{
    size_t needed = reader->n_body + n;
    if (needed <= reader->body_cap)
        return STATUS_OK;
    size_t cap = reader->body_cap == 0 ? BODY_FIRST_BYTES : reader->body_cap * 2;
    if (cap < needed)
        cap = needed;
    if (cap > reader->body_len && reader->body_len >= needed)
        cap = reader->body_len;
    size_t more = cap - reader->body_cap;
    if (*reader->held + more > reader->held_max) {
        char limit[TEXT_NUMBER_BYTES];
        return refuse_numbers(
            why, STATUS_EXHAUSTED,
            (struct why_numbers){(double)(*reader->held + more), (double)reader->held_max, "bytes",
                                 NULL},
            "the server holds %s of unfinished requests, its limit; try again later",
            text_bytes(limit, reader->held_max));
    }
    uint8_t *body = realloc(reader->body, cap);
    if (body == NULL)
        return refuse(why, STATUS_NO_MEMORY, "no memory for a message of %u bytes",
                      reader->body_len);
    *reader->held += more;
    reader->body = body;
    reader->body_cap = cap;
    return STATUS_OK;
}

int grpc_reader_take(struct grpc_reader *reader, struct slice bytes, size_t *n_taken,
                     bool *complete, struct why *why)
{
    *n_taken = 0;
    *complete = false;
    if (reader->n_prefix < GRPC_PREFIX_BYTES) {
        size_t n = GRPC_PREFIX_BYTES - reader->n_prefix;
        if (n > bytes.len)
            n = bytes.len;
        if (n != 0)
            memcpy(reader->prefix + reader->n_prefix, bytes.bytes, n);
        reader->n_prefix += (uint32_t)n;
        *n_taken = n;
        if (reader->n_prefix < GRPC_PREFIX_BYTES)
            return STATUS_OK;
        int status = check_prefix(reader, why);
        if (status < 0)
            return status;
    }
    size_t n = reader->body_len - reader->n_body;
    if (n > bytes.len - *n_taken)
        n = bytes.len - *n_taken;
    if (n != 0) {
        int status = reserve_body(reader, n, why);
        if (status < 0)
            return status;
        memcpy(reader->body + reader->n_body, bytes.bytes + *n_taken, n);
        reader->n_body += n;
        *n_taken += n;
    }
    *complete = reader->n_body == reader->body_len;
    return STATUS_OK;
}

struct slice grpc_reader_message(const struct grpc_reader *reader)
{
    assert(reader->n_prefix == GRPC_PREFIX_BYTES && reader->n_body == reader->body_len);
    return slice_of(reader->body, reader->n_body);
}

void grpc_reader_next(struct grpc_reader *reader)
{
    if (reader->body_cap > BODY_KEPT_BYTES)
        grpc_reader_release(reader);
    reader->n_prefix = 0;
    reader->n_body = 0;
}

bool grpc_reader_is_inside(const struct grpc_reader *reader)
{
    if (reader->n_prefix < GRPC_PREFIX_BYTES)
        return reader->n_prefix != 0;
    return reader->n_body < reader->body_len;
}

void grpc_frame_prefix(uint8_t out[GRPC_PREFIX_BYTES], uint32_t len)
{
    out[0] = 0;
    out[1] = (uint8_t)(len >> 24);
    out[2] = (uint8_t)(len >> 16);
    out[3] = (uint8_t)(len >> 8);
    out[4] = (uint8_t)len;
}

uint32_t grpc_frame_len(const uint8_t prefix[GRPC_PREFIX_BYTES])
{
    return (uint32_t)prefix[1] << 24 | (uint32_t)prefix[2] << 16 | (uint32_t)prefix[3] << 8 |
           prefix[4];
}
