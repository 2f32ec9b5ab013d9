/* Pages in memory of the host: copies by key, the one used longest ago gives way. And on a device
 * whose streams run as late as they may: what waits for what. */
#include "base/status.h"
#include "kvcache/kv_host.h"
#include "late_device_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define PAGE_BYTES 256
#define N_PAGES 8 /* of the device */
#define N_SLOTS 37
#define N_KEYS 90

struct scene {
    struct device *device;
    struct stream *steps;
    struct kv_host *host;
    uint8_t *pages[2]; /* of the device, by group; those of the second are twice as large */
};

static struct scene scene_on(struct device *device, uint32_t n_slots)
{
    struct scene scene = {.device = device};
    struct kv_host_spec spec = {.n_groups = 2,
                                .page_bytes = {PAGE_BYTES, 2 * PAGE_BYTES},
                                .n_pages = {N_PAGES, N_PAGES},
                                .n_slots = {n_slots, 3}};
    struct why why = {.text = ""};
    for (int g = 0; g < 2; g++) {
        void *pages;
        assert_int_equal(device_alloc(device, N_PAGES * spec.page_bytes[g], &pages, NULL),
                         STATUS_OK);
        spec.pages[g] = scene.pages[g] = pages;
    }
    if (stream_create(device, 16, &scene.steps, &why) < 0 ||
        kv_host_create(device, &spec, &scene.host, &why) < 0)
        fail_msg("%s", why.text);
    return scene;
}

static struct scene open_scene(uint32_t n_slots)
{
    struct device *device;
    assert_int_equal(
        device_open(&(struct device_options){.n_threads = 1, .strict = true}, &device, NULL),
        STATUS_OK);
    return scene_on(device, n_slots);
}

static void close_scene(struct scene *scene)
{
    kv_host_free(scene->host);
    stream_free(scene->steps);
    for (int g = 0; g < 2; g++)
        device_free(scene->device, scene->pages[g]);
    device_close(scene->device);
}

/* Keys with few first bits, so that many have one home. */
static struct page_key key_of(uint32_t which)
{
    struct page_key key = {{(uint8_t)(which % 5), (uint8_t)(which / 40)}};
    key.bytes[9] = (uint8_t)which;
    return key;
}

static uint8_t *page_of(const struct scene *scene, page_id page)
{
    return scene->pages[0] + page * PAGE_BYTES;
}

static void fill(struct scene *scene, page_id page, uint32_t value)
{
    uint8_t bytes[PAGE_BYTES];
    memset(bytes, (int)value, sizeof bytes);
    assert_int_equal(device_upload(scene->device, page_of(scene, page), bytes, sizeof bytes),
                     STATUS_OK);
}

static void assert_filled(struct scene *scene, page_id page, uint32_t value)
{
    uint8_t bytes[PAGE_BYTES] = {0}, want[PAGE_BYTES];
    memset(want, (int)value, sizeof want);
    device_download(scene->device, bytes, page_of(scene, page), sizeof bytes);
    assert_memory_equal(bytes, want, sizeof want);
}

static void put_page(struct scene *scene, uint32_t which, page_id page)
{
    struct page_key key = key_of(which);
    kv_host_put(scene->host, 0, &key, page);
}

static void put(struct scene *scene, uint32_t which)
{
    page_id page = which % N_PAGES;
    fill(scene, page, which);
    put_page(scene, which, page);
    kv_host_order(scene->host, scene->steps);
}

static bool has(const struct scene *scene, uint32_t which)
{
    struct page_key key = key_of(which);
    return kv_host_has(scene->host, 0, &key);
}

static void get(struct scene *scene, uint32_t which, page_id page)
{
    struct page_key key = key_of(which);
    assert_true(kv_host_hold(scene->host, 0, &key));
    kv_host_get(scene->host, 0, &key, page);
}

static void await(struct scene *scene)
{
    for (int i = 0; !kv_host_is_idle(scene->host); i++)
        assert_true(i < 1000);
}

static void assert_gets(struct scene *scene, uint32_t which)
{
    fill(scene, 1, 0xee);
    get(scene, which, 1);
    kv_host_send(scene->host, scene->steps);
    await(scene);
    assert_filled(scene, 1, which);
}

static void assert_sound(struct scene *scene)
{
    struct why why = {.text = ""};
    if (kv_host_check(scene->host, &why) < 0)
        fail_msg("%s", why.text);
}

/* --- slots --- */

static void test_kv_host__a_page_comes_back_and_its_group_is_told_apart(void **state)
{
    struct scene scene = open_scene(N_SLOTS);
    struct page_key key = key_of(7);
    struct kv_host_stats stats;
    assert_false(has(&scene, 7));
    put(&scene, 7);
    assert_true(has(&scene, 7));
    assert_false(kv_host_has(scene.host, 1, &key));
    assert_false(kv_host_hold(scene.host, 1, &key));
    put(&scene, 8);
    put(&scene, 7); /* is there: no second copy */
    assert_gets(&scene, 7);
    assert_gets(&scene, 8);
    kv_host_read_stats(scene.host, &stats);
    assert_int_equal(stats.n_put, 2);
    assert_int_equal(stats.n_got, 2);
    assert_int_equal(stats.n_used, 2);
    assert_int_equal(stats.n_slots, N_SLOTS + 3);
    assert_sound(&scene);
    close_scene(&scene);
}

