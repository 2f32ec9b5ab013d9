/* Peers that mean harm or speak nonsense: each is stopped, and the server goes on serving others.
 * */
#include "echo_fixture.h"
#include "h2_peer_fixture.h"

#include "limits.h"

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static struct echo echo;

static int set_up(void **state)
{
    echo_start(&echo, NULL);
    return 0;
}

static void assert_still_serves(void)
{
    struct h2_peer peer;
    peer_open(&peer, server_address(echo.server), NULL);
    assert_int_equal(peer_unary(&peer, "/test.Echo/Unary", "x", 1)->grpc_status, 0);
    peer_close(&peer);
}

static int tear_down(void **state)
{
    assert_still_serves();
    echo_stop(&echo); /* nothing held, no call, no handle left */
    return 0;
}

/* --- strangers on the port --- */

static void test_h2_abuse__an_http1_client_gets_a_sentence(void **state)
{
    static const char request[] = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
    char reply[512] = "";
    int fd = peer_connect(server_address(echo.server));
    assert_true(peer_raw_send(fd, request, sizeof(request) - 1));
    size_t n = 0;
    ssize_t got;
    while (n < sizeof(reply) - 1 && (got = recv(fd, reply + n, sizeof(reply) - 1 - n, 0)) > 0)
        n += (size_t)got;
    assert_memory_equal(reply, "HTTP/1.1 400 ", 13); /* and no frame before it */
    assert_non_null(memmem(reply, n, "gRPC", 4));
    close(fd);
}

static void test_h2_abuse__letters_that_are_no_request_get_no_sentence(void **state)
{
    static const char preface[] = "INVALID CONNECTION PREFACE\r\n\r\n";
    char reply[64];
    int fd = peer_connect(server_address(echo.server));
    assert_true(peer_raw_send(fd, preface, sizeof(preface) - 1));
    assert_true(recv(fd, reply, sizeof(reply), 0) <= 0);
    close(fd);
}

static void test_h2_abuse__garbage_closes_the_connection(void **state)
{
    srand(7);
    for (int round = 0; round < 100; round++) {
        uint8_t bytes[300];
        for (size_t i = 0; i < sizeof(bytes); i++)
            bytes[i] = (uint8_t)rand();
        bytes[0] = round % 2 == 0 ? 0x16 : bytes[0] == 'P' ? 'Q' : bytes[0];
        int fd = peer_connect(server_address(echo.server));
        peer_raw_send(fd, bytes, sizeof(bytes));
        assert_true(peer_raw_until_closed(fd));
        close(fd);
    }
}

static void test_h2_abuse__garbage_after_a_good_preface_closes_the_connection(void **state)
{
    srand(11);
    for (int round = 0; round < 200; round++) {
        uint8_t bytes[1024];
        size_t n = peer_raw_preface(bytes);
        for (size_t i = n; i < sizeof(bytes); i++)
            bytes[i] = (uint8_t)rand();
        bytes[n] = 0xFF; /* a frame over SETTINGS_MAX_FRAME_SIZE */
        int fd = peer_connect(server_address(echo.server));
        peer_raw_send(fd, bytes, sizeof(bytes));
        assert_true(peer_raw_until_closed(fd));
        close(fd);
    }
}

/* --- malformed frames --- */

static void assert_frame_ends_connection(uint8_t type, uint8_t flags, uint32_t stream_id,
                                         const void *payload, size_t len)
{
    uint8_t bytes[512];
    size_t n = peer_raw_preface(bytes);
    n += peer_raw_frame(bytes + n, type, flags, stream_id, payload, len);
    int fd = peer_connect(server_address(echo.server));
    assert_true(peer_raw_send(fd, bytes, n));
    assert_true(peer_raw_until_closed(fd));
    close(fd);
}

