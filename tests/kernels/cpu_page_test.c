#include "kernels/cpu/cpu_page.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "kernels/ops.h"

struct pool {
    struct device *device;
    struct stream *stream;
    const struct ops *ops;
    uint8_t *base, *seen;
    size_t stride;
    uint32_t n_pages;
};

static struct pool open_pool(int n_threads, size_t stride, uint32_t n_pages)
{
    struct device_options options = {.n_threads = n_threads, .strict = true};
    struct pool pool = {.stride = stride, .n_pages = n_pages, .seen = malloc(stride * n_pages)};
    void *base;
    assert_int_equal(device_open(&options, &pool.device, NULL), STATUS_OK);
    assert_int_equal(stream_create(pool.device, 8, &pool.stream, NULL), STATUS_OK);
    assert_int_equal(device_alloc(pool.device, stride * n_pages, &base, NULL), STATUS_OK);
    pool.base = base;
    pool.ops = device_ops(pool.device);
    for (uint32_t p = 0; p < n_pages; p++)
        memset(pool.seen + p * stride, (int)p + 1, stride);
    device_upload(pool.device, pool.base, pool.seen, stride * n_pages);
    return pool;
}

static void look(struct pool *pool)
{
    device_submit(pool->stream);
    assert_int_equal(device_wait(pool->stream, NULL, NULL), STATUS_OK);
    device_download(pool->device, pool->seen, pool->base, pool->stride * pool->n_pages);
}

static void close_pool(struct pool *pool)
{
    device_free(pool->device, pool->base);
    stream_free(pool->stream);
    device_close(pool->device);
    free(pool->seen);
}

static void assert_page(const struct pool *pool, uint32_t page, int value)
{
    for (size_t i = 0; i < pool->stride; i++)
        assert_int_equal(pool->seen[page * pool->stride + i], value);
}

static page_id *upload_ids(struct pool *pool, const page_id *ids, uint32_t n)
{
    void *on_device;
    assert_int_equal(device_alloc(pool->device, n * sizeof *ids, &on_device, NULL), STATUS_OK);
    device_upload(pool->device, on_device, ids, n * sizeof *ids);
    return on_device;
}

static void test_page__zero_clears_whole_pages_and_no_others(void **state)
{
    for (int n_threads = 1; n_threads <= 4; n_threads++) {
        struct pool pool = open_pool(n_threads, 1000, 6);
        page_id *pages = upload_ids(&pool, (page_id[]){4, 1}, 2);
        struct page_zero_args args = {pool.base, pool.stride, pages, 2};
        pool.ops->page_zero(pool.stream, &args);
        look(&pool);
        for (uint32_t p = 0; p < 6; p++)
            assert_page(&pool, p, p == 4 || p == 1 ? 0 : (int)p + 1);
        device_free(pool.device, pages);
        close_pool(&pool);
    }
}

static void test_page__copy_takes_whole_pages(void **state)
{
    for (int n_threads = 1; n_threads <= 4; n_threads++) {
        struct pool pool = open_pool(n_threads, 4096 + 64, 6);
        page_id *from = upload_ids(&pool, (page_id[]){0, 5}, 2),
                *to = upload_ids(&pool, (page_id[]){2, 3}, 2);
        struct page_copy_args args = {pool.base, pool.stride, from, to, 2};
        pool.ops->page_copy(pool.stream, &args);
        look(&pool);
        static const int expected[] = {1, 2, 1, 6, 5, 6};
        for (uint32_t p = 0; p < 6; p++)
            assert_page(&pool, p, expected[p]);
        device_free(pool.device, from);
        device_free(pool.device, to);
        close_pool(&pool);
    }
}

static void test_page__bytes_of_a_layer_follow_from_the_shape(void **state)
{
    struct device_options options = {.n_threads = 1};
    struct device *device;
    assert_int_equal(device_open(&options, &device, NULL), STATUS_OK);
    const struct ops *ops = device_ops(device);
    struct kv_shape shape = {.n_kv_heads = 3, .k_dim = 64, .v_dim = 64};
    assert_int_equal(ops->page_layer_bytes(&shape, KV_F16), 3 * 64 * 128 * 2);
    assert_int_equal(ops->page_layer_bytes(&shape, KV_F32), 3 * 64 * 128 * 4);
    shape = (struct kv_shape){.n_kv_heads = 1, .k_dim = 576, .v_dim = 512, .v_in_k = true};
    assert_int_equal(ops->page_layer_bytes(&shape, KV_F16), 64 * 576 * 2);
    assert_string_equal(kv_dtype_name(KV_F16), "f16");
    assert_string_equal(kv_dtype_name(KV_F32), "f32");
    device_close(device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_page__zero_clears_whole_pages_and_no_others),
        cmocka_unit_test(test_page__copy_takes_whole_pages),
        cmocka_unit_test(test_page__bytes_of_a_layer_follow_from_the_shape),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
