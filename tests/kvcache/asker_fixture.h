/* tests/kvcache/asker_fixture.h: who asks for a prompt: opens a sequence with what matches of it,
 * writes marks 1 + position behind that, and leaves. Header only.
 */
#ifndef QUIRE_TESTS_ASKER_FIXTURE_H
#define QUIRE_TESTS_ASKER_FIXTURE_H

#include "cache_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define PROMPT_MAX 16384

static const char no_salt[] __attribute__((unused)) = "";

/* Ids of a text: which tells texts apart from position `from` on. */
static inline const uint32_t *text_of(uint32_t which, uint32_t from)
{
    static uint32_t ids[PROMPT_MAX];
    for (uint32_t i = 0; i < PROMPT_MAX; i++)
        ids[i] = i * 7 % 1000 + (i >= from ? 1000 * which : 0);
    return ids;
}

static inline struct cache_scene scene_of(uint32_t n_pages, uint32_t n_groups,
                                   const struct kv_group_spec *groups)
{
    struct kv_cache_spec spec = cache_spec(n_pages, n_groups, groups);
    spec.max_context = PROMPT_MAX;
    struct cache_scene scene = cache_scene_open(spec);
    kv_cache_identify(scene.cache, &(struct kv_identity){.n_ranks = 1, .weights = {1, 2, 3}});
    return scene;
}

static inline struct cache_scene full_scene(uint32_t n_pages)
{
    struct kv_group_spec group = cache_group(KV_FULL, 0);
    return scene_of(n_pages, 1, &group);
}

struct asker { /* of one prompt */
    kv_seq_id seq;
    struct kv_match match;
    struct page_key root, keys[PROMPT_MAX / PAGE_TOKENS];
};

static inline struct kv_prefix named(struct cache_scene *scene, struct asker *asker,
                                     const uint32_t *ids, uint32_t n, const char *salt)
{
    struct kv_prefix prefix = {
        .ids = ids, .keys = asker->keys, .n_pages = (n - 1) / PAGE_TOKENS};
    kv_cache_name_pages(scene->cache, salt, strlen(salt), ids, prefix.n_pages, &asker->root,
                        asker->keys);
    return prefix;
}

/* Opened with what matches of its first n ids; promises n + n_more. */
static inline struct asker ask_salted(struct cache_scene *scene, const uint32_t *ids, uint32_t n,
                               uint32_t n_more, const char *salt)
{
    struct asker asker;
    struct kv_family family = {.n_promised = n + n_more};
    struct kv_prefix prefix = named(scene, &asker, ids, n, salt);
    struct why why = {.text = ""};
    kv_cache_match_family(scene->cache, &prefix, &family);
    assert_true(kv_cache_verify(scene->cache, &prefix, &family.match));
    asker.match = family.match;
    if (kv_cache_open_family(scene->cache, &family, &asker.seq, &why) < 0)
        fail_msg("%s", why.text);
    assert_int_equal(kv_cache_written(scene->cache, asker.seq), family.match.n_pages * PAGE_TOKENS);
    kv_cache_chain(scene->cache, asker.seq, &asker.root, ids);
    cache_assert_sound(scene);
    return asker;
}

static inline struct asker ask(struct cache_scene *scene, const uint32_t *ids, uint32_t n)
{
    return ask_salted(scene, ids, n, 64, no_salt);
}

/* Writes marks 1 + position up to position n. */
static inline void read_on(struct cache_scene *scene, const struct asker *asker,
                           const uint32_t *ids, uint32_t n)
{
    for (uint64_t at = kv_cache_written(scene->cache, asker->seq); at < n;) {
        uint32_t more = n - at < 128 ? (uint32_t)(n - at) : 128;
        cache_append(scene, asker->seq, more);
        for (uint32_t i = 0; i < more; i++)
            for (uint32_t g = 0; g < scene->spec.n_groups; g++)
                cache_put(scene, asker->seq, g, at + i, (uint32_t)(1 + at + i));
        kv_cache_commit_ids(scene->cache, asker->seq, ids + at, more);
        cache_assert_sound(scene);
        at += more;
    }
}

static inline void assert_marks(struct cache_scene *scene, const struct asker *asker, uint32_t from,
                         uint32_t to)
{
    for (uint32_t g = 0; g < scene->spec.n_groups; g++)
        for (uint32_t p = from; p < to; p++) {
            uint32_t mark = 0;
            assert_true(cache_get(scene, asker->seq, g, p, &mark));
            assert_int_equal(mark, 1 + p);
        }
}

static inline void leave(struct cache_scene *scene, const struct asker *asker)
{
    kv_cache_close(scene->cache, asker->seq);
    cache_assert_sound(scene);
}

#endif
