/* What gave way comes back out of the host pool, to the mark: on a CPU, and on a device that copies
 * as late as it may. */
#include "asker_fixture.h"
#include "late_device_fixture.h"

#include <stdlib.h>

static bool is_late; /* the device */

static struct cache_scene host_scene(uint32_t n_pages, uint32_t n_host_pages, uint32_t n_groups,
                                     const struct kv_group_spec *groups)
{
    struct kv_cache_spec spec = cache_spec(n_pages, n_groups, groups);
    spec.max_context = PROMPT_MAX;
    spec.max_sequences = 2;
    spec.host_bytes = spec.memory_bytes / n_pages * n_host_pages;
    struct cache_scene scene =
        is_late ? cache_scene_open_on(late_device_open(), spec) : cache_scene_open(spec);
    kv_cache_identify(scene.cache, &(struct kv_identity){.n_ranks = 1, .weights = {1, 2, 3}});
    return scene;
}

/* Reads a text alone and leaves. */
static void compute(struct cache_scene *scene, const uint32_t *ids, uint32_t n)
{
    struct asker asker = ask_salted(scene, ids, n, 0, no_salt);
    read_on(scene, &asker, ids, n);
    leave(scene, &asker);
}

/* What was matched is on the device. */
static void await(struct cache_scene *scene, const struct asker *asker)
{
    for (int i = 0; kv_cache_is_arriving(scene->cache, asker->seq); i++)
        assert_true(is_late && i < 1000);
}

/* Opened, and all that the host has of it. */
static struct asker ask_host(struct cache_scene *scene, const uint32_t *ids, uint32_t n)
{
    struct asker asker = ask_salted(scene, ids, n, 0, no_salt);
    struct kv_family family = {.n_promised = n};
    struct kv_prefix prefix = named(scene, &asker, ids, n, no_salt);
    bool is_more = true;
    for (int i = 0; is_more; i++) {
        assert_true(i < 100);
        is_more = kv_cache_match_again(scene->cache, asker.seq, &family, &prefix, scene->stream,
                                       &asker.match);
        kv_cache_chain(scene->cache, asker.seq, &asker.root, ids);
        cache_assert_sound(scene);
        await(scene, &asker);
    }
    return asker;
}

static void test_kv_recall__a_prefix_that_gave_way_is_not_computed_again(void **state)
{
    struct kv_group_spec group = cache_group(KV_FULL, 0);
    struct cache_scene scene = host_scene(20, 100, 1, &group);
    compute(&scene, text_of(1, 0), 1200);
    compute(&scene, text_of(2, 0), 1200); /* 18 whole pages each */
    assert_int_equal(cache_stats(&scene).n_spilled, 17); /* two were free, 19 are wanted */

    struct asker again = ask_host(&scene, text_of(1, 0), 1200);
    assert_int_equal(again.match.n_pages, 18);
    assert_int_equal(again.match.end, KV_MATCH_WHOLE);
    assert_marks(&scene, &again, 0, 18 * 64);
    assert_int_equal(cache_stats(&scene).n_hit_tokens, 18 * 64);
    read_on(&scene, &again, text_of(1, 0), 1200);
    leave(&scene, &again);
    assert_true(cache_stats(&scene).n_recalled >= 17);
    cache_scene_close(&scene);
}

/* More than comes at once: each time a part of it is the sequence's. */
static void test_kv_recall__a_long_prefix_comes_in_parts(void **state)
{
    struct kv_group_spec group = cache_group(KV_FULL, 0);
    struct cache_scene scene = host_scene(200, 1000, 1, &group);
    uint32_t n = 64 * 150 + 1;
    compute(&scene, text_of(1, 0), n);
    compute(&scene, text_of(2, 0), n);
    struct asker again = ask_salted(&scene, text_of(1, 0), n, 0, no_salt);
    struct kv_family family = {.n_promised = n};
    struct kv_prefix prefix = named(&scene, &again, text_of(1, 0), n, no_salt);
    uint32_t n_parts = 0, before = again.match.n_pages;
    assert_int_equal(before, 49); /* 101 gave way */
    for (bool is_more = true; is_more; n_parts++) {
        is_more = kv_cache_match_again(scene.cache, again.seq, &family, &prefix, scene.stream,
                                       &again.match);
        kv_cache_chain(scene.cache, again.seq, &again.root, text_of(1, 0));
        cache_assert_sound(&scene);
        await(&scene, &again);
        assert_true(again.match.n_pages > before && again.match.n_pages <= before + 64);
        before = again.match.n_pages;
    }
    assert_int_equal(n_parts, 2);
    assert_int_equal(again.match.n_pages, 150);
    assert_marks(&scene, &again, 0, 64 * 150);
    leave(&scene, &again);
    cache_scene_close(&scene);
}

