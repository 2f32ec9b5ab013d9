#include "tests/kernels/isa_fixture.h"
#include "tests/kernels/linear_fixture.h"
#include "tests/under_tsan.h"
#include "base/status.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const enum activations ALL_ACTIVATIONS[] = {ACTIVATIONS_16, ACTIVATIONS_INT8,
                                                   ACTIVATIONS_F32};

static float *copy_of_dequantized(const struct linear_case *c)
{
    uint8_t *bytes = random_weight(c->type, c->n_in, c->n_out, c->seed);
    float *values = malloc((size_t)c->n_in * c->n_out * sizeof *values);
    size_t row_bytes = tensor_type_bytes(c->type, c->n_in, 1);
    for (uint32_t o = 0; o < c->n_out; o++)
        tensor_type_row_to_f32(c->type, bytes + o * row_bytes, c->n_in,
                               values + (size_t)o * c->n_in);
    free(bytes);
    return values;
}

/* What quantizing the activations may cost an output: half a step of every block times |w|; steps
 * are twice as wide where 16-bit magnitudes sum to 16 limits. */
static double quantizer_bound(const float *w, const float *x, uint32_t n_in, double limit)
{
    double bound = 0;
    for (uint32_t b = 0; b < n_in; b += 32) {
        double amax = 0, weights = 0, size = 0;
        for (uint32_t k = b; k < b + 32 && k < n_in; k++) {
            amax = fmax(amax, fabs((double)x[k]));
            size += fabs((double)x[k]);
            weights += fabs((double)w[k]);
        }
        bool is_loud = limit > 127 && size > 15.99 * amax;
        bound += amax / limit / (is_loud ? 1 : 2) * weights;
    }
    return bound;
}

/* Tolerance: the quantizer's half steps (none for floats) and n_in + 4 roundings of the sum of |w
 * x|. */
static void check_against_doubles(enum activations activations, const struct linear_case *c)
{
    float *y = linear_result(ISA_SCALAR, activations, 1, c);
    float *w = copy_of_dequantized(c), *x = random_rows(c->n_rows, c->n_in, c->seed + 1);
    float *bias = random_rows(1, c->n_out, c->seed + 2);
    bool floats = activations == ACTIVATIONS_F32 || tensor_type_is_float(c->type);

    for (uint32_t r = 0; r < c->n_rows; r++) {
        for (uint32_t o = 0; o < c->n_out; o++) {
            const float *w_row = w + (size_t)o * c->n_in, *x_row = x + (size_t)r * c->n_in;
            double sum = 0, size = 1;
            for (uint32_t k = 0; k < c->n_in; k++) {
                sum += (double)w_row[k] * x_row[k];
                size += fabs((double)w_row[k] * x_row[k]);
            }
            sum += c->has_bias ? bias[o] : 0;
            sum += c->mode == LINEAR_ADD ? 0.5 : 0;
            double tolerance = size * (c->n_in + 4) * 0x1p-24;
            if (!floats)
                tolerance += quantizer_bound(w_row, x_row, c->n_in,
                                             activations == ACTIVATIONS_16 ? 32512 : 127);
            double got = y[(size_t)r * (c->n_out + c->extra_stride) + o];
            assert_true(fabs(got - sum) <= tolerance);
        }
    }
    free(y);
    free(w);
    free(x);
    free(bias);
}

static void test_cpu_linear__scalar_is_the_product_that_doubles_give(void **state)
{
    SKIP_UNDER_TSAN();
    for (int t = 0; t < N_LINEAR_TYPES; t++) {
        for (int a = 0; a < 3; a++) {
            uint32_t type = linear_types[t], wide = linear_width(type, 576);
            struct linear_case c = {type, wide, 35, 3, LINEAR_SET, false, 0, 7};
            check_against_doubles(ALL_ACTIVATIONS[a], &c);
            c = (struct linear_case){type, linear_width(type, 96), 17, 14, LINEAR_ADD, true, 3, 8};
            check_against_doubles(ALL_ACTIVATIONS[a], &c);
        }
    }
}

