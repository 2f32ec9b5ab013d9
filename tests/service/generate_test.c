/* Generate, Tokenize and Detokenize without a model: what ends them, and what they hold. */
#include "tests/service/handler_stage.h"

#include "base/clock.h"
#include "service/estimate_call.h"
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
/* --- chats --- */

static void upload_chat(size_t n, const char *const *roles, const char *const *contents,
                        bool has_tool, bool truncates)
{
    Quire__V1__GenerateRequest request = QUIRE__V1__GENERATE_REQUEST__INIT;
    Quire__V1__Chat chat = QUIRE__V1__CHAT__INIT;
    Quire__V1__Tool tool = QUIRE__V1__TOOL__INIT, *tools = &tool;
    Quire__V1__Message messages[8], *list[8];
    for (size_t i = 0; i < n; i++) {
        quire__v1__message__init(&messages[i]);
        messages[i].role = (ProtobufCBinaryData){strlen(roles[i]), (uint8_t *)roles[i]};
        messages[i].content = (ProtobufCBinaryData){strlen(contents[i]), (uint8_t *)contents[i]};
        list[i] = &messages[i];
    }
    tool.name = (ProtobufCBinaryData){3, (uint8_t *)"add"};
    chat.messages = list;
    chat.n_messages = n;
    chat.tools = &tools;
    chat.n_tools = has_tool;
    chat.truncate = truncates ? QUIRE__V1__TRUNCATE__TRUNCATE_OLDEST
                              : QUIRE__V1__TRUNCATE__TRUNCATE_NEVER;
    request.prompt_case = QUIRE__V1__GENERATE_REQUEST__PROMPT_CHAT;
    request.chat = &chat;
    request.opt_max_tokens_case = QUIRE__V1__GENERATE_REQUEST__OPT_MAX_TOKENS_MAX_TOKENS;
    request.max_tokens = 48;
    upload(&request.base);
    stage_work();
}

static Quire__V1__GenerateEvent *event_at(size_t i)
{
    assert_true(i < stage.n_sent);
    return quire__v1__generate_event__unpack(NULL, stage.sent[i].len, stage.sent[i].bytes);
}

/* The text of all deltas. */
static void read_text(char *out, size_t cap)
{
    size_t len = 0;
    for (size_t i = 0; i < stage.n_sent; i++) {
        Quire__V1__GenerateEvent *event = event_at(i);
        if (event->event_case == QUIRE__V1__GENERATE_EVENT__EVENT_DELTA) {
            assert_true(len + event->delta->text.len < cap);
            if (event->delta->text.len > 0)
                memcpy(out + len, event->delta->text.data, event->delta->text.len);
            len += event->delta->text.len;
        }
        quire__v1__generate_event__free_unpacked(event, NULL);
    }
    out[len] = '\0';
}

static size_t answer_with(const char *const *pieces, size_t n, char *text, size_t cap)
{
    stage_open(&generate_handler, generate_state_bytes());
    upload_chat(1, (const char *[]){"user"}, (const char *[]){"Q"}, true, false);
    assert_int_equal(stage.n_submits, 1);
    assert_true(stage.submits[0]->want_special);
    stage_tell(&(struct event){.kind = EVENT_ACCEPTED, .accepted = {.n_prompt = 4}});
    for (size_t i = 0; i < n; i++)
        stage_tell(stage_delta(0, pieces[i]));
    finish();
    assert_int_equal(stage.finish_status, STATUS_OK);
    read_text(text, cap);
    Quire__V1__GenerateEvent *last = event_at(stage.n_sent - 1);
    size_t n_calls = last->finished->n_tool_calls;
    for (size_t i = 0; i < n_calls; i++) {
        assert_int_equal(last->finished->tool_calls[i]->id.len, 9);
        assert_memory_equal(last->finished->tool_calls[i]->name.data, "add", 3);
        assert_memory_equal(last->finished->tool_calls[i]->arguments.data, "{}", 2);
    }
    quire__v1__generate_event__free_unpacked(last, NULL);
    stage_close();
    return n_calls;
}

