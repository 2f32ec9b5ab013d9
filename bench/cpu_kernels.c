/* bench/cpu_kernels.c: attention and the small ops on the CPU, beside the peaks of as many threads
 * in the same minute.
 *
 *   cpu_kernels [--threads N] [--isa scalar|avx2|avx512] [--dtype f16|f32|bf16|q8|q4] [--dim 64]
 *               [--heads 9] [--kv-heads 3] [--layers 30] [--depth N]
 *
 * Decode: one row at a depth (2048, 8192 and 32768, or N alone), 30 layers one after the other:
 * GB/s of keys and values as a share of a plain read. Prefill: 512 rows behind a depth: GFLOP/s of
 * what is visible (2 a multiplication and addition) as a share of the FMA peak at its widest,
 * whatever --isa says.
 */
#include "base/clock.h"
#include "base/status.h"
#include "kernels/cpu/cpu_stream.h"
#include "kernels/ops.h"
#include "tools/peaks.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define N_LAYERS 30 /* at most, and of --layers by default */
#define PREFILL_ROWS 512
#define PREFILL_DEPTH 32768 /* most that --depth measures a prefill behind */
#define REPEATS 9 /* the best of so many counts */
#define WIDTH 576
#define VOCABULARY 49152

struct bench {
    struct device_options options;
    struct device *device;
    struct stream *stream;
    const struct ops *ops;
    struct kv_shape shape;
    enum kv_dtype dtype;
    uint32_t n_heads, n_layers;
    struct peaks peaks;
};

struct cache { /* pages of one sequence, and the rows of a step at its end */
    struct kv_group_view group;
    struct rows_view rows;
    struct act q, out;
    void *workspace, *memory[4];
    size_t workspace_bytes;
    uint32_t n_pages;
};

static void *alloc(struct bench *bench, size_t bytes)
{
    void *memory;
    struct why why;
    if (device_alloc(bench->device, bytes, &memory, &why) < 0) {
        fprintf(stderr, "cpu_kernels: %s\n", why.text);
        exit(1);
    }
    return memory;
}

static void *upload(struct bench *bench, const void *bytes, size_t n)
{
    void *memory = alloc(bench, n);
    device_upload(bench->device, memory, bytes, n);
    return memory;
}

static double run_seconds(struct bench *bench)
{
    int64_t begin = clock_now(&clock_monotonic);
    device_submit(bench->stream);
    int status = device_wait(bench->stream, NULL, NULL);
    if (status < 0) {
        fprintf(stderr, "cpu_kernels: %s\n", status_text(status));
        exit(1);
    }
    return (double)(clock_now(&clock_monotonic) - begin) * 1e-9;
}

static void measure_peaks(struct bench *bench)
{
    struct why why;
    if (peaks_measure(device_n_threads(bench->device), &bench->peaks, &why) < 0) {
        fprintf(stderr, "cpu_kernels: %s\n", why.text);
        exit(1);
    }
    printf("peaks: fma %.0f GFLOP/s (%s), plain read %.1f GB/s\n", bench->peaks.fma_ops * 1e-9,
           bench->peaks.fma_how, bench->peaks.read_bytes * 1e-9);
}

/* --- attention --- */

/* Random pages: any two bytes whose exponent is small are a harmless f16, and any four a harmless
 * f32, whatever they say as codes. */
static void fill_pages(struct bench *bench, enum kv_dtype dtype, uint8_t *base, size_t bytes)
{
    device_unlock(bench->device);
    uint32_t x = 1;
    for (size_t i = 0; i + 4 <= bytes; i += 4) {
        x = x * 1664525u + 1013904223u;
        uint32_t bits = dtype == KV_F16 ? (x & 0x83ff83ffu) | 0x38003800u
                                        : (x & 0x807fffffu) | 0x3f000000u;
        memcpy(base + i, &bits, 4);
    }
    device_lock(bench->device);
}

/* The rows of the pages from first_page on, that are being written. */
static void add_rows(struct bench *bench, uint32_t first_page, struct cache *cache)
{
    uint32_t n_pages = cache->n_pages - first_page;
    size_t layer_bytes = bench->ops->page_layer_bytes(&bench->shape, KV_F16);
    size_t page_bytes = layer_bytes * bench->n_layers;
    cache->group.open = (struct kv_open_view){
        .base = alloc(bench, page_bytes * n_pages),
        .page_stride = page_bytes,
        .layer_stride = layer_bytes,
        .table = cache->group.table, /* 0, 1, 2, ... */
        .first_page = upload(bench, &first_page, sizeof first_page),
        .table_stride = n_pages,
    };
    fill_pages(bench, KV_F16, cache->group.open.base, page_bytes * n_pages);
}

