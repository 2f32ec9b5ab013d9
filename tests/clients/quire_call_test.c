/* A client against a server that breaks off, lies, resets, and says nothing. */
#include "base/status.h"
#include "clients/c/quire_call.h"
#include "tests/clients/scripted_peer_fixture.h"

#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static struct script script;
static struct scripted_peer peer;
static struct quire_status status;
static char reply[BIG_BYTES + 1];
static size_t reply_len;

static struct quire_client *open_client(size_t receive_bytes_max)
{
    struct quire_client_options options = {.receive_bytes_max = receive_bytes_max};
    struct quire_client *client = NULL;
    struct why why = {.text = ""};
    assert_int_equal(quire_client_open(peer.address, &options, &client, &why), 0);
    return client;
}

/* One unary call; reply and status hold what came. */
static bool ask(struct quire_client *client, const char *method, const char *request)
{
    void *bytes;
    bool ok = quire_call_unary(client, method, request, strlen(request), NULL, &bytes, &reply_len,
                               &status);
    assert_true(ok == (bytes != NULL) && ok == (status.code == QUIRE_OK));
    if (ok)
        memcpy(reply, bytes, reply_len);
    reply[reply_len] = 0;
    free(bytes);
    return ok;
}

/* The script against a new client, up to byte n; true when the call ended OK. */
static bool play(size_t n, bool stays_open)
{
    scripted_peer_start(&peer, script.bytes, n, stays_open);
    struct quire_client *client = open_client(1000);
    bool ok = ask(client, "/t/Unary", "hello");
    quire_client_close(client);
    scripted_peer_stop(&peer);
    return ok;
}

static void begin(void)
{
    script.n = 0;
    script_settings(&script);
}

static void good_reply(void)
{
    begin();
    script_reply(&script);
    script_message(&script, 1, 0, 5, "world", 5);
    script_trailers(&script, "0");
}

static void test_quire_call__one_request_gives_one_reply(void **state)
{
    good_reply();
    assert_true(play(script.n, true));
    assert_string_equal(reply, "world");
    assert_string_equal(peer.path, "/t/Unary");
    assert_string_equal(peer.te, "trailers");
    assert_int_equal(peer.n_body, 5 + 5);
    assert_true(peer.ended);
    assert_int_equal(atomic_load(&peer.reset_code), -1);
}

static void test_quire_call__a_connection_cut_at_any_byte_is_unavailable(void **state)
{
    good_reply();
    for (size_t n = 0; n < script.n; n++) {
        assert_false(play(n, false));
        assert_int_equal(status.code, QUIRE_UNAVAILABLE);
        assert_true(status.is_local);
        assert_non_null(strstr(status.message, peer.address));
    }
    assert_true(play(script.n, false));
}

static void test_quire_call__garbage_ends_the_call(void **state)
{
    static const char http[] = "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
    assert_true(sizeof http < sizeof script.bytes);
    memcpy(script.bytes, http, sizeof http);
    script.n = sizeof http;
    assert_false(play(script.n, true));
    assert_int_equal(status.code, QUIRE_UNAVAILABLE);

    srandom(7);
    for (int turn = 0; turn < 200; turn++) {
        good_reply();
        int n_changes = 1 + (int)(random() % 4);
        for (int i = 0; i < n_changes; i++)
            script.bytes[(size_t)random() % script.n] = (uint8_t)random();
        play(script.n, false); /* any status, as long as it ends */
    }
}

static void test_quire_call__a_reset_maps_to_the_code_of_the_protocol(void **state)
{
    static const struct {
        uint8_t error;
        int code;
    } cases[] = {{NGHTTP2_NO_ERROR, QUIRE_UNKNOWN},
                 {NGHTTP2_REFUSED_STREAM, QUIRE_UNAVAILABLE},
                 {NGHTTP2_CANCEL, QUIRE_CANCELLED},
                 {NGHTTP2_ENHANCE_YOUR_CALM, QUIRE_RESOURCE_EXHAUSTED},
                 {NGHTTP2_INTERNAL_ERROR, QUIRE_INTERNAL}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const uint8_t error[4] = {0, 0, 0, cases[i].error};
        begin();
        script_reply(&script);
        script_frame(&script, NGHTTP2_RST_STREAM, 0, 1, error, 4);
        assert_false(play(script.n, true));
        assert_int_equal(status.code, cases[i].code);
    }
}