static void test_kv_host__one_slot_holds_the_last_page(void **state)
{
    struct scene scene = open_scene(1);
    for (uint32_t which = 0; which < 20; which++) {
        put(&scene, which);
        assert_gets(&scene, which);
        assert_false(which > 0 && has(&scene, which - 1));
        assert_sound(&scene);
    }
    close_scene(&scene);
}

/* Beside the simplest model: when each key was used. */
static void test_kv_host__what_was_used_longest_ago_gives_way(void **state)
{
    struct scene scene = open_scene(N_SLOTS);
    uint32_t used[N_KEYS] = {0}, n_known = 0;
    uint64_t x = 3;
    for (uint32_t now = 1; now <= 2000; now++) {
        x = x * 6364136223846793005u + 1442695040888963407u;
        uint32_t which = (uint32_t)(x >> 33) % N_KEYS, oldest = N_KEYS;
        if (used[which] > 0 && (x >> 40 & 1) != 0) {
            assert_gets(&scene, which);
            used[which] = now;
            continue;
        }
        put(&scene, which);
        n_known += used[which] == 0;
        used[which] = now;
        for (uint32_t i = 0; i < N_KEYS && n_known > N_SLOTS; i++)
            if (used[i] > 0 && (oldest == N_KEYS || used[i] < used[oldest]))
                oldest = i;
        if (oldest < N_KEYS) {
            used[oldest] = 0;
            n_known--;
        }
        for (uint32_t i = 0; i < N_KEYS; i++)
            assert_int_equal(has(&scene, i), used[i] > 0);
        assert_sound(&scene);
    }
    close_scene(&scene);
}

/* Whatever gives way meanwhile; when none is free, that is lost. */
static void test_kv_host__a_slot_that_is_held_is_nobody_else_s_until_its_page_is_here(void **state)
{
    struct scene scene = scene_on(late_device_open(), 2);
    struct kv_host_stats stats;
    put(&scene, 1);
    put(&scene, 2);
    get(&scene, 1, 3);
    put(&scene, 4);
    assert_true(has(&scene, 1) && has(&scene, 4) && !has(&scene, 2));
    get(&scene, 4, 5);
    put(&scene, 6); /* nowhere to go */
    assert_false(has(&scene, 6));
    assert_sound(&scene);
    kv_host_send(scene.host, scene.steps);
    put(&scene, 7);
    assert_true(has(&scene, 1) && has(&scene, 4) && !has(&scene, 7));
    await(&scene);
    assert_filled(&scene, 3, 1);
    assert_filled(&scene, 5, 4);
    put(&scene, 7);
    assert_true(has(&scene, 7) && has(&scene, 4) && !has(&scene, 1));
    kv_host_read_stats(scene.host, &stats);
    assert_int_equal(stats.n_put, 4);
    assert_sound(&scene);
    close_scene(&scene);
}

/* It was to come, and did not: its slot is as before. */
static void test_kv_host__a_slot_that_was_held_for_nothing_is_free_again(void **state)
{
    struct scene scene = open_scene(1);
    struct page_key key = key_of(1);
    put(&scene, 1);
    assert_true(kv_host_hold(scene.host, 0, &key));
    kv_host_send(scene.host, scene.steps);
    await(&scene);
    put(&scene, 2);
    assert_gets(&scene, 2);
    close_scene(&scene);
}

/* --- streams --- */

struct write { /* of a step: the page's bytes are looked at, and changed */
    uint8_t *page;
    uint8_t seen, value;
};

static void run_write(void *arg)
{
    struct write *write = arg;
    write->seen = write->page[PAGE_BYTES - 1];
    memset(write->page, write->value, PAGE_BYTES);
}

static struct write enqueue_write(struct scene *scene, page_id page, struct write *write)
{
    *write = (struct write){.page = page_of(scene, page), .value = 0xaa};
    late_stream_call(scene->steps, run_write, write);
    device_submit(scene->steps);
    return *write;
}

static void pass(struct scene *scene)
{
    assert_int_equal(device_wait(scene->steps, NULL, NULL), STATUS_OK);
}

static void test_kv_host__a_step_writes_behind_the_copies_of_what_was_put(void **state)
{
    struct scene scene = scene_on(late_device_open(), N_SLOTS);
    struct write write;
    for (uint32_t which = 0; which < N_PAGES; which++)
        fill(&scene, which, which);
    for (uint32_t which = 0; which < N_PAGES; which++)
        put_page(&scene, which, which);
    kv_host_order(scene.host, scene.steps);
    for (uint32_t which = 0; which < N_PAGES; which++) {
        enqueue_write(&scene, which, &write);
        pass(&scene);
    }
    for (uint32_t which = 0; which < N_PAGES; which++)
        assert_gets(&scene, which);
    close_scene(&scene);
}

