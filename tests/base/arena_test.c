#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/arena.h"

static uint64_t random_next(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

static void test_arena__pieces_are_zeroed_aligned_and_apart(void **state)
{
    enum { N = 400 };
    struct {
        uint8_t *at;
        size_t len;
    } pieces[N];
    struct arena arena;
    arena_init(&arena, 4u << 20);
    uint64_t seed = 7;
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < N; i++) {
            size_t len = random_next(&seed) % 3000;
            uint8_t *at = arena_alloc(&arena, len);
            assert_non_null(at);
            assert_int_equal((uintptr_t)at % 16, 0);
            for (size_t j = 0; j < len; j++)
                assert_int_equal(at[j], 0);
            memset(at, i & 0xFF, len);
            pieces[i].at = at;
            pieces[i].len = len;
        }
        for (int i = 0; i < N; i++) {
            for (size_t j = 0; j < pieces[i].len; j++)
                assert_int_equal(pieces[i].at[j], i & 0xFF);
        }
        arena_clear(&arena);
    }
    arena_release(&arena);
}

static void test_arena__refuses_beyond_the_cap_and_stays_usable(void **state)
{
    static const size_t caps[] = {1, 15, 16, 17, 1000, 4095, 4096, 4097, 100000, 3u << 20};
    for (size_t i = 0; i < sizeof caps / sizeof *caps; i++) {
        struct arena arena;
        arena_init(&arena, caps[i]);
        assert_null(arena_alloc(&arena, caps[i] + 1));
        assert_null(arena_alloc(&arena, SIZE_MAX));
        assert_null(arena_alloc(&arena, SIZE_MAX - 15));
        assert_non_null(arena_alloc(&arena, caps[i]));
        assert_int_equal(arena.used, caps[i]);
        assert_null(arena_alloc(&arena, 1));
        arena_clear(&arena);
        assert_non_null(arena_alloc(&arena, caps[i]));
        arena_release(&arena);
    }
}

static void test_arena__small_pieces_never_exceed_the_cap(void **state)
{
    struct arena arena;
    arena_init(&arena, 50000);
    uint64_t seed = 3;
    size_t handed_out = 0;
    for (int i = 0; i < 100000; i++) {
        size_t len = random_next(&seed) % 200;
        if (arena_alloc(&arena, len) != NULL)
            handed_out += len;
        assert_true(arena.used <= arena.cap);
    }
    assert_true(handed_out <= 50000);
    assert_true(handed_out > 25000); /* most of it is of use */
    arena_release(&arena);
}

static void test_arena__a_large_piece_leaves_the_rest_of_a_chunk_usable(void **state)
{
    struct arena arena;
    arena_init(&arena, 1u << 20);
    uint8_t *small = arena_alloc(&arena, 16);
    uint8_t *large = arena_alloc(&arena, 500000);
    uint8_t *next = arena_alloc(&arena, 16);
    assert_non_null(large);
    assert_ptr_equal(next, small + 16);
    arena_release(&arena);
}

static void test_arena__nothing_has_an_address_of_its_own(void **state)
{
    struct arena arena;
    arena_init(&arena, 1000);
    void *a = arena_alloc(&arena, 0);
    void *b = arena_alloc(&arena, 0);
    assert_non_null(a);
    assert_non_null(b);
    assert_ptr_not_equal(a, b);
    arena_release(&arena);
}

static void test_arena__copies_bytes(void **state)
{
    struct arena arena;
    arena_init(&arena, 64);
    char *copy = arena_copy(&arena, "a\0b", 4);
    assert_memory_equal(copy, "a\0b", 4);
    assert_non_null(arena_copy(&arena, NULL, 0));
    assert_null(arena_copy(&arena, "x", 65));
    arena_release(&arena);
}

static void test_arena__clear_keeps_one_chunk_and_release_none(void **state)
{
    struct arena arena;
    arena_init(&arena, 1u << 20);
    for (int i = 0; i < 100; i++)
        assert_non_null(arena_alloc(&arena, 5000));
    arena_clear(&arena);
    assert_int_equal(arena.used, 0);
    assert_non_null(arena.first);
    arena_release(&arena);
    assert_null(arena.first);
    assert_non_null(arena_alloc(&arena, 10)); /* may be used again */
    arena_release(&arena);
    arena_release(&arena);
}

static void test_arena__no_cap_at_all_gives_nothing(void **state)
{
    struct arena arena;
    arena_init(&arena, 0);
    assert_null(arena_alloc(&arena, 0));
    assert_null(arena_alloc(&arena, 1));
    arena_release(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_arena__pieces_are_zeroed_aligned_and_apart),
        cmocka_unit_test(test_arena__refuses_beyond_the_cap_and_stays_usable),
        cmocka_unit_test(test_arena__small_pieces_never_exceed_the_cap),
        cmocka_unit_test(test_arena__a_large_piece_leaves_the_rest_of_a_chunk_usable),
        cmocka_unit_test(test_arena__nothing_has_an_address_of_its_own),
        cmocka_unit_test(test_arena__copies_bytes),
        cmocka_unit_test(test_arena__clear_keeps_one_chunk_and_release_none),
        cmocka_unit_test(test_arena__no_cap_at_all_gives_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
