#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/progress.h"
#include "base/utf8.h"
#include "tests/base/capture_fixture.h"

#define WIPE "\r\033[K"

static struct capture capture;

static void begin(struct progress *progress, struct clock *clock, bool terminal, const char *unit)
{
    *clock = clock_fake(1000 * NS_PER_S);
    if (terminal)
        capture_begin_terminal(&capture, STDERR_FILENO);
    else
        capture_begin(&capture, STDERR_FILENO);
    setenv("TERM", "xterm", 1);
    progress_init(progress, clock, unit, false);
}

/* Asserts after the descriptor is back, so that a failure can be read. */
static void finish(const char *expected)
{
    const char *text = capture_read(&capture);
    capture_end(&capture);
    assert_string_equal(text, expected);
}

static void test_progress__elsewhere_fast_work_is_two_plain_lines(void **state)
{
    struct progress progress;
    struct clock clock;
    begin(&progress, &clock, false, "tokens");
    for (uint64_t done = 0; done <= 30; done++) {
        progress_update(&progress, "prefill", done * 100, 3000, 0);
        clock_advance(&clock, 10 * NS_PER_MS);
    }
    progress_end(&progress);
    progress_end(&progress);
    finish("prefill  0 of 3,000 tokens\n"
           "prefill  3,000 of 3,000 tokens  9,677/s  in 0:00\n");
}

static void test_progress__elsewhere_slow_work_is_heard_of_every_five_seconds(void **state)
{
    struct progress progress;
    struct clock clock;
    begin(&progress, &clock, false, "tokens");
    for (uint64_t done = 1; done <= 12; done++) {
        progress_update(&progress, "decode", done, 0, 0);
        clock_advance(&clock, NS_PER_S);
    }
    progress_end(&progress);
    finish("decode  1 tokens\n"
           "decode  6 tokens  1/s\n"
           "decode  11 tokens  1/s\n"
           "decode  12 tokens  1/s  in 0:12\n");
}

static void test_progress__a_rate_from_the_caller_gives_the_time_left(void **state)
{
    struct progress progress;
    struct clock clock;
    begin(&progress, &clock, false, "tokens");
    progress_update(&progress, "prefill", 4096, 7639, 2610);
    clock_advance(&clock, 5 * NS_PER_S);
    progress_update(&progress, "prefill", 6000, 7639, 2.5);
    clock_advance(&clock, NS_PER_S);
    progress_end(&progress);
    finish("prefill  4,096 of 7,639 tokens  2,610/s  0:01 left\n"
           "prefill  6,000 of 7,639 tokens  3/s  10:56 left\n"
           "prefill  6,000 of 7,639 tokens  3/s  in 0:06\n");
}

static void test_progress__bytes_are_shown_in_units(void **state)
{
    struct progress progress;
    struct clock clock;
    begin(&progress, &clock, false, "bytes");
    progress_update(&progress, "upload", 0, 10u << 20, 0);
    clock_advance(&clock, 5 * NS_PER_S);
    progress_update(&progress, "upload", 5u << 20, 10u << 20, 0);
    clock_advance(&clock, NS_PER_S);
    progress_update(&progress, "upload", 6u << 20, 10u << 20, 0);
    progress_end(&progress);
    finish("upload  0 B of 10.0 MiB\n"
           "upload  5.0 MiB of 10.0 MiB  1.0 MiB/s  0:05 left\n"
           "upload  6.0 MiB of 10.0 MiB  1.0 MiB/s  in 0:06\n");
}

static void test_progress__what_was_cached_does_not_count_as_speed(void **state)
{
    struct progress progress;
    struct clock clock;
    begin(&progress, &clock, false, "tokens");
    progress_update(&progress, "prefill", 5000, 7000, 0);
    clock_advance(&clock, 10 * NS_PER_S);
    progress_update(&progress, "prefill", 6000, 7000, 0);
    clock_advance(&clock, NS_PER_S);
    progress_update(&progress, "prefill", 6500, 7000, 0);
    progress_end(&progress);
    finish("prefill  5,000 of 7,000 tokens\n"
           "prefill  6,000 of 7,000 tokens  100/s  0:10 left\n"
           "prefill  6,500 of 7,000 tokens  136/s  in 0:11\n");
}

static void test_progress__another_label_ends_the_first_phase(void **state)
{
    struct progress progress;
    struct clock clock;
    begin(&progress, &clock, false, "tokens");
    progress_update(&progress, "section 1", 5, 10, 0);
    clock_advance(&clock, 2 * NS_PER_S);
    progress_update(&progress, "section 2", 0, 20, 0);
    progress_update(&progress, "section 2", 20, 20, 0);
    progress_end(&progress);
    finish("section 1  5 of 10 tokens\n"
           "section 1  5 of 10 tokens  in 0:02\n"
           "section 2  0 of 20 tokens\n"
           "section 2  20 of 20 tokens  in 0:00\n");
}

