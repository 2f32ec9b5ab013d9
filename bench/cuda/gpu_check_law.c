/* The model's test: a small model of each type of weights on CUDA beside the same on the CPU, and
 * law 2: a row's logits are the same bits whatever the chunk and the company.
 *
 * Both sides read the same tokens, so a difference does not grow by what it led to. Activations are
 * f16 on the GPU and 16-bit integers on the CPU: that is what the tolerance is for.
 */
#include "base/status.h"
#include "bench/cuda/gpu_check.h"
#include "bench/cuda/gpu_check_model.h"
#include "bench/cuda/gpu_check_run.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MODEL_SEED 5
#define PAGES_SEED 1000 /* and following */
#define N_SEQS 2
#define MAX_ROWS 128
#define RMS_TOLERANCE 0.005 /* of the logits' own rms; the emulation shows 0.001 */
#define MAX_TOLERANCE 0.04  /* the same, of any logit; 0.009 */

#ifdef GPU_CHECK_EMULATED
#define N_TOKENS 72 /* one page and some */
#else
#define N_TOKENS 700 /* one span and some */
#endif

/* One for each plane of cuda_weight.h. */
static const uint32_t types[] = {TENSOR_Q4_0, TENSOR_Q4_1, TENSOR_Q8_0, TENSOR_F16,
                                 TENSOR_BF16, TENSOR_F32,  TENSOR_Q4_K, TENSOR_Q5_1,
                                 TENSOR_Q6_K, TENSOR_MXFP4};
#define N_TYPES (sizeof types / sizeof types[0])

static uint32_t id_at(uint32_t seq, uint32_t position, uint32_t vocabulary)
{
    return (uint32_t)(((seq * 7919u + position + 1) * 2654435761u) >> 9) % vocabulary;
}

/* How a text is read: `chunk` rows at a time, and from `decode_from` on one by one. */
struct reading {
    uint32_t chunk, decode_from;
    bool in_company; /* the other sequence's rows are in every step too, in front */
    bool by_graph;   /* steps of one row are runs of a graph */
};

/* Reads sequence `seq` from its begin; logits [N_TOKENS, vocabulary] of all its rows. */
static int read_text(struct check_run *run, uint32_t seq, const struct reading *reading,
                     float *logits, struct why *why)
{
    uint32_t ids[N_SEQS][MAX_ROWS], vocabulary = model_plan(run->model)->vocabulary;
    float *of_step = malloc((size_t)MAX_ROWS * N_SEQS * vocabulary * sizeof *of_step);
    int status = of_step != NULL ? STATUS_OK : refuse(why, STATUS_NO_MEMORY, "no memory");
    if (reading->by_graph && status == STATUS_OK)
        status = check_run_make_graph(run, why);
    for (uint32_t done = 0, n; done < N_TOKENS && status == STATUS_OK; done += n) {
        struct check_piece pieces[N_SEQS];
        uint32_t n_pieces = 0, first = 0;
        n = done >= reading->decode_from ? 1 : reading->chunk;
        n = n < N_TOKENS - done ? n : N_TOKENS - done;
        for (uint32_t s = 0; s < N_SEQS; s++) {
            if (s != seq && !reading->in_company)
                continue;
            for (uint32_t i = 0; i < n; i++)
                ids[s][i] = id_at(s, done + i, vocabulary);
            first = s == seq ? n_pieces * n : first;
            pieces[n_pieces++] = (struct check_piece){s, done, ids[s], n, n};
        }
        status = check_run_step(run, pieces, n_pieces, why);
        if (status == STATUS_OK)
            status = check_run_read_logits(run, n_pieces * n, of_step, why);
        if (status == STATUS_OK)
            memcpy(logits + (size_t)done * vocabulary, of_step + (size_t)first * vocabulary,
                   (size_t)n * vocabulary * sizeof *logits);
    }
    check_run_drop_graph(run);
    free(of_step);
    return status;
}

static struct check_run_sizes sizes_of_run(void)
{
    return (struct check_run_sizes){.n_seqs = N_SEQS,
                                    .n_tokens = N_TOKENS,
                                    .max_rows = N_SEQS * MAX_ROWS,
                                    .max_outputs = N_SEQS * MAX_ROWS};
}

