/* Random histories of appends with two lists under way on a device that runs as late as it may: a
 * list must find the tables that it was given, whatever was enqueued behind it meanwhile.
 *
 *   list n      | zero, copy, tables | put marks | look at marks |    submitted, at most half run
 *   list n + 1          | zero, copy, tables | put marks | look ...   being enqueued
 */
#include "base/status.h"
#include "cache_fixture.h"
#include "late_device_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define N_SEQS 8 /* as cache_spec has them */
#define N_GROUPS 3
#define TOKENS_MAX 900
#define APPEND_MAX 70
#define LOOKS 3 /* at earlier positions, of a sequence in a list */
#define ROWS_MAX (N_SEQS * (APPEND_MAX + LOOKS))
#define N_LISTS 1500
#define OPS_MAX 2048

struct plain {
    bool is_open;
    kv_seq_id seq;
    uint32_t promised, written, committed;
    uint32_t n_under_way; /* lists with tokens of it */
    /* of two that will share n_shared tokens: one reads them, then the other, who waits, forks */
    uint32_t n_shared;
    bool reads, waits;
    struct plain *other; /* of one that reads */
    uint32_t marks[TOKENS_MAX];
};

struct row { /* what a list does at one position, in each group that sees it */
    struct history *history;
    kv_seq_id seq;
    uint32_t position, mark;
    uint32_t seen_from; /* the row that looks: what it cannot see it leaves */
    bool is_put;
};

struct list {
    struct plain *plains[N_SEQS];
    uint32_t ends[N_SEQS]; /* tokens written when it was enqueued */
    uint32_t n_plains, n_rows, n_tokens; /* rows: of its tokens, and of its looks */
    struct row rows[ROWS_MAX];
};

struct history {
    struct device *device;
    struct stream *stream;
    struct kv_cache *cache;
    struct kv_cache_spec spec;
    struct kv_view view;
    struct plain plains[N_SEQS];
    struct list lists[DEVICE_DEPTH_MAX]; /* list i is lists[i % depth] */
    uint32_t n_enqueued, n_retired;
    uint64_t seed;
    uint32_t next_mark;
    uint32_t n_looks, n_forked, n_truncated, n_beside; /* lists enqueued with one under way */
};

static uint32_t roll(struct history *history, uint32_t n)
{
    history->seed = history->seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(history->seed >> 33) % n;
}

static bool sees(const struct kv_group_spec *group, uint32_t from, uint32_t position)
{
    if (group->kind == KV_SLIDING)
        return from - position < group->window;
    return group->kind == KV_FULL || from / group->window == position / group->window;
}

/* As a kernel finds it; memory of this device is the host's. */
static uint32_t *place_of(const struct kv_group_view *group, kv_seq_id seq, uint32_t position)
{
    uint32_t page_idx = position / PAGE_TOKENS, first = group->first_page[seq];
    assert_in_range(page_idx, first, first + group->table_stride - 1);
    page_id page = group->table[(size_t)seq * group->table_stride + page_idx - first];
    assert_int_not_equal(page, PAGE_NONE);
    return (uint32_t *)(group->base + page * group->page_stride) + position % PAGE_TOKENS;
}

static void run_row(void *arg)
{
    const struct row *row = arg;
    for (uint32_t g = 0; g < N_GROUPS; g++) {
        const struct kv_group_view *group = &row->history->view.groups[g];
        if (!sees(&row->history->spec.groups[g], row->seen_from, row->position))
            continue;
        uint32_t *place = place_of(group, row->seq, row->position);
        if (row->is_put)
            *place = row->mark;
        else
            assert_int_equal(*place, row->mark);
    }
}

/* --- lists --- */

static void add_row(struct history *history, struct list *list, const struct plain *plain,
                    uint32_t position, bool is_put)
{
    struct row *row = &list->rows[list->n_rows++];
    assert_in_range(list->n_rows, 1, ROWS_MAX);
    *row = (struct row){.history = history,
                        .seq = plain->seq,
                        .position = position,
                        .mark = plain->marks[position],
                        .seen_from = is_put ? position : plain->written - 1,
                        .is_put = is_put};
    late_stream_call(history->stream, run_row, row);
}

static void append(struct history *history, struct list *list, struct plain *plain)
{
    uint32_t end = plain->reads ? plain->n_shared : plain->promised;
    uint32_t room = end - plain->written, n = roll(history, APPEND_MAX + 1);
    n = n < room ? n : room;
    if (n == 0)
        return;
    kv_cache_append(history->cache, plain->seq, n, history->stream);
    for (uint32_t i = 0; i < n; i++) {
        plain->marks[plain->written] = history->next_mark++;
        add_row(history, list, plain, plain->written++, true);
    }
    for (int i = 0; i < LOOKS; i++, history->n_looks++)
        add_row(history, list, plain, roll(history, plain->written), false);
    plain->n_under_way++;
    list->n_tokens += n;
    list->ends[list->n_plains] = plain->written;
    list->plains[list->n_plains++] = plain;
}

static void enqueue(struct history *history)
{
    struct list *list = &history->lists[history->n_enqueued++ % DEVICE_DEPTH_MAX];
    list->n_plains = list->n_rows = list->n_tokens = 0;
    uint64_t before = stream_n_enqueued(history->stream);
    for (int s = 0; s < N_SEQS; s++)
        if (history->plains[s].is_open && !history->plains[s].waits && roll(history, 3) > 0)
            append(history, list, &history->plains[s]);
    uint64_t n_ops = stream_n_enqueued(history->stream) - before - list->n_rows;
    assert_true(n_ops == 0 || n_ops < kv_cache_ops_max(history->cache, list->n_tokens));
    history->n_beside += stream_n_under_way(history->stream) > 0;
    device_submit(history->stream);
}

