/* bench/linear_speed.c: the linears of SmolLM2-135M on the CPU, beside the peaks of as many threads
 * in the same minute.
 *
 *   linear_speed [--threads N] [--isa scalar|avx2|avx512] [--activations 16|int8|f32] [--type Q4_1]
 *                [--shape 'gate|up'] [--rows M]
 *
 * Few rows (M <= 12) stream enough copies of a matrix to leave every cache: read GB/s as a share of
 * a plain read. Many rows: GOP/s (a multiplication and an addition are two) as a share of what the
 * unit that does the work can do at its widest, whatever --isa says: half the int8 peak for 16-bit
 * activations, the int8 peak for int8, the FMA peak for floats.
 */
#include "base/clock.h"
#include "base/status.h"
#include "kernels/ops.h"
#include "kernels/tensor_type.h"
#include "tools/peaks.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STREAM_BYTES ((size_t)192 << 20) /* of weights, for M <= 12: more than the caches hold */
#define COPIES_MAX 1024
#define REPEATS 5 /* the best of so many counts */

struct bench {
    struct device *device;
    struct stream *stream;
    const struct ops *ops;
    struct device_options options;
    uint32_t only_rows; /* 0: all of row_counts */
    struct peaks peaks; /* of as many threads as the device has */
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

static void measure_peaks(struct bench *bench)
{
    struct why why;
    if (peaks_measure(device_n_threads(bench->device), &bench->peaks, &why) < 0) {
        fprintf(stderr, "linear_speed: %s\n", why.text);
        exit(1);
    }
    printf("peaks: int8 %.0f GOP/s (%s), fma %.0f GFLOP/s (%s), plain read %.1f GB/s\n",
           bench->peaks.int8_ops * 1e-9, bench->peaks.int8_how, bench->peaks.fma_ops * 1e-9,
           bench->peaks.fma_how, bench->peaks.read_bytes * 1e-9);
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
    bool floats = tensor_type_is_float(type);
    double peak = bench->peaks.int8_ops * 1e-9;
    if (floats || bench->options.activations == ACTIVATIONS_F32)
        peak = bench->peaks.fma_ops * 1e-9;
    else if (bench->options.activations == ACTIVATIONS_16)
        peak /= 2;
    double gops = 2e-9 * shape->n_in * shape->n_out * n_rows / seconds;
    double gbs = (double)bytes * 1e-9 / seconds;
    printf("%-6s %-8s %4u %10.3f %8.0f %6.0f %% %8.1f %6.0f %%\n", tensor_type_info(type)->name,
           shape->name, n_rows, seconds * 1e6, gops, 100 * gops / peak, gbs,
           100e9 * gbs / bench->peaks.read_bytes);
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
    static const char *types[TENSOR_TYPES];
    static const struct shape shapes[] = {
        {"qkv", 576, 960}, {"gate|up", 576, 3072}, {"down", 1536, 576}, {"head", 576, 49152}};
    struct bench bench = {.options = {.pin = true}};
    int only_type = -1, only_shape = -1;
    const char *names[4];
    for (int s = 0; s < 4; s++)
        names[s] = shapes[s].name;
    for (uint32_t type = 0; type < TENSOR_TYPES; type++) {
        const struct tensor_type_info *info = tensor_type_info(type);
        types[type] = info != NULL && info->is_read ? info->name : "";
    }
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--threads") == 0)
            bench.options.n_threads = atoi(argv[i + 1]);
        else if (strcmp(argv[i], "--isa") == 0)
            bench.options.isa = (enum isa)index_of(argv[i + 1], isas, 4);
        else if (strcmp(argv[i], "--activations") == 0)
            bench.options.activations = (enum activations)index_of(argv[i + 1], modes, 3);
        else if (strcmp(argv[i], "--type") == 0)
            only_type = index_of(argv[i + 1], types, TENSOR_TYPES);
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
    for (int t = 0; t < TENSOR_TYPES; t++) {
        if (types[t][0] == '\0' || (only_type >= 0 && t != only_type))
            continue;
        bool is_k = tensor_type_info((uint32_t)t)->block_values > 64; /* 576 is no multiple */
        for (int s = 0; s < 4; s++) {
            if (only_shape >= 0 && s != only_shape)
                continue;
            measure_peaks(&bench);
            if (s == 0 || s == only_shape)
                printf("type   shape    rows   us an op    GOP/s  of peak     GB/s  of read\n");
            struct shape shape = shapes[s];
            shape.n_in = is_k && shape.n_in == 576 ? 768 : shape.n_in;
            measure_shape(&bench, (uint32_t)t, &shape);
        }
    }
    stream_free(bench.stream);
    device_close(bench.device);
    return 0;
}
