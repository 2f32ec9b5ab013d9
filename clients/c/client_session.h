/* clients/c/client_session.h: what quire_client.c and quire_call.c share; no header for users.
 *
 *   quire_call ----+      out-buffer (<= 64 KiB) --> socket
 *   quire_call ----+-- nghttp2 session
 *   quire_call ----+      socket --> in-buffers of calls --> on_message
 *
 * Invariant: a call that has not ended is the user data of its stream, and no other stream has any.
 * Messages are delivered between turns of the session, never inside its callbacks.
 */
#ifndef QUIRE_CLIENTS_C_CLIENT_SESSION_H
#define QUIRE_CLIENTS_C_CLIENT_SESSION_H

#include "clients/c/quire_call.h"

#include <nghttp2/nghttp2.h>
#include <stdatomic.h>

#define SESSION_TEXT_BYTES 256
#define SESSION_OUT_BYTES 65536
#define SESSION_READ_BYTES 65536
#define SESSION_PREFIX_BYTES 5 /* of a gRPC message: flag, big-endian length */

struct quire_client {
    nghttp2_session *session;
    int fd, wake_fd;
    int reader_fd; /* watched; -1: none */
    atomic_bool is_interrupted;
    bool is_lost;       /* no byte moves any more */
    bool is_going_away; /* GOAWAY came: open calls go on, new ones cannot begin */
    size_t receive_bytes_max;
    struct quire_call *calls; /* open or ended, not freed */
    char address[SESSION_TEXT_BYTES], authority[SESSION_TEXT_BYTES], user_agent[SESSION_TEXT_BYTES];
    char lost_text[SESSION_TEXT_BYTES];     /* why it is lost, or what GOAWAY said */
    char protocol_text[SESSION_TEXT_BYTES]; /* the last complaint of the HTTP/2 library */
    size_t n_out, out_at;
    uint8_t out[SESSION_OUT_BYTES], in[SESSION_READ_BYTES];
};

struct quire_call {
    struct quire_client *client;
    struct quire_call *next;
    int32_t stream_id;
    bool (*on_message)(void *arg, const void *bytes, size_t len);
    void *arg;
    int64_t deadline_ns; /* INT64_MAX: none */
    int64_t timeout_ms;

    /* what is being sent: prefix, then borrowed bytes */
    uint8_t prefix[SESSION_PREFIX_BYTES];
    size_t prefix_at;
    const uint8_t *out;
    size_t n_out, out_at;
    bool is_last;    /* nothing follows */
    bool end_packed; /* END_STREAM stands in the client's out-buffer or was written */

    /* what came */
    uint8_t *in; /* [in_cap], the bytes in_at..n_in are not delivered yet */
    size_t in_at, n_in, in_cap;
    bool in_refused; /* no memory for more */
    int http_status;
    bool has_status; /* grpc-status came */
    bool peer_ended; /* END_STREAM came */
    bool is_closed;  /* the stream is */
    uint32_t close_error;
    bool has_ended; /* status is final */
    struct quire_status status;
    struct quire_call_times times;
};

/* Writes, waits until something comes, until `until_ns` or until wait_fd (or -1) can be read,
 * reads, delivers, and ends what is over. True when wait_fd can be read. */
bool client_session_turn(struct quire_client *client, int64_t until_ns, int wait_fd);
void client_session_flush(struct quire_client *client); /* writes what the socket takes */

/* The callbacks of nghttp2 that belong to calls, and a call's own part of a turn. */
void client_session_call_callbacks(nghttp2_session_callbacks *callbacks);
void client_session_deliver(
    struct quire_call *call); /* messages, then the end of a closed stream */
void client_session_end_call(struct quire_call *call, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
