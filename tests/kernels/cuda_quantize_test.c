/* The CUDA op: values as they are in f32, and rounded once under a power of two in f16. */
#include "kernels/cuda/cuda_act.h"
#include "kernels/tensor_type.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "tests/kernels/cuda_linear_fixture.h"
#include "tests/kernels/matrix_fixture.h"

struct heads {
    uint32_t n_rows, n_heads, n, gap; /* values of a head that are taken, and left behind them */
};

static struct act run_quantize(struct twin *twin, const struct heads *c, const float *x)
{
    uint32_t stride = c->n + c->gap, x_stride = c->n_heads * stride + 3;
    struct act act = {NULL, c->n_rows, c->n_heads * c->n, ACT_FLOATS | ACT_BLOCKS};
    act.base =
        twin_alloc(twin, twin->ops->act_bytes(twin->device, act.max_rows, act.width, act.forms));
    struct quantize_args args = {
        .x = twin_upload(twin, x, (size_t)c->n_rows * x_stride * sizeof *x),
        .x_stride = x_stride,
        .n_heads = c->n_heads,
        .head_stride = stride,
        .n = c->n,
        .n_rows = c->n_rows,
        .out = act,
    };
    twin->ops->quantize(twin->stream, &args);
    assert_int_equal(twin_run(twin), STATUS_OK);
    return act;
}

static void check_row(const float *values, uint32_t width, const uint16_t *halves, uint32_t stride,
                      float scale)
{
    assert_true(scale == panel_scale(values, width));
    for (uint32_t i = 0; i < width; i++)
        assert_int_equal(halves[i], f16_from_f32(values[i] / scale));
    for (uint32_t i = width; i < stride; i++)
        assert_int_equal(halves[i], 0);
}

/* One value, anywhere in the row, may be beyond f16. */
static void check_quantize(const char *shapes, const struct heads *c, uint32_t loud)
{
    struct twin twin = twin_open(BACKEND_CUDA);
    uint32_t stride = c->n + c->gap, x_stride = c->n_heads * stride + 3;
    float *x = random_floats((size_t)c->n_rows * x_stride, 4, 1.0f);
    uint32_t width = c->n_heads * c->n;
    if (loud < width)
        x[loud / c->n * stride + loud % c->n] = -1e9f;
    struct act act = run_quantize(&twin, c, x);
    struct cuda_act_rows rows = cuda_act_rows_of(&act);
    float *floats = twin_download(&twin, rows.floats, (size_t)c->n_rows * width * sizeof *floats);
    uint16_t *halves = twin_download(&twin, rows.halves, (size_t)c->n_rows * rows.stride * 2);
    float *scales = twin_download(&twin, rows.scales, c->n_rows * sizeof *scales);
    for (uint32_t r = 0; r < c->n_rows; r++) {
        for (uint32_t h = 0; h < c->n_heads; h++)
            assert_memory_equal(floats + (size_t)r * width + h * c->n,
                                x + (size_t)r * x_stride + h * stride, c->n * sizeof *x);
        check_row(floats + (size_t)r * width, width, halves + (size_t)r * rows.stride, rows.stride,
                  scales[r]);
    }
    free(floats);
    free(halves);
    free(scales);
    free(x);
    twin_close(&twin);
    matrix_passed("quantize", "f32", shapes);
}

static void test_cuda_quantize__takes_a_part_of_each_head(void **state)
{
    static const struct heads cases[] = {
        {1, 1, 1, 0}, {3, 5, 16, 8}, {2, 3, 40, 0}, {4, 16, 64, 9}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check_quantize("tails", &cases[i], UINT32_MAX);
}

static void test_cuda_quantize__the_greatest_value_may_stand_anywhere(void **state)
{
    static const struct heads c = {2, 5, 64, 16}; /* 320 values: more than a block has threads */
    for (uint32_t loud = 31; loud < 320; loud += 32)
        check_quantize("beyond f16", &c, loud);
}

static void test_cuda_quantize__takes_a_models_heads(void **state)
{
    static const struct heads c = {33, 128, 128, 64};
    check_quantize("medium", &c, 16383);
}

int main(void)
{
    const struct CMUnitTest tails[] = {
        cmocka_unit_test(test_cuda_quantize__takes_a_part_of_each_head),
        cmocka_unit_test(test_cuda_quantize__the_greatest_value_may_stand_anywhere),
    };
    const struct CMUnitTest medium[] = {
        cmocka_unit_test(test_cuda_quantize__takes_a_models_heads),
    };
    return twin_has_cuda() ? matrix_run(tails, sizeof tails / sizeof *tails, medium,
                                        sizeof medium / sizeof *medium)
                           : TWIN_SKIPPED;
}
