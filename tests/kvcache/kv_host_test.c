/* Pages in memory of the host: copies by key, the one used longest ago gives way. */
#include "base/status.h"
#include "kvcache/kv_host.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define PAGE_BYTES 256
#define N_SLOTS 37
#define N_KEYS 90

struct scene {
    struct device *device;
    struct kv_host *host;
    void *page; /* of the device */
};

static struct scene open_scene(uint32_t n_slots)
{
    struct device_options options = {.n_threads = 1, .strict = true};
    struct kv_host_spec spec = {
        .n_groups = 2, .page_bytes = {PAGE_BYTES, 2 * PAGE_BYTES}, .n_slots = {n_slots, 3}};
    struct scene scene;
    struct why why = {.text = ""};
    if (device_open(&options, &scene.device, &why) < 0 ||
        kv_host_create(scene.device, &spec, &scene.host, &why) < 0 ||
        device_alloc(scene.device, PAGE_BYTES, &scene.page, &why) < 0)
        fail_msg("%s", why.text);
    return scene;
}

static void close_scene(struct scene *scene)
{
    kv_host_free(scene->host);
    device_free(scene->device, scene->page);
    device_close(scene->device);
}

/* Keys with few first bits, so that many have one home. */
static struct page_key key_of(uint32_t which)
{
    struct page_key key = {{(uint8_t)(which % 5), (uint8_t)(which / 40)}};
    key.bytes[9] = (uint8_t)which;
    return key;
}

static void put(struct scene *scene, uint32_t which)
{
    uint8_t bytes[PAGE_BYTES];
    struct page_key key = key_of(which);
    memset(bytes, (int)which, sizeof bytes);
    assert_int_equal(device_upload(scene->device, scene->page, bytes, sizeof bytes), STATUS_OK);
    kv_host_put(scene->host, 0, &key, scene->page);
    assert_int_equal(kv_host_flush(scene->host), STATUS_OK);
}

static void assert_gets(struct scene *scene, uint32_t which)
{
    uint8_t bytes[PAGE_BYTES] = {0}, want[PAGE_BYTES];
    struct page_key key = key_of(which);
    memset(want, (int)which, sizeof want);
    assert_int_equal(device_upload(scene->device, scene->page, bytes, sizeof bytes), STATUS_OK);
    kv_host_get(scene->host, 0, &key, scene->page);
    assert_int_equal(kv_host_flush(scene->host), STATUS_OK);
    assert_int_equal(device_download(scene->device, bytes, scene->page, sizeof bytes), STATUS_OK);
    assert_memory_equal(bytes, want, sizeof want);
}

static void assert_sound(struct scene *scene)
{
    struct why why = {.text = ""};
    if (kv_host_check(scene->host, &why) < 0)
        fail_msg("%s", why.text);
}

static void test_kv_host__a_page_comes_back_and_its_group_is_told_apart(void **state)
{
    struct scene scene = open_scene(N_SLOTS);
    struct page_key key = key_of(7);
    struct kv_host_stats stats;
    assert_false(kv_host_has(scene.host, 0, &key));
    put(&scene, 7);
    assert_true(kv_host_has(scene.host, 0, &key));
    assert_false(kv_host_has(scene.host, 1, &key));
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
        struct page_key before = key_of(which - 1);
        put(&scene, which);
        assert_gets(&scene, which);
        assert_false(which > 0 && kv_host_has(scene.host, 0, &before));
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
        for (uint32_t i = 0; i < N_KEYS; i++) {
            struct page_key key = key_of(i);
            assert_int_equal(kv_host_has(scene.host, 0, &key), used[i] > 0);
        }
        assert_sound(&scene);
    }
    close_scene(&scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kv_host__a_page_comes_back_and_its_group_is_told_apart),
        cmocka_unit_test(test_kv_host__one_slot_holds_the_last_page),
        cmocka_unit_test(test_kv_host__what_was_used_longest_ago_gives_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