/* What a verified step does: all or some of its tokens are accepted, the others may be cut off. */
static void settle(struct history *history, struct plain *plain, uint32_t end)
{
    uint32_t n = end - plain->committed;
    if (--plain->n_under_way == 0)
        n = roll(history, 4) > 0 ? n : roll(history, n + 1);
    kv_cache_commit(history->cache, plain->seq, n);
    plain->committed += n;
    if (plain->n_under_way > 0 || plain->committed == plain->written)
        return;
    kv_cache_truncate(history->cache, plain->seq, plain->committed);
    plain->written = plain->committed;
    history->n_truncated++;
}

static void retire(struct history *history)
{
    assert_int_equal(device_wait(history->stream, NULL, NULL), STATUS_OK);
    struct list *list = &history->lists[history->n_retired++ % DEVICE_DEPTH_MAX];
    for (uint32_t i = 0; i < list->n_plains; i++)
        settle(history, list->plains[i], list->ends[i]);
}

/* --- sequences --- */

static void begin_plain(struct plain *plain, kv_seq_id seq, const struct kv_family *family,
                        bool waits)
{
    *plain = (struct plain){.is_open = true,
                            .seq = seq,
                            .promised = (uint32_t)family->n_promised,
                            .n_shared = (uint32_t)family->n_shared,
                            .reads = family->n_forks > 0 && !waits,
                            .waits = waits};
}

/* One, or one that reads and one that waits. */
static void open_some(struct history *history, struct plain *plain, struct plain *other)
{
    struct kv_family family = {.n_promised = 1 + roll(history, TOKENS_MAX)};
    kv_seq_id seqs[2];
    family.n_forks = other != plain && !other->is_open;
    family.n_shared = family.n_forks > 0 ? roll(history, (uint32_t)family.n_promised) : 0;
    if (kv_cache_open_family(history->cache, &family, seqs, NULL) < 0)
        return;
    begin_plain(plain, seqs[0], &family, false);
    if (family.n_forks > 0)
        begin_plain(other, seqs[1], &family, true);
    plain->other = family.n_forks > 0 ? other : NULL;
}

static void fork_one(struct history *history, struct plain *from)
{
    struct plain *to = from->other;
    kv_seq_id seq = to->seq;
    kv_cache_fork_into(history->cache, from->seq, seq);
    from->reads = false;
    from->other = NULL;
    *to = *from;
    to->seq = seq;
    history->n_forked++;
}

static void close_one(struct history *history, struct plain *plain)
{
    if (plain->other != NULL) /* who waits for it could only wait */
        close_one(history, plain->other);
    kv_cache_close(history->cache, plain->seq);
    plain->is_open = false;
    plain->other = NULL;
}

/* Between two lists, with what no list under way has. */
static void change_one(struct history *history)
{
    struct plain *plain = &history->plains[roll(history, N_SEQS)];
    struct plain *other = &history->plains[roll(history, N_SEQS)];
    if (!plain->is_open)
        open_some(history, plain, other);
    else if (plain->n_under_way > 0 || plain->waits)
        return;
    else if (plain->reads && plain->written == plain->n_shared)
        fork_one(history, plain);
    else if (roll(history, 8) == 0)
        close_one(history, plain);
}

static void assert_sound(struct history *history)
{
    struct why why;
    if (kv_cache_check(history->cache, &why) < 0)
        fail_msg("%s", why.text);
}

static void begin(struct history *history, uint64_t seed)
{
    struct kv_group_spec groups[N_GROUPS] = {
        cache_group(KV_FULL, 0),
        cache_group(KV_SLIDING, 100),
        cache_group(KV_CHUNKED, 128),
    };
    history->spec = cache_spec(60, N_GROUPS, groups);
    history->seed = seed;
    history->next_mark = 1;
    history->device = late_device_open();
    assert_int_equal(kv_cache_create(history->device, &history->spec, &history->cache, NULL),
                     STATUS_OK);
    assert_int_equal(stream_create(history->device, OPS_MAX, &history->stream, NULL), STATUS_OK);
    kv_cache_view(history->cache, &history->view);
}

static void end(struct history *history)
{
    while (stream_n_under_way(history->stream) > 0)
        retire(history);
    for (int s = 0; s < N_SEQS; s++)
        if (history->plains[s].is_open)
            kv_cache_close(history->cache, history->plains[s].seq);
    kv_cache_free(history->cache);
    stream_free(history->stream);
    device_close(history->device);
}

static void test_kv_cache__lists_under_way_find_the_tables_that_they_were_given(void **state)
{
    for (uint64_t seed = 1; seed <= 2; seed++) {
        struct history *history = calloc(1, sizeof *history);
        begin(history, seed);
        for (int i = 0; i < N_LISTS; i++) {
            uint32_t most = device_depth(history->device) - 1 - (roll(history, 4) == 0);
            while (stream_n_under_way(history->stream) > most)
                retire(history);
            for (int c = 0; c < 3; c++)
                change_one(history);
            late_stream_progress(history->stream, roll(history, 400));
            enqueue(history);
            assert_sound(history);
        }
        assert_true(history->n_beside > N_LISTS / 2 && history->n_looks > 5 * N_LISTS);
        assert_true(history->n_forked > N_LISTS / 100 && history->n_truncated > N_LISTS / 20);
        end(history);
        free(history);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kv_cache__lists_under_way_find_the_tables_that_they_were_given),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
