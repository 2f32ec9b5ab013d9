#include "cache_fixture.h"

#include "kernels/ops.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

struct kv_group_spec cache_group(enum kv_kind kind, uint32_t window)
{
    return (struct kv_group_spec){
        .kind = kind,
        .window = window,
        .shape = {.n_kv_heads = 1, .k_dim = 16, .v_dim = 16},
        .n_layers = 1,
        .dtype = KV_F32,
    };
}

struct kv_cache_spec cache_spec(uint32_t n_pages, uint32_t n_groups,
                                const struct kv_group_spec *groups)
{
    struct kv_cache_spec spec = {
        .n_groups = n_groups,
        .memory_bytes = (uint64_t)n_pages * n_groups * PAGE_TOKENS * 32 * sizeof(float),
        .max_sequences = 8,
        .max_context = 4096,
        .max_append = 200,
    };
    memcpy(spec.groups, groups, n_groups * sizeof *groups);
    return spec;
}

struct cache_scene cache_scene_open(struct kv_cache_spec spec)
{
    struct cache_scene scene = {.spec = spec, .page_bytes = PAGE_TOKENS * 32 * sizeof(float)};
    struct why why = {.text = ""};
    assert_int_equal(device_open(&(struct device_options){.n_threads = 1, .isa = ISA_SCALAR},
                                 &scene.device, &why),
                     STATUS_OK);
    int status = kv_cache_create(scene.device, &spec, &scene.cache, &why);
    if (status < 0)
        fail_msg("%s", why.text);
    assert_int_equal(
        stream_create(scene.device, kv_cache_ops_max(scene.cache, 200) + 8, &scene.stream, &why),
        STATUS_OK);
    return scene;
}

void cache_scene_close(struct cache_scene *scene)
{
    kv_cache_free(scene->cache);
    stream_free(scene->stream);
    device_close(scene->device);
}

static void pass(struct cache_scene *scene)
{
    device_submit(scene->stream);
    assert_int_equal(device_wait(scene->stream, NULL, NULL), STATUS_OK);
}

kv_seq_id cache_must_open(struct cache_scene *scene, uint64_t n_promised)
{
    kv_seq_id seq = KV_SEQ_NONE;
    struct why why;
    int status = kv_cache_open(scene->cache, n_promised, &seq, &why);
    if (status < 0)
        fail_msg("%s", why.text);
    return seq;
}

void cache_append(struct cache_scene *scene, kv_seq_id seq, uint32_t n)
{
    kv_cache_append(scene->cache, seq, n, scene->stream);
    pass(scene);
}

void cache_write(struct cache_scene *scene, kv_seq_id seq, uint32_t n, uint32_t first)
{
    uint64_t from = kv_cache_written(scene->cache, seq);
    cache_append(scene, seq, n);
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t g = 0; g < scene->spec.n_groups; g++)
            cache_put(scene, seq, g, from + i, first + i);
    kv_cache_commit(scene->cache, seq, n);
}

page_id cache_page_at(struct cache_scene *scene, kv_seq_id seq, uint32_t g, uint32_t page_idx)
{
    struct kv_view view;
    kv_cache_view(scene->cache, &view);
    cache_append(scene, seq, 0); /* what a commit, a truncation or a fork has changed */
    const struct kv_group_view *group = &view.groups[g];
    uint32_t first;
    page_id page;
    device_download(scene->device, &first, group->first_page + seq, sizeof first);
    if (page_idx < first || page_idx - first >= group->table_stride)
        return PAGE_NONE;
    size_t at = (size_t)seq * group->table_stride + (page_idx - first);
    device_download(scene->device, &page, group->table + at, sizeof page);
    return page;
}

static uint8_t *place_of(struct cache_scene *scene, kv_seq_id seq, uint32_t g, uint64_t position)
{
    page_id page = cache_page_at(scene, seq, g, (uint32_t)(position / PAGE_TOKENS));
    if (page == PAGE_NONE)
        return NULL;
    struct kv_view view;
    kv_cache_view(scene->cache, &view);
    return view.groups[g].base + page * view.groups[g].page_stride +
           position % PAGE_TOKENS * sizeof(uint32_t);
}

void cache_put(struct cache_scene *scene, kv_seq_id seq, uint32_t g, uint64_t position,
               uint32_t mark)
{
    uint8_t *place = place_of(scene, seq, g, position);
    assert_non_null(place);
    device_upload(scene->device, place, &mark, sizeof mark);
}

bool cache_get(struct cache_scene *scene, kv_seq_id seq, uint32_t g, uint64_t position,
               uint32_t *mark)
{
    uint8_t *place = place_of(scene, seq, g, position);
    if (place == NULL)
        return false;
    device_download(scene->device, mark, place, sizeof *mark);
    return true;
}

void cache_assert_sound(struct cache_scene *scene)
{
    struct why why;
    if (kv_cache_check(scene->cache, &why) < 0)
        fail_msg("%s", why.text);
}

struct kv_cache_stats cache_stats(const struct cache_scene *scene)
{
    struct kv_cache_stats stats;
    kv_cache_read_stats(scene->cache, &stats);
    return stats;
}