static struct cache make_cache(struct bench *bench, uint32_t depth, uint32_t n_rows)
{
    uint32_t n_tokens = depth + n_rows;
    struct cache cache = {.n_pages = (n_tokens + PAGE_TOKENS - 1) / PAGE_TOKENS};
    size_t layer_bytes = bench->ops->page_layer_bytes(&bench->shape, bench->dtype);
    size_t page_bytes = layer_bytes * bench->n_layers;
    page_id *table = malloc(sizeof *table * cache.n_pages);
    uint32_t *position = malloc(sizeof *position * n_rows),
             *row_seq = calloc(n_rows, sizeof *row_seq);
    uint32_t begin[2] = {0, n_rows}, first_page = 0;
    for (uint32_t i = 0; i < cache.n_pages; i++)
        table[i] = i;
    for (uint32_t r = 0; r < n_rows; r++)
        position[r] = depth + r;
    cache.group = (struct kv_group_view){
        .kind = KV_FULL,
        .shape = bench->shape,
        .dtype_open = kv_dtype_open(bench->dtype),
        .dtype_full = bench->dtype,
        .base = alloc(bench, page_bytes * cache.n_pages),
        .page_stride = page_bytes,
        .layer_stride = layer_bytes,
        .table = upload(bench, table, sizeof *table * cache.n_pages),
        .first_page = upload(bench, &first_page, sizeof first_page),
        .table_stride = cache.n_pages,
    };
    fill_pages(bench, bench->dtype, cache.group.base, page_bytes * cache.n_pages);
    if (kv_dtype_is_packed(bench->dtype))
        add_rows(bench, depth / PAGE_TOKENS, &cache);
    cache.rows = (struct rows_view){n_rows,
                                    1,
                                    upload(bench, position, sizeof *position * n_rows),
                                    upload(bench, row_seq, sizeof *row_seq * n_rows),
                                    upload(bench, begin, sizeof begin),
                                    n_tokens - 1};
    uint32_t q_width = bench->n_heads * bench->shape.k_dim,
             out_width = bench->n_heads * bench->shape.v_dim;
    size_t q_bytes = bench->ops->act_bytes(bench->device, n_rows, q_width, ACT_QUERY);
    cache.q = (struct act){alloc(bench, q_bytes), n_rows, q_width, ACT_QUERY};
    device_unlock(bench->device);
    for (size_t i = 0; i < q_bytes / sizeof(float); i++)
        ((float *)cache.q.base)[i] = 0.1f * sinf((float)i);
    device_lock(bench->device);
    cache.out = (struct act){
        alloc(bench, bench->ops->act_bytes(bench->device, n_rows, out_width, ACT_BLOCKS)), n_rows,
        out_width, ACT_BLOCKS};
    cache.workspace_bytes = bench->ops->attend_workspace_bytes(bench->device, bench->n_heads,
                                                               &bench->shape, n_rows, n_tokens);
    cache.workspace = alloc(bench, cache.workspace_bytes);
    free(table);
    free(position);
    free(row_seq);
    return cache;
}

static void free_cache(struct bench *bench, struct cache *cache)
{
    device_free(bench->device, cache->group.base);
    device_free(bench->device, (void *)cache->group.table);
    device_free(bench->device, (void *)cache->group.first_page);
    device_free(bench->device, cache->group.open.base);
    device_free(bench->device, (void *)cache->group.open.first_page);
    device_free(bench->device, (void *)cache->rows.position);
    device_free(bench->device, (void *)cache->rows.row_seq);
    device_free(bench->device, (void *)cache->rows.seq_begin);
    device_free(bench->device, cache->q.base);
    device_free(bench->device, cache->out.base);
    device_free(bench->device, cache->workspace);
}

static double attend_seconds(struct bench *bench, const struct cache *cache, uint32_t n_layers)
{
    double best = 1e9;
    for (int i = 0; i < REPEATS; i++) {
        for (uint32_t layer = 0; layer < n_layers; layer++) {
            struct attend_args args = {
                cache->q,         bench->n_heads,         cache->rows, cache->group, layer,
                cache->workspace, cache->workspace_bytes, cache->out};
            bench->ops->attend(bench->stream, &args);
        }
        best = fmin(best, run_seconds(bench));
    }
    return best / n_layers;
}