/* Shapes with every tail: one output, part of a tile, whole tiles; one block, odd blocks, several
 * pieces of k. */
static struct linear_case case_of(uint32_t type, int i)
{
    static const uint32_t widths[] = {32, 64, 96, 576, 992, 1536, 2048};
    static const uint32_t outs[] = {1, 15, 16, 17, 33, 64, 100, 200};
    static const uint32_t rows[] = {1, 2, 3, 5, 7, 11, 12, 13, 24, 25, 40};
    uint64_t state = (uint64_t)i * 977 + type;
    bool is_large = type < TENSOR_Q5_0 || type == TENSOR_Q8_0; /* the others' loaders see a block */
    uint32_t n_in = widths[random_next(&state) % (is_large ? 7 : 4)];
    if (tensor_type_is_float(type) && random_next(&state) % 2 == 0)
        n_in -= 1 + random_next(&state) % 31;
    n_in = linear_width(type, n_in);
    return (struct linear_case){
        .type = type,
        .n_in = n_in,
        .n_out = outs[random_next(&state) % (is_large ? 8 : 5)],
        .n_rows = rows[(uint32_t)i % 11],
        .mode = random_next(&state) % 2 == 0 ? LINEAR_SET : LINEAR_ADD,
        .has_bias = random_next(&state) % 2 == 0,
        .extra_stride = random_next(&state) % 3,
        .seed = (uint64_t)i + 100,
    };
}

static void check_case(enum isa isa, enum activations activations, int n_threads,
                       const struct linear_case *c)
{
    float *want = linear_result(ISA_SCALAR, activations, 1, c);
    float *got = linear_result(isa, activations, n_threads, c);
    assert_memory_equal(want, got, c->n_rows * (c->n_out + c->extra_stride) * sizeof *got);
    free(want);
    free(got);
}

static void check_isa_equals_scalar(enum isa isa)
{
    for (int t = 0; t < N_LINEAR_TYPES; t++) {
        int each = UNDER_TSAN ? 10 : t < 5 ? 1 : 3; /* every third has every number of rows */
        for (int i = 0; i < 33; i += each) {
            struct linear_case c = case_of(linear_types[t], i);
            check_case(isa, ALL_ACTIVATIONS[(i + i / 11) % 3], 1 + i % 3, &c);
        }
        for (uint32_t m = 1; m <= 12 && !UNDER_TSAN; m++) {
            uint32_t n_in = linear_width(linear_types[t], 96);
            struct linear_case c = {linear_types[t], n_in, 19, m, LINEAR_SET, false, 0, m};
            for (int a = 0; a < 3; a++)
                check_case(isa, ALL_ACTIVATIONS[a], 1, &c);
        }
    }
}

static void test_cpu_linear__avx2_equals_scalar_to_the_bit(void **state)
{
    if (isa_is_skipped(ISA_AVX2))
        skip();
    check_isa_equals_scalar(ISA_AVX2);
}

static void test_cpu_linear__avx512_equals_scalar_to_the_bit(void **state)
{
    if (isa_is_skipped(ISA_AVX512))
        skip();
    check_isa_equals_scalar(ISA_AVX512);
}

static void test_cpu_linear__columns_beyond_the_outputs_stay_untouched(void **state)
{
    struct linear_case c = {TENSOR_Q4_1, 64, 21, 13, LINEAR_SET, false, 5, 3};
    float *y = linear_result(ISA_AUTO, ACTIVATIONS_16, 2, &c);
    for (uint32_t r = 0; r < c.n_rows; r++)
        for (uint32_t o = c.n_out; o < c.n_out + c.extra_stride; o++)
            assert_true(y[r * (c.n_out + c.extra_stride) + o] == 0.5f);
    free(y);
}

