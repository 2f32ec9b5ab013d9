#include "service/grpc_header.h"

#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void test_grpc_header__timeouts_have_digits_and_a_unit(void **state)
{
    static const struct {
        const char *text;
        int64_t ns;
    } good[] = {{"1H", 3600 * NS_PER_S}, {"2M", 120 * NS_PER_S},        {"3S", 3 * NS_PER_S},
                {"4m", 4 * NS_PER_MS},   {"5u", 5000},                  {"6n", 6},
                {"0n", 0},               {"99999999H", INT64_MAX},      {"00000007S", 7 * NS_PER_S},
                {"99999999n", 99999999}, {"99999999M", INT64_C(5999999940) * NS_PER_S}};
    static const char *const bad[] = {"",   "H",    "1",  "123456789n", "1h", "1 S",
                                      " 1S", "-1S", "1.5S", "0x1S",     "1SS"};
    int64_t ns;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_int_equal(grpc_timeout_parse(slice_from(good[i].text), &ns), STATUS_OK);
        assert_int_equal(ns, good[i].ns);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(grpc_timeout_parse(slice_from(bad[i]), &ns), STATUS_INVALID);
}

static void test_grpc_header__content_types_are_told_apart(void **state)
{
    static const struct {
        const char *text;
        enum grpc_content content;
    } rows[] = {{"application/grpc", GRPC_CONTENT_PROTO},
                {"application/grpc+proto", GRPC_CONTENT_PROTO},
                {"application/grpc+proto;v=1", GRPC_CONTENT_PROTO},
                {"application/grpc;v=1", GRPC_CONTENT_PROTO},
                {"application/grpc+json", GRPC_CONTENT_UNKNOWN_CODEC},
                {"application/grpc+", GRPC_CONTENT_UNKNOWN_CODEC},
                {"application/grpc-web", GRPC_CONTENT_OTHER},
                {"application/grpc-web+proto", GRPC_CONTENT_OTHER},
                {"application/grp", GRPC_CONTENT_OTHER},
                {"application/json", GRPC_CONTENT_OTHER},
                {"", GRPC_CONTENT_OTHER}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        assert_int_equal(grpc_content_of(slice_from(rows[i].text)), rows[i].content);
}

static void test_grpc_header__percent_encoding_never_cuts_a_character(void **state)
{
    static const char text[] = "a%\xc3\xa9\xe2\x82\xac\xff\n~";
    static const char whole[] = "a%25%C3%A9%E2%82%AC%FF%0A~";
    static const size_t borders[] = {0, 1, 4, 10, 19, 22, 25, 26};
    char out[64];
    for (size_t cap = 0; cap <= 26; cap++) {
        size_t n_read, n = grpc_percent_encode(slice_from(text), out, cap, &n_read);
        size_t border = 0;
        for (size_t i = 0; i < 8; i++)
            if (borders[i] <= cap)
                border = borders[i];
        assert_int_equal(n, border);
        assert_memory_equal(out, whole, n);
        assert_int_equal(n_read == sizeof(text) - 1, cap == 26);
    }
}

static void test_grpc_header__base64_goes_both_ways(void **state)
{
    uint8_t bytes[64], back[64];
    char text[128];
    srand(2);
    for (size_t len = 0; len <= sizeof(bytes); len++) {
        for (size_t i = 0; i < len; i++)
            bytes[i] = (uint8_t)rand();
        size_t n = grpc_base64_encode(slice_of(bytes, len), text), n_back;
        assert_int_equal(n, grpc_base64_bound(len));
        assert_int_equal(grpc_base64_decode(slice_of(text, n), back, &n_back), STATUS_OK);
        assert_int_equal(n_back, len);
        assert_memory_equal(back, bytes, len);
        while (n % 4 != 0)
            text[n++] = '='; /* padded decodes as well */
        assert_int_equal(grpc_base64_decode(slice_of(text, n), back, &n_back), STATUS_OK);
        assert_int_equal(n_back, len);
    }
    static const char *const bad[] = {"A", "A===", "====", "AA-_", "AA A", "AAAA=", "A=AA"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(grpc_base64_decode(slice_from(bad[i]), NULL, NULL), STATUS_INVALID);
    assert_true(grpc_bin_is_valid(slice_from("AAEC,AA==, AAE")));
    assert_true(grpc_bin_is_valid(slice_from("")));
    assert_false(grpc_bin_is_valid(slice_from("AAEC,A")));
}

static void test_grpc_header__text_is_stripped_and_never_trusted(void **state)
{
    char out[8] = "keep";
    assert_true(grpc_text_copy(slice_from(" \tabc  "), out, sizeof(out)));
    assert_string_equal(out, "abc");
    assert_true(grpc_text_copy(slice_from("1234567"), out, sizeof(out)));
    assert_false(grpc_text_copy(slice_from("12345678"), out, sizeof(out)));
    assert_false(grpc_text_copy(slice_from("a\x7f"), out, sizeof(out)));
    assert_false(grpc_text_copy(slice_of("a\0b", 3), out, sizeof(out)));
    assert_true(grpc_text_copy(slice_from(""), out, sizeof(out)));
    assert_string_equal(out, "");
}

static size_t bytes_of(const struct grpc_trailers *trailers)
{
    size_t n = 0;
    for (size_t i = 0; i < trailers->n_fields; i++)
        n += trailers->fields[i].name.len + trailers->fields[i].value.len + 32;
    return n;
}

static void test_grpc_header__trailers_never_exceed_their_bytes(void **state)
{
    static char message[3000], details[3000];
    memset(message, '%', sizeof(message)); /* three bytes each */
    memset(details, 'd', sizeof(details));
    for (size_t n_message = 0; n_message <= 3000; n_message += 250)
        for (size_t n_details = 0; n_details <= 3000; n_details += 250) {
            struct grpc_trailers *trailers = grpc_trailers_create(
                8, slice_of(message, n_message), slice_of(details, n_details), 4000);
            assert_non_null(trailers);
            assert_true(bytes_of(trailers) <= 4000);
            assert_true(slice_equal(trailers->fields[0].value, slice_from("8")));
            bool all_fits = 44 + (n_message == 0 ? 0 : 44 + 3 * n_message) +
                                (n_details == 0 ? 0 : 55 + n_details * 4 / 3 + 1) <= 4000;
            if (all_fits)
                assert_false(trailers->details_dropped);
            if (trailers->details_dropped)
                assert_true(trailers->n_fields < 3);
            free(trailers);
        }
}

static void test_grpc_header__a_traceparent_is_whole_or_none(void **state)
{
#define TRACE "0af7651916cd43dd8448eb211c80319c"
#define PARENT "b7ad6b7169203331"
    static const char *const good[] = {"00-" TRACE "-" PARENT "-01", "cc-" TRACE "-" PARENT "-00",
                                       "01-" TRACE "-" PARENT "-01-more"};
    static const char *const bad[] = {
        "", "garbage", "00-" TRACE "-" PARENT, "00-" TRACE "-" PARENT "-0",
        "00-" TRACE "-" PARENT "-01-more", "01-" TRACE "-" PARENT "-01more",
        "ff-" TRACE "-" PARENT "-01", "00-" TRACE "-B7ad6b7169203331-01",
        "00-" TRACE "-0000000000000000-01", "00-00000000000000000000000000000000-" PARENT "-01",
        "00_" TRACE "-" PARENT "-01", "0g-" TRACE "-" PARENT "-01"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        assert_true(grpc_traceparent_is_valid(good[i]));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(grpc_traceparent_is_valid(bad[i]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_grpc_header__timeouts_have_digits_and_a_unit),
        cmocka_unit_test(test_grpc_header__content_types_are_told_apart),
        cmocka_unit_test(test_grpc_header__percent_encoding_never_cuts_a_character),
        cmocka_unit_test(test_grpc_header__base64_goes_both_ways),
        cmocka_unit_test(test_grpc_header__text_is_stripped_and_never_trusted),
        cmocka_unit_test(test_grpc_header__a_traceparent_is_whole_or_none),
        cmocka_unit_test(test_grpc_header__trailers_never_exceed_their_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
