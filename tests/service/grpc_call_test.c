/* What a gRPC call is to a client, row by row: requests, metadata, messages, replies, ends. */
#include "echo_fixture.h"
#include "h2_peer_fixture.h"

#include "limits.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct echo echo;
static struct h2_peer peer;

static int set_up(void **state)
{
    echo_start(&echo, NULL);
    peer_open(&peer, server_address(echo.server), NULL);
    return 0;
}

static int tear_down(void **state)
{
    peer_close(&peer);
    echo_stop(&echo);
    return 0;
}

static struct peer_stream *ask(const char *path, const char *text, const char *const *extra)
{
    struct peer_stream *stream = peer_request(&peer, path, false, extra);
    peer_send_message(stream, text, strlen(text), true);
    assert_true(peer_until_closed(stream));
    return stream;
}

static void assert_refused(const struct peer_stream *stream, int grpc_status, const char *part)
{
    assert_true(stream->trailers_only);
    assert_int_equal(stream->http_status, 200);
    assert_string_equal(stream->content_type, "application/grpc");
    assert_int_equal(stream->grpc_status, grpc_status);
    if (strstr(stream->grpc_message, part) == NULL)
        fail_msg("\"%s\" has no \"%s\"", stream->grpc_message, part);
}

static void assert_message(const struct peer_stream *stream, int idx, const char *text)
{
    bool found;
    struct slice message = peer_message(stream, idx, &found);
    assert_true(found);
    assert_int_equal(message.len, strlen(text));
    assert_memory_equal(message.bytes, text, message.len);
}

/* --- the four shapes --- */

static void test_grpc_call__unary_answers_headers_message_trailers(void **state)
{
    struct peer_stream *stream = ask("/test.Echo/Unary", "hello", NULL);
    assert_int_equal(stream->http_status, 200);
    assert_string_equal(stream->content_type, "application/grpc");
    assert_string_equal(stream->accept_encoding, "identity");
    assert_int_equal(stream->grpc_status, 0);
    assert_int_equal(stream->n_header_blocks, 2);
    assert_message(stream, 0, "hello");
    assert_int_equal(stream->error_code, NGHTTP2_NO_ERROR);
}

static void test_grpc_call__an_empty_message_is_a_message(void **state)
{
    struct peer_stream *stream = ask("/test.Echo/Unary", "", NULL);
    assert_int_equal(stream->grpc_status, 0);
    assert_message(stream, 0, "");
}

static void test_grpc_call__server_stream_sends_all_messages_in_order(void **state)
{
    uint8_t wish[8] = {0, 0, 1, 0x2C, 0, 0, 0x10, 0}; /* 300 of 4096 bytes */
    struct peer_stream *stream = peer_unary(&peer, "/test.Echo/Count", wish, 8);
    bool found;
    assert_int_equal(stream->grpc_status, 0);
    assert_int_equal(stream->n_body, 300 * (4096 + 5));
    assert_int_equal(peer_message(stream, 299, &found).len, 4096);
    assert_true(found);
}

static void test_grpc_call__client_stream_sees_every_byte_whatever_the_cuts(void **state)
{
    struct peer_stream *stream = peer_request(&peer, "/test.Echo/Sum", false, NULL);
    uint8_t bytes[700] = {0};
    size_t total = 0;
    for (size_t n = 0; n < 700; n += 7) {
        peer_send_message(stream, bytes, n, false);
        total += n;
    }
    uint8_t last[5 + 3] = {0, 0, 0, 0, 3, 'a', 'b', 'c'};
    for (size_t i = 0; i < sizeof(last); i++) { /* one byte a frame */
        peer_send(stream, last + i, 1, i + 1 == sizeof(last));
        peer_turn(&peer, 0);
    }
    total += 3;
    assert_true(peer_until_closed(stream));
    bool found;
    struct slice sum = peer_message(stream, 0, &found);
    assert_true(found);
    assert_int_equal((size_t)sum.bytes[5] << 16 | (size_t)sum.bytes[6] << 8 | sum.bytes[7], total);
}

