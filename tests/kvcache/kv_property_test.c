/* Thousands of random operations on a cache of four groups, two of them packed, against the
 * simplest cache there is: an array of marks a sequence. */
#include "cache_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define N_SEQS 8
#define TOKENS_MAX 900
#define N_OPERATIONS 9000

struct plain {
    bool is_open;
    kv_seq_id seq;
    uint32_t promised, written, committed, shared;
    /* 0: of none, or forked. One that waits writes nothing; the other n_shared and no more */
    uint32_t family, n_shared;
    bool waits;
    uint32_t marks[TOKENS_MAX];
};

struct history {
    struct cache_scene scene;
    struct plain plains[N_SEQS];
    uint64_t seed;
    uint32_t next_mark;
    uint32_t n_opened, n_refused, n_truncated, n_families, n_born;
};

static uint32_t roll(struct history *history, uint32_t n)
{
    history->seed = history->seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(history->seed >> 33) % n;
}

static uint32_t first_visible(const struct kv_group_spec *group, uint32_t position)
{
    if (group->kind == KV_SLIDING)
        return position < group->window ? 0 : position - group->window + 1;
    return group->kind == KV_CHUNKED ? position - position % group->window : 0;
}

static void assert_reads_back(struct history *history, struct plain *plain, uint32_t stride)
{
    for (uint32_t g = 0; g < history->scene.spec.n_groups; g++) {
        uint32_t from = first_visible(&history->scene.spec.groups[g], plain->committed);
        for (uint32_t p = from + roll(history, stride); p < plain->written; p += stride) {
            uint32_t mark = 0;
            assert_true(cache_get(&history->scene, plain->seq, g, p, &mark));
            assert_int_equal(mark, plain->marks[p]);
        }
    }
}

static void open_one(struct history *history, struct plain *plain)
{
    uint32_t promised = 1 + roll(history, TOKENS_MAX);
    struct kv_family family = {.n_promised = promised};
    bool fits = kv_cache_family_fits_now(history->scene.cache, &family);
    int status = kv_cache_open(history->scene.cache, promised, &plain->seq, NULL);
    assert_int_equal(status == STATUS_OK, fits);
    history->n_opened += status == STATUS_OK;
    history->n_refused += status < 0;
    plain->is_open = status == STATUS_OK;
    plain->promised = promised;
    plain->written = plain->committed = plain->shared = plain->family = 0;
    plain->waits = false;
}

static void open_family(struct history *history)
{
    struct plain *members[4];
    kv_seq_id seqs[4];
    uint32_t n = 0, n_wanted = 2 + roll(history, 3);
    for (uint32_t s = 0; s < N_SEQS && n < n_wanted; s++)
        if (!history->plains[s].is_open)
            members[n++] = &history->plains[s];
    if (n < 2)
        return;
    uint32_t promised = 1 + roll(history, TOKENS_MAX / 2);
    struct kv_family family = {
        .n_promised = promised, .n_shared = roll(history, promised + 1), .n_forks = n - 1};
    struct kv_cache_stats before = cache_stats(&history->scene);
    bool fits = kv_cache_family_fits_now(history->scene.cache, &family);
    int status = kv_cache_open_family(history->scene.cache, &family, seqs, NULL);
    assert_int_equal(status == STATUS_OK, fits);
    history->n_refused += status < 0;
    if (status < 0)
        return;
    history->n_opened++;
    assert_int_equal(before.n_available - cache_stats(&history->scene).n_available,
                     kv_cache_family_pages(history->scene.cache, &family));
    history->n_families++;
    for (uint32_t i = 0; i < n; i++) {
        members[i]->is_open = true;
        members[i]->seq = seqs[i];
        members[i]->promised = promised;
        members[i]->written = members[i]->committed = members[i]->shared = 0;
        members[i]->family = history->n_families;
        members[i]->n_shared = (uint32_t)family.n_shared;
        members[i]->waits = i > 0;
    }
}

static void bear(struct history *history, struct plain *from)
{
    kv_cache_commit(history->scene.cache, from->seq, from->written - from->committed);
    from->committed = from->written;
    for (uint32_t s = 0; s < N_SEQS; s++) {
        struct plain *to = &history->plains[s];
        if (!to->is_open || !to->waits || to->family != from->family)
            continue;
        kv_seq_id seq = to->seq;
        kv_cache_fork_into(history->scene.cache, from->seq, seq);
        *to = *from;
        to->seq = seq;
        to->family = 0;
        history->n_born++;
    }
    from->family = 0;
}