static void measure_decode(struct bench *bench, uint32_t depth)
{
    struct cache cache = make_cache(bench, depth - 1, 1);
    measure_peaks(bench);
    double seconds = attend_seconds(bench, &cache, bench->n_layers);
    double gbs = (double)cache.group.layer_stride * cache.n_pages * 1e-9 / seconds;
    printf("decode   depth %6u: %8.1f us a layer, %6.1f GB/s = %3.0f %% of a plain read\n", depth,
           seconds * 1e6, gbs, 100e9 * gbs / bench->peaks.read_bytes);
    free_cache(bench, &cache);
}

static void measure_prefill(struct bench *bench, uint32_t depth)
{
    struct cache cache = make_cache(bench, depth, PREFILL_ROWS);
    measure_peaks(bench);
    uint32_t n_layers = bench->n_layers < 4 ? bench->n_layers : 4;
    double seconds = attend_seconds(bench, &cache, n_layers), n_pairs = 0;
    for (uint32_t r = 0; r < PREFILL_ROWS; r++)
        n_pairs += depth + r + 1;
    double gflops =
        n_pairs * bench->n_heads * (bench->shape.k_dim + bench->shape.v_dim) * 2e-9 / seconds;
    printf("prefill  depth %6u: %8.1f us a layer, %6.1f GFLOP/s = %3.0f %% of the FMA peak\n",
           depth, seconds * 1e6, gflops, 100e9 * gflops / bench->peaks.fma_ops);
    free_cache(bench, &cache);
}

/* --- small ops --- */

static void measure_norm(struct bench *bench, uint32_t n_rows)
{
    float *x = alloc(bench, sizeof(float) * n_rows * WIDTH),
          *weight = alloc(bench, sizeof(float) * WIDTH);
    void *panel = alloc(bench, bench->ops->act_bytes(bench->device, n_rows, WIDTH, ACT_BLOCKS));
    struct norm_args args = {x, weight, 1e-5f, n_rows, WIDTH, {panel, n_rows, WIDTH, ACT_BLOCKS}};
    device_unlock(bench->device);
    for (uint32_t i = 0; i < n_rows * WIDTH; i++)
        x[i] = sinf((float)i);
    device_lock(bench->device);
    double best = 1e9;
    for (int i = 0; i < REPEATS; i++) {
        for (int j = 0; j < 100; j++)
            bench->ops->norm(bench->stream, &args);
        best = fmin(best, run_seconds(bench) / 100);
    }
    printf("norm     %4u rows of %u: %8.2f us, %.0f ns a row\n", n_rows, WIDTH, best * 1e6,
           best * 1e9 / n_rows);
    device_free(bench->device, x);
    device_free(bench->device, weight);
    device_free(bench->device, panel);
}

static void measure_sample(struct bench *bench, const char *name, struct sample_params params)
{
    float *logits = alloc(bench, sizeof(float) * VOCABULARY);
    device_unlock(bench->device);
    uint32_t x = 1;
    for (uint32_t i = 0; i < VOCABULARY;
         i++) { /* about normal, deviation 3.5, as those of a model */
        float sum = -6.0f;
        for (int j = 0; j < 12; j++) {
            x = x * 1664525u + 1013904223u;
            sum += (float)(x >> 8) * 0x1p-24f;
        }
        logits[i] = 3.5f * sum;
    }
    device_lock(bench->device);
    struct sample_args args = {
        .logits = logits,
        .n_rows = 1,
        .vocabulary = VOCABULARY,
        .params = upload(bench, &params, sizeof params),
        .workspace = alloc(bench, bench->ops->sample_workspace_bytes(bench->device, 1, VOCABULARY)),
        .results = alloc(bench, sizeof(struct sample_result)),
    };
    double best = 1e9;
    for (int i = 0; i < REPEATS; i++) {
        for (int j = 0; j < 10; j++)
            bench->ops->sample(bench->stream, &args);
        best = fmin(best, run_seconds(bench) / 10);
    }
    printf("sample   %-24s: %8.1f us a row of %u\n", name, best * 1e6, VOCABULARY);
    device_free(bench->device, logits);
    device_free(bench->device, (void *)args.params);
    device_free(bench->device, args.workspace);
    device_free(bench->device, args.results);
}