static float *new_logits(const struct check_shape *shape)
{
    return malloc((size_t)N_TOKENS * shape->vocabulary * sizeof(float));
}

/* A run of its own on that device; logits as read_text. Before a second reading the pages get other
 * keys and values: what the one before left would hide that one is not written, or too late. */
static int logits_on(struct device *device, const struct check_shape *shape,
                     const struct reading *readings, uint32_t n_readings, float **logits,
                     struct why *why)
{
    struct check_run_sizes sizes = sizes_of_run();
    struct check_run run = {.device = NULL};
    struct model *model = NULL;
    int status = check_model_create(device, shape, false, MODEL_SEED, &model, why);
    if (status == STATUS_OK)
        status = check_run_open(&run, device, model, &sizes, why);
    for (uint32_t i = 0; i < n_readings && status == STATUS_OK; i++) {
        logits[i] = new_logits(shape);
        if (logits[i] == NULL)
            status = refuse(why, STATUS_NO_MEMORY, "no memory for logits");
        if (status == STATUS_OK && i > 0)
            status = check_run_fill_pages(&run, PAGES_SEED + i, why);
        if (status == STATUS_OK)
            status = read_text(&run, 1, &readings[i], logits[i], why);
    }
    check_run_close(&run);
    check_model_free(model);
    return status;
}

/* --- beside the CPU --- */

struct comparison {
    double rms, greatest; /* of the difference, over the rms of the CPU's logits */
    uint32_t n_sure, n_other; /* rows whose best is far ahead; of those: with another best */
    double least_margin;
};

static uint32_t best_of(const float *row, uint32_t n, double *margin)
{
    uint32_t best = 0;
    double second = -INFINITY;
    for (uint32_t i = 1; i < n; i++) {
        if (row[i] > row[best]) {
            second = row[best];
            best = i;
        } else {
            second = fmax(second, row[i]);
        }
    }
    *margin = row[best] - second;
    return best;
}

static struct comparison compare(const float *got, const float *want, uint32_t vocabulary)
{
    struct comparison result = {.greatest = 0};
    size_t n = (size_t)N_TOKENS * vocabulary;
    double squares = 0, of_difference = 0, ignored;
    for (size_t i = 0; i < n; i++) {
        double apart = fabs((double)got[i] - (double)want[i]);
        squares += (double)want[i] * want[i];
        of_difference += apart * apart;
        if (!(apart <= result.greatest)) /* a NaN stays */
            result.greatest = apart;
    }
    double rms = sqrt(squares / (double)n);
    result.rms = sqrt(of_difference / (double)n) / rms;
    result.greatest /= rms;
    for (uint32_t r = 0; r < N_TOKENS; r++) {
        double margin;
        uint32_t best = best_of(want + (size_t)r * vocabulary, vocabulary, &margin);
        if (margin < 2 * MAX_TOLERANCE * rms)
            continue;
        result.n_sure++;
        if (best_of(got + (size_t)r * vocabulary, vocabulary, &ignored) != best)
            result.n_other++;
    }
    return result;
}

static void note_comparison(struct gpu_check *check, const char *type,
                            const struct comparison *result, double seconds)
{
    bool is_near = result->rms <= RMS_TOLERANCE && result->greatest <= MAX_TOLERANCE;
    char name[REPORT_NAME_BYTES];
    snprintf(name, sizeof name, "model.logits_near_cpu.%s", type);
    struct report_test *test =
        report_add_test(check->report, name, is_near ? "passed" : "failed", seconds);
    if (test != NULL)
        snprintf(test->note, sizeof test->note, "rms %.2g of %.2g, max %.2g of %.2g", result->rms,
                 RMS_TOLERANCE, result->greatest, MAX_TOLERANCE);
    snprintf(name, sizeof name, "model.ids_as_cpu.%s", type);
    bool is_same = result->n_sure > 0 && result->n_other == 0;
    test = report_add_test(check->report, name, is_same ? "passed" : "failed", 0);
    if (test != NULL)
        snprintf(test->note, sizeof test->note,
                 "%u of %u rows whose best is ahead by %.2g rms have another", result->n_other,
                 result->n_sure, 2 * MAX_TOLERANCE);
}

