#include "tools/token_file.h"

#include "base/status.h"

#include <stdio.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char file[64];

static void write_file(const char *text)
{
    strcpy(file, "@/tmp/quire-ids-XXXXXX");
    int fd = mkstemp(file + 1);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}

static void test_token_file__ids_stand_in_the_text_or_in_a_file(void **state)
{
    struct token_list list;
    struct why why = {.text = ""};

    assert_int_equal(token_list_read("1,22,333", &list, &why), STATUS_OK);
    assert_int_equal(list.n, 3);
    assert_int_equal(list.ids[2], 333);
    token_list_release(&list);

    write_file("5 6\n7\n");
    assert_int_equal(token_list_read(file, &list, &why), STATUS_OK);
    assert_int_equal(list.n, 3);
    assert_int_equal(list.ids[2], 7);
    token_list_release(&list);
    unlink(file + 1);
}

static void test_token_file__a_file_longer_than_one_read_is_whole(void **state)
{
    enum { N = 40000 };
    char *text = malloc(N * 6 + 1), *to = text;
    struct token_list list;
    struct why why = {.text = ""};
    for (int i = 0; i < N; i++)
        to += sprintf(to, "%d,", i);
    to[-1] = 0;
    write_file(text);

    assert_int_equal(token_list_read(file, &list, &why), STATUS_OK);
    assert_int_equal(list.n, N);
    assert_int_equal(list.ids[N - 1], N - 1);
    token_list_release(&list);
    unlink(file + 1);
    free(text);
}

static void test_token_file__wrong_text_is_usage_and_a_wrong_file_is_not(void **state)
{
    struct token_list list;
    struct why why = {.text = ""};

    assert_int_equal(token_list_read("1,x", &list, &why), STATUS_INVALID);
    assert_non_null(strstr(why.text, "--tokens"));
    assert_int_equal(token_list_read("", &list, &why), STATUS_INVALID);
    assert_int_equal(token_list_read("@/absent/ids", &list, &why), STATUS_NOT_FOUND);
    assert_non_null(strstr(why.text, "/absent/ids"));
    assert_int_equal(token_list_read("@/tmp", &list, &why), STATUS_IO);
    write_file("1,x");
    assert_int_equal(token_list_read(file, &list, &why), STATUS_CORRUPT);
    assert_non_null(strstr(why.text, file));
    unlink(file + 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_token_file__ids_stand_in_the_text_or_in_a_file),
        cmocka_unit_test(test_token_file__a_file_longer_than_one_read_is_whole),
        cmocka_unit_test(test_token_file__wrong_text_is_usage_and_a_wrong_file_is_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
