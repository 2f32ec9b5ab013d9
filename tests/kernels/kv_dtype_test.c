#include "kernels/kv_dtype.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <string.h>

#include "base/status.h"

static void assert_parsed(const char *text, enum kv_dtype global, enum kv_dtype local,
                          const char *again)
{
    struct kv_dtypes dtypes;
    struct why why = {.text = ""};
    char out[KV_DTYPES_TEXT_BYTES];
    assert_int_equal(kv_dtypes_parse("--kv-dtype", text, &dtypes, &why), STATUS_OK);
    assert_int_equal(dtypes.global, global);
    assert_int_equal(dtypes.local, local);
    assert_int_equal(kv_dtypes_of(&dtypes, KV_FULL), global);
    assert_int_equal(kv_dtypes_of(&dtypes, KV_CHUNKED), local);
    assert_int_equal(kv_dtypes_of(&dtypes, KV_SLIDING), local);
    assert_string_equal(kv_dtypes_text(&dtypes, out), again);
}

static void test_kv_dtype__one_for_all_or_one_for_each_kind(void **state)
{
    assert_parsed("q8", KV_Q8, KV_Q8, "q8");
    assert_parsed("bf16", KV_BF16, KV_BF16, "bf16");
    assert_parsed("global=q4,local=f16", KV_Q4, KV_F16, "global=q4,local=f16");
    assert_parsed("local=f32", KV_F16, KV_F32, "global=f16,local=f32");
    assert_parsed("local=bf16,global=bf16", KV_BF16, KV_BF16, "bf16");
}

static void test_kv_dtype__another_text_is_refused(void **state)
{
    static const char *const texts[] = {"",          "f17",          "q8,q4",   "global=",
                                        "global=f1", "global=q4,",   ",local=q4", "locals=q4",
                                        "q8 ",       "global=q4 local=q4", "=",
                                        "global=q4,global=q4", "local=q8,global=q4,local=f16"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct kv_dtypes dtypes;
        struct why why = {.text = ""};
        assert_int_equal(kv_dtypes_parse("--kv-dtype", texts[i], &dtypes, &why), STATUS_INVALID);
        assert_non_null(strstr(why.text, "--kv-dtype takes f16, f32, bf16, q8 or q4"));
        assert_non_null(strstr(why.text, texts[i]));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kv_dtype__one_for_all_or_one_for_each_kind),
        cmocka_unit_test(test_kv_dtype__another_text_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
