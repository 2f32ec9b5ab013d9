/* What sequences share with those before them: marks that one wrote are read by another. */
#include "asker_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void test_kv_prefix__whole_pages_outlive_their_sequence_and_are_shared(void **state)
{
    struct cache_scene scene = full_scene(20);
    const uint32_t *ids = text_of(0, 0);
    struct asker first = ask(&scene, ids, 300);
    assert_int_equal(first.match.end, KV_MATCH_ABSENT);
    read_on(&scene, &first, ids, 300);
    leave(&scene, &first);
    assert_int_equal(cache_stats(&scene).n_used, 0);
    assert_int_equal(cache_stats(&scene).n_cached, 4); /* 300 tokens: 4 whole pages */
    assert_int_equal(cache_stats(&scene).n_available, 20);

    struct asker second = ask(&scene, ids, 300), third = ask(&scene, ids, 300);

    assert_int_equal(second.match.n_pages, 4);
    assert_int_equal(second.match.end, KV_MATCH_WHOLE);
    assert_marks(&scene, &second, 0, 256);
    for (uint32_t i = 0; i < 4; i++)
        assert_int_equal(cache_page_at(&scene, second.seq, 0, i),
                         cache_page_at(&scene, third.seq, 0, i));
    assert_int_equal(cache_stats(&scene).n_used, 4);
    assert_int_equal(cache_stats(&scene).n_reserved, 4); /* 364 tokens are 6 pages: 2 each */
    leave(&scene, &second);
    leave(&scene, &third);
    cache_scene_close(&scene);
}

static void test_kv_prefix__the_page_of_the_last_token_is_computed(void **state)
{
    struct cache_scene scene = full_scene(20);
    const uint32_t *ids = text_of(0, 0);
    struct asker first = ask(&scene, ids, 256);
    read_on(&scene, &first, ids, 256);
    leave(&scene, &first);

    struct asker same = ask(&scene, ids, 256), longer = ask(&scene, ids, 257);

    assert_int_equal(same.match.n_pages, 3);
    assert_int_equal(same.match.end, KV_MATCH_WHOLE);
    assert_int_equal(longer.match.n_pages, 4);
    read_on(&scene, &same, ids, 256); /* its last page is there already: one of the two goes */
    assert_int_equal(cache_page_at(&scene, same.seq, 0, 3),
                     cache_page_at(&scene, longer.seq, 0, 3));
    read_on(&scene, &same, ids, 320); /* and what it goes on with is remembered behind it */
    leave(&scene, &same);
    leave(&scene, &longer);
    struct asker longest = ask(&scene, ids, 321);
    assert_int_equal(longest.match.n_pages, 5);
    leave(&scene, &longest);
    cache_scene_close(&scene);
}

static void test_kv_prefix__a_match_tells_why_it_ends(void **state)
{
    struct cache_scene scene = full_scene(40);
    const uint32_t *ids = text_of(0, 0);
    struct asker first = ask(&scene, ids, 300);
    read_on(&scene, &first, ids, 300);

    struct asker other = ask(&scene, text_of(1, 130), 300);
    assert_int_equal(other.match.n_pages, 2);
    assert_int_equal(other.match.end, KV_MATCH_DIVERGED);
    struct asker beyond = ask(&scene, text_of(0, 0), 600);
    assert_int_equal(beyond.match.n_pages, 4);
    assert_int_equal(beyond.match.end, KV_MATCH_ABSENT);

    leave(&scene, &first);
    leave(&scene, &other);
    leave(&scene, &beyond);
    cache_scene_close(&scene);
}

