/* A matrix a head against linears with each head's matrix alone: the same bits. */
#include "tests/kernels/heads_fixture.h"
#include "tests/kernels/isa_fixture.h"
#include "tests/kernels/linear_fixture.h"
#include "base/status.h"
#include "kernels/cpu/cpu_panel.h"
#include "kernels/cpu/cpu_walk.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

static const enum activations ALL_ACTIVATIONS[] = {ACTIVATIONS_16, ACTIVATIONS_INT8,
                                                   ACTIVATIONS_F32};

/* Every type; counts of rows on both sides of a panel's 12, ends of tiles, odd widths of floats. */
static struct heads_case case_of(int i)
{
    static const uint32_t rows[] = {1, 13, 5, 40, 12, 29, 2, 61};
    static const uint32_t heads[] = {4, 1, 5, 3, 16, 2, 7, 3};
    static const uint32_t outs[] = {16, 33, 7, 100, 48, 20, 64, 30};
    static const uint32_t tails[] = {16, 0, 3, 0, 64, 1, 0, 8};
    uint32_t type = linear_types[i % N_LINEAR_TYPES];
    uint32_t n_in = tensor_type_is_float(type) ? 33 + (uint32_t)i : linear_width(type, 64);
    return (struct heads_case){.type = type,
                               .n_heads = heads[i % 8],
                               .n_in = n_in,
                               .n_out = outs[i % 8],
                               .n_rows = rows[i % 8],
                               .n_tail = tails[i % 8],
                               .extra = (uint32_t)i % 3};
}

static float *result_on(enum isa isa, enum activations activations, int n_threads,
                        const struct heads_case *c,
                        float *(*result)(struct heads_bench *, const struct heads_case *))
{
    struct rig rig = rig_open(isa, activations, n_threads);
    struct heads_bench bench = {rig.device, rig.stream, rig.ops};
    float *y = result(&bench, c);
    rig_close(&rig);
    return y;
}

static void check_isa(enum isa isa)
{
    enum isa other = isa == ISA_SCALAR ? ISA_AUTO : ISA_SCALAR;
    for (int i = 0; i < 2 * N_LINEAR_TYPES; i++) {
        struct heads_case c = case_of(i);
        enum activations activations = ALL_ACTIVATIONS[i % 3];
        float *want = result_on(other, activations, 1, &c, heads_of_linears);
        float *got = result_on(isa, activations, 1 + i % 3, &c, heads_result);
        assert_memory_equal(want, got, heads_values(&c) * sizeof *got);
        free(want);
        free(got);
    }
}

static void test_cpu_linear_heads__scalar_is_a_linear_a_head(void **state)
{
    check_isa(ISA_SCALAR);
}

static void test_cpu_linear_heads__avx2_equals_scalar_to_the_bit(void **state)
{
    if (isa_is_skipped(ISA_AVX2))
        skip();
    check_isa(ISA_AVX2);
}

static void test_cpu_linear_heads__avx512_equals_scalar_to_the_bit(void **state)
{
    if (isa_is_skipped(ISA_AVX512))
        skip();
    check_isa(ISA_AVX512);
}

/* The panel of all heads is more than stays in L2, that of one is not: its matrix passes once. */
static void test_cpu_linear_heads__a_heads_own_part_decides_how_often_weights_pass(void **state)
{
    struct act in = {.width = 64 * 512, .forms = ACT_BLOCKS};
    struct cpu_input input = {.act = &in, .n_rows = 60, .activations = ACTIVATIONS_16};
    assert_int_equal(cpu_walk_n_walks(&input), 2); /* four of its five groups, however wide */
    input.n_in = 512;
    assert_int_equal(cpu_walk_n_walks(&input), 1);
}

static void test_cpu_linear_heads__one_head_more_than_there_can_be_is_refused(void **state)
{
    static struct weight_source sources[MODEL_EXPERTS_MAX + 1];
    static const float value = 1;
    struct rig rig = rig_open(ISA_AUTO, ACTIVATIONS_16, 1);
    struct why why = {.text = ""};
    struct weight *weight;
    for (int i = 0; i <= MODEL_EXPERTS_MAX; i++)
        sources[i] = (struct weight_source){TENSOR_F32, 1, 1, &value, "attn_k_b"};
    weight = rig_load(&rig, WEIGHT_HEADS, sources, MODEL_HEADS_MAX);
    assert_int_equal(rig.ops->weight_info(weight).n_experts, MODEL_HEADS_MAX);
    rig.ops->weight_free(rig.device, weight);
    assert_int_equal(rig.ops->weight_load(rig.device, WEIGHT_HEADS, sources, MODEL_HEADS_MAX + 1, 0,
                                          1, &weight, &why),
                     STATUS_INVALID);
    assert_non_null(strstr(why.text, "1025 matrices are not those of 1 to 1024 heads"));
    rig_close(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cpu_linear_heads__scalar_is_a_linear_a_head),
        cmocka_unit_test(test_cpu_linear_heads__avx2_equals_scalar_to_the_bit),
        cmocka_unit_test(test_cpu_linear_heads__avx512_equals_scalar_to_the_bit),
        cmocka_unit_test(test_cpu_linear_heads__a_heads_own_part_decides_how_often_weights_pass),
        cmocka_unit_test(test_cpu_linear_heads__one_head_more_than_there_can_be_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
