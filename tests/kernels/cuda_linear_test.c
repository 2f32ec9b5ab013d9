/* The CUDA op against exact products and the CPU's op; against itself to the bit. */
#include "tests/kernels/cuda_linear_fixture.h"
#include "base/status.h"
#include "kernels/tensor_block.h"
#include "tests/kernels/matrix_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define EXACT_INPUTS 1e-5   /* of the sum of |a b|: both sides hold the inputs as they are */
#define FREE_INPUTS 0x1p-10 /* activations are rounded to f16 */

/* Runs the case on a GPU; x [n_rows, n_in] and bias as given. malloc'd [n_rows, y_stride]. */
static float *run_case(const struct linear_case *c, const float *x, const float *bias)
{
    struct twin twin = twin_open(BACKEND_CUDA);
    uint8_t *bytes = random_weight(c->type, c->n_in, c->n_out, c->seed);
    struct weight_source source = {c->type, c->n_in, c->n_out, bytes, "w"};
    struct weight *weight = twin_load(&twin, WEIGHT_PLAIN, &source, 1);
    uint32_t y_stride = c->n_out + c->extra_stride;
    size_t n = (size_t)c->n_rows * y_stride;
    float *start = malloc(n * sizeof *start);
    for (size_t i = 0; i < n; i++)
        start[i] = 0.5f;
    float *y = twin_upload(&twin, start, n * sizeof *start);
    struct linear_args args = {
        .weight = weight,
        .in = twin_panel(&twin, x, c->n_rows, c->n_in, twin.ops->weight_info(weight).act_forms),
        .bias = c->has_bias ? twin_upload(&twin, bias, c->n_out * sizeof *bias) : NULL,
        .n_rows = c->n_rows,
        .mode = c->mode,
        .y = y,
        .y_stride = y_stride,
    };
    twin.ops->linear(twin.stream, &args);
    assert_int_equal(twin_run(&twin), STATUS_OK);
    float *result = twin_download(&twin, y, n * sizeof *y);
    twin.ops->weight_free(twin.device, weight);
    twin_close(&twin);
    free(bytes);
    free(start);
    return result;
}

/* The minimum under which value k of a row of blocks stands, or 0. */
static double minimum_of(uint32_t type, const uint8_t *row, uint32_t k)
{
    struct tensor_block block;
    struct tensor_values values;
    if (!tensor_block_has_minimum(type))
        return 0;
    tensor_block_read(type, row, k / 32, &block);
    tensor_block_values(type, &block, &values);
    return values.m[k % 32 / 16];
}

/* want: [n_rows, y_stride]; NULL for the product in double. Tolerance times the sum of |a b|. */
static void assert_close(const struct linear_case *c, const float *x, const float *bias,
                         const float *got, const float *want, double tolerance)
{
    uint8_t *bytes = random_weight(c->type, c->n_in, c->n_out, c->seed);
    size_t row_bytes = tensor_type_bytes(c->type, c->n_in, 1);
    float *w = malloc(c->n_in * sizeof *w);
    for (uint32_t o = 0; o < c->n_out; o++) {
        const uint8_t *row = bytes + o * row_bytes;
        tensor_type_row_to_f32(c->type, row, c->n_in, w);
        for (uint32_t r = 0; r < c->n_rows; r++) {
            double sum = 0, size = 1e-6;
            for (uint32_t k = 0; k < c->n_in; k++) {
                double xk = x[(size_t)r * c->n_in + k], m = minimum_of(c->type, row, k);
                sum += w[k] * xk;
                size += (fabs(w[k] - m) + fabs(m)) * fabs(xk);
            }
            sum += (c->has_bias ? bias[o] : 0) + (c->mode == LINEAR_ADD ? 0.5 : 0);
            size_t at = (size_t)r * (c->n_out + c->extra_stride) + o;
            assert_true(fabs(got[at] - (want != NULL ? want[at] : sum)) <= tolerance * size);
        }
    }
    free(bytes);
    free(w);
}

/* Every tail: part of a tile of outputs, a group without its partner, fewer tiles than parts, rows
 * beyond one block. Floats have odd rows too. */
static struct linear_case case_of(uint32_t type, uint32_t i)
{
    static const uint32_t shapes[][3] = {{32, 1, 1},   {64, 16, 8},  {96, 17, 3},
                                         {576, 35, 9}, {544, 20, 33}, {1088, 5, 40}};
    struct linear_case c = {.type = type,
                            .n_in = shapes[i][0],
                            .n_out = shapes[i][1],
                            .n_rows = shapes[i][2],
                            .mode = i % 2 == 0 ? LINEAR_SET : LINEAR_ADD,
                            .has_bias = i % 3 != 0,
                            .extra_stride = i % 4,
                            .seed = 100 + i};
    if (tensor_type_is_float(type))
        c.n_in -= i * 7 % 32;
    c.n_in = linear_width(type, c.n_in);
    return c;
}
#define N_CASES 6

