#include "base/status.h"
#include "clients/c/answer_output.h"
#include "clients/c/text_input.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void assert_escaped(const char *text, size_t len, const char *expected)
{
    char out[256];
    size_t n = answer_output_escape(text, len, out);
    assert_int_equal(n, strlen(expected));
    assert_memory_equal(out, expected, n);
}

static void test_answer_output__shows_controls_of_a_model_escaped(void **state)
{
    assert_escaped("a\n\tb", 4, "a\n\tb");
    assert_escaped("\033[2J\r\0\x7f", 7, "\\x1B[2J\\x0D\\x00\\x7F");
    assert_escaped("\xc2\x9b"
                   "31m",
                   5, "\\xC2\\x9B31m"); /* CSI of eight bits */
    assert_escaped("é€😀", 9, "é€😀");
    assert_escaped("\xff\xe2\x82", 3, "\\xFF\\xE2\\x82");
}

/* Runs `act` with standard output replaced by fd. */
static struct answer_output write_to(int fd, const void *bytes, size_t len, bool *ok)
{
    struct answer_output output;
    fflush(stdout);
    int saved = dup(STDOUT_FILENO);
    dup2(fd, STDOUT_FILENO);
    answer_output_init(&output, false, true);
    *ok = answer_output_text(&output, bytes, len);
    dup2(saved, STDOUT_FILENO);
    close(saved);
    return output;
}

static void test_answer_output__text_for_a_pipe_is_as_it_is(void **state)
{
    int fds[2];
    char got[16];
    bool ok;
    assert_int_equal(pipe(fds), 0);
    struct answer_output output = write_to(fds[1], "a\033\0\xff", 4, &ok);
    assert_true(ok && output.in_line);
    assert_int_equal(read(fds[0], got, sizeof got), 4);
    assert_memory_equal(got, "a\033\0\xff", 4);
    answer_output_release(&output);
    close(fds[0]);
    close(fds[1]);
}

static void test_answer_output__remembers_that_the_reader_went_away(void **state)
{
    int fds[2];
    bool ok;
    signal(SIGPIPE, SIG_IGN);
    assert_int_equal(pipe(fds), 0);
    close(fds[0]);
    struct answer_output output = write_to(fds[1], "a", 1, &ok);
    assert_false(ok);
    assert_true(output.reader_gone);
    assert_int_equal(output.error, 0);
    answer_output_release(&output);
    close(fds[1]);

    int full = open("/dev/full", O_WRONLY);
    output = write_to(full, "a", 1, &ok);
    assert_false(ok);
    assert_false(output.reader_gone);
    assert_int_equal(output.error, ENOSPC);
    answer_output_release(&output);
    close(full);
}

static void test_answer_output__gathers_small_texts_and_keeps_their_order(void **state)
{
    struct answer_output output;
    int fds[2];
    static char expected[3 * ANSWER_HELD_BYTES], got[3 * ANSWER_HELD_BYTES];
    size_t n = 0;
    bool ok = true;
    assert_int_equal(pipe(fds), 0);
    fflush(stdout);
    int saved = dup(STDOUT_FILENO);
    dup2(fds[1], STDOUT_FILENO);
    answer_output_init(&output, false, true);
    answer_output_hold(&output);
    for (int i = 0; i < 2000; i++) {
        n += (size_t)sprintf(expected + n, "%d,", i);
        ok = answer_output_format(&output, "%d,", i) && ok;
    }
    size_t n_held = output.n_held;
    ok = answer_output_flush(&output) && ok;
    n += (size_t)sprintf(expected + n, "at once\n");
    ok = answer_output_text(&output, "at once\n", 8) && ok;
    dup2(saved, STDOUT_FILENO);
    close(saved);
    assert_true(ok && n_held > 0 && !output.in_line);
    assert_int_equal(read(fds[0], got, sizeof got), n);
    assert_memory_equal(got, expected, n);
    answer_output_release(&output);
    close(fds[0]);
    close(fds[1]);
}

static void test_text_input__says_where_a_text_is_no_utf8(void **state)
{
    struct text_input input = {.bytes = (uint8_t *)"caf\xe9!", .len = 5};
    struct why why = {.text = ""};
    assert_int_equal(text_input_check(&input, "the prompt", &why), STATUS_INVALID);
    assert_non_null(strstr(why.text, "0xE9 at offset 3 of 5"));
    input = (struct text_input){.bytes = (uint8_t *)"a\0b", .len = 3};
    assert_int_equal(text_input_check(&input, "the prompt", &why), 0);
}

static void test_text_input__reads_files_up_to_the_limit(void **state)
{
    char path[] = "/tmp/quire-text-input-XXXXXX";
    char argument[64];
    struct text_input input;
    struct why why = {.text = ""};
    int fd = mkstemp(path);
    assert_int_equal(write(fd, "a\0bc", 4), 4);
    close(fd);
    snprintf(argument, sizeof argument, "@%s", path);
    assert_int_equal(text_input_argument(argument, 4, &input, &why), 0);
    assert_int_equal(input.len, 4);
    assert_memory_equal(input.bytes, "a\0bc", 4);
    text_input_release(&input);
    assert_int_equal(text_input_argument(argument, 3, &input, &why), STATUS_TOO_LARGE);
    assert_null(input.bytes);
    unlink(path);
    assert_int_equal(text_input_argument(argument, 4, &input, &why), STATUS_NOT_FOUND);
    assert_int_equal(text_input_argument("@@", 4, &input, &why), STATUS_NOT_FOUND);
    assert_int_equal(text_input_argument("text", 0, &input, &why), 0);
    assert_int_equal(input.len, 4);
    text_input_release(&input);
}

static void test_text_input__reads_ids(void **state)
{
    struct text_input input = {.bytes = (uint8_t *)"1, 2\n3", .len = 6};
    uint32_t *ids;
    size_t n;
    assert_int_equal(text_input_ids(&input, &ids, &n, NULL), 0);
    assert_int_equal(n, 3);
    assert_int_equal(ids[2], 3);
    free(ids);
    input = (struct text_input){.bytes = (uint8_t *)"1 x", .len = 3};
    assert_int_equal(text_input_ids(&input, &ids, &n, NULL), STATUS_INVALID);
    assert_null(ids);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answer_output__shows_controls_of_a_model_escaped),
        cmocka_unit_test(test_answer_output__text_for_a_pipe_is_as_it_is),
        cmocka_unit_test(test_answer_output__remembers_that_the_reader_went_away),
        cmocka_unit_test(test_answer_output__gathers_small_texts_and_keeps_their_order),
        cmocka_unit_test(test_text_input__says_where_a_text_is_no_utf8),
        cmocka_unit_test(test_text_input__reads_files_up_to_the_limit),
        cmocka_unit_test(test_text_input__reads_ids),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
