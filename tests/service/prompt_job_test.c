/* Prompts that come as tokens: who takes them up, and whose memory they are in. */
#include "tests/service/handler_stage.h"

#include "service/generate.h"
#include "service/prompt_job.h"

static void upload(const ProtobufCMessage *message)
{
    stage_upload(message);
    stage_pump();
}

static void upload_tokens(size_t n)
{
    static uint32_t ids[PROMPT_AT_ONCE_TOKENS + 1];
    Quire__V1__GenerateRequest request = QUIRE__V1__GENERATE_REQUEST__INIT;
    Quire__V1__TokenIds tokens = QUIRE__V1__TOKEN_IDS__INIT;
    ids[n - 1] = 77;
    tokens.n_ids = n;
    tokens.ids = ids;
    request.prompt_case = QUIRE__V1__GENERATE_REQUEST__PROMPT_TOKENS;
    request.tokens = &tokens;
    upload(&request.base);
}

static void test_prompt_job__tokens_are_taken_up_at_once_to_a_limit_and_by_a_worker_beyond(
    void **state)
{
    for (uint32_t more = 0; more < 2; more++) {
        uint32_t n = PROMPT_AT_ONCE_TOKENS + more;
        stage_open(&generate_handler, generate_state_bytes());
        upload_tokens(n);
        assert_int_equal(stage.n_submits, 1 - more);
        stage_work();
        assert_int_equal(stage.n_submits, 1);
        assert_int_equal(stage.submits[0]->n_ids, n);
        assert_int_equal(stage.submits[0]->ids[n - 1], 77);
        assert_true(stage.submits[0]->has_page_keys); /* the step thread has none to make */
        stage_close();
    }
    stage_open(&generate_handler, generate_state_bytes());
    upload_tokens(PROMPT_AT_ONCE_TOKENS + 1);
    call_cancel(&stage.call, true);
    stage_work();
    assert_int_equal(stage.n_submits, 0);
    stage_close();
}

/* Ids of the request stay where they were unpacked, unless as much else stands there: a field that
 * nobody knows. */
static void test_prompt_job__a_prompt_of_tokens_is_handed_over_whole(void **state)
{
    Quire__V1__GenerateRequest request = QUIRE__V1__GENERATE_REQUEST__INIT;
    Quire__V1__TokenIds tokens = QUIRE__V1__TOKEN_IDS__INIT;
    static uint32_t ids[20000];
    static uint8_t unknown[128 << 10] = {0xfd, 0xff, 0x07}; /* its length, then zeros */
    ProtobufCMessageUnknownField field = {.tag = 1000,
                                          .wire_type = PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED,
                                          .len = sizeof unknown,
                                          .data = unknown};

    for (uint32_t i = 0; i < 20000; i++)
        ids[i] = i * 7;
    tokens.ids = ids;
    tokens.n_ids = 20000;
    request.prompt_case = QUIRE__V1__GENERATE_REQUEST__PROMPT_TOKENS;
    request.tokens = &tokens;
    request.base.unknown_fields = &field;
    for (unsigned n_unknown = 0; n_unknown < 2; n_unknown++) {
        request.base.n_unknown_fields = n_unknown;
        stage_open(&generate_handler, generate_state_bytes());
        upload(&request.base);
        stage_work();
        assert_int_equal(stage.n_submits, 1);
        assert_int_equal(stage.submits[0]->n_ids, 20000);
        assert_memory_equal(stage.submits[0]->ids, ids, sizeof ids);
        assert_true((stage.submits[0]->memory.first != NULL) == (n_unknown == 0));
        assert_int_equal(stage.service.text_bytes, 0);
        stage_close();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(
            test_prompt_job__tokens_are_taken_up_at_once_to_a_limit_and_by_a_worker_beyond),
        cmocka_unit_test(test_prompt_job__a_prompt_of_tokens_is_handed_over_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