static void test_h2_abuse__malformed_frames_end_the_connection(void **state)
{
    static const uint8_t zeros[64];
    static const uint8_t bad_hpack[] = {0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF};
    static const uint8_t one_byte_window[] = {0, 5, 0, 0, 0, 1};     /* MAX_FRAME_SIZE 1 */
    static const uint8_t huge_window[] = {0, 4, 0xFF, 0xFF, 0xFF, 0xFF}; /* INITIAL_WINDOW_SIZE */
    assert_frame_ends_connection(NGHTTP2_DATA, 0, 1, zeros, 4);          /* on an idle stream */
    assert_frame_ends_connection(NGHTTP2_DATA, 0, 0, zeros, 4);          /* on stream 0 */
    assert_frame_ends_connection(NGHTTP2_PRIORITY, 0, 0, zeros, 5);
    assert_frame_ends_connection(NGHTTP2_HEADERS, 4, 0, zeros, 1);
    assert_frame_ends_connection(NGHTTP2_HEADERS, 4, 2, zeros, 1);       /* an even stream */
    assert_frame_ends_connection(NGHTTP2_HEADERS, 5, 1, bad_hpack, sizeof(bad_hpack));
    assert_frame_ends_connection(NGHTTP2_HEADERS, 0x0C, 1, "\xFF", 1);   /* padding over length */
    assert_frame_ends_connection(NGHTTP2_SETTINGS, 0, 0, zeros, 5);
    assert_frame_ends_connection(NGHTTP2_SETTINGS, 1, 0, zeros, 6);      /* an ack with a payload */
    assert_frame_ends_connection(NGHTTP2_SETTINGS, 0, 1, zeros, 6);
    assert_frame_ends_connection(NGHTTP2_SETTINGS, 0, 0, one_byte_window, 6);
    assert_frame_ends_connection(NGHTTP2_SETTINGS, 0, 0, huge_window, 6);
    assert_frame_ends_connection(NGHTTP2_PING, 0, 0, zeros, 7);
    assert_frame_ends_connection(NGHTTP2_PING, 0, 3, zeros, 8);
    assert_frame_ends_connection(NGHTTP2_RST_STREAM, 0, 1, zeros, 4);    /* of an idle stream */
    assert_frame_ends_connection(NGHTTP2_RST_STREAM, 0, 1, zeros, 3);
    assert_frame_ends_connection(NGHTTP2_WINDOW_UPDATE, 0, 0, zeros, 4); /* an increment of 0 */
    assert_frame_ends_connection(NGHTTP2_WINDOW_UPDATE, 0, 0, zeros, 3);
    assert_frame_ends_connection(NGHTTP2_PUSH_PROMISE, 4, 1, zeros, 5);
    assert_frame_ends_connection(NGHTTP2_CONTINUATION, 4, 1, zeros, 1);
    assert_frame_ends_connection(NGHTTP2_GOAWAY, 0, 1, zeros, 8);
    assert_frame_ends_connection(NGHTTP2_GOAWAY, 0, 0, zeros, 7);
}

static void test_h2_abuse__frames_on_a_stream_that_its_peer_ended_end_the_connection(void **state)
{
    static const uint8_t payload[] = {0x82}; /* as HEADERS: ":method GET" */
    for (int i = 0; i < 4; i++) {
        struct h2_peer peer;
        peer_open(&peer, server_address(echo.server), NULL);
        struct peer_stream *stream;
        if (i < 2) {
            stream = peer_unary(&peer, "/test.Echo/Unary", "x", 1);
        } else {
            stream = peer_request(&peer, "/test.Echo/Never", false, NULL);
            peer_send_message(stream, "x", 1, true);
            assert_true(peer_until_status(stream));
            peer_reset(stream, NGHTTP2_CANCEL);
            peer_turn(&peer, 10);
        }
        uint8_t bytes[64];
        size_t n = peer_raw_frame(bytes, i % 2 == 0 ? NGHTTP2_DATA : NGHTTP2_HEADERS,
                                  i % 2 == 0 ? 0 : NGHTTP2_FLAG_END_HEADERS, (uint32_t)stream->id,
                                  payload, sizeof(payload));
        assert_true(peer_raw_send(peer.fd, bytes, n));
        assert_true(peer_until_goaway(&peer, 1));
        assert_int_equal(peer.goaway_code, NGHTTP2_STREAM_CLOSED);
        peer_close(&peer);
    }
}