/* More than a list of copies holds. */
static void test_kv_host__many_pages_give_way_at_once(void **state)
{
    struct scene scene = scene_on(late_device_open(), 1000);
    struct write write;
    for (uint32_t which = 0; which < 150; which++) {
        fill(&scene, which % N_PAGES, which);
        put_page(&scene, which, which % N_PAGES);
        if (which % N_PAGES == N_PAGES - 1) { /* the pages are others' again */
            kv_host_order(scene.host, scene.steps);
            enqueue_write(&scene, 0, &write);
            pass(&scene);
        }
    }
    for (uint32_t which = 144; which < 150; which++)
        assert_true(has(&scene, which));
    kv_host_order(scene.host, scene.steps);
    enqueue_write(&scene, 7, &write);
    pass(&scene);
    for (uint32_t which = 0; which < 150; which++)
        assert_gets(&scene, which);
    close_scene(&scene);
}

/* They have left that place, as far as the host knows; a step still reads there. */
static void test_kv_host__pages_come_behind_the_steps_under_way(void **state)
{
    struct scene scene = scene_on(late_device_open(), N_SLOTS);
    struct write write;
    put(&scene, 5);
    fill(&scene, 2, 0x22);
    enqueue_write(&scene, 2, &write);
    get(&scene, 5, 2);
    kv_host_send(scene.host, scene.steps);
    assert_true(kv_host_is_coming(scene.host, 0, 2));
    await(&scene);
    assert_false(kv_host_is_coming(scene.host, 0, 2));
    assert_int_equal(write.seen, 0x22);
    assert_filled(&scene, 2, 5);
    pass(&scene);
    close_scene(&scene);
}

static void test_kv_host__pages_come_behind_what_was_put_from_their_places(void **state)
{
    struct scene scene = scene_on(late_device_open(), N_SLOTS);
    put(&scene, 1);
    fill(&scene, 4, 9);
    put_page(&scene, 9, 4);
    get(&scene, 1, 4);
    kv_host_send(scene.host, scene.steps);
    await(&scene);
    assert_filled(&scene, 4, 1);
    assert_gets(&scene, 9);
    close_scene(&scene);
}

/* Who asked for it is gone, and its page is another's. */
static void test_kv_host__a_step_writes_behind_a_page_that_came_and_gave_way(void **state)
{
    struct scene scene = scene_on(late_device_open(), N_SLOTS);
    struct write write;
    put(&scene, 3);
    get(&scene, 3, 6);
    kv_host_send(scene.host, scene.steps);
    put_page(&scene, 3, 6);
    kv_host_order(scene.host, scene.steps);
    enqueue_write(&scene, 6, &write);
    pass(&scene);
    assert_int_equal(write.seen, 3);
    await(&scene);
    assert_filled(&scene, 6, 0xaa);
    assert_gets(&scene, 3);
    close_scene(&scene);
}

/* A step that takes none of those places does not wait for what is on its way. */
static void test_kv_host__other_steps_go_on_beside_pages_that_come(void **state)
{
    struct scene scene = scene_on(late_device_open(), N_SLOTS);
    struct write write;
    put(&scene, 3);
    fill(&scene, 6, 0x66);
    get(&scene, 3, 6);
    kv_host_send(scene.host, scene.steps);
    put(&scene, 4);
    enqueue_write(&scene, 4, &write);
    pass(&scene);
    assert_filled(&scene, 6, 0x66); /* nobody has asked for it yet */
    await(&scene);
    assert_filled(&scene, 6, 3);
    close_scene(&scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kv_host__a_page_comes_back_and_its_group_is_told_apart),
        cmocka_unit_test(test_kv_host__one_slot_holds_the_last_page),
        cmocka_unit_test(test_kv_host__what_was_used_longest_ago_gives_way),
        cmocka_unit_test(
            test_kv_host__a_slot_that_is_held_is_nobody_else_s_until_its_page_is_here),
        cmocka_unit_test(test_kv_host__a_slot_that_was_held_for_nothing_is_free_again),
        cmocka_unit_test(test_kv_host__a_step_writes_behind_the_copies_of_what_was_put),
        cmocka_unit_test(test_kv_host__many_pages_give_way_at_once),
        cmocka_unit_test(test_kv_host__pages_come_behind_the_steps_under_way),
        cmocka_unit_test(test_kv_host__pages_come_behind_what_was_put_from_their_places),
        cmocka_unit_test(test_kv_host__a_step_writes_behind_a_page_that_came_and_gave_way),
        cmocka_unit_test(test_kv_host__other_steps_go_on_beside_pages_that_come),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
