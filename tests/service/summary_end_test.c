/* How a Summarize call ends before its answer: refused, cancelled, out of room or of memory. */
#include "tests/service/summarize_stage.h"

#include "google/rpc/details.pb-c.h"

#include <unistd.h>

static void test_summary_end__a_cancel_cancels_all_runs_and_gives_everything_back(void **state)
{
    size_t len = write_document(100000, true);
    at_submit = 0;
    open_call((struct wanted){.section_tokens = 200});
    upload_document(document, len, 2000);
    answer(stage.submits[at_submit++], 10);
    uint32_t tag = stage.submits[at_submit]->tag;
    stage_tell(&(struct event){.kind = EVENT_ACCEPTED, .tag = tag, .accepted = {.n_prompt = 3}});
    usleep(1000);
    call_cancel(&stage.call, true);
    assert_int_equal(stage.n_cancels, 1);
    assert_int_equal(stage.cancel_tag, TAG_ALL);
    assert_true(stage.call.usage.prefill_s >= 0.001); /* of the one that was cut off */
    stage_close(); /* leaks are the sanitizer's to see */
}

static void test_summary_end__a_cancel_while_text_is_with_a_worker_finds_nobody(void **state)
{
    open_call(defaults);
    upload_text("text", 4);
    stage_pump();
    call_cancel(&stage.call, true);
    stage_work();
    assert_int_equal(stage.n_submits, 0);
    stage_close();
}

static void test_summary_end__a_reader_that_takes_nothing_is_owed_the_credit(void **state)
{
    at_submit = 0;
    open_call(defaults);
    upload_document("A text.", 7, 7);
    uint32_t tag = stage.submits[0]->tag;
    stage_tell(&(struct event){.kind = EVENT_ACCEPTED, .tag = tag, .accepted = {.n_prompt = 3}});
    stage_tell(stage_delta(tag, "one "));
    assert_int_equal(stage.credit[tag], 1);
    stage.unsent_bytes = OUT_BUFFER_MARK_BYTES + 1;
    stage_tell(stage_delta(tag, "two "));
    stage_tell(stage_delta(tag, "three "));
    assert_int_equal(stage.credit[tag], 1);
    stage.unsent_bytes = 0;
    summarize_handler.on_drain(&stage.call);
    assert_int_equal(stage.credit[tag], 3);
    stage_close();
}

/* --- refusals --- */

