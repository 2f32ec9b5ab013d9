/* bench/linear_speed.c: the linears of SmolLM2-135M on the CPU, beside the peaks of the same
 * threads
 * in the same minute.
 *
 *   linear_speed [--threads N] [--isa scalar|avx2|avx512] [--activations 16|int8|f32] [--type Q4_1]
 *              [--shape 'gate|up'] [--rows M]
 *
 * Few rows (M <= 12) stream enough copies of a matrix to leave every cache: read GB/s as a share of
 * a plain read. Many rows: GOP/s (a multiplication and an addition are two) as a share of what the
 * unit that does the work can do: half the int8 peak for 16-bit activations, the int8 peak for
 * int8, the FMA peak for floats.
 */
#include "base/clock.h"
#include "base/status.h"
#include "kernels/cpu/cpu_stream.h"
#include "kernels/ops.h"
#include "kernels/tensor_type.h"

#include <assert.h>
#include <immintrin.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STREAM_BYTES ((size_t)192 << 20) /* of weights, for M <= 12: more than the caches hold */
#define READ_BYTES ((size_t)256 << 20)
#define COPIES_MAX 1024
#define PEAK_STEPS 20000000u
#define REPEATS 5 /* the best of so many counts */

struct bench {
    struct device *device;
    struct stream *stream;
    const struct ops *ops;
    struct device_options options;
    uint32_t only_rows;                   /* 0: all of row_counts */
    double int8_gops, fma_gops, read_gbs; /* peaks of all threads */
};

struct shape {
    const char *name;
    uint32_t n_in, n_out;
};

static double run_seconds(struct bench *bench)
{
    int64_t begin = clock_now(&clock_monotonic);
    device_submit(bench->stream);
    if (device_wait(bench->stream, NULL, NULL) != STATUS_OK)
        exit(1);
    return (double)(clock_now(&clock_monotonic) - begin) * 1e-9;
}

/* --- peaks --- */

__attribute__((target("avx512f,avx512vnni"))) static void
int8_avx512(const struct cpu_worker *worker, const void *args)
{
    __m512i acc[12], a = _mm512_set1_epi32(worker->idx), b = _mm512_set1_epi32(*(const int *)args);
#pragma GCC unroll 12
    for (int i = 0; i < 12; i++)
        acc[i] = a;
    for (uint32_t step = 0; step < PEAK_STEPS / 12; step++) {
#pragma GCC unroll 12
        for (int i = 0; i < 12; i++)
            __asm__ volatile("vpdpbusd %1, %2, %0" : "+v"(acc[i]) : "v"(a), "v"(b));
    }
#pragma GCC unroll 12
    for (int i = 0; i < 12; i++)
        _mm512_storeu_si512((uint8_t *)worker->scratch + 64 * i, acc[i]);
}

__attribute__((target("avx512f"))) static void fma_avx512(const struct cpu_worker *worker,
                                                          const void *args)
{
    __m512 acc[12], a = _mm512_set1_ps(1e-9f), b = _mm512_set1_ps((float)*(const int *)args);
#pragma GCC unroll 12
    for (int i = 0; i < 12; i++)
        acc[i] = a;
    for (uint32_t step = 0; step < PEAK_STEPS / 12; step++) {
#pragma GCC unroll 12
        for (int i = 0; i < 12; i++)
            __asm__ volatile("vfmadd231ps %1, %2, %0" : "+v"(acc[i]) : "v"(a), "v"(b));
    }
#pragma GCC unroll 12
    for (int i = 0; i < 12; i++)
        _mm512_storeu_ps((float *)worker->scratch + 16 * i, acc[i]);
}

__attribute__((target("avx2"))) static void int8_avx2(const struct cpu_worker *worker,
                                                      const void *args)
{
    __m256i acc[12], a = _mm256_set1_epi32(worker->idx), b = _mm256_set1_epi32(*(const int *)args);
#pragma GCC unroll 12
    for (int i = 0; i < 12; i++)
        acc[i] = a;
    for (uint32_t step = 0; step < PEAK_STEPS / 12; step++) {
#pragma GCC unroll 12
        for (int i = 0; i < 12; i++)
            __asm__ volatile("vpmaddubsw %1, %2, %0" : "+x"(acc[i]) : "x"(a), "x"(b));
    }
#pragma GCC unroll 12
    for (int i = 0; i < 12; i++)
        _mm256_storeu_si256((__m256i *)worker->scratch + i, acc[i]);
}

