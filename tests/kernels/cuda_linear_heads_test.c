/* The CUDA op: to the bit what its own linears give, head by head; close to the CPU's op. */
#include "tests/kernels/cuda_linear_fixture.h"
#include "tests/kernels/heads_fixture.h"
#include "tests/kernels/matrix_fixture.h"
#include "base/status.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

static float *result_on(enum backend backend, const struct heads_case *c,
                        float *(*result)(struct heads_bench *, const struct heads_case *))
{
    struct twin twin = twin_open(backend);
    struct heads_bench bench = {twin.device, twin.stream, twin.ops};
    float *y = result(&bench, c);
    twin_close(&twin);
    return y;
}

static void check_heads(const struct heads_case *c, const char *shapes)
{
    float *want = result_on(BACKEND_CUDA, c, heads_of_linears);
    float *got = result_on(BACKEND_CUDA, c, heads_result);
    assert_memory_equal(want, got, heads_values(c) * sizeof *got);
    free(want);
    free(got);
    matrix_passed("linear_heads", tensor_type_info(c->type)->name, shapes);
}

/* One tile of rows and four, blocks of many and their ends; outputs that end within a tile, and
 * within the tiles of a block; more tails than a block has threads. */
static struct heads_case case_of(uint32_t i)
{
    static const uint32_t rows[] = {1, 9, 33, 70, 8, 32}, heads[] = {3, 2, 3, 2, 5, 1};
    static const uint32_t outs[] = {16, 33, 7, 130, 48, 20}, tails[] = {16, 0, 100, 0, 60, 0};
    uint32_t type = plane_types[i % N_PLANE_TYPES];
    return (struct heads_case){.type = type,
                               .n_heads = heads[i % 6],
                               .n_in = type == TENSOR_F32
                                         ? 37 + i
                                         : linear_width(type, i % 2 == 0 ? 64 : 128),
                               .n_out = outs[i % 6],
                               .n_rows = rows[i % 6],
                               .n_tail = tails[i % 6],
                               .extra = (i + 1) % 3};
}

static void test_cuda_linear_heads__is_a_linear_a_head(void **state)
{
    for (uint32_t i = 0; i < (UNDER_TSAN ? 6 : 15); i++) {
        struct heads_case c = case_of(i);
        check_heads(&c, c.n_rows <= 8 ? "1-8 rows" : c.n_rows <= 32 ? "9-32 rows" : "33- rows");
    }
    for (uint32_t t = 0; t < N_PLANE_TYPES; t++) {
        struct heads_case c = {
            plane_types[t], 2, linear_width(plane_types[t], 64), 20, 40 - t, 3, 1};
        check_heads(&c, "33- rows");
    }
}

static void test_cuda_linear_heads__is_a_linear_a_head_of_a_models_shape(void **state)
{
    struct heads_case into = {TENSOR_Q8_0, 16, 128, 512, 70, 64, 0};
    struct heads_case out_of = {TENSOR_F16, 16, 512, 128, 4, 0, 0};
    check_heads(&into, "medium");
    check_heads(&out_of, "medium");
}

/* Both sides round their activations. */
static void test_cuda_linear_heads__is_close_to_the_op_of_the_cpu(void **state)
{
    for (uint32_t t = 0; t < N_PLANE_TYPES; t++) {
        uint32_t type = plane_types[t];
        struct heads_case c = {type, 3, linear_width(type, 64), 20, 9, 4, 1};
        float *got = result_on(BACKEND_CUDA, &c, heads_result);
        float *want = result_on(BACKEND_CPU, &c, heads_result);
        double error = 0, size = 0;
        for (size_t i = 0; i < heads_values(&c); i++) {
            error += ((double)got[i] - want[i]) * ((double)got[i] - want[i]);
            size += (double)want[i] * want[i];
        }
        assert_true(size > 0 && error <= 0x1p-16 * size);
        free(got);
        free(want);
        matrix_passed("linear_heads", tensor_type_info(type)->name, "near the CPU");
    }
}

static void test_cuda_linear_heads__of_no_whole_tiles_are_refused_by_name(void **state)
{
    struct weight_source source = {TENSOR_Q8_0, 96, 1, random_weight(TENSOR_Q8_0, 96, 1, 1),
                                   "blk.0.attn_k_b.weight"};
    struct twin twin = twin_open(BACKEND_CUDA);
    struct why why = {.text = ""};
    struct weight *weight;
    assert_int_equal(twin.ops->weight_load(twin.device, WEIGHT_HEADS, &source, 1, 0, 1, &weight,
                                           &why),
                     STATUS_UNSUPPORTED);
    assert_non_null(strstr(why.text, "blk.0.attn_k_b.weight: heads of 96 values, and a GPU "
                                     "multiplies multiples of 64; take --backend cpu"));
    twin_close(&twin);
    free((void *)(uintptr_t)source.bytes);
}

int main(void)
{
    const struct CMUnitTest tails[] = {
        cmocka_unit_test(test_cuda_linear_heads__is_a_linear_a_head),
        cmocka_unit_test(test_cuda_linear_heads__is_close_to_the_op_of_the_cpu),
        cmocka_unit_test(test_cuda_linear_heads__of_no_whole_tiles_are_refused_by_name),
    };
    const struct CMUnitTest medium[] = {
        cmocka_unit_test(test_cuda_linear_heads__is_a_linear_a_head_of_a_models_shape),
    };
    return twin_has_cuda() ? matrix_run(tails, sizeof tails / sizeof *tails, medium,
                                        sizeof medium / sizeof *medium)
                           : TWIN_SKIPPED;
}