static void test_generate__calls_come_apart_from_the_text(void **state)
{
    char text[4096];
    const char *call[] = {"Let me <b", ">see ", "<tool", "_call>{\"name\":\"add\",\"argu",
                          "ments\":{}}</tool_call>"};
    const char *broken[] = {"<tool_call>{\"name\":", "\"add\"}", "</tool_call>"};
    const char *plain[] = {"It is <", "42."};
    assert_int_equal(answer_with(call, 5, text, sizeof text), 1);
    assert_string_equal(text, "Let me <b>see ");
    assert_int_equal(answer_with(broken, 3, text, sizeof text), 0);
    assert_string_equal(text, "<tool_call>{\"name\":\"add\"}</tool_call>");
    assert_int_equal(answer_with(plain, 2, text, sizeof text), 0);
    assert_string_equal(text, "It is <42.");
    assert_int_equal(answer_with(NULL, 0, text, sizeof text), 0);
}

/* --- several answers --- */

static void upload_choices(uint32_t n, uint32_t best_of)
{
    Quire__V1__GenerateRequest request = QUIRE__V1__GENERATE_REQUEST__INIT;
    request.prompt_case = QUIRE__V1__GENERATE_REQUEST__PROMPT_TEXT;
    request.text = (ProtobufCBinaryData){4, (uint8_t *)"Once"};
    request.opt_n_case = QUIRE__V1__GENERATE_REQUEST__OPT_N_N;
    request.n = n;
    request.opt_best_of_case = QUIRE__V1__GENERATE_REQUEST__OPT_BEST_OF_BEST_OF;
    request.best_of = best_of;
    request.opt_max_tokens_case = QUIRE__V1__GENERATE_REQUEST__OPT_MAX_TOKENS_MAX_TOKENS;
    request.max_tokens = 48;
    stage_open(&generate_handler, generate_state_bytes());
    upload(&request.base);
    stage_work();
    assert_int_equal(stage.n_submits, 1);
    assert_int_equal(submit_n_choices(stage.submits[0]), best_of);
    stage_tell(&(struct event){.kind = EVENT_ACCEPTED,
                               .accepted = {.n_prompt = 4, .n_choices = best_of}});
}

static void finish_choice(uint32_t tag, uint64_t n_tokens)
{
    stage_tell(&(struct event){.kind = EVENT_FINISHED, .tag = tag,
                               .finished = {.reason = FINISH_LENGTH, .stop_idx = -1, .n_prompt = 4,
                                            .n_completion = n_tokens, .decode_s = tag + 1}});
}

static void tell_drawn(uint32_t tag, const char *text, float logprob)
{
    struct event *event = stage_delta(tag, text);
    event->delta.has_logprob = true;
    event->delta.logprob = logprob;
    stage_tell(event);
}

/* "1:was " for each delta, "0." for each end, in order. */
static void read_told(char *out, size_t cap)
{
    size_t n = 0;
    for (size_t i = 1; i < stage.n_sent; i++) {
        Quire__V1__GenerateEvent *event = event_at(i);
        if (event->event_case == QUIRE__V1__GENERATE_EVENT__EVENT_DELTA)
            n += (size_t)snprintf(out + n, cap - n, "%u:%.*s", event->delta->choice,
                                  (int)event->delta->text.len, (char *)event->delta->text.data);
        else
            n += (size_t)snprintf(out + n, cap - n, "%u.", event->finished->choice);
        assert_true(event->event_case == QUIRE__V1__GENERATE_EVENT__EVENT_DELTA ||
                    (event->finished->usage != NULL) == (i + 1 == stage.n_sent));
        quire__v1__generate_event__free_unpacked(event, NULL);
    }
}