__attribute__((target("avx2,fma"))) static void fma_avx2(const struct cpu_worker *worker,
                                                         const void *args)
{
    __m256 acc[12], a = _mm256_set1_ps(1e-9f), b = _mm256_set1_ps((float)*(const int *)args);
#pragma GCC unroll 12
    for (int i = 0; i < 12; i++)
        acc[i] = a;
    for (uint32_t step = 0; step < PEAK_STEPS / 12; step++) {
#pragma GCC unroll 12
        for (int i = 0; i < 12; i++)
            __asm__ volatile("vfmadd231ps %1, %2, %0" : "+x"(acc[i]) : "x"(a), "x"(b));
    }
#pragma GCC unroll 12
    for (int i = 0; i < 12; i++)
        _mm256_storeu_ps((float *)worker->scratch + 8 * i, acc[i]);
}

struct read_args {
    const uint8_t *bytes;
};

__attribute__((target("avx2"))) static void read_all(const struct cpu_worker *worker,
                                                     const void *args)
{
    const struct read_args *read = args;
    size_t share = READ_BYTES / (size_t)worker->n_workers / 512 * 512;
    const uint8_t *at = read->bytes + share * (size_t)worker->idx;
    __m256i acc[8];
    memset(acc, 0, sizeof acc);
    for (const uint8_t *end = at + share; at < end; at += 512) {
#pragma GCC unroll 8
        for (int i = 0; i < 8; i++) {
            _mm_prefetch((const char *)at + 16384 + 64 * i, _MM_HINT_T0);
            acc[i] = _mm256_xor_si256(acc[i], _mm256_load_si256((const __m256i *)at + 2 * i));
            acc[i] = _mm256_xor_si256(acc[i], _mm256_load_si256((const __m256i *)at + 2 * i + 1));
        }
    }
    for (int i = 0; i < 8; i++)
        _mm256_storeu_si256((__m256i *)worker->scratch + i, acc[i]);
}

static double best_seconds(struct bench *bench, const char *name, cpu_run *run, const void *args,
                           size_t args_bytes)
{
    double best = 1e9;
    for (int i = 0; i < 3 * REPEATS; i++) {
        cpu_stream_push(bench->stream, name, run, args, args_bytes, true);
        double seconds = run_seconds(bench);
        best = seconds < best ? seconds : best;
    }
    return best;
}

static void measure_compute(struct bench *bench)
{
    bool wide = isa_is_available(ISA_AVX512) && bench->options.isa != ISA_AVX2;
    double lanes = wide ? 64 : 32, steps = PEAK_STEPS / 12 * 12;
    double work = steps * device_n_threads(bench->device) * 2e-9;
    int zero = 0;
    bench->int8_gops =
        work * lanes /
        best_seconds(bench, "int8", wide ? int8_avx512 : int8_avx2, &zero, sizeof zero);
    bench->fma_gops = work * lanes / 4 /
                      best_seconds(bench, "fma", wide ? fma_avx512 : fma_avx2, &zero, sizeof zero);
}

static void measure_read(struct bench *bench)
{
    void *bytes;
    struct why why;
    if (device_alloc(bench->device, READ_BYTES, &bytes, &why) < 0) {
        fprintf(stderr, "linear_speed: %s\n", why.text);
        exit(1);
    }
    device_unlock(bench->device);
    memset(bytes, 1, READ_BYTES);
    device_lock(bench->device);
    struct read_args args = {bytes};
    bench->read_gbs =
        (double)READ_BYTES * 1e-9 / best_seconds(bench, "read", read_all, &args, sizeof args);
    device_free(bench->device, bytes);
}

/* --- linears --- */

