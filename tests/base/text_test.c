#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/status.h"
#include "base/text.h"

static void test_text_parse_i64__takes_whole_numbers_in_range(void **state)
{
    int64_t value;
    assert_int_equal(text_parse_i64("0", 0, 10, &value, NULL), 0);
    assert_int_equal(value, 0);
    assert_int_equal(text_parse_i64("-7", -7, 10, &value, NULL), 0);
    assert_int_equal(value, -7);
    assert_int_equal(text_parse_i64("+10", 0, 10, &value, NULL), 0);
    assert_int_equal(value, 10);
    assert_int_equal(text_parse_i64("9223372036854775807", INT64_MIN, INT64_MAX, &value, NULL), 0);
    assert_true(value == INT64_MAX);
    assert_int_equal(text_parse_i64("-9223372036854775808", INT64_MIN, INT64_MAX, &value, NULL), 0);
    assert_true(value == INT64_MIN);
}

static void test_text_parse_i64__refuses_everything_else(void **state)
{
    static const char *const bad[] = {"",     " 1",  "1 ",  "x",   "1x",
                                      "0x10", "1.5", "1e3", "-",   "+-1",
                                      "11",   "-1",  "--",  "1,0", "9223372036854775808"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        int64_t value = 77;
        struct why why;
        assert_int_equal(text_parse_i64(bad[i], 0, 10, &value, &why), STATUS_INVALID);
        assert_int_equal(value, 77);
        assert_non_null(strstr(why.text, "is not a whole number from 0 to 10"));
    }
}

static void test_text_parse_f64__takes_plain_numbers_only(void **state)
{
    double value = 0;
    assert_int_equal(text_parse_f64("0.75", 0, 2, &value, NULL), 0);
    assert_true(value == 0.75);
    assert_int_equal(text_parse_f64("1e-3", 0, 2, &value, NULL), 0);
    assert_true(value == 1e-3);
    assert_int_equal(text_parse_f64(".5", 0, 2, &value, NULL), 0);
    static const char *const bad[] = {"",    " 1", "1 ", "nan", "inf",  "0x1p3", "1e999",
                                      "2.1", "-1", "e",  "1,5", "1e3e", "-",     "1-1"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct why why;
        assert_int_equal(text_parse_f64(bad[i], 0, 2, &value, &why), STATUS_INVALID);
        assert_non_null(strstr(why.text, "is not a number from 0 to 2"));
    }
    assert_true(value == 0.5);
}

static void test_text_parse_bytes__knows_the_units_of_people(void **state)
{
    static const struct {
        const char *text;
        uint64_t bytes;
    } cases[] = {
        {"0", 0},
        {"4096", 4096},
        {"4096B", 4096},
        {"512K", 512u << 10},
        {"512k", 512u << 10},
        {"512KiB", 512u << 10},
        {"3M", 3u << 20},
        {"3mb", 3u << 20},
        {"8GiB", UINT64_C(8) << 30},
        {"1.5g", UINT64_C(3) << 29},
        {"8.0 GiB", UINT64_C(8) << 30},
        {"0.5K", 512},
        {"1.5", 1},
        {"2T", UINT64_C(2) << 40},
        {"1p", UINT64_C(1) << 50},
        {"15E", UINT64_C(15) << 60},
        {"11.4GiB", 12240656793},
        {"18446744073709551615", UINT64_MAX},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint64_t bytes = 1;
        assert_int_equal(text_parse_bytes(cases[i].text, &bytes, NULL), 0);
        assert_true(bytes == cases[i].bytes);
    }
}

static void test_text_parse_bytes__refuses_what_it_cannot_mean(void **state)
{
    static const char *const bad[] = {
        "",    "K",  "-1",    "+1", "1X",   "1KK", "1KiBx",
        "1.",  ".5", "1.5.5", " 1", "1  K", "16E", "18446744073709551616",
        "1e3", "iB", "1i"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        uint64_t bytes = 77;
        struct why why;
        assert_int_equal(text_parse_bytes(bad[i], &bytes, &why), STATUS_INVALID);
        assert_true(bytes == 77 && why.text[0] == '"');
    }
}

static void assert_ids(const char *text, const uint32_t *ids, size_t n_ids)
{
    uint32_t *out = NULL;
    size_t n = 0;
    assert_int_equal(text_parse_ids(text, strlen(text), &out, &n, NULL), STATUS_OK);
    assert_int_equal(n, n_ids);
    assert_memory_equal(out, ids, n * sizeof *ids);
    free(out);
}