static bool is_plane_type(uint32_t type)
{
    int t = 0;
    while (t < N_PLANE_TYPES && plane_types[t] != type)
        t++;
    return t < N_PLANE_TYPES;
}

static void passed(uint32_t type, const char *shapes)
{
    matrix_passed("linear", tensor_type_info(type)->name, shapes);
}

static void check_exact(const struct linear_case *c, const char *shapes)
{
    float *x = random_rows(c->n_rows, c->n_in, c->seed + 1);
    float *bias = random_rows(1, c->n_out, c->seed + 2);
    if (c->type != TENSOR_F32)
        round_to_f16(x, (size_t)c->n_rows * c->n_in);
    float *got = run_case(c, x, bias);
    assert_close(c, x, bias, got, NULL, EXACT_INPUTS);
    free(x);
    free(bias);
    free(got);
    passed(c->type, shapes);
}

static void test_cuda_linear__gives_the_exact_product_of_f16_rows(void **state)
{
    for (int t = 0; t < N_LINEAR_TYPES; t++)
        for (uint32_t i = 0; i < N_CASES; i += is_plane_type(linear_types[t]) ? 1 : 3) {
            if (UNDER_TSAN && !is_plane_type(linear_types[t]))
                break;
            struct linear_case c = case_of(linear_types[t], i);
            check_exact(&c, c.n_rows <= 8    ? "1-8 rows"
                            : c.n_rows <= 32 ? "9-32 rows"
                                             : "33- rows");
        }
}

static void test_cuda_linear__gives_the_exact_product_of_a_models_rows(void **state)
{
    static const uint32_t rows[] = {1, 8, 33, 128, 512};
    for (int t = 0; t < N_PLANE_TYPES; t++)
        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
            if (rows[i] == 512 && t % 4 != 3) /* blocks like those of 128 */
                continue;
            struct linear_case c = {plane_types[t], 1024, 256, rows[i], LINEAR_SET, true, 0, 60};
            check_exact(&c, "medium");
        }
}

static void test_cuda_linear__is_close_to_the_op_of_the_cpu(void **state)
{
    for (int t = 0; t < N_PLANE_TYPES; t++) {
        struct linear_case c = {plane_types[t], 1024, 72, 70, LINEAR_ADD, true, 3, 7};
        float *x = random_rows(c.n_rows, c.n_in, c.seed + 1); /* as linear_result takes them */
        float *bias = random_rows(1, c.n_out, c.seed + 2);
        float *got = run_case(&c, x, bias);
        float *want = linear_result(ISA_AUTO, ACTIVATIONS_16, 1, &c);
        assert_close(&c, x, bias, got, want, FREE_INPUTS);
        free(x);
        free(bias);
        free(got);
        free(want);
        passed(c.type, "near the CPU");
    }
}

static void test_cuda_linear__columns_beyond_the_outputs_stay_untouched(void **state)
{
    struct linear_case c = {TENSOR_Q4_1, 64, 21, 13, LINEAR_SET, false, 5, 3};
    float *x = random_rows(c.n_rows, c.n_in, 1);
    float *y = run_case(&c, x, NULL);
    for (uint32_t r = 0; r < c.n_rows; r++)
        for (uint32_t o = c.n_out; o < c.n_out + c.extra_stride; o++)
            assert_true(y[r * (c.n_out + c.extra_stride) + o] == 0.5f);
    free(x);
    free(y);
}

static void test_cuda_linear__add_is_the_old_value_plus_the_whole_chain_with_bias(void **state)
{
    for (int t = 0; t < N_PLANE_TYPES; t++) {
        uint32_t n_in = linear_width(plane_types[t], 160);
        struct linear_case c = {plane_types[t], n_in, 20, 9, LINEAR_SET, true, 0, 4};
        float *x = random_rows(c.n_rows, c.n_in, 1), *bias = random_rows(1, c.n_out, 2);
        float *set = run_case(&c, x, bias);
        c.mode = LINEAR_ADD;
        float *add = run_case(&c, x, bias);
        for (uint32_t i = 0; i < c.n_rows * c.n_out; i++)
            assert_true(add[i] == 0.5f + set[i]);
        free(x);
        free(bias);
        free(set);
        free(add);
    }
}

