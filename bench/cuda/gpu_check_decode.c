/* Models at growing contexts: tokens one by one behind pages that a seed has filled, and a
 * long prompt step by step.
 */
#include "base/status.h"
#include "base/text.h"
#include "bench/cuda/gpu_check.h"
#include "bench/cuda/gpu_check_model.h"
#include "bench/cuda/gpu_check_run.h"

#include <assert.h>
#include <math.h>

#define MODEL_SEED 1
#define PAGES_SEED 2

#ifdef GPU_CHECK_EMULATED
static const uint32_t contexts[] = {64, 512, 1100, 16384};
#define PREFILL_TOKENS 256
#define PREFILL_ROWS 64
#define WARM_STEPS 2
#define DECODE_STEPS 2
#else
static const uint32_t contexts[] = {1024, 32 * 1024, 128 * 1024, 1024 * 1024};
#define PREFILL_TOKENS (128 * 1024)
#define PREFILL_ROWS STEP_ROWS_MAX
#define WARM_STEPS 4
#define DECODE_STEPS 32
#endif
#define PROGRESS_TOKENS (PREFILL_TOKENS / 8)
#define N_CONTEXTS (sizeof contexts / sizeof contexts[0])

/* A prompt's tokens: any ids. */
static uint32_t id_at(uint32_t position, uint32_t vocabulary)
{
    return (uint32_t)((position * 2654435761u) >> 7) % vocabulary;
}

/* --- what does not fit --- */

/* True if that is what stopped it: the report has it then. */
static bool is_lack(struct gpu_check *check, int status, const char *what, uint64_t least_bytes,
                    const struct why *why)
{
    if (status != STATUS_NO_MEMORY)
        return false;
    bool has_numbers = why->numbers.unit != NULL;
    report_add_lack(check->report, what,
                    has_numbers ? (uint64_t)why->numbers.requested : least_bytes,
                    has_numbers ? (uint64_t)why->numbers.available
                                : device_memory_free(check->device));
    return true;
}

/* A model of the report, and its runs' model_idx. */
struct subject {
    const struct check_shape *shape;
    struct model *model; /* NULL where it does not fit */
    uint32_t idx;
};

static uint32_t name_model(struct report *report, const struct check_shape *shape)
{
    for (uint32_t i = 0; i < report->n_models; i++)
        if (report->models[i].name == shape->name)
            return i;
    assert(report->n_models < REPORT_MODELS_MAX);
    report->models[report->n_models] =
        (struct report_model){shape->name, tensor_type_info(shape->type)->name,
                              check_model_bytes(shape)};
    return report->n_models++;
}

static int make_subject(struct gpu_check *check, const struct check_shape *shape,
                        struct subject *out, struct why *why)
{
    *out = (struct subject){.shape = shape, .idx = name_model(check->report, shape)};
    int status = check_model_create(check->device, shape, true, MODEL_SEED, &out->model, why);
    if (is_lack(check, status, shape->name, check_model_bytes(shape), why))
        return STATUS_OK;
    return status;
}

/* --- decode --- */

static void launch_decode(struct check_run *run, uint32_t position, bool is_first)
{
    uint32_t first_id = 1;
    struct check_piece piece = {.position = position,
                                .ids = is_first ? &first_id : NULL,
                                .n_rows = 1,
                                .n_outputs = 1};
    check_run_launch(run, &piece, 1);
}

/* Of steps, over PACE_STEPS waits: a host that sleeps through one finds the next one over. */
struct pace {
    double begin, last, best;
    double since; /* the beginning of the steps that count next */
    uint32_t n;   /* of these */
};
#define PACE_STEPS 8

static int wait_step(struct check_run *run, struct pace *pace, struct why *why)
{
    int status = check_run_wait(run, why);
    double now = check_now();
    pace->last = now;
    if (++pace->n == PACE_STEPS) {
        pace->best = fmin(pace->best, (now - pace->since) / PACE_STEPS);
        pace->since = now;
        pace->n = 0;
    }
    return status;
}

/* Kernels that have run once before are in memory when the graph is made; the last step runs it. */
static int warm_up(struct check_run *run, uint32_t context, struct why *why)
{
    int status = STATUS_OK;
    for (uint32_t i = 0; i < WARM_STEPS && status == STATUS_OK; i++) {
        if (i == WARM_STEPS - 1)
            status = check_run_make_graph(run, why);
        if (status < 0)
            return status;
        launch_decode(run, context + i, i == 0);
        status = check_run_wait(run, why);
    }
    return status;
}

/* Steps as the engine takes them: the next is on its way before the last one's token is read. */
static int decode_tokens(struct gpu_check *check, struct check_run *run, uint32_t context,
                         uint32_t *n, struct pace *pace, struct why *why)
{
    uint32_t depth = device_depth(check->device);
    int status = STATUS_OK;
    pace->begin = pace->last = pace->since = check_now();
    for (*n = 0; *n < DECODE_STEPS && status == STATUS_OK && !check_is_over(check); ++*n) {
        launch_decode(run, context + WARM_STEPS + *n, false);
        if (stream_n_under_way(run->stream) == depth)
            status = wait_step(run, pace, why);
    }
    while (stream_n_under_way(run->stream) > 0 && status == STATUS_OK)
        status = wait_step(run, pace, why);
    return status;
}

