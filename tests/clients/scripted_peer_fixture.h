/* tests/clients/scripted_peer_fixture.h: a server on the loopback that says what a test wrote down.
 *
 *   scripted  it takes one connection, waits for the first request, says the script as it is, and
 *             ends its side (or keeps it open); what the client sent is recorded by a real session
 *   live      a correct small server: /t/Count answers with the number of bytes of the request's
 *             messages (8 bytes, big-endian), /t/Big with one message of BIG_BYTES
 *
 * Frames and fields are put together by hand, so that they can be wrong.
 */
#ifndef QUIRE_TESTS_SCRIPTED_PEER_FIXTURE_H
#define QUIRE_TESTS_SCRIPTED_PEER_FIXTURE_H

#include <nghttp2/nghttp2.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SCRIPT_BYTES_MAX (1 << 20)
#define BIG_BYTES (3 << 20)

struct script {
    uint8_t bytes[SCRIPT_BYTES_MAX];
    size_t n;
};

void script_frame(struct script *script, uint8_t type, uint8_t flags, int32_t stream,
                  const void *payload, size_t len);
void script_settings(struct script *script); /* what a server says first */
/* {"name", "value", ..., NULL} as literal fields */
void script_headers(struct script *script, int32_t stream, bool ends, const char *const *fields);
/* one gRPC message in one DATA frame; `declared` is the length that its prefix tells */
void script_message(struct script *script, int32_t stream, uint8_t flag, size_t declared,
                    const void *bytes, size_t len);
void script_goaway(struct script *script, int32_t last_stream, const char *text);
void script_reply(struct script *script); /* 200, and content-type, on stream 1 */
void script_trailers(struct script *script, const char *status); /* grpc-status, with END_STREAM */

struct scripted_peer {
    int fd; /* listens */
    char address[64];
    pthread_t thread;
    const uint8_t *said; /* scripted */
    size_t n_said;
    bool stays_open, is_live;

    /* what the client sent, to be read after scripted_peer_stop */
    char path[128], timeout[32], request_id[160], user_agent[64], te[32];
    size_t n_body;    /* DATA bytes */
    bool ended;       /* END_STREAM came */
    int32_t answered; /* stream that is being answered */
    uint8_t reply[16];
    size_t reply_at, reply_n;
    atomic_int reset_code; /* of the first RST_STREAM; -1: none */
    atomic_bool got_request;
    nghttp2_session *session;
    int connection;
};

/* said: borrowed until stop. stays_open: the connection is left open after it. */
void scripted_peer_start(struct scripted_peer *peer, const void *said, size_t n, bool stays_open);
void scripted_peer_start_live(struct scripted_peer *peer);
/* After the client has closed: joins the thread. */
void scripted_peer_stop(struct scripted_peer *peer);

#endif