/* Rows alone, in chunks, and in other places of a batch: the same bits. */
static void check_company(uint32_t type, uint32_t n_in, uint32_t n_out, uint32_t n_rows,
                          const uint32_t *chunks, size_t n_chunks)
{
    struct twin twin = twin_open(BACKEND_CUDA);
    uint8_t *bytes = random_weight(type, n_in, n_out, 5);
    float *rows = random_rows(n_rows, n_in, 6);
    struct weight_source source = {type, n_in, n_out, bytes, "w"};
    struct weight *weight = twin_load(&twin, WEIGHT_PLAIN, &source, 1);
    float *want = twin_product(&twin, weight, rows, n_rows);
    for (size_t i = 0; i < n_chunks; i++) {
        for (uint32_t first = 0; first < n_rows; first += chunks[i]) {
            uint32_t n = n_rows - first < chunks[i] ? n_rows - first : chunks[i];
            float *got = twin_product(&twin, weight, rows + (size_t)first * n_in, n);
            assert_memory_equal(got, want + (size_t)first * n_out, n * n_out * sizeof *got);
            free(got);
        }
    }
    free(want);
    free(bytes);
    free(rows);
    twin.ops->weight_free(twin.device, weight);
    twin_close(&twin);
    passed(type, "company");
}

static void test_cuda_linear__a_row_never_depends_on_its_company(void **state)
{
    static const uint32_t chunks[] = {1, 3, 8, 9, 32, 33, 64};
    size_t first = UNDER_TSAN ? 3 : 0; /* the others have many launches alike */
    for (int t = 0; t < N_PLANE_TYPES; t++)
        check_company(plane_types[t], linear_width(plane_types[t], 672), 20, 67, chunks + first,
                      sizeof chunks / sizeof *chunks - first);
    check_company(TENSOR_Q4_1, 96, 150, 130, chunks + 4, 2); /* fewer tiles than stages */
    check_company(TENSOR_F16, 60, 260, 65, chunks + 4, 1);
}

/* QKV of three types and odd heights, against each matrix alone. */
static void test_cuda_linear__a_fused_weight_gives_the_columns_of_its_parts(void **state)
{
    enum { N_IN = 160, ROWS_MAX = 40, N_SUM = 37 + 16 + 9 };
    static const uint32_t types[2][3] = {{TENSOR_Q4_1, TENSOR_Q8_0, TENSOR_F16},
                                         {TENSOR_F32, TENSOR_Q4_0, TENSOR_Q4_1}};
    static const uint32_t outs[3] = {37, 16, 9};
    float *rows = random_rows(ROWS_MAX, N_IN, 20);
    for (int pass = 0; pass < 4; pass++) {
        uint32_t n_rows = pass < 2 ? 14 : ROWS_MAX;
        struct twin twin = twin_open(BACKEND_CUDA);
        struct weight_source sources[3];
        for (int i = 0; i < 3; i++) {
            uint32_t type = types[pass % 2][i];
            sources[i] = (struct weight_source){type, N_IN, outs[i],
                                                random_weight(type, N_IN, outs[i], 30), "part"};
        }
        struct weight *fused = twin_load(&twin, WEIGHT_QKV, sources, 3);
        struct weight_info info = twin.ops->weight_info(fused);
        assert_int_equal(info.n_out, N_SUM);
        assert_int_equal(info.act_forms, pass % 2 == 0 ? ACT_BLOCKS : ACT_BLOCKS | ACT_FLOATS);
        float *whole = twin_product(&twin, fused, rows, n_rows);
        for (uint32_t i = 0, column = 0; i < 3; column += outs[i++]) {
            struct weight *alone = twin_load(&twin, WEIGHT_PLAIN, &sources[i], 1);
            float *part = twin_product(&twin, alone, rows, n_rows);
            for (uint32_t r = 0; r < n_rows; r++)
                assert_memory_equal(whole + r * N_SUM + column, part + r * outs[i],
                                    outs[i] * sizeof *part);
            twin.ops->weight_free(twin.device, alone);
            free(part);
            free((void *)(uintptr_t)sources[i].bytes);
        }
        free(whole);
        twin.ops->weight_free(twin.device, fused);
        twin_close(&twin);
    }
    free(rows);
}

