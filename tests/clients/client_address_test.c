#include "base/status.h"
#include "clients/c/client_address.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct client_address address;

static void assert_host(const char *text, const char *host, const char *port)
{
    assert_int_equal(client_address_parse(text, &address, NULL), 0);
    assert_false(address.is_unix);
    assert_string_equal(address.host, host);
    assert_string_equal(address.port, port);
}

static void test_client_address__reads_hosts_and_ports(void **state)
{
    assert_host("127.0.0.1:7070", "127.0.0.1", "7070");
    assert_host("localhost:1", "localhost", "1");
    assert_host("[::1]:65535", "::1", "65535");
    assert_host("[fe80::1%eth0]:80", "fe80::1%eth0", "80");
}

static void test_client_address__reads_unix_sockets(void **state)
{
    assert_int_equal(client_address_parse("unix:/run/q.sock", &address, NULL), 0);
    assert_true(address.is_unix);
    assert_string_equal(address.path, "/run/q.sock");
    assert_int_equal(client_address_parse("unix:///run/q.sock", &address, NULL), 0);
    assert_string_equal(address.path, "/run/q.sock");
    assert_int_equal(client_address_parse("unix:q.sock", &address, NULL), 0);
    assert_string_equal(address.path, "q.sock");
}

static void test_client_address__refuses_what_is_none(void **state)
{
    static const char *const bad[] = {"",        "localhost", ":80",     "host:",    "host:0",
                                      "h:65536", "h:123456",  "h:8o",    "::1:7070", "[::1]",
                                      "[::1:80", "[]:80",     "[::1]80", "unix:",    "h:-1"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct why why = {.text = ""};
        assert_int_equal(client_address_parse(bad[i], &address, &why), STATUS_INVALID);
        assert_string_not_equal(why.text, "");
    }
}

static void test_client_address__a_scheme_is_named(void **state)
{
    struct why why = {.text = ""};
    assert_int_equal(client_address_parse("http://h:80", &address, &why), STATUS_INVALID);
    assert_non_null(strstr(why.text, "scheme"));
}

static void test_client_address__holds_a_path_of_the_limit_and_not_one_more(void **state)
{
    char text[256] = "unix:/";
    memset(text + 6, 'a', sizeof text - 6);
    text[5 + ADDRESS_PATH_BYTES - 1] = 0;
    assert_int_equal(client_address_parse(text, &address, NULL), 0);
    assert_int_equal(strlen(address.path), ADDRESS_PATH_BYTES - 1);
    text[5 + ADDRESS_PATH_BYTES - 1] = 'a';
    text[5 + ADDRESS_PATH_BYTES] = 0;
    assert_int_equal(client_address_parse(text, &address, NULL), STATUS_INVALID);

    memset(text, 'h', sizeof text);
    text[sizeof text - 1] = 0;
    strcpy(text + ADDRESS_HOST_BYTES - 8, ":80");
    assert_int_equal(client_address_parse(text, &address, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_client_address__reads_hosts_and_ports),
        cmocka_unit_test(test_client_address__reads_unix_sockets),
        cmocka_unit_test(test_client_address__refuses_what_is_none),
        cmocka_unit_test(test_client_address__a_scheme_is_named),
        cmocka_unit_test(test_client_address__holds_a_path_of_the_limit_and_not_one_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