static void test_generate__choices_come_side_by_side_and_end_by_themselves(void **state)
{
    char told[256];
    upload_choices(3, 3);
    stage_tell(stage_delta(2, "c"));
    stage_tell(stage_delta(0, "a"));
    finish_choice(2, 1);
    stage_tell(stage_delta(1, "b"));
    assert_int_equal(stage.credit[0] + stage.credit[1] + stage.credit[2], 3);
    finish_choice(0, 2); /* an end that has no text */
    assert_false(stage.is_finished);
    finish_choice(1, 1);
    assert_true(stage.is_finished && stage.finish_status == STATUS_OK);
    read_told(told, sizeof told);
    assert_string_equal(told, "2:c0:a2.1:b0.1.");
    Quire__V1__GenerateEvent *last = event_at(stage.n_sent - 1);
    assert_int_equal(last->finished->usage->prompt_tokens, 4);
    assert_int_equal(last->finished->usage->completion_tokens, 4);
    assert_true(last->finished->timings->decode_seconds == 3);
    quire__v1__generate_event__free_unpacked(last, NULL);
    assert_int_equal(stage.call.usage.n_prompt, 4);
    assert_int_equal(stage.call.usage.n_completion, 4);
    stage_close();
}

static void test_generate__each_choice_is_owed_its_own_credit(void **state)
{
    upload_choices(2, 2);
    stage.unsent_bytes = OUT_BUFFER_MARK_BYTES + 1;
    stage_tell(stage_delta(1, "b"));
    stage_tell(stage_delta(0, "a"));
    stage_tell(stage_delta(1, "b"));
    assert_int_equal(stage.credit[0] + stage.credit[1], 0);
    stage.unsent_bytes = 0;
    generate_handler.on_drain(&stage.call);
    assert_int_equal(stage.credit[0], 1);
    assert_int_equal(stage.credit[1], 2);
    stage_close();
    assert_int_equal(stage.n_cancels, 1);
}

static void test_generate__a_choice_that_fails_ends_all(void **state)
{
    upload_choices(2, 2);
    stage_tell(stage_delta(1, "b"));
    stage_tell(&(struct event){.kind = EVENT_REFUSED, .tag = 1,
                               .refused = {.status = STATUS_PRECONDITION, .was_accepted = true,
                                           .text = "too many ways"}});
    assert_int_equal(stage.n_cancels, 1);
    refused(STATUS_PRECONDITION, "too many ways");
}

/* Means of -2, -1 and -1.5, sums of -2, -3 and -1.5. */
static void draw_three(void)
{
    upload_choices(2, 3);
    tell_drawn(0, "a", -2);
    for (int i = 0; i < 3; i++)
        tell_drawn(1, "b", -1);
    tell_drawn(2, "c", -1.5f);
    finish_choice(1, 3);
    finish_choice(0, 1);
    assert_int_equal(stage.n_sent, 1); /* nothing before all have ended */
    assert_int_equal(stage.credit[1], 3);
}

static void test_generate__the_best_by_mean_logprob_come_when_all_have_ended(void **state)
{
    char told[256];
    draw_three();
    assert_true(stage.service.text_bytes > 0);
    finish_choice(2, 1);
    assert_true(stage.is_finished && stage.finish_status == STATUS_OK);
    read_told(told, sizeof told);
    assert_string_equal(told, "0:b0:b0:b0.1:c1.");
    Quire__V1__GenerateEvent *best = event_at(4), *last = event_at(stage.n_sent - 1);
    assert_true(best->finished->mean_logprob == -1 && last->finished->mean_logprob == -1.5f);
    assert_int_equal(last->finished->usage->completion_tokens, 5);
    quire__v1__generate_event__free_unpacked(best, NULL);
    best = event_at(1);
    assert_int_equal(best->delta->n_logprobs, 0); /* nobody asked for them */
    quire__v1__generate_event__free_unpacked(best, NULL);
    quire__v1__generate_event__free_unpacked(last, NULL);
    assert_int_equal(stage.service.text_bytes, 0);
    stage_close();
}

