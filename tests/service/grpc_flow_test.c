/* Flow control both ways: a slow reader bounds what we hold for it, a busy handler closes its own
 * window and nobody else's. */
#include "echo_fixture.h"
#include "h2_peer_fixture.h"

#include "limits.h"
#include "service/loop.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct echo echo;

static int set_up(void **state)
{
    echo_start(&echo, NULL);
    return 0;
}

static int tear_down(void **state)
{
    echo_stop(&echo);
    return 0;
}

static struct peer_stream *ask_count(struct h2_peer *peer, uint32_t n, uint32_t size)
{
    uint8_t wish[8] = {(uint8_t)(n >> 24),    (uint8_t)(n >> 16),    (uint8_t)(n >> 8),
                       (uint8_t)n,            (uint8_t)(size >> 24), (uint8_t)(size >> 16),
                       (uint8_t)(size >> 8), (uint8_t)size};
    struct peer_stream *stream = peer_request(peer, "/test.Echo/Count", false, NULL);
    peer_send_message(stream, wish, 8, true);
    return stream;
}

static void settle(struct h2_peer *peer)
{
    while (peer_turn(peer, 100))
        continue;
}

static void test_grpc_flow__a_slow_reader_stops_at_the_mark_and_resumes(void **state)
{
    const uint32_t n = 2000, size = 1000;
    struct h2_peer peer;
    peer_open(&peer, server_address(echo.server), &(struct peer_options){1024, true});
    struct peer_stream *stream = ask_count(&peer, n, size);
    assert_true(peer_until_body(stream, 1024));
    settle(&peer);
    assert_int_equal(stream->n_body, 1024); /* the window and no byte more */

    struct server_stats stats;
    echo_stats(&echo, &stats);
    assert_in_range(echo.unsent_max, OUT_BUFFER_MARK_BYTES - size,
                    OUT_BUFFER_MARK_BYTES + size + 5);
    assert_in_range(stats.unsent_bytes, OUT_BUFFER_MARK_BYTES - size, 4 * OUT_BUFFER_MARK_BYTES);
    assert_int_equal(echo.held, 1);

    size_t given = 0;
    while (!stream->closed && !peer.closed) {
        size_t more = stream->n_body - given;
        peer_consume(stream, more);
        given += more;
        peer_turn(&peer, 200);
    }
    assert_int_equal(stream->grpc_status, 0);
    assert_int_equal(stream->n_body, (size_t)n * (size + 5));
    assert_true(echo.drains > 10);
    assert_in_range(echo.unsent_max, 1, OUT_BUFFER_MARK_BYTES + size + 5);
    peer_close(&peer);
}

static void test_grpc_flow__many_slow_readers_cost_their_marks(void **state)
{
    const int n_streams = 100;
    struct h2_peer peer;
    peer_open(&peer, server_address(echo.server), &(struct peer_options){1, true});
    for (int i = 0; i < n_streams; i++)
        ask_count(&peer, 1000, 4000);
    assert_true(peer_until_body(peer.streams[n_streams - 1], 1));
    settle(&peer);
    struct server_stats stats;
    echo_stats(&echo, &stats);
    assert_int_equal(stats.calls, n_streams);
    assert_in_range(stats.unsent_bytes, n_streams * (OUT_BUFFER_MARK_BYTES - 8000),
                    n_streams * 4 * OUT_BUFFER_MARK_BYTES);
    peer_close(&peer);
    assert_true(echo_wait(&echo.cancels, n_streams));
}

static void test_grpc_flow__replies_that_nobody_takes_have_one_limit(void **state)
{
    struct h2_peer slow, peer;
    server_loop(echo.server)->unsent_max = OUT_BUFFER_MARK_BYTES;
    peer_open(&slow, server_address(echo.server), &(struct peer_options){1, true});
    peer_open(&peer, server_address(echo.server), NULL);
    assert_int_equal(peer_unary(&peer, "/test.Echo/Unary", "x", 1)->grpc_status, 0);
    ask_count(&slow, 1000, 4000);
    assert_true(peer_until_body(slow.streams[0], 1));
    settle(&slow);
    assert_int_equal(peer_unary(&peer, "/test.Echo/Unary", "x", 1)->grpc_status, 8);
    peer_close(&slow);
    assert_true(echo_wait(&echo.cancels, 1));
    assert_int_equal(peer_unary(&peer, "/test.Echo/Unary", "x", 1)->grpc_status, 0);
    peer_close(&peer);
}