static void test_cpu_linear__add_is_the_old_value_plus_the_whole_chain_with_bias(void **state)
{
    for (int t = 0; t < N_LINEAR_TYPES; t++) {
        uint32_t n_in = linear_width(linear_types[t], 96);
        struct linear_case c = {linear_types[t], n_in, 40, 5, LINEAR_SET, true, 0, 4};
        float *set = linear_result(ISA_AUTO, ACTIVATIONS_16, 1, &c);
        c.mode = LINEAR_ADD;
        float *add = linear_result(ISA_AUTO, ACTIVATIONS_16, 1, &c);
        for (uint32_t i = 0; i < c.n_rows * c.n_out; i++)
            assert_true(add[i] == 0.5f + set[i]);
        free(set);
        free(add);
    }
}

/* One weight and rows 0..n-1; the rows are multiplied in steps of `chunk` rows. */
static void run_chunks(struct rig *rig, const struct weight *weight, const float *rows,
                       uint32_t n_rows, uint32_t chunk, float *result)
{
    struct weight_info info = rig->ops->weight_info(weight);
    struct act act = rig_act(rig, n_rows, info.n_in, info.act_forms);
    float *y = rig_alloc_floats(rig, (size_t)n_rows * info.n_out);
    for (uint32_t first = 0; first < n_rows; first += chunk) {
        uint32_t n = n_rows - first < chunk ? n_rows - first : chunk;
        rig_fill_act(rig, &act, rows + (size_t)first * info.n_in, n);
        rig->ops->linear(rig->stream, &(struct linear_args){.weight = weight,
                                                            .in = act,
                                                            .n_rows = n,
                                                            .y = y + (size_t)first * info.n_out,
                                                            .y_stride = info.n_out});
        rig_run(rig);
    }
    device_read(rig->stream, result, y, (size_t)n_rows * info.n_out * sizeof *y);
    rig_run(rig);
    device_free(rig->device, y);
    device_free(rig->device, act.base);
}

static void check_rows_never_depend_on_company(uint32_t type, enum activations activations)
{
    enum { N_IN = 1280, N_OUT = 70, N_ROWS = 67 };
    static const uint32_t chunks[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 24, 37, 64, 67};
    static float want[N_ROWS * N_OUT], got[N_ROWS * N_OUT];
    uint8_t *bytes = random_weight(type, N_IN, N_OUT, 5);
    float *rows = random_rows(N_ROWS, N_IN, 6);
    struct weight_source source = {type, N_IN, N_OUT, bytes, "w"};
    for (int n_threads = 1; n_threads <= 3; n_threads++) {
        struct rig rig = rig_open(ISA_AUTO, activations, n_threads);
        struct weight *weight = rig_load(&rig, WEIGHT_PLAIN, &source, 1);
        for (size_t i = 0; i < sizeof chunks / sizeof chunks[0]; i++) {
            bool is_first = n_threads == 1 && i == 0;
            run_chunks(&rig, weight, rows, N_ROWS, chunks[i], is_first ? want : got);
            if (!is_first)
                assert_memory_equal(want, got, sizeof want);
        }
        rig.ops->weight_free(rig.device, weight);
        rig_close(&rig);
    }
    free(bytes);
    free(rows);
}

static void test_cpu_linear__a_row_never_depends_on_chunks_or_threads(void **state)
{
    /* one type of each form of chain, and floats of each width; the loaders hold no rows */
    static const uint32_t types[] = {TENSOR_F32, TENSOR_BF16, TENSOR_Q8_0,
                                     TENSOR_Q4_1, TENSOR_Q6_K, TENSOR_Q2_K};
    for (size_t t = 0; t < sizeof types / sizeof types[0]; t += UNDER_TSAN ? 2 : 1)
        for (int a = 0; a < (tensor_type_is_float(types[t]) ? 1 : 3); a++)
            check_rows_never_depend_on_company(types[t], ALL_ACTIVATIONS[a]);
}