static void test_generate__the_best_wait_for_their_reader(void **state)
{
    char told[256];
    draw_three();
    stage.unsent_bytes = OUT_BUFFER_MARK_BYTES + 1;
    finish_choice(2, 1);
    assert_int_equal(stage.n_sent, 1);
    assert_false(stage.is_finished);
    stage.unsent_bytes = 0;
    generate_handler.on_drain(&stage.call);
    assert_true(stage.is_finished);
    read_told(told, sizeof told);
    assert_string_equal(told, "0:b0:b0:b0.1:c1.");
    stage_close();

    draw_three(); /* who leaves meanwhile leaves nothing behind */
    stage.unsent_bytes = OUT_BUFFER_MARK_BYTES + 1;
    finish_choice(2, 1);
    call_cancel(&stage.call, true);
    assert_int_equal(stage.service.text_bytes, 0);
    assert_int_equal(stage.n_cancels, 0);
    stage_close();
}

static void test_generate__answers_that_are_held_are_in_the_account(void **state)
{
    upload_choices(1, 2);
    stage.service.text_bytes = TEXT_BYTES_MAX - 100;
    tell_drawn(0, "a", -2);
    assert_int_equal(stage.n_cancels, 1);
    assert_int_equal(stage.service.text_bytes, TEXT_BYTES_MAX - 100);
    refused(STATUS_EXHAUSTED, "try again");
}

static void test_generate__a_cancelled_call_gives_its_held_text_back(void **state)
{
    stage_open(&generate_handler, generate_state_bytes());
    upload_chat(1, (const char *[]){"user"}, (const char *[]){"Q"}, true, false);
    stage_tell(&(struct event){.kind = EVENT_ACCEPTED, .accepted = {.n_prompt = 4}});
    stage_tell(stage_delta(0, "<tool_call>{"));
    call_cancel(&stage.call, true); /* a sanitizer sees what is lost */
    stage_close();
}

static void test_generate__the_oldest_messages_are_left_out_when_that_is_asked_for(void **state)
{
    static char half[4 * 1000 + 1];
    static const char *const roles[] = {"system", "user", "assistant", "user", "assistant", "user"};
    const char *contents[] = {"Be.", half, "A", half, "B", "Now?"};
    memset(half, 'a', sizeof half - 1);
    for (int truncates = 0; truncates < 2; truncates++) {
        stage_open(&generate_handler, generate_state_bytes());
        upload_chat(6, roles, contents, false, truncates);
        assert_int_equal(stage.n_submits, 1); /* never: the engine refuses it, with numbers */
        assert_true(truncates == (stage.submits[0]->n_ids <= 2048 - 48));
        stage_tell(&(struct event){.kind = EVENT_ACCEPTED, .accepted = {.n_prompt = 4}});
        Quire__V1__GenerateEvent *event = event_at(0);
        assert_int_equal(event->accepted->truncated_messages, truncates ? 2 : 0);
        assert_true(truncates == (event->accepted->truncated_tokens >= 1000));
        quire__v1__generate_event__free_unpacked(event, NULL);
        const struct stage_bytes *last = &stage.rendered[stage.n_rendered - 1];
        assert_memory_equal(last->bytes, "Be.", 3);
        assert_memory_equal(last->bytes + last->len - 4, "Now?", 4);
        finish();
        stage_close();
    }
}

static void test_generate__a_last_question_that_is_too_long_is_left_to_admission(void **state)
{
    static char whole[4 * 3000 + 1];
    static const char *const roles[] = {"user", "assistant", "user"};
    const char *contents[] = {"Q", "A", whole};
    memset(whole, 'a', sizeof whole - 1);
    stage_open(&generate_handler, generate_state_bytes());
    upload_chat(3, roles, contents, false, true);
    assert_int_equal(stage.n_submits, 1);
    assert_int_equal(stage.submits[0]->n_ids, 3000 + STAGE_TEMPLATE_TOKENS);
    stage_close();
}

