/* service/h2_conn.h: one HTTP/2 connection: its socket, its writes, its end. The protocol itself is
 * in h2_session.h.
 *
 * PREFACE --first SETTINGS--> OPEN --nothing left to read or write--> LINGER --peer closed or
 * LINGER_MS--> CLOSED --> freed
 * '------- error, disconnect, limit, timeout: straight to CLOSED from anywhere
 * -------------------------^
 *
 * DATA is pulled out of calls only while no write is in flight: bytes wait in each call's bounded
 * out-buffer, and the connection holds at most one lent write buffer. At CLOSED every call has been
 * cancelled and freed. Thread: the loop; never from inside a callback of the HTTP/2 library, except
 * h2_conn_mark_dirty.
 */
#ifndef QUIRE_SERVICE_H2_CONN_H
#define QUIRE_SERVICE_H2_CONN_H

#include "service/loop.h"

#include <nghttp2/nghttp2.h>

#define PEER_BYTES 64
#define ENDED_STREAMS 16
#define FRAME_HEAD_BYTES 9

enum h2_conn_state { H2_PREFACE, H2_OPEN, H2_LINGER, H2_CLOSED };

struct h2_conn {
    struct list in_loop;
    struct list in_dirty;
    struct loop *loop;
    enum h2_conn_state state;
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } socket;
    uv_shutdown_t shutdown;
    struct write_buffer *writing; /* in flight, or NULL */
    size_t write_left;            /* bytes the kernel had not taken when last looked */
    size_t read_bytes;            /* in this turn */
    bool reading;
    bool shutting_down;           /* the shutdown request is in flight */

    struct timer peer_timer;      /* preface, header block, or idle */
    struct timer write_timer;     /* a write that makes no progress */
    struct timer close_timer;     /* from the notice of a drain to its GOAWAY; linger */

    nghttp2_session *session;
    size_t session_bytes;         /* what the library holds for it */
    struct list streams;          /* grpc_call.in_conn */
    struct list drained;          /* grpc_call.in_drained: to be told that their out-buffer fell */
    uint32_t n_streams;
    int32_t header_stream;        /* whose header block is under way; 0: none */
    int32_t ended[ENDED_STREAMS]; /* closed streams that the peer had ended, the newest ones */
    uint32_t n_ended;
    uint8_t frame_head[FRAME_HEAD_BYTES]; /* of the frame that comes in, the first n_head bytes */
    uint32_t n_head;
    uint32_t piece_left;          /* of the preface or of the payload */
    bool draining, goaway_sent;
    bool agent_logged;
    uint32_t ping_strikes;
    int64_t last_ping_ns;         /* 0: none since HEADERS or DATA were sent */
    uint32_t n_resets;            /* sent for the peer's errors since resets_ns */
    int64_t resets_ns;
    char peer[PEER_BYTES];
};

/* Accepts one connection from the listener. A negative uv error when that failed; nothing is left
 * behind. */
int h2_conn_accept(struct loop *loop, uv_stream_t *listener);
void h2_conn_flush(struct h2_conn *conn);      /* may close it */
void h2_conn_mark_dirty(struct h2_conn *conn); /* flush before the loop sleeps */
/* sets peer_timer after a change of what is awaited */
void h2_conn_watch(struct h2_conn *conn);
/* notice now, GOAWAY soon, end when the last call has ended */
void h2_conn_drain(struct h2_conn *conn);
void h2_conn_send_goaway(struct h2_conn *conn); /* the second half of a drain */
void h2_conn_close(struct h2_conn *conn);      /* now; calls are cancelled */

#endif