static struct weight *load(struct bench *bench, uint32_t type, const struct shape *shape,
                           const uint8_t *bytes)
{
    bool is_pair = strcmp(shape->name, "gate|up") == 0;
    uint32_t n_out = is_pair ? shape->n_out / 2 : shape->n_out;
    struct weight_source half = {type, shape->n_in, n_out, bytes, shape->name};
    struct weight_source sources[2] = {half, half};
    struct weight *weight;
    struct why why;
    int status = bench->ops->weight_load(bench->device, is_pair ? WEIGHT_GATE_UP : WEIGHT_PLAIN,
                                         sources, is_pair ? 2 : 1, 0, 1, &weight, &why);
    if (status < 0) {
        fprintf(stderr, "linear_speed: %s\n", why.text);
        exit(1);
    }
    return weight;
}

struct buffers {
    struct act in, out;
    float *y;
};

static void *alloc(struct bench *bench, size_t bytes)
{
    void *memory;
    struct why why;
    if (device_alloc(bench->device, bytes, &memory, &why) < 0) {
        fprintf(stderr, "linear_speed: %s\n", why.text);
        exit(1);
    }
    return memory;
}

static struct act act_of(struct bench *bench, uint32_t n_rows, uint32_t width, uint32_t forms)
{
    size_t bytes = bench->ops->act_bytes(bench->device, n_rows, width, forms);
    return (struct act){alloc(bench, bytes), n_rows, width, forms};
}

static void push(struct bench *bench, const struct weight *weight, bool is_pair,
                 const struct buffers *buffers, uint32_t n_rows, uint32_t n_out)
{
    if (is_pair)
        bench->ops->linear_glu(bench->stream, &(struct linear_glu_args){.weight = weight,
                                                                        .in = buffers->in,
                                                                        .n_rows = n_rows,
                                                                        .out = buffers->out});
    else
        bench->ops->linear(bench->stream, &(struct linear_args){.weight = weight,
                                                                .in = buffers->in,
                                                                .n_rows = n_rows,
                                                                .y = buffers->y,
                                                                .y_stride = n_out});
}

static void print_line(const struct bench *bench, uint32_t type, const struct shape *shape,
                       uint32_t n_rows, double seconds, size_t bytes)
{
    bool floats = type == TENSOR_F32 || type == TENSOR_F16;
    double peak = bench->int8_gops;
    if (floats || bench->options.activations == ACTIVATIONS_F32)
        peak = bench->fma_gops;
    else if (bench->options.activations == ACTIVATIONS_16)
        peak = bench->int8_gops / 2;
    double gops = 2e-9 * shape->n_in * shape->n_out * n_rows / seconds;
    double gbs = (double)bytes * 1e-9 / seconds;
    printf("%-5s %-8s %4u %10.3f %8.0f %6.0f %% %8.1f %6.0f %%\n", tensor_type_info(type)->name,
           shape->name, n_rows, seconds * 1e6, gops, 100 * gops / peak, gbs,
           100 * gbs / bench->read_gbs);
    fflush(stdout);
}

static void measure_shape(struct bench *bench, uint32_t type, const struct shape *shape)
{
    static const uint32_t row_counts[] = {1, 4, 12, 64, 512};
    bool is_pair = strcmp(shape->name, "gate|up") == 0;
    size_t file_bytes = tensor_type_bytes(type, shape->n_in, shape->n_out);
    uint8_t *file = calloc(1, file_bytes);
    static struct weight *weights[COPIES_MAX];
    if (file == NULL)
        exit(1);
    for (size_t i = 0; i < file_bytes; i++)
        file[i] = (uint8_t)(i * 7 % 61); /* halves and floats from bytes below 61 are finite */

    weights[0] = load(bench, type, shape, file);
    struct weight_info info = bench->ops->weight_info(weights[0]);
    uint32_t n_copies = (uint32_t)(STREAM_BYTES / info.bytes) + 1;
    n_copies = n_copies < COPIES_MAX ? n_copies : COPIES_MAX;
    for (uint32_t i = 1; i < n_copies; i++)
        weights[i] = load(bench, type, shape, file);
    free(file);

    struct buffers buffers = {.in = act_of(bench, 512, shape->n_in, info.act_forms),
                              .out = act_of(bench, 512, info.n_out, info.act_forms),
                              .y = alloc(bench, 512 * sizeof(float) * shape->n_out)};
    for (int m = 0; m < 5; m++) {
        if (bench->only_rows != 0 && bench->only_rows != row_counts[m])
            continue;
        double best = 1e9, work = (double)info.bytes * row_counts[m];
        uint32_t n_ops = n_copies;
        if (row_counts[m] > 12) /* bound by arithmetic: enough for some tens of milliseconds */
            n_ops = work > 1e9 ? 1 : (uint32_t)(1e9 / work) + 1;
        n_ops = n_ops < n_copies ? n_ops : n_copies;
        for (int repeat = 0; repeat < REPEATS; repeat++) {
            for (uint32_t i = 0; i < n_ops; i++)
                push(bench, weights[i], is_pair, &buffers, row_counts[m], shape->n_out);
            double seconds = run_seconds(bench) / n_ops;
            best = seconds < best ? seconds : best;
        }
        print_line(bench, type, shape, row_counts[m], best, info.bytes);
    }
    device_free(bench->device, buffers.in.base);
    device_free(bench->device, buffers.out.base);
    device_free(bench->device, buffers.y);
    for (uint32_t i = 0; i < n_copies; i++)
        bench->ops->weight_free(bench->device, weights[i]);
}

