/* The CUDA op: to the bit what its own linears give and the CPU's silu; close to the CPU's op. */
#include "tests/kernels/cuda_linear_fixture.h"
#include "base/status.h"
#include "kernels/cpu/cpu_math.h"
#include "kernels/cpu/cpu_panel.h"
#include "kernels/cuda/cuda_act.h"
#include "tests/kernels/matrix_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>

struct glu_case {
    uint32_t gate_type, up_type, n_in, n_out, n_rows;
    bool has_bias;
    uint32_t out_forms;
};

struct glu_input {
    struct weight_source sources[2];
    float *x, *bias; /* [n_rows, n_in]; [2, n_out] */
};

static struct glu_input input_of(const struct glu_case *c)
{
    struct glu_input input;
    for (uint32_t side = 0; side < 2; side++) {
        uint32_t type = side == 0 ? c->gate_type : c->up_type;
        input.sources[side] = (struct weight_source){
            type, c->n_in, c->n_out, random_weight(type, c->n_in, c->n_out, 1 + side), "w"};
    }
    input.x = random_rows(c->n_rows, c->n_in, 3);
    input.bias = random_rows(2, c->n_out, 4);
    return input;
}

static void free_input(struct glu_input *input)
{
    free((void *)(uintptr_t)input->sources[0].bytes);
    free((void *)(uintptr_t)input->sources[1].bytes);
    free(input->x);
    free(input->bias);
}

static struct act run_glu(struct twin *twin, const struct glu_case *c,
                          const struct glu_input *input, struct act in, uint32_t out_forms)
{
    struct weight *weight = twin_load(twin, WEIGHT_GATE_UP, input->sources, 2);
    float *bias = twin_upload(twin, input->bias, 2 * c->n_out * sizeof *bias);
    struct act out = {NULL, c->n_rows, c->n_out, out_forms};
    size_t bytes = twin->ops->act_bytes(twin->device, c->n_rows, c->n_out, out_forms);
    char *garbage = malloc(bytes);
    for (size_t i = 0; i < bytes; i++)
        garbage[i] = (char)0xff;
    out.base = twin_upload(twin, garbage, bytes);
    free(garbage);
    twin->ops->linear_glu(twin->stream,
                          &(struct linear_glu_args){.weight = weight,
                                                    .in = in,
                                                    .gate_bias = c->has_bias ? bias : NULL,
                                                    .up_bias = c->has_bias ? bias + c->n_out : NULL,
                                                    .n_rows = c->n_rows,
                                                    .out = out});
    assert_int_equal(twin_run(twin), STATUS_OK);
    twin->ops->weight_free(twin->device, weight);
    return out;
}

/* silu(gate) * up of two linears; malloc'd [n_rows, n_out] */
static float *glu_of_linears(struct twin *twin, const struct glu_case *c,
                             const struct glu_input *input)
{
    float *sides[2];
    for (uint32_t side = 0; side < 2; side++) {
        struct weight *weight = twin_load(twin, WEIGHT_PLAIN, &input->sources[side], 1);
        sides[side] = twin_product(twin, weight, input->x, c->n_rows);
        twin->ops->weight_free(twin->device, weight);
    }
    for (size_t i = 0; i < (size_t)c->n_rows * c->n_out; i++) {
        float gate = sides[0][i], up = sides[1][i];
        gate = c->has_bias ? gate + input->bias[i % c->n_out] : gate;
        up = c->has_bias ? up + input->bias[c->n_out + i % c->n_out] : up;
        sides[0][i] = cpu_silu(gate) * up;
    }
    free(sides[1]);
    return sides[0];
}

/* The panel holds `want`: floats as they are, halves rounded once over the row's scale, then zeros.
 * How many rows have a scale. */
static uint32_t assert_panel(struct twin *twin, const struct act *out, uint32_t n_rows,
                             const float *want)
{
    struct cuda_act_rows rows = cuda_act_rows_of(out);
    uint32_t width = out->width, n_scaled = 0;
    if (rows.floats != NULL) {
        float *floats = twin_download(twin, rows.floats, (size_t)n_rows * width * sizeof *floats);
        assert_memory_equal(floats, want, (size_t)n_rows * width * sizeof *floats);
        free(floats);
    }
    if (rows.halves == NULL)
        return 0;
    uint16_t *halves = twin_download(twin, rows.halves, (size_t)n_rows * rows.stride * 2);
    float *scales = twin_download(twin, rows.scales, n_rows * sizeof *scales);
    for (uint32_t r = 0; r < n_rows; r++) {
        float scale = panel_scale(want + (size_t)r * width, width);
        assert_true(scales[r] == scale);
        n_scaled += scale != 1.0f;
        for (uint32_t i = 0; i < rows.stride; i++) {
            float value = i < width ? want[(size_t)r * width + i] / scale : 0.0f;
            assert_int_equal(halves[(size_t)r * rows.stride + i], f16_from_f32(value));
        }
    }
    free(halves);
    free(scales);
    return n_scaled;
}

