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

    assert_false(kv_cache_family_fits_now(scene.cache, &(struct kv_family){.n_promised = 1}));
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
    kv_seq_id seqs[2];
    cache_fork(&scene, 200, 100, 1, seqs);
    kv_seq_id parent = seqs[0], child = seqs[1];

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
    kv_seq_id seqs[2];
    cache_fork(&scene, 64, 10, 1, seqs);
    kv_seq_id parent = seqs[0], child = seqs[1];
    page_id page = cache_page_at(&scene, parent, 0, 0);
    kv_cache_close(scene.cache, parent);

    cache_write(&scene, child, 1, 5);

    assert_int_equal(cache_page_at(&scene, child, 0, 0), page);
    assert_int_equal(cache_stats(&scene).n_used, 1);
    assert_int_equal(cache_stats(&scene).n_reserved, 0);
    kv_cache_close(scene.cache, child);
    cache_scene_close(&scene);
}

static void test_kv_cache__a_group_with_a_window_takes_bytes_for_that_alone(void **state)
{
    struct kv_group_spec groups[] = {cache_group(KV_FULL, 0), cache_group(KV_CHUNKED, 128)};
    struct cache_scene scene = cache_scene_open(cache_spec(60, 2, groups));
    const struct kv_family short_one = {.n_promised = 128}, long_one = {.n_promised = 3000};

    /* a chunk, and an append of 200 at any place */
    uint64_t n_window = (128 - 1 + 200 + 62) / 64 + 1;
    assert_int_equal(kv_cache_family_bytes(scene.cache, &short_one), (2 + 2) * scene.page_bytes);
    assert_int_equal(kv_cache_family_bytes(scene.cache, &long_one),
                     (47 + n_window) * scene.page_bytes);
    cache_scene_close(&scene);
}

/* Of a cache so small that both groups have as many pages: what is free is what a promise wants. */
static void test_kv_cache__the_group_that_sees_everything_tells_its_pages(void **state)
{
    struct kv_group_spec groups[] = {cache_group(KV_SLIDING, 64), cache_group(KV_FULL, 0)};
    struct cache_scene scene = cache_scene_open(cache_spec(40, 2, groups));
    kv_seq_id seq = cache_must_open(&scene, 64 * 30);
    assert_int_equal(cache_stats(&scene).n_pages, 40);
    assert_int_equal(cache_stats(&scene).n_available, 10);
    for (uint32_t i = 0; i < 5; i++)
        cache_write(&scene, seq, 128, 1 + 128 * i);
    assert_int_equal(cache_stats(&scene).n_used, 10);
    kv_cache_close(scene.cache, seq);
    cache_scene_close(&scene);
}

/* 300 tokens are 5 pages; of the 2 and a bit that are shared each has its own copy of the bit. */
static void test_kv_cache__a_family_is_promised_whole_and_shares_what_was_read(void **state)
{
    const struct kv_family family = {.n_promised = 300, .n_shared = 130, .n_forks = 2};
    kv_seq_id seqs[3];
    struct cache_scene scene = full_cache(11);
    assert_int_equal(kv_cache_family_pages(scene.cache, &family), 6 + 3 + 3);
    assert_false(kv_cache_family_fits_ever(scene.cache, &family));
    struct why why = {.text = ""};
    assert_int_equal(kv_cache_open_family(scene.cache, &family, seqs, &why), STATUS_TOO_LARGE);
    assert_non_null(strstr(why.text, "300 tokens of 3 sequences need 12 pages"));
    assert_non_null(strstr(why.text, "11 of 11 are free"));
    assert_int_equal(cache_stats(&scene).n_available, 11);
    cache_scene_close(&scene);

    scene = full_cache(12);
    assert_int_equal(kv_cache_open_family(scene.cache, &family, seqs, NULL), STATUS_OK);
    assert_int_equal(cache_stats(&scene).n_available, 0);
    cache_write(&scene, seqs[0], 130, 1);
    cache_assert_sound(&scene);
    kv_cache_fork_into(scene.cache, seqs[0], seqs[1]);
    kv_cache_fork_into(scene.cache, seqs[0], seqs[2]);
    cache_assert_sound(&scene);
    assert_int_equal(cache_stats(&scene).n_used, 3);
    for (uint32_t i = 3; i-- > 0;)
        cache_write(&scene, seqs[i], 170, 1000 * (i + 1));
    assert_int_equal(cache_stats(&scene).n_used, 2 + 3 * 3);
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(cache_page_at(&scene, seqs[i], 0, 1),
                         cache_page_at(&scene, seqs[0], 0, 1));
        assert_int_equal(mark_at(&scene, seqs[i], 0, 129), 130);
        assert_int_equal(mark_at(&scene, seqs[i], 0, 130), 1000 * (i + 1));
        cache_assert_sound(&scene);
    }
    for (uint32_t i = 0; i < 3; i++)
        kv_cache_close(scene.cache, seqs[i]);
    assert_int_equal(cache_stats(&scene).n_available, 12);
    cache_scene_close(&scene);
}

