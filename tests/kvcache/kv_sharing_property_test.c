/* Thousands of random operations of sequences that begin alike, against the simplest model there
 * is: the mark of a position is a digest of the ids up to it, so that whoever holds a page must
 * read there what his own text says, whoever wrote it; and what matches is what somebody wrote. */
#include "cache_fixture.h"
#include "kvcache/kv_relief.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define N_SEQS 8
#define TOKENS_MAX 900
#define TEXTS_MAX 4096
#define N_OPERATIONS 10000
#define PINS 3

struct plain {
    bool is_open, has_own; /* has_own: it wrote something, or was forked */
    kv_seq_id seq;
    uint32_t promised, written, committed, salt, floor; /* floor: never truncated below */
    /* of two that share n_shared tokens: one reads them, and then the other, who waits, forks */
    uint32_t n_shared;
    bool reads, waits;
    struct plain *other; /* of them; NULL: forked, gone, or none */
    uint32_t ids[TOKENS_MAX];
    struct page_key root, keys[TOKENS_MAX / PAGE_TOKENS];
};

struct text { /* somebody computed so much of it under names */
    uint32_t salt, n_pages;
    bool is_sure; /* the tree was told of all its pages */
    uint32_t ids[TOKENS_MAX];
};

struct history {
    struct cache_scene scene;
    struct plain plains[N_SEQS];
    struct text *texts; /* [n_texts] */
    uint32_t n_texts, pins[PINS], n_pins;
    uint64_t seed;
    uint32_t n_opened, n_refused, n_hits, n_forked, n_truncated, n_pinned, n_again,
        n_foretold;
};

static uint32_t roll(struct history *history, uint32_t n)
{
    history->seed = history->seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(history->seed >> 33) % n;
}

/* Few texts, which part at few places. */
static void write_text(struct history *history, struct plain *plain)
{
    uint32_t part = 100 + 150 * roll(history, 4), which = roll(history, 3);
    plain->salt = roll(history, 8) == 0;
    for (uint32_t i = 0; i < TOKENS_MAX; i++)
        plain->ids[i] = i * 31 % 97 + (i >= part ? 1000 * which : 0);
}

static uint32_t mark_of(const struct plain *plain, uint32_t position)
{
    uint32_t mark = 2166136261u + plain->salt;
    for (uint32_t i = 0; i <= position; i++)
        mark = (mark ^ plain->ids[i]) * 16777619u;
    return mark | 1;
}

static uint32_t first_visible(const struct kv_group_spec *group, uint32_t position)
{
    if (group->kind == KV_SLIDING)
        return position < group->window ? 0 : position - group->window + 1;
    return group->kind == KV_CHUNKED ? position - position % group->window : 0;
}

static void assert_reads_back(struct history *history, const struct plain *plain, uint32_t stride)
{
    for (uint32_t g = 0; g < history->scene.spec.n_groups; g++) {
        uint32_t from = first_visible(&history->scene.spec.groups[g], plain->committed);
        for (uint32_t p = from + roll(history, stride); p < plain->written; p += stride) {
            uint32_t mark = 0;
            assert_true(cache_get(&history->scene, plain->seq, g, p, &mark));
            assert_int_equal(mark, mark_of(plain, p));
        }
    }
}

static struct kv_prefix named(struct history *history, struct plain *plain, uint32_t n_ids)
{
    struct kv_prefix prefix = {.ids = plain->ids, .keys = plain->keys};
    prefix.n_pages = (n_ids - 1) / PAGE_TOKENS;
    kv_cache_name_pages(history->scene.cache, &plain->salt, sizeof plain->salt, plain->ids,
                        prefix.n_pages, &plain->root, plain->keys);
    return prefix;
}

/* Pages that the prompt has in common with a text that was computed. */
static uint32_t n_common(const struct history *history, const struct plain *plain, uint32_t n_pages,
                         bool is_sure)
{
    uint32_t most = 0;
    for (uint32_t t = 0; t < history->n_texts; t++) {
        const struct text *text = &history->texts[t];
        uint32_t n = 0;
        while (n < n_pages && n < text->n_pages && text->salt == plain->salt &&
               (text->is_sure || !is_sure) &&
               memcmp(text->ids + n * PAGE_TOKENS, plain->ids + n * PAGE_TOKENS,
                      PAGE_TOKENS * sizeof *text->ids) == 0)
            n++;
        most = n > most ? n : most;
    }
    return most;
}

