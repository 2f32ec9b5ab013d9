#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "base/status.h"
#include "base/utf8.h"
#include "tests/base/capture_fixture.h"

static struct capture capture;

static void test_log__a_record_is_one_line_of_pairs_with_a_utc_stamp(void **state)
{
    capture_begin(&capture, STDERR_FILENO);
    log_write(LOG_INFO, "ready", "address=%s pages=%u", "127.0.0.1:7070", 512u);
    log_write(LOG_ERROR, "bare", "%s", "");
    const char *text = capture_read(&capture);
    capture_end(&capture);

    int year, month, day, hour, minute, second, ms, end = 0;
    int n = sscanf(text, "ts=%4d-%2d-%2dT%2d:%2d:%2d.%3dZ %n", &year, &month, &day, &hour, &minute,
                   &second, &ms, &end);
    assert_int_equal(n, 7);
    assert_int_equal(end, (int)strlen("ts=2026-11-24T07:00:00.123Z "));
    assert_in_range(month, 1, 12);
    assert_in_range(hour, 0, 23);
    static const char rest[] = "level=info event=ready address=127.0.0.1:7070 pages=512\nts=";
    assert_memory_equal(text + end, rest, sizeof rest - 1);
    assert_non_null(strstr(text, " level=error event=bare"));
    assert_int_equal(text[strlen(text) - 1], '\n');
}

static void test_log__writes_nothing_below_its_level(void **state)
{
    capture_begin(&capture, STDERR_FILENO);
    log_write(LOG_DEBUG, "quiet", "n=%d", 1);
    log_set_level(LOG_WARN);
    log_write(LOG_INFO, "quiet", "n=%d", 2);
    log_write(LOG_WARN, "said", "n=%d", 3);
    log_set_level(LOG_NONE);
    log_write(LOG_ERROR, "quiet", "n=%d", 4);
    log_set_level(LOG_DEBUG);
    log_write(LOG_DEBUG, "said", "n=%d", 5);
    log_set_level(LOG_INFO);
    const char *text = capture_read(&capture);
    capture_end(&capture);
    assert_null(strstr(text, "quiet"));
    assert_non_null(strstr(text, "level=warn event=said n=3\n"));
    assert_non_null(strstr(text, "level=debug event=said n=5\n"));
}

static void test_log__a_record_may_be_a_json_object(void **state)
{
    char quoted[100];
    capture_begin(&capture, STDERR_FILENO);
    log_set_format(LOG_JSON);
    log_write(LOG_INFO, "call", "n=%d s=%.3f id=%s text=%s zero=%s none=%s", -7, 0.25, "007",
              log_quote(quoted, sizeof quoted, "a \"b\"\\\x01\n=", 9), "0", "\"\"");
    log_write(LOG_WARN, "bare", NULL);
    log_write(LOG_INFO, "cut", "text=\"%s", "never closed\\");
    log_set_format(LOG_PAIRS);
    const char *text = capture_read(&capture);
    capture_end(&capture);
    assert_memory_equal(text, "{\"ts\":\"2", 8);
    assert_non_null(strstr(text, "Z\",\"level\":\"info\",\"event\":\"call\",\"n\":-7,\"s\":0.250"
                                 ",\"id\":\"007\""));
    assert_non_null(strstr(text, "\"007\",\"text\":\"a \\\"b\\\"\\\\\\u0001\\n=\",\"zero\":0,"
                                 "\"none\":\"\"}\n"));
    assert_non_null(strstr(text, "\"level\":\"warn\",\"event\":\"bare\"}\n"));
    assert_non_null(strstr(text, "\"text\":\"never closed\\\\\"}\n"));
}

static void test_log__cuts_a_line_at_two_kib_between_characters(void **state)
{
    static char euros[6000];
    for (size_t i = 0; i + 3 < sizeof euros; i += 3)
        memcpy(euros + i, "\u20ac", 3);
    for (int shift = 0; shift < 3; shift++) {
        capture_begin(&capture, STDERR_FILENO);
        log_write(LOG_INFO, "long", "%.*sv=%s", shift, "xx", euros);
        const char *text = capture_read(&capture);
        capture_end(&capture);
        size_t len = strlen(text);
        assert_in_range(len, 2044, 2048);
        assert_true(utf8_is_valid(text, len, NULL));
        assert_ptr_equal(strchr(text, '\n'), text + len - 1);
    }
}

static void test_log__a_careless_value_cannot_make_a_second_line(void **state)
{
    capture_begin(&capture, STDERR_FILENO);
    log_write(LOG_INFO, "odd", "name=%s", "a\nts=fake\033[2J");
    const char *text = capture_read(&capture);
    capture_end(&capture);
    assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
    assert_null(strchr(text, '\033'));
}

