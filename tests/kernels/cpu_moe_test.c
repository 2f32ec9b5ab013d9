/* Experts against linears with each expert's matrices alone: the same bits. */
#include "tests/kernels/isa_fixture.h"
#include "tests/kernels/linear_fixture.h"
#include "tests/kernels/moe_fixture.h"
#include "base/status.h"
#include "kernels/cpu/cpu_walk.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

static struct act panel_of(void *owner, const float *rows, uint32_t n_rows, uint32_t width,
                           uint32_t forms)
{
    struct rig *rig = owner;
    struct act act = rig_act(rig, n_rows, width, forms);
    rig_fill_act(rig, &act, rows, n_rows);
    return act;
}

static struct moe_bench bench_of(struct rig *rig)
{
    return (struct moe_bench){rig->device, rig->stream, rig->ops, rig, panel_of};
}

/* Small, and between them every type, counts of an expert's rows on both sides of a panel's 12,
 * ends of tiles and blocks, more experts than pairs. */
static struct moe_case case_of(int i)
{
    static const uint32_t rows[] = {1, 13, 5, 40, 12, 29, 2, 61};
    static const uint32_t used[] = {2, 1, 3, 2, 4, 1, 8, 2};
    static const uint32_t experts[] = {4, 1, 5, 3, 4, 16, 9, 3};
    static const uint32_t outs[] = {16, 33, 7, 300, 48, 20, 64, 100};
    uint32_t type = linear_types[i % N_LINEAR_TYPES];
    uint32_t down_type = linear_types[(i / 2 + 1) % N_LINEAR_TYPES];
    return (struct moe_case){
        .gate_type = type,
        .up_type = i % 4 == 3 ? TENSOR_Q8_0 : type,
        .down_type = down_type,
        .n_experts = experts[i % 8],
        .n_used = used[i % 8],
        .n_in = linear_width(type, 32 * (1 + (uint32_t)i % 4)),
        .n_ff = linear_width(down_type, i % 3 == 0 ? 96 : 32),
        .n_out = outs[i % 8],
        .n_rows = rows[i % 8],
        .scales_input = i % 5 == 1,
        .mode = i % 2 == 0 ? LINEAR_ADD : LINEAR_SET,
        .extra_stride = (uint32_t)i % 3,
    };
}

static float *result_of(enum isa isa, enum activations activations, int n_threads,
                        const struct moe_case *c, const struct moe_inputs *inputs)
{
    struct rig rig = rig_open(isa, activations, n_threads);
    struct moe_bench bench = bench_of(&rig);
    int status;
    float *y = moe_result(&bench, c, inputs, &status);
    assert_int_equal(status, STATUS_OK);
    rig_close(&rig);
    return y;
}

static const enum activations ALL_ACTIVATIONS[] = {ACTIVATIONS_16, ACTIVATIONS_INT8,
                                                   ACTIVATIONS_F32};

static void check_isa(enum isa isa)
{
    for (int i = 0; i < N_LINEAR_TYPES; i++) {
        struct moe_case c = case_of(i);
        struct moe_inputs inputs = moe_inputs_of(&c);
        enum activations activations = ALL_ACTIVATIONS[i % 3];
        struct rig rig = rig_open(isa == ISA_SCALAR ? ISA_AUTO : ISA_SCALAR, activations, 1);
        struct moe_bench bench = bench_of(&rig);
        float *want = moe_of_linears(&bench, &c, &inputs);
        rig_close(&rig);
        float *got = result_of(isa, activations, 1 + i % 3, &c, &inputs);
        assert_memory_equal(want, got,
                            (size_t)c.n_rows * (c.n_out + c.extra_stride) * sizeof *got);
        free(want);
        free(got);
        moe_inputs_free(&c, &inputs);
    }
}

static void test_cpu_moe__scalar_is_linears_summed_by_slot(void **state)
{
    check_isa(ISA_SCALAR);
}

static void test_cpu_moe__avx2_equals_scalar_to_the_bit(void **state)
{
    if (isa_is_skipped(ISA_AVX2))
        skip();
    check_isa(ISA_AVX2);
}

static void test_cpu_moe__avx512_equals_scalar_to_the_bit(void **state)
{
    if (isa_is_skipped(ISA_AVX512))
        skip();
    check_isa(ISA_AVX512);
}

/* An expert's rows are more than stay in L2 while its weights pass. */
static void test_cpu_moe__many_rows_of_one_expert_are_several_items(void **state)
{
    struct moe_case c = {TENSOR_Q4_1, TENSOR_Q4_1, TENSOR_Q4_1, 2, 1, 4096, 32, 16, 100,
                         false,       LINEAR_SET,  0};
    struct act in = {.width = c.n_in, .forms = ACT_BLOCKS};
    struct cpu_input input = {.act = &in, .n_rows = 60, .activations = ACTIVATIONS_16};
    assert_true(cpu_walk_n_walks(&input) > 1);
    struct moe_inputs inputs = moe_inputs_of(&c);
    struct rig rig = rig_open(ISA_AUTO, ACTIVATIONS_16, 1);
    struct moe_bench bench = bench_of(&rig);
    float *want = moe_of_linears(&bench, &c, &inputs);
    rig_close(&rig);
    float *got = result_of(ISA_AUTO, ACTIVATIONS_16, 2, &c, &inputs);
    assert_memory_equal(want, got, (size_t)c.n_rows * c.n_out * sizeof *got);
    free(want);
    free(got);
    moe_inputs_free(&c, &inputs);
}

