#include "quire/v1/quire.pb-c.h"
#include "service/wire.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void test_wire_stats__the_fullest_look_is_told_whole(void **state)
{
    struct engine_stats now = {.n_groups = KV_GROUPS_MAX, .n_holders = STATS_HOLDERS_MAX};
    struct event_tables tables = {.is_there = true, .n_groups = KV_GROUPS_MAX, .n_committed = 7};
    struct wire_stats stats = {.now = &now, .before = &now, .tables = &tables};
    uint8_t out[WIRE_EVENT_BYTES_MAX];
    for (uint32_t g = 0; g < KV_GROUPS_MAX; g++) {
        now.groups[g] = (struct page_group){.kind = "chunked", .dtype = "f16", .n_own = 90 + g};
        tables.tables[g].n_stretches = TABLE_STRETCHES_MAX / KV_GROUPS_MAX;
        tables.tables[g].n_untold = g;
    }
    for (uint32_t i = 0; i < STATS_HOLDERS_MAX; i++)
        now.holders[i] = (struct page_holder){.id = i, .state = "DECODE"};
    for (uint32_t i = 0; i < TABLE_STRETCHES_MAX; i++)
        tables.stretches[i] = (struct page_stretch){.index = i, .n_holders = 2, .is_open = i % 2};

    size_t bytes = wire_pack_stats(out, sizeof out, &stats);
    Quire__V1__Stats *told = quire__v1__stats__unpack(NULL, bytes, out);
    assert_non_null(told);
    assert_int_equal(told->n_groups, KV_GROUPS_MAX);
    assert_int_equal(told->groups[KV_GROUPS_MAX - 1]->own, 90 + KV_GROUPS_MAX - 1);
    assert_int_equal(told->n_sequences, STATS_HOLDERS_MAX);
    assert_int_equal(told->sequences[3]->id, 3);
    assert_int_equal(told->sequence->committed, 7);
    const Quire__V1__SequenceTable *last = told->sequence->tables[KV_GROUPS_MAX - 1];
    assert_int_equal(last->untold, KV_GROUPS_MAX - 1);
    assert_int_equal(last->stretches[last->n_stretches - 1]->index, TABLE_STRETCHES_MAX - 1);
    quire__v1__stats__free_unpacked(told, NULL);

    tables.is_there = false;
    bytes = wire_pack_stats(out, sizeof out, &stats);
    told = quire__v1__stats__unpack(NULL, bytes, out);
    assert_non_null(told);
    assert_null(told->sequence);
    quire__v1__stats__free_unpacked(told, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wire_stats__the_fullest_look_is_told_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
