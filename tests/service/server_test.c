/* The server as its operator sees it: addresses, refusals to start, drain, stop, limits on
 * connections, what idle ones cost. */
#include "echo_fixture.h"
#include "h2_peer_fixture.h"

#include "limits.h"
#include "service/h2_conn.h"

#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

static char socket_path[64];

static int name_socket(void **state)
{
    snprintf(socket_path, sizeof(socket_path), "/tmp/quire_server_test_%d.sock", (int)getpid());
    unlink(socket_path);
    return 0;
}

static int try_listen(const char *listen, bool insecure, struct why *why)
{
    struct server *server = NULL;
    struct server_options options = {.listen = listen, .insecure = insecure};
    int status = server_create(&options, &server, why);
    if (status == STATUS_OK)
        server_free(server);
    return status;
}

static void assert_says(const struct why *why, const char *part)
{
    if (strstr(why->text, part) == NULL)
        fail_msg("\"%s\" has no \"%s\"", why->text, part);
}

/* --- addresses --- */

static void test_server__reports_the_port_that_the_system_picked(void **state)
{
    struct server *server;
    struct server_options options = {.listen = "127.0.0.1:0"};
    assert_int_equal(server_create(&options, &server, NULL), STATUS_OK);
    assert_int_equal(strncmp(server_address(server), "127.0.0.1:", 10), 0);
    assert_in_range(atoi(server_address(server) + 10), 1, 65535);
    server_free(server);
}

static void test_server__refuses_addresses_it_cannot_read(void **state)
{
    static const char *const bad[] = {"", "7070", "localhost", "127.0.0.1:", "127.0.0.1:x",
                                      "127.0.0.1:65536", "::1:7070", "unix:", "127.0.0.1:-1"};
    struct why why;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(try_listen(bad[i], true, &why), STATUS_INVALID);
        assert_says(&why, "cannot listen on");
    }
    /* well said, but not to be had */
    assert_int_equal(try_listen("no host here:1", true, &why), STATUS_NOT_FOUND);
    assert_int_equal(try_listen("192.0.2.1:0", true, &why), STATUS_UNAVAILABLE);
    char path[200] = "unix:/tmp/";
    memset(path + 10, 'p', sizeof(path) - 11);
    path[sizeof(path) - 1] = '\0';
    assert_int_equal(try_listen(path, false, &why), STATUS_INVALID);
    assert_says(&why, "1 to 107 bytes");
}

static void test_server__refuses_to_leave_loopback_without_being_told(void **state)
{
    static const char *const beyond[] = {"0.0.0.0:0", "[::]:0", ":0", "10.1.2.3:0"};
    static const char *const loopback[] = {"127.0.0.1:0", "localhost:0", "127.9.9.9:0"};
    struct why why;
    for (size_t i = 0; i < sizeof(beyond) / sizeof(beyond[0]); i++) {
        assert_int_equal(try_listen(beyond[i], false, &why), STATUS_DENIED);
        assert_says(&why, "--insecure");
        assert_says(&why, "--listen");
    }
    for (size_t i = 0; i < sizeof(loopback) / sizeof(loopback[0]); i++)
        assert_int_equal(try_listen(loopback[i], false, &why), STATUS_OK);
    assert_int_equal(try_listen("0.0.0.0:0", true, &why), STATUS_OK);
}

static void test_server__names_an_address_in_use_and_what_to_do(void **state)
{
    struct server *server;
    struct server_options options = {.listen = "127.0.0.1:0"};
    struct why why;
    assert_int_equal(server_create(&options, &server, NULL), STATUS_OK);
    assert_int_equal(try_listen(server_address(server), false, &why), STATUS_EXISTS);
    assert_says(&why, server_address(server));
    assert_says(&why, "--listen");
    server_free(server);
}

/* --- unix sockets --- */

static void test_server__serves_a_private_unix_socket_and_removes_it(void **state)
{
    char address[80];
    struct stat made;
    struct echo echo;
    struct h2_peer peer;
    snprintf(address, sizeof(address), "unix:%s", socket_path);
    echo_start(&echo, &(struct server_options){.listen = address});
    assert_string_equal(server_address(echo.server), address);
    assert_int_equal(stat(socket_path, &made), 0);
    assert_int_equal(made.st_mode & 0777, 0600);
    peer_open(&peer, address, NULL);
    assert_int_equal(peer_unary(&peer, "/test.Echo/Unary", "x", 1)->grpc_status, 0);
    peer_close(&peer);

    struct why why;
    assert_int_equal(try_listen(address, false, &why), STATUS_EXISTS); /* it is alive */
    assert_says(&why, "another program serves this socket");
    echo_stop(&echo);
    assert_int_not_equal(stat(socket_path, &made), 0);
}

