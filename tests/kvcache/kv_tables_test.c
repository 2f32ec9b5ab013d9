/* Block tables on the device against those of the host: after each send the row of a slot holds the
 * pages of its table and nothing else. */
#include "kvcache/kv_tables.h"

#include "base/status.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define N_SLOTS 4
#define CAPACITY 40

struct scene {
    struct device *device;
    struct stream *stream;
    struct kv_tables tables;
    page_id memory[N_SLOTS][CAPACITY];
    struct page_table slots[N_SLOTS];
    uint32_t random;
};

static void scene_open(struct scene *scene)
{
    struct device_options options = {.n_threads = 1, .isa = ISA_SCALAR};
    *scene = (struct scene){.random = 1};
    assert_int_equal(device_open(&options, &scene->device, NULL), STATUS_OK);
    assert_int_equal(stream_create(scene->device, 8, &scene->stream, NULL), STATUS_OK);
    assert_int_equal(kv_tables_init(&scene->tables, scene->device, N_SLOTS, CAPACITY, NULL),
                     STATUS_OK);
    for (int s = 0; s < N_SLOTS; s++)
        page_table_init(&scene->slots[s], scene->memory[s], CAPACITY);
}

static void scene_close(struct scene *scene)
{
    kv_tables_release(&scene->tables);
    stream_free(scene->stream);
    device_close(scene->device);
}

static uint32_t roll(struct scene *scene, uint32_t n)
{
    scene->random = scene->random * 1664525u + 1013904223u;
    return (scene->random >> 8) % n;
}

/* Sends a slot's table and waits; returns the copies that it took. */
static uint64_t send(struct scene *scene, uint32_t slot)
{
    uint64_t before = stream_n_enqueued(scene->stream);
    kv_tables_send(&scene->tables, slot, &scene->slots[slot], scene->stream);
    uint64_t n_copies = stream_n_enqueued(scene->stream) - before;
    device_submit(scene->stream);
    assert_int_equal(device_wait(scene->stream, NULL, NULL), STATUS_OK);
    return n_copies;
}

static void assert_row(struct scene *scene, uint32_t slot)
{
    const struct page_table *table = &scene->slots[slot];
    uint32_t first;
    page_id row[CAPACITY];
    device_download(scene->device, &first, kv_tables_first_page(&scene->tables) + slot,
                    sizeof first);
    device_download(scene->device, row, kv_tables_pages(&scene->tables) + slot * CAPACITY,
                    sizeof row);
    assert_int_equal(first, table->first_page);
    for (uint32_t i = 0; i < CAPACITY; i++)
        assert_int_equal(row[i], i < table->n_pages ? table->pages[i] : PAGE_NONE);
}

static void test_kv_tables__new_pages_go_in_one_copy(void **state)
{
    struct scene scene;
    scene_open(&scene);
    struct page_table *table = &scene.slots[1];
    for (page_id page = 5; page < 12; page++)
        page_table_push(table, page);
    assert_int_equal(send(&scene, 1), 1);
    assert_row(&scene, 1);
    assert_int_equal(send(&scene, 1), 0);

    page_table_push(table, 3);
    assert_int_equal(send(&scene, 1), 1);
    assert_row(&scene, 1);
    scene_close(&scene);
}

static void test_kv_tables__a_window_that_moves_takes_its_first_page_along(void **state)
{
    struct scene scene;
    scene_open(&scene);
    struct page_table *table = &scene.slots[2];
    for (page_id page = 0; page < 4; page++)
        page_table_push(table, page);
    send(&scene, 2);

    page_table_drop(table);
    page_table_drop(table);
    assert_int_equal(send(&scene, 2), KV_TABLES_OPS_MAX);
    assert_row(&scene, 2);
    assert_int_equal(send(&scene, 2), 0);
    scene_close(&scene);
}

/* The slots of two sequences after a fork: one, and then the other, writes into the last page. */
static void test_kv_tables__a_fork_is_sent_whole_and_its_own_page_alone(void **state)
{
    struct scene scene;
    scene_open(&scene);
    for (page_id page = 0; page < 6; page++)
        page_table_push(&scene.slots[0], page);
    send(&scene, 0);

    page_table_share(&scene.slots[0], &scene.slots[3]);
    page_table_own_last(&scene.slots[3], 20);
    assert_int_equal(send(&scene, 3), 1);
    assert_row(&scene, 3);
    page_table_own_last(&scene.slots[0], 5); /* the last holder keeps the page */
    assert_int_equal(send(&scene, 0), 0);
    assert_row(&scene, 0);
    scene_close(&scene);
}

/* One step of a random life of a slot. */
static void change(struct scene *scene, struct page_table *table)
{
    switch (roll(scene, 8)) {
    case 0:
        page_table_clear(table);
        return;
    case 1:
        if (table->n_pages > 0)
            page_table_drop(table);
        return;
    case 2:
        while (page_table_n_own(table) > 0 && roll(scene, 3) > 0)
            page_table_pop(table);
        return;
    case 3:
        if (table->n_pages > 0 && table->own_from == page_table_end(table))
            page_table_own_last(table, roll(scene, 1000));
        return;
    case 4: {
        struct page_table *other = &scene->slots[roll(scene, N_SLOTS)];
        if (other != table) {
            page_table_clear(table);
            page_table_share(other, table);
        }
        return;
    }
    default:
        for (uint32_t n = roll(scene, 5); n > 0 && table->n_pages < CAPACITY; n--)
            page_table_push(table, roll(scene, 1000));
    }
}

static void test_kv_tables__rows_follow_random_tables(void **state)
{
    struct scene scene;
    struct why why = {.text = ""};
    scene_open(&scene);
    for (int i = 0; i < 4000; i++) {
        uint32_t slot = roll(&scene, N_SLOTS);
        for (uint32_t n = roll(&scene, 4); n > 0; n--)
            change(&scene, &scene.slots[slot]);
        if (kv_tables_check(&scene.tables, slot, &scene.slots[slot], &why) < 0)
            fail_msg("%s", why.text);
        assert_in_range(send(&scene, slot), 0, KV_TABLES_OPS_MAX);
        assert_row(&scene, slot);
    }
    scene_close(&scene);
}

static void test_kv_tables__check_finds_what_was_changed_and_not_sent(void **state)
{
    struct scene scene;
    struct why why;
    scene_open(&scene);
    struct page_table *table = &scene.slots[1];
    for (page_id page = 5; page < 8; page++)
        page_table_push(table, page);
    send(&scene, 1);
    assert_int_equal(kv_tables_check(&scene.tables, 1, table, &why), STATUS_OK);

    table->pages[2] = 9;
    assert_int_equal(kv_tables_check(&scene.tables, 1, table, &why), STATUS_INTERNAL);
    assert_string_equal(why.text, "slot 1: entry 2 is page 9, sent was 7");
    table->pages[2] = 7;
    table->first_page = 1;
    assert_int_equal(kv_tables_check(&scene.tables, 1, table, &why), STATUS_INTERNAL);
    table->first_page = 0;
    table->n_sent = 4;
    assert_int_equal(kv_tables_check(&scene.tables, 1, table, &why), STATUS_INTERNAL);
    scene_close(&scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kv_tables__new_pages_go_in_one_copy),
        cmocka_unit_test(test_kv_tables__a_window_that_moves_takes_its_first_page_along),
        cmocka_unit_test(test_kv_tables__a_fork_is_sent_whole_and_its_own_page_alone),
        cmocka_unit_test(test_kv_tables__rows_follow_random_tables),
        cmocka_unit_test(test_kv_tables__check_finds_what_was_changed_and_not_sent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