static void test_h2_abuse__window_overflow_ends_the_connection(void **state)
{
    static const uint8_t most[] = {0x7F, 0xFF, 0xFF, 0xFF};
    assert_frame_ends_connection(NGHTTP2_WINDOW_UPDATE, 0, 0, most, 4);
}

static void assert_reset(const char *const *headers)
{
    struct h2_peer peer;
    peer_open(&peer, server_address(echo.server), NULL);
    struct peer_stream *stream = peer_request_plain(&peer, headers, true);
    assert_true(peer_until_closed(stream));
    assert_int_equal(stream->http_status, 0);
    assert_int_equal(stream->error_code, NGHTTP2_PROTOCOL_ERROR);
    assert_int_equal(peer_unary(&peer, "/test.Echo/Unary", "x", 1)->grpc_status, 0);
    peer_close(&peer);
}

static void test_h2_abuse__malformed_header_blocks_reset_their_stream_only(void **state)
{
    const char *te[] = {":method", "POST", ":scheme", "http", ":path", "/test.Echo/Unary",
                        ":authority", "a", "te", "gzip", NULL};
    const char *connection[] = {":method", "POST", ":scheme", "http", ":path", "/test.Echo/Unary",
                                ":authority", "a", "connection", "close", NULL};
    const char *no_path[] = {":method", "POST", ":scheme", "http", ":authority", "a", NULL};
    const char *twice[] = {":method", "POST", ":method", "GET", ":scheme", "http", ":path", "/",
                           ":authority", "a", NULL};
    const char *late[] = {":method", "POST", ":scheme", "http", "a", "b", ":path", "/", NULL};
    assert_reset(te);
    assert_reset(connection);
    assert_reset(no_path);
    assert_reset(twice);
    assert_reset(late);
}

static void test_h2_abuse__a_wrong_content_length_resets_the_stream(void **state)
{
    struct h2_peer peer;
    peer_open(&peer, server_address(echo.server), NULL);
    const char *extra[] = {"content-length", "3", NULL};
    struct peer_stream *stream = peer_request(&peer, "/test.Echo/Unary", false, extra);
    peer_send_message(stream, "hello", 5, true);
    assert_true(peer_until_closed(stream));
    assert_int_equal(stream->error_code, NGHTTP2_PROTOCOL_ERROR);
    peer_close(&peer);
}

/* --- floods --- */

static void test_h2_abuse__rapid_reset_ends_the_connection_after_the_burst(void **state)
{
    struct h2_peer peer;
    peer_open(&peer, server_address(echo.server), NULL);
    int n = 0;
    for (; n < PEER_STREAMS_MAX - 10 && !peer.got_goaway && !peer.closed; n++) {
        struct peer_stream *stream = peer_request(&peer, "/test.Echo/Never", false, NULL);
        peer_send_message(stream, "x", 1, true);
        peer_turn(&peer, 0);
        peer_reset(stream, NGHTTP2_CANCEL);
        peer_turn(&peer, 0);
    }
    assert_true(peer_until_goaway(&peer, 1));
    assert_true(n >= RESETS_RECEIVED_BURST);
    assert_true(peer_until_end(&peer));
    peer_close(&peer);
    assert_true(echo_wait(&echo.held, 0));
}