static void test_server__replaces_a_stale_socket_but_no_other_file(void **state)
{
    char address[80];
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    struct why why;
    snprintf(address, sizeof(address), "unix:%s", socket_path);
    snprintf(un.sun_path, sizeof(un.sun_path), "%s", socket_path);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&un, sizeof(un)), 0);
    close(fd); /* the file stays, nobody serves it */
    assert_int_equal(try_listen(address, false, &why), STATUS_OK);
    assert_int_not_equal(access(socket_path, F_OK), 0);

    FILE *file = fopen(socket_path, "w");
    fputs("keep me", file);
    fclose(file);
    assert_int_equal(try_listen(address, false, &why), STATUS_EXISTS);
    assert_says(&why, "not a socket");
    assert_int_equal(access(socket_path, F_OK), 0);
    unlink(socket_path);
}

static void test_server__leaves_a_socket_that_another_has_taken_over(void **state)
{
    char address[80];
    struct server *server;
    snprintf(address, sizeof(address), "unix:%s", socket_path);
    struct server_options options = {.listen = address};
    assert_int_equal(server_create(&options, &server, NULL), STATUS_OK);
    unlink(socket_path);
    FILE *file = fopen(socket_path, "w");
    fclose(file);
    server_free(server);
    assert_int_equal(access(socket_path, F_OK), 0);
    unlink(socket_path);
}

/* --- drain and stop --- */

static struct peer_stream *ask_count(struct h2_peer *peer, uint8_t n_high)
{
    uint8_t wish[8] = {0, 0, n_high, 0, 0, 0, 4, 0};
    struct peer_stream *stream = peer_request(peer, "/test.Echo/Count", false, NULL);
    peer_send_message(stream, wish, 8, true);
    return stream;
}

static void test_server__a_drain_lets_a_running_stream_finish(void **state)
{
    struct echo echo;
    struct h2_peer peer;
    echo_start(&echo, NULL);
    peer_open(&peer, server_address(echo.server), &(struct peer_options){1029, true});
    struct peer_stream *stream = ask_count(&peer, 4); /* 1024 messages of 1024 */
    assert_true(peer_until_body(stream, 1029));
    server_drain(echo.server);
    assert_true(peer_until_goaway(&peer, 1)); /* the notice */
    assert_int_equal(peer.goaway_code, NGHTTP2_NO_ERROR);
    assert_int_equal(peer.goaway_last_id, INT32_MAX);
    assert_int_equal(echo.draining, 1);
    assert_true(peer_until_goaway(&peer, 2)); /* after the ack of our ping */
    assert_int_equal(peer.goaway_last_id, stream->id);
    assert_int_equal(peer_connect(server_address(echo.server)), -1); /* nobody listens */

    size_t given = 0;
    while (!stream->closed && !peer.closed) {
        peer_consume(stream, stream->n_body - given);
        given = stream->n_body;
        peer_turn(&peer, 200);
    }
    assert_int_equal(stream->grpc_status, 0);
    assert_int_equal(stream->n_body, 1024 * 1029);
    assert_true(peer_until_end(&peer));
    peer_close(&peer);
    echo_join(&echo); /* server_run came back by itself */
}

static void test_server__a_drain_ends_what_outlives_the_grace(void **state)
{
    struct echo echo;
    struct h2_peer peer;
    echo_start(&echo, &(struct server_options){.drain_ms = 50});
    peer_open(&peer, server_address(echo.server), NULL);
    struct peer_stream *never = peer_request(&peer, "/test.Echo/Never", false, NULL);
    peer_send_message(never, "x", 1, true);
    struct peer_stream *silent = peer_request(&peer, "/test.Echo/Silent", false, NULL);
    peer_send_message(silent, "x", 1, true);
    struct peer_stream *upload = peer_request(&peer, "/test.Echo/Sum", false, NULL);
    peer_send_message(upload, "x", 1, false);
    assert_true(peer_until_status(never));
    assert_true(echo_wait(&echo.begun, 3));
    server_drain(echo.server);
    assert_true(peer_until_all_closed(&peer));
    assert_int_equal(never->grpc_status, 14);
    assert_int_equal(silent->grpc_status, 14);
    assert_int_equal(upload->grpc_status, 14);
    assert_string_equal(silent->grpc_message, "the server is shutting down");
    assert_int_equal(echo.cancels, 3);
    assert_true(peer_until_end(&peer));
    peer_close(&peer);
    echo_join(&echo);
}

