/* service/grpc_call.h: a gRPC call over one HTTP/2 stream: the codec behind struct call.
 *
 *              begin            end of request          send, open_reply
 *   HEADERS ----------> BODY ------------------> HANDLED ---------------> REPLYING
 *      |                 |  '---------------------- | ----------------------^  |
 *      | refused         | finish                   | finish                   | finish
 *      '-----------------+-----------> TRAILERS <---+--------------------------'
 * | the stream is closed (by both ends, a reset, or the connection)
 *                                         v
 *                                      CLOSED, freed             CLOSED is reached from every state
 *
 * The request side (grpc_request.c) goes on in REPLYING: a bidi call reads and writes at once.
 * Upload bytes are credited to the connection when they arrive and to the stream when the reader
 * took them, so a handler that wants no more closes its own window only. In TRAILERS the outcome is
 * decided: what is left of the out-buffer goes out, then the trailers. A request that is not gRPC
 * gets a plain HTTP answer the same way. Thread: the loop. Freed by grpc_call_close and nowhere
 * else.
 */
#ifndef QUIRE_SERVICE_GRPC_CALL_H
#define QUIRE_SERVICE_GRPC_CALL_H

#include "service/byte_queue.h"
#include "service/call.h"
#include "service/grpc_frame.h"
#include "service/grpc_header.h"
#include "service/h2_conn.h"

enum grpc_call_state {
    GRPC_HEADERS,
    GRPC_BODY,
    GRPC_HANDLED,
    GRPC_REPLYING,
    GRPC_TRAILERS,
    GRPC_CLOSED,
};

/* What the header block said; freed when it was judged, and when a plain answer was given. */
struct grpc_head {
    size_t metadata_bytes; /* name + value + 32 a field */
    uint32_t n_fields;
    enum grpc_content content;
    bool is_post, is_head;
    bool bad_timeout, bad_base64, unknown_encoding;
    bool has_timeout;
    int64_t timeout_ns;
    char path[PATH_BYTES_MAX + 1]; /* "" when longer */
    char agent[64];
};

/* The answer to a request that is not gRPC. */
struct grpc_plain {
    const char *http_status, *text;
    const char *allow; /* methods; NULL: not said */
};

struct grpc_call {
    struct call call;        /* first: what handlers hold; entered in the table once has_call */
    struct h2_conn *conn;
    int32_t stream_id;
    enum grpc_call_state state;
    struct list in_conn;
    struct list in_drained;
    struct grpc_head *head;  /* in HEADERS only; NULL after */
    bool has_call;
    const struct grpc_plain *plain; /* not gRPC: this is said when the request has ended ... */
    bool is_plain;           /* ... `out` is its text then, no trailers follow */

    /* the request */
    struct grpc_reader reader;
    struct byte_queue waiting; /* arrived while the handler wanted nothing */
    bool request_ended;      /* END_STREAM is in */
    bool request_settled;    /* and on_end has been told */
    bool wants;              /* false from STATUS_AGAIN to call_want_more */
    bool delivering;         /* inside on_message or on_end */
    bool handler_knows;      /* it got a callback: a cancel concerns it */
    uint32_t n_messages;
    uint32_t n_empty_frames;
    uint64_t received_bytes;
    uint64_t judged_bytes;   /* received when request_timer was set */

    /* the reply */
    struct byte_queue out;
    /* bytes that the message at the front of out still lacks on the wire; 0: a message border */
    size_t front_left;
    uint32_t n_sent;         /* messages */
    uint64_t sent_bytes;     /* pulled by the connection */
    uint64_t stalled_bytes;  /* sent_bytes when stall_timer was set */
    bool above_mark;
    bool reply_open;         /* response HEADERS are submitted */
    bool trailers_submitted;
    bool was_reset;          /* by us: nothing else will be sent */
    int grpc_code;           /* of the outcome */
    struct grpc_trailers *trailers;

    struct timer deadline_timer;
    struct timer request_timer; /* a first or half message that does not grow */
    struct timer stall_timer;   /* unsent bytes that nobody takes */
    int64_t began_ns;
};

/* --- by the session, in the order of a stream's life --- */
struct grpc_call *grpc_call_create(struct h2_conn *conn, int32_t stream_id); /* NULL: no memory */
void grpc_call_take_header(struct grpc_call *grpc, struct slice name, struct slice value);
void grpc_call_begin(struct grpc_call *grpc, bool request_ends); /* the header block is complete */
void grpc_call_take_body(struct grpc_call *grpc, struct slice bytes);
void grpc_call_end_request(struct grpc_call *grpc);
/* cancels what is not finished; frees */
void grpc_call_close(struct grpc_call *grpc, uint32_t error_code);

/* --- by the connection and the server --- */
void grpc_call_tell_drained(struct h2_conn *conn); /* on_drain for all whose out-buffer fell */
/* Ends a call from outside its handler: on_cancel, unsent messages are dropped, then trailers with
 * status, sentence and numbers. When a message is cut in its middle only a reset is left: with
 * reset_code. */
void grpc_call_end(struct grpc_call *grpc, int status, const struct why *why,
                   uint32_t reset_code);
struct grpc_call *grpc_call_of(struct call *call);

/* --- inside: request side to reply side --- */
extern const struct call_codec grpc_codec;
/* asserts the transition */
void grpc_call_set_state(struct grpc_call *grpc, enum grpc_call_state next);
const char *grpc_call_state_name(enum grpc_call_state state);
void grpc_call_refuse(struct grpc_call *grpc, int status, const struct why *why);
void grpc_call_answer_plain(struct grpc_call *grpc);
void grpc_request_want_more(struct call *call);
void grpc_request_release(struct grpc_call *grpc); /* its buffers; not while delivering */

#endif