static void test_grpc_flow__a_handler_that_wants_no_more_closes_its_window_only(void **state)
{
    static uint8_t bytes[10000];
    const int n_messages = 300; /* 3 MB: three windows */
    struct h2_peer peer;
    peer_open(&peer, server_address(echo.server), NULL);
    struct peer_stream *slow = peer_request(&peer, "/test.Echo/Slow", false, NULL);
    for (int i = 0; i < n_messages; i++)
        peer_send_message(slow, bytes, sizeof(bytes), i + 1 == n_messages);
    settle(&peer);
    assert_int_equal(echo.taken, 1);
    size_t sent = slow->upload_at;
    assert_in_range(sent, STREAM_WINDOW_BYTES, STREAM_WINDOW_BYTES + sizeof(bytes) + 5);
    struct server_stats stats;
    echo_stats(&echo, &stats);
    assert_in_range(stats.receive_bytes, STREAM_WINDOW_BYTES - sizeof(bytes) - 5,
                    2 * STREAM_WINDOW_BYTES + 65536);

    /* beside it another upload of 4 MB, the whole window of the connection, passes */
    struct peer_stream *quick = peer_request(&peer, "/test.Echo/Sum", false, NULL);
    for (int i = 0; i < 400; i++)
        peer_send_message(quick, bytes, sizeof(bytes), i + 1 == 400);
    assert_true(peer_until_closed(quick));
    assert_int_equal(quick->grpc_status, 0);
    assert_int_equal(slow->upload_at, sent);
    assert_int_equal(echo.taken, 1);

    echo_release(&echo, n_messages);
    assert_true(peer_until_closed(slow));
    assert_int_equal(slow->grpc_status, 0);
    assert_int_equal(echo.taken, n_messages);
    bool found;
    struct slice sum = peer_message(slow, 0, &found);
    assert_true(found);
    assert_int_equal((size_t)sum.bytes[5] << 16 | (size_t)sum.bytes[6] << 8 | sum.bytes[7],
                     n_messages * sizeof(bytes));
    peer_close(&peer);
}

static void test_grpc_flow__a_paused_upload_can_be_cancelled(void **state)
{
    static uint8_t bytes[10000];
    struct h2_peer peer;
    peer_open(&peer, server_address(echo.server), NULL);
    struct peer_stream *slow = peer_request(&peer, "/test.Echo/Slow", false, NULL);
    for (int i = 0; i < 200; i++)
        peer_send_message(slow, bytes, sizeof(bytes), false);
    settle(&peer);
    assert_int_equal(echo.held, 1);
    peer_reset(slow, NGHTTP2_CANCEL);
    peer_turn(&peer, 10);
    assert_true(echo_wait(&echo.held, 0));
    struct server_stats stats;
    echo_stats(&echo, &stats);
    assert_int_equal(stats.receive_bytes, 0);
    peer_close(&peer);
}

static void test_grpc_flow__sixty_four_streams_take_turns(void **state)
{
    const int n_streams = 64;
    const uint32_t n = 32, size = 8000;
    struct h2_peer peer;
    peer_open(&peer, server_address(echo.server), &(struct peer_options){1 << 20, false});
    nghttp2_session_set_local_window_size(peer.session, 0, 0, 64 << 20);
    for (int i = 0; i < n_streams; i++)
        ask_count(&peer, n, size);
    assert_true(peer_until_all_closed(&peer));
    int seen[2 * 64 + 2] = {0}, finished_at[64], first_end = 1 << 30, last_begin = 0;
    for (int i = 0; i < n_streams; i++) {
        assert_int_equal(peer.streams[i]->grpc_status, 0);
        assert_int_equal(peer.streams[i]->n_body, n * (size + 5));
    }
    for (int i = 0; i < peer.n_data_frames; i++) {
        int32_t id = peer.data_order[i];
        if (seen[id]++ == 0 && i > last_begin)
            last_begin = i;
        finished_at[(id - 1) / 2] = i;
    }
    for (int i = 0; i < n_streams; i++)
        if (finished_at[i] < first_end)
            first_end = finished_at[i];
    assert_true(last_begin < first_end); /* nobody was done before everybody had begun */
    peer_close(&peer);
}