static void test_cpu_moe__an_expert_that_is_not_there_sticks(void **state)
{
    struct moe_case c = case_of(4);
    struct moe_inputs inputs = moe_inputs_of(&c);
    inputs.experts[c.n_rows * c.n_used - 1] = c.n_experts;
    struct rig rig = rig_open(ISA_AUTO, ACTIVATIONS_16, 2);
    struct moe_bench bench = bench_of(&rig);
    int status;
    free(moe_result(&bench, &c, &inputs, &status));
    assert_int_equal(status, STATUS_OUT_OF_RANGE);
    rig_close(&rig);
    moe_inputs_free(&c, &inputs);
}

static void test_cpu_moe__experts_of_different_shapes_are_refused(void **state)
{
    static const uint8_t bytes[4096];
    struct rig rig = rig_open(ISA_AUTO, ACTIVATIONS_16, 1);
    struct weight_source sources[4];
    for (int i = 0; i < 4; i++)
        sources[i] = (struct weight_source){TENSOR_Q8_0, 32, 8, bytes, "exps"};
    struct weight *weight;
    struct why why = {.text = ""};
    int (*load)(struct device *, enum weight_fuse, const struct weight_source *, uint32_t, uint32_t,
                uint32_t, struct weight **, struct why *) = rig.ops->weight_load;
    assert_int_equal(
        load(rig.device, WEIGHT_EXPERTS_GATE_UP, sources, 3, 0, 1, &weight, &why), STATUS_INVALID);
    assert_non_null(strstr(why.text, "3 matrices"));
    assert_int_equal(load(rig.device, WEIGHT_EXPERTS, sources, 0, 0, 1, &weight, &why),
                     STATUS_INVALID);
    sources[3].n_out = 9;
    assert_int_equal(
        load(rig.device, WEIGHT_EXPERTS_GATE_UP, sources, 4, 0, 1, &weight, &why), STATUS_INVALID);
    assert_non_null(strstr(why.text, "expert 1 has 9 rows"));
    sources[2].n_out = 9;
    assert_int_equal(
        load(rig.device, WEIGHT_EXPERTS_GATE_UP, sources, 4, 0, 1, &weight, &why), STATUS_INVALID);
    assert_non_null(strstr(why.text, "gate and up must be of equal shape"));
    sources[2].n_out = sources[3].n_out = 8;
    weight = rig_load(&rig, WEIGHT_EXPERTS_GATE_UP, sources, 4);
    struct weight_info info = rig.ops->weight_info(weight);
    assert_int_equal(info.n_experts, 2);
    assert_int_equal(info.n_out, 8);
    assert_int_equal(info.bytes, 2 * 2 * (64 + 512));
    rig.ops->weight_free(rig.device, weight);
    rig_close(&rig);
}

static void test_cpu_moe__as_many_experts_as_can_be_and_one_more(void **state)
{
    static struct weight_source sources[MODEL_EXPERTS_MAX + 1];
    static const float value = 1;
    struct rig rig = rig_open(ISA_AUTO, ACTIVATIONS_16, 1);
    for (int i = 0; i <= MODEL_EXPERTS_MAX; i++)
        sources[i] = (struct weight_source){TENSOR_F32, 1, 1, &value, "exps"};
    struct weight *weight = rig_load(&rig, WEIGHT_EXPERTS, sources, MODEL_EXPERTS_MAX);
    assert_int_equal(rig.ops->weight_info(weight).n_experts, MODEL_EXPERTS_MAX);
    rig.ops->weight_free(rig.device, weight);
    assert_int_equal(rig.ops->weight_load(rig.device, WEIGHT_EXPERTS, sources,
                                          MODEL_EXPERTS_MAX + 1, 0, 1, &weight, NULL),
                     STATUS_INVALID);
    rig_close(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cpu_moe__scalar_is_linears_summed_by_slot),
        cmocka_unit_test(test_cpu_moe__avx2_equals_scalar_to_the_bit),
        cmocka_unit_test(test_cpu_moe__avx512_equals_scalar_to_the_bit),
        cmocka_unit_test(test_cpu_moe__many_rows_of_one_expert_are_several_items),
        cmocka_unit_test(test_cpu_moe__an_expert_that_is_not_there_sticks),
        cmocka_unit_test(test_cpu_moe__experts_of_different_shapes_are_refused),
        cmocka_unit_test(test_cpu_moe__as_many_experts_as_can_be_and_one_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