/* 600 rows of 2048 are more panels than one walk and more k than one piece. */
static void test_cpu_linear__long_prefills_equal_single_rows(void **state)
{
    enum { N_IN = 2048, N_OUT = 40, N_ROWS = 600 };
    static float want[N_ROWS * N_OUT], got[N_ROWS * N_OUT];
    uint8_t *bytes = random_weight(TENSOR_Q8_0, N_IN, N_OUT, 9);
    float *rows = random_rows(N_ROWS, N_IN, 10);
    struct weight_source source = {TENSOR_Q8_0, N_IN, N_OUT, bytes, "w"};
    struct rig rig = rig_open(ISA_AUTO, ACTIVATIONS_16, 2);
    struct weight *weight = rig_load(&rig, WEIGHT_PLAIN, &source, 1);
    run_chunks(&rig, weight, rows, N_ROWS, 1, want);
    run_chunks(&rig, weight, rows, N_ROWS, N_ROWS, got);
    assert_memory_equal(want, got, sizeof want);
    rig.ops->weight_free(rig.device, weight);
    rig_close(&rig);
    free(bytes);
    free(rows);
}

/* Codes of -32 times scales of -128, and rows that are one magnitude: 32 of them are 2^31 at the
 * full limit. Whether a product leaves 32 bits shows in its sign. */
static void test_cpu_linear__the_largest_products_of_q6_k_stay_in_32_bits(void **state)
{
    enum { N_IN = 512, N_OUT = 17, N_ROWS = 14, BLOCK = 210, D_AT = 208, SCALES_AT = 192 };
    static const enum isa isas[] = {ISA_SCALAR, ISA_AVX2, ISA_AVX512};
    static uint8_t bytes[N_IN / 256 * N_OUT * BLOCK]; /* all codes 0, which are -32 */
    static float rows[N_ROWS * N_IN], y[N_ROWS * N_OUT];
    for (size_t at = 0; at < sizeof bytes; at += BLOCK) {
        memset(bytes + at + SCALES_AT, 0x80, 16);
        memcpy(bytes + at + D_AT, &(uint16_t){0x3c00}, 2); /* 1 */
    }
    for (int i = 0; i < N_ROWS * N_IN; i++)
        rows[i] = i / N_IN % 2 == 0 ? 1 : -1;
    struct weight_source source = {TENSOR_Q6_K, N_IN, N_OUT, bytes, "w"};
    for (int i = 0; i < 3 * 2; i++) {
        if (isas[i / 2] != ISA_SCALAR && isa_is_skipped(isas[i / 2]))
            continue;
        struct rig rig = rig_open(isas[i / 2], i % 2 == 0 ? ACTIVATIONS_16 : ACTIVATIONS_INT8, 1);
        struct weight *weight = rig_load(&rig, WEIGHT_PLAIN, &source, 1);
        for (uint32_t chunk = 1; chunk <= N_ROWS; chunk += N_ROWS - 1) {
            run_chunks(&rig, weight, rows, N_ROWS, chunk, y);
            for (int o = 0; o < N_ROWS * N_OUT; o++) {
                float want = (o / N_OUT % 2 == 0 ? 1 : -1) * 4096.0f * N_IN;
                assert_true(fabsf(y[o] - want) <= 1);
            }
        }
        rig.ops->weight_free(rig.device, weight);
        rig_close(&rig);
    }
}