static void judge_match(const struct history *history, const struct plain *plain,
                        const struct kv_prefix *prefix, const struct kv_match *match)
{
    const struct kv_cache_spec *spec = &history->scene.spec;
    bool is_plain = spec->n_groups == 1 && spec->groups[0].kind == KV_FULL &&
                    cache_stats(&history->scene).n_evicted == 0;
    assert_true(match->n_pages <= n_common(history, plain, prefix->n_pages, false));
    if (is_plain)
        assert_true(match->n_pages >= n_common(history, plain, prefix->n_pages, true));
}

static struct plain *a_closed_one(struct history *history, const struct plain *but)
{
    for (int s = 0; s < N_SEQS; s++)
        if (!history->plains[s].is_open && &history->plains[s] != but)
            return &history->plains[s];
    return NULL;
}

static void open_waiting(struct plain *plain, struct plain *reader, kv_seq_id seq)
{
    *plain = *reader;
    plain->seq = seq;
    plain->written = plain->committed = plain->floor = 0;
    plain->reads = false;
    plain->waits = true;
    plain->other = reader;
    reader->other = plain;
}

static void open_one(struct history *history, struct plain *plain)
{
    struct kv_cache *cache = history->scene.cache;
    write_text(history, plain);
    uint32_t n_prompt = 1 + roll(history, TOKENS_MAX);
    struct kv_family family = {.n_promised = n_prompt + roll(history, TOKENS_MAX - n_prompt + 1)};
    struct plain *other = roll(history, 3) == 0 ? a_closed_one(history, plain) : NULL;
    struct kv_prefix prefix = named(history, plain, n_prompt);
    kv_seq_id seqs[2];
    family.n_forks = other != NULL;
    family.n_shared = other != NULL ? n_prompt - 1 : 0;
    kv_cache_match_family(cache, &prefix, &family);
    judge_match(history, plain, &prefix, &family.match);
    bool fits = kv_cache_family_fits_now(cache, &family);
    int status = kv_cache_open_family(cache, &family, seqs, NULL);
    assert_int_equal(status == STATUS_OK, fits);
    history->n_refused += !fits;
    if (!fits)
        return;
    history->n_opened++;
    history->n_hits += family.match.n_pages > 0;
    plain->is_open = true;
    plain->has_own = plain->waits = false;
    plain->reads = other != NULL;
    plain->other = NULL;
    plain->n_shared = (uint32_t)family.n_shared;
    plain->seq = seqs[0];
    plain->promised = (uint32_t)family.n_promised;
    plain->written = plain->committed = plain->floor = family.match.n_pages * PAGE_TOKENS;
    if (other != NULL)
        open_waiting(other, plain, seqs[1]);
    kv_cache_chain(cache, plain->seq, &plain->root, plain->ids);
    assert_reads_back(history, plain, 5);
}

/* Nothing but its match was written: it looks again, with what others computed meanwhile. */
static void match_again(struct history *history, struct plain *plain)
{
    struct kv_cache *cache = history->scene.cache;
    struct kv_family family = {.n_promised = plain->promised,
                               .n_shared = plain->n_shared,
                               .n_forks = plain->reads};
    struct kv_prefix prefix =
        named(history, plain, family.n_forks > 0 ? plain->n_shared + 1 : plain->promised);
    struct kv_match match;
    kv_cache_match_again(cache, plain->seq, &family, &prefix, history->scene.stream, &match);
    assert_false(kv_cache_is_arriving(cache, plain->seq)); /* a CPU's are here */
    assert_true(match.n_pages * PAGE_TOKENS >= plain->written);
    judge_match(history, plain, &prefix, &match);
    plain->written = plain->committed = plain->floor = match.n_pages * PAGE_TOKENS;
    kv_cache_chain(cache, plain->seq, &plain->root, plain->ids);
    assert_reads_back(history, plain, 11);
    history->n_again++;
}

static void append(struct history *history, struct plain *plain)
{
    uint32_t room = (plain->reads ? plain->n_shared : plain->promised) - plain->written;
    uint32_t n = roll(history, 150), most = 200 - (plain->written - plain->committed);
    n = n < room ? n : room;
    n = n < most ? n : most;
    cache_append(&history->scene, plain->seq, n);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t mark = mark_of(plain, plain->written);
        for (uint32_t g = 0; g < history->scene.spec.n_groups; g++)
            cache_put(&history->scene, plain->seq, g, plain->written, mark);
        plain->written++;
    }
    plain->has_own |= n > 0;
}

