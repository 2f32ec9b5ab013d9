#include "clients/c/quire_status.h"

#include <nghttp2/nghttp2.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct quire_status status;

static const char *decoded(const char *text)
{
    memset(&status, 0, sizeof status);
    quire_status_take_message(&status, text, strlen(text));
    return status.message;
}

static bool details(const char *text)
{
    memset(&status, 0, sizeof status);
    return quire_status_take_details(&status, text, strlen(text));
}

static void test_quire_status__decodes_percent_escapes(void **state)
{
    assert_string_equal(decoded("plain"), "plain");
    assert_string_equal(decoded("3%25 %C3%A9%0Aend"), "3% é\nend");
    assert_string_equal(decoded("%c3%a9"), "é");
    assert_string_equal(decoded("100% %zz %4"), "100% %zz %4");
    assert_string_equal(decoded("%FF%41"), "\xef\xbf\xbd"
                                           "A");
    assert_string_equal(decoded("a%00b"), "a b");
    assert_string_equal(decoded(""), "");
}

static void test_quire_status__cuts_a_long_message_between_characters(void **state)
{
    static char text[3 * QUIRE_MESSAGE_BYTES + 1];
    for (size_t i = 0; i < sizeof text - 1; i++)
        text[i] = "\xe2\x82\xac"[i % 3];
    decoded(text);
    size_t len = strlen(status.message);
    assert_true(len < QUIRE_MESSAGE_BYTES && len > QUIRE_MESSAGE_BYTES - 4);
    assert_int_equal(len % 3, 0);
}

static void test_quire_status__reads_codes(void **state)
{
    assert_int_equal(quire_status_parse_code("0", 1), QUIRE_OK);
    assert_int_equal(quire_status_parse_code("16", 2), QUIRE_UNAUTHENTICATED);
    assert_int_equal(quire_status_parse_code("17", 2), QUIRE_UNKNOWN);
    assert_int_equal(quire_status_parse_code("", 0), QUIRE_UNKNOWN);
    assert_int_equal(quire_status_parse_code("-1", 2), QUIRE_UNKNOWN);
    assert_int_equal(quire_status_parse_code("008", 3), QUIRE_UNKNOWN);
    assert_string_equal(quire_status_name(8), "RESOURCE_EXHAUSTED");
    assert_string_equal(quire_status_name(99), "UNKNOWN");
}

/* Status{8, "4 of 3% pages", [Any{ErrorInfo{"KV", "quire.dev", {"needed": "4,00"}}}]} */
#define DETAILS                                                                                    \
    "CAgSDTQgb2YgMyUgcGFnZXMaSwoodHlwZS5nb29nbGVhcGlzLmNvbS9nb29nbGUucnBjLkVycm9ySW5mbxIfCgJLVhIJ" \
    "cXVpcmUuZGV2Gg4KBm5lZWRlZBIENCwwMA"

static void test_quire_status__reads_details_padded_or_not(void **state)
{
    assert_true(details(DETAILS));
    assert_string_equal(status.reason, "KV");
    assert_int_equal(status.n_details, 1);
    assert_string_equal(status.details[0].key, "needed");
    assert_string_equal(status.details[0].value, "4,00");
    assert_true(details(DETAILS "=="));
    assert_string_equal(status.reason, "KV");
}

static void test_quire_status__leaves_bad_details_alone(void **state)
{
    char text[] = DETAILS;
    assert_false(details(""));
    assert_false(details("!!!!"));
    assert_false(details("CAg")); /* a status without details */
    assert_false(details("////"));
    for (size_t n = 0; n < sizeof text - 1; n++) {
        memset(&status, 0, sizeof status);
        if (!quire_status_take_details(&status, text, n))
            assert_string_equal(status.reason, "");
    }
    srandom(3);
    for (int turn = 0; turn < 5000; turn++) {
        memcpy(text, DETAILS, sizeof text);
        text[(size_t)random() % (sizeof text - 1)] = (char)(33 + random() % 90);
        details(text); /* nothing but its end is asked of it */
    }
}

static void test_quire_status__maps_resets_and_http(void **state)
{
    assert_int_equal(quire_status_of_reset(NGHTTP2_REFUSED_STREAM), QUIRE_UNAVAILABLE);
    assert_int_equal(quire_status_of_reset(NGHTTP2_CANCEL), QUIRE_CANCELLED);
    assert_int_equal(quire_status_of_reset(NGHTTP2_ENHANCE_YOUR_CALM), QUIRE_RESOURCE_EXHAUSTED);
    assert_int_equal(quire_status_of_reset(NGHTTP2_INADEQUATE_SECURITY), QUIRE_PERMISSION_DENIED);
    assert_int_equal(quire_status_of_reset(NGHTTP2_FLOW_CONTROL_ERROR), QUIRE_INTERNAL);
    assert_int_equal(quire_status_of_http(401), QUIRE_UNAUTHENTICATED);
    assert_int_equal(quire_status_of_http(404), QUIRE_UNIMPLEMENTED);
    assert_int_equal(quire_status_of_http(503), QUIRE_UNAVAILABLE);
    assert_int_equal(quire_status_of_http(418), QUIRE_UNKNOWN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quire_status__decodes_percent_escapes),
        cmocka_unit_test(test_quire_status__cuts_a_long_message_between_characters),
        cmocka_unit_test(test_quire_status__reads_codes),
        cmocka_unit_test(test_quire_status__reads_details_padded_or_not),
        cmocka_unit_test(test_quire_status__leaves_bad_details_alone),
        cmocka_unit_test(test_quire_status__maps_resets_and_http),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