static void *write_many(void *arg)
{
    for (int i = 0; i < 50; i++)
        log_write(LOG_INFO, "many", "from=%s end=yes", (const char *)arg);
    return NULL;
}

static void test_log__lines_of_several_threads_stay_whole(void **state)
{
    pthread_t threads[4];
    static char *names[] = {"one", "two", "three", "four"};
    capture_begin(&capture, STDERR_FILENO);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, write_many, names[i]), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    const char *text = capture_read(&capture);
    capture_end(&capture);
    int lines = 0;
    for (const char *at = text; *at != 0; lines++) {
        assert_memory_equal(at, "ts=", 3);
        const char *end = strchr(at, '\n');
        assert_non_null(end);
        assert_memory_equal(end - 8, " end=yes", 8);
        at = end + 1;
    }
    assert_int_equal(lines, 200);
}

static void test_log_level_parse__knows_its_names_only(void **state)
{
    enum log_level level = LOG_NONE;
    assert_int_equal(log_level_parse("debug", &level), STATUS_OK);
    assert_int_equal(level, LOG_DEBUG);
    assert_int_equal(log_level_parse("none", &level), STATUS_OK);
    assert_int_equal(level, LOG_NONE);
    assert_int_equal(log_level_parse("Debug", &level), STATUS_INVALID);
    assert_int_equal(log_level_parse("", &level), STATUS_INVALID);
}

static const char *quoted(const char *value)
{
    static char out[256];
    return log_quote(out, sizeof out, value, strlen(value));
}

static void test_log_quote__quotes_only_when_it_must(void **state)
{
    assert_string_equal(quoted("plain-1.5/x:y"), "plain-1.5/x:y");
    assert_string_equal(quoted(""), "\"\"");
    assert_string_equal(quoted("1234"), "\"1234\""); /* an id, not a number */
    assert_string_equal(quoted("-1.5"), "\"-1.5\"");
    assert_string_equal(quoted("1.5x"), "1.5x");
    assert_string_equal(quoted("two words"), "\"two words\"");
    assert_string_equal(quoted("a=b"), "\"a=b\"");
    assert_string_equal(quoted("say \"hi\"\\"), "\"say \\\"hi\\\"\\\\\"");
    assert_string_equal(quoted("a\nb\tc\r"), "\"a\\nb\\tc\\r\"");
    assert_string_equal(quoted("\x01\x7f\xff"), "\"\\x01\\x7f\\xff\"");
    assert_string_equal(quoted("na\u00efve \u20ac"), "\"na\u00efve \u20ac\"");
    assert_string_equal(quoted("\xc2\x9b"
                               "2J"),
                        "\"\\xc2\\x9b2J\""); /* steers a terminal */
    char out[16];
    assert_string_equal(log_quote(out, sizeof out, "a\0b", 3), "\"a\\x00b\"");
}

static void test_log_quote__cuts_with_dots_and_never_overruns(void **state)
{
    char out[64];
    assert_string_equal(log_quote(out, 8, "abcdefg", 7), "abcdefg");
    assert_string_equal(log_quote(out, 8, "abcdefgh", 8), "abcd...");
    assert_string_equal(log_quote(out, 10, "a b c d e", 9), "\"a b ...\"");
    static const char *const values[] = {
        "x", "plain", "with blank", "\n\n\n\n\n\n", "\u20ac\u20ac\u20ac\u20ac", "\xff\xff\xff\xff"};
    for (size_t v = 0; v < sizeof values / sizeof *values; v++) {
        for (size_t n = 1; n < 40; n++) {
            memset(out, '#', sizeof out);
            log_quote(out, n, values[v], strlen(values[v]));
            assert_true(memchr(out, 0, n) != NULL);
            assert_int_equal(out[n], '#');
            assert_true(utf8_is_valid(out, strlen(out), NULL));
        }
    }
    out[0] = '#';
    assert_ptr_equal(log_quote(out, 0, "x", 1), out);
    assert_int_equal(out[0], '#');
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_log__a_record_is_one_line_of_pairs_with_a_utc_stamp),
        cmocka_unit_test(test_log__writes_nothing_below_its_level),
        cmocka_unit_test(test_log__a_record_may_be_a_json_object),
        cmocka_unit_test(test_log__cuts_a_line_at_two_kib_between_characters),
        cmocka_unit_test(test_log__a_careless_value_cannot_make_a_second_line),
        cmocka_unit_test(test_log__lines_of_several_threads_stay_whole),
        cmocka_unit_test(test_log_level_parse__knows_its_names_only),
        cmocka_unit_test(test_log_quote__quotes_only_when_it_must),
        cmocka_unit_test(test_log_quote__cuts_with_dots_and_never_overruns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