static void test_grpc_call__bidi_answers_before_the_client_ends(void **state)
{
    struct peer_stream *stream = peer_request(&peer, "/test.Echo/Bidi", false, NULL);
    peer_send_message(stream, "one", 3, false);
    assert_true(peer_until_body(stream, 8));
    assert_message(stream, 0, "one");
    assert_false(stream->remote_ended);
    peer_send_message(stream, "two", 3, true);
    assert_true(peer_until_closed(stream));
    assert_message(stream, 1, "two");
    assert_int_equal(stream->grpc_status, 0);
}

static void test_grpc_call__a_client_stream_without_messages_still_ends(void **state)
{
    struct peer_stream *stream = peer_request(&peer, "/test.Echo/Sum", true, NULL);
    assert_true(peer_until_closed(stream));
    assert_int_equal(stream->grpc_status, 0);
    bool found;
    struct slice sum = peer_message(stream, 0, &found);
    assert_int_equal(sum.len, 8);
    assert_memory_equal(sum.bytes, "\0\0\0\0\0\0\0\0", 8);
}

static void test_grpc_call__work_comes_back_to_its_call(void **state)
{
    struct peer_stream *stream = ask("/test.Echo/Work", "desserts", NULL);
    assert_int_equal(stream->grpc_status, 0);
    assert_message(stream, 0, "stressed");
}

/* --- what is no gRPC --- */

static void assert_plain(const char *const *headers, int http_status, const char *allow)
{
    struct peer_stream *stream = peer_request_plain(&peer, headers, true);
    assert_true(peer_until_closed(stream));
    assert_int_equal(stream->http_status, http_status);
    assert_int_equal(stream->grpc_status, -1);
    assert_true(stream->n_body >= 5);
    assert_string_equal(stream->allow, allow);
}

static void test_grpc_call__what_is_not_grpc_gets_a_plain_http_answer(void **state)
{
    const char *wrong_type[] = {":method", "POST", ":scheme", "http", ":path", "/test.Echo/Unary",
                                ":authority", "a", "content-type", "text/plain", NULL};
    const char *web[] = {":method", "POST", ":scheme", "http", ":path", "/test.Echo/Unary",
                         ":authority", "a", "content-type", "application/grpc-web", NULL};
    const char *get[] = {":method", "GET", ":scheme", "http", ":path", "/test.Echo/Unary",
                         ":authority", "a", NULL};
    const char *other[] = {":method", "GET", ":scheme", "http", ":path", "/", ":authority", "a",
                           NULL};
    assert_plain(wrong_type, 415, "");
    assert_plain(web, 415, "");
    assert_plain(get, 405, "POST");
    assert_plain(other, 404, "");
}

static void test_grpc_call__a_plain_answer_waits_for_the_end_but_not_for_ever(void **state)
{
    const char *wrong_type[] = {":method", "POST", ":scheme", "http", ":path", "/test.Echo/Unary",
                                ":authority", "a", "content-type", "text/plain", NULL};
    struct peer_stream *stream = peer_request_plain(&peer, wrong_type, false);
    peer_turn(&peer, 50);
    assert_int_equal(stream->http_status, 0);
    peer_send(stream, "x", 1, true);
    assert_true(peer_until_closed(stream));
    assert_int_equal(stream->http_status, 415);

    struct peer_stream *silent = peer_request_plain(&peer, wrong_type, false);
    assert_true(peer_until_closed(silent));
    assert_int_equal(silent->http_status, 415);

    static uint8_t bytes[SMALL_MESSAGE_BYTES_MAX + 1];
    struct peer_stream *long_one = peer_request_plain(&peer, wrong_type, false);
    peer_send(long_one, bytes, sizeof(bytes), false);
    assert_true(peer_until_closed(long_one));
    assert_int_equal(long_one->http_status, 415);
    assert_int_equal(long_one->error_code, NGHTTP2_NO_ERROR);
}