static void test_kv_prefix__another_salt_and_other_weights_see_nothing(void **state)
{
    struct cache_scene scene = full_scene(40);
    const uint32_t *ids = text_of(0, 0);
    struct asker first = ask_salted(&scene, ids, 300, 64, "a");
    read_on(&scene, &first, ids, 300);
    leave(&scene, &first);

    struct asker foreign = ask_salted(&scene, ids, 300, 64, "b"),
                 none = ask_salted(&scene, ids, 300, 64, ""),
                 same = ask_salted(&scene, ids, 300, 64, "a");
    assert_int_equal(foreign.match.n_pages, 0);
    assert_int_equal(none.match.n_pages, 0);
    assert_int_equal(same.match.n_pages, 4);
    leave(&scene, &foreign);
    leave(&scene, &none);
    leave(&scene, &same);

    kv_cache_identify(scene.cache, &(struct kv_identity){.n_ranks = 1, .weights = {1, 2, 4}});
    struct asker changed = ask_salted(&scene, ids, 300, 64, "a");
    assert_int_equal(changed.match.n_pages, 0);
    leave(&scene, &changed);
    cache_scene_close(&scene);
}

static void test_kv_prefix__nothing_is_shared_before_the_weights_are_known(void **state)
{
    struct kv_group_spec group = cache_group(KV_FULL, 0);
    struct cache_scene scene = cache_scene_open(cache_spec(20, 1, &group));
    const uint32_t *ids = text_of(0, 0);
    struct asker early = {.seq = cache_must_open(&scene, 300)};
    cache_write(&scene, early.seq, 200, 1);
    kv_cache_match(scene.cache, NULL, &early.match);
    assert_int_equal(early.match.end, KV_MATCH_UNNAMED);

    kv_cache_identify(scene.cache, &(struct kv_identity){.n_ranks = 1});
    named(&scene, &early, ids, 300, no_salt);
    kv_cache_chain(scene.cache, early.seq, &early.root, ids); /* its three pages, all the same */
    cache_assert_sound(&scene);
    read_on(&scene, &early, ids, 290);

    struct asker late = ask(&scene, ids, 300);
    assert_int_equal(late.match.n_pages, 4);
    assert_marks(&scene, &late, 0, 256);
    leave(&scene, &early);
    leave(&scene, &late);
    cache_scene_close(&scene);
}

static void test_kv_prefix__remembered_pages_give_way_and_the_ends_go_first(void **state)
{
    struct cache_scene scene = full_scene(10);
    const uint32_t *ids = text_of(0, 0);
    struct asker first = ask(&scene, ids, 6 * 64);
    read_on(&scene, &first, ids, 6 * 64);
    leave(&scene, &first);
    assert_int_equal(cache_stats(&scene).n_cached, 6);

    const uint32_t *others = text_of(1, 0);
    struct asker second = ask_salted(&scene, others, 7 * 64, 0, no_salt);
    read_on(&scene, &second, others, 7 * 64);
    assert_int_equal(cache_stats(&scene).n_cached, 3);
    assert_int_equal(cache_stats(&scene).n_evicted, 3);
    leave(&scene, &second);

    struct asker third = ask_salted(&scene, text_of(0, 0), 6 * 64, 0, no_salt);
    assert_int_equal(third.match.n_pages, 3);
    assert_marks(&scene, &third, 0, 3 * 64);
    leave(&scene, &third);
    cache_scene_close(&scene);
}

static void test_kv_prefix__what_was_used_longest_ago_goes_first(void **state)
{
    struct cache_scene scene = full_scene(12);
    for (uint32_t which = 0; which < 3; which++) {
        struct asker asker = ask_salted(&scene, text_of(which, 0), 4 * 64, 0, no_salt);
        read_on(&scene, &asker, text_of(which, 0), 4 * 64);
        leave(&scene, &asker);
    }
    for (int i = 0; i < 8; i++) { /* text 0 is the one that people ask for */
        struct asker again = ask_salted(&scene, text_of(0, 0), 4 * 64, 0, no_salt);
        assert_int_equal(again.match.n_pages, 3);
        leave(&scene, &again);
    }
    struct asker last = ask_salted(&scene, text_of(3, 0), 4 * 64, 0, no_salt);
    read_on(&scene, &last, text_of(3, 0), 4 * 64);
    leave(&scene, &last);

    uint32_t n[3];
    for (uint32_t which = 0; which < 3; which++) {
        struct asker asker;
        struct kv_prefix prefix = named(&scene, &asker, text_of(which, 0), 4 * 64, no_salt);
        kv_cache_match(scene.cache, &prefix, &asker.match);
        n[which] = asker.match.n_pages;
    }
    assert_int_equal(n[0], 3);
    assert_true(n[1] + n[2] < 6);
    cache_scene_close(&scene);
}

