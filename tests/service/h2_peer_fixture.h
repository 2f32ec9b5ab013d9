/* tests/service/h2_peer_fixture.h: a client that speaks raw HTTP/2 by hand: nghttp2's client
 * session over a socket, or bytes as they are.
 *
 * Nothing happens behind the test's back: bytes move in peer_turn and in what waits (peer_until_*),
 * which give up after 10 s.
 */
#ifndef QUIRE_TESTS_H2_PEER_FIXTURE_H
#define QUIRE_TESTS_H2_PEER_FIXTURE_H

#include "base/slice.h"

#include <nghttp2/nghttp2.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PEER_STREAMS_MAX 2048

struct peer_stream {
    struct h2_peer *peer;
    int32_t id;
    int http_status;           /* 0: no headers yet */
    int grpc_status;           /* -1: none yet */
    char content_type[64], grpc_message[8192], details[8192], request_id[160], accept_encoding[64];
    char allow[16];
    int n_header_blocks;       /* 1 with END_STREAM: trailers-only */
    bool trailers_only;
    bool remote_ended;         /* END_STREAM came */
    bool closed;
    uint32_t error_code;       /* of the close */
    uint8_t *body;             /* [n_body] DATA bytes */
    size_t n_body;
    uint8_t *upload;           /* what is still to be sent */
    size_t n_upload, upload_at;
    bool upload_ends;
};

struct h2_peer {
    int fd;
    nghttp2_session *session;
    struct peer_stream *streams[PEER_STREAMS_MAX]; /* in the order of peer_request */
    int n_streams;
    bool closed;               /* EOF or reset by the server */
    bool got_goaway;
    uint32_t goaway_code;
    int32_t goaway_last_id;
    char goaway_text[64];
    int n_goaways;
    int n_pings_acked;
    bool keep_windows;         /* true: the test gives WINDOW_UPDATEs itself, with peer_consume */
    int32_t data_order[4096];  /* stream of each DATA frame that came */
    int n_data_frames;
};

struct peer_options {
    uint32_t window; /* SETTINGS_INITIAL_WINDOW_SIZE; 0: the default of 65535 */
    bool keep_windows;
};

int peer_connect(const char *address); /* a blocking socket; "HOST:PORT" or "unix:PATH" */
void peer_open(struct h2_peer *peer, const char *address, const struct peer_options *options);
void peer_close(struct h2_peer *peer);

/* A request to `path` with the usual headers of gRPC and `extra` ones ("name", "value", ..., NULL).
 * END_STREAM on HEADERS when ends. */
struct peer_stream *peer_request(struct h2_peer *peer, const char *path, bool ends,
                                 const char *const *extra);
/* The same with every header given by the caller. */
struct peer_stream *peer_request_plain(struct h2_peer *peer, const char *const *headers, bool ends);
void peer_send(struct peer_stream *stream, const void *bytes, size_t len, bool ends);
void peer_send_message(struct peer_stream *stream, const void *bytes, size_t len, bool ends);
void peer_reset(struct peer_stream *stream, uint32_t error_code);
void peer_consume(struct peer_stream *stream, size_t n); /* with keep_windows */

/* writes what is queued, reads once; false: nothing came */
bool peer_turn(struct h2_peer *peer, int timeout_ms);
bool peer_until_closed(struct peer_stream *stream);   /* the stream */
bool peer_until_all_closed(struct h2_peer *peer);
bool peer_until_body(struct peer_stream *stream, size_t n);
bool peer_until_status(struct peer_stream *stream);   /* response headers or trailers-only */
bool peer_until_end(struct h2_peer *peer);            /* the connection */
bool peer_until_goaway(struct h2_peer *peer, int n);

/* Body of the i-th message; len -1 when there is none. */
struct slice peer_message(const struct peer_stream *stream, int idx, bool *found);
/* One unary exchange from request to close; returns the stream. */
struct peer_stream *peer_unary(struct h2_peer *peer, const char *path, const void *bytes,
                               size_t len);

/* Raw bytes: the client preface with an empty SETTINGS frame, and one frame. Return bytes written
 * to out. */
size_t peer_raw_preface(uint8_t *out);
size_t peer_raw_frame(uint8_t *out, uint8_t type, uint8_t flags, uint32_t stream_id,
                      const void *payload, size_t len);
bool peer_raw_send(int fd, const void *bytes, size_t len); /* false: the server closed */
/* reads and drops until EOF; false after 10 s */
bool peer_raw_until_closed(int fd);

#endif