static void test_h2_abuse__resets_that_we_are_made_to_send_are_counted(void **state)
{
    const char *bad[] = {":method", "POST", ":scheme", "http", ":path", "/", ":authority", "a",
                         "te", "gzip", NULL};
    struct h2_peer peer;
    peer_open(&peer, server_address(echo.server), NULL);
    for (int i = 0; i < RESETS_SENT_PER_MINUTE_MAX; i++)
        assert_true(peer_until_closed(peer_request_plain(&peer, bad, true)));
    assert_false(peer.got_goaway);
    peer_request_plain(&peer, bad, true);
    assert_true(peer_until_goaway(&peer, 1));
    assert_int_equal(peer.goaway_code, NGHTTP2_ENHANCE_YOUR_CALM);
    assert_true(peer_until_end(&peer));
    peer_close(&peer);
}

/* --- requests by hand: what no client library would send --- */

static const uint8_t bidi_block[] = {0x83, 0x86, 0x41, 1,   'a', 0x44, 15,  '/', 't', 'e',
                                     's',  't',  '.',  'E', 'c', 'h',  'o', '/', 'B', 'i',
                                     'd',  'i',  0x5F, 16,  'a', 'p',  'p', 'l', 'i', 'c',
                                     'a',  't',  'i',  'o', 'n', '/',  'g', 'r', 'p', 'c'};

/* Decodes the header block of a reply; returns grpc-status or -1. */
static int status_in(const uint8_t *block, size_t len)
{
    nghttp2_hd_inflater *inflater;
    int status = -1, flags = 0;
    assert_int_equal(nghttp2_hd_inflate_new(&inflater), 0);
    while (!(flags & NGHTTP2_HD_INFLATE_FINAL)) {
        nghttp2_nv nv;
        ssize_t n = nghttp2_hd_inflate_hd2(inflater, &nv, &flags, block, len, 1);
        assert_true(n >= 0);
        block += n;
        len -= (size_t)n;
        if (flags & NGHTTP2_HD_INFLATE_EMIT && nv.namelen == 11 &&
            memcmp(nv.name, "grpc-status", 11) == 0)
            status = atoi((const char *)nv.value);
    }
    nghttp2_hd_inflate_del(inflater);
    return status;
}

enum reply_kind { REPLY_NONE, REPLY_HEADERS, REPLY_RESET };

/* Reads frames until stream 1 gets HEADERS or a reset, or the connection ends. *value: grpc-status
 * or error code. */
static enum reply_kind read_reply(int fd, int *value)
{
    static uint8_t bytes[1 << 16];
    size_t n = 0, at = 0;
    for (;;) {
        while (n - at >= 9) {
            const uint8_t *frame = bytes + at;
            size_t len = (size_t)frame[0] << 16 | (size_t)frame[1] << 8 | frame[2];
            if (n - at < 9 + len)
                break;
            at += 9 + len;
            if (frame[8] != 1)
                continue;
            *value = frame[3] == NGHTTP2_HEADERS ? status_in(frame + 9, len) : frame[12];
            if (frame[3] == NGHTTP2_HEADERS)
                return REPLY_HEADERS;
            if (frame[3] == NGHTTP2_RST_STREAM)
                return REPLY_RESET;
        }
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        assert_true(poll(&wait, 1, 10000) > 0);
        ssize_t got = recv(fd, bytes + n, sizeof(bytes) - n, 0);
        if (got <= 0)
            return REPLY_NONE;
        n += (size_t)got;
    }
}

static enum reply_kind flood_continuations(int n_frames, int *value)
{
    uint8_t bytes[16384];
    size_t n = peer_raw_preface(bytes);
    n += peer_raw_frame(bytes + n, NGHTTP2_HEADERS, 1, 1, bidi_block, sizeof(bidi_block));
    for (int i = 0; i < n_frames; i++)
        n += peer_raw_frame(bytes + n, NGHTTP2_CONTINUATION, i + 1 == n_frames ? 4 : 0, 1,
                            "\x40\x01x\x01y", 5);
    int fd = peer_connect(server_address(echo.server));
    peer_raw_send(fd, bytes, n);
    enum reply_kind kind = read_reply(fd, value);
    close(fd);
    return kind;
}

