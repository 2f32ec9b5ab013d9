#include "cache_fixture.h"

#include "kvcache/kv_group.h"
#include "kernels/cpu/cpu_ops.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static struct cache_scene packed_scene(uint32_t n_pages)
{
    struct kv_group_spec group = cache_packed_group(KV_FULL, 0);
    return cache_scene_open(cache_spec(n_pages, 1, &group));
}

static uint32_t mark_at(struct cache_scene *scene, kv_seq_id seq, uint64_t position)
{
    uint32_t mark = 0;
    assert_true(cache_get(scene, seq, 0, position, &mark));
    return mark;
}

/* Pages of the slot's rows, as the device has them. */
static uint32_t n_rows_of(struct cache_scene *scene, kv_seq_id seq, uint32_t *first)
{
    struct kv_view view;
    kv_cache_view(scene->cache, &view);
    const struct kv_open_view *open = &view.groups[0].open;
    page_id pages[16];
    uint32_t n = 0;
    cache_append(scene, seq, 0);
    assert_true(open->table_stride <= 16);
    device_download(scene->device, first, open->first_page + seq, sizeof *first);
    device_download(scene->device, pages, open->table + (size_t)seq * open->table_stride,
                    open->table_stride * sizeof *pages);
    while (n < open->table_stride && pages[n] != PAGE_NONE)
        n++;
    return n;
}

static void test_kv_open__rows_are_kept_until_their_page_is_committed(void **state)
{
    struct cache_scene scene = packed_scene(8);
    kv_seq_id seq = cache_must_open(&scene, 400);
    uint32_t first;
    cache_append(&scene, seq, 200);
    assert_int_equal(n_rows_of(&scene, seq, &first), 4);
    assert_int_equal(first, 0);
    kv_cache_commit(scene.cache, seq, 63);
    assert_int_equal(n_rows_of(&scene, seq, &first), 4);
    kv_cache_commit(scene.cache, seq, 66);
    assert_int_equal(n_rows_of(&scene, seq, &first), 2);
    assert_int_equal(first, 2);
    kv_cache_truncate(scene.cache, seq, 192);
    kv_cache_commit(scene.cache, seq, 63);
    assert_int_equal(n_rows_of(&scene, seq, &first), 0);
    cache_assert_sound(&scene);
    kv_cache_close(scene.cache, seq);
    cache_scene_close(&scene);
}

/* Guesses that reach over the end of a page and are taken back to within it. */
static void test_kv_open__a_page_whose_end_is_taken_back_is_written_on(void **state)
{
    struct cache_scene scene = packed_scene(8);
    kv_seq_id seq = cache_must_open(&scene, 400);
    cache_write(&scene, seq, 60, 1);
    cache_append(&scene, seq, 10);
    for (uint32_t i = 0; i < 10; i++)
        cache_put(&scene, seq, 0, 60 + i, 1000 + i);
    kv_cache_truncate(scene.cache, seq, 62);
    kv_cache_commit(scene.cache, seq, 2);
    cache_write(&scene, seq, 10, 63);
    for (uint32_t p = 0; p < 72; p++)
        assert_int_equal(mark_at(&scene, seq, p), p == 60 || p == 61 ? 940 + p : p + 1);
    cache_assert_sound(&scene);
    kv_cache_close(scene.cache, seq);
    cache_scene_close(&scene);
}

static void test_kv_open__forks_share_packed_pages_and_copy_rows_alone(void **state)
{
    struct cache_scene scene = packed_scene(8);
    kv_seq_id seqs[2];
    cache_fork(&scene, 150, 100, 1, seqs);
    kv_seq_id seq = seqs[0], fork = seqs[1];
    cache_assert_sound(&scene);
    cache_write(&scene, fork, 50, 501);
    cache_write(&scene, seq, 50, 101);
    cache_assert_sound(&scene);
    assert_int_equal(cache_page_at(&scene, seq, 0, 0), cache_page_at(&scene, fork, 0, 0));
    assert_int_not_equal(cache_page_at(&scene, seq, 0, 1), cache_page_at(&scene, fork, 0, 1));
    for (uint32_t p = 0; p < 150; p++) {
        assert_int_equal(mark_at(&scene, seq, p), p + 1);
        assert_int_equal(mark_at(&scene, fork, p), p < 100 ? p + 1 : p + 401);
    }
    kv_cache_close(scene.cache, seq);
    assert_int_equal(mark_at(&scene, fork, 99), 100);
    kv_cache_close(scene.cache, fork);
    cache_scene_close(&scene);
}