static void test_generate__estimate_asks_the_engine_and_answers_once(void **state)
{
    for (int by_number = 0; by_number < 2; by_number++) {
        Quire__V1__EstimateRequest request = QUIRE__V1__ESTIMATE_REQUEST__INIT;
        Quire__V1__GenerateRequest prompt = QUIRE__V1__GENERATE_REQUEST__INIT;
        stage_open(&estimate_handler, estimate_state_bytes());
        prompt.prompt_case = QUIRE__V1__GENERATE_REQUEST__PROMPT_TEXT;
        prompt.text = (ProtobufCBinaryData){4, (uint8_t *)"Once"};
        request.prompt_case = by_number ? QUIRE__V1__ESTIMATE_REQUEST__PROMPT_PROMPT_TOKENS
                                        : QUIRE__V1__ESTIMATE_REQUEST__PROMPT_REQUEST;
        if (by_number)
            request.prompt_tokens = 1000;
        else
            request.request = &prompt;
        upload(&request.base);
        stage_work();
        assert_int_equal(stage.n_submits, 1);
        assert_int_equal(stage.submits[0]->n_ids, by_number ? 1000 : 1);
        assert_true(by_number == (stage.submits[0]->ids == NULL));
        struct event event = {.kind = EVENT_ESTIMATE,
                              .estimate = {.n_pages = 7, .status = STATUS_EXHAUSTED,
                                           .text = "no"}};
        stage_tell(&event);
        assert_true(stage.is_finished && stage.n_sent == 1);
        Quire__V1__EstimateResponse *told = quire__v1__estimate_response__unpack(
            NULL, stage.sent[0].len, stage.sent[0].bytes);
        assert_true(told->pages == 7 && !told->fits && told->refusal.len == 2);
        quire__v1__estimate_response__free_unpacked(told, NULL);
        stage_close();
    }
}

static void test_generate__estimate_refuses_nothing_and_both(void **state)
{
    Quire__V1__EstimateRequest nothing = QUIRE__V1__ESTIMATE_REQUEST__INIT;
    stage_open(&estimate_handler, estimate_state_bytes());
    upload(&nothing.base);
    refused(STATUS_INVALID, "request, prompt_tokens");
    stage_open(&estimate_handler, estimate_state_bytes());
    nothing.prompt_case = QUIRE__V1__ESTIMATE_REQUEST__PROMPT_PROMPT_TOKENS;
    stage.ring_is_full = true;
    upload(&nothing.base);
    refused(STATUS_EXHAUSTED, "try again");
}

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
        cmocka_unit_test(test_generate__calls_come_apart_from_the_text),
        cmocka_unit_test(test_generate__a_cancelled_call_gives_its_held_text_back),
        cmocka_unit_test(test_generate__the_oldest_messages_are_left_out_when_that_is_asked_for),
        cmocka_unit_test(test_generate__a_last_question_that_is_too_long_is_left_to_admission),
        cmocka_unit_test(test_generate__estimate_asks_the_engine_and_answers_once),
        cmocka_unit_test(test_generate__estimate_refuses_nothing_and_both),
        cmocka_unit_test(test_generate__tokenize_stops_when_no_reply_can_hold_the_tokens),
        cmocka_unit_test(test_generate__choices_come_side_by_side_and_end_by_themselves),
        cmocka_unit_test(test_generate__each_choice_is_owed_its_own_credit),
        cmocka_unit_test(test_generate__a_choice_that_fails_ends_all),
        cmocka_unit_test(test_generate__the_best_by_mean_logprob_come_when_all_have_ended),
        cmocka_unit_test(test_generate__the_best_wait_for_their_reader),
        cmocka_unit_test(test_generate__answers_that_are_held_are_in_the_account),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