static void refused(int status, const char *part)
{
    assert_true(stage.is_finished);
    assert_int_equal(stage.finish_status, status);
    if (strstr(stage.finish_text, part) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", stage.finish_text, part);
    assert_true(stage.details_bytes > 0);
    stage_close();
}

static void test_summary_end__options_come_first_and_once(void **state)
{
    stage_open(&summarize_handler, summarize_state_bytes());
    upload_text("text", 4);
    stage_pump();
    refused(STATUS_INVALID, "options first");

    open_call(defaults);
    upload_options(defaults);
    stage_pump();
    stage_work();
    refused(STATUS_INVALID, "options came twice");

    stage_open(&summarize_handler, summarize_state_bytes());
    stage.upload_ends = true;
    stage_pump();
    refused(STATUS_INVALID, "nothing was sent");
}

static void test_summary_end__an_empty_document_is_refused_before_anything_is_sent(void **state)
{
    open_call(defaults);
    upload_document("", 0, 1);
    assert_int_equal(stage.n_sent, 0);
    refused(STATUS_INVALID, "empty");
}

static void test_summary_end__a_document_of_another_size_than_announced_is_refused(void **state)
{
    open_call((struct wanted){.total_bytes = 500});
    upload_document("A text.", 7, 7); /* a cut upload */
    assert_int_equal(stage.n_submits, 0);
    refused(STATUS_INVALID, "total_bytes said 500, and 7 bytes came");

    open_call((struct wanted){.total_bytes = 6});
    upload_text("A text.", 7);
    stage_pump();
    stage_work();
    refused(STATUS_INVALID, "total_bytes said 6, and 7 bytes came");

    summarize((struct wanted){.total_bytes = 7}, "A text.", 7, 3, 5);
    stage_close();
}

static void test_summary_end__bytes_that_are_not_utf8_are_refused_with_their_place(void **state)
{
    open_call(defaults);
    upload_document("abc\xff", 4, 1);
    assert_int_equal(stage.n_sent, 1); /* accepted */
    refused(STATUS_INVALID, "not UTF-8 at byte 3");

    open_call(defaults);
    upload_document("caf\xc3", 4, 4); /* the end parts a character */
    refused(STATUS_INVALID, "not UTF-8 at byte 3");

    size_t len = write_document(20000, true);
    document[15000] = '\xff';
    at_submit = 0;
    open_call((struct wanted){.section_tokens = 200});
    upload_document(document, len, 1000);
    while (!stage.is_finished)
        answer(stage.submits[at_submit++], 5);
    refused(STATUS_INVALID, "not UTF-8 at byte 15000");
}

static void test_summary_end__bytes_that_no_token_says_are_refused_or_replaced(void **state)
{
    open_call(defaults);
    upload_document("ab\x04" "cd", 5, 1);
    refused(STATUS_INVALID, "the byte 0x04 at byte 2");

    struct outcome out =
        summarize((struct wanted){.replace_invalid = true}, "ab\x04" "cd", 5, 1, 5);
    assert_int_equal(out.replaced, 1);
    stage_close();

    size_t len = write_document(20000, true);
    memcpy(document + 9000, "\x04", 1);
    memcpy(document + 15000, "\xf1\x80\x80\x80", 4); /* a character whose first byte is the one */
    out = summarize((struct wanted){.section_tokens = 200, .replace_invalid = true}, document, len,
                    1000, 5);
    assert_int_equal(out.replaced, 5);
    stage_close();
}

static void test_summary_end__windows_that_part_characters_are_no_reason_to_refuse(void **state)
{
    size_t len = 0;
    while (len + 3 <= 30000) {
        memcpy(document + len, "\xe6\x9d\xb1", 3);
        len += 3;
    }
    for (size_t piece = 1; piece <= 1000; piece *= 10) {
        summarize((struct wanted){.section_tokens = 100}, document, len, piece, 5);
        stage_close();
    }
}

static void test_summary_end__texts_of_all_calls_have_one_limit(void **state)
{
    open_call(defaults);
    stage.service.text_bytes = TEXT_BYTES_MAX - 6;
    upload_document("A text.", 7, 7);
    stage.service.text_bytes = 0;
    refused(STATUS_EXHAUSTED, "try again");

    open_call(defaults);
    stage.service.text_bytes = TEXT_BYTES_MAX - 7;
    upload_document("A text.", 7, 7);
    assert_false(stage.is_finished);
    stage.service.text_bytes -= TEXT_BYTES_MAX - 7;
    stage_close();

    open_call(defaults);
    upload_text("A text.", 7);
    stage_pump();
    stage_work();
    assert_in_range(stage.service.text_bytes, 7, 4096);
    stage_close();
    assert_int_equal(stage.service.text_bytes, 0);
}

static void test_summary_end__a_message_without_memory_ends_the_call(void **state)
{
    open_call(defaults);
    upload_document("A text.", 7, 7);
    uint32_t tag = stage.submits[0]->tag;
    stage_tell(&(struct event){.kind = EVENT_ACCEPTED, .tag = tag, .accepted = {.n_prompt = 3}});
    stage.send_status = STATUS_NO_MEMORY;
    stage_tell(stage_delta(tag, "one "));
    assert_int_equal(stage.n_cancels, 1);
    refused(STATUS_NO_MEMORY, "no memory");

    open_call(defaults);
    upload_document("A text.", 7, 7);
    tag = stage.submits[0]->tag;
    stage_tell(&(struct event){.kind = EVENT_ACCEPTED, .tag = tag, .accepted = {.n_prompt = 3}});
    stage_tell(stage_delta(tag, "one "));
    stage.send_status = STATUS_NO_MEMORY;
    stage_tell(&(struct event){.kind = EVENT_FINISHED, .tag = tag, .finished = {.stop_idx = -1}});
    refused(STATUS_NO_MEMORY, "no memory");
}

static void test_summary_end__a_size_over_the_limit_is_refused_at_once(void **state)
{
    open_call((struct wanted){.total_bytes = (uint64_t)DOCUMENT_BYTES_MAX + 1});
    stage_pump();
    refused(STATUS_TOO_LARGE, "268435457");

    open_call((struct wanted){.total_bytes = DOCUMENT_BYTES_MAX});
    stage_pump();
    stage_work();
    assert_false(stage.is_finished);
    stage_close();
}

static void test_summary_end__ranges_are_told(void **state)
{
    open_call((struct wanted){.section_tokens = SECTION_TOKENS_MIN - 1});
    stage_pump();
    refused(STATUS_INVALID, "section_tokens is 15");

    open_call((struct wanted){.max_tokens = 2000});
    upload_document("text", 4, 4);
    refused(STATUS_INVALID, "fewer max_tokens");

    size_t len = write_document(9000, true);
    open_call((struct wanted){.section_tokens = 100, .section_max_tokens = 800});
    upload_document(document, len, 4000);
    refused(STATUS_INVALID, "now 800");
}

static void refuse_run(uint32_t tag, int status)
{
    struct event event = {.kind = EVENT_REFUSED, .tag = tag};
    event.refused = (struct event_refused){
        .status = status, .numbers = {300, 256}, .unit = "sequences", .setting = "--max-queued"};
    snprintf(event.refused.text, sizeof event.refused.text, "300 of 256 sequences wait");
    stage.n_open--;
    stage_tell(&event);
}

static void test_summary_end__a_full_queue_is_told_at_once_at_the_beginning(void **state)
{
    open_call(defaults);
    upload_document("A text.", 7, 7);
    refuse_run(stage.submits[0]->tag, STATUS_EXHAUSTED);
    Google__Rpc__Status *details =
        google__rpc__status__unpack(NULL, stage.details_bytes, stage.details);
    assert_non_null(details);
    assert_int_equal(details->code, 8);
    google__rpc__status__free_unpacked(details, NULL);
    refused(STATUS_EXHAUSTED, "300 of 256");
}

static void test_summary_end__a_full_queue_in_the_middle_is_waited_for(void **state)
{
    size_t len = write_document(8000, true);
    at_submit = 0;
    open_call((struct wanted){.section_tokens = 200});
    upload_document(document, len, 2000);
    answer(stage.submits[at_submit++], 10);
    size_t n_before = stage.n_submits;
    refuse_run(stage.submits[at_submit++]->tag, STATUS_EXHAUSTED);
    assert_false(stage.is_finished);
    assert_int_equal(stage.n_submits, n_before);
    timers_run(&stage.timers, timers_next_ns(&stage.timers));
    assert_int_equal(stage.n_submits, n_before + 1);
    answer_all(10);
    struct outcome out = read_outcome();
    assert_int_equal(out.covered, len);
    stage_close();
}

static void test_summary_end__a_full_ring_is_waited_for(void **state)
{
    at_submit = 0;
    open_call(defaults);
    stage.ring_is_full = true;
    upload_document("A text.", 7, 7);
    assert_int_equal(stage.n_submits, 0);
    timers_run(&stage.timers, timers_next_ns(&stage.timers));
    stage.ring_is_full = false;
    timers_run(&stage.timers, timers_next_ns(&stage.timers));
    assert_int_equal(stage.n_submits, 1);
    answer_all(3);
    assert_int_equal(read_outcome().covered, 7);
    stage_close();
}

static void test_summary_end__a_run_that_fails_ends_the_call_and_the_other_runs(void **state)
{
    size_t len = write_document(100000, true);
    open_call((struct wanted){.section_tokens = 200});
    upload_document(document, len, 2000);
    refuse_run(stage.submits[1]->tag, STATUS_UNAVAILABLE);
    assert_int_equal(stage.n_cancels, 1);
    refused(STATUS_UNAVAILABLE, "300 of 256");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_summary_end__a_cancel_cancels_all_runs_and_gives_everything_back),
        cmocka_unit_test(test_summary_end__a_cancel_while_text_is_with_a_worker_finds_nobody),
        cmocka_unit_test(test_summary_end__a_reader_that_takes_nothing_is_owed_the_credit),
        cmocka_unit_test(test_summary_end__options_come_first_and_once),
        cmocka_unit_test(test_summary_end__an_empty_document_is_refused_before_anything_is_sent),
        cmocka_unit_test(
            test_summary_end__a_document_of_another_size_than_announced_is_refused),
        cmocka_unit_test(test_summary_end__bytes_that_are_not_utf8_are_refused_with_their_place),
        cmocka_unit_test(test_summary_end__bytes_that_no_token_says_are_refused_or_replaced),
        cmocka_unit_test(test_summary_end__windows_that_part_characters_are_no_reason_to_refuse),
        cmocka_unit_test(test_summary_end__texts_of_all_calls_have_one_limit),
        cmocka_unit_test(test_summary_end__a_message_without_memory_ends_the_call),
        cmocka_unit_test(test_summary_end__a_size_over_the_limit_is_refused_at_once),
        cmocka_unit_test(test_summary_end__ranges_are_told),
        cmocka_unit_test(test_summary_end__a_full_queue_is_told_at_once_at_the_beginning),
        cmocka_unit_test(test_summary_end__a_full_queue_in_the_middle_is_waited_for),
        cmocka_unit_test(test_summary_end__a_full_ring_is_waited_for),
        cmocka_unit_test(test_summary_end__a_run_that_fails_ends_the_call_and_the_other_runs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
