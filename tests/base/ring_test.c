#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/ring.h"
#include "base/status.h"

#define STRESS_ELEMENTS 200000
#define STRESS_RECORDS 100000

struct element {
    uint64_t number;
    uint8_t fill[13]; /* an odd size, so that slots do not fall on lines */
};

static uint64_t random_next(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

static struct ring *ring_of(size_t capacity, size_t element_bytes)
{
    struct ring *ring;
    assert_int_equal(ring_create(capacity, element_bytes, &ring, NULL), STATUS_OK);
    return ring;
}

static struct byte_ring *byte_ring_of(size_t capacity)
{
    struct byte_ring *ring;
    assert_int_equal(byte_ring_create(capacity, &ring, NULL), STATUS_OK);
    return ring;
}

static void test_ring__gives_back_in_order_what_went_in(void **state)
{
    struct ring *ring = ring_of(5, sizeof(int));
    assert_int_equal(ring_capacity(ring), 8);
    int next_in = 0, next_out = 0;
    for (int round = 1; round < 100; round++) {
        for (int i = 0; i < round % 9; i++) {
            if (ring_try_push(ring, &next_in))
                next_in++;
        }
        for (int i = 0; i < (round + 3) % 7; i++) {
            int value;
            if (ring_try_pop(ring, &value))
                assert_int_equal(value, next_out++);
        }
    }
    assert_true(next_in > 200);
    ring_free(ring);
}

static void test_ring__is_full_at_its_capacity_and_empty_at_none(void **state)
{
    struct ring *ring = ring_of(4, 1);
    char c = 'x';
    assert_true(ring_is_empty(ring));
    assert_false(ring_try_pop(ring, &c));
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(ring_free_slots(ring), 4 - i);
        assert_true(ring_try_push(ring, &c));
    }
    assert_int_equal(ring_free_slots(ring), 0);
    assert_false(ring_try_push(ring, &c));
    assert_false(ring_is_empty(ring));
    assert_true(ring_try_pop(ring, &c));
    assert_int_equal(ring_free_slots(ring), 1);
    assert_true(ring_try_push(ring, &c));
    ring_free(ring);
}

static void test_ring__refuses_impossible_sizes(void **state)
{
    struct ring *ring = NULL;
    struct why why;
    assert_int_equal(ring_create(0, 8, &ring, &why), STATUS_INVALID);
    assert_int_equal(ring_create(((size_t)1 << 30) + 1, 8, &ring, &why), STATUS_INVALID);
    assert_int_equal(ring_create(8, 0, &ring, &why), STATUS_INVALID);
    assert_non_null(strstr(why.text, "not 8 of 0 bytes"));
    assert_int_equal(ring_create((size_t)1 << 30, SIZE_MAX / 2, &ring, &why), STATUS_NO_MEMORY);
    struct byte_ring *bytes = NULL;
    assert_int_equal(byte_ring_create(0, &bytes, &why), STATUS_INVALID);
    assert_int_equal(byte_ring_create(((size_t)1 << 30) + 1, &bytes, &why), STATUS_INVALID);
    ring_free(NULL);
    byte_ring_free(NULL);
}

static void *push_all(void *arg)
{
    struct ring *ring = arg;
    for (uint64_t i = 0; i < STRESS_ELEMENTS; i++) {
        struct element element = {.number = i};
        memset(element.fill, (int)(i & 0xFF), sizeof element.fill);
        while (!ring_try_push(ring, &element))
            sched_yield();
        ring_fence();
    }
    return NULL;
}

static void test_ring__two_threads_see_every_element_whole_and_in_order(void **state)
{
    static const size_t capacities[] = {1, 2, 64};
    for (int turn = 0; turn < 3; turn++) {
        struct ring *ring = ring_of(capacities[turn], sizeof(struct element));
        pthread_t producer;
        assert_int_equal(pthread_create(&producer, NULL, push_all, ring), 0);
        uint64_t wrong = 0;
        for (uint64_t i = 0; i < STRESS_ELEMENTS; i++) {
            struct element element;
            while (!ring_try_pop(ring, &element))
                sched_yield();
            wrong += element.number != i;
            for (size_t j = 0; j < sizeof element.fill; j++)
                wrong += element.fill[j] != (i & 0xFF);
        }
        pthread_join(producer, NULL);
        assert_int_equal(wrong, 0);
        assert_true(ring_is_empty(ring));
        ring_free(ring);
    }
}

static void push_text(struct byte_ring *ring, const char *text)
{
    char *at = byte_ring_reserve(ring, 32);
    assert_non_null(at);
    memcpy(at, text, strlen(text));
    byte_ring_commit(ring, strlen(text));
}