static void test_kv_prefix__chunked_groups_hit_at_chunks_and_where_a_sequence_ended(void **state)
{
    struct kv_group_spec groups[] = {cache_group(KV_FULL, 0), cache_group(KV_CHUNKED, 512)};
    struct cache_scene scene = scene_of(100, 2, groups);
    const uint32_t *ids = text_of(0, 0);
    struct asker first = ask(&scene, ids, 1300);
    read_on(&scene, &first, ids, 1300);
    leave(&scene, &first);

    struct asker end = ask(&scene, ids, 1300); /* 20 pages: the chunk of 1024 on is all there */
    assert_int_equal(end.match.n_pages, 20);
    assert_marks(&scene, &end, 1024, 1280);
    leave(&scene, &end);
    cache_scene_close(&scene);
}

static void test_kv_prefix__a_window_that_is_gone_ends_a_match_before_it(void **state)
{
    struct kv_group_spec groups[] = {cache_group(KV_FULL, 0), cache_group(KV_CHUNKED, 512)};
    struct kv_cache_spec spec = cache_spec(100, 2, groups);
    spec.max_sequences = 1; /* so that the chunked group has the pages of one window, 13 */
    spec.max_context = PROMPT_MAX;
    struct cache_scene scene = cache_scene_open(spec);
    kv_cache_identify(scene.cache, &(struct kv_identity){.n_ranks = 1});
    const uint32_t *ids = text_of(0, 0);
    struct asker first = ask(&scene, ids, 1536);
    read_on(&scene, &first, ids, 1536);
    leave(&scene, &first);

    struct asker middle = ask(&scene, ids, 1000); /* some pages of 512 on were lent again */
    assert_true(middle.match.n_pages >= 8 && middle.match.n_pages < 15);
    assert_true(middle.match.end == KV_MATCH_WINDOW || middle.match.end == KV_MATCH_ROOM);
    read_on(&scene, &middle, ids, 1000);
    assert_marks(&scene, &middle, 512, 1000);
    leave(&scene, &middle);
    cache_scene_close(&scene);
}

static void test_kv_prefix__sliding_groups_keep_a_window_at_each_snapshot(void **state)
{
    struct kv_group_spec groups[] = {cache_group(KV_FULL, 0), cache_group(KV_SLIDING, 128)};
    struct kv_cache_spec spec = cache_spec(300, 2, groups);
    spec.max_sequences = 2;
    spec.max_append = 128; /* 15 pages of windows in all */
    spec.max_context = PROMPT_MAX;
    struct cache_scene scene = cache_scene_open(spec);
    kv_cache_identify(scene.cache, &(struct kv_identity){.n_ranks = 1});
    const uint32_t *ids = text_of(0, 0);
    struct asker first = ask_salted(&scene, ids, 6000, 0, no_salt);
    read_on(&scene, &first, ids, 6000);
    leave(&scene, &first);

    struct asker at_end = ask_salted(&scene, ids, 6000, 0, no_salt);
    assert_int_equal(at_end.match.n_pages, 93);
    leave(&scene, &at_end);
    struct asker before = ask_salted(&scene, ids, 5000, 0, no_salt);
    assert_true(before.match.n_pages >= SNAPSHOT_TOKENS / 64 && before.match.n_pages < 78);
    assert_int_equal(before.match.end, KV_MATCH_WINDOW);
    leave(&scene, &before);
    cache_scene_close(&scene);
}