static void test_kv_recall__others_may_not_have_it_under_their_salt(void **state)
{
    struct kv_group_spec group = cache_group(KV_FULL, 0);
    struct cache_scene scene = host_scene(20, 100, 1, &group);
    struct asker ours = ask_salted(&scene, text_of(1, 0), 1200, 0, "ours");
    read_on(&scene, &ours, text_of(1, 0), 1200);
    leave(&scene, &ours);
    compute(&scene, text_of(2, 0), 1200);
    struct asker other = ask_salted(&scene, text_of(1, 0), 1200, 0, "mine");
    struct kv_family family = {.n_promised = 1200};
    struct kv_prefix prefix = named(&scene, &other, text_of(1, 0), 1200, "mine");
    assert_false(kv_cache_match_again(scene.cache, other.seq, &family, &prefix, scene.stream,
                                      &other.match));
    assert_int_equal(other.match.n_pages, 0);
    leave(&scene, &other);
    cache_scene_close(&scene);
}

static void test_kv_recall__a_small_pool_has_the_newest(void **state)
{
    struct kv_group_spec group = cache_group(KV_FULL, 0);
    struct cache_scene scene = host_scene(20, 5, 1, &group);
    for (uint32_t text = 1; text < 6; text++)
        compute(&scene, text_of(text, 0), 1200);
    struct asker newest = ask_host(&scene, text_of(5, 0), 1200);
    assert_int_equal(newest.match.n_pages, 18);
    leave(&scene, &newest);
    struct asker oldest = ask_host(&scene, text_of(1, 0), 1200);
    assert_int_equal(oldest.match.n_pages, 0);
    leave(&scene, &oldest);
    cache_scene_close(&scene);
}

/* What gives way to the first pages takes the slots of the last: the rest is computed. */
static void test_kv_recall__what_comes_may_push_the_rest_out(void **state)
{
    struct kv_group_spec group = cache_group(KV_FULL, 0);
    struct cache_scene scene = host_scene(20, 20, 1, &group);
    compute(&scene, text_of(1, 0), 1200);
    compute(&scene, text_of(2, 0), 1200);
    struct asker again = ask_host(&scene, text_of(1, 0), 1200);
    assert_true(again.match.n_pages >= 8 && again.match.n_pages < 18);
    assert_marks(&scene, &again, 0, again.match.n_pages * 64);
    read_on(&scene, &again, text_of(1, 0), 1200);
    assert_marks(&scene, &again, 0, 1200);
    leave(&scene, &again);
    struct asker once_more = ask_host(&scene, text_of(1, 0), 1200);
    assert_int_equal(once_more.match.n_pages, 18);
    assert_marks(&scene, &once_more, 0, 18 * 64);
    leave(&scene, &once_more);
    cache_scene_close(&scene);
}