static void test_grpc_call__a_plain_answer_honours_a_window_of_one_byte(void **state)
{
    struct h2_peer narrow;
    peer_open(&narrow, server_address(echo.server), &(struct peer_options){1, true});
    const char *get[] = {":method", "GET", ":scheme", "http", ":path", "/", ":authority", "a",
                         NULL};
    struct peer_stream *stream = peer_request_plain(&narrow, get, true);
    assert_true(peer_until_body(stream, 1));
    peer_turn(&narrow, 50);
    assert_int_equal(stream->n_body, 1);
    for (int i = 0; i < 100 && !stream->closed; i++) {
        peer_consume(stream, 1);
        peer_turn(&narrow, 20);
    }
    assert_true(stream->closed);
    peer_close(&narrow);
}

static void test_grpc_call__content_type_variants_are_judged(void **state)
{
    static const struct {
        const char *type;
        int http_status, grpc_status;
    } rows[] = {{"application/grpc", 200, 0},
                {"application/grpc+proto", 200, 0},
                {"application/grpc;charset=utf-8", 200, 0},
                {"application/grpc+json", 200, 12},
                {"application/grpcfoo", 415, -1}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const char *headers[] = {":method", "POST", ":scheme", "http", ":path",
                                 "/test.Echo/Unary", ":authority", "a", "content-type",
                                 rows[i].type, NULL};
        struct peer_stream *stream = peer_request_plain(&peer, headers, false);
        peer_send_message(stream, "x", 1, true);
        assert_true(peer_until_closed(stream));
        assert_int_equal(stream->http_status, rows[i].http_status);
        assert_int_equal(stream->grpc_status, rows[i].grpc_status);
    }
}

/* --- refusals, all trailers-only --- */

static void test_grpc_call__unknown_methods_are_unimplemented(void **state)
{
    assert_refused(ask("/test.Echo/None", "x", NULL), 12, "unknown");
    assert_refused(ask("/test.echo/unary", "x", NULL), 12, "unknown");
    assert_refused(ask("/", "x", NULL), 12, "unknown");
    char path[PATH_BYTES_MAX + 10];
    memset(path, 'p', sizeof(path) - 1);
    path[0] = '/';
    path[sizeof(path) - 1] = '\0';
    assert_refused(ask(path, "x", NULL), 12, "unknown");
}

static void test_grpc_call__a_unary_call_takes_exactly_one_message(void **state)
{
    struct peer_stream *none = peer_request(&peer, "/test.Echo/Unary", true, NULL);
    assert_true(peer_until_closed(none));
    assert_refused(none, 12, "one message, none");
    struct peer_stream *two = peer_request(&peer, "/test.Echo/Unary", false, NULL);
    peer_send_message(two, "a", 1, false);
    peer_send_message(two, "b", 1, true);
    assert_true(peer_until_closed(two));
    assert_refused(two, 12, "one message, more");
    assert_int_equal(echo.begun, 0); /* no handler heard of either */
}

static void test_grpc_call__timeouts_are_parsed_or_refused(void **state)
{
    static const char *const bad[] = {"", "1", "s", "123456789S", "-1S", "1s", "1 S", "+1S"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        const char *extra[] = {"grpc-timeout", bad[i], NULL};
        assert_refused(ask("/test.Echo/Unary", "x", extra), 13, "grpc-timeout");
    }
    static const char *const good[] = {"99999999H", "10S", "20000m", "1H", "99999999u", "5M"};
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        const char *extra[] = {"grpc-timeout", good[i], NULL};
        assert_int_equal(ask("/test.Echo/Unary", "x", extra)->grpc_status, 0);
    }
    const char *expired[] = {"grpc-timeout", "0n", NULL};
    assert_refused(ask("/test.Echo/Unary", "x", expired), 4, "deadline");
}

static void test_grpc_call__compression_is_refused_with_what_is_taken(void **state)
{
    const char *gzip[] = {"grpc-encoding", "gzip", NULL};
    struct peer_stream *stream = ask("/test.Echo/Unary", "x", gzip);
    assert_refused(stream, 12, "grpc-encoding");
    assert_string_equal(stream->accept_encoding, "identity");
    const char *identity[] = {"grpc-encoding", "identity", NULL};
    assert_int_equal(ask("/test.Echo/Unary", "x", identity)->grpc_status, 0);
}

