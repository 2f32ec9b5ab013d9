#include "service/byte_queue.h"
#include "service/grpc_frame.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define LIMIT 100000

static size_t held;

static struct grpc_reader reader_of(uint32_t limit, size_t held_max)
{
    struct grpc_reader reader;
    held = 0;
    grpc_reader_init(&reader, limit, &held, held_max);
    return reader;
}

static size_t frame_of(uint8_t *out, uint8_t flag, const void *body, uint32_t len)
{
    grpc_frame_prefix(out, len);
    out[0] = flag;
    memcpy(out + GRPC_PREFIX_BYTES, body, len);
    return GRPC_PREFIX_BYTES + len;
}

static void test_grpc_frame__every_cut_gives_the_same_messages(void **state)
{
    uint8_t wire[64];
    size_t n = frame_of(wire, 0, "hello", 5);
    n += frame_of(wire + n, 0, "", 0);
    n += frame_of(wire + n, 0, "worlds", 6);
    static const char *const texts[] = {"hello", "", "worlds"};
    for (size_t step = 1; step <= n; step++) {
        struct grpc_reader reader = reader_of(LIMIT, LIMIT);
        size_t at = 0;
        int n_messages = 0;
        while (at < n) {
            size_t piece = n - at < step ? n - at : step, taken;
            bool complete;
            assert_int_equal(
                grpc_reader_take(&reader, slice_of(wire + at, piece), &taken, &complete, NULL), 0);
            at += taken;
            assert_true(complete || taken == piece);
            if (!complete)
                continue;
            assert_false(grpc_reader_is_inside(&reader));
            struct slice message = grpc_reader_message(&reader);
            assert_true(slice_equal(message, slice_from(texts[n_messages])));
            n_messages++;
            grpc_reader_next(&reader);
        }
        assert_int_equal(n_messages, 3);
        grpc_reader_release(&reader);
        assert_int_equal(held, 0);
    }
}

static void test_grpc_frame__the_limit_is_judged_by_the_prefix(void **state)
{
    uint8_t prefix[GRPC_PREFIX_BYTES];
    struct why why;
    size_t taken;
    bool complete;
    struct grpc_reader reader = reader_of(LIMIT, LIMIT);
    grpc_frame_prefix(prefix, LIMIT);
    assert_int_equal(grpc_reader_take(&reader, slice_of(prefix, 5), &taken, &complete, &why), 0);
    assert_true(grpc_reader_is_inside(&reader));
    assert_int_equal(held, 0); /* announced is not arrived */
    grpc_reader_release(&reader);
    grpc_frame_prefix(prefix, LIMIT + 1);
    assert_int_equal(grpc_reader_take(&reader, slice_of(prefix, 5), &taken, &complete, &why),
                     STATUS_TOO_LARGE);
    assert_non_null(strstr(why.text, "100,001"));
    assert_non_null(strstr(why.text, "100,000"));
}

static void test_grpc_frame__memory_grows_with_what_has_arrived(void **state)
{
    uint8_t prefix[GRPC_PREFIX_BYTES], zeros[1000] = {0};
    size_t taken;
    bool complete;
    struct grpc_reader reader = reader_of(LIMIT, LIMIT);
    grpc_frame_prefix(prefix, LIMIT);
    grpc_reader_take(&reader, slice_of(prefix, 5), &taken, &complete, NULL);
    for (size_t n = 1000; n <= LIMIT; n += 1000) {
        assert_int_equal(
            grpc_reader_take(&reader, slice_of(zeros, 1000), &taken, &complete, NULL), 0);
        assert_in_range(held, n, 2 * n + 1024);
        assert_true(held <= LIMIT);
    }
    assert_true(complete);
    grpc_reader_next(&reader);
    assert_int_equal(held, 0); /* a large buffer is not kept */
}

static void test_grpc_frame__the_account_of_all_readers_is_a_limit(void **state)
{
    uint8_t prefix[GRPC_PREFIX_BYTES], zeros[4096] = {0};
    struct why why;
    size_t taken;
    bool complete;
    struct grpc_reader reader = reader_of(LIMIT, 4096);
    grpc_frame_prefix(prefix, LIMIT);
    grpc_reader_take(&reader, slice_of(prefix, 5), &taken, &complete, NULL);
    assert_int_equal(grpc_reader_take(&reader, slice_of(zeros, 4096), &taken, &complete, &why), 0);
    assert_int_equal(grpc_reader_take(&reader, slice_of(zeros, 1), &taken, &complete, &why),
                     STATUS_EXHAUSTED);
    grpc_reader_release(&reader);
    assert_int_equal(held, 0);
}

static void test_grpc_frame__every_flag_but_zero_is_refused(void **state)
{
    for (int flag = 1; flag < 256; flag++) {
        uint8_t wire[16];
        size_t taken, n = frame_of(wire, (uint8_t)flag, "x", 1);
        bool complete;
        struct grpc_reader reader = reader_of(LIMIT, LIMIT);
        assert_int_equal(grpc_reader_take(&reader, slice_of(wire, n), &taken, &complete, NULL),
                         STATUS_INTERNAL);
    }
}

static void test_grpc_frame__a_queue_gives_back_the_bytes_in_order(void **state)
{
    struct byte_queue queue;
    size_t account = 0;
    uint8_t in = 0, out = 0;
    byte_queue_init(&queue, &account);
    srand(9);
    for (int step = 0; step < 20000; step++) {
        size_t n = (size_t)rand() % 300;
        if (rand() % 2 == 0) {
            uint8_t bytes[300];
            for (size_t i = 0; i < n; i++)
                bytes[i] = in++;
            assert_int_equal(byte_queue_reserve(&queue, n), STATUS_OK);
            byte_queue_append(&queue, slice_of(bytes, n));
        } else {
            struct slice front = byte_queue_front(&queue);
            if (n > front.len)
                n = front.len;
            for (size_t i = 0; i < n; i++)
                assert_int_equal(front.bytes[i], out++);
            byte_queue_drop(&queue, n);
        }
        assert_int_equal(account, queue.cap);
        if (queue.len == 0)
            assert_true(queue.cap <= BYTE_QUEUE_KEPT);
    }
    byte_queue_release(&queue);
    assert_int_equal(account, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_grpc_frame__every_cut_gives_the_same_messages),
        cmocka_unit_test(test_grpc_frame__the_limit_is_judged_by_the_prefix),
        cmocka_unit_test(test_grpc_frame__memory_grows_with_what_has_arrived),
        cmocka_unit_test(test_grpc_frame__the_account_of_all_readers_is_a_limit),
        cmocka_unit_test(test_grpc_frame__every_flag_but_zero_is_refused),
        cmocka_unit_test(test_grpc_frame__a_queue_gives_back_the_bytes_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