static void test_h2_abuse__a_continuation_flood_ends_the_connection(void **state)
{
    int value;
    assert_int_equal(flood_continuations(CONTINUATIONS_MAX, &value), REPLY_HEADERS);
    assert_int_equal(value, 0); /* an empty bidi call ends at once, by trailers only */
    assert_int_equal(flood_continuations(CONTINUATIONS_MAX + 1, &value), REPLY_NONE);
    assert_int_equal(flood_continuations(500, &value), REPLY_NONE);
}

static void test_h2_abuse__a_header_bomb_is_counted_and_not_kept(void **state)
{
    /* one entry of 4000 bytes in the table, then references to it of one byte each */
    uint8_t block[8192], bytes[16384];
    size_t n = sizeof(bidi_block), m;
    memcpy(block, bidi_block, n);
    block[n++] = 0x40, block[n++] = 1, block[n++] = 'x';
    block[n++] = 0x7F, block[n++] = 0x81, block[n++] = 0x1E; /* 3968 bytes follow */
    memset(block + n, 'v', 3968);
    n += 3968;
    memset(block + n, 0xBE, 4000); /* 16 MB of fields */
    n += 4000;
    m = peer_raw_preface(bytes);
    m += peer_raw_frame(bytes + m, NGHTTP2_HEADERS, 5, 1, block, n);
    struct server_stats stats;
    int value;
    int fd = peer_connect(server_address(echo.server));
    assert_true(peer_raw_send(fd, bytes, m));
    assert_int_equal(read_reply(fd, &value), REPLY_HEADERS);
    assert_int_equal(value, 8);
    echo_stats(&echo, &stats);
    assert_in_range(stats.session_bytes, 1, 100000);
    close(fd);
}

static enum reply_kind flood_empty_frames(int n_frames, int *value)
{
    uint8_t bytes[4096];
    size_t n = peer_raw_preface(bytes);
    n += peer_raw_frame(bytes + n, NGHTTP2_HEADERS, 4, 1, bidi_block, sizeof(bidi_block));
    for (int i = 0; i < n_frames; i++)
        n += i % 2 == 0 ? peer_raw_frame(bytes + n, NGHTTP2_DATA, 0, 1, NULL, 0)
                        /* padding */
                        : peer_raw_frame(bytes + n, NGHTTP2_DATA, 8, 1, "\x02\0\0", 3);
    n += peer_raw_frame(bytes + n, NGHTTP2_DATA, 0, 1, "\0\0\0\0\1x", 6);
    int fd = peer_connect(server_address(echo.server));
    assert_true(peer_raw_send(fd, bytes, n));
    enum reply_kind kind = read_reply(fd, value);
    close(fd);
    return kind;
}

static void test_h2_abuse__empty_data_frames_are_counted(void **state)
{
    int value;
    assert_int_equal(flood_empty_frames(EMPTY_DATA_FRAMES_MAX, &value), REPLY_HEADERS);
    assert_int_equal(flood_empty_frames(EMPTY_DATA_FRAMES_MAX + 1, &value), REPLY_RESET);
    assert_int_equal(value, NGHTTP2_ENHANCE_YOUR_CALM);
}

static void test_h2_abuse__too_many_pings_are_told_so(void **state)
{
    struct h2_peer peer;
    peer_open(&peer, server_address(echo.server), NULL);
    assert_int_equal(peer_unary(&peer, "/test.Echo/Unary", "x", 1)->grpc_status, 0);
    for (int i = 0; i < PING_STRIKES_MAX + 1; i++)
        nghttp2_submit_ping(peer.session, 0, NULL);
    while (peer.n_pings_acked < PING_STRIKES_MAX + 1 && peer_turn(&peer, 1000))
        continue;
    assert_false(peer.got_goaway);
    assert_int_equal(peer_unary(&peer, "/test.Echo/Unary", "x", 1)->grpc_status, 0); /* forgiven */
    for (int i = 0; i < PING_STRIKES_MAX + 2; i++)
        nghttp2_submit_ping(peer.session, 0, NULL);
    assert_true(peer_until_goaway(&peer, 1));
    assert_int_equal(peer.goaway_code, NGHTTP2_ENHANCE_YOUR_CALM);
    assert_string_equal(peer.goaway_text, "too_many_pings");
    assert_true(peer_until_end(&peer));
    peer_close(&peer);
}