static void test_quire_call__trailers_only_tell_message_and_numbers(void **state)
{
    /* Status{8, "4 of 3% pages", [Any{ErrorInfo{"KV", "quire.dev", {"needed": "4"}}}]} */
    static const char details[] =
        "CAgSDTQgb2YgMyUgcGFnZXMaSwoodHlwZS5nb29nbGVhcGlzLmNvbS9nb29nbGUucnBjLkVycm9ySW5mbxIfCgJL"
        "VhIJcXVpcmUuZGV2Gg4KBm5lZWRlZBIENCwwMA";
    static const char *const fields[] = {
        ":status", "200",          "content-type",    "application/grpc",        "grpc-status",
        "8",       "grpc-message", "4 of 3%25 pages", "grpc-status-details-bin", details,
        NULL};
    begin();
    script_headers(&script, 1, true, fields);
    assert_false(play(script.n, true));
    assert_int_equal(status.code, QUIRE_RESOURCE_EXHAUSTED);
    assert_false(status.is_local);
    assert_string_equal(status.message, "4 of 3% pages");
    assert_string_equal(status.reason, "KV");
    assert_int_equal(status.n_details, 1);
    assert_string_equal(status.details[0].key, "needed");
    assert_string_equal(status.details[0].value, "4,00");
}

static void test_quire_call__a_status_needs_no_message(void **state)
{
    begin();
    script_reply(&script);
    script_trailers(&script, "5");
    assert_false(play(script.n, true));
    assert_int_equal(status.code, QUIRE_NOT_FOUND);
    assert_string_equal(status.message, "");
}

static void test_quire_call__no_status_is_unknown_and_http_says_more(void **state)
{
    static const char *const not_found[] = {":status", "404", "content-type", "text/plain", NULL};
    begin();
    script_reply(&script);
    script_frame(&script, NGHTTP2_DATA, NGHTTP2_FLAG_END_STREAM, 1, NULL, 0);
    assert_false(play(script.n, true));
    assert_int_equal(status.code, QUIRE_UNKNOWN);

    begin();
    script_headers(&script, 1, true, not_found);
    assert_false(play(script.n, true));
    assert_int_equal(status.code, QUIRE_UNIMPLEMENTED);
    assert_non_null(strstr(status.message, "HTTP 404"));
}

static void test_quire_call__goaway_refuses_what_it_did_not_begin(void **state)
{
    begin();
    script_goaway(&script, 0, "max_age");
    scripted_peer_start(&peer, script.bytes, script.n, true);
    struct quire_client *client = open_client(1000);
    assert_false(ask(client, "/t/Unary", "hello"));
    assert_int_equal(status.code, QUIRE_UNAVAILABLE);
    assert_non_null(strstr(status.message, "max_age"));
    assert_false(ask(client, "/t/Unary", "again"));
    assert_int_equal(status.code, QUIRE_UNAVAILABLE);
    quire_client_close(client);
    scripted_peer_stop(&peer);
}

static void test_quire_call__goaway_lets_an_open_call_end(void **state)
{
    begin();
    script_goaway(&script, 1, "");
    script_reply(&script);
    script_message(&script, 1, 0, 5, "world", 5);
    script_trailers(&script, "0");
    assert_true(play(script.n, true));
}

static void test_quire_call__a_message_of_the_limit_passes_and_one_more_byte_not(void **state)
{
    static char bytes[1001];
    begin();
    script_reply(&script);
    script_message(&script, 1, 0, 1000, bytes, 1000);
    script_trailers(&script, "0");
    assert_true(play(script.n, true));
    assert_int_equal(reply_len, 1000);

    begin(); /* refused when the five bytes are there, whatever follows */
    script_reply(&script);
    script_message(&script, 1, 0, 1001, "", 0);
    assert_false(play(script.n, true));
    assert_int_equal(status.code, QUIRE_RESOURCE_EXHAUSTED);
    assert_non_null(strstr(status.message, "1001 bytes"));
    assert_true(status.is_local);
}

static void test_quire_call__a_compressed_or_half_message_is_internal(void **state)
{
    begin();
    script_reply(&script);
    script_message(&script, 1, 1, 5, "world", 5);
    script_trailers(&script, "0");
    assert_false(play(script.n, true));
    assert_int_equal(status.code, QUIRE_INTERNAL);

    begin();
    script_reply(&script);
    script_message(&script, 1, 0, 6, "world", 5);
    script_trailers(&script, "0");
    assert_false(play(script.n, true));
    assert_int_equal(status.code, QUIRE_INTERNAL);
}