static void test_kv_cache__a_family_of_all_sequences_and_one_more(void **state)
{
    struct kv_family family = {.n_promised = 64, .n_shared = 10, .n_forks = 8};
    struct cache_scene scene = full_cache(40);
    struct why why = {.text = ""};
    kv_seq_id seqs[9], one = cache_must_open(&scene, 1);
    assert_int_equal(kv_cache_open_family(scene.cache, &family, seqs, &why), STATUS_TOO_LARGE);
    assert_non_null(strstr(why.text, "9 sequences are asked for at once, and there are 8"));
    family.n_forks = 7;
    assert_int_equal(kv_cache_open_family(scene.cache, &family, seqs, &why), STATUS_EXHAUSTED);
    assert_non_null(strstr(why.text, "8 sequences are asked for, and 7 of 8 are free"));
    kv_cache_close(scene.cache, one);
    assert_int_equal(kv_cache_open_family(scene.cache, &family, seqs, &why), STATUS_OK);
    for (uint32_t i = 0; i < 8; i++)
        kv_cache_close(scene.cache, seqs[i]);
    cache_scene_close(&scene);
}

static void test_kv_cache__members_of_a_family_may_leave_before_it_forks(void **state)
{
    const struct kv_family family = {.n_promised = 300, .n_shared = 130, .n_forks = 2};
    struct cache_scene scene = full_cache(12);
    for (uint32_t first = 0; first < 3; first++) {
        kv_seq_id seqs[3];
        assert_int_equal(kv_cache_open_family(scene.cache, &family, seqs, NULL), STATUS_OK);
        cache_write(&scene, seqs[0], 100, 1);
        for (uint32_t i = 0; i < 3; i++) {
            kv_cache_close(scene.cache, seqs[(first + i) % 3]);
            cache_assert_sound(&scene);
        }
        assert_int_equal(cache_stats(&scene).n_available, 12);
    }
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

static void read_row(struct cache_scene *scene, const struct kv_group_view *group, kv_seq_id slot,
                     uint32_t n, page_id *out)
{
    device_download(scene->device, out, group->table + (size_t)slot * group->table_stride,
                    n * sizeof *out);
}

static void test_kv_cache__a_sequence_has_the_row_of_its_id_in_a_view_that_stays(void **state)
{
    struct cache_scene scene = full_cache(10);
    struct kv_view view, later;
    kv_cache_view(scene.cache, &view);
    assert_int_equal(view.n_groups, 1);
    assert_int_equal(view.groups[0].table_stride, 10);
    kv_seq_id a = cache_must_open(&scene, 200), b = cache_must_open(&scene, 64);
    cache_write(&scene, a, 130, 1);
    cache_write(&scene, b, 3, 1);

    page_id row[10], of_b;
    read_row(&scene, &view.groups[0], a, 10, row);
    read_row(&scene, &view.groups[0], b, 1, &of_b);
    for (int i = 0; i < 3; i++)
        assert_true(row[i] < 10 && row[i] != of_b);
    for (int i = 3; i < 10; i++)
        assert_int_equal(row[i], PAGE_NONE);

    kv_cache_close(scene.cache, a);
    kv_cache_close(scene.cache, b);
    kv_cache_view(scene.cache, &later);
    assert_ptr_equal(later.groups[0].table, view.groups[0].table);
    assert_ptr_equal(later.groups[0].first_page, view.groups[0].first_page);
    assert_ptr_equal(later.groups[0].base, view.groups[0].base);
    assert_int_equal(later.groups[0].table_stride, view.groups[0].table_stride);
    cache_scene_close(&scene);
}

static void test_kv_cache__append_sends_what_has_changed_and_no_more(void **state)
{
    struct cache_scene scene = full_cache(10);
    kv_seq_id seq = cache_must_open(&scene, 300);
    uint64_t before = stream_n_enqueued(scene.stream);
    kv_cache_append(scene.cache, seq, 130, scene.stream);
    assert_int_equal(stream_n_enqueued(scene.stream), before + 2); /* zeroed pages, their entries */
    cache_append(&scene, seq, 0);
    kv_cache_commit(scene.cache, seq, 130);

    before = stream_n_enqueued(scene.stream);
    cache_append(&scene, seq, 62); /* fills the page */
    assert_int_equal(stream_n_enqueued(scene.stream), before);
    cache_append(&scene, seq, 1);
    assert_int_equal(stream_n_enqueued(scene.stream), before + 2);

    kv_cache_close(scene.cache, seq);
    cache_scene_close(&scene);
}

static void test_kv_cache__a_slot_that_is_taken_again_forgets_its_pages(void **state)
{
    struct cache_scene scene = full_cache(10);
    struct kv_view view;
    kv_cache_view(scene.cache, &view);
    kv_seq_id first = cache_must_open(&scene, 190);
    cache_write(&scene, first, 190, 1);
    kv_cache_close(scene.cache, first);

    kv_seq_id second = cache_must_open(&scene, 64);
    assert_int_equal(second, first);
    cache_write(&scene, second, 5, 1);

    page_id row[10];
    read_row(&scene, &view.groups[0], second, 10, row);
    assert_true(row[0] < 10);
    for (int i = 1; i < 10; i++)
        assert_int_equal(row[i], PAGE_NONE);
    kv_cache_close(scene.cache, second);
    cache_scene_close(&scene);
}

static void test_kv_cache__padding_has_a_zeroed_page_that_no_sequence_can_get(void **state)
{
    struct kv_group_spec groups[] = {cache_group(KV_FULL, 0), cache_group(KV_SLIDING, 100)};
    struct cache_scene scene = cache_scene_open(cache_spec(10, 2, groups));
    struct kv_view view;
    kv_cache_view(scene.cache, &view);
    kv_seq_id padding = kv_cache_padding(scene.cache);
    assert_int_equal(padding, scene.spec.max_sequences);
    assert_int_equal(cache_stats(&scene).n_available, cache_stats(&scene).n_pages);
    assert_int_equal(cache_stats(&scene).n_sequences, 0);

    uint64_t n_tokens = kv_cache_tokens_max(scene.cache);
    kv_seq_id seq = cache_must_open(&scene, n_tokens);
    for (uint64_t i = 0; i < n_tokens; i += 64)
        cache_write(&scene, seq, 64, 7);
    assert_int_equal(cache_stats(&scene).n_available, 0);

    for (uint32_t g = 0; g < 2; g++) {
        const struct kv_group_view *group = &view.groups[g];
        uint32_t first, bytes[PAGE_TOKENS];
        page_id row[2];
        read_row(&scene, group, padding, 2, row);
        device_download(scene.device, &first, group->first_page + padding, sizeof first);
        assert_int_equal(first, 0);
        assert_int_equal(row[1], PAGE_NONE);
        device_download(scene.device, bytes, group->base + row[0] * group->page_stride,
                        sizeof bytes);
        for (int i = 0; i < PAGE_TOKENS; i++)
            assert_int_equal(bytes[i], 0); /* the sequence wrote 7 and more into all of its own */
    }
    kv_cache_close(scene.cache, seq);
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

    /* window 64 and appends of 200 tokens touch 6 pages at most; 8 sequences, and who reads for a
     * family */
    assert_int_equal(cache_stats(&scene).n_pages, 2000 - 6 * 9);
    assert_int_equal(kv_cache_tokens_max(scene.cache), 64 * (2000 - 6 * 9));

    cache_scene_close(&scene);
}

static void test_kv_cache__a_family_of_all_sequences_has_its_windows(void **state)
{
    struct kv_group_spec groups[] = {cache_group(KV_SLIDING, 64), cache_group(KV_FULL, 0)};
    struct kv_family family = {.n_promised = 4000, .n_shared = 2000};
    struct kv_cache_spec spec = cache_spec(1000, 2, groups);
    spec.max_context = 4000;
    for (spec.max_sequences = 1; spec.max_sequences <= 8; spec.max_sequences++) {
        struct cache_scene scene = cache_scene_open(spec);
        kv_seq_id seqs[8];
        family.n_forks = spec.max_sequences - 1;
        assert_true(kv_cache_family_fits_ever(scene.cache, &family));
        assert_int_equal(kv_cache_open_family(scene.cache, &family, seqs, NULL), STATUS_OK);
        for (uint32_t i = 0; i <= family.n_forks; i++)
            kv_cache_close(scene.cache, seqs[i]);
        cache_scene_close(&scene);
    }
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
        cmocka_unit_test(test_kv_cache__a_group_with_a_window_takes_bytes_for_that_alone),
        cmocka_unit_test(test_kv_cache__the_group_that_sees_everything_tells_its_pages),
        cmocka_unit_test(test_kv_cache__a_family_is_promised_whole_and_shares_what_was_read),
        cmocka_unit_test(test_kv_cache__a_family_of_all_sequences_and_one_more),
        cmocka_unit_test(test_kv_cache__members_of_a_family_may_leave_before_it_forks),
        cmocka_unit_test(test_kv_cache__truncate_keeps_the_promise),
        cmocka_unit_test(test_kv_cache__a_windowed_group_keeps_its_window_and_promises_no_more),
        cmocka_unit_test(test_kv_cache__a_chunked_group_forgets_at_each_chunk),
        cmocka_unit_test(test_kv_cache__a_sequence_has_the_row_of_its_id_in_a_view_that_stays),
        cmocka_unit_test(test_kv_cache__append_sends_what_has_changed_and_no_more),
        cmocka_unit_test(test_kv_cache__a_slot_that_is_taken_again_forgets_its_pages),
        cmocka_unit_test(test_kv_cache__padding_has_a_zeroed_page_that_no_sequence_can_get),
        cmocka_unit_test(test_kv_cache__memory_below_one_page_is_refused_with_numbers),
        cmocka_unit_test(test_kv_cache__windowed_groups_leave_their_memory_to_the_others),
        cmocka_unit_test(test_kv_cache__a_family_of_all_sequences_has_its_windows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