/* A row times 2^20 has a scale; its outputs are the row's, times 2^20, to the bit. */
static void test_cuda_linear__takes_rows_that_pass_f16(void **state)
{
    enum { N_IN = 256, N_ROWS = 3 };
    for (int t = 0; t < N_PLANE_TYPES; t++) {
        struct linear_case c = {plane_types[t], N_IN, 17, N_ROWS, LINEAR_SET, false, 0, 50};
        float *x = random_rows(N_ROWS, N_IN, 51);
        for (int i = 0; i < N_IN * N_ROWS; i++)
            x[i] = roundf(x[i] * 4); /* halves hold the quotient too */
        x[N_IN + 7] = 2000;
        float *plain = run_case(&c, x, NULL);
        for (int i = 0; i < N_IN; i++)
            x[N_IN + i] *= 0x1p20f;
        float *scaled = run_case(&c, x, NULL);
        for (uint32_t i = 0; i < N_ROWS * c.n_out; i++)
            assert_true(scaled[i] == plain[i] * (i / c.n_out == 1 ? 0x1p20f : 1.0f));
        free(x);
        free(plain);
        free(scaled);
    }
}

/* A NaN row and one with an Inf: every other value keeps its bits. */
static void test_cuda_linear__a_broken_row_harms_only_itself(void **state)
{
    enum { N_IN = 256, N_ROWS = 14 };
    for (int t = 0; t < N_PLANE_TYPES; t++) {
        struct linear_case c = {plane_types[t], N_IN, 20, N_ROWS, LINEAR_SET, false, 0, 40};
        float *x = random_rows(N_ROWS, N_IN, 41);
        float *clean = run_case(&c, x, NULL);
        x[3 * N_IN + 5] = NAN;
        x[13 * N_IN + 40] = INFINITY;
        float *harmed = run_case(&c, x, NULL);
        for (uint32_t i = 0; i < N_ROWS * c.n_out; i++) {
            bool is_broken = i / c.n_out == 3 || i / c.n_out == 13;
            if (is_broken)
                assert_false(isfinite(harmed[i]));
            else
                assert_memory_equal(&harmed[i], &clean[i], sizeof harmed[i]);
        }
        free(x);
        free(clean);
        free(harmed);
    }
}

static void test_cuda_linear__refuses_weights_that_it_cannot_multiply(void **state)
{
    struct twin twin = twin_open(BACKEND_CUDA);
    struct weight *weight;
    struct why why;
    static const uint8_t bytes[64 * 64];
    struct weight_source pair[2] = {{TENSOR_Q8_0, 64, 4, bytes, "gate"},
                                    {TENSOR_Q8_0, 64, 5, bytes, "up"}};
    const struct ops *ops = twin.ops;
    assert_int_equal(ops->weight_load(twin.device, WEIGHT_GATE_UP, pair, 2, 0, 1, &weight, &why),
                     STATUS_INVALID);
    assert_null(weight);
    assert_int_equal(ops->weight_load(twin.device, WEIGHT_PLAIN, pair, 1, 1, 2, &weight, &why),
                     STATUS_UNSUPPORTED);
    pair[0].type = 16;
    pair[0].n_in = 256;
    assert_int_equal(ops->weight_load(twin.device, WEIGHT_PLAIN, pair, 1, 0, 1, &weight, &why),
                     STATUS_UNSUPPORTED);
    assert_non_null(strstr(why.text, "IQ2_XXS"));
    twin_close(&twin);
}

int main(void)
{
    const struct CMUnitTest tails[] = {
        cmocka_unit_test(test_cuda_linear__gives_the_exact_product_of_f16_rows),
        cmocka_unit_test(test_cuda_linear__is_close_to_the_op_of_the_cpu),
        cmocka_unit_test(test_cuda_linear__columns_beyond_the_outputs_stay_untouched),
        cmocka_unit_test(test_cuda_linear__add_is_the_old_value_plus_the_whole_chain_with_bias),
        cmocka_unit_test(test_cuda_linear__a_row_never_depends_on_its_company),
        cmocka_unit_test(test_cuda_linear__a_fused_weight_gives_the_columns_of_its_parts),
        cmocka_unit_test(test_cuda_linear__takes_rows_that_pass_f16),
        cmocka_unit_test(test_cuda_linear__a_broken_row_harms_only_itself),
        cmocka_unit_test(test_cuda_linear__refuses_weights_that_it_cannot_multiply),
    };
    const struct CMUnitTest medium[] = {
        cmocka_unit_test(test_cuda_linear__gives_the_exact_product_of_a_models_rows),
    };
    return twin_has_cuda() ? matrix_run(tails, sizeof tails / sizeof *tails, medium,
                                        sizeof medium / sizeof *medium)
                           : TWIN_SKIPPED;
}