static void test_h2_abuse__a_ping_flood_without_reading_is_closed(void **state)
{
    uint8_t bytes[24 + 9], ping[17];
    int fd = peer_connect(server_address(echo.server));
    int small = 4096;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
    assert_true(peer_raw_send(fd, bytes, peer_raw_preface(bytes)));
    size_t n = peer_raw_frame(ping, NGHTTP2_PING, 0, 0, "12345678", 8);
    bool open = true;
    for (int i = 0; i < 200000 && open; i++)
        open = peer_raw_send(fd, ping, n);
    assert_true(!open || peer_raw_until_closed(fd));
    close(fd);
}

/* Opens n streams that stay open, before it has seen our SETTINGS. True: the last one was refused.
 * */
static bool last_of_streams_is_refused(uint32_t n_streams)
{
    static uint8_t bytes[64 + (STREAMS_PER_CONNECTION + 1) * 64], reply[1 << 16];
    size_t n = peer_raw_preface(bytes), got = 0;
    uint8_t ping_ack[17], reset[13];
    for (uint32_t i = 0; i < n_streams; i++)
        n += peer_raw_frame(bytes + n, NGHTTP2_HEADERS, 4, 2 * i + 1, bidi_block,
                            sizeof(bidi_block));
    n += peer_raw_frame(bytes + n, NGHTTP2_PING, 0, 0, "theendis", 8);
    peer_raw_frame(ping_ack, NGHTTP2_PING, 1, 0, "theendis", 8);
    peer_raw_frame(reset, NGHTTP2_RST_STREAM, 0, 2 * n_streams - 1, "\0\0\0\7", 4);
    int fd = peer_connect(server_address(echo.server));
    assert_true(peer_raw_send(fd, bytes, n));
    /* acks overtake resets in the queue of the library; both are in one write */
    while (memmem(reply, got, ping_ack, sizeof(ping_ack)) == NULL) {
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        assert_true(poll(&wait, 1, 10000) > 0);
        ssize_t more = recv(fd, reply + got, sizeof(reply) - got, 0);
        assert_true(more > 0);
        got += (size_t)more;
    }
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    if (poll(&wait, 1, 50) > 0)
        got += (size_t)recv(fd, reply + got, sizeof(reply) - got, 0);
    close(fd);
    return memmem(reply, got, reset, sizeof(reset)) != NULL;
}

static void test_h2_abuse__streams_beyond_the_limit_are_refused(void **state)
{
    assert_false(last_of_streams_is_refused(STREAMS_PER_CONNECTION));
    assert_true(last_of_streams_is_refused(STREAMS_PER_CONNECTION + 1));
}

static void test_h2_abuse__a_connection_holds_its_limit_of_calls(void **state)
{
    struct h2_peer peer;
    peer_open(&peer, server_address(echo.server), NULL);
    for (int i = 0; i < STREAMS_PER_CONNECTION; i++)
        peer_send_message(peer_request(&peer, "/test.Echo/Never", false, NULL), "x", 1, true);
    for (int i = 0; i < STREAMS_PER_CONNECTION; i++)
        assert_true(peer_until_status(peer.streams[i]));
    assert_int_equal(echo.held, STREAMS_PER_CONNECTION);
    peer_close(&peer);
    assert_true(echo_wait(&echo.held, 0));
}

/* --- disconnects --- */

