#include "service/call.h"

#include "limits.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct {
    int n_sent, n_opened, n_finished, n_wanted, n_cancelled;
    int status, send_status;
    char message[64];
} seen;

static int codec_send(struct call *call, struct slice message)
{
    seen.n_sent++;
    return seen.send_status;
}

static void codec_finish(struct call *call, int status, const char *message, struct slice details)
{
    seen.n_finished++;
    seen.status = status;
    strcpy(seen.message, message);
}

static void codec_open(struct call *call)
{
    seen.n_opened++;
}

static void codec_want(struct call *call)
{
    seen.n_wanted++;
}

static size_t codec_bytes(const struct call *call)
{
    return 7;
}

static int on_message(struct call *call, struct slice body, struct why *why)
{
    return STATUS_OK;
}

static void on_cancel(struct call *call)
{
    assert_int_equal(call->state, CALL_FINISHED);
    seen.n_cancelled++;
}

static const struct call_codec codec = {codec_send, codec_finish, codec_open,
                                        codec_want, codec_bytes,  codec_bytes};
static const struct call_handler handler = {.on_message = on_message, .on_cancel = on_cancel};
static const struct method method = {"/a.B/C", CALL_UNARY, 100, &handler, 24};

static int enter(struct call *call, struct call_table *table, struct why *why)
{
    memset(call, 0, sizeof(*call));
    call->codec = &codec;
    call->method = &method;
    return call_enter(call, table, why);
}

static struct call_table *table_of(uint32_t n)
{
    struct call_table *table;
    memset(&seen, 0, sizeof(seen));
    assert_int_equal(call_table_create(n, &table, NULL), STATUS_OK);
    return table;
}

static void test_call__is_found_by_its_id_until_it_is_finished(void **state)
{
    struct call_table *table = table_of(4);
    struct call call;
    assert_int_equal(enter(&call, table, NULL), STATUS_OK);
    assert_int_not_equal(call.id, 0);
    assert_ptr_equal(call_find(table, call.id), &call);
    assert_null(call_find(table, call.id + 1));
    assert_null(call_find(table, call.id + (UINT64_C(1) << 32)));
    assert_null(call_find(table, 0));
    assert_null(call_find(table, UINT64_MAX));
    call_finish(&call, STATUS_OK, NULL);
    assert_null(call_find(table, call.id));
    assert_int_equal(call_table_count(table), 0);
    call_leave(&call);
    call_table_free(table);
}

static void test_call__an_old_id_does_not_find_the_next_call_in_its_slot(void **state)
{
    struct call_table *table = table_of(1);
    uint64_t ids[100];
    for (int i = 0; i < 100; i++) {
        struct call call;
        assert_int_equal(enter(&call, table, NULL), STATUS_OK);
        ids[i] = call.id;
        for (int k = 0; k < i; k++) {
            assert_int_not_equal(ids[k], call.id);
            assert_null(call_find(table, ids[k]));
        }
        call_cancel(&call, false);
        call_leave(&call);
    }
    call_table_free(table);
}

static void test_call__a_full_table_refuses_with_its_limit(void **state)
{
    struct call_table *table = table_of(3);
    struct call calls[4];
    struct why why;
    for (int i = 0; i < 3; i++)
        assert_int_equal(enter(&calls[i], table, NULL), STATUS_OK);
    assert_int_equal(enter(&calls[3], table, &why), STATUS_EXHAUSTED);
    assert_non_null(strstr(why.text, "3 calls"));
    int n = 0;
    for (struct call *each = call_next(table, NULL); each != NULL; each = call_next(table, each)) {
        call_cancel(each, true); /* the walk survives it */
        n++;
    }
    assert_int_equal(n, 3);
    for (int i = 0; i < 3; i++)
        call_leave(&calls[i]);
    call_table_free(table);
    assert_int_equal(call_table_create(CALLS_MAX + 1, &table, &why), STATUS_INVALID);
}

static void test_call__walks_its_states_and_tells_the_codec(void **state)
{
    struct call_table *table = table_of(1);
    struct call call;
    enter(&call, table, NULL);
    static const uint8_t zeros[24];
    assert_memory_equal(call_state_of(&call), zeros, 24);
    assert_int_equal(call.state, CALL_OPEN);
    call_open_reply(&call);
    call_open_reply(&call); /* once is enough */
    assert_int_equal(seen.n_opened, 1);
    assert_int_equal(call.state, CALL_SENDING);
    seen.send_status = STATUS_EXHAUSTED;
    assert_int_equal(call_send(&call, slice_from("x")), STATUS_EXHAUSTED);
    assert_int_equal(call_unsent_bytes(&call), 7);
    assert_int_equal(call_waiting_bytes(&call), 7);
    call_want_more(&call);
    assert_int_equal(seen.n_wanted, 1);
    call_finish(&call, STATUS_INVALID, "why");
    assert_int_equal(call.state, CALL_FINISHED);
    assert_int_equal(seen.status, STATUS_INVALID);
    assert_string_equal(seen.message, "why");
    call_cancel(&call, true); /* too late: the handler is done */
    assert_int_equal(seen.n_cancelled, 0);
    call_leave(&call);
    call_table_free(table);
}

static void test_call__a_refused_first_message_leaves_the_call_open(void **state)
{
    struct call_table *table = table_of(1);
    struct call call;
    enter(&call, table, NULL);
    seen.send_status = STATUS_EXHAUSTED;
    assert_int_equal(call_send(&call, slice_from("x")), STATUS_EXHAUSTED);
    assert_int_equal(call.state, CALL_OPEN);
    assert_string_equal(call_state_name(call.state), "OPEN");
    call_cancel(&call, true);
    assert_int_equal(seen.n_cancelled, 1);
    call_leave(&call);
    call_table_free(table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_call__is_found_by_its_id_until_it_is_finished),
        cmocka_unit_test(test_call__an_old_id_does_not_find_the_next_call_in_its_slot),
        cmocka_unit_test(test_call__a_full_table_refuses_with_its_limit),
        cmocka_unit_test(test_call__walks_its_states_and_tells_the_codec),
        cmocka_unit_test(test_call__a_refused_first_message_leaves_the_call_open),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