static void commit(struct history *history, struct plain *plain, uint32_t n)
{
    struct kv_cache *cache = history->scene.cache;
    bool is_silent = roll(history, 40) == 0; /* ids are not told: its chain ends */
    kv_cache_commit_ids(cache, plain->seq, is_silent ? NULL : plain->ids + plain->committed, n);
    plain->committed += n;
    if (n == 0 || is_silent)
        return;
    plain->floor = plain->committed;
    assert_true(history->n_texts < TEXTS_MAX);
    struct text *text = &history->texts[history->n_texts++];
    *text = (struct text){.salt = plain->salt, .n_pages = plain->committed / PAGE_TOKENS};
    text->is_sure = kv_cache_is_chained(cache, plain->seq);
    memcpy(text->ids, plain->ids, sizeof text->ids);
}

static void truncate_one(struct history *history, struct plain *plain)
{
    uint32_t n = plain->committed + roll(history, plain->written - plain->committed + 1);
    kv_cache_truncate(history->scene.cache, plain->seq, n);
    plain->written = n;
    history->n_truncated++;
}

/* The one that waits for what the other has read goes on by itself. */
static void bear(struct history *history, struct plain *from)
{
    struct plain *to = from->other;
    kv_seq_id seq = to->seq;
    commit(history, from, from->written - from->committed);
    kv_cache_fork_into(history->scene.cache, from->seq, seq);
    from->reads = false;
    from->has_own = true;
    from->other = NULL;
    *to = *from;
    to->seq = seq;
    for (uint32_t i = to->written; i < TOKENS_MAX && roll(history, 2) == 0; i += 50)
        to->ids[i] += 5000; /* its answer is another */
    history->n_forked++;
}

static void pin_one(struct history *history, struct plain *plain)
{
    struct kv_cache *cache = history->scene.cache;
    struct why why = {.text = ""};
    uint32_t n_pages;
    if (history->n_pins == PINS) {
        kv_cache_unpin(cache, history->pins[--history->n_pins]);
        return;
    }
    struct kv_prefix prefix = named(history, plain, plain->promised);
    int status = kv_cache_pin(cache, &prefix, &history->pins[history->n_pins], &n_pages, &why);
    if (status == STATUS_OK) {
        assert_true(n_pages > 0 && n_pages <= prefix.n_pages);
        history->n_pins++;
        history->n_pinned++;
    }
}

static void close_one(struct history *history, struct plain *plain)
{
    assert_reads_back(history, plain, 7);
    kv_cache_close(history->scene.cache, plain->seq); /* cancelled, or over */
    plain->is_open = false;
    if (plain->other != NULL)
        plain->other->other = NULL;
    plain->other = NULL;
}

/* What is said of a closing before is so after it: of one sequence, or of two. */
static void foretell(struct history *history, struct plain *plain)
{
    struct kv_cache *cache = history->scene.cache;
    struct plain asker, *other = &history->plains[roll(history, N_SEQS)];
    uint32_t n_prompt = 1 + roll(history, TOKENS_MAX - 1);
    struct kv_family family = {.n_promised = n_prompt + 1};
    if (other == plain || !other->is_open)
        other = NULL;
    write_text(history, &asker);
    struct kv_prefix prefix = named(history, &asker, n_prompt);
    kv_cache_match(cache, &prefix, &family.match);
    bool fitted = kv_cache_family_fits_now(cache, &family);
    kv_relief_begin(cache, &family);
    assert_int_equal(kv_relief_suffices(cache), fitted);
    if (other != NULL)
        kv_relief_add(cache, other->seq);
    kv_relief_add(cache, plain->seq);
    if (other != NULL && roll(history, 2) == 0) {
        kv_relief_remove(cache, other->seq);
        other = NULL;
    }
    bool is_told = kv_relief_suffices(cache);
    close_one(history, plain);
    if (other != NULL)
        close_one(history, other);
    kv_cache_match(cache, &prefix, &family.match);
    assert_int_equal(kv_cache_family_fits_now(cache, &family), is_told);
    history->n_foretold += is_told && !fitted;
}