/* An op that does nothing: what every entry of a step costs all workers. */
static void measure_barrier(struct bench *bench)
{
    struct gather_args args = {.width = 1};
    double best = 1e9;
    for (int i = 0; i < REPEATS; i++) {
        for (int j = 0; j < 100; j++)
            bench->ops->gather(bench->stream, &args);
        best = fmin(best, run_seconds(bench) / 100);
    }
    printf("barrier  of %d threads: %.0f ns\n", device_n_threads(bench->device), best * 1e9);
}

static void measure_small(struct bench *bench)
{
    measure_barrier(bench);
    measure_norm(bench, 1);
    measure_norm(bench, PREFILL_ROWS);
    struct sample_params params = {
        .top_p = 1.0f, .repetition = 1.0f, .count_slot = -1, .mask_slot = -1};
    measure_sample(bench, "greedy", params);
    params.temperature = 0.8f;
    measure_sample(bench, "temperature", params);
    params.top_p = 0.95f;
    measure_sample(bench, "top_p 0.95", params);
    params.top_k = 40;
    measure_sample(bench, "top_k 40, top_p 0.95", params);
    params.want_logprob = 1;
    params.n_top = 20;
    measure_sample(bench, "the same, 20 logprobs", params);
}

static enum isa isa_of(const char *name)
{
    for (int isa = ISA_AUTO; isa <= ISA_AVX512; isa++)
        if (strcmp(isa_name((enum isa)isa), name) == 0)
            return (enum isa)isa;
    fprintf(stderr, "cpu_kernels: --isa %s is not known\n", name);
    exit(2);
}

static void measure_all(struct bench *bench)
{
    static const uint32_t depths[] = {2048, 8192, 32768};
    for (int i = 0; i < 3; i++)
        measure_decode(bench, depths[i]);
    for (int i = 0; i < 3; i++)
        measure_prefill(bench, i == 0 ? 0 : depths[i]);
    measure_small(bench);
}

static enum kv_dtype dtype_of(const char *name)
{
    struct kv_dtypes dtypes;
    struct why why;
    if (kv_dtypes_parse("--dtype", name, &dtypes, &why) < 0) {
        fprintf(stderr, "cpu_kernels: %s\n", why.text);
        exit(2);
    }
    return dtypes.global;
}

int main(int argc, char **argv)
{
    struct bench bench = {.options = {.pin = true},
                          .shape = {3, 64, 64, false},
                          .n_heads = 9,
                          .n_layers = N_LAYERS};
    uint32_t depth = 0;
    for (int i = 1; i + 1 < argc; i += 2) {
        uint32_t n = (uint32_t)strtoul(argv[i + 1], NULL, 10);
        if (strcmp(argv[i], "--threads") == 0)
            bench.options.n_threads = (int)n;
        else if (strcmp(argv[i], "--isa") == 0)
            bench.options.isa = isa_of(argv[i + 1]);
        else if (strcmp(argv[i], "--dtype") == 0)
            bench.dtype = dtype_of(argv[i + 1]);
        else if (strcmp(argv[i], "--layers") == 0)
            bench.n_layers = n > 0 && n < N_LAYERS ? n : N_LAYERS;
        else if (strcmp(argv[i], "--dim") == 0)
            bench.shape.k_dim = bench.shape.v_dim = n;
        else if (strcmp(argv[i], "--heads") == 0)
            bench.n_heads = n;
        else if (strcmp(argv[i], "--kv-heads") == 0)
            bench.shape.n_kv_heads = n;
        else if (strcmp(argv[i], "--depth") == 0)
            depth = n;
    }
    struct why why;
    if (device_open(&bench.options, &bench.device, &why) < 0 ||
        stream_create(bench.device, 4 * N_LAYERS, &bench.stream, &why) < 0) {
        fprintf(stderr, "cpu_kernels: %s\n", why.text);
        return 1;
    }
    bench.ops = device_ops(bench.device);
    printf("%s, %u / %u heads of %u, %s pages\n", device_name(bench.device), bench.n_heads,
           bench.shape.n_kv_heads, bench.shape.k_dim, kv_dtype_name(bench.dtype));
    if (depth > 0) {
        measure_decode(&bench, depth);
        if (depth <= PREFILL_DEPTH)
            measure_prefill(&bench, depth);
    } else {
        measure_all(&bench);
    }
    stream_free(bench.stream);
    device_close(bench.device);
    return 0;
}