/* The bytes of a valid exchange as a client sends them. */
static size_t record_exchange(uint8_t *out, size_t cap)
{
    struct h2_peer peer;
    size_t n = 0;
    peer_open(&peer, server_address(echo.server), NULL);
    struct peer_stream *unary = peer_request(&peer, "/test.Echo/Unary", false, NULL);
    peer_send_message(unary, "hello", 5, true);
    struct peer_stream *bidi = peer_request(&peer, "/test.Echo/Bidi", false, NULL);
    peer_send_message(bidi, "one", 3, false);
    peer_send_message(bidi, "two", 3, true);
    struct peer_stream *never = peer_request(&peer, "/test.Echo/Never", false, NULL);
    peer_send_message(never, "x", 1, true);
    const uint8_t *bytes;
    ssize_t got;
    while ((got = nghttp2_session_mem_send(peer.session, &bytes)) > 0) {
        assert_true(n + (size_t)got <= cap);
        memcpy(out + n, bytes, (size_t)got);
        n += (size_t)got;
    }
    peer_close(&peer);
    return n;
}

static void test_h2_abuse__a_disconnect_at_any_byte_leaves_nothing(void **state)
{
    uint8_t bytes[4096];
    size_t n = record_exchange(bytes, sizeof(bytes));
    assert_in_range(n, 200, sizeof(bytes));
    for (size_t cut = 0; cut <= n; cut++) {
        int fd = peer_connect(server_address(echo.server));
        assert_true(fd >= 0);
        if (cut != 0)
            assert_true(peer_raw_send(fd, bytes, cut));
        if (cut % 3 == 0) { /* some leave by a reset of the connection */
            struct linger now = {.l_onoff = 1};
            setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
        }
        close(fd);
    }
    struct server_stats stats;
    do {
        echo_stats(&echo, &stats);
        usleep(2000);
    } while (stats.connections != 0);
    assert_int_equal(stats.calls, 0);
    assert_int_equal(stats.session_bytes, 0);
    assert_int_equal(stats.receive_bytes, 0);
    assert_int_equal(echo.held, 0);
}

static void test_h2_abuse__one_flipped_byte_never_hurts(void **state)
{
    uint8_t bytes[4096], bad[4096];
    size_t n = record_exchange(bytes, sizeof(bytes));
    srand(3);
    for (size_t at = 0; at < n; at++) {
        memcpy(bad, bytes, n);
        bad[at] ^= (uint8_t)(1 + rand() % 255);
        int fd = peer_connect(server_address(echo.server));
        assert_true(fd >= 0);
        peer_raw_send(fd, bad, n);
        if (at % 8 == 0) { /* sometimes let it answer */
            struct pollfd wait = {.fd = fd, .events = POLLIN};
            poll(&wait, 1, 5);
        }
        close(fd);
    }
    assert_true(echo_wait(&echo.held, 0));
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_h2_abuse__##name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_http1_client_gets_a_sentence),
        TEST(letters_that_are_no_request_get_no_sentence),
        TEST(garbage_closes_the_connection),
        TEST(garbage_after_a_good_preface_closes_the_connection),
        TEST(malformed_frames_end_the_connection),
        TEST(frames_on_a_stream_that_its_peer_ended_end_the_connection),
        TEST(window_overflow_ends_the_connection),
        TEST(malformed_header_blocks_reset_their_stream_only),
        TEST(a_wrong_content_length_resets_the_stream),
        TEST(rapid_reset_ends_the_connection_after_the_burst),
        TEST(resets_that_we_are_made_to_send_are_counted),
        TEST(a_continuation_flood_ends_the_connection),
        TEST(a_header_bomb_is_counted_and_not_kept),
        TEST(empty_data_frames_are_counted),
        TEST(too_many_pings_are_told_so),
        TEST(a_ping_flood_without_reading_is_closed),
        TEST(streams_beyond_the_limit_are_refused),
        TEST(a_connection_holds_its_limit_of_calls),
        TEST(a_disconnect_at_any_byte_leaves_nothing),
        TEST(one_flipped_byte_never_hurts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