static void operate(struct history *history)
{
    struct plain *plain = &history->plains[roll(history, N_SEQS)];
    if (!plain->is_open) {
        open_one(history, plain);
        return;
    }
    if (plain->waits) { /* one that nobody reads for any more only leaves */
        if (roll(history, plain->other == NULL ? 4 : 40) == 0)
            close_one(history, plain);
        return;
    }
    if (plain->reads && plain->other != NULL && plain->written == plain->n_shared) {
        bear(history, plain);
        return;
    }
    switch (roll(history, 15)) {
    case 0:
        foretell(history, plain);
        return;
    case 1:
        close_one(history, plain);
        return;
    case 2:
        truncate_one(history, plain);
        return;
    case 3:
        pin_one(history, plain);
        return;
    case 4:
    case 5:
    case 6:
        commit(history, plain, roll(history, plain->written - plain->committed + 1));
        return;
    case 7:
        if (!plain->has_own && kv_cache_is_chained(history->scene.cache, plain->seq))
            match_again(history, plain);
        return;
    default:
        append(history, plain);
        commit(history, plain, plain->written - plain->committed);
    }
}

static void finish(struct history *history)
{
    while (history->n_pins > 0)
        kv_cache_unpin(history->scene.cache, history->pins[--history->n_pins]);
    for (int s = 0; s < N_SEQS; s++)
        if (history->plains[s].is_open) {
            assert_reads_back(history, &history->plains[s], 3);
            kv_cache_close(history->scene.cache, history->plains[s].seq);
        }
    cache_assert_sound(&history->scene);
    struct kv_cache_stats stats = cache_stats(&history->scene);
    assert_int_equal(stats.n_used, 0);
    assert_int_equal(stats.n_available, stats.n_pages);
    free(history->texts);
    cache_scene_close(&history->scene);
}

/* Ended with what is to be looked at counted. */
static struct history run_history(struct kv_cache_spec spec, uint64_t seed, uint32_t n_operations)
{
    struct history history = {.scene = cache_scene_open(spec), .seed = seed};
    history.texts = calloc(TEXTS_MAX, sizeof *history.texts);
    kv_cache_identify(history.scene.cache, &(struct kv_identity){.n_ranks = 1});
    for (uint32_t i = 0; i < n_operations; i++) {
        operate(&history);
        cache_assert_sound(&history.scene);
    }
    assert_true(history.n_hits > n_operations / 50 && history.n_truncated > n_operations / 50);
    assert_true(history.n_forked > n_operations / 200 && history.n_pinned > n_operations / 500);
    assert_true(history.n_again > n_operations / 1000);
    return history;
}

static void test_kv_sharing__random_histories_in_a_small_cache_read_their_own_texts(void **state)
{
    struct kv_group_spec groups[] = {
        cache_group(KV_FULL, 0),
        cache_group(KV_SLIDING, 100),
        cache_group(KV_CHUNKED, 256),
    };
    for (uint64_t seed = 1; seed <= 3; seed++) {
        struct history history = run_history(cache_spec(48, 3, groups), seed, N_OPERATIONS / 5);
        assert_true(cache_stats(&history.scene).n_evicted > 100 && history.n_refused > 20);
        assert_true(history.n_foretold > 20);
        finish(&history);
    }
}

static void test_kv_sharing__where_nothing_gives_way_all_that_was_computed_matches(void **state)
{
    struct kv_group_spec group = cache_group(KV_FULL, 0);
    struct history history = run_history(cache_spec(2000, 1, &group), 11, N_OPERATIONS / 5);
    assert_int_equal(cache_stats(&history.scene).n_evicted, 0);
    finish(&history);
}

static void test_kv_sharing__what_gives_way_to_the_host_comes_back_as_it_was(void **state)
{
    struct kv_group_spec groups[] = {cache_group(KV_FULL, 0), cache_group(KV_SLIDING, 100),
                                     cache_group(KV_CHUNKED, 128)};
    for (uint64_t seed = 31; seed < 33; seed++) {
        struct kv_cache_spec spec = cache_spec(48, 3, groups);
        spec.host_bytes = 3 * spec.memory_bytes;
        struct history history = run_history(spec, seed, N_OPERATIONS / 2);
        assert_true(cache_stats(&history.scene).n_spilled > 100);
        assert_true(cache_stats(&history.scene).n_recalled > 20);
        finish(&history);
    }
}

static void test_kv_sharing__a_model_that_only_slides_shares_windows(void **state)
{
    struct kv_group_spec group = cache_group(KV_SLIDING, 150);
    struct history history = run_history(cache_spec(40, 1, &group), 21, N_OPERATIONS / 5);
    finish(&history);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kv_sharing__random_histories_in_a_small_cache_read_their_own_texts),
        cmocka_unit_test(test_kv_sharing__where_nothing_gives_way_all_that_was_computed_matches),
        cmocka_unit_test(test_kv_sharing__what_gives_way_to_the_host_comes_back_as_it_was),
        cmocka_unit_test(test_kv_sharing__a_model_that_only_slides_shares_windows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
