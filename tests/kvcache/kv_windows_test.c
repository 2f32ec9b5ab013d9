/* The search for a place of a prefix that has its windows: what it finds, and what it costs where
 * they have given way. */
#include "asker_fixture.h"
#include "kvcache/prefix_tree.h"

#define N_PAGES 249 /* of a text that is known as a whole */
#define N_OTHERS 20

static uint32_t n_looked;

node_id __real_prefix_tree_find(const struct prefix_tree *tree, const struct page_key *key);

node_id __wrap_prefix_tree_find(const struct prefix_tree *tree, const struct page_key *key)
{
    n_looked++;
    return __real_prefix_tree_find(tree, key);
}

static void read_text(struct cache_scene *scene, uint32_t which, uint32_t n)
{
    const uint32_t *ids = text_of(which, 0);
    struct asker asker = ask_salted(scene, ids, n, 0, no_salt);
    read_on(scene, &asker, ids, n);
    leave(scene, &asker);
}

/* A text of which all pages are known, and in a group that slides the window before page `end`
 * alone; 0: none. */
static struct kv_match match_with_window_at(uint32_t end)
{
    struct kv_group_spec groups[] = {cache_group(KV_FULL, 0), cache_group(KV_SLIDING, 128)};
    struct kv_cache_spec spec = cache_spec(400, 2, groups);
    struct asker asker;
    spec.max_sequences = 2; /* 21 pages of windows in all */
    spec.max_context = PROMPT_MAX;
    struct cache_scene scene = cache_scene_open(spec);
    kv_cache_identify(scene.cache, &(struct kv_identity){.n_ranks = 1});
    read_text(&scene, 0, N_PAGES * PAGE_TOKENS);
    for (uint32_t i = 1; i <= N_OTHERS; i++) { /* what was not asked for lately gives way */
        read_text(&scene, i, 300);
        if (end > 0)
            read_text(&scene, 0, end * PAGE_TOKENS + 1);
    }
    struct kv_prefix prefix =
        named(&scene, &asker, text_of(0, 0), N_PAGES * PAGE_TOKENS + 1, no_salt);
    n_looked = 0;
    kv_cache_match(scene.cache, &prefix, &asker.match);
    cache_scene_close(&scene);
    return asker.match;
}

static void test_kv_windows__an_end_at_the_bound_of_the_search_and_one_beyond(void **state)
{
    struct kv_match match = match_with_window_at(N_PAGES - KV_SEARCH_PAGES);
    assert_int_equal(match.n_pages, N_PAGES - KV_SEARCH_PAGES);
    assert_int_equal(match.end, KV_MATCH_WINDOW);
    match = match_with_window_at(N_PAGES - KV_SEARCH_PAGES - 1);
    assert_int_equal(match.n_pages, 0);
}

static void test_kv_windows__a_snapshot_is_found_however_far_it_is(void **state)
{
    uint32_t snapshot = SNAPSHOT_TOKENS / PAGE_TOKENS;
    assert_int_equal(match_with_window_at(2 * snapshot).n_pages, 2 * snapshot);
    assert_int_equal(match_with_window_at(snapshot).n_pages, snapshot);
}

static void test_kv_windows__the_search_ends_early_where_all_have_given_way(void **state)
{
    struct kv_match match = match_with_window_at(0);
    assert_int_equal(match.n_pages, 0);
    assert_int_equal(match.end, KV_MATCH_WINDOW);
    assert_true(n_looked < KV_SEARCH_PAGES + 20); /* of 249: those, 3 snapshots, halvings */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kv_windows__an_end_at_the_bound_of_the_search_and_one_beyond),
        cmocka_unit_test(test_kv_windows__a_snapshot_is_found_however_far_it_is),
        cmocka_unit_test(test_kv_windows__the_search_ends_early_where_all_have_given_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