static int index_of(const char *text, const char *const *names, int n)
{
    for (int i = 0; i < n; i++)
        if (strcmp(text, names[i]) == 0)
            return i;
    fprintf(stderr, "linear_speed: %s is not known here\n", text);
    exit(2);
}

int main(int argc, char **argv)
{
    static const char *const isas[] = {"auto", "scalar", "avx2", "avx512"};
    static const char *const modes[] = {"16", "int8", "f32"};
    static const char *const types[] = {"Q4_0", "Q4_1", "Q8_0", "F16", "F32"};
    static const uint32_t type_ids[] = {TENSOR_Q4_0, TENSOR_Q4_1, TENSOR_Q8_0, TENSOR_F16,
                                        TENSOR_F32};
    static const struct shape shapes[] = {
        {"qkv", 576, 960}, {"gate|up", 576, 3072}, {"down", 1536, 576}, {"head", 576, 49152}};
    struct bench bench = {.options = {.pin = true}};
    int only_type = -1, only_shape = -1;
    const char *names[4];
    for (int s = 0; s < 4; s++)
        names[s] = shapes[s].name;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--threads") == 0)
            bench.options.n_threads = atoi(argv[i + 1]);
        else if (strcmp(argv[i], "--isa") == 0)
            bench.options.isa = (enum isa)index_of(argv[i + 1], isas, 4);
        else if (strcmp(argv[i], "--activations") == 0)
            bench.options.activations = (enum activations)index_of(argv[i + 1], modes, 3);
        else if (strcmp(argv[i], "--type") == 0)
            only_type = index_of(argv[i + 1], types, 5);
        else if (strcmp(argv[i], "--shape") == 0)
            only_shape = index_of(argv[i + 1], names, 4);
        else if (strcmp(argv[i], "--rows") == 0)
            bench.only_rows = (uint32_t)atoi(argv[i + 1]);
    }
    struct why why;
    if (device_open(&bench.options, &bench.device, &why) < 0 ||
        stream_create(bench.device, COPIES_MAX, &bench.stream, &why) < 0) {
        fprintf(stderr, "linear_speed: %s\n", why.text);
        return 1;
    }
    bench.ops = device_ops(bench.device);
    printf("%s, activations %s\n", device_name(bench.device), modes[bench.options.activations]);
    for (int t = 0; t < 5; t++) {
        if (only_type >= 0 && t != only_type)
            continue;
        for (int s = 0; s < 4; s++) {
            if (only_shape >= 0 && s != only_shape)
                continue;
            measure_compute(&bench);
            measure_read(&bench);
            printf("peaks: int8 %.0f GOP/s, fma %.0f GFLOP/s, plain read %.1f GB/s\n",
                   bench.int8_gops, bench.fma_gops, bench.read_gbs);
            if (s == 0 || s == only_shape)
                printf("type  shape    rows   us an op    GOP/s  of peak     GB/s  of read\n");
            measure_shape(&bench, type_ids[t], &shapes[s]);
        }
    }
    stream_free(bench.stream);
    device_close(bench.device);
    return 0;
}