static void test_server__a_stop_cancels_everything_at_once(void **state)
{
    struct echo echo;
    struct h2_peer peer;
    echo_start(&echo, NULL);
    peer_open(&peer, server_address(echo.server), NULL);
    for (int i = 0; i < 10; i++) {
        struct peer_stream *stream = peer_request(&peer, "/test.Echo/Never", false, NULL);
        peer_send_message(stream, "x", 1, true);
    }
    assert_true(peer_until_status(peer.streams[9]));
    server_drain(echo.server);
    server_stop(echo.server);
    echo_join(&echo);
    assert_int_equal(echo.cancels, 10);
    assert_int_equal(echo.draining, 1);
    peer_close(&peer);
}

static void test_server__the_first_signal_drains_and_the_second_stops(void **state)
{
    struct echo echo;
    struct h2_peer peer;
    echo_start(&echo, &(struct server_options){.signals = true});
    peer_open(&peer, server_address(echo.server), NULL);
    struct peer_stream *stream = peer_request(&peer, "/test.Echo/Never", false, NULL);
    peer_send_message(stream, "x", 1, true);
    assert_true(peer_until_status(stream));
    kill(getpid(), SIGTERM);
    assert_true(peer_until_goaway(&peer, 2));
    assert_false(stream->closed);
    kill(getpid(), SIGINT);
    echo_join(&echo);
    assert_int_equal(echo.cancels, 1);
    peer_close(&peer);
}

static void test_server__a_server_that_never_ran_can_be_freed(void **state)
{
    struct server *server;
    struct server_options options = {.listen = "127.0.0.1:0", .signals = true};
    assert_int_equal(server_create(&options, &server, NULL), STATUS_OK);
    server_wake(server);
    server_free(server);
}

/* --- connections --- */

static void test_server__connections_beyond_the_limit_are_closed_and_counted(void **state)
{
    struct echo echo;
    struct h2_peer peers[3];
    struct server_stats stats;
    echo_start(&echo, &(struct server_options){.connections_max = 2});
    for (int i = 0; i < 2; i++) {
        peer_open(&peers[i], server_address(echo.server), NULL);
        assert_int_equal(peer_unary(&peers[i], "/test.Echo/Unary", "x", 1)->grpc_status, 0);
    }
    peer_open(&peers[2], server_address(echo.server), NULL);
    assert_true(peer_until_end(&peers[2]));
    echo_stats(&echo, &stats);
    assert_int_equal(stats.connections, 2);
    assert_int_equal(stats.connections_refused, 1);
    peer_close(&peers[0]);
    do
        echo_stats(&echo, &stats);
    while (stats.connections != 1);
    struct h2_peer again; /* a place is free */
    peer_open(&again, server_address(echo.server), NULL);
    assert_int_equal(peer_unary(&again, "/test.Echo/Unary", "x", 1)->grpc_status, 0);
    peer_close(&again);
    peer_close(&peers[1]);
    peer_close(&peers[2]);
    echo_stop(&echo);
}

static void ask_never(struct h2_peer *peer, int n)
{
    for (int i = 0; i < n; i++)
        peer_send_message(peer_request(peer, "/test.Echo/Never", false, NULL), "x", 1, true);
    assert_true(peer_until_status(peer->streams[n - 1]));
}