static void test_kv_open__a_packed_sequence_is_cut_at_the_end_of_a_page(void **state)
{
    struct cache_scene scene = packed_scene(8);
    kv_seq_id seq = cache_must_open(&scene, 300);
    cache_write(&scene, seq, 200, 1);
    kv_cache_truncate(scene.cache, seq, 197); /* within the page whose rows are there */
    kv_cache_truncate(scene.cache, seq, 128);
    cache_assert_sound(&scene);
    cache_write(&scene, seq, 100, 1001);
    assert_int_equal(mark_at(&scene, seq, 127), 128);
    assert_int_equal(mark_at(&scene, seq, 128), 1001);
    cache_assert_sound(&scene);
    kv_cache_close(scene.cache, seq);
    cache_scene_close(&scene);
}

/* Each of 8 sequences has a page half full, and all that may be uncommitted on top. */
static void test_kv_open__all_sequences_have_rows_at_once(void **state)
{
    struct kv_group_spec group = cache_packed_group(KV_FULL, 0);
    struct kv_cache_spec spec = cache_spec(64, 1, &group);
    kv_seq_id seqs[8];
    uint64_t bytes = spec.memory_bytes - kv_open_bytes(&cpu_ops, &spec, &group);
    spec.max_uncommitted = 200;
    spec.memory_bytes = bytes + kv_open_bytes(&cpu_ops, &spec, &group);
    struct cache_scene scene = cache_scene_open(spec);
    for (int i = 0; i < 8; i++) {
        seqs[i] = cache_must_open(&scene, 400);
        cache_write(&scene, seqs[i], 63, 1);
    }
    for (int i = 0; i < 8; i++) /* each of them reaches into a page more */
        cache_append(&scene, seqs[i], 25);
    cache_assert_sound(&scene);
    for (int i = 0; i < 8; i++)
        kv_cache_commit(scene.cache, seqs[i], 25);
    cache_append(&scene, seqs[3], 200);
    cache_assert_sound(&scene);
    assert_int_equal(cache_stats(&scene).memory_bytes, spec.memory_bytes);
    for (int i = 0; i < 8; i++)
        kv_cache_close(scene.cache, seqs[i]);
    cache_scene_close(&scene);
}

static void test_kv_open__memory_that_rows_alone_take_is_refused(void **state)
{
    struct kv_group_spec group = cache_packed_group(KV_FULL, 0);
    struct kv_cache_spec spec = cache_spec(1, 1, &group);
    struct device *device;
    struct kv_cache *cache;
    struct why why = {.text = ""};
    assert_int_equal(device_open(&(struct device_options){.n_threads = 1}, &device, &why),
                     STATUS_OK);
    assert_int_equal(kv_cache_create(device, &spec, &cache, &why), STATUS_OK);
    kv_cache_free(cache);
    spec.memory_bytes--;
    assert_int_equal(kv_cache_create(device, &spec, &cache, &why), STATUS_INVALID);
    assert_non_null(strstr(why.text, "--max-sequences"));
    assert_non_null(strstr(why.text, "8 sequences"));
    device_close(device);
}

/* f16, q8 and q4 of the same shape. */
static void test_kv_open__packed_tokens_take_half_and_a_quarter(void **state)
{
    static const enum kv_dtype dtypes[] = {KV_F16, KV_Q8, KV_Q4};
    uint64_t token_bytes[3];
    for (int i = 0; i < 3; i++) {
        struct kv_group_spec group = cache_group(KV_FULL, 0);
        group.shape = (struct kv_shape){.n_kv_heads = 2, .k_dim = 128, .v_dim = 128};
        group.dtype = dtypes[i];
        struct cache_scene scene = cache_scene_open(cache_spec(4, 1, &group));
        token_bytes[i] = cache_stats(&scene).token_bytes;
        assert_int_equal(cache_stats(&scene).n_pages, 4);
        cache_scene_close(&scene);
    }
    assert_int_equal(token_bytes[0], 2 * 512);
    assert_int_equal(token_bytes[1], 2 * (256 + 16 + 8));
    assert_int_equal(token_bytes[2], 2 * (128 + 16 + 8));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kv_open__rows_are_kept_until_their_page_is_committed),
        cmocka_unit_test(test_kv_open__a_page_whose_end_is_taken_back_is_written_on),
        cmocka_unit_test(test_kv_open__forks_share_packed_pages_and_copy_rows_alone),
        cmocka_unit_test(test_kv_open__a_packed_sequence_is_cut_at_the_end_of_a_page),
        cmocka_unit_test(test_kv_open__all_sequences_have_rows_at_once),
        cmocka_unit_test(test_kv_open__memory_that_rows_alone_take_is_refused),
        cmocka_unit_test(test_kv_open__packed_tokens_take_half_and_a_quarter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