/* Its pages are on their way, and another's are written into them. */
static void test_kv_recall__who_leaves_while_pages_come_harms_nobody(void **state)
{
    struct kv_group_spec group = cache_group(KV_FULL, 0);
    struct cache_scene scene = host_scene(20, 100, 1, &group);
    compute(&scene, text_of(1, 0), 1200);
    compute(&scene, text_of(2, 0), 1200);
    struct asker gone = ask_salted(&scene, text_of(1, 0), 1200, 0, no_salt);
    struct kv_family family = {.n_promised = 1200};
    struct kv_prefix prefix = named(&scene, &gone, text_of(1, 0), 1200, no_salt);
    kv_cache_match_again(scene.cache, gone.seq, &family, &prefix, scene.stream, &gone.match);
    assert_int_equal(kv_cache_is_arriving(scene.cache, gone.seq), is_late);
    leave(&scene, &gone);

    struct asker other = ask_salted(&scene, text_of(3, 0), 1200, 0, no_salt);
    read_on(&scene, &other, text_of(3, 0), 1200);
    for (int i = 0; i < 100; i++)
        (void)kv_cache_is_arriving(scene.cache, other.seq);
    assert_marks(&scene, &other, 0, 1200);
    leave(&scene, &other);
    struct asker again = ask_host(&scene, text_of(1, 0), 1200);
    assert_int_equal(again.match.n_pages, 18);
    assert_marks(&scene, &again, 0, 18 * 64);
    leave(&scene, &again);
    cache_scene_close(&scene);
}

/* What it computes is on its way for another: its steps read its own page, not the one to come. */
static void test_kv_recall__who_computes_what_comes_reads_its_own(void **state)
{
    struct kv_group_spec group = cache_group(KV_FULL, 0);
    struct cache_scene scene = host_scene(20, 100, 1, &group);
    compute(&scene, text_of(1, 0), 64 * 4 + 1);
    compute(&scene, text_of(2, 0), 1200); /* three of the four gave way */
    struct asker reader = ask_salted(&scene, text_of(1, 0), 70, 200, no_salt);
    struct asker asker = ask_salted(&scene, text_of(1, 0), 64 * 4 + 1, 0, no_salt);
    struct kv_family family = {.n_promised = 64 * 4 + 1};
    struct kv_prefix prefix = named(&scene, &asker, text_of(1, 0), 64 * 4 + 1, no_salt);
    kv_cache_match_again(scene.cache, asker.seq, &family, &prefix, scene.stream, &asker.match);
    assert_int_equal(asker.match.n_pages, 4);

    read_on(&scene, &reader, text_of(1, 0), 64 * 3);
    assert_marks(&scene, &reader, 0, 64 * 3);
    await(&scene, &asker);
    assert_marks(&scene, &asker, 0, 64 * 4);
    leave(&scene, &reader);
    leave(&scene, &asker);
    cache_scene_close(&scene);
}

/* The text's last window, or the last chunk, comes back with the pages of those who see all. */
static void recall_with(enum kv_kind kind, uint32_t window)
{
    struct kv_group_spec groups[] = {cache_group(KV_FULL, 0), cache_group(kind, window)};
    struct cache_scene scene = host_scene(40, 400, 2, groups);
    uint32_t n = 64 * 12 + 9;
    for (uint32_t text = 1; text < 8; text++)
        compute(&scene, text_of(text, 0), n);
    struct asker again = ask_host(&scene, text_of(1, 0), n);
    assert_int_equal(again.match.n_pages, 12);
    assert_marks(&scene, &again, 64 * 12 - (kind == KV_SLIDING ? window - 1 : 0), 64 * 12);
    read_on(&scene, &again, text_of(1, 0), n);
    leave(&scene, &again);
    assert_true(cache_stats(&scene).n_recalled > 0);
    cache_scene_close(&scene);
}

static void test_kv_recall__a_sliding_window_comes_with_it(void **state)
{
    recall_with(KV_SLIDING, 100);
}

static void test_kv_recall__a_chunk_s_end_needs_no_window(void **state)
{
    recall_with(KV_CHUNKED, 128);
}

/* Of the longer text the nodes are there and its last window is nowhere; of a shorter one it is on
 * the host. Nothing is asked for behind the prompt's last key (which ASan sees). */
