#include "clients/c/logit_biases.h"

#include "base/status.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct logit_biases biases;

static void test_logit_biases__pairs_stand_in_their_order(void **state)
{
    struct why why = {.text = ""};
    assert_int_equal(logit_biases_parse("7042:-100,0:2.5,4294967295:1e1", &biases, &why),
                     STATUS_OK);
    assert_int_equal(biases.n, 3);
    static const struct {
        uint32_t token;
        float bias;
    } wanted[] = {{7042, -100.0f}, {0, 2.5f}, {4294967295u, 10.0f}};
    for (size_t i = 0; i < 3; i++) {
        assert_ptr_equal(biases.list[i], &biases.items[i]);
        assert_int_equal(biases.items[i].token, wanted[i].token);
        assert_true(biases.items[i].bias == wanted[i].bias);
    }
}

static void test_logit_biases__what_is_no_pair_is_shown(void **state)
{
    static const char *const wrong[] = {
        "",       "7",      "7:",        ":1",         "7:1,",     "7:1,,8:1", "7:1;8:1", "-7:1",
        " 7:1",   "7:x",    "7:101",     "7:-100.5",   "7:nan",    "7:inf",    "x:1",     "7:1 ",
        "4294967296:1",     "99999999999999999999:1",
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct why why = {.text = ""};
        assert_int_equal(logit_biases_parse(wrong[i], &biases, &why), STATUS_INVALID);
        assert_non_null(strstr(why.text, "ID:BIAS"));
        const char *last = strrchr(wrong[i], ',');
        assert_non_null(strstr(why.text, last == NULL ? wrong[i] : last + 1));
    }
}

static void test_logit_biases__as_many_as_a_request_takes_and_no_more(void **state)
{
    static char text[16 * (LOGIT_BIASES_MAX + 1)];
    struct why why = {.text = ""};
    size_t len = 0;
    for (int i = 0; i < LOGIT_BIASES_MAX; i++)
        len += (size_t)sprintf(text + len, "%s%d:1", i == 0 ? "" : ",", i);
    assert_int_equal(logit_biases_parse(text, &biases, &why), STATUS_OK);
    assert_int_equal(biases.n, LOGIT_BIASES_MAX);
    strcat(text, ",1000:1");
    assert_int_equal(logit_biases_parse(text, &biases, &why), STATUS_INVALID);
    assert_non_null(strstr(why.text, "more than 300"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_logit_biases__pairs_stand_in_their_order),
        cmocka_unit_test(test_logit_biases__what_is_no_pair_is_shown),
        cmocka_unit_test(test_logit_biases__as_many_as_a_request_takes_and_no_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
