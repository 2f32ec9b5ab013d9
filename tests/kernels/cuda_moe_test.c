/* The CUDA op: to the bit what its own linears give, expert by expert; close to the CPU's op; and
 * one graph for whatever rows choose. */
#include "tests/kernels/cuda_linear_fixture.h"
#include "tests/kernels/matrix_fixture.h"
#include "tests/kernels/moe_fixture.h"
#include "base/status.h"
#include "kernels/cpu/cpu_panel.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The caller frees it. */
static struct act cuda_panel(void *owner, const float *rows, uint32_t n_rows, uint32_t width,
                             uint32_t forms)
{
    struct twin *twin = owner;
    struct act act = twin_panel(twin, rows, n_rows, width, forms);
    twin->n_allocs--;
    return act;
}

static struct act cpu_panel(void *owner, const float *rows, uint32_t n_rows, uint32_t width,
                            uint32_t forms)
{
    struct twin *twin = owner;
    struct act act = {NULL, n_rows, width, forms};
    act.base = twin_alloc(twin, twin->ops->act_bytes(twin->device, n_rows, width, forms));
    twin->n_allocs--;
    for (uint32_t r = 0; r < n_rows; r++)
        cpu_panel_ops(ISA_SCALAR)->write(&act, ACTIVATIONS_16, r, n_rows, 0, width,
                                         rows + (size_t)r * width);
    return act;
}

static struct moe_bench bench_of(struct twin *twin, enum backend backend)
{
    return (struct moe_bench){twin->device, twin->stream, twin->ops, twin,
                              backend == BACKEND_CUDA ? cuda_panel : cpu_panel};
}

static const char *shapes_of(const struct moe_case *c)
{
    if (c->n_in >= 1024)
        return "medium";
    return c->scales_input ? "input scaled" : c->n_rows <= 8 ? "1-8 rows" : "9- rows";
}

/* Row 1 may be so large that it, and what its experts make of it, pass f16. */
static void check_moe(const struct moe_case *c, float row_scale)
{
    struct twin twin = twin_open(BACKEND_CUDA);
    struct moe_bench bench = bench_of(&twin, BACKEND_CUDA);
    struct moe_inputs inputs = moe_inputs_of(c);
    for (uint32_t i = 0; i < c->n_in && c->n_rows > 1; i++)
        inputs.rows[c->n_in + i] *= row_scale;
    int status;
    float *want = moe_of_linears(&bench, c, &inputs);
    float *got = moe_result(&bench, c, &inputs, &status);
    assert_int_equal(status, STATUS_OK);
    assert_memory_equal(want, got, (size_t)c->n_rows * (c->n_out + c->extra_stride) * sizeof *got);
    free(want);
    free(got);
    moe_inputs_free(c, &inputs);
    twin_close(&twin);
    matrix_passed("moe", tensor_type_info(c->gate_type)->name, shapes_of(c));
}

static struct moe_case case_of(uint32_t i)
{
    static const uint32_t rows[] = {1, 9, 5, 40, 8}, used[] = {2, 1, 3, 2, 4};
    static const uint32_t experts[] = {4, 1, 5, 3, 40}, outs[] = {16, 33, 7, 70, 48};
    uint32_t type = plane_types[i % N_PLANE_TYPES];
    uint32_t down_type = plane_types[(i + 2) % N_PLANE_TYPES];
    return (struct moe_case){
        .gate_type = type,
        .up_type = i % 4 == 3 ? TENSOR_Q8_0 : type,
        .down_type = down_type,
        .n_experts = experts[i % 5],
        .n_used = used[i % 5],
        .n_in = linear_width(type, 32 * (1 + i % 3)),
        .n_ff = linear_width(down_type, i % 2 == 0 ? 96 : 32),
        .n_out = outs[i % 5],
        .n_rows = rows[(i + i / 5) % 5],
        .scales_input = i % 3 == 1,
        .mode = i % 2 == 0 ? LINEAR_ADD : LINEAR_SET,
        .extra_stride = i % 3,
    };
}

static void test_cuda_moe__is_linears_summed_by_slot(void **state)
{
    for (uint32_t i = 0; i < (UNDER_TSAN ? 5 : 10); i++) {
        struct moe_case c = case_of(i);
        check_moe(&c, i % 2 == 0 ? 30000.0f : 1.0f);
    }
}

/* More pairs than the sort looks at together, and experts than it has threads. */
static void test_cuda_moe__sorts_many_pairs_and_experts(void **state)
{
    struct moe_case c = {TENSOR_F32, TENSOR_F32, TENSOR_F32, 320, 23, 4, 2, 1, 50,
                         false,      LINEAR_SET, 0};
    struct moe_inputs inputs = moe_inputs_of(&c);
    struct twin cuda = twin_open(BACKEND_CUDA), cpu = twin_open(BACKEND_CPU);
    struct moe_bench bench = bench_of(&cuda, BACKEND_CUDA), other = bench_of(&cpu, BACKEND_CPU);
    for (uint32_t i = 0; i < c.n_rows * c.n_used; i++) /* to all of them */
        inputs.experts[i] = (inputs.experts[i] + i / c.n_used * 17) % c.n_experts;
    int status;
    float *got = moe_result(&bench, &c, &inputs, &status);
    assert_int_equal(status, STATUS_OK);
    float *want = moe_result(&other, &c, &inputs, &status);
    assert_int_equal(status, STATUS_OK);
    for (uint32_t r = 0; r < c.n_rows; r++)
        assert_true(fabsf(got[r] - want[r]) <= 1e-4f * (1 + fabsf(want[r])));
    free(got);
    free(want);
    twin_close(&cuda);
    twin_close(&cpu);
    moe_inputs_free(&c, &inputs);
    matrix_passed("moe", "F32", "many experts");
}

