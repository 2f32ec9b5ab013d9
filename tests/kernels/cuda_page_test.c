#include "kernels/cuda/cuda_page.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "tests/kernels/matrix_fixture.h"
#include "tests/kernels/twin_fixture.h"

#define N_PAGES 6

static uint8_t *numbered_pages(struct twin *twin, size_t stride)
{
    uint8_t *host = malloc(stride * N_PAGES);
    for (uint32_t p = 0; p < N_PAGES; p++)
        memset(host + p * stride, (int)p + 1, stride);
    uint8_t *base = twin_upload(twin, host, stride * N_PAGES);
    free(host);
    return base;
}

static void assert_pages(struct twin *twin, const uint8_t *base, size_t stride,
                         const int *expected)
{
    uint8_t *seen = twin_download(twin, base, stride * N_PAGES);
    for (uint32_t p = 0; p < N_PAGES; p++)
        for (size_t i = 0; i < stride; i++)
            assert_int_equal(seen[p * stride + i], expected[p]);
    free(seen);
}

static const size_t strides[] = {16, 1024, 16384 + 16, 3 * 65536 + 4096};

static void test_cuda_page__zero_clears_whole_pages_and_no_others(void **state)
{
    static const int expected[N_PAGES] = {1, 0, 3, 4, 0, 6};
    for (size_t i = 0; i < sizeof strides / sizeof *strides; i++) {
        struct twin cuda = twin_open(BACKEND_CUDA);
        uint8_t *base = numbered_pages(&cuda, strides[i]);
        page_id *pages = twin_upload(&cuda, (page_id[]){4, 1}, 2 * sizeof *pages);
        struct page_zero_args args = {base, strides[i], pages, 2};
        cuda.ops->page_zero(cuda.stream, &args);
        assert_int_equal(twin_run(&cuda), STATUS_OK);
        assert_pages(&cuda, base, strides[i], expected);
        matrix_passed("page_zero", "bytes", "strides");
        twin_close(&cuda);
    }
}

static void test_cuda_page__copy_takes_whole_pages(void **state)
{
    static const int expected[N_PAGES] = {1, 2, 1, 6, 5, 6};
    for (size_t i = 0; i < sizeof strides / sizeof *strides; i++) {
        struct twin cuda = twin_open(BACKEND_CUDA);
        uint8_t *base = numbered_pages(&cuda, strides[i]);
        page_id *from = twin_upload(&cuda, (page_id[]){0, 5}, 2 * sizeof *from);
        page_id *to = twin_upload(&cuda, (page_id[]){2, 3}, 2 * sizeof *to);
        struct page_copy_args args = {base, strides[i], from, to, 2};
        cuda.ops->page_copy(cuda.stream, &args);
        assert_int_equal(twin_run(&cuda), STATUS_OK);
        assert_pages(&cuda, base, strides[i], expected);
        matrix_passed("page_copy", "bytes", "strides");
        twin_close(&cuda);
    }
}

static void test_cuda_page__takes_the_bytes_of_the_cpus(void **state)
{
    static const struct kv_shape shapes[] = { /* the last with dims that fill no block of q4 */
        {3, 64, 64, false}, {1, 576, 512, true}, {2, 48, 112, false}};
    struct twin cpu = twin_open(BACKEND_CPU), cuda = twin_open(BACKEND_CUDA);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int dtype = KV_F16; dtype < (i < 2 ? KV_DTYPES : KV_Q4); dtype++)
            assert_int_equal(cuda.ops->page_layer_bytes(&shapes[i], (enum kv_dtype)dtype),
                             cpu.ops->page_layer_bytes(&shapes[i], (enum kv_dtype)dtype));
    twin_close(&cpu);
    twin_close(&cuda);
}

static void test_cuda_page__heads_of_a_plane_are_side_by_side(void **state)
{
    struct kv_shape shape = {2, 48, 112, false};
    assert_int_equal(cuda_page_k_at(&shape, KV_F16, 1, 3), (64 + 3) * 48 * 2);
    assert_int_equal(cuda_page_v_at(&shape, KV_F16, 0, 0), 2 * 64 * 48 * 2);
    assert_int_equal(cuda_page_v_at(&shape, KV_F32, 1, 3), (2 * 64 * 48 + (64 + 3) * 112) * 4);
    shape.v_in_k = true;
    assert_int_equal(cuda_page_v_at(&shape, KV_F16, 1, 3), cuda_page_k_at(&shape, KV_F16, 1, 3));
}

/* Each dim has bits of its own, and a token's row no others. */
static void test_cuda_page__codes_of_a_row_are_apart(void **state)
{
    for (int dtype = KV_Q8; dtype <= KV_Q4; dtype++)
        for (int is_k = 0; is_k <= 1; is_k++) {
            uint32_t width = dtype == KV_Q8 ? 8 : 4;
            uint32_t row_bytes = cuda_page_row_bytes(80, (enum kv_dtype)dtype);
            bool taken[8 * 128] = {false};
            assert_int_equal(row_bytes, dtype == KV_Q8 ? 80 : 48);
            for (uint32_t d = 0; d < row_bytes * 8 / width; d++) {
                struct cuda_code_place place = is_k ? cuda_page_k_code((enum kv_dtype)dtype, d)
                                                    : cuda_page_v_code((enum kv_dtype)dtype, d);
                uint32_t bit = place.byte * 8 + place.shift;
                assert_true(place.byte < row_bytes && bit % width == 0 && !taken[bit]);
                taken[bit] = true;
            }
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cuda_page__zero_clears_whole_pages_and_no_others),
        cmocka_unit_test(test_cuda_page__copy_takes_whole_pages),
        cmocka_unit_test(test_cuda_page__takes_the_bytes_of_the_cpus),
        cmocka_unit_test(test_cuda_page__heads_of_a_plane_are_side_by_side),
        cmocka_unit_test(test_cuda_page__codes_of_a_row_are_apart),
    };
    return twin_has_cuda() ? matrix_run(tests, sizeof tests / sizeof *tests, NULL, 0)
                           : TWIN_SKIPPED;
}
