/* Peers that owe us bytes and do not send them, on a clock that the test moves. */
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
    echo_start_frozen(&echo);
    return 0;
}

static int tear_down(void **state)
{
    echo_stop(&echo);
    return 0;
}

static void until_connections(uint32_t n)
{
    struct server_stats stats;
    do
        echo_stats(&echo, &stats);
    while (stats.connections != n);
}

static uint32_t connections_now(void)
{
    struct server_stats stats;
    echo_stats(&echo, &stats);
    echo_stats(&echo, &stats); /* the turn after the clock moved has passed */
    return stats.connections;
}

static void assert_patience(const void *bytes, size_t n, int patience_ms)
{
    uint8_t drop[1024];
    int fd = peer_connect(server_address(echo.server));
    if (n != 0)
        assert_true(peer_raw_send(fd, bytes, n));
    until_connections(1);
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    for (int i = 0; n != 0 && i < 20; i++) /* its SETTINGS and acks: it has read what we sent */
        if (poll(&wait, 1, 20) == 1)
            recv(fd, drop, sizeof(drop), MSG_DONTWAIT);
    echo_advance(&echo, patience_ms - 1);
    assert_int_equal(connections_now(), 1);
    echo_advance(&echo, 1);
    assert_true(peer_raw_until_closed(fd));
    close(fd);
    until_connections(0);
}

static void test_h2_patience__a_peer_that_says_nothing_is_closed(void **state)
{
    assert_patience(NULL, 0, PREFACE_TIMEOUT_MS);
}

static void test_h2_patience__half_a_preface_does_not_help(void **state)
{
    assert_patience("PRI * HTTP/2.0\r\n", 16, PREFACE_TIMEOUT_MS);
}

static void test_h2_patience__a_header_block_that_never_ends_is_closed(void **state)
{
    uint8_t bytes[128];
    size_t n = peer_raw_preface(bytes);
    n += peer_raw_frame(bytes + n, NGHTTP2_HEADERS, 1, 1, "\x83\x86", 2); /* no END_HEADERS */
    assert_patience(bytes, n, HEADERS_TIMEOUT_MS);
}

static void test_h2_patience__an_idle_connection_is_told_and_ended(void **state)
{
    struct h2_peer peer;
    peer_open(&peer, server_address(echo.server), NULL);
    assert_int_equal(peer_unary(&peer, "/test.Echo/Unary", "x", 1)->grpc_status, 0);
    echo_advance(&echo, IDLE_CONNECTION_MS - 1);
    assert_int_equal(connections_now(), 1);
    echo_advance(&echo, 1);
    assert_true(peer_until_goaway(&peer, 1));
    assert_int_equal(peer.goaway_code, NGHTTP2_NO_ERROR);
    assert_string_equal(peer.goaway_text, "max_idle");
    assert_true(peer_until_end(&peer));
    peer_close(&peer);
}

static void test_h2_patience__a_connection_with_a_call_is_not_idle(void **state)
{
    struct h2_peer peer;
    peer_open(&peer, server_address(echo.server), NULL);
    struct peer_stream *stream = peer_request(&peer, "/test.Echo/Never", false, NULL);
    peer_send_message(stream, "x", 1, true);
    assert_true(peer_until_status(stream));
    echo_advance(&echo, 2 * IDLE_CONNECTION_MS);
    assert_int_equal(connections_now(), 1);
    assert_false(peer.got_goaway);
    peer_close(&peer);
}

/* Uploads n bytes of a large message and waits until the server has them. */
static void upload(struct peer_stream *stream, size_t n)
{
    static uint8_t zeros[1 << 16];
    peer_send(stream, zeros, n, false);
    while (stream->upload_at < stream->n_upload)
        peer_turn(stream->peer, 20);
    nghttp2_submit_ping(stream->peer->session, 0, NULL); /* its ack comes behind the bytes */
    int acked = stream->peer->n_pings_acked;
    while (stream->peer->n_pings_acked == acked && peer_turn(stream->peer, 1000))
        continue;
}

static void test_h2_patience__a_first_message_must_grow(void **state)
{
    struct h2_peer peer;
    static const uint8_t prefix[5] = {0, 0, 0x10, 0, 0};
    peer_open(&peer, server_address(echo.server), NULL);
    struct peer_stream *stream = peer_request(&peer, "/test.Echo/Sum", false, NULL);
    peer_send(stream, prefix, 5, false);
    upload(stream, UPLOAD_TURN_BYTES_MIN);
    echo_advance(&echo, FIRST_MESSAGE_TIMEOUT_MS); /* it grew enough */
    assert_int_equal(stream->grpc_status, -1);
    upload(stream, UPLOAD_TURN_BYTES_MIN - 6);
    echo_advance(&echo, FIRST_MESSAGE_TIMEOUT_MS);
    assert_true(peer_until_closed(stream));
    assert_true(stream->trailers_only);
    assert_int_equal(stream->grpc_status, 4);
    assert_non_null(strstr(stream->grpc_message, "4096 bytes in 30 s"));
    peer_close(&peer);
}

static void test_h2_patience__between_two_messages_a_stream_may_rest(void **state)
{
    struct h2_peer peer;
    peer_open(&peer, server_address(echo.server), NULL);
    struct peer_stream *stream = peer_request(&peer, "/test.Echo/Bidi", false, NULL);
    peer_send_message(stream, "one", 3, false);
    assert_true(peer_until_body(stream, 8));
    for (int i = 0; i < 10; i++)
        echo_advance(&echo, FIRST_MESSAGE_TIMEOUT_MS);
    peer_send_message(stream, "two", 3, true);
    assert_true(peer_until_closed(stream));
    assert_int_equal(stream->grpc_status, 0);
    peer_close(&peer);
}

static void test_h2_patience__pings_at_leisure_are_welcome(void **state)
{
    struct h2_peer peer;
    peer_open(&peer, server_address(echo.server), NULL);
    struct peer_stream *stream = peer_request(&peer, "/test.Echo/Never", false, NULL);
    peer_send_message(stream, "x", 1, true);
    assert_true(peer_until_status(stream));
    for (int i = 0; i < 20; i++) {
        nghttp2_submit_ping(peer.session, 0, NULL);
        while (peer.n_pings_acked == i && peer_turn(&peer, 1000))
            continue;
        echo_advance(&echo, PINGS_IDLE_MS);
    }
    assert_false(peer.got_goaway);
    peer_close(&peer);
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_h2_patience__##name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_peer_that_says_nothing_is_closed),
        TEST(half_a_preface_does_not_help),
        TEST(a_header_block_that_never_ends_is_closed),
        TEST(an_idle_connection_is_told_and_ended),
        TEST(a_connection_with_a_call_is_not_idle),
        TEST(a_first_message_must_grow),
        TEST(between_two_messages_a_stream_may_rest),
        TEST(pings_at_leisure_are_welcome),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
