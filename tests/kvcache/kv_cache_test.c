#include "cache_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static struct cache_scene full_cache(uint32_t n_pages)
{
    struct kv_group_spec group = cache_group(KV_FULL, 0);
    return cache_scene_open(cache_spec(n_pages, 1, &group));
}

static uint32_t mark_at(struct cache_scene *scene, kv_seq_id seq, uint32_t g, uint64_t position)
{
    uint32_t mark = 0;
    assert_true(cache_get(scene, seq, g, position, &mark));
    return mark;
}

static void test_kv_cache__open_reserves_what_is_promised_and_close_gives_it_back(void **state)
{
    struct cache_scene scene = full_cache(10);

    kv_seq_id seq = cache_must_open(&scene, 300);
    assert_int_equal(cache_stats(&scene).n_reserved, 5);
    cache_write(&scene, seq, 130, 1);
    assert_int_equal(cache_stats(&scene).n_used, 3);
    assert_int_equal(cache_stats(&scene).n_reserved, 2);
    assert_int_equal(cache_stats(&scene).n_available, 5);
    cache_assert_sound(&scene);
    kv_cache_close(scene.cache, seq);

    assert_int_equal(cache_stats(&scene).n_used, 0);
    assert_int_equal(cache_stats(&scene).n_available, 10);
    cache_scene_close(&scene);
}

static void test_kv_cache__what_fits_later_waits_and_what_never_fits_is_refused(void **state)
{
    struct cache_scene scene = full_cache(10);
    kv_seq_id first = cache_must_open(&scene, 9 * 64), other = KV_SEQ_NONE;
    struct why why;

    assert_int_equal(kv_cache_open(scene.cache, 2 * 64, &other, &why), STATUS_EXHAUSTED);
    assert_non_null(strstr(why.text, "2 pages"));
    assert_int_equal(kv_cache_open(scene.cache, 10 * 64 + 1, &other, &why), STATUS_TOO_LARGE);
    assert_non_null(strstr(why.text, "641"));
    assert_non_null(strstr(why.text, "640"));
    assert_int_equal(kv_cache_open(scene.cache, 64, &other, &why), STATUS_OK);

    kv_cache_close(scene.cache, other);
    kv_cache_close(scene.cache, first);
    cache_scene_close(&scene);
}

static void test_kv_cache__the_last_slot_is_the_end_of_sequences(void **state)
{
    struct cache_scene scene = full_cache(100);
    kv_seq_id seqs[8], more;
    struct why why;
    for (int i = 0; i < 8; i++)
        seqs[i] = cache_must_open(&scene, 1);

    assert_false(kv_cache_fits_now(scene.cache, 1));
    assert_int_equal(kv_cache_open(scene.cache, 1, &more, &why), STATUS_EXHAUSTED);
    assert_non_null(strstr(why.text, "--max-sequences"));

    for (int i = 0; i < 8; i++)
        kv_cache_close(scene.cache, seqs[i]);
    cache_scene_close(&scene);
}

static void test_kv_cache__a_used_page_comes_back_zeroed(void **state)
{
    struct cache_scene scene = full_cache(1);
    kv_seq_id seq = cache_must_open(&scene, 64);
    cache_write(&scene, seq, 64, 1000);
    kv_cache_close(scene.cache, seq);

    seq = cache_must_open(&scene, 64);
    cache_append(&scene, seq, 1);

    for (uint32_t i = 0; i < 64; i++)
        assert_int_equal(mark_at(&scene, seq, 0, i), 0);
    kv_cache_close(scene.cache, seq);
    cache_scene_close(&scene);
}

