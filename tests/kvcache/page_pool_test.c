#include "kvcache/page_pool.h"

#include "base/status.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

struct scene {
    struct device *device;
    struct page_pool *pool;
};

static struct scene pool_of(uint32_t n_pages)
{
    struct scene scene;
    struct why why;
    assert_int_equal(device_open(&(struct device_options){.n_threads = 1, .isa = ISA_SCALAR},
                                 &scene.device, &why),
                     STATUS_OK);
    assert_int_equal(page_pool_create(scene.device, n_pages, 4096, &scene.pool, &why), STATUS_OK);
    return scene;
}

static void close_scene(struct scene *scene)
{
    page_pool_free(scene->pool);
    device_close(scene->device);
}

static page_id acquire(struct page_pool *pool)
{
    assert_int_equal(page_pool_reserve(pool, 1), STATUS_OK);
    return page_pool_acquire(pool);
}

static void test_page_pool__a_shared_page_outlives_its_first_owner(void **state)
{
    struct scene scene = pool_of(2);
    page_id page = acquire(scene.pool);
    page_pool_share(scene.pool, page);
    assert_int_equal(page_pool_refs(scene.pool, page), 2);

    assert_false(page_pool_release(scene.pool, page));
    assert_int_equal(page_pool_n_free(scene.pool), 1);
    assert_true(page_pool_release(scene.pool, page));
    assert_int_equal(page_pool_n_free(scene.pool), 2);

    close_scene(&scene);
}

static void
test_page_pool__a_promise_beyond_what_is_free_is_refused_and_changes_nothing(void **state)
{
    struct scene scene = pool_of(3);
    assert_int_equal(page_pool_reserve(scene.pool, 2), STATUS_OK);

    assert_int_equal(page_pool_reserve(scene.pool, 2), STATUS_EXHAUSTED);

    assert_int_equal(page_pool_n_available(scene.pool), 1);
    assert_int_equal(page_pool_n_reserved(scene.pool), 2);
    page_pool_unreserve(scene.pool, 2);
    close_scene(&scene);
}

static void test_page_pool__every_page_is_lent_once(void **state)
{
    struct scene scene = pool_of(5);
    bool seen[5] = {false};
    struct why why;
    assert_int_equal(page_pool_reserve(scene.pool, 5), STATUS_OK);

    for (int i = 0; i < 5; i++) {
        page_id page = page_pool_acquire(scene.pool);
        assert_true(page < 5 && !seen[page]);
        seen[page] = true;
        assert_int_equal(page_pool_check(scene.pool, &why), STATUS_OK);
    }

    assert_int_equal(page_pool_n_free(scene.pool), 0);
    for (page_id page = 0; page < 5; page++)
        page_pool_release(scene.pool, page);
    close_scene(&scene);
}

/* So pages in use stay few and warm. */
static void test_page_pool__what_came_back_last_is_lent_first_and_then_the_lowest_that_never_was(
    void **state)
{
    struct scene scene = pool_of(4);
    struct why why;

    assert_int_equal(acquire(scene.pool), 0);
    assert_int_equal(acquire(scene.pool), 1);
    page_pool_release(scene.pool, 0);
    page_pool_release(scene.pool, 1);
    assert_int_equal(acquire(scene.pool), 1);
    assert_int_equal(acquire(scene.pool), 0);
    assert_int_equal(acquire(scene.pool), 2);
    page_pool_release(scene.pool, 0);
    assert_int_equal(page_pool_check(scene.pool, &why), STATUS_OK);
    assert_int_equal(acquire(scene.pool), 0);
    assert_int_equal(acquire(scene.pool), 3);
    assert_int_equal(page_pool_n_free(scene.pool), 0);
    for (page_id page = 0; page < 4; page++)
        page_pool_release(scene.pool, page);
    assert_int_equal(page_pool_check(scene.pool, &why), STATUS_OK);
    close_scene(&scene);
}

static void test_page_pool__too_much_memory_is_refused_with_numbers(void **state)
{
    struct scene scene = pool_of(1);
    struct page_pool *pool = NULL;
    struct why why;

    int status = page_pool_create(scene.device, 1u << 30, 1u << 24, &pool, &why);

    assert_int_equal(status, STATUS_NO_MEMORY);
    assert_null(pool);
    assert_non_null(strstr(why.text, "--kv-memory"));
    close_scene(&scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_page_pool__a_shared_page_outlives_its_first_owner),
        cmocka_unit_test(
            test_page_pool__a_promise_beyond_what_is_free_is_refused_and_changes_nothing),
        cmocka_unit_test(test_page_pool__every_page_is_lent_once),
        cmocka_unit_test(
            test_page_pool__what_came_back_last_is_lent_first_and_then_the_lowest_that_never_was),
        cmocka_unit_test(test_page_pool__too_much_memory_is_refused_with_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