static void test_text_parse_ids__takes_commas_blanks_and_lines(void **state)
{
    static const uint32_t ids[] = {1, 22, 333};
    assert_ids("1,22,333", ids, 3);
    assert_ids("1 22 333\n", ids, 3);
    assert_ids(" 1 , 22,\n\t333 ", ids, 3);
    static const uint32_t ends[] = {0, UINT32_MAX};
    assert_ids("0,4294967295", ends, 2);
}

static void test_text_parse_ids__appends_to_what_is_there(void **state)
{
    uint32_t *out = NULL;
    size_t n = 0;
    assert_int_equal(text_parse_ids("1,2", 3, &out, &n, NULL), STATUS_OK);
    assert_int_equal(text_parse_ids("3", 1, &out, &n, NULL), STATUS_OK);
    struct why why;
    assert_int_equal(text_parse_ids("4,5,x", 5, &out, &n, &why), STATUS_INVALID);
    assert_non_null(strstr(why.text, "\"x\" at byte 4"));
    assert_int_equal(text_parse_ids("4\nx\n", 4, &out, &n, &why), STATUS_INVALID);
    assert_non_null(strstr(why.text, "\"x\" at byte 2")); /* without the end of its line */
    assert_int_equal(n, 3);
    assert_int_equal(out[2], 3);
    free(out);
}

static void test_text_parse_ids__refuses_what_is_no_list(void **state)
{
    static const char *const bad[] = {"",     " ",  ",",       "1,",         ",1",
                                      "1,,2", "-1", "1;2",     "4294967296", "99999999999999999999",
                                      "1x",   "x1", "1 , , 2", "1.5"};
    uint32_t *out = NULL;
    size_t n = 0;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(text_parse_ids(bad[i], strlen(bad[i]), &out, &n, NULL), STATUS_INVALID);
        assert_int_equal(n, 0);
    }
    free(out);
}

static void test_text_bytes__reads_well_at_every_size(void **state)
{
    char out[TEXT_NUMBER_BYTES];
    assert_string_equal(text_bytes(out, 0), "0 B");
    assert_string_equal(text_bytes(out, 1023), "1023 B");
    assert_string_equal(text_bytes(out, 1024), "1.0 KiB");
    assert_string_equal(text_bytes(out, 1536), "1.5 KiB");
    assert_string_equal(text_bytes(out, (1u << 20) - 1), "1.0 MiB");
    assert_string_equal(text_bytes(out, UINT64_C(8) << 30), "8.0 GiB");
    assert_string_equal(text_bytes(out, UINT64_MAX), "16.0 EiB");
}

static void test_text_count__groups_by_three(void **state)
{
    char out[TEXT_NUMBER_BYTES];
    assert_string_equal(text_count(out, 0), "0");
    assert_string_equal(text_count(out, 999), "999");
    assert_string_equal(text_count(out, 1000), "1,000");
    assert_string_equal(text_count(out, 129410), "129,410");
    assert_string_equal(text_count(out, UINT64_MAX), "18,446,744,073,709,551,615");
}

static void test_text_duration__counts_in_minutes_and_hours(void **state)
{
    char out[TEXT_NUMBER_BYTES];
    assert_string_equal(text_duration(out, 0), "0:00");
    assert_string_equal(text_duration(out, 7.4), "0:07");
    assert_string_equal(text_duration(out, 59.6), "1:00");
    assert_string_equal(text_duration(out, 3723), "1:02:03");
    assert_string_equal(text_duration(out, 360000), "100:00:00");
    assert_string_equal(text_duration(out, -1), "?");
    assert_string_equal(text_duration(out, 1.0 / 0.0), "?");
    assert_string_equal(text_duration(out, 0.0 / 0.0), "?");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text_parse_i64__takes_whole_numbers_in_range),
        cmocka_unit_test(test_text_parse_i64__refuses_everything_else),
        cmocka_unit_test(test_text_parse_f64__takes_plain_numbers_only),
        cmocka_unit_test(test_text_parse_bytes__knows_the_units_of_people),
        cmocka_unit_test(test_text_parse_bytes__refuses_what_it_cannot_mean),
        cmocka_unit_test(test_text_parse_ids__takes_commas_blanks_and_lines),
        cmocka_unit_test(test_text_parse_ids__appends_to_what_is_there),
        cmocka_unit_test(test_text_parse_ids__refuses_what_is_no_list),
        cmocka_unit_test(test_text_bytes__reads_well_at_every_size),
        cmocka_unit_test(test_text_count__groups_by_three),
        cmocka_unit_test(test_text_duration__counts_in_minutes_and_hours),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
