#include "cache_fixture.h"

#include "kvcache/kv_look.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define CHUNK 128

static struct cache_scene scene_of_two_groups(void)
{
    struct kv_group_spec groups[] = {cache_group(KV_FULL, 0), cache_group(KV_CHUNKED, CHUNK)};
    return cache_scene_open(cache_spec(20, 2, groups));
}

static struct kv_group_look look_at(const struct cache_scene *scene, uint32_t g)
{
    struct kv_group_look look;
    kv_look_group(scene->cache, g, &look);
    assert_int_equal(look.n_free + look.n_open + look.n_full, look.n_pages);
    assert_true(look.n_reserved <= look.n_free && look.n_own <= look.n_open + look.n_full);
    return look;
}

static void test_kv_look__pages_have_a_state_and_an_owner(void **state)
{
    struct cache_scene scene = scene_of_two_groups();
    kv_seq_id seq = cache_must_open(&scene, 300), seqs[2];
    cache_write(&scene, seq, 140, 1);

    assert_int_equal(kv_look_n_groups(scene.cache), 2);
    struct kv_group_look global = look_at(&scene, 0), chunked = look_at(&scene, 1);
    assert_int_equal(global.n_open, 1);
    assert_int_equal(global.n_full, 2);
    assert_int_equal(global.n_own, 3);
    assert_int_equal(global.n_reserved, 2);
    assert_int_equal(global.page_bytes, scene.page_bytes);
    assert_string_equal(global.dtype, "f32");
    assert_int_equal(chunked.window, CHUNK);
    assert_int_equal(chunked.n_open, 1); /* the first chunk was dropped */
    assert_int_equal(chunked.n_full, 0);

    kv_cache_close(scene.cache, seq);
    cache_fork(&scene, 300, 140, 1, seqs);
    global = look_at(&scene, 0);
    assert_int_equal(global.n_open, 1); /* once, whoever holds it */
    assert_int_equal(global.n_full, 2);
    assert_int_equal(global.n_own, 0);
    cache_write(&scene, seqs[1], 1, 1000);
    global = look_at(&scene, 0);
    assert_int_equal(global.n_open, 2);
    assert_int_equal(global.n_full, 2);

    kv_cache_close(scene.cache, seqs[1]);
    kv_cache_close(scene.cache, seqs[0]);
    assert_int_equal(look_at(&scene, 0).n_free, global.n_pages);
    cache_scene_close(&scene);
}

static void test_kv_look__a_table_is_told_in_stretches_of_pages_that_are_alike(void **state)
{
    struct cache_scene scene = scene_of_two_groups();
    kv_seq_id seqs[2];
    struct kv_stretch stretches[8];
    struct kv_table_look look;
    cache_fork(&scene, 400, 200, 1, seqs);
    kv_seq_id child = seqs[1];
    cache_write(&scene, child, 100, 1000); /* pages 0-2 are shared, 3 and 4 its own */

    kv_look_table(scene.cache, child, 0, stretches, 8, &look);
    assert_int_equal(look.first_page, 0);
    assert_int_equal(look.n_pages, 5);
    assert_int_equal(look.n_untold, 0);
    assert_int_equal(look.n_stretches, 3);
    uint32_t n = 0;
    for (uint32_t i = 0; i < look.n_stretches; i++) {
        assert_int_equal(stretches[i].index, n);
        assert_int_equal(stretches[i].n_holders, i == 0 ? 2 : 1);
        assert_int_equal(stretches[i].is_open, i == 2);
        for (uint32_t k = 0; k < stretches[i].n; k++, n++)
            assert_int_equal(cache_page_at(&scene, child, 0, n), stretches[i].page + k);
    }
    assert_int_equal(n, look.n_pages);
    assert_int_equal(stretches[0].n, 3);

    kv_look_table(scene.cache, child, 1, stretches, 8, &look);
    assert_int_equal(look.first_page, 4); /* of the third chunk */
    assert_int_equal(look.n_pages, 1);
    assert_int_equal(kv_look_promised(scene.cache, child), 400);

    kv_cache_close(scene.cache, child);
    kv_cache_close(scene.cache, seqs[0]);
    cache_scene_close(&scene);
}

static void test_kv_look__as_many_stretches_as_there_is_room_for_and_one_more(void **state)
{
    struct cache_scene scene = scene_of_two_groups();
    kv_seq_id seq = cache_must_open(&scene, 320), other = cache_must_open(&scene, 320);
    struct kv_stretch stretches[5];
    struct kv_table_look look;
    for (uint32_t i = 0; i < 5; i++) { /* side by side: no two of its pages are neighbours */
        cache_write(&scene, seq, 64, 1 + 64 * i);
        cache_write(&scene, other, 64, 1 + 64 * i);
    }

    kv_look_table(scene.cache, seq, 0, stretches, 5, &look);
    assert_int_equal(look.n_stretches, 5);
    assert_int_equal(look.n_untold, 0);
    kv_look_table(scene.cache, seq, 0, stretches, 4, &look);
    assert_int_equal(look.n_stretches, 4);
    assert_int_equal(look.n_untold, 1);
    assert_int_equal(look.n_pages, 5);

    kv_cache_close(scene.cache, other);
    kv_cache_close(scene.cache, seq);
    cache_scene_close(&scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kv_look__pages_have_a_state_and_an_owner),
        cmocka_unit_test(test_kv_look__a_table_is_told_in_stretches_of_pages_that_are_alike),
        cmocka_unit_test(test_kv_look__as_many_stretches_as_there_is_room_for_and_one_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
