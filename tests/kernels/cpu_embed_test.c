#include "kernels/ops.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "kernels/tensor_type.h"

#define N_IN 48
#define VOCABULARY 37

struct bench {
    struct device *device;
    struct stream *stream;
    const struct ops *ops;
    struct weight *table;
    float values[VOCABULARY * N_IN];
};

static void bench_open(struct bench *bench, int n_threads)
{
    struct device_options options = {.n_threads = n_threads, .strict = true};
    assert_int_equal(device_open(&options, &bench->device, NULL), STATUS_OK);
    assert_int_equal(stream_create(bench->device, 8, &bench->stream, NULL), STATUS_OK);
    bench->ops = device_ops(bench->device);
    for (uint32_t i = 0; i < VOCABULARY * N_IN; i++)
        bench->values[i] = (float)i * 0.37f - 300.0f;
    struct weight_source source = {TENSOR_F32, N_IN, VOCABULARY, bench->values,
                                   "token_embd.weight"};
    struct why why;
    assert_int_equal(
        bench->ops->weight_load(bench->device, WEIGHT_PLAIN, &source, 1, 0, 1, &bench->table, &why),
        STATUS_OK);
}

static void bench_close(struct bench *bench)
{
    bench->ops->weight_free(bench->device, bench->table);
    stream_free(bench->stream);
    device_close(bench->device);
}

static void *upload(struct bench *bench, const void *bytes, size_t n)
{
    void *on_device;
    assert_int_equal(device_alloc(bench->device, n, &on_device, NULL), STATUS_OK);
    device_upload(bench->device, on_device, bytes, n);
    return on_device;
}

static int run(struct bench *bench)
{
    device_submit(bench->stream);
    return device_wait(bench->stream, NULL, NULL);
}

static int embed(struct bench *bench, const struct row_input *inputs, uint32_t n_rows, float *out)
{
    struct sample_result sampled[3] = {{.id = 30}, {.id = 2}, {.id = 11}};
    float vectors[2 * N_IN], zeros[8 * N_IN] = {0};
    for (int i = 0; i < 2 * N_IN; i++)
        vectors[i] = (float)-i;
    struct embed_args args = {
        .table = bench->table,
        .inputs = upload(bench, inputs, n_rows * sizeof *inputs),
        .sampled = upload(bench, sampled, sizeof sampled),
        .vectors = upload(bench, vectors, sizeof vectors),
        .n_rows = n_rows,
        .x = upload(bench, zeros, sizeof(float) * n_rows * N_IN),
    };
    bench->ops->embed(bench->stream, &args);
    int status = run(bench);
    device_download(bench->device, out, args.x, sizeof(float) * n_rows * N_IN);
    device_free(bench->device, (void *)args.inputs);
    device_free(bench->device, (void *)args.sampled);
    device_free(bench->device, (void *)args.vectors);
    device_free(bench->device, args.x);
    return status;
}

static void test_embed__takes_tokens_sampled_tokens_and_vectors(void **state)
{
    struct row_input inputs[] = {
        {ROW_TOKEN, 0}, {ROW_SAMPLED, 1}, {ROW_VECTOR, 1}, {ROW_TOKEN, 36}, {ROW_SAMPLED, 0}};
    static const int rows[] = {0, 2, -1, 36, 30};
    for (int n_threads = 1; n_threads <= 2; n_threads++) {
        struct bench bench;
        bench_open(&bench, n_threads);
        float x[5 * N_IN];
        assert_int_equal(embed(&bench, inputs, 5, x), STATUS_OK);
        for (int r = 0; r < 5; r++)
            for (int i = 0; i < N_IN; i++)
                assert_true(x[r * N_IN + i] ==
                            (rows[r] < 0 ? (float)-(N_IN + i) : bench.values[rows[r] * N_IN + i]));
        bench_close(&bench);
    }
}

static void test_embed__a_token_beyond_the_table_sticks(void **state)
{
    struct row_input inputs[] = {{ROW_TOKEN, 3}, {ROW_TOKEN, VOCABULARY}};
    struct bench bench;
    bench_open(&bench, 2);
    float x[2 * N_IN];
    assert_int_equal(embed(&bench, inputs, 2, x), STATUS_OUT_OF_RANGE);
    assert_int_equal(stream_status(bench.stream), STATUS_OUT_OF_RANGE);
    bench_close(&bench);
}

static void test_gather__takes_the_rows_that_are_asked_for(void **state)
{
    struct bench bench;
    bench_open(&bench, 2);
    static const uint32_t rows[] = {5, 0, 5, 36};
    float y[4 * N_IN] = {0};
    struct gather_args args = {
        .x = upload(&bench, bench.values, sizeof bench.values),
        .rows = upload(&bench, rows, sizeof rows),
        .n = 4,
        .width = N_IN,
        .y = upload(&bench, y, sizeof y),
    };
    bench.ops->gather(bench.stream, &args);
    assert_int_equal(run(&bench), STATUS_OK);
    device_download(bench.device, y, args.y, sizeof y);
    for (int i = 0; i < 4; i++)
        assert_memory_equal(y + i * N_IN, bench.values + rows[i] * N_IN, N_IN * sizeof(float));
    device_free(bench.device, (void *)args.x);
    device_free(bench.device, (void *)args.rows);
    device_free(bench.device, args.y);
    bench_close(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_embed__takes_tokens_sampled_tokens_and_vectors),
        cmocka_unit_test(test_embed__a_token_beyond_the_table_sticks),
        cmocka_unit_test(test_gather__takes_the_rows_that_are_asked_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
