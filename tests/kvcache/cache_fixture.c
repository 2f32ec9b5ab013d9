#include "cache_fixture.h"

#include "kernels/cpu/cpu_ops.h"
#include "kvcache/kv_group.h"

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

struct kv_group_spec cache_packed_group(enum kv_kind kind, uint32_t window)
{
    struct kv_group_spec group = cache_group(kind, window);
    group.dtype = KV_Q8;
    return group;
}

/* n_pages of each group. */
static uint64_t memory_of(uint32_t n_pages, const struct kv_cache_spec *spec)
{
    uint64_t bytes = 0;
    for (uint32_t g = 0; g < spec->n_groups; g++) {
        bytes += n_pages * (uint64_t)kv_group_page_bytes(&cpu_ops, &spec->groups[g]);
        bytes += kv_open_bytes(&cpu_ops, spec, &spec->groups[g]);
    }
    return bytes;
}

struct kv_cache_spec cache_spec(uint32_t n_pages, uint32_t n_groups,
                                const struct kv_group_spec *groups)
{
    struct kv_cache_spec spec = {
        .n_groups = n_groups,
        .max_sequences = 8,
        .max_context = 4096,
        .max_append = 200,
        .max_uncommitted = 8 * 200,
    };
    memcpy(spec.groups, groups, n_groups * sizeof *groups);
    spec.memory_bytes = memory_of(n_pages, &spec);
    return spec;
}

struct cache_scene cache_scene_open(struct kv_cache_spec spec)
{
    struct device *device;
    assert_int_equal(device_open(&(struct device_options){.n_threads = 1, .isa = ISA_SCALAR},
                                 &device, NULL),
                     STATUS_OK);
    return cache_scene_open_on(device, spec);
}

struct cache_scene cache_scene_open_on(struct device *device, struct kv_cache_spec spec)
{
    struct cache_scene scene = {
        .device = device, .spec = spec, .page_bytes = PAGE_TOKENS * 32 * sizeof(float)};
    struct why why = {.text = ""};
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

void cache_fork(struct cache_scene *scene, uint64_t n_promised, uint32_t n_shared, uint32_t first,
                kv_seq_id out[2])
{
    struct kv_family family = {.n_promised = n_promised, .n_shared = n_shared, .n_forks = 1};
    struct why why;
    if (kv_cache_open_family(scene->cache, &family, out, &why) < 0)
        fail_msg("%s", why.text);
    cache_write(scene, out[0], n_shared, first);
    kv_cache_fork_into(scene->cache, out[0], out[1]);
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

/* Where the marks of a page begin. */
static uint8_t *page_at(struct cache_scene *scene, kv_seq_id seq, uint32_t g, uint32_t page_idx)
{
    page_id page = cache_page_at(scene, seq, g, page_idx);
    struct kv_view view;
    kv_cache_view(scene->cache, &view);
    return page == PAGE_NONE ? NULL : view.groups[g].base + page * view.groups[g].page_stride;
}

/* The same of its rows. */
static uint8_t *rows_at(struct cache_scene *scene, kv_seq_id seq, uint32_t g, uint32_t page_idx)
{
    struct kv_view view;
    uint32_t first;
    page_id page = PAGE_NONE;
    kv_cache_view(scene->cache, &view);
    const struct kv_open_view *open = &view.groups[g].open;
    if (open->base == NULL)
        return NULL;
    cache_append(scene, seq, 0);
    device_download(scene->device, &first, open->first_page + seq, sizeof first);
    if (page_idx >= first && page_idx - first < open->table_stride)
        device_download(scene->device, &page,
                        open->table + (size_t)seq * open->table_stride + (page_idx - first),
                        sizeof page);
    return page == PAGE_NONE ? NULL : open->base + page * open->page_stride;
}

void cache_put(struct cache_scene *scene, kv_seq_id seq, uint32_t g, uint64_t position,
               uint32_t mark)
{
    uint32_t page_idx = (uint32_t)(position / PAGE_TOKENS), marks[PAGE_TOKENS];
    uint8_t *page = page_at(scene, seq, g, page_idx);
    assert_non_null(page);
    if (!kv_group_spec_packs(&scene->spec.groups[g])) {
        device_upload(scene->device, page + position % PAGE_TOKENS * sizeof mark, &mark,
                      sizeof mark);
        return;
    }
    uint8_t *rows = rows_at(scene, seq, g, page_idx);
    assert_non_null(rows);
    device_upload(scene->device, rows + position % PAGE_TOKENS * sizeof mark, &mark, sizeof mark);
    if (position % PAGE_TOKENS < PAGE_TOKENS - 1)
        return;
    device_download(scene->device, marks, rows, sizeof marks);
    device_upload(scene->device, page, marks, sizeof marks);
}

bool cache_get(struct cache_scene *scene, kv_seq_id seq, uint32_t g, uint64_t position,
               uint32_t *mark)
{
    uint32_t page_idx = (uint32_t)(position / PAGE_TOKENS);
    size_t at = position % PAGE_TOKENS * sizeof *mark;
    uint8_t *page = page_at(scene, seq, g, page_idx), *rows = rows_at(scene, seq, g, page_idx);
    if (page == NULL)
        return false;
    device_download(scene->device, mark, (rows != NULL ? rows : page) + at, sizeof *mark);
    if (rows != NULL && (page_idx + 1) * PAGE_TOKENS <= kv_cache_written(scene->cache, seq)) {
        uint32_t packed;
        device_download(scene->device, &packed, page + at, sizeof packed);
        assert_int_equal(packed, *mark);
    }
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