static const char *shapes_of(const struct glu_case *c)
{
    if (c->n_in >= 1024)
        return "medium";
    if (c->gate_type != c->up_type)
        return "of two types";
    return c->n_rows <= 8 ? "1-8 rows" : c->n_rows <= 32 ? "9-32 rows" : "33- rows";
}

/* Rows times `scale`, row 1 times `row_scale`. How many rows have a scale in the panel. */
static uint32_t check_glu(const struct glu_case *c, float scale, float row_scale)
{
    struct twin twin = twin_open(BACKEND_CUDA);
    struct glu_input input = input_of(c);
    for (uint32_t i = 0; i < c->n_in * c->n_rows; i++)
        input.x[i] *= i / c->n_in == 1 ? row_scale : scale;
    float *want = glu_of_linears(&twin, c, &input);
    struct act in = twin_panel(&twin, input.x, c->n_rows, c->n_in, ACT_BLOCKS | ACT_FLOATS);
    struct act out = run_glu(&twin, c, &input, in, c->out_forms);
    uint32_t n_scaled = assert_panel(&twin, &out, c->n_rows, want);
    free(want);
    free_input(&input);
    twin_close(&twin);
    matrix_passed("linear_glu", tensor_type_info(c->gate_type)->name, shapes_of(c));
    return n_scaled;
}

static void test_cuda_glu__is_silu_of_gate_times_up_in_the_panel(void **state)
{
    static const uint32_t outs[] = {32, 16, 48, 65, 7, 100}, rows[] = {1, 12, 8, 33, 2, 9};
    for (uint32_t i = 0; i < 2 * N_PLANE_TYPES; i++) {
        uint32_t type = plane_types[i % N_PLANE_TYPES];
        static const uint32_t forms[] = {ACT_BLOCKS, ACT_BLOCKS | ACT_FLOATS, ACT_FLOATS};
        struct glu_case c = {
            .gate_type = type,
            .up_type = i % 4 == 3 ? TENSOR_Q8_0 : type,
            .n_in = linear_width(type, 32 * (1 + i * 5 % 19)),
            .n_out = outs[i % 6],
            .n_rows = rows[(i + i / 6) % 6],
            .has_bias = i % 3 == 1,
            .out_forms = forms[i / 2 % 3],
        };
        check_glu(&c, 1.0f, 1.0f);
    }
}

static void test_cuda_glu__of_many_rows_has_the_same_bits(void **state)
{
    for (int t = 0; t < N_PLANE_TYPES; t++) {
        uint32_t type = plane_types[t];
        struct glu_case c = {type,       type, linear_width(type, 224), 90, 33 + 32 * (t % 2),
                             t % 2 == 0, t == 1 ? ACT_FLOATS : ACT_BLOCKS | ACT_FLOATS};
        check_glu(&c, 1.0f, 1.0f);
    }
}

static void test_cuda_glu__scales_the_rows_that_pass_f16(void **state)
{
    struct glu_case c = {TENSOR_Q4_1, TENSOR_Q8_0, 96, 70, 3, true, ACT_BLOCKS};
    assert_int_equal(check_glu(&c, 0.01f, 300.0f), 1);
    c.n_rows = 2; /* the last one */
    assert_int_equal(check_glu(&c, 0.01f, 300.0f), 1);
    c.n_rows = 40;
    assert_int_equal(check_glu(&c, 0.01f, 300.0f), 1);
    c.gate_type = TENSOR_Q8_0; /* many rows of one type */
    assert_int_equal(check_glu(&c, 0.01f, 300.0f), 1);
}