/* Both sides round their activations twice. */
static void test_cuda_moe__is_close_to_the_op_of_the_cpu(void **state)
{
    for (uint32_t t = 0; t < N_PLANE_TYPES; t++) {
        uint32_t type = plane_types[t];
        struct moe_case c = {.gate_type = type,
                             .up_type = type,
                             .down_type = type,
                             .n_experts = 4,
                             .n_used = 2,
                             .n_in = linear_width(type, 64),
                             .n_ff = linear_width(type, 32),
                             .n_out = 20,
                             .n_rows = 9,
                             .scales_input = t == 1,
                             .mode = LINEAR_SET};
        struct moe_inputs inputs = moe_inputs_of(&c);
        struct twin cuda = twin_open(BACKEND_CUDA), cpu = twin_open(BACKEND_CPU);
        struct moe_bench bench = bench_of(&cuda, BACKEND_CUDA), other = bench_of(&cpu, BACKEND_CPU);
        int status;
        float *got = moe_result(&bench, &c, &inputs, &status);
        assert_int_equal(status, STATUS_OK);
        float *want = moe_result(&other, &c, &inputs, &status);
        assert_int_equal(status, STATUS_OK);
        double error = 0, size = 0;
        for (uint32_t i = 0; i < c.n_rows * c.n_out; i++) {
            error += ((double)got[i] - want[i]) * ((double)got[i] - want[i]);
            size += (double)want[i] * want[i];
        }
        assert_true(size > 0 && error <= 0x1p-16 * size);
        free(got);
        free(want);
        twin_close(&cuda);
        twin_close(&cpu);
        moe_inputs_free(&c, &inputs);
        matrix_passed("moe", tensor_type_info(type)->name, "near the CPU");
    }
}

static void test_cuda_moe__one_graph_serves_whatever_rows_choose(void **state)
{
    struct moe_case c = {TENSOR_Q8_0, TENSOR_Q8_0, TENSOR_F16, 6, 2, 64, 32, 20, 12,
                         false,       LINEAR_SET,  0};
    struct moe_inputs inputs = moe_inputs_of(&c);
    struct twin twin = twin_open(BACKEND_CUDA);
    struct moe_bench bench = bench_of(&twin, BACKEND_CUDA);
    struct moe_args args = moe_open(&bench, &c, &inputs);
    size_t n_pairs = c.n_rows * c.n_used;
    struct graph *graph;
    assert_int_equal(graph_begin(twin.stream, NULL), STATUS_OK);
    twin.ops->moe(twin.stream, &args);
    assert_int_equal(graph_end(twin.stream, &graph, NULL), STATUS_OK);
    for (uint32_t turn = 0; turn < 3; turn++) { /* spread; all on one; spread otherwise */
        int status;
        for (uint32_t i = 0; i < n_pairs; i++)
            inputs.experts[i] = turn == 1 ? 3 : (i * (turn + 1) + i / 5) % c.n_experts;
        float *want = moe_result(&bench, &c, &inputs, &status);
        device_upload(twin.device, (void *)(uintptr_t)args.experts, inputs.experts,
                      n_pairs * sizeof *inputs.experts);
        graph_run(twin.stream, graph);
        float *got = moe_wait(&bench, &c, &args, &status);
        assert_int_equal(status, STATUS_OK);
        assert_memory_equal(want, got, (size_t)c.n_rows * c.n_out * sizeof *got);
        free(want);
        free(got);
    }
    graph_free(graph);
    moe_close(&bench, &args);
    twin_close(&twin);
    moe_inputs_free(&c, &inputs);
    matrix_passed("moe", "Q8_0", "from a graph");
}

static void test_cuda_moe__an_expert_that_is_not_there_sticks(void **state)
{
    struct moe_case c = case_of(2);
    struct moe_inputs inputs = moe_inputs_of(&c);
    inputs.experts[c.n_rows * c.n_used - 1] = c.n_experts;
    struct twin twin = twin_open(BACKEND_CUDA);
    struct moe_bench bench = bench_of(&twin, BACKEND_CUDA);
    int status;
    free(moe_result(&bench, &c, &inputs, &status));
    assert_int_equal(status, STATUS_OUT_OF_RANGE);
    twin_close(&twin);
    moe_inputs_free(&c, &inputs);
    matrix_passed("moe", tensor_type_info(c.gate_type)->name, "no such expert");
}

static void test_cuda_moe__of_a_models_rows_is_linears_summed_by_slot(void **state)
{
    static const uint32_t rows[] = {1, 8, 64};
    for (uint32_t t = 0; t < N_PLANE_TYPES; t++)
        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
            struct moe_case c = {plane_types[t], plane_types[t], plane_types[t], 4,    2, 1024,
                                 256,            128,            rows[i],        false,
                                 LINEAR_ADD,     0};
            check_moe(&c, 1.0f);
        }
}

int main(void)
{
    const struct CMUnitTest tails[] = {
        cmocka_unit_test(test_cuda_moe__is_linears_summed_by_slot),
        cmocka_unit_test(test_cuda_moe__sorts_many_pairs_and_experts),
        cmocka_unit_test(test_cuda_moe__is_close_to_the_op_of_the_cpu),
        cmocka_unit_test(test_cuda_moe__one_graph_serves_whatever_rows_choose),
        cmocka_unit_test(test_cuda_moe__an_expert_that_is_not_there_sticks),
    };
    const struct CMUnitTest medium[] = {
        cmocka_unit_test(test_cuda_moe__of_a_models_rows_is_linears_summed_by_slot),
    };
    return twin_has_cuda() ? matrix_run(tails, sizeof tails / sizeof *tails, medium,
                                        sizeof medium / sizeof *medium)
                           : TWIN_SKIPPED;
}
