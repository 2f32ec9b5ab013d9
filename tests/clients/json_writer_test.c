#include "clients/c/json_writer.h"
#include "clients/c/message_codec.h"
#include "grpc/health/v1/health.pb-c.h"
#include "quire/v1/quire.pb-c.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct json_writer json;

static int setup(void **state)
{
    json_writer_init(&json);
    return 0;
}

static int teardown(void **state)
{
    json_writer_release(&json);
    return 0;
}

static void assert_json(const char *expected)
{
    size_t len;
    const char *line = json_writer_line(&json, &len);
    assert_int_equal(len, strlen(expected) + 1);
    assert_memory_equal(line, expected, strlen(expected));
    assert_int_equal(line[len - 1], '\n');
    json_writer_clear(&json);
}

static void test_json_writer__escapes_what_json_must(void **state)
{
    static const char text[] = "a\"b\\c\n\t\r\b\f\x01\x1f\x7f\0z/é";
    json_writer_text(&json, NULL, text, sizeof text - 1);
    assert_json("\"a\\\"b\\\\c\\n\\t\\r\\b\\f\\u0001\\u001f\\u007f\\u0000z/é\"");
}

static void test_json_writer__bad_bytes_become_the_replacement_character(void **state)
{
    json_writer_text(&json, NULL, "a\xff\xe2\x82z", 5);
    assert_json("\"a\xef\xbf\xbd\xef\xbf\xbdz\"");
}

static void test_json_writer__places_commas(void **state)
{
    json_writer_open(&json, NULL, '{');
    json_writer_open(&json, "empty", '[');
    json_writer_close(&json, ']');
    json_writer_open(&json, "list", '[');
    json_writer_int(&json, NULL, -1);
    json_writer_open(&json, NULL, '{');
    json_writer_close(&json, '}');
    json_writer_bool(&json, NULL, true);
    json_writer_close(&json, ']');
    json_writer_uint(&json, "n", UINT64_MAX);
    json_writer_bytes(&json, "bytes", "\xff\x00", 2);
    json_writer_text(&json, "text", NULL, 0);
    json_writer_close(&json, '}');
    assert_json("{\"empty\":[],\"list\":[-1,{},true],\"n\":18446744073709551615,"
                "\"bytes\":[255,0],\"text\":\"\"}");
}

static void test_json_writer__numbers_come_back_and_json_has_no_infinity(void **state)
{
    static const double values[] = {0, -0.5, 0.1, 1e300, DBL_MIN, 1.0 / 3, 123456789.125};
    size_t len;
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        json_writer_real(&json, NULL, values[i]);
        assert_true(strtod(json_writer_line(&json, &len), NULL) == values[i]);
        json_writer_clear(&json);
    }
    json_writer_float(&json, NULL, 0.1f);
    assert_json("0.1");
    json_writer_open(&json, NULL, '[');
    json_writer_real(&json, NULL, INFINITY);
    json_writer_real(&json, NULL, NAN);
    json_writer_float(&json, NULL, -INFINITY);
    json_writer_close(&json, ']');
    assert_json("[null,null,null]");
}

static void test_json_writer__writes_messages_by_their_fields(void **state)
{
    Quire__V1__Progress progress = QUIRE__V1__PROGRESS__INIT;
    progress.phase = QUIRE__V1__PHASE__PHASE_PREFILL;
    progress.done = 64;
    json_writer_open(&json, NULL, '{');
    json_writer_fields(&json, &progress.base);
    json_writer_close(&json, '}');
    assert_json("{\"phase\":\"prefill\",\"done\":64,\"total\":0,\"per_second\":0,"
                "\"seconds_left\":0}");
}

static void test_json_writer__bytes_are_numbers_and_strings_are_text(void **state)
{
    Quire__V1__Delta delta = QUIRE__V1__DELTA__INIT;
    Quire__V1__TokenLogprob logprob = QUIRE__V1__TOKEN_LOGPROB__INIT, *logprobs[] = {&logprob};
    Quire__V1__TopLogprob top = QUIRE__V1__TOP_LOGPROB__INIT, *tops[] = {&top};
    uint32_t tokens[] = {7};
    top.bytes = message_codec_bytes("\xe2", 1);
    top.logprob = -0.5f;
    logprob.top = tops;
    logprob.n_top = 1;
    logprob.token = 7;
    logprob.bytes = message_codec_text("hi");
    logprob.logprob = -0.25f;
    delta.text = message_codec_bytes("a\0b", 3);
    delta.tokens = tokens;
    delta.n_tokens = 1;
    delta.logprobs = logprobs;
    delta.n_logprobs = 1;
    json_writer_open(&json, NULL, '{');
    json_writer_fields(&json, &delta.base);
    json_writer_close(&json, '}');
    assert_json("{\"text\":\"a\\u0000b\",\"tokens\":[7],\"logprobs\":[{\"token\":7,\"bytes\":"
                "[104,105],\"logprob\":-0.25,\"top\":[{\"token\":0,\"bytes\":[226],\"logprob\":"
                "-0.5}]}],\"choice\":0}");
}

static void test_json_writer__an_absent_optional_field_is_not_there(void **state)
{
    Quire__V1__Finished finished = QUIRE__V1__FINISHED__INIT;
    finished.reason = QUIRE__V1__FINISH_REASON__FINISH_REASON_STOP;
    json_writer_open(&json, NULL, '{');
    json_writer_fields(&json, &finished.base);
    json_writer_close(&json, '}');
    assert_json("{\"reason\":\"stop\",\"tool_calls\":[],\"choice\":0}");

    finished.opt_stop_case = QUIRE__V1__FINISHED__OPT_STOP_STOP;
    finished.stop = message_codec_text("END");
    json_writer_open(&json, NULL, '{');
    json_writer_fields(&json, &finished.base);
    json_writer_close(&json, '}');
    assert_json("{\"reason\":\"stop\",\"stop\":\"END\",\"tool_calls\":[],\"choice\":0}");
}

static void test_json_writer__an_enum_without_a_shared_prefix_keeps_its_name(void **state)
{
    char name[64];
    const ProtobufCEnumDescriptor *type =
        &grpc__health__v1__health_check_response__serving_status__descriptor;
    assert_string_equal(json_writer_enum_name(type, 1, name), "serving");
    assert_string_equal(json_writer_enum_name(type, 2, name), "not_serving");
    assert_string_equal(json_writer_enum_name(type, 77, name), "77");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_json_writer__escapes_what_json_must),
        cmocka_unit_test(test_json_writer__bad_bytes_become_the_replacement_character),
        cmocka_unit_test(test_json_writer__places_commas),
        cmocka_unit_test(test_json_writer__numbers_come_back_and_json_has_no_infinity),
        cmocka_unit_test(test_json_writer__writes_messages_by_their_fields),
        cmocka_unit_test(test_json_writer__bytes_are_numbers_and_strings_are_text),
        cmocka_unit_test(test_json_writer__an_absent_optional_field_is_not_there),
        cmocka_unit_test(test_json_writer__an_enum_without_a_shared_prefix_keeps_its_name),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
