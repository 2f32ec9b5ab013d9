/* CUDA's embedding and gathering against the CPU's, to the bit, for each tensor type. */
#include "tests/kernels/linear_fixture.h"
#include "tests/kernels/matrix_fixture.h"
#include "tests/kernels/twin_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"

#define VOCABULARY 37
#define SAMPLED 3
#define VECTORS 2

static struct weight *load(struct twin *twin, uint32_t type, uint32_t n_in, const uint8_t *bytes)
{
    struct weight_source source = {type, n_in, VOCABULARY, bytes, "token_embd.weight"};
    struct weight *weight;
    struct why why;
    if (twin->ops->weight_load(twin->device, WEIGHT_PLAIN, &source, 1, 0, 1, &weight, &why) < 0)
        fail_msg("%s", why.text);
    assert_int_equal(twin->ops->weight_info(weight).n_in, n_in);
    assert_int_equal(twin->ops->weight_info(weight).n_out, VOCABULARY);
    return weight;
}

/* The rows as a device embeds them, malloc'd; *status gets what the stream says. `alone`: without
 * samples and vectors. */
static float *embed(enum backend backend, uint32_t type, uint32_t n_in, const uint8_t *bytes,
                    const struct row_input *inputs, uint32_t n_rows, bool alone, int *status)
{
    struct twin twin = twin_open(backend);
    struct weight *table = load(&twin, type, n_in, bytes);
    struct sample_result sampled[SAMPLED] = {{.id = 30}, {.id = 2}, {.id = VOCABULARY - 1}};
    float *vectors = random_floats((size_t)VECTORS * n_in, 5, 1.0f);
    struct embed_args args = {
        .table = table,
        .inputs = twin_upload(&twin, inputs, n_rows * sizeof *inputs),
        .sampled = alone ? NULL : twin_upload(&twin, sampled, sizeof sampled),
        .vectors = alone ? NULL : twin_upload(&twin, vectors, VECTORS * n_in * sizeof(float)),
        .n_rows = n_rows,
        .x = twin_alloc(&twin, n_rows * n_in * sizeof(float)),
    };
    twin.ops->embed(twin.stream, &args);
    *status = twin_run(&twin);
    float *x = twin_download(&twin, args.x, n_rows * n_in * sizeof(float));
    twin.ops->weight_free(twin.device, table);
    twin_close(&twin);
    free(vectors);
    return x;
}

static void check_embed(const char *shapes, uint32_t type, uint32_t n_in)
{
    static const struct row_input inputs[] = {{ROW_TOKEN, 0},   {ROW_SAMPLED, 1}, {ROW_VECTOR, 1},
                                              {ROW_TOKEN, 36},  {ROW_SAMPLED, 2}, {ROW_TOKEN, 17},
                                              {ROW_VECTOR, 0}};
    const uint32_t n_rows = sizeof inputs / sizeof inputs[0];
    uint8_t *bytes = random_weight(type, n_in, VOCABULARY, 7);
    int status;
    float *want = embed(BACKEND_CPU, type, n_in, bytes, inputs, n_rows, false, &status);
    assert_int_equal(status, STATUS_OK);
    float *got = embed(BACKEND_CUDA, type, n_in, bytes, inputs, n_rows, false, &status);
    assert_int_equal(status, STATUS_OK);
    assert_memory_equal(got, want, n_rows * n_in * sizeof *got);
    free(bytes);
    free(want);
    free(got);
    matrix_passed("embed", tensor_type_info(type)->name, shapes);
}

static void test_cuda_embed__has_the_bits_of_the_cpu(void **state)
{
    for (size_t t = 0; t < N_LINEAR_TYPES; t++)
        for (uint32_t n_in = 32; n_in <= 608; n_in += 288)
            check_embed("widths", linear_types[t], linear_width(linear_types[t], n_in));
}

static void test_cuda_embed__has_the_bits_of_the_cpu_for_a_models_rows(void **state)
{
    for (size_t t = 0; t < N_LINEAR_TYPES; t++)
        check_embed("medium", linear_types[t], 8192);
}

static void test_cuda_embed__a_token_beyond_the_table_sticks(void **state)
{
    static const struct row_input beyond[] = {{ROW_TOKEN, 3}, {ROW_TOKEN, VOCABULARY}};
    static const struct row_input unknown[] = {{77, 0}};
    uint8_t *bytes = random_weight(TENSOR_Q8_0, 32, VOCABULARY, 7);
    int status;
    free(embed(BACKEND_CUDA, TENSOR_Q8_0, 32, bytes, beyond, 2, false, &status));
    assert_int_equal(status, STATUS_OUT_OF_RANGE);
    free(embed(BACKEND_CUDA, TENSOR_Q8_0, 32, bytes, unknown, 1, false, &status));
    assert_int_equal(status, STATUS_INTERNAL);
    free(bytes);
}