static void test_quire_call__ok_without_exactly_one_reply_is_internal(void **state)
{
    begin();
    script_reply(&script);
    script_trailers(&script, "0");
    assert_false(play(script.n, true));
    assert_int_equal(status.code, QUIRE_INTERNAL);

    begin();
    script_reply(&script);
    script_message(&script, 1, 0, 1, "a", 1);
    script_message(&script, 1, 0, 1, "b", 1);
    script_trailers(&script, "0");
    assert_false(play(script.n, true));
    assert_int_equal(status.code, QUIRE_INTERNAL);
}

static void test_quire_call__a_deadline_is_sent_and_kept(void **state)
{
    struct quire_call_options options = {.timeout_ms = 40, .request_id = "run 7"};
    begin();
    scripted_peer_start(&peer, script.bytes, script.n, true);
    struct quire_client *client = open_client(0);
    struct quire_call *call = quire_call_open(client, "/t/Never", &options);
    assert_true(quire_call_send(call, "x", 1, true));
    assert_int_equal(quire_call_wait(call)->code, QUIRE_DEADLINE_EXCEEDED);
    assert_true(quire_call_status(call)->is_local);
    quire_call_free(call);
    quire_client_close(client);
    scripted_peer_stop(&peer);
    assert_string_equal(peer.timeout, "40m");
    assert_string_equal(peer.request_id, "run 7");
    assert_int_equal(atomic_load(&peer.reset_code), NGHTTP2_CANCEL);
}

static bool stop_at_once(void *arg, const void *bytes, size_t len)
{
    ++*(int *)arg;
    return false;
}

static void test_quire_call__a_callback_that_says_no_cancels(void **state)
{
    int n = 0;
    struct quire_call_options options = {.on_message = stop_at_once, .arg = &n};
    begin();
    script_reply(&script);
    script_message(&script, 1, 0, 1, "a", 1);
    script_message(&script, 1, 0, 1, "b", 1);
    scripted_peer_start(&peer, script.bytes, script.n, true);
    struct quire_client *client = open_client(0);
    struct quire_call *call = quire_call_open(client, "/t/Stream", &options);
    quire_call_send(call, "x", 1, true);
    assert_int_equal(quire_call_wait(call)->code, QUIRE_CANCELLED);
    assert_int_equal(n, 1);
    assert_false(quire_call_send_end(call));
    quire_call_free(call);
    quire_client_close(client);
    scripted_peer_stop(&peer);
    assert_int_equal(atomic_load(&peer.reset_code), NGHTTP2_CANCEL);
}

static void *interrupt_when_asked(void *arg)
{
    while (!atomic_load(&peer.got_request))
        usleep(1000);
    quire_client_interrupt(arg);
    return NULL;
}

static void test_quire_call__an_interrupt_ends_a_wait(void **state)
{
    pthread_t thread;
    begin();
    scripted_peer_start(&peer, script.bytes, script.n, true);
    struct quire_client *client = open_client(0);
    assert_int_equal(pthread_create(&thread, NULL, interrupt_when_asked, client), 0);
    assert_false(ask(client, "/t/Never", "x"));
    assert_int_equal(status.code, QUIRE_CANCELLED);
    pthread_join(thread, NULL);
    assert_true(quire_client_is_interrupted(client));
    assert_false(ask(client, "/t/Never", "x"));
    assert_int_equal(status.code, QUIRE_CANCELLED);
    quire_client_close(client);
    scripted_peer_stop(&peer);
    assert_int_equal(atomic_load(&peer.reset_code), NGHTTP2_CANCEL);
}

static bool keep_reply(void *arg, const void *bytes, size_t len)
{
    memcpy(reply, bytes, len);
    reply_len = len;
    return true;
}

static void test_quire_call__an_upload_passes_the_windows_in_both_directions(void **state)
{
    static char piece[100000];
    struct quire_call_options options = {.on_message = keep_reply};
    scripted_peer_start_live(&peer);
    struct quire_client *client = open_client(0);
    struct quire_call *call = quire_call_open(client, "/t/Count", &options);
    for (int i = 0; i < 20; i++)
        assert_true(quire_call_send(call, piece, sizeof piece, false));
    int nothing = open("/dev/null", O_RDONLY | O_CLOEXEC);
    assert_true(quire_call_wait_readable(call, nothing));
    close(nothing);
    assert_true(quire_call_send_end(call));
    assert_int_equal(quire_call_wait(call)->code, QUIRE_OK);
    assert_int_equal(reply_len, 8);
    uint64_t n = 0;
    for (int i = 0; i < 8; i++)
        n = n << 8 | (uint8_t)reply[i];
    assert_int_equal(n, 20 * (sizeof piece + 5));
    struct quire_call_times times = quire_call_times(call);
    assert_true(times.sent_ns > 0 && times.first_data_ns >= times.sent_ns);
    quire_call_free(call);

    assert_true(ask(client, "/t/Big", "x"));
    assert_int_equal(reply_len, BIG_BYTES);
    quire_client_close(client);
    scripted_peer_stop(&peer);
}

