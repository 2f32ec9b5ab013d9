/* Generate, Tokenize and Detokenize without a model: what ends them, and what they hold. */
#include "tests/service/handler_stage.h"

#include "base/clock.h"
#include "service/generate.h"
#include "service/text_calls.h"

#include <unistd.h>

static void upload(const ProtobufCMessage *message)
{
    stage_upload(message);
    stage_pump();
}

static void upload_prompt(const char *text)
{
    Quire__V1__GenerateRequest request = QUIRE__V1__GENERATE_REQUEST__INIT;
    request.prompt_case = QUIRE__V1__GENERATE_REQUEST__PROMPT_TEXT;
    request.text = (ProtobufCBinaryData){strlen(text), (uint8_t *)text};
    upload(&request.base);
}

static void refused(int status, const char *part)
{
    assert_true(stage.is_finished);
    assert_int_equal(stage.finish_status, status);
    if (strstr(stage.finish_text, part) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", stage.finish_text, part);
    assert_true(stage.details_bytes > 0);
    stage_close();
}

static void accept(void)
{
    stage_open(&generate_handler, generate_state_bytes());
    upload_prompt("Once upon a time");
    stage_work();
    assert_int_equal(stage.n_submits, 1);
    stage_tell(&(struct event){.kind = EVENT_ACCEPTED, .accepted = {.n_prompt = 4}});
    assert_int_equal(stage.n_sent, 1);
}

static void finish(void)
{
    stage_tell(&(struct event){.kind = EVENT_FINISHED,
                               .finished = {.reason = FINISH_STOP, .stop_idx = -1, .n_prompt = 4,
                                            .n_completion = 2, .decode_s = 0.5}});
}

static void test_generate__counts_what_it_used(void **state)
{
    accept();
    stage_tell(stage_delta(0, "there "));
    assert_int_equal(stage.call.usage.n_prompt, 4);
    assert_int_equal(stage.call.usage.n_completion, 1);
    finish();
    assert_int_equal(stage.finish_status, STATUS_OK);
    assert_int_equal(stage.call.usage.n_completion, 2);
    assert_true(stage.call.usage.decode_s == 0.5);
    stage_close();
}

static void test_generate__a_reader_that_takes_nothing_is_owed_the_credit(void **state)
{
    accept();
    stage_tell(stage_delta(0, "there "));
    assert_int_equal(stage.credit[0], 1);
    stage.unsent_bytes = OUT_BUFFER_MARK_BYTES + 1;
    stage_tell(stage_delta(0, "was "));
    stage_tell(stage_delta(0, "a "));
    assert_int_equal(stage.credit[0], 1);
    stage.unsent_bytes = 0;
    generate_handler.on_drain(&stage.call);
    assert_int_equal(stage.credit[0], 3);
    stage_close();
    assert_int_equal(stage.n_cancels, 1);
}

static void test_generate__a_message_without_memory_ends_the_call(void **state)
{
    accept();
    stage.send_status = STATUS_NO_MEMORY;
    stage_tell(stage_delta(0, "there "));
    assert_int_equal(stage.n_cancels, 1);
    refused(STATUS_NO_MEMORY, "no memory");

    accept();
    stage_tell(stage_delta(0, "there "));
    stage.send_status = STATUS_NO_MEMORY;
    finish();
    assert_int_equal(stage.n_cancels, 0); /* the run has ended */
    refused(STATUS_NO_MEMORY, "no memory");
}

static void test_generate__texts_of_all_calls_have_one_limit(void **state)
{
    stage_open(&generate_handler, generate_state_bytes());
    upload_prompt("Once upon a time");
    assert_true(stage.service.text_bytes >= 16);
    stage_work();
    assert_int_equal(stage.service.text_bytes, 0);
    stage_close();

    stage_open(&generate_handler, generate_state_bytes());
    stage.service.text_bytes = TEXT_BYTES_MAX - 15;
    upload_prompt("Once upon a time");
    refused(STATUS_EXHAUSTED, "try again");

    stage_open(&tokenize_handler, 0);
    stage.service.text_bytes = TEXT_BYTES_MAX;
    Quire__V1__TokenizeRequest request = QUIRE__V1__TOKENIZE_REQUEST__INIT;
    upload(&request.base);
    assert_int_equal(stage.service.text_bytes, TEXT_BYTES_MAX);
    refused(STATUS_EXHAUSTED, "try again");
}

static void test_generate__a_cancelled_text_gives_its_bytes_back(void **state)
{
    stage_open(&generate_handler, generate_state_bytes());
    upload_prompt("Once upon a time");
    call_cancel(&stage.call, true);
    stage_work();
    assert_int_equal(stage.service.text_bytes, 0);
    assert_int_equal(stage.n_submits, 0);
    stage_close();
}

/* A token is a byte of the answer at least, with its span five. */
static void test_generate__tokenize_stops_when_no_reply_can_hold_the_tokens(void **state)
{
    static char text[RESPONSE_MESSAGE_BYTES_MAX + 2];
    memset(text, '\n', sizeof text); /* a token each */
    for (int spans = 0; spans < 2; spans++) {
        stage_open(&tokenize_handler, 0);
        Quire__V1__TokenizeRequest request = QUIRE__V1__TOKENIZE_REQUEST__INIT;
        request.text = (ProtobufCBinaryData){sizeof text / (spans ? 5 : 1) + 1, (uint8_t *)text};
        request.text.len -= request.text.len > sizeof text;
        request.spans = spans;
        upload(&request.base);
        stage_work();
        refused(STATUS_TOO_LARGE, "send less at once");
    }
}

static void test_generate__a_call_that_is_cut_off_tells_the_time_it_took(void **state)
{
    stage_open(&generate_handler, generate_state_bytes());
    stage.call.arrived_ns = clock_now(&clock_monotonic);
    upload_prompt("Once upon a time");
    stage_work();
    stage_tell(&(struct event){.kind = EVENT_ACCEPTED, .accepted = {.n_prompt = 4}});
    stage_tell(&(struct event){.kind = EVENT_PROGRESS, .progress = {.phase = RUN_WAITING}});
    usleep(3000);
    stage_tell(&(struct event){.kind = EVENT_PROGRESS, .progress = {.phase = RUN_PREFILL}});
    usleep(2000);
    stage_tell(stage_delta(0, "there "));
    usleep(1000);
    call_cancel(&stage.call, true);
    const struct call_usage *usage = &stage.call.usage;
    assert_true(usage->queue_s >= 0.003 && usage->prefill_s >= 0.002 && usage->decode_s >= 0.001);
    stage_close();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_generate__counts_what_it_used),
        cmocka_unit_test(test_generate__a_call_that_is_cut_off_tells_the_time_it_took),
        cmocka_unit_test(test_generate__a_reader_that_takes_nothing_is_owed_the_credit),
        cmocka_unit_test(test_generate__a_message_without_memory_ends_the_call),
        cmocka_unit_test(test_generate__texts_of_all_calls_have_one_limit),
        cmocka_unit_test(test_generate__a_cancelled_text_gives_its_bytes_back),
        cmocka_unit_test(test_generate__tokenize_stops_when_no_reply_can_hold_the_tokens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