static void test_grpc_call__message_flags_other_than_zero_are_internal(void **state)
{
    for (int flag = 1; flag < 256; flag += 127) {
        uint8_t bytes[6] = {(uint8_t)flag, 0, 0, 0, 1, 'x'};
        struct peer_stream *stream = peer_request(&peer, "/test.Echo/Unary", false, NULL);
        peer_send(stream, bytes, sizeof(bytes), true);
        assert_true(peer_until_closed(stream));
        assert_refused(stream, 13, "flag");
    }
}

static void test_grpc_call__a_request_that_ends_inside_a_message_is_internal(void **state)
{
    uint8_t bytes[9] = {0, 0, 0, 0, 5, 'a', 'b', 'c', 'd'};
    for (size_t n = 1; n <= sizeof(bytes); n++) {
        struct peer_stream *stream = peer_request(&peer, "/test.Echo/Sum", false, NULL);
        peer_send(stream, bytes, n, true);
        assert_true(peer_until_closed(stream));
        assert_refused(stream, 13, "inside a message");
    }
}

static void test_grpc_call__a_message_of_the_limit_passes_and_one_more_byte_is_refused(void **state)
{
    char text[ECHO_SMALL_BYTES + 2];
    memset(text, 'x', sizeof(text));
    text[ECHO_SMALL_BYTES] = '\0';
    assert_int_equal(ask("/test.Echo/Small", text, NULL)->grpc_status, 0);
    text[ECHO_SMALL_BYTES] = 'x';
    text[ECHO_SMALL_BYTES + 1] = '\0';
    assert_refused(ask("/test.Echo/Small", text, NULL), 8, "101 bytes");
}

static void test_grpc_call__an_announced_length_is_judged_before_the_body(void **state)
{
    uint8_t prefix[5] = {0, 0xFF, 0xFF, 0xFF, 0xFF};
    struct peer_stream *stream = peer_request(&peer, "/test.Echo/Sum", false, NULL);
    peer_send(stream, prefix, 5, false);
    assert_true(peer_until_closed(stream)); /* by the reset: we never end */
    assert_refused(stream, 8, "4,294,967,295");
    assert_int_equal(stream->error_code, NGHTTP2_NO_ERROR);
}

static void test_grpc_call__a_reply_larger_than_clients_take_is_refused(void **state)
{
    size_t n = RESPONSE_MESSAGE_BYTES_MAX;
    uint8_t *bytes = calloc(1, n + 1);
    struct peer_stream *fits = peer_unary(&peer, "/test.Echo/Unary", bytes, n);
    assert_int_equal(fits->grpc_status, 0);
    assert_int_equal(fits->n_body, n + 5);
    assert_refused(peer_unary(&peer, "/test.Echo/Unary", bytes, n + 1), 8, "does not fit");
    free(bytes);
}

/* --- metadata --- */

static void test_grpc_call__metadata_of_the_limit_passes_and_more_is_refused(void **state)
{
    /* what peer_request sends by itself, with 32 bytes a field */
    const size_t base = (7 + 4) + (7 + 4) + (5 + 16) + (10 + 9) + (2 + 8) + (12 + 16) + (10 + 14) +
                        7 * 32;
    static char value[METADATA_BYTES_MAX + 1];
    memset(value, 'v', sizeof(value) - 1);
    size_t room = METADATA_BYTES_MAX - base - 32 - 1;
    value[room] = '\0';
    const char *extra[] = {"x", value, NULL};
    assert_int_equal(ask("/test.Echo/Unary", "x", extra)->grpc_status, 0);
    value[room] = 'v';
    value[room + 1] = '\0';
    assert_refused(ask("/test.Echo/Unary", "x", extra), 8, "8,193");
}