static void test_kv_cache__fork_shares_pages_until_write(void **state)
{
    struct cache_scene scene = full_cache(10);
    kv_seq_id parent = cache_must_open(&scene, 200), child = KV_SEQ_NONE;
    cache_write(&scene, parent, 100, 1);

    assert_int_equal(kv_cache_fork(scene.cache, parent, 200, &child, NULL), STATUS_OK);
    assert_int_equal(cache_stats(&scene).n_used, 2);
    cache_assert_sound(&scene);
    cache_write(&scene, child, 1, 7777);
    cache_write(&scene, parent, 1, 8888);

    assert_int_equal(cache_stats(&scene).n_used, 3);
    assert_int_equal(cache_page_at(&scene, parent, 0, 0), cache_page_at(&scene, child, 0, 0));
    assert_int_not_equal(cache_page_at(&scene, parent, 0, 1), cache_page_at(&scene, child, 0, 1));
    for (uint32_t i = 0; i < 100; i++)
        assert_int_equal(mark_at(&scene, child, 0, i), 1 + i);
    assert_int_equal(mark_at(&scene, child, 0, 100), 7777);
    assert_int_equal(mark_at(&scene, parent, 0, 100), 8888);
    cache_assert_sound(&scene);
    kv_cache_close(scene.cache, parent);
    assert_int_equal(mark_at(&scene, child, 0, 99), 100);
    kv_cache_close(scene.cache, child);
    cache_scene_close(&scene);
}

static void test_kv_cache__the_last_holder_of_a_shared_page_keeps_it(void **state)
{
    struct cache_scene scene = full_cache(10);
    kv_seq_id parent = cache_must_open(&scene, 64), child = KV_SEQ_NONE;
    cache_write(&scene, parent, 10, 1);
    assert_int_equal(kv_cache_fork(scene.cache, parent, 64, &child, NULL), STATUS_OK);
    page_id page = cache_page_at(&scene, parent, 0, 0);
    kv_cache_close(scene.cache, parent);

    cache_write(&scene, child, 1, 5);

    assert_int_equal(cache_page_at(&scene, child, 0, 0), page);
    assert_int_equal(cache_stats(&scene).n_used, 1);
    assert_int_equal(cache_stats(&scene).n_reserved, 0);
    kv_cache_close(scene.cache, child);
    cache_scene_close(&scene);
}

static void test_kv_cache__truncate_keeps_the_promise(void **state)
{
    struct cache_scene scene = full_cache(4);
    kv_seq_id seq = cache_must_open(&scene, 256);
    cache_write(&scene, seq, 70, 1);
    cache_append(&scene, seq, 180);

    kv_cache_truncate(scene.cache, seq, 70);
    assert_int_equal(kv_cache_written(scene.cache, seq), 70);
    assert_int_equal(cache_stats(&scene).n_used, 2);
    assert_int_equal(cache_stats(&scene).n_reserved, 2);
    cache_assert_sound(&scene);
    cache_write(&scene, seq, 186, 71);

    assert_int_equal(mark_at(&scene, seq, 0, 69), 70);
    assert_int_equal(mark_at(&scene, seq, 0, 255), 256);
    kv_cache_close(scene.cache, seq);
    cache_scene_close(&scene);
}

static void test_kv_cache__a_windowed_group_keeps_its_window_and_promises_no_more(void **state)
{
    struct kv_group_spec groups[] = {cache_group(KV_FULL, 0), cache_group(KV_SLIDING, 100)};
    struct cache_scene scene = cache_scene_open(cache_spec(40, 2, groups));
    kv_seq_id seq = cache_must_open(&scene, 2000);

    for (uint32_t i = 0; i < 20; i++) {
        cache_write(&scene, seq, 100, 1 + 100 * i);
        cache_assert_sound(&scene);
    }

    uint32_t mark;
    assert_false(cache_get(&scene, seq, 1, 1856 - 1, &mark)); /* 2000 - 99 lies in page 29 */
    for (uint32_t i = 2000 - 99; i < 2000; i++)
        assert_int_equal(mark_at(&scene, seq, 1, i), i + 1);
    assert_int_equal(mark_at(&scene, seq, 0, 0), 1);
    kv_cache_close(scene.cache, seq);
    cache_scene_close(&scene);
}

static void test_kv_cache__a_chunked_group_forgets_at_each_chunk(void **state)
{
    struct kv_group_spec groups[] = {cache_group(KV_FULL, 0), cache_group(KV_CHUNKED, 128)};
    struct cache_scene scene = cache_scene_open(cache_spec(40, 2, groups));
    kv_seq_id seq = cache_must_open(&scene, 1000);

    cache_write(&scene, seq, 120, 1);
    assert_int_equal(mark_at(&scene, seq, 1, 0), 1);
    cache_write(&scene, seq, 8, 121);
    uint32_t mark;
    assert_false(cache_get(&scene, seq, 1, 127, &mark));
    cache_assert_sound(&scene);
    cache_write(&scene, seq, 10, 129);

    assert_int_equal(mark_at(&scene, seq, 1, 128), 129);
    assert_int_equal(mark_at(&scene, seq, 0, 127), 128);
    kv_cache_close(scene.cache, seq);
    cache_scene_close(&scene);
}

