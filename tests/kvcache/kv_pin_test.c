/* Prefixes that do not give way, and the bounds of that. */
#include "cache_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define N_PAGES 8 /* of a text */

struct text {
    uint32_t ids[N_PAGES * PAGE_TOKENS];
    struct page_key root, keys[N_PAGES];
};

static struct cache_scene scene_of(uint32_t n_pages)
{
    struct kv_group_spec group = cache_group(KV_FULL, 0);
    struct cache_scene scene = cache_scene_open(cache_spec(n_pages, 1, &group));
    kv_cache_identify(scene.cache, &(struct kv_identity){.n_ranks = 1});
    return scene;
}

static struct kv_prefix prefix_of(struct cache_scene *scene, struct text *text, uint32_t which,
                                  uint32_t n_pages)
{
    for (uint32_t i = 0; i < n_pages * PAGE_TOKENS; i++)
        text->ids[i] = which * 1000 + i % 50;
    kv_cache_name_pages(scene->cache, "", 0, text->ids, n_pages, &text->root, text->keys);
    return (struct kv_prefix){.ids = text->ids, .keys = text->keys, .n_pages = n_pages};
}

/* A sequence reads all of a text, or what is not there of it, and ends. */
static uint32_t read_text(struct cache_scene *scene, uint32_t which, uint32_t n_pages)
{
    struct text text;
    kv_seq_id seq;
    struct kv_prefix prefix = prefix_of(scene, &text, which, n_pages);
    struct kv_family family = {.n_promised = (uint64_t)n_pages * PAGE_TOKENS};
    kv_cache_match_family(scene->cache, &prefix, &family);
    assert_int_equal(kv_cache_open_family(scene->cache, &family, &seq, NULL), STATUS_OK);
    kv_cache_chain(scene->cache, seq, &text.root, text.ids);
    for (uint32_t i = family.match.n_pages; i < n_pages; i++) {
        cache_append(scene, seq, PAGE_TOKENS);
        kv_cache_commit_ids(scene->cache, seq, text.ids + (size_t)i * PAGE_TOKENS, PAGE_TOKENS);
    }
    kv_cache_close(scene->cache, seq);
    cache_assert_sound(scene);
    return family.match.n_pages;
}

static int pin(struct cache_scene *scene, uint32_t which, uint32_t n_pages, uint32_t *out,
               struct why *why)
{
    struct text text;
    uint32_t n;
    struct kv_prefix prefix = prefix_of(scene, &text, which, n_pages);
    int status = kv_cache_pin(scene->cache, &prefix, out, &n, why);
    cache_assert_sound(scene);
    return status;
}

static void test_kv_pin__what_is_pinned_stays_and_then_gives_way(void **state)
{
    struct cache_scene scene = scene_of(10);
    uint32_t first;
    read_text(&scene, 0, 3);
    assert_int_equal(pin(&scene, 0, 3, &first, NULL), STATUS_OK);
    assert_int_equal(cache_stats(&scene).n_available, 7);

    for (uint32_t which = 1; which < 5; which++)
        read_text(&scene, which, 7);
    assert_int_equal(read_text(&scene, 0, 3), 3);
    kv_cache_unpin(scene.cache, first);
    assert_int_equal(cache_stats(&scene).n_available, 10);
    for (uint32_t which = 1; which < 5; which++)
        read_text(&scene, which, 8);
    assert_int_equal(read_text(&scene, 0, 3), 0);
    cache_scene_close(&scene);
}

static void test_kv_pin__nothing_there_is_told(void **state)
{
    struct cache_scene scene = scene_of(10);
    struct why why = {.text = ""};
    uint32_t ignored;
    assert_int_equal(pin(&scene, 3, 2, &ignored, &why), STATUS_NOT_FOUND);
    cache_scene_close(&scene);
}

static void test_kv_pin__half_of_the_pages_and_one_more(void **state)
{
    struct cache_scene scene = scene_of(10);
    struct why why = {.text = ""};
    uint32_t first, second;
    read_text(&scene, 0, 10 / PINNED_SHARE - 1);
    read_text(&scene, 1, 2);
    assert_int_equal(pin(&scene, 0, 10 / PINNED_SHARE - 1, &first, &why), STATUS_OK);
    assert_int_equal(pin(&scene, 1, 1, &second, &why), STATUS_OK);
    kv_cache_unpin(scene.cache, second);
    assert_int_equal(pin(&scene, 1, 2, &second, &why), STATUS_EXHAUSTED);
    assert_non_null(strstr(why.text, "6 pages would be pinned, and 5 of 10 may"));
    kv_cache_unpin(scene.cache, first);
    cache_scene_close(&scene);
}

static void test_kv_pin__pages_that_are_promised_are_not_pinned(void **state)
{
    struct cache_scene scene = scene_of(10);
    struct why why = {.text = ""};
    uint32_t first;
    read_text(&scene, 0, 4);
    kv_seq_id seq = cache_must_open(&scene, 8 * PAGE_TOKENS);
    assert_int_equal(pin(&scene, 0, 4, &first, &why), STATUS_EXHAUSTED);
    assert_non_null(strstr(why.text, "4 pages would be pinned, and 2 are not promised"));
    kv_cache_close(scene.cache, seq);
    cache_scene_close(&scene);
}

static void test_kv_pin__as_many_as_may_be_and_one_more(void **state)
{
    struct cache_scene scene = scene_of(3 * PINS_MAX);
    struct why why = {.text = ""};
    uint32_t pins[PINS_MAX], more;
    read_text(&scene, 0, 1);
    for (uint32_t i = 0; i < PINS_MAX; i++)
        assert_int_equal(pin(&scene, 0, 1, &pins[i], &why), STATUS_OK);
    assert_int_equal(pin(&scene, 0, 1, &more, &why), STATUS_EXHAUSTED);
    assert_non_null(strstr(why.text, "64 prefixes are pinned"));
    for (uint32_t i = 0; i < PINS_MAX; i++)
        kv_cache_unpin(scene.cache, pins[i]);
    cache_assert_sound(&scene);
    cache_scene_close(&scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kv_pin__what_is_pinned_stays_and_then_gives_way),
        cmocka_unit_test(test_kv_pin__nothing_there_is_told),
        cmocka_unit_test(test_kv_pin__half_of_the_pages_and_one_more),
        cmocka_unit_test(test_kv_pin__pages_that_are_promised_are_not_pinned),
        cmocka_unit_test(test_kv_pin__as_many_as_may_be_and_one_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