static void test_server__calls_and_streams_beyond_the_limits_are_refused(void **state)
{
    enum { CALLERS = CALLS_MAX / STREAMS_PER_CONNECTION,
           GETTERS = (STREAMS_MAX - CALLS_MAX) / STREAMS_PER_CONNECTION };
    static struct h2_peer callers[CALLERS], getters[GETTERS], last;
    const char *get[] = {":method", "GET", ":scheme", "http", ":path", "/", ":authority", "a",
                         NULL};
    struct echo echo;
    echo_start(&echo, NULL);
    for (int i = 0; i < CALLERS; i++) {
        peer_open(&callers[i], server_address(echo.server), NULL);
        ask_never(&callers[i], STREAMS_PER_CONNECTION);
    }
    assert_int_equal(echo.held, CALLS_MAX);
    peer_open(&last, server_address(echo.server), NULL);
    struct peer_stream *call = peer_unary(&last, "/test.Echo/Unary", "x", 1);
    assert_true(call->trailers_only);
    assert_int_equal(call->grpc_status, 8);
    assert_non_null(strstr(call->grpc_message, "4096 calls"));

    for (int i = 0; i < GETTERS; i++) { /* answers that a closed window holds back */
        peer_open(&getters[i], server_address(echo.server), &(struct peer_options){1, true});
        for (int k = 0; k < STREAMS_PER_CONNECTION; k++)
            peer_request_plain(&getters[i], get, true);
        assert_true(peer_until_body(getters[i].streams[STREAMS_PER_CONNECTION - 1], 1));
    }
    call = peer_unary(&last, "/test.Echo/Unary", "x", 1);
    assert_int_equal(call->http_status, 0);
    assert_int_equal(call->error_code, NGHTTP2_REFUSED_STREAM);

    peer_close(&getters[0]);
    peer_close(&callers[0]);
    assert_true(echo_wait(&echo.held, CALLS_MAX - STREAMS_PER_CONNECTION));
    assert_int_equal(peer_unary(&last, "/test.Echo/Unary", "x", 1)->grpc_status, 0);
    for (int i = 1; i < GETTERS; i++)
        peer_close(&getters[i]);
    for (int i = 1; i < CALLERS; i++)
        peer_close(&callers[i]);
    peer_close(&last);
    echo_stop(&echo);
}

static void test_server__an_idle_connection_costs_at_most_its_limit(void **state)
{
    enum { N = 50 };
    struct echo echo;
    static struct h2_peer peers[N];
    struct server_stats stats;
    echo_start(&echo, NULL);
    for (int i = 0; i < N; i++) {
        peer_open(&peers[i], server_address(echo.server), NULL);
        const char *extra[] = {"x-request-id", "0123456789abcdef0123456789abcdef", NULL};
        struct peer_stream *stream = peer_request(&peers[i], "/test.Echo/Unary", false, extra);
        peer_send_message(stream, "hello", 5, true);
        assert_true(peer_until_closed(stream));
        assert_int_equal(stream->grpc_status, 0);
    }
    echo_stats(&echo, &stats);
    assert_int_equal(stats.connections, N);
    assert_int_equal(stats.unsent_bytes, 0);
    assert_int_equal(stats.receive_bytes, 0);
    size_t each = stats.session_bytes / N + sizeof(struct h2_conn);
    print_message("an idle connection holds %zu bytes\n", each);
    assert_in_range(each, 1000, IDLE_CONNECTION_BYTES_MAX);
    for (int i = 0; i < N; i++)
        peer_close(&peers[i]);
    do
        echo_stats(&echo, &stats);
    while (stats.connections != 0);
    assert_int_equal(stats.session_bytes, 0);
    echo_stop(&echo);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_server__reports_the_port_that_the_system_picked),
        cmocka_unit_test(test_server__refuses_addresses_it_cannot_read),
        cmocka_unit_test(test_server__refuses_to_leave_loopback_without_being_told),
        cmocka_unit_test(test_server__names_an_address_in_use_and_what_to_do),
        cmocka_unit_test(test_server__serves_a_private_unix_socket_and_removes_it),
        cmocka_unit_test(test_server__replaces_a_stale_socket_but_no_other_file),
        cmocka_unit_test(test_server__leaves_a_socket_that_another_has_taken_over),
        cmocka_unit_test(test_server__a_drain_lets_a_running_stream_finish),
        cmocka_unit_test(test_server__a_drain_ends_what_outlives_the_grace),
        cmocka_unit_test(test_server__a_stop_cancels_everything_at_once),
        cmocka_unit_test(test_server__the_first_signal_drains_and_the_second_stops),
        cmocka_unit_test(test_server__a_server_that_never_ran_can_be_freed),
        cmocka_unit_test(test_server__connections_beyond_the_limit_are_closed_and_counted),
        cmocka_unit_test(test_server__calls_and_streams_beyond_the_limits_are_refused),
        cmocka_unit_test(test_server__an_idle_connection_costs_at_most_its_limit),
    };
    return cmocka_run_group_tests(tests, name_socket, NULL);
}