static void test_grpc_flow__a_reader_that_takes_nothing_is_ended_and_told(void **state)
{
    struct echo impatient;
    struct h2_peer peer;
    echo_start(&impatient, &(struct server_options){.paused_ms = 200});
    peer_open(&peer, server_address(impatient.server), &(struct peer_options){1005, true});
    struct peer_stream *whole = ask_count(&peer, 2000, 1000); /* stands at a message border */
    struct peer_stream *cut = ask_count(&peer, 2000, 2000);   /* stands in the middle of one */
    assert_true(peer_until_closed(whole));
    assert_true(peer_until_closed(cut));
    assert_int_equal(whole->grpc_status, 8);
    assert_non_null(strstr(whole->grpc_message, "--max-paused-ms 200"));
    assert_int_equal(cut->grpc_status, -1);
    assert_int_equal(cut->error_code, NGHTTP2_ENHANCE_YOUR_CALM); /* clients: RESOURCE_EXHAUSTED */
    assert_int_equal(impatient.cancels, 2);
    peer_close(&peer);
    echo_stop(&impatient);
}

static void test_grpc_flow__a_deadline_cuts_a_half_sent_message_by_reset(void **state)
{
    struct h2_peer peer;
    peer_open(&peer, server_address(echo.server), &(struct peer_options){100, true});
    const char *extra[] = {"grpc-timeout", "100m", NULL};
    uint8_t wish[8] = {0, 0, 9, 0, 0, 0, 1, 0}; /* more than the mark holds */
    struct peer_stream *stream = peer_request(&peer, "/test.Echo/Count", false, extra);
    peer_send_message(stream, wish, 8, true);
    assert_true(peer_until_closed(stream));
    assert_int_equal(stream->error_code, NGHTTP2_CANCEL);
    assert_int_equal(stream->grpc_status, -1);
    assert_true(echo_wait(&echo.held, 0));
    peer_close(&peer);
}

static void test_grpc_flow__a_client_that_never_reads_its_socket_costs_one_buffer(void **state)
{
    struct h2_peer peer;
    peer_open(&peer, server_address(echo.server), &(struct peer_options){16 << 20, true});
    nghttp2_session_set_local_window_size(peer.session, 0, 0, 64 << 20);
    for (int i = 0; i < 10; i++)
        ask_count(&peer, 1 << 20, 4000);
    peer_turn(&peer, 0);
    assert_true(echo_wait(&echo.begun, 10));
    struct server_stats stats, later;
    for (int i = 0; i < 100; i++) { /* until the kernel's buffers are full */
        echo_stats(&echo, &stats);
        echo_stats(&echo, &later);
    }
    assert_in_range(later.unsent_bytes, 1, 10 * 4 * OUT_BUFFER_MARK_BYTES);
    peer_close(&peer);
    assert_true(echo_wait(&echo.cancels, 10));
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_grpc_flow__##name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_slow_reader_stops_at_the_mark_and_resumes),
        TEST(many_slow_readers_cost_their_marks),
        TEST(replies_that_nobody_takes_have_one_limit),
        TEST(a_handler_that_wants_no_more_closes_its_window_only),
        TEST(a_paused_upload_can_be_cancelled),
        TEST(sixty_four_streams_take_turns),
        TEST(a_reader_that_takes_nothing_is_ended_and_told),
        TEST(a_deadline_cuts_a_half_sent_message_by_reset),
        TEST(a_client_that_never_reads_its_socket_costs_one_buffer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