/* 2^-9 of |up| sum |gate terms| + |silu| sum |up terms|: both sides round their activations. */
static void test_cuda_glu__is_close_to_the_op_of_the_cpu(void **state)
{
    for (int t = 0; t < N_PLANE_TYPES; t++) {
        uint32_t type = plane_types[t], n_in = linear_width(type, 544);
        struct glu_case c = {type, type, n_in, 36, 10, true, ACT_FLOATS};
        struct twin cuda = twin_open(BACKEND_CUDA);
        struct glu_input input = input_of(&c);
        size_t n = (size_t)c.n_rows * c.n_out;
        struct act out = run_glu(&cuda, &c, &input,
                                 twin_panel(&cuda, input.x, c.n_rows, c.n_in,
                                            ACT_BLOCKS | ACT_FLOATS),
                                 ACT_FLOATS);
        float *got = twin_download(&cuda, cuda_act_rows_of(&out).floats, n * sizeof *got);

        struct twin cpu = twin_open(BACKEND_CPU);
        struct act in = {NULL, c.n_rows, c.n_in, ACT_BLOCKS | ACT_FLOATS};
        in.base = twin_alloc(&cpu, cpu.ops->act_bytes(cpu.device, c.n_rows, c.n_in, in.forms));
        for (uint32_t r = 0; r < c.n_rows; r++)
            cpu_panel_ops(ISA_SCALAR)->write(&in, ACTIVATIONS_16, r, c.n_rows, 0, c.n_in,
                                             input.x + (size_t)r * c.n_in);
        out = run_glu(&cpu, &c, &input, in, ACT_FLOATS);
        float *want = twin_download(&cpu, cpu_act_floats(&out, ACTIVATIONS_16), n * sizeof *want);

        float *w = malloc(c.n_in * sizeof *w);
        for (size_t i = 0; i < n; i++) {
            uint32_t r = (uint32_t)(i / c.n_out), o = (uint32_t)(i % c.n_out);
            double sums[2], sizes[2] = {0, 0};
            for (int side = 0; side < 2; side++) {
                const uint8_t *bytes = input.sources[side].bytes;
                sums[side] = input.bias[side * c.n_out + o];
                tensor_type_row_to_f32(plane_types[t],
                                       bytes + o * tensor_type_bytes(plane_types[t], c.n_in, 1),
                                       c.n_in, w);
                for (uint32_t k = 0; k < c.n_in; k++) {
                    sums[side] += (double)w[k] * input.x[(size_t)r * c.n_in + k];
                    sizes[side] += fabs((double)w[k] * input.x[(size_t)r * c.n_in + k]);
                }
            }
            double silu = sums[0] / (1 + exp(-sums[0]));
            double tolerance =
                0x1p-9 * (fabs(sums[1]) * sizes[0] + fabs(silu) * sizes[1] + 1e-6) +
                0x1p-18 * sizes[0] * sizes[1];
            assert_true(fabs((double)got[i] - want[i]) <= tolerance);
        }
        free(w);
        free(got);
        free(want);
        free_input(&input);
        twin_close(&cpu);
        twin_close(&cuda);
        matrix_passed("linear_glu", tensor_type_info(plane_types[t])->name, "near the CPU");
    }
}

static void test_cuda_glu__a_row_does_not_depend_on_the_others(void **state)
{
    struct glu_case all = {TENSOR_Q4_1, TENSOR_Q4_1, 576, 40, 35, false, ACT_BLOCKS};
    struct twin twin = twin_open(BACKEND_CUDA);
    struct glu_input input = input_of(&all);
    for (uint32_t i = 0; i < all.n_in; i++)
        input.x[33 * all.n_in + i] *= 3000.0f; /* a scale beside rows without */
    struct act in = twin_panel(&twin, input.x, all.n_rows, all.n_in, ACT_BLOCKS);
    struct act together = run_glu(&twin, &all, &input, in, ACT_BLOCKS);
    struct cuda_act_rows rows = cuda_act_rows_of(&together);
    uint16_t *want = twin_download(&twin, rows.halves, (size_t)all.n_rows * rows.stride * 2);
    for (uint32_t r = 0; r < all.n_rows; r += 3) {
        struct glu_case one = all;
        one.n_rows = 1;
        in = twin_panel(&twin, input.x + (size_t)r * all.n_in, 1, all.n_in, ACT_BLOCKS);
        struct act alone = run_glu(&twin, &one, &input, in, ACT_BLOCKS);
        uint16_t *got = twin_download(&twin, cuda_act_rows_of(&alone).halves, rows.stride * 2);
        assert_memory_equal(got, want + (size_t)r * rows.stride, rows.stride * 2);
        free(got);
    }
    free(want);
    free_input(&input);
    twin_close(&twin);
}

static void test_cuda_glu__of_a_models_rows_is_silu_of_gate_times_up(void **state)
{
    static const uint32_t rows[] = {1, 32, 128};
    for (int t = 0; t < N_PLANE_TYPES; t++)
        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
            struct glu_case c = {plane_types[t], plane_types[t], 1024, 256, rows[i],
                                 false,           ACT_BLOCKS | ACT_FLOATS};
            check_glu(&c, 1.0f, 1.0f);
        }
}

int main(void)
{
    const struct CMUnitTest tails[] = {
        cmocka_unit_test(test_cuda_glu__is_silu_of_gate_times_up_in_the_panel),
        cmocka_unit_test(test_cuda_glu__of_many_rows_has_the_same_bits),
        cmocka_unit_test(test_cuda_glu__scales_the_rows_that_pass_f16),
        cmocka_unit_test(test_cuda_glu__is_close_to_the_op_of_the_cpu),
        cmocka_unit_test(test_cuda_glu__a_row_does_not_depend_on_the_others),
    };
    const struct CMUnitTest medium[] = {
        cmocka_unit_test(test_cuda_glu__of_a_models_rows_is_silu_of_gate_times_up),
    };
    return twin_has_cuda() ? matrix_run(tails, sizeof tails / sizeof *tails, medium,
                                        sizeof medium / sizeof *medium)
                           : TWIN_SKIPPED;
}