static void append(struct history *history, struct plain *plain)
{
    uint32_t room = (plain->family > 0 ? plain->n_shared : plain->promised) - plain->written;
    uint32_t uncommitted = plain->written - plain->committed;
    uint32_t n = roll(history, 120);
    n = n < room ? n : room;
    n = n < 200 - uncommitted ? n : 200 - uncommitted;
    cache_append(&history->scene, plain->seq, n);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t mark = history->next_mark++;
        plain->marks[plain->written] = mark;
        for (uint32_t g = 0; g < history->scene.spec.n_groups; g++)
            cache_put(&history->scene, plain->seq, g, plain->written, mark);
        plain->written++;
    }
}

static void commit(struct history *history, struct plain *plain)
{
    uint32_t n = roll(history, plain->written - plain->committed + 1);
    kv_cache_commit(history->scene.cache, plain->seq, n);
    plain->committed += n;
}

static void truncate_one(struct history *history, struct plain *plain)
{
    uint32_t n = plain->committed + roll(history, plain->written - plain->committed + 1);
    kv_cache_truncate(history->scene.cache, plain->seq, n);
    plain->written = n;
    history->n_truncated++;
}

static void operate(struct history *history)
{
    struct plain *plain = &history->plains[roll(history, N_SEQS)];
    if (!plain->is_open) {
        if (roll(history, 2) == 0)
            open_family(history);
        else
            open_one(history, plain);
        return;
    }
    if (plain->waits) {
        if (roll(history, 40) == 0) {
            kv_cache_close(history->scene.cache, plain->seq);
            plain->is_open = false;
        }
        return;
    }
    if (plain->family > 0 && plain->written == plain->n_shared) {
        bear(history, plain);
        return;
    }
    switch (roll(history, 12)) {
    case 0:
        assert_reads_back(history, plain, 7);
        kv_cache_close(history->scene.cache, plain->seq);
        plain->is_open = false;
        return;
    case 1:
    case 2:
        truncate_one(history, plain);
        return;
    case 3:
    case 4:
    case 5:
        commit(history, plain);
        return;
    default:
        append(history, plain);
    }
}

static void run_history(uint64_t seed, uint32_t n_operations)
{
    struct kv_group_spec groups[] = {
        cache_group(KV_FULL, 0),
        cache_group(KV_SLIDING, 100),
        cache_packed_group(KV_CHUNKED, 128),
        cache_packed_group(KV_FULL, 0),
    };
    struct history history = {
        .scene = cache_scene_open(cache_spec(44, 4, groups)), .seed = seed, .next_mark = 1};
    for (uint32_t i = 0; i < n_operations; i++) {
        operate(&history);
        cache_assert_sound(&history.scene);
        if (i % 64 == 0)
            for (int s = 0; s < N_SEQS; s++)
                if (history.plains[s].is_open)
                    assert_reads_back(&history, &history.plains[s], 31);
    }
    for (int s = 0; s < N_SEQS; s++)
        if (history.plains[s].is_open) {
            assert_reads_back(&history, &history.plains[s], 1);
            kv_cache_close(history.scene.cache, history.plains[s].seq);
        }
    assert_int_equal(cache_stats(&history.scene).n_available, cache_stats(&history.scene).n_pages);
    assert_true(history.n_opened > n_operations / 100 && history.n_refused > n_operations / 300);
    assert_true(history.n_families > n_operations / 300 && history.n_born > n_operations / 400);
    assert_true(history.n_truncated > n_operations / 20);
    cache_scene_close(&history.scene);
}

static void test_kv_cache__random_histories_read_back_what_each_sequence_wrote(void **state)
{
    for (uint64_t seed = 1; seed <= 3; seed++)
        run_history(seed, N_OPERATIONS / 3);
}

static void test_kv_cache__strict_devices_make_no_difference(void **state)
{
    setenv("QUIRE_STRICT_DEVICE", "1", 1);
    run_history(98, 200);
    unsetenv("QUIRE_STRICT_DEVICE");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kv_cache__random_histories_read_back_what_each_sequence_wrote),
        cmocka_unit_test(test_kv_cache__strict_devices_make_no_difference),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
