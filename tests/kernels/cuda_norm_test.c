/* The CUDA op against the CPU's: the same bits in f32, and those rounded in f16. */
#include "kernels/cuda/cuda_act.h"
#include "kernels/tensor_type.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "kernels/cpu/cpu_panel.h"
#include "tests/kernels/cuda_linear_fixture.h"
#include "tests/kernels/matrix_fixture.h"

#define EPS 1e-5f

struct norm_case {
    uint32_t n_rows, width;
    float weight_scale;
    const float *x, *weight;
};

/* Runs the op on a device; *out gets its f32 rows, and on CUDA *halves and *scales. malloc'd. */
static void run_norm(struct twin *twin, const struct norm_case *norm, float **out,
                     uint16_t **halves, float **scales)
{
    size_t n = (size_t)norm->n_rows * norm->width;
    bool is_cuda = halves != NULL;
    struct act act = {NULL, norm->n_rows, norm->width, ACT_FLOATS | (is_cuda ? ACT_BLOCKS : 0)};
    act.base =
        twin_alloc(twin, twin->ops->act_bytes(twin->device, act.max_rows, act.width, act.forms));
    struct norm_args args = {
        .x = twin_upload(twin, norm->x, n * sizeof(float)),
        .weight = twin_upload(twin, norm->weight, norm->width * sizeof(float)),
        .eps = EPS,
        .n_rows = norm->n_rows,
        .width = norm->width,
        .out = act,
    };
    twin->ops->norm(twin->stream, &args);
    assert_int_equal(twin_run(twin), STATUS_OK);
    if (!is_cuda) {
        *out = twin_download(twin, cpu_act_floats(&act, ACTIVATIONS_16), n * sizeof(float));
        return;
    }
    struct cuda_act_rows rows = cuda_act_rows_of(&act);
    *out = twin_download(twin, rows.floats, n * sizeof(float));
    *halves = twin_download(twin, rows.halves, (size_t)norm->n_rows * rows.stride * 2);
    *scales = twin_download(twin, rows.scales, norm->n_rows * sizeof(float));
}

/* Each half is the f32 value over the row's scale, rounded once; zeros follow. */
static void assert_halves(const struct norm_case *norm, const float *floats, const uint16_t *halves,
                          const float *scales)
{
    uint32_t stride = (norm->width + 63) / 64 * 64;
    for (uint32_t r = 0; r < norm->n_rows; r++) {
        assert_true(scales[r] == panel_scale(floats + (size_t)r * norm->width, norm->width));
        for (uint32_t i = 0; i < stride; i++) {
            float value = i < norm->width ? floats[(size_t)r * norm->width + i] / scales[r] : 0.0f;
            assert_true(fabsf(value) <= 65504.0f);
            assert_int_equal(halves[(size_t)r * stride + i], f16_from_f32(value));
        }
    }
}

static void check_norm(const char *shapes, uint32_t n_rows, uint32_t width, float weight_scale)
{
    struct twin cpu = twin_open(BACKEND_CPU), cuda = twin_open(BACKEND_CUDA);
    float *x = random_floats((size_t)n_rows * width, 1, 1.0f);
    float *weight = random_floats(width, 2, weight_scale);
    struct norm_case norm = {n_rows, width, weight_scale, x, weight};
    float *want, *got, *scales;
    uint16_t *halves;
    run_norm(&cpu, &norm, &want, NULL, NULL);
    run_norm(&cuda, &norm, &got, &halves, &scales);
    assert_memory_equal(got, want, (size_t)n_rows * width * sizeof *want);
    assert_halves(&norm, got, halves, scales);
    free(x);
    free(weight);
    free(want);
    free(got);
    free(halves);
    free(scales);
    twin_close(&cpu);
    twin_close(&cuda);
    matrix_passed("norm", "f32", shapes);
}

static void test_cuda_norm__has_the_bits_of_the_cpu(void **state)
{
    static const uint32_t widths[] = {1, 15, 16, 17, 31, 576, 2047, 2048, 2049, 4096 + 8, 6145};
    for (size_t w = 0; w < sizeof widths / sizeof *widths; w++)
        check_norm("widths", 3, widths[w], 1.0f);
}

