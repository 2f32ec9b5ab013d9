/* Reflection as a stream of requests: each has its response, and what ends it. */
#include "tests/service/handler_stage.h"

#include "grpc/reflection/v1/reflection.pb-c.h"
#include "service/descriptor_set.h"
#include "service/reflection.h"

#define ASKED(name) GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_##name
#define TOLD(name) GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_##name

static void ask(int kind, const char *name)
{
    Grpc__Reflection__V1__ServerReflectionRequest request =
        GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__INIT;
    request.host = (ProtobufCBinaryData){4, (uint8_t *)"host"};
    request.message_request_case = kind;
    request.file_by_filename = (ProtobufCBinaryData){strlen(name), (uint8_t *)name};
    stage_upload(&request.base);
    stage_pump();
}

static Grpc__Reflection__V1__ServerReflectionResponse *told;

/* The newest response, which repeats its request. */
static void read_response(int kind)
{
    struct stage_bytes *sent = &stage.sent[stage.n_sent - 1];
    struct stage_bytes *asked = &stage.upload[stage.at_upload - 1];
    if (told != NULL)
        grpc__reflection__v1__server_reflection_response__free_unpacked(told, NULL);
    told = grpc__reflection__v1__server_reflection_response__unpack(NULL, sent->len, sent->bytes);
    assert_non_null(told);
    assert_int_equal(told->message_response_case, kind);
    assert_int_equal(told->valid_host.len, 4);
    uint8_t *request = malloc(asked->len + 1);
    assert_int_equal(grpc__reflection__v1__server_reflection_request__get_packed_size(
                         told->original_request),
                     asked->len);
    grpc__reflection__v1__server_reflection_request__pack(told->original_request, request);
    assert_memory_equal(request, asked->bytes, asked->len);
    free(request);
}

static void end(int status)
{
    stage.upload_ends = true;
    stage_pump();
    assert_true(stage.is_finished);
    assert_int_equal(stage.finish_status, status);
    assert_true(stage.service.watchers.next == &stage.service.watchers);
    if (told != NULL)
        grpc__reflection__v1__server_reflection_response__free_unpacked(told, NULL);
    told = NULL;
    stage_close();
}

static void test_reflection__answers_each_kind_and_goes_on_after_an_error(void **state)
{
    stage_open(&reflection_handler, reflection_state_bytes());
    ask(ASKED(LIST_SERVICES), "*");
    read_response(TOLD(LIST_SERVICES_RESPONSE));
    assert_int_equal(told->list_services_response->n_service, 4);
    ask(ASKED(FILE_CONTAINING_SYMBOL), "quire.v1.Nobody");
    read_response(TOLD(ERROR_RESPONSE));
    assert_int_equal(told->error_response->error_code, 5);
    ask(ASKED(FILE_BY_FILENAME), "");
    read_response(TOLD(ERROR_RESPONSE));
    ask(ASKED(ALL_EXTENSION_NUMBERS_OF_TYPE), "quire.v1.Model");
    read_response(TOLD(ALL_EXTENSION_NUMBERS_RESPONSE));
    assert_int_equal(told->all_extension_numbers_response->n_extension_number, 0);
    assert_int_equal(told->all_extension_numbers_response->base_type_name.len, 14);
    ask(ASKED(ALL_EXTENSION_NUMBERS_OF_TYPE), "quire.v1.Quire");
    read_response(TOLD(ERROR_RESPONSE));
    ask(ASKED(FILE_CONTAINING_SYMBOL), "quire.v1.Quire.Generate");
    read_response(TOLD(FILE_DESCRIPTOR_RESPONSE));
    assert_int_equal(told->file_descriptor_response->n_file_descriptor_proto, 1);
    ask(ASKED(_NOT_SET), "");
    read_response(TOLD(ERROR_RESPONSE));
    assert_int_equal(told->error_response->error_code, 3);
    assert_int_equal(stage.n_sent, 7);
    end(STATUS_OK);
}

static void test_reflection__a_file_asked_for_twice_comes_twice(void **state)
{
    struct slice set = descriptor_set_own();
    int file = descriptor_set_named(set, slice_from("google/rpc/details.proto"));
    stage_open(&reflection_handler, reflection_state_bytes());
    for (int time = 0; time < 2; time++) {
        ask(ASKED(FILE_BY_FILENAME), "google/rpc/details.proto");
        read_response(TOLD(FILE_DESCRIPTOR_RESPONSE));
        assert_int_equal(told->file_descriptor_response->n_file_descriptor_proto, 1);
        assert_int_equal(told->file_descriptor_response->file_descriptor_proto[0].len,
                         descriptor_set_file(set, file).len);
    }
    end(STATUS_OK);
}

static void test_reflection__a_reader_that_takes_nothing_is_not_read_from(void **state)
{
    stage_open(&reflection_handler, reflection_state_bytes());
    stage.unsent_bytes = OUT_BUFFER_MARK_BYTES + 1;
    for (int i = 0; i < 10; i++)
        ask(ASKED(LIST_SERVICES), "");
    assert_int_equal(stage.n_sent, 1);
    reflection_handler.on_drain(&stage.call); /* still above: one more */
    assert_int_equal(stage.n_sent, 2);
    stage.unsent_bytes = 0;
    reflection_handler.on_drain(&stage.call);
    assert_int_equal(stage.n_sent, 10);
    reflection_handler.on_drain(&stage.call);
    end(STATUS_OK);
}

static void test_reflection__text_that_is_not_utf8_ends_the_call(void **state)
{
    stage_open(&reflection_handler, reflection_state_bytes());
    ask(ASKED(LIST_SERVICES), "");
    ask(ASKED(FILE_BY_FILENAME), "\xff.proto");
    assert_true(stage.is_finished);
    end(STATUS_INVALID);
    stage_open(&reflection_handler, reflection_state_bytes());
    stage.send_status = STATUS_EXHAUSTED;
    ask(ASKED(LIST_SERVICES), "");
    end(STATUS_EXHAUSTED);
}

static void test_reflection__a_drain_and_a_cancel_end_the_stream(void **state)
{
    stage_open(&reflection_handler, reflection_state_bytes());
    ask(ASKED(LIST_SERVICES), "");
    service_on_draining(&stage.service);
    end(STATUS_UNAVAILABLE);
    stage_open(&reflection_handler, reflection_state_bytes());
    ask(ASKED(LIST_SERVICES), "");
    call_cancel(&stage.call, true);
    assert_true(stage.service.watchers.next == &stage.service.watchers);
    stage_close();
    stage_open(&reflection_handler, reflection_state_bytes());
    end(STATUS_OK); /* nothing was asked */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reflection__answers_each_kind_and_goes_on_after_an_error),
        cmocka_unit_test(test_reflection__a_file_asked_for_twice_comes_twice),
        cmocka_unit_test(test_reflection__a_reader_that_takes_nothing_is_not_read_from),
        cmocka_unit_test(test_reflection__text_that_is_not_utf8_ends_the_call),
        cmocka_unit_test(test_reflection__a_drain_and_a_cancel_end_the_stream),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