/* Of that type, in widths of whole blocks. */
static struct check_shape shape_of(const struct check_shape *of, uint32_t type)
{
    uint32_t block = tensor_type_info(type)->block_values;
    struct check_shape shape = *of;
    shape.type = type;
    shape.width = (shape.width + block - 1) / block * block;
    shape.n_ff = (shape.n_ff + block - 1) / block * block;
    return shape;
}

static int check_near_cpu(struct gpu_check *check, struct device *cpu,
                          const struct check_shape *of, uint32_t type, struct why *why)
{
    struct check_shape shape = shape_of(of, type);
    struct reading reading = {.chunk = 64, .decode_from = N_TOKENS - 4};
    float *want = NULL, *got = NULL;
    double begin = check_now();
    int status = logits_on(cpu, &shape, &reading, 1, &want, why);
    if (status == STATUS_OK)
        status = logits_on(check->device, &shape, &reading, 1, &got, why);
    if (status == STATUS_OK) {
        struct comparison result = compare(got, want, shape.vocabulary);
        note_comparison(check, of->n_experts > 0 ? "scout" : tensor_type_info(type)->name, &result,
                        check_now() - begin);
    }
    free(want);
    free(got);
    return status;
}

/* --- law 2 --- */

static const struct {
    const char *name;
    struct reading reading;
} readings[] = {
    {"alone", {.chunk = MAX_ROWS, .decode_from = N_TOKENS}},
    {"chunks", {.chunk = 17, .decode_from = N_TOKENS}},
    {"decode", {.chunk = 40, .decode_from = N_TOKENS - 24}},
    {"graph", {.chunk = 40, .decode_from = N_TOKENS - 24, .by_graph = true}},
    {"company", {.chunk = 33, .decode_from = N_TOKENS - 24, .in_company = true}},
};
#define N_READINGS (sizeof readings / sizeof readings[0])

static int check_law_2(struct gpu_check *check, const struct check_shape *shape, const char *group,
                       struct why *why)
{
    size_t bytes = (size_t)N_TOKENS * shape->vocabulary * sizeof(float);
    float *logits[N_READINGS] = {NULL};
    struct reading all[N_READINGS];
    double begin = check_now();
    for (size_t i = 0; i < N_READINGS; i++)
        all[i] = readings[i].reading;
    int status = logits_on(check->device, shape, all, N_READINGS, logits, why);
    double seconds = (check_now() - begin) / (N_READINGS - 1);
    for (size_t i = 1; i < N_READINGS && status == STATUS_OK; i++) {
        bool is_same = memcmp(logits[i], logits[0], bytes) == 0;
        char name[REPORT_NAME_BYTES];
        snprintf(name, sizeof name, "%s.%s", group, readings[i].name);
        report_add_test(check->report, name, is_same ? "passed" : "failed", seconds);
    }
    for (size_t i = 0; i < N_READINGS; i++)
        free(logits[i]);
    return status;
}

int check_model(struct gpu_check *check, struct why *why)
{
    struct device_options options = {.backend = BACKEND_CPU};
    struct device *cpu;
    int status = device_open(&options, &cpu, why);
    if (status < 0)
        return status;
    for (size_t i = 0; i < N_TYPES && status == STATUS_OK; i++)
        if (!check_is_cut(check, "%s: a model of %s beside the CPU", check_shape_tiny.name,
                          tensor_type_info(types[i])->name))
            status = check_near_cpu(check, cpu, &check_shape_tiny, types[i], why);
    const struct check_shape *scout = &check_shape_small_scout;
    if (status == STATUS_OK && !check_is_cut(check, "%s: beside the CPU", scout->name))
        status = check_near_cpu(check, cpu, scout, scout->type, why);
    device_close(cpu);
    if (status == STATUS_OK && !check_is_cut(check, "law 2: chunks and company, to the bit"))
        status = check_law_2(check, &check_shape_tiny, "law2", why);
    if (status == STATUS_OK && !check_is_cut(check, "law 2 of %s", scout->name))
        status = check_law_2(check, scout, "law2.scout", why);
    return status;
}