static void assert_pops(struct byte_ring *ring, const char *text)
{
    size_t len;
    const char *at = byte_ring_peek(ring, &len);
    assert_non_null(at);
    assert_int_equal((uintptr_t)at % 8, 0);
    assert_int_equal(len, strlen(text));
    assert_memory_equal(at, text, len);
    assert_ptr_equal(byte_ring_peek(ring, &len), at); /* looking takes nothing */
    byte_ring_pop(ring);
}

static void test_byte_ring__gives_back_records_of_any_length(void **state)
{
    struct byte_ring *ring = byte_ring_of(128);
    size_t len;
    assert_null(byte_ring_peek(ring, &len));
    for (int round = 0; round < 50; round++) {
        push_text(ring, "");
        push_text(ring, "a");
        assert_pops(ring, "");
        push_text(ring, "eight by");
        assert_pops(ring, "a");
        assert_pops(ring, "eight by");
        assert_null(byte_ring_peek(ring, &len));
        assert_int_equal(byte_ring_free_bytes(ring), 128);
    }
    byte_ring_free(ring);
}

static void test_byte_ring__has_room_for_its_longest_record_whenever_it_is_empty(void **state)
{
    struct byte_ring *ring = byte_ring_of(256);
    for (int round = 0; round < 300; round++) {
        size_t bytes = (size_t)round % 65;
        uint8_t *at = byte_ring_reserve(ring, 64);
        assert_non_null(at);
        memset(at, round, bytes);
        byte_ring_commit(ring, bytes);
        size_t len;
        const uint8_t *out = byte_ring_peek(ring, &len);
        assert_int_equal(len, bytes);
        for (size_t i = 0; i < len; i++)
            assert_int_equal(out[i], round & 0xFF);
        byte_ring_pop(ring);
    }
    byte_ring_free(ring);
}

static void test_byte_ring__refuses_when_full_and_recovers(void **state)
{
    struct byte_ring *ring = byte_ring_of(1024);
    int n = 0;
    while (byte_ring_reserve(ring, 100) != NULL) {
        byte_ring_commit(ring, 100);
        n++;
    }
    assert_int_equal(n, 1024 / 112);
    byte_ring_pop(ring);
    byte_ring_pop(ring);
    assert_non_null(byte_ring_reserve(ring, 100));
    byte_ring_free(ring);
}

static void test_byte_ring__a_dropped_reservation_leaves_nothing(void **state)
{
    struct byte_ring *ring = byte_ring_of(256);
    size_t len;
    memset(byte_ring_reserve(ring, 64), 'x', 64);
    assert_null(byte_ring_peek(ring, &len));
    push_text(ring, "kept");
    assert_pops(ring, "kept");
    assert_null(byte_ring_peek(ring, &len));
    byte_ring_free(ring);
}

static void *push_records(void *arg)
{
    struct byte_ring *ring = arg;
    uint64_t seed = 11;
    for (uint64_t i = 0; i < STRESS_RECORDS; i++) {
        size_t len = random_next(&seed) % 1025;
        size_t reserved = len + random_next(&seed) % (1025 - len);
        uint8_t *at;
        while ((at = byte_ring_reserve(ring, reserved)) == NULL)
            sched_yield();
        memset(at, (int)(i & 0xFF), len);
        byte_ring_commit(ring, len);
        ring_fence();
    }
    return NULL;
}

static void test_byte_ring__two_threads_see_every_record_whole_and_in_order(void **state)
{
    struct byte_ring *ring = byte_ring_of(4096);
    pthread_t producer;
    assert_int_equal(pthread_create(&producer, NULL, push_records, ring), 0);
    uint64_t seed = 11, wrong = 0;
    for (uint64_t i = 0; i < STRESS_RECORDS; i++) {
        size_t expected = random_next(&seed) % 1025;
        random_next(&seed);
        size_t len;
        const uint8_t *at;
        while ((at = byte_ring_peek(ring, &len)) == NULL)
            sched_yield();
        wrong += len != expected;
        for (size_t j = 0; j < len; j++)
            wrong += at[j] != (i & 0xFF);
        byte_ring_pop(ring);
    }
    pthread_join(producer, NULL);
    assert_int_equal(wrong, 0);
    assert_int_equal(byte_ring_free_bytes(ring), 4096);
    byte_ring_free(ring);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ring__gives_back_in_order_what_went_in),
        cmocka_unit_test(test_ring__is_full_at_its_capacity_and_empty_at_none),
        cmocka_unit_test(test_ring__refuses_impossible_sizes),
        cmocka_unit_test(test_ring__two_threads_see_every_element_whole_and_in_order),
        cmocka_unit_test(test_byte_ring__gives_back_records_of_any_length),
        cmocka_unit_test(test_byte_ring__has_room_for_its_longest_record_whenever_it_is_empty),
        cmocka_unit_test(test_byte_ring__refuses_when_full_and_recovers),
        cmocka_unit_test(test_byte_ring__a_dropped_reservation_leaves_nothing),
        cmocka_unit_test(test_byte_ring__two_threads_see_every_record_whole_and_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
