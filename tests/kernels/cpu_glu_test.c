#include "tests/kernels/isa_fixture.h"
#include "tests/kernels/linear_fixture.h"
#include "base/status.h"
#include "kernels/cpu/cpu_math.h"
#include "kernels/cpu/cpu_panel.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct glu_case {
    uint32_t gate_type, up_type, n_in, n_out, n_rows;
    bool has_bias;
    uint32_t out_forms;
};

static void weights_of(const struct glu_case *c, struct weight_source *pair)
{
    pair[0] = (struct weight_source){c->gate_type, c->n_in, c->n_out,
                                     random_weight(c->gate_type, c->n_in, c->n_out, 1), "gate"};
    pair[1] = (struct weight_source){c->up_type, c->n_in, c->n_out,
                                     random_weight(c->up_type, c->n_in, c->n_out, 2), "up"};
}

static void free_weights(struct weight_source *pair)
{
    free((void *)(uintptr_t)pair[0].bytes);
    free((void *)(uintptr_t)pair[1].bytes);
}

static float *upload(struct rig *rig, const float *values, size_t n)
{
    float *to = rig_alloc_floats(rig, n);
    assert_int_equal(device_upload(rig->device, to, values, n * sizeof *to), STATUS_OK);
    return to;
}

/* The whole output act as bytes; malloc'd, *bytes long. */
static uint8_t *glu_result(enum isa isa, enum activations activations, int n_threads,
                           const struct glu_case *c, size_t *bytes)
{
    struct rig rig = rig_open(isa, activations, n_threads);
    struct weight_source pair[2];
    weights_of(c, pair);
    struct weight *weight = rig_load(&rig, WEIGHT_GATE_UP, pair, 2);
    free_weights(pair);
    float *rows = random_rows(c->n_rows, c->n_in, 3), *bias = random_rows(2, c->n_out, 4);
    float *device_bias = upload(&rig, bias, 2 * (size_t)c->n_out);
    struct act in = rig_act(&rig, c->n_rows, c->n_in, rig.ops->weight_info(weight).act_forms);
    struct act out = rig_act(&rig, c->n_rows, c->n_out, c->out_forms);
    rig_fill_act(&rig, &in, rows, c->n_rows);
    rig.ops->linear_glu(rig.stream, &(struct linear_glu_args){
                                        .weight = weight,
                                        .in = in,
                                        .gate_bias = c->has_bias ? device_bias : NULL,
                                        .up_bias = c->has_bias ? device_bias + c->n_out : NULL,
                                        .n_rows = c->n_rows,
                                        .out = out});
    rig_run(&rig);
    *bytes = rig.ops->act_bytes(rig.device, c->n_rows, c->n_out, c->out_forms);
    uint8_t *result = malloc(*bytes);
    assert_int_equal(device_download(rig.device, result, out.base, *bytes), STATUS_OK);

    free(rows);
    free(bias);
    device_free(rig.device, device_bias);
    device_free(rig.device, in.base);
    device_free(rig.device, out.base);
    rig.ops->weight_free(rig.device, weight);
    rig_close(&rig);
    return result;
}

/* gate and up as plain linears, silu and product here, quantized by the panel's own writer: the
 * same bytes. */
