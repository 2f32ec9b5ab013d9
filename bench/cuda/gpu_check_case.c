#include "bench/cuda/gpu_check_case.h"

#include "base/status.h"
#include "bench/cuda/gpu_ops.h"

#include <math.h>
#include <stdarg.h>
#include <string.h>

#ifdef GPU_CHECK_EMULATED
#define LISTS 1
#else
#define LISTS 5
#endif

bool case_begin(struct bench_case *bench, const char *name, const char *shape, ...)
{
    va_list args;
    if (bench->status < 0)
        return false;
    snprintf(bench->name, sizeof bench->name, "%s", name);
    va_start(args, shape);
    vsnprintf(bench->shape, sizeof bench->shape, shape, args);
    va_end(args);
    bench->n_lanes = 1;
    return !check_is_cut(bench->check, "%s, %s", bench->name, bench->shape);
}

static void end_case(struct bench_case *bench)
{
    struct device *device = bench->check->device;
    for (uint32_t i = 0; i < bench->n_allocs; i++)
        device_free(device, bench->allocs[i]);
    for (uint32_t i = 0; i < CASE_LANES_MAX; i++)
        if (bench->weights[i] != NULL)
            bench->check->ops->weight_free(device, bench->weights[i]);
    memset(bench->weights, 0, sizeof bench->weights);
    bench->n_allocs = 0;
}

/* --- memory --- */

void *case_take(struct bench_case *bench, size_t bytes)
{
    void *memory = NULL;
    if (bench->status < 0)
        return NULL;
    bench->wanted_bytes = bytes;
    bench->status = bench->n_allocs < CASE_ALLOCS_MAX
                      ? device_alloc(bench->check->device, bytes, &memory, bench->why)
                      : refuse(bench->why, STATUS_INTERNAL, "a case takes too many arrays");
    if (bench->status == STATUS_OK)
        bench->allocs[bench->n_allocs++] = memory;
    return memory;
}

void *case_upload(struct bench_case *bench, const void *from, size_t bytes)
{
    void *memory = case_take(bench, bytes);
    if (bench->status == STATUS_OK)
        bench->status = device_upload(bench->check->device, memory, from, bytes);
    return memory;
}

float *case_floats(struct bench_case *bench, size_t n)
{
    size_t bytes = (n * sizeof(float) + 15) / 16 * 16;
    float *memory = case_take(bench, bytes);
    if (bench->status == STATUS_OK)
        gpu_fill_floats(bench->stream, memory, bytes, CASE_SEED + bench->n_allocs, -1.0f, 1.0f);
    return memory;
}

struct act case_panel(struct bench_case *bench, uint32_t n_rows, uint32_t width, uint32_t forms)
{
    size_t bytes = bench->check->ops->act_bytes(bench->check->device, n_rows, width, forms);
    return (struct act){case_take(bench, bytes), n_rows, width, forms};
}

struct act case_filled_panel(struct bench_case *bench, uint32_t n_rows, uint32_t width,
                             uint32_t forms)
{
    struct norm_args args = {.x = case_floats(bench, (size_t)n_rows * width),
                             .weight = case_floats(bench, width),
                             .eps = 1e-5f,
                             .n_rows = n_rows,
                             .width = width,
                             .out = case_panel(bench, n_rows, width, forms)};
    if (bench->status == STATUS_OK)
        bench->check->ops->norm(bench->stream, &args);
    return args.out;
}

void case_set_lanes(struct bench_case *bench, uint64_t bytes)
{
    uint64_t wanted = (CASE_COLD_BYTES + bytes - 1) / bytes;
    bench->n_lanes = wanted < CASE_LANES_MAX ? (uint32_t)wanted : CASE_LANES_MAX;
}

void case_load_weights(struct bench_case *bench, const struct check_matrix *matrix)
{
    bench->wanted_bytes = check_weight_bytes(matrix);
    case_set_lanes(bench, bench->wanted_bytes);
    for (uint32_t i = 0; i < bench->n_lanes && bench->status == STATUS_OK; i++)
        bench->status = check_weight_on_device(bench->check->device, bench->stream, matrix,
                                             &bench->weights[i], bench->why);
}

/* --- time --- */

/* What is enqueued, or the graph. */
static void run_list(struct bench_case *bench, const struct graph *graph, double *seconds)
{
    double begin = check_now();
    if (graph != NULL)
        graph_run(bench->stream, graph);
    device_submit(bench->stream);
    bench->status = device_wait(bench->stream, NULL, NULL);
    *seconds = fmin(*seconds, check_now() - begin);
    if (bench->status < 0)
        refuse(bench->why, bench->status, "%s, %s: %s", bench->name, bench->shape,
               status_text(bench->status));
}

static void note_lack(const struct bench_case *bench)
{
    char what[2 * REPORT_NAME_BYTES];
    snprintf(what, sizeof what, "%.40s, %.50s", bench->name, bench->shape);
    report_add_lack(bench->check->report, what, bench->wanted_bytes,
                    device_memory_free(bench->check->device));
}

/* A list that has run once: its kernels are in memory, which a graph's must be. */
static struct graph *make_graph(struct bench_case *bench,
                                void (*call)(struct bench_case *bench, uint32_t lane,
                                             const void *args),
                                const void *args)
{
    struct graph *graph = NULL;
    double ignored = INFINITY;
    if (bench->status == STATUS_OK)
        call(bench, 0, args);
    if (bench->status == STATUS_OK)
        run_list(bench, NULL, &ignored); /* the fills, too */
    if (bench->status == STATUS_OK)
        bench->status = graph_begin(bench->stream, bench->why);
    if (bench->status < 0)
        return NULL;
    for (uint32_t j = 0; j < CASE_LIST_CALLS; j++)
        call(bench, j % bench->n_lanes, args);
    bench->status = graph_end(bench->stream, &graph, bench->why);
    return graph;
}

void case_measure(struct bench_case *bench,
                  void (*call)(struct bench_case *bench, uint32_t lane, const void *args),
                  const void *args, struct op_cost cost)
{
    double seconds = INFINITY, ignored = INFINITY;
    struct graph *graph = make_graph(bench, call, args);
    for (int i = 0; i < 1 + LISTS && bench->status == STATUS_OK; i++)
        run_list(bench, graph, i == 0 ? &ignored : &seconds); /* the first one warms up */
    if (graph != NULL)
        graph_free(graph);
    if (bench->status == STATUS_NO_MEMORY)
        note_lack(bench);
    struct report_kernel *kernel =
        bench->status == STATUS_OK ? report_add_kernel(bench->check->report, bench->name) : NULL;
    if (kernel != NULL) {
        memcpy(kernel->shape, bench->shape, sizeof kernel->shape);
        kernel->seconds = seconds / CASE_LIST_CALLS;
        kernel->cost = cost;
    }
    end_case(bench);
    if (bench->status == STATUS_NO_MEMORY)
        bench->status = STATUS_OK;
}