/* QKV of three types and odd heights, against each matrix alone. */
static void test_cpu_linear__a_fused_weight_gives_the_columns_of_its_parts(void **state)
{
    enum { N_IN = 160, N_ROWS = 14, N_SUM = 37 + 16 + 9 };
    static const uint32_t types[3] = {TENSOR_Q4_1, TENSOR_Q8_0, TENSOR_F16}, outs[3] = {37, 16, 9};
    struct weight_source sources[3];
    float *rows = random_rows(N_ROWS, N_IN, 20);
    struct rig rig = rig_open(ISA_AUTO, ACTIVATIONS_16, 2);
    for (int i = 0; i < 3; i++)
        sources[i] = (struct weight_source){types[i], N_IN, outs[i],
                                            random_weight(types[i], N_IN, outs[i], 30), "part"};
    struct weight *fused = rig_load(&rig, WEIGHT_QKV, sources, 3);
    assert_int_equal(rig.ops->weight_info(fused).act_forms, ACT_BLOCKS | ACT_FLOATS);
    assert_int_equal(rig.ops->weight_info(fused).n_out, N_SUM);
    static float whole[N_ROWS * N_SUM], part[N_ROWS * 37];
    run_chunks(&rig, fused, rows, N_ROWS, N_ROWS, whole);

    uint32_t column = 0;
    for (int i = 0; i < 3; i++) {
        struct weight *alone = rig_load(&rig, WEIGHT_PLAIN, &sources[i], 1);
        run_chunks(&rig, alone, rows, N_ROWS, 5, part);
        for (uint32_t r = 0; r < N_ROWS; r++)
            assert_memory_equal(whole + r * N_SUM + column, part + r * outs[i],
                                outs[i] * sizeof *part);
        column += outs[i];
        rig.ops->weight_free(rig.device, alone);
        free((void *)(uintptr_t)sources[i].bytes);
    }
    rig.ops->weight_free(rig.device, fused);
    rig_close(&rig);
    free(rows);
}

/* A NaN row and an Inf scale: their outputs are NaN or Inf, every other value keeps its bits. */
static void test_cpu_linear__a_broken_row_harms_only_itself(void **state)
{
    enum { N_IN = 256, N_OUT = 20, N_ROWS = 14 };
    static float clean[N_ROWS * N_OUT], harmed[N_ROWS * N_OUT];
    for (int t = 0; t < N_LINEAR_TYPES; t++) {
        for (int a = 0; a < 3; a++) {
            uint8_t *bytes = random_weight(linear_types[t], N_IN, N_OUT, 40);
            float *rows = random_rows(N_ROWS, N_IN, 41);
            struct weight_source source = {linear_types[t], N_IN, N_OUT, bytes, "w"};
            struct rig rig = rig_open(ISA_AUTO, ALL_ACTIVATIONS[a], 1);
            struct weight *weight = rig_load(&rig, WEIGHT_PLAIN, &source, 1);
            run_chunks(&rig, weight, rows, N_ROWS, N_ROWS, clean);
            rows[3 * N_IN + 5] = NAN;
            rows[13 * N_IN + 40] = INFINITY;
            run_chunks(&rig, weight, rows, N_ROWS, N_ROWS, harmed);
            for (uint32_t i = 0; i < N_ROWS * N_OUT; i++) {
                bool is_broken = i / N_OUT == 3 || i / N_OUT == 13;
                if (is_broken)
                    assert_false(isfinite(harmed[i]));
                else
                    assert_memory_equal(&harmed[i], &clean[i], sizeof harmed[i]);
            }
            rig.ops->weight_free(rig.device, weight);
            rig_close(&rig);
            free(rows);
            free(bytes);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cpu_linear__scalar_is_the_product_that_doubles_give),
        cmocka_unit_test(test_cpu_linear__avx2_equals_scalar_to_the_bit),
        cmocka_unit_test(test_cpu_linear__avx512_equals_scalar_to_the_bit),
        cmocka_unit_test(test_cpu_linear__the_largest_products_of_q6_k_stay_in_32_bits),
        cmocka_unit_test(test_cpu_linear__columns_beyond_the_outputs_stay_untouched),
        cmocka_unit_test(test_cpu_linear__add_is_the_old_value_plus_the_whole_chain_with_bias),
        cmocka_unit_test(test_cpu_linear__a_row_never_depends_on_chunks_or_threads),
        cmocka_unit_test(test_cpu_linear__long_prefills_equal_single_rows),
        cmocka_unit_test(test_cpu_linear__a_fused_weight_gives_the_columns_of_its_parts),
        cmocka_unit_test(test_cpu_linear__a_broken_row_harms_only_itself),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