static void test_grpc_call__too_many_fields_are_refused(void **state)
{
    const char *extra[2 * (METADATA_FIELDS_MAX - 7 + 1) + 1];
    size_t n = 0;
    for (int i = 0; i < METADATA_FIELDS_MAX - 7; i++) {
        extra[n++] = "x";
        extra[n++] = "";
    }
    extra[n] = NULL;
    assert_int_equal(ask("/test.Echo/Unary", "x", extra)->grpc_status, 0);
    extra[n++] = "x";
    extra[n++] = "";
    extra[n] = NULL;
    assert_refused(ask("/test.Echo/Unary", "x", extra), 8, "101 fields");
}

static void test_grpc_call__binary_metadata_must_be_base64(void **state)
{
    const char *good[] = {"a-bin", "AAEC", "b-bin", "AAE", "c-bin", "AAE=,AA", "d-bin", "", NULL};
    assert_int_equal(ask("/test.Echo/Unary", "x", good)->grpc_status, 0);
    const char *bad[] = {"a-bin", "A*", NULL};
    assert_refused(ask("/test.Echo/Unary", "x", bad), 13, "base64");
}

static void test_grpc_call__the_request_id_comes_back_when_it_is_text(void **state)
{
    const char *good[] = {"x-request-id", "abc-123", NULL};
    assert_string_equal(ask("/test.Echo/Unary", "x", good)->request_id, "abc-123");
    assert_string_equal(ask("/test.Echo/None", "x", good)->request_id, "abc-123");
    const char *bad[] = {"x-request-id", "a\xc3\xa9", NULL};
    struct peer_stream *stream = ask("/test.Echo/Unary", "x", bad);
    assert_int_equal(stream->grpc_status, 0);
    assert_int_equal(strspn(stream->request_id, "0123456789abcdef"), 32); /* one of our own */
    assert_int_equal(strlen(stream->request_id), 32);
}

/* --- ends --- */

static void test_grpc_call__the_message_is_percent_encoded_and_details_are_base64(void **state)
{
    struct peer_stream *stream = ask("/test.Echo/Refuse", "4 of 3% \xc3\xa9\n", NULL);
    assert_true(stream->trailers_only);
    assert_int_equal(stream->grpc_status, 8);
    assert_string_equal(stream->grpc_message, "4 of 3%25 %C3%A9%0A");
    assert_string_equal(stream->details, "NCBvZiAzJSDDqQo");
}

static void test_grpc_call__details_that_do_not_fit_are_left_out(void **state)
{
    static char text[20001];
    memset(text, 'x', sizeof(text) - 1);
    text[4000] = '\0';
    struct peer_stream *stream = ask("/test.Echo/Refuse", text, NULL); /* 4000 + 5334 > 8000 */
    assert_int_equal(strlen(stream->grpc_message), 4000);
    assert_string_equal(stream->details, "");
    text[4000] = 'x';
    stream = ask("/test.Echo/Refuse", text, NULL);
    size_t n = strlen(stream->grpc_message);
    assert_in_range(n, TRAILERS_BYTES_MAX - 400, TRAILERS_BYTES_MAX);
    assert_string_equal(stream->grpc_message + n - 3, "...");
}

static void test_grpc_call__an_early_refusal_reaches_a_client_that_still_uploads(void **state)
{
    static uint8_t bytes[65536];
    struct peer_stream *stream = peer_request(&peer, "/test.Echo/Early", false, NULL);
    for (int i = 0; i < 80; i++) /* 5 MB, five times the stream's window */
        peer_send_message(stream, bytes, sizeof(bytes), false);
    assert_true(peer_until_closed(stream));
    assert_refused(stream, 9, "enough: 100%25 of it%0A%C3%A9");
    assert_int_equal(stream->error_code, NGHTTP2_NO_ERROR);
    assert_int_equal(ask("/test.Echo/Unary", "still here", NULL)->grpc_status, 0);
}