static void test_kv_prefix__who_waits_takes_over_what_was_computed_meanwhile(void **state)
{
    struct cache_scene scene = full_scene(20);
    const uint32_t *ids = text_of(0, 0);
    struct asker first = ask(&scene, ids, 300), second = ask(&scene, ids, 300);
    struct kv_family family = {.n_promised = 364};
    struct kv_prefix prefix = named(&scene, &second, ids, 300, no_salt);
    assert_int_equal(cache_stats(&scene).n_reserved, 12);
    read_on(&scene, &first, ids, 300);

    kv_cache_match_again(scene.cache, second.seq, &family, &prefix, scene.stream, &second.match);
    kv_cache_chain(scene.cache, second.seq, &second.root, ids);

    cache_assert_sound(&scene);
    assert_int_equal(second.match.n_pages, 4);
    assert_marks(&scene, &second, 0, 256);
    assert_int_equal(cache_stats(&scene).n_reserved, 1 + 2);
    leave(&scene, &first);
    leave(&scene, &second);
    cache_scene_close(&scene);
}

static void test_kv_prefix__the_answers_of_a_family_go_on_from_the_same_pages(void **state)
{
    struct cache_scene scene = full_scene(40);
    const uint32_t *ids = text_of(0, 0);
    struct asker first = ask(&scene, ids, 300);
    read_on(&scene, &first, ids, 300);
    leave(&scene, &first);

    struct asker asker;
    kv_seq_id seqs[3];
    struct kv_prefix prefix = named(&scene, &asker, ids, 300, no_salt);
    struct kv_family family = {.n_promised = 500, .n_shared = 299, .n_forks = 2};
    kv_cache_match_family(scene.cache, &prefix, &family);
    assert_int_equal(kv_cache_open_family(scene.cache, &family, seqs, NULL), STATUS_OK);
    asker.seq = seqs[0];
    kv_cache_chain(scene.cache, seqs[0], &asker.root, ids);
    assert_int_equal(family.match.n_pages, 4);
    read_on(&scene, &asker, ids, 299);
    for (int i = 1; i < 3; i++)
        kv_cache_fork_into(scene.cache, seqs[0], seqs[i]);
    cache_assert_sound(&scene);
    for (uint32_t i = 0; i < 3; i++) { /* each its own answer */
        asker.seq = seqs[i];
        read_on(&scene, &asker, text_of(i, 300), 420);
        assert_marks(&scene, &asker, 0, 420);
    }
    for (int i = 0; i < 3; i++)
        kv_cache_close(scene.cache, seqs[i]);
    for (uint32_t i = 0; i < 3; i++) {
        struct asker next = ask(&scene, text_of(i, 300), 420);
        assert_int_equal(next.match.n_pages, 6);
        leave(&scene, &next);
    }
    cache_scene_close(&scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kv_prefix__whole_pages_outlive_their_sequence_and_are_shared),
        cmocka_unit_test(test_kv_prefix__the_page_of_the_last_token_is_computed),
        cmocka_unit_test(test_kv_prefix__a_match_tells_why_it_ends),
        cmocka_unit_test(test_kv_prefix__another_salt_and_other_weights_see_nothing),
        cmocka_unit_test(test_kv_prefix__nothing_is_shared_before_the_weights_are_known),
        cmocka_unit_test(test_kv_prefix__remembered_pages_give_way_and_the_ends_go_first),
        cmocka_unit_test(test_kv_prefix__what_was_used_longest_ago_goes_first),
        cmocka_unit_test(test_kv_prefix__chunked_groups_hit_at_chunks_and_where_a_sequence_ended),
        cmocka_unit_test(test_kv_prefix__a_window_that_is_gone_ends_a_match_before_it),
        cmocka_unit_test(test_kv_prefix__sliding_groups_keep_a_window_at_each_snapshot),
        cmocka_unit_test(test_kv_prefix__who_waits_takes_over_what_was_computed_meanwhile),
        cmocka_unit_test(test_kv_prefix__the_answers_of_a_family_go_on_from_the_same_pages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