static void test_cuda_norm__scales_rows_that_pass_f16(void **state)
{
    check_norm("scaled rows", 2, 577, 3e4f);
    check_norm("scaled rows", 2, 64, 1e9f);
}

/* Of a row of equal powers of two the norm is 1, so that values are the weights to the bit. */
static void check_greatest(uint32_t column, float greatest)
{
    enum { WIDTH = 545 };
    struct twin cuda = twin_open(BACKEND_CUDA);
    float x[WIDTH], weight[WIDTH], *got, *scales;
    uint16_t *halves;
    for (uint32_t i = 0; i < WIDTH; i++) {
        x[i] = 0x1p20f;
        weight[i] = i == column ? greatest : 1.0f;
    }
    struct norm_case norm = {1, WIDTH, 1.0f, x, weight};
    run_norm(&cuda, &norm, &got, &halves, &scales);
    assert_memory_equal(got, weight, sizeof weight);
    assert_halves(&norm, got, halves, scales);
    free(got);
    free(halves);
    free(scales);
    twin_close(&cuda);
    matrix_passed("norm", "f32", "scaled rows");
}

static void test_cuda_norm__the_scale_follows_the_greatest_wherever_it_stands(void **state)
{
    static const float greatest[] = {65504.0f, 0x1.ffc002p15f, 0x1.fffffep15f, 65536.0f,
                                     0x1.fffffep16f, 1e9f};
    for (size_t i = 0; i < sizeof greatest / sizeof *greatest; i++)
        check_greatest(5, greatest[i]);
    for (uint32_t column = 31; column < 545; column += 32)
        check_greatest(column, -65536.0f);
    check_greatest(544, 65536.0f);
}

static void test_cuda_norm__a_row_does_not_depend_on_the_others(void **state)
{
    struct twin cuda = twin_open(BACKEND_CUDA);
    enum { N_ROWS = 9, WIDTH = 2100 };
    float *x = random_floats(N_ROWS * WIDTH, 3, 1.0f), *weight = random_floats(WIDTH, 4, 1.0f);
    struct norm_case all = {N_ROWS, WIDTH, 1.0f, x, weight};
    float *together, *alone, *scales;
    uint16_t *halves, *half_row;
    run_norm(&cuda, &all, &together, &halves, &scales);
    free(scales);
    for (uint32_t r = 0; r < N_ROWS; r++) {
        struct norm_case one = {1, WIDTH, 1.0f, x + r * WIDTH, weight};
        uint32_t stride = (WIDTH + 63) / 64 * 64;
        run_norm(&cuda, &one, &alone, &half_row, &scales);
        assert_memory_equal(alone, together + r * WIDTH, WIDTH * sizeof *alone);
        assert_memory_equal(half_row, halves + r * stride, stride * sizeof *half_row);
        free(alone);
        free(half_row);
        free(scales);
    }
    free(x);
    free(weight);
    free(together);
    free(halves);
    twin_close(&cuda);
    matrix_passed("norm", "f32", "company");
}

static void test_cuda_norm__has_the_bits_of_the_cpu_for_a_models_rows(void **state)
{
    check_norm("medium", 512, 8192, 1.0f);
    check_norm("medium", 64, 576, 1.0f);
}

int main(void)
{
    const struct CMUnitTest tails[] = {
        cmocka_unit_test(test_cuda_norm__has_the_bits_of_the_cpu),
        cmocka_unit_test(test_cuda_norm__scales_rows_that_pass_f16),
        cmocka_unit_test(test_cuda_norm__the_scale_follows_the_greatest_wherever_it_stands),
        cmocka_unit_test(test_cuda_norm__a_row_does_not_depend_on_the_others),
    };
    const struct CMUnitTest medium[] = {
        cmocka_unit_test(test_cuda_norm__has_the_bits_of_the_cpu_for_a_models_rows),
    };
    return twin_has_cuda() ? matrix_run(tails, sizeof tails / sizeof *tails, medium,
                                        sizeof medium / sizeof *medium)
                           : TWIN_SKIPPED;
}