static uint8_t *glu_of_two_linears(enum activations activations, const struct glu_case *c)
{
    struct rig rig = rig_open(ISA_SCALAR, activations, 1);
    struct weight_source pair[2];
    weights_of(c, pair);
    size_t n = (size_t)c->n_rows * c->n_out;
    float *sides[2], *rows = random_rows(c->n_rows, c->n_in, 3);
    float *bias = random_rows(2, c->n_out, 4), *device_bias = upload(&rig, bias, 2 * c->n_out);
    for (int side = 0; side < 2; side++) {
        struct weight *weight = rig_load(&rig, WEIGHT_PLAIN, &pair[side], 1);
        struct act in = rig_act(&rig, c->n_rows, c->n_in, rig.ops->weight_info(weight).act_forms);
        rig_fill_act(&rig, &in, rows, c->n_rows);
        float *y = rig_alloc_floats(&rig, n);
        rig.ops->linear(rig.stream, &(struct linear_args){
                                        .weight = weight,
                                        .in = in,
                                        .bias = c->has_bias ? device_bias + side * c->n_out : NULL,
                                        .n_rows = c->n_rows,
                                        .y = y,
                                        .y_stride = c->n_out});
        sides[side] = malloc(n * sizeof(float));
        device_read(rig.stream, sides[side], y, n * sizeof *y);
        rig_run(&rig);
        device_free(rig.device, y);
        device_free(rig.device, in.base);
        rig.ops->weight_free(rig.device, weight);
    }
    for (size_t i = 0; i < n; i++)
        sides[0][i] = cpu_silu(sides[0][i]) * sides[1][i];
    struct act out = rig_act(&rig, c->n_rows, c->n_out, c->out_forms);
    rig_fill_act(&rig, &out, sides[0], c->n_rows);
    size_t bytes = rig.ops->act_bytes(rig.device, c->n_rows, c->n_out, c->out_forms);
    uint8_t *result = malloc(bytes);
    assert_int_equal(device_download(rig.device, result, out.base, bytes), STATUS_OK);

    device_free(rig.device, out.base);
    device_free(rig.device, device_bias);
    rig_close(&rig);
    free_weights(pair);
    free(sides[0]);
    free(sides[1]);
    free(rows);
    free(bias);
    return result;
}

static struct glu_case case_of(int i)
{
    static const uint32_t outs[] = {32, 16, 48, 64, 7, 100, 33, 160};
    static const uint32_t rows[] = {1, 12, 13, 2, 50, 5, 24, 61};
    uint32_t type = linear_types[i % N_LINEAR_TYPES];
    return (struct glu_case){
        .gate_type = type,
        .up_type = i % 4 == 3 ? TENSOR_Q8_0 : type,
        .n_in = linear_width(type, 32 * (1 + (uint32_t)i * 7 % 40)),
        .n_out = outs[i % 8],
        .n_rows = rows[(i + i / 8) % 8],
        .has_bias = i % 3 == 1,
        .out_forms = 1 + (uint32_t)i % 3,
    };
}

static const enum activations ALL_ACTIVATIONS[] = {ACTIVATIONS_16, ACTIVATIONS_INT8,
                                                   ACTIVATIONS_F32};

static void check_isa(enum isa isa)
{
    for (int i = 0; i < 24; i++) {
        struct glu_case c = case_of(i);
        enum activations activations = ALL_ACTIVATIONS[i / 8];
        size_t bytes;
        uint8_t *got = glu_result(isa, activations, 1 + i % 3, &c, &bytes);
        uint8_t *want = glu_of_two_linears(activations, &c);
        assert_memory_equal(want, got, bytes);
        free(want);
        free(got);
    }
}

static void test_cpu_glu__scalar_is_silu_of_gate_times_up_in_the_panel(void **state)
{
    check_isa(ISA_SCALAR);
}

static void test_cpu_glu__avx2_equals_scalar_to_the_bit(void **state)
{
    if (isa_is_skipped(ISA_AVX2))
        skip();
    check_isa(ISA_AVX2);
}

static void test_cpu_glu__avx512_equals_scalar_to_the_bit(void **state)
{
    if (isa_is_skipped(ISA_AVX512))
        skip();
    check_isa(ISA_AVX512);
}

/* The polynomial's error is 7.5e-8 relative; silu adds a sum, a product, a quotient. */
static void test_cpu_glu__silu_is_close_to_the_one_of_doubles(void **state)
{
    for (float z = -80; z < 80; z += 0.0137f) {
        double want = z / (1 + exp(-(double)z));
        assert_true(fabs(cpu_silu(z) - want) <= 1e-5 * fabs(want) + 1e-30);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cpu_glu__scalar_is_silu_of_gate_times_up_in_the_panel),
        cmocka_unit_test(test_cpu_glu__avx2_equals_scalar_to_the_bit),
        cmocka_unit_test(test_cpu_glu__avx512_equals_scalar_to_the_bit),
        cmocka_unit_test(test_cpu_glu__silu_is_close_to_the_one_of_doubles),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