static void test_grpc_call__a_deadline_ends_a_silent_call_by_trailers(void **state)
{
    const char *extra[] = {"grpc-timeout", "50m", NULL};
    assert_refused(ask("/test.Echo/Silent", "x", extra), 4, "deadline");
    struct peer_stream *opened = ask("/test.Echo/Never", "x", extra);
    assert_int_equal(opened->n_header_blocks, 2);
    assert_int_equal(opened->grpc_status, 4);
    assert_int_equal(echo.cancels, 2);
    assert_int_equal(echo.held, 0);
}

static void test_grpc_call__a_deadline_ends_an_upload_that_does_not_come(void **state)
{
    const char *extra[] = {"grpc-timeout", "50m", NULL};
    struct peer_stream *stream = peer_request(&peer, "/test.Echo/Sum", false, extra);
    assert_true(peer_until_closed(stream));
    assert_refused(stream, 4, "deadline");
    assert_int_equal(echo.cancels, 0); /* its handler never heard of it */
}

static void test_grpc_call__a_reset_frees_the_handler_once(void **state)
{
    for (int i = 0; i < 50; i++) {
        struct peer_stream *stream = peer_request(&peer, "/test.Echo/Never", false, NULL);
        peer_send_message(stream, "x", 1, true);
        assert_true(peer_until_status(stream));
        peer_reset(stream, i % 2 == 0 ? NGHTTP2_CANCEL : NGHTTP2_NO_ERROR);
    }
    peer_turn(&peer, 10);
    assert_true(echo_wait(&echo.cancels, 50));
    assert_true(echo_wait(&echo.held, 0));
}

static void test_grpc_call__a_disconnect_frees_every_handler_once(void **state)
{
    struct h2_peer leaver;
    peer_open(&leaver, server_address(echo.server), NULL);
    for (int i = 0; i < 20; i++)
        peer_send_message(peer_request(&leaver, "/test.Echo/Never", false, NULL), "x", 1, true);
    while (leaver.streams[19]->http_status == 0)
        peer_turn(&leaver, 20);
    assert_int_equal(echo.held, 20);
    peer_close(&leaver);
    assert_true(echo_wait(&echo.cancels, 20));
    assert_true(echo_wait(&echo.held, 0));
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_grpc_call__##name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(unary_answers_headers_message_trailers),
        TEST(an_empty_message_is_a_message),
        TEST(server_stream_sends_all_messages_in_order),
        TEST(client_stream_sees_every_byte_whatever_the_cuts),
        TEST(bidi_answers_before_the_client_ends),
        TEST(a_client_stream_without_messages_still_ends),
        TEST(work_comes_back_to_its_call),
        TEST(what_is_not_grpc_gets_a_plain_http_answer),
        TEST(a_plain_answer_waits_for_the_end_but_not_for_ever),
        TEST(a_plain_answer_honours_a_window_of_one_byte),
        TEST(content_type_variants_are_judged),
        TEST(unknown_methods_are_unimplemented),
        TEST(a_unary_call_takes_exactly_one_message),
        TEST(timeouts_are_parsed_or_refused),
        TEST(compression_is_refused_with_what_is_taken),
        TEST(message_flags_other_than_zero_are_internal),
        TEST(a_request_that_ends_inside_a_message_is_internal),
        TEST(a_message_of_the_limit_passes_and_one_more_byte_is_refused),
        TEST(an_announced_length_is_judged_before_the_body),
        TEST(a_reply_larger_than_clients_take_is_refused),
        TEST(metadata_of_the_limit_passes_and_more_is_refused),
        TEST(too_many_fields_are_refused),
        TEST(binary_metadata_must_be_base64),
        TEST(the_request_id_comes_back_when_it_is_text),
        TEST(the_message_is_percent_encoded_and_details_are_base64),
        TEST(details_that_do_not_fit_are_left_out),
        TEST(an_early_refusal_reaches_a_client_that_still_uploads),
        TEST(a_deadline_ends_a_silent_call_by_trailers),
        TEST(a_deadline_ends_an_upload_that_does_not_come),
        TEST(a_reset_frees_the_handler_once),
        TEST(a_disconnect_frees_every_handler_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