static void test_progress__elsewhere_an_end_that_was_told_is_not_told_again(void **state)
{
    struct progress progress;
    struct clock clock;
    begin(&progress, &clock, false, "tokens");
    progress_update(&progress, "prefill", 37, 37, 0);
    progress_update(&progress, "prefill", 37, 37, 0);
    progress_end(&progress);
    finish("prefill  37 of 37 tokens\n");
}

static void test_progress__a_terminal_shows_one_line_ten_times_a_second(void **state)
{
    struct progress progress;
    struct clock clock;
    begin(&progress, &clock, true, "tokens");
    for (uint64_t done = 0; done <= 5; done++) {
        progress_update(&progress, "prefill", done * 10, 50, 0);
        clock_advance(&clock, 50 * NS_PER_MS);
    }
    progress_end(&progress);
    finish(WIPE "prefill  0 of 50 tokens" WIPE "prefill  20 of 50 tokens  200/s  0:00 left" WIPE
                "prefill  40 of 50 tokens  200/s  0:00 left" WIPE
                "prefill  50 of 50 tokens  167/s  in 0:00\n");
}

static void test_progress__a_cleared_line_comes_back_with_the_next_update(void **state)
{
    struct progress progress;
    struct clock clock;
    begin(&progress, &clock, true, "tokens");
    progress_clear(&progress); /* nothing there yet */
    progress_update(&progress, "decode", 1, 0, 0);
    progress_clear(&progress);
    progress_clear(&progress);
    progress_update(&progress, "decode", 2, 0, 0);
    progress_end(&progress);
    progress_clear(&progress);
    finish(WIPE "decode  1 tokens" WIPE WIPE "decode  2 tokens" WIPE "decode  2 tokens  in 0:00\n");
}

static void test_progress__a_line_never_wraps_on_a_terminal(void **state)
{
    struct progress progress;
    struct clock clock;
    begin(&progress, &clock, true, "tokens");
    progress_update(&progress,
                    "a label of more than sixty letters, which leaves little room for more",
                    1000000, 2000000, 1000);
    const char *text = capture_read(&capture);
    size_t len = strlen(text);
    capture_end(&capture);
    assert_int_equal(len, strlen(WIPE) + 79);
}

static void test_progress__a_label_is_cut_between_characters(void **state)
{
    struct progress progress;
    struct clock clock;
    char label[1 + 3 * 40 + 1] = "x";
    for (int i = 0; i < 40; i++)
        strcat(label, "\u20ac");
    begin(&progress, &clock, false, "tokens");
    progress_update(&progress, label, 1, 10, 0);
    progress_update(&progress, label, 2, 1000, 0); /* the same label, cut or not: no new phase */
    const char *text = capture_read(&capture);
    size_t len = strlen(text);
    capture_end(&capture);
    assert_true(utf8_is_valid(text, len, NULL));
    assert_ptr_equal(strchr(text, '\n'), text + len - 1);
}

static void test_progress__a_dumb_terminal_gets_plain_lines(void **state)
{
    struct progress progress;
    struct clock clock;
    begin(&progress, &clock, true, "tokens");
    setenv("TERM", "dumb", 1);
    progress_init(&progress, &clock, "tokens", false);
    progress_update(&progress, "decode", 1, 0, 0);
    finish("decode  1 tokens\n");
}

static void test_progress__quiet_writes_nothing(void **state)
{
    struct progress progress;
    struct clock clock;
    begin(&progress, &clock, true, "tokens");
    progress_init(&progress, &clock, "tokens", true);
    progress_update(&progress, "decode", 1, 10, 0);
    progress_clear(&progress);
    progress_end(&progress);
    finish("");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_progress__elsewhere_fast_work_is_two_plain_lines),
        cmocka_unit_test(test_progress__elsewhere_an_end_that_was_told_is_not_told_again),
        cmocka_unit_test(test_progress__elsewhere_slow_work_is_heard_of_every_five_seconds),
        cmocka_unit_test(test_progress__a_rate_from_the_caller_gives_the_time_left),
        cmocka_unit_test(test_progress__bytes_are_shown_in_units),
        cmocka_unit_test(test_progress__what_was_cached_does_not_count_as_speed),
        cmocka_unit_test(test_progress__another_label_ends_the_first_phase),
        cmocka_unit_test(test_progress__a_terminal_shows_one_line_ten_times_a_second),
        cmocka_unit_test(test_progress__a_cleared_line_comes_back_with_the_next_update),
        cmocka_unit_test(test_progress__a_line_never_wraps_on_a_terminal),
        cmocka_unit_test(test_progress__a_label_is_cut_between_characters),
        cmocka_unit_test(test_progress__a_dumb_terminal_gets_plain_lines),
        cmocka_unit_test(test_progress__quiet_writes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