static void test_kv_recall__an_end_before_the_last_node_is_as_good(void **state)
{
    struct kv_group_spec groups[] = {cache_group(KV_FULL, 0), cache_group(KV_SLIDING, 100)};
    struct cache_scene scene = host_scene(60, 15, 2, groups);
    uint32_t n = 64 * 9 + 9;
    compute(&scene, text_of(1, 0), n);
    compute(&scene, text_of(1, 0), 64 * 7 + 9);
    for (uint32_t text = 2; text < 10; text++)
        compute(&scene, text_of(text, 0), 64 * 4 + 9);
    struct asker again = ask_salted(&scene, text_of(1, 0), n, 0, no_salt);
    struct kv_family family = {.n_promised = n};
    struct kv_prefix prefix = named(&scene, &again, text_of(1, 0), n, no_salt);
    struct page_key *keys = malloc(9 * sizeof *keys);
    memcpy(keys, prefix.keys, 9 * sizeof *keys);
    prefix.keys = keys;
    kv_cache_match_again(scene.cache, again.seq, &family, &prefix, scene.stream, &again.match);
    free(keys);
    await(&scene, &again);
    assert_int_equal(again.match.n_pages, 7);
    assert_int_equal(cache_stats(&scene).n_recalled, 2);
    assert_marks(&scene, &again, 64 * 7 - 99, 64 * 7);
    leave(&scene, &again);
    cache_scene_close(&scene);
}

static void test_kv_recall__a_pool_of_no_page_is_refused(void **state)
{
    struct kv_group_spec group = cache_group(KV_FULL, 0);
    struct kv_cache_spec spec = cache_spec(20, 1, &group);
    struct cache_scene scene = cache_scene_open(spec);
    struct kv_cache *cache;
    struct why why = {.text = ""};
    spec.host_bytes = 1;
    assert_int_equal(kv_cache_create(scene.device, &spec, &cache, &why), STATUS_INVALID);
    assert_non_null(strstr(why.text, "--host-pool"));
    cache_scene_close(&scene);
}

/* Of a CPU; what a GPU's host can pin is its driver's to say. */
static void test_kv_recall__a_pool_beyond_the_memory_or_for_nothing_is_refused(void **state)
{
    struct kv_group_spec group = cache_group(KV_FULL, 0);
    struct kv_cache_spec spec = cache_spec(20, 1, &group);
    struct cache_scene scene = cache_scene_open(spec);
    struct kv_cache *cache;
    struct why why = {.text = ""};
    spec.host_bytes = 1ull << 50;
    assert_int_equal(kv_cache_create(scene.device, &spec, &cache, &why), STATUS_NO_MEMORY);
    assert_non_null(
        strstr(why.text, "--host-pool 1.0 PiB and the cache of 160.0 KiB are more than the "));
    spec.host_bytes = 1 << 20;
    spec.no_prefixes = true;
    assert_int_equal(kv_cache_create(scene.device, &spec, &cache, &why), STATUS_INVALID);
    assert_non_null(strstr(why.text, "--no-prefix-cache"));
    cache_scene_close(&scene);
}

static int on_late_device(void **state)
{
    is_late = true;
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kv_recall__a_prefix_that_gave_way_is_not_computed_again),
        cmocka_unit_test(test_kv_recall__a_long_prefix_comes_in_parts),
        cmocka_unit_test(test_kv_recall__others_may_not_have_it_under_their_salt),
        cmocka_unit_test(test_kv_recall__a_small_pool_has_the_newest),
        cmocka_unit_test(test_kv_recall__what_comes_may_push_the_rest_out),
        cmocka_unit_test(test_kv_recall__who_leaves_while_pages_come_harms_nobody),
        cmocka_unit_test(test_kv_recall__who_computes_what_comes_reads_its_own),
        cmocka_unit_test(test_kv_recall__a_sliding_window_comes_with_it),
        cmocka_unit_test(test_kv_recall__a_chunk_s_end_needs_no_window),
        cmocka_unit_test(test_kv_recall__an_end_before_the_last_node_is_as_good),
        cmocka_unit_test(test_kv_recall__a_pool_of_no_page_is_refused),
        cmocka_unit_test(test_kv_recall__a_pool_beyond_the_memory_or_for_nothing_is_refused),
    };
    int n_failed = cmocka_run_group_tests_name("cpu", tests, NULL, NULL);
    return n_failed + cmocka_run_group_tests_name("late", tests, on_late_device, NULL);
}