static void test_cuda_embed__rows_from_nowhere_stick(void **state)
{
    static const struct row_input sampled = {ROW_SAMPLED, 0}, vector = {ROW_VECTOR, 0};
    uint8_t *bytes = random_weight(TENSOR_Q8_0, 32, VOCABULARY, 7);
    int status;
    free(embed(BACKEND_CUDA, TENSOR_Q8_0, 32, bytes, &sampled, 1, true, &status));
    assert_int_equal(status, STATUS_INTERNAL);
    free(embed(BACKEND_CUDA, TENSOR_Q8_0, 32, bytes, &vector, 1, true, &status));
    assert_int_equal(status, STATUS_INTERNAL);
    free(bytes);
}

static void test_cuda_embed__refuses_what_no_op_can_read(void **state)
{
    struct twin twin = twin_open(BACKEND_CUDA);
    uint8_t *bytes = random_weight(TENSOR_Q8_0, 32, VOCABULARY, 7);
    struct weight_source source = {TENSOR_Q8_0, 32, VOCABULARY, bytes, "blk.0.attn_q.weight"};
    struct weight *weight;
    struct why why;
    const struct ops *ops = twin.ops;
    assert_int_equal(
        ops->weight_load(twin.device, WEIGHT_QKV, &source, 1, 0, 1, &weight, &why), STATUS_INVALID);
    assert_int_equal(
        ops->weight_load(twin.device, WEIGHT_PLAIN, &source, 1, 1, 2, &weight, &why),
        STATUS_UNSUPPORTED);
    source.n_in = 33;
    assert_int_equal(
        ops->weight_load(twin.device, WEIGHT_PLAIN, &source, 1, 0, 1, &weight, &why),
        STATUS_INVALID);
    source.type = 16; /* IQ2_XXS */
    assert_int_equal(
        ops->weight_load(twin.device, WEIGHT_PLAIN, &source, 1, 0, 1, &weight, &why),
        STATUS_UNSUPPORTED);
    assert_non_null(strstr(why.text, "blk.0.attn_q.weight"));
    free(bytes);
    twin_close(&twin);
}

static void test_cuda_gather__takes_the_rows_that_are_asked_for(void **state)
{
    enum { WIDTH = 577, ROWS = 9, N = 4 };
    static const uint32_t rows[N] = {5, 0, 5, 8};
    struct twin twin = twin_open(BACKEND_CUDA);
    float *x = random_floats(ROWS * WIDTH, 9, 1.0f);
    struct gather_args args = {
        .x = twin_upload(&twin, x, ROWS * WIDTH * sizeof *x),
        .rows = twin_upload(&twin, rows, sizeof rows),
        .n = N,
        .width = WIDTH,
        .y = twin_alloc(&twin, N * WIDTH * sizeof *x),
    };
    twin.ops->gather(twin.stream, &args);
    assert_int_equal(twin_run(&twin), STATUS_OK);
    float *y = twin_download(&twin, args.y, N * WIDTH * sizeof *y);
    for (uint32_t i = 0; i < N; i++)
        assert_memory_equal(y + i * WIDTH, x + rows[i] * WIDTH, WIDTH * sizeof *y);
    free(x);
    free(y);
    twin_close(&twin);
    matrix_passed("gather", "f32", "widths");
}

int main(void)
{
    const struct CMUnitTest tails[] = {
        cmocka_unit_test(test_cuda_embed__has_the_bits_of_the_cpu),
        cmocka_unit_test(test_cuda_embed__a_token_beyond_the_table_sticks),
        cmocka_unit_test(test_cuda_embed__rows_from_nowhere_stick),
        cmocka_unit_test(test_cuda_embed__refuses_what_no_op_can_read),
        cmocka_unit_test(test_cuda_gather__takes_the_rows_that_are_asked_for),
    };
    const struct CMUnitTest medium[] = {
        cmocka_unit_test(test_cuda_embed__has_the_bits_of_the_cpu_for_a_models_rows),
    };
    return twin_has_cuda() ? matrix_run(tails, sizeof tails / sizeof *tails, medium,
                                        sizeof medium / sizeof *medium)
                           : TWIN_SKIPPED;
}