static void test_kv_cache__a_view_holds_the_tables_of_its_sequences_in_order(void **state)
{
    struct cache_scene scene = full_cache(10);
    kv_seq_id a = cache_must_open(&scene, 200), b = cache_must_open(&scene, 64);
    cache_write(&scene, a, 130, 1);
    cache_write(&scene, b, 3, 1);
    page_id expected[6] = {
        cache_page_at(&scene, b, 0, 0),
        PAGE_NONE,
        PAGE_NONE,
        cache_page_at(&scene, a, 0, 0),
        cache_page_at(&scene, a, 0, 1),
        cache_page_at(&scene, a, 0, 2),
    };

    struct kv_view view;
    kv_cache_view(scene.cache, (kv_seq_id[]){b, a}, 2, scene.stream, &view);
    device_submit(scene.stream);
    assert_int_equal(device_wait(scene.stream, NULL, NULL), STATUS_OK);

    page_id table[6];
    assert_int_equal(view.n_groups, 1);
    assert_int_equal(view.groups[0].table_stride, 3);
    device_download(scene.device, table, view.groups[0].table, sizeof table);
    assert_memory_equal(table, expected, sizeof table);
    kv_cache_close(scene.cache, a);
    kv_cache_close(scene.cache, b);
    cache_scene_close(&scene);
}

static void test_kv_cache__memory_below_one_page_is_refused_with_numbers(void **state)
{
    struct kv_group_spec group = cache_group(KV_FULL, 0);
    struct kv_cache_spec spec = cache_spec(1, 1, &group);
    struct cache_scene scene = cache_scene_open(spec);
    struct kv_cache *cache = NULL;
    struct why why;
    spec.memory_bytes--;

    assert_int_equal(kv_cache_create(scene.device, &spec, &cache, &why), STATUS_INVALID);

    assert_non_null(strstr(why.text, "8.0 KiB"));
    cache_scene_close(&scene);
}

static void test_kv_cache__windowed_groups_leave_their_memory_to_the_others(void **state)
{
    struct kv_group_spec groups[] = {cache_group(KV_FULL, 0), cache_group(KV_SLIDING, 64)};
    struct kv_cache_spec spec = cache_spec(1000, 2, groups);
    spec.max_context = 1u << 20;
    struct cache_scene scene = cache_scene_open(spec);

    /* window 64 and appends of 200 tokens touch 6 pages at most; 8 sequences */
    assert_int_equal(cache_stats(&scene).n_pages, 2000 - 6 * 8);
    assert_int_equal(kv_cache_tokens_max(scene.cache), 64 * (2000 - 6 * 8));

    cache_scene_close(&scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kv_cache__open_reserves_what_is_promised_and_close_gives_it_back),
        cmocka_unit_test(test_kv_cache__what_fits_later_waits_and_what_never_fits_is_refused),
        cmocka_unit_test(test_kv_cache__the_last_slot_is_the_end_of_sequences),
        cmocka_unit_test(test_kv_cache__a_used_page_comes_back_zeroed),
        cmocka_unit_test(test_kv_cache__fork_shares_pages_until_write),
        cmocka_unit_test(test_kv_cache__the_last_holder_of_a_shared_page_keeps_it),
        cmocka_unit_test(test_kv_cache__truncate_keeps_the_promise),
        cmocka_unit_test(test_kv_cache__a_windowed_group_keeps_its_window_and_promises_no_more),
        cmocka_unit_test(test_kv_cache__a_chunked_group_forgets_at_each_chunk),
        cmocka_unit_test(test_kv_cache__a_view_holds_the_tables_of_its_sequences_in_order),
        cmocka_unit_test(test_kv_cache__memory_below_one_page_is_refused_with_numbers),
        cmocka_unit_test(test_kv_cache__windowed_groups_leave_their_memory_to_the_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