static void test_quire_call__a_server_that_ends_first_stops_the_upload(void **state)
{
    static char piece[1 << 20];
    static const char *const refused[] = {":status",          "200",         "content-type",
                                          "application/grpc", "grpc-status", "8",
                                          "grpc-message",     "too large",   NULL};
    begin();
    script_headers(&script, 1, true, refused); /* no window was ever given: send would never end */
    scripted_peer_start(&peer, script.bytes, script.n, true);
    struct quire_client *client = open_client(0);
    struct quire_call *call = quire_call_open(client, "/t/Upload", NULL);
    while (quire_call_send(call, piece, sizeof piece, false)) {
    }
    assert_int_equal(quire_call_status(call)->code, QUIRE_RESOURCE_EXHAUSTED);
    assert_string_equal(quire_call_status(call)->message, "too large");
    quire_call_free(call);
    quire_client_close(client);
    scripted_peer_stop(&peer);
    assert_int_equal(atomic_load(&peer.reset_code), NGHTTP2_CANCEL);
}

static void test_quire_call__a_bad_request_id_is_refused_here(void **state)
{
    struct quire_call_options options = {.request_id = "a\nb"};
    begin();
    scripted_peer_start(&peer, script.bytes, script.n, true);
    struct quire_client *client = open_client(0);
    struct quire_call *call = quire_call_open(client, "/t/Unary", &options);
    assert_true(quire_call_has_ended(call));
    assert_int_equal(quire_call_wait(call)->code, QUIRE_INVALID_ARGUMENT);
    quire_call_free(call);
    quire_client_close(client);
    scripted_peer_stop(&peer);
}

static void test_quire_client__nobody_who_listens_is_said_in_a_sentence(void **state)
{
    struct quire_client *client;
    struct why why = {.text = ""};
    assert_int_equal(quire_client_open("127.0.0.1:1", NULL, &client, &why), STATUS_UNAVAILABLE);
    assert_string_equal(why.text, "no server at 127.0.0.1:1 (connection refused)");
    assert_null(client);
    assert_int_equal(quire_client_open("unix:/nowhere/at.all", NULL, &client, &why),
                     STATUS_UNAVAILABLE);
    assert_int_equal(quire_client_open("nowhere", NULL, &client, &why), STATUS_INVALID);
    quire_client_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quire_call__one_request_gives_one_reply),
        cmocka_unit_test(test_quire_call__a_connection_cut_at_any_byte_is_unavailable),
        cmocka_unit_test(test_quire_call__garbage_ends_the_call),
        cmocka_unit_test(test_quire_call__a_reset_maps_to_the_code_of_the_protocol),
        cmocka_unit_test(test_quire_call__trailers_only_tell_message_and_numbers),
        cmocka_unit_test(test_quire_call__a_status_needs_no_message),
        cmocka_unit_test(test_quire_call__no_status_is_unknown_and_http_says_more),
        cmocka_unit_test(test_quire_call__goaway_refuses_what_it_did_not_begin),
        cmocka_unit_test(test_quire_call__goaway_lets_an_open_call_end),
        cmocka_unit_test(test_quire_call__a_message_of_the_limit_passes_and_one_more_byte_not),
        cmocka_unit_test(test_quire_call__a_compressed_or_half_message_is_internal),
        cmocka_unit_test(test_quire_call__ok_without_exactly_one_reply_is_internal),
        cmocka_unit_test(test_quire_call__a_deadline_is_sent_and_kept),
        cmocka_unit_test(test_quire_call__a_callback_that_says_no_cancels),
        cmocka_unit_test(test_quire_call__an_interrupt_ends_a_wait),
        cmocka_unit_test(test_quire_call__an_upload_passes_the_windows_in_both_directions),
        cmocka_unit_test(test_quire_call__a_server_that_ends_first_stops_the_upload),
        cmocka_unit_test(test_quire_call__a_bad_request_id_is_refused_here),
        cmocka_unit_test(test_quire_client__nobody_who_listens_is_said_in_a_sentence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
