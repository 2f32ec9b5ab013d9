#include "kernels/cpu/cpu_norm.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "kernels/cpu/cpu_panel.h"
#include "kernels/cpu/cpu_x86.h"
#include "tests/kernels/isa_fixture.h"

static const uint32_t widths[] = {1, 15, 16, 17, 31, 32, 48, 576, 577, 2048, 4096 + 8};

static float *random_values(uint32_t n, uint32_t seed)
{
    float *values = malloc(n * sizeof *values);
    uint64_t x = seed * 2654435761u + 1;
    for (uint32_t i = 0; i < n; i++) {
        x = x * 6364136223846793005u + 1442695040888963407u;
        values[i] = (float)((double)(x >> 11) * 0x1p-52 - 1.0) * (i % 97 == 0 ? 100.0f : 1.0f);
    }
    return values;
}

static void test_norm__is_rms_norm(void **state)
{
    for (size_t w = 0; w < sizeof widths / sizeof *widths; w++) {
        uint32_t n = widths[w];
        float *x = random_values(n, 1), *weight = random_values(n, 2),
              *out = malloc(n * sizeof *out);
        cpu_norm_row_scalar(x, weight, 1e-5f, n, out);
        double sum = 0;
        for (uint32_t i = 0; i < n; i++)
            sum += (double)x[i] * (double)x[i];
        double scale = 1.0 / sqrt(sum / n + (double)1e-5f);
        for (uint32_t i = 0; i < n; i++) {
            double exact = (double)x[i] * scale * (double)weight[i];
            assert_true(fabs((double)out[i] - exact) <= 2e-6 * fabs(exact));
        }
        cpu_norm_row_scalar(x, NULL, 1e-5f, n, out);
        for (uint32_t i = 0; i < n; i++)
            assert_true(fabs((double)out[i] - (double)x[i] * scale) <=
                        2e-6 * fabs((double)x[i] * scale));
        free(x);
        free(weight);
        free(out);
    }
}

static void assert_same_form(cpu_norm_row *form)
{
    for (size_t w = 0; w < sizeof widths / sizeof *widths; w++) {
        uint32_t n = widths[w];
        float *x = random_values(n, 3), *weight = random_values(n, 4);
        float *truth = malloc(n * sizeof *truth), *out = malloc(n * sizeof *out);
        cpu_norm_row_scalar(x, weight, 1e-6f, n, truth);
        form(x, weight, 1e-6f, n, out);
        assert_memory_equal(out, truth, n * sizeof *out);
        cpu_norm_row_scalar(x, NULL, 1e-6f, n, truth);
        form(x, NULL, 1e-6f, n, x); /* without weights, and in place */
        assert_memory_equal(x, truth, n * sizeof *out);
        memset(x, 0, n * sizeof *x); /* zeros stay zeros */
        cpu_norm_row_scalar(x, weight, 1e-6f, n, truth);
        form(x, weight, 1e-6f, n, out);
        assert_memory_equal(out, truth, n * sizeof *out);
        free(x);
        free(weight);
        free(truth);
        free(out);
    }
}

static void test_norm__is_the_same_on_every_instruction_set(void **state)
{
    if (!isa_is_skipped(ISA_AVX2))
        assert_same_form(CPU_X86(cpu_norm_row_avx2));
    if (!isa_is_skipped(ISA_AVX512))
        assert_same_form(CPU_X86(cpu_norm_row_avx512));
}

/* Rows of one op against the row function, whatever stands beside them. */
static void assert_rows(int n_threads, uint32_t n_rows, uint32_t width)
{
    struct device_options options = {.n_threads = n_threads, .strict = true};
    struct device *device;
    struct stream *stream;
    assert_int_equal(device_open(&options, &device, NULL), STATUS_OK);
    assert_int_equal(stream_create(device, 4, &stream, NULL), STATUS_OK);
    const struct ops *ops = device_ops(device);
    float *x = random_values(n_rows * width, 5), *weight = random_values(width, 6);
    float *out = malloc(sizeof *out * n_rows * width), *row = malloc(sizeof *row * width);
    void *device_x, *device_weight, *panel;
    assert_int_equal(device_alloc(device, sizeof *x * n_rows * width, &device_x, NULL), STATUS_OK);
    assert_int_equal(device_alloc(device, sizeof *x * width, &device_weight, NULL), STATUS_OK);
    size_t act_bytes = ops->act_bytes(device, n_rows, width, ACT_FLOATS);
    assert_int_equal(device_alloc(device, act_bytes, &panel, NULL), STATUS_OK);
    device_upload(device, device_x, x, sizeof *x * n_rows * width);
    device_upload(device, device_weight, weight, sizeof *x * width);

    struct norm_args args = {device_x, device_weight, 1e-5f,
                             n_rows,   width,         {panel, n_rows, width, ACT_FLOATS}};
    ops->norm(stream, &args);
    device_submit(stream);
    assert_int_equal(device_wait(stream, NULL, NULL), STATUS_OK);
    device_download(device, out, cpu_act_floats(&args.out, ACTIVATIONS_16),
                    sizeof *out * n_rows * width);
    for (uint32_t r = 0; r < n_rows; r++) {
        cpu_norm_row_scalar(x + r * width, weight, 1e-5f, width, row);
        assert_memory_equal(out + r * width, row, sizeof *row * width);
    }
    device_free(device, device_x);
    device_free(device, device_weight);
    device_free(device, panel);
    stream_free(stream);
    device_close(device);
    free(x);
    free(weight);
    free(out);
    free(row);
}

static void test_norm__a_row_does_not_depend_on_the_others(void **state)
{
    for (int n_threads = 1; n_threads <= 4; n_threads *= 2) {
        assert_rows(n_threads, 1, 576);
        assert_rows(n_threads, 29, 64);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_norm__is_rms_norm),
        cmocka_unit_test(test_norm__is_the_same_on_every_instruction_set),
        cmocka_unit_test(test_norm__a_row_does_not_depend_on_the_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