static int measure_decode(struct gpu_check *check, const struct subject *subject,
                          struct check_run *run, uint32_t context, struct why *why)
{
    struct op_cost cost = {.read = 0};
    struct pace pace = {.best = INFINITY};
    uint32_t n = 0;
    int status = check_run_fill_pages(run, PAGES_SEED, why);
    if (status == STATUS_OK)
        status = warm_up(run, context, why);
    if (status == STATUS_OK)
        status = decode_tokens(check, run, context, &n, &pace, why);
    if (status == STATUS_OK && n > 0)
        status = check_step_cost(run->model, context + WARM_STEPS + n / 2, 1, 1, &cost, why);
    struct report_run *line =
        status == STATUS_OK && n > 0 ? report_add_decode(check->report, subject->idx, context)
                                     : NULL;
    if (line == NULL)
        return status;
    line->n_tokens = n;
    line->seconds = pace.last - pace.begin;
    line->best_seconds = fmin(pace.best, line->seconds / n);
    for (uint32_t i = 0; i < n; i++)
        op_cost_add(&line->cost, &cost);
    return STATUS_OK;
}

static int decode_at(struct gpu_check *check, const struct subject *subject, uint32_t context,
                     struct why *why)
{
    char what[REPORT_NAME_BYTES], number[TEXT_NUMBER_BYTES];
    struct check_run run = {.device = NULL};
    struct check_run_sizes sizes = {
        .n_seqs = 1, .n_tokens = context + WARM_STEPS + DECODE_STEPS, .max_rows = 1,
        .max_outputs = 1};
    snprintf(what, sizeof what, "%s, decode behind %s tokens", subject->shape->name,
             text_count(number, context));
    if (check_is_cut(check, "%s", what))
        return STATUS_OK;
    int status = check_run_open(&run, check->device, subject->model, &sizes, why);
    if (status == STATUS_OK)
        status = measure_decode(check, subject, &run, context, why);
    else if (is_lack(check, status, what, run.pages_bytes, why))
        status = STATUS_OK;
    check_run_close(&run);
    return status;
}

static int decode_model(struct gpu_check *check, const struct check_shape *shape,
                        uint32_t n_contexts, struct why *why)
{
    struct subject subject;
    int status = make_subject(check, shape, &subject, why);
    for (uint32_t i = 0; i < n_contexts && status == STATUS_OK && subject.model != NULL; i++)
        status = decode_at(check, &subject, contexts[i], why);
    check_model_free(subject.model);
    return status;
}

int check_decode(struct gpu_check *check, struct why *why)
{
    return decode_model(check, &check_shape_8b, N_CONTEXTS, why);
}

int check_scout(struct gpu_check *check, struct why *why)
{
    return decode_model(check, &check_shape_scout, GPU_CHECK_IS_EMULATED ? 2 : N_CONTEXTS, why);
}

/* --- prefill --- */

/* Adds a line at each doubling of the prompt from a sixteenth of it on, and where time is over. */
static int measure_prefill(struct gpu_check *check, const struct subject *subject,
                           struct check_run *run, struct why *why)
{
    uint32_t ids[PREFILL_ROWS], next_line = PREFILL_TOKENS / 16, done = 0;
    uint32_t vocabulary = model_plan(run->model)->vocabulary;
    struct report_run all = {.best_seconds = INFINITY};
    int status = STATUS_OK;
    while (done < PREFILL_TOKENS && status == STATUS_OK) {
        if (done % PROGRESS_TOKENS == 0 || check_is_over(check))
            if (check_is_cut(check, "prefill from %u of %u tokens on", done, PREFILL_TOKENS))
                break;
        uint32_t left = PREFILL_TOKENS - done, n = left < PREFILL_ROWS ? left : PREFILL_ROWS;
        struct op_cost cost = {.read = 0};
        for (uint32_t i = 0; i < n; i++)
            ids[i] = id_at(done + i, vocabulary);
        struct check_piece piece = {
            .position = done, .ids = ids, .n_rows = n, .n_outputs = n == left ? 1 : 0};
        double begin = check_now();
        status = check_run_step(run, &piece, 1, why);
        double seconds = check_now() - begin;
        if (status == STATUS_OK)
            status = check_step_cost(run->model, done, n, piece.n_outputs, &cost, why);
        if (status < 0)
            break;
        done += n;
        all.best_seconds = fmin(all.best_seconds, seconds);
        all.seconds += seconds;
        op_cost_add(&all.cost, &cost);
        if (done < next_line && done < PREFILL_TOKENS)
            continue;
        while (next_line <= done)
            next_line *= 2;
        all.context = all.n_tokens = done;
        struct report_run *line = report_add_prefill(check->report, subject->idx, done);
        if (line != NULL)
            *line = all;
    }
    return status;
}

int check_prefill(struct gpu_check *check, struct why *why)
{
    char what[REPORT_NAME_BYTES], number[TEXT_NUMBER_BYTES];
    struct check_run run = {.device = NULL};
    struct check_run_sizes sizes = {
        .n_seqs = 1, .n_tokens = PREFILL_TOKENS, .max_rows = PREFILL_ROWS, .max_outputs = 1};
    struct subject subject;
    snprintf(what, sizeof what, "prefill of %s tokens", text_count(number, PREFILL_TOKENS));
    int status = make_subject(check, &check_shape_8b, &subject, why);
    if (status < 0 || subject.model == NULL)
        return status;
    status = check_run_open(&run, check->device, subject.model, &sizes, why);
    if (status == STATUS_OK)
        status = measure_prefill(check, &subject, &run, why);
    else if (is_lack(check, status, what, run.pages_bytes, why))
        status = STATUS_OK;
    check_run_close(&run);
    check_model_free(subject.model);
    return status;
}
