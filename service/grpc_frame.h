/* service/grpc_frame.h: length-prefixed messages, the body of a gRPC call in both directions.
 *
 *      1 byte   4 bytes, big endian   length bytes
 *    +--------+---------------------+--------------------
 *    | flag 0 |       length        |   message ...
 *    +--------+---------------------+--------------------
 *
 * The reader takes pieces cut anywhere and holds at most one message. The length is checked against
 * the limit when the five bytes are in; memory grows with what has arrived, never with what was
 * announced. All readers of a server share one account of held bytes. Thread: the loop.
 */
#ifndef QUIRE_SERVICE_GRPC_FRAME_H
#define QUIRE_SERVICE_GRPC_FRAME_H

#include "base/slice.h"
#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>

#define GRPC_PREFIX_BYTES 5

struct grpc_reader {
    uint32_t limit;          /* a message of exactly so many bytes passes */
    uint32_t body_len;       /* announced, valid when n_prefix is GRPC_PREFIX_BYTES */
    uint32_t n_prefix;       /* bytes of the prefix that are in */
    uint8_t prefix[GRPC_PREFIX_BYTES];
    uint8_t *body;           /* [body_cap], the first n_body bytes are in */
    size_t n_body;
    size_t body_cap;
    size_t *held;            /* sum of body_cap over all readers */
    size_t held_max;
};

void grpc_reader_init(struct grpc_reader *reader, uint32_t limit, size_t *held, size_t held_max);
/* gives its bytes back to the account; may be called twice */
void grpc_reader_release(struct grpc_reader *reader);

/* Takes bytes up to the end of one message; *n_taken says how many. True in *complete:
 * grpc_reader_message holds it, and nothing more is taken until grpc_reader_next. STATUS_TOO_LARGE
 * (over limit), STATUS_INTERNAL (flag), STATUS_EXHAUSTED (account), STATUS_NO_MEMORY: the stream
 * cannot be read any further. */
int grpc_reader_take(struct grpc_reader *reader, struct slice bytes, size_t *n_taken,
                     bool *complete, struct why *why);
/* valid until next or release */
struct slice grpc_reader_message(const struct grpc_reader *reader);
void grpc_reader_next(struct grpc_reader *reader);
/* a message has begun and is not complete */
bool grpc_reader_is_inside(const struct grpc_reader *reader);

/* The writer: a prefix in front of a message of len bytes. */
void grpc_frame_prefix(uint8_t out[GRPC_PREFIX_BYTES], uint32_t len);
uint32_t grpc_frame_len(const uint8_t prefix[GRPC_PREFIX_BYTES]); /* what the prefix announces */

#endif
