/* bench/roofline.c: bytes and operations of each kernel in a decode step and in a prefill step,
 * counted as the kernels' sources have them (kernels/op_cost.h). Nothing is computed: the forward
 * pass runs over a device that counts (bench/op_counter.h). CUDA's kernels need no GPU for that.
 *
 *   roofline --model FILE [--backend cpu|cuda] [--context 8192] [--rows 512] [--kv-dtype q8]
 *            [--activations 16|int8|f32] [--peaks] [--threads N]
 *
 * With --peaks this machine's peaks are measured, and each line tells what it takes at least and
 * what binds it; scripts/gpu-check measures those of a GPU.
 */
#include "base/options.h"
#include "base/threads.h"
#include "bench/op_counter.h"
#include "limits.h"
#include "model/forward.h"
#include "model/model.h"
#include "model/weights.h"
#include "tools/output.h"
#include "tools/peaks.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct roofline_options {
    const char *model, *kv_dtype;
    struct kv_dtypes kv_dtypes; /* as kv_dtype says */
    int64_t context, rows, threads;
    int backend, activations;
    bool peaks;
};

#define FIELD(name) offsetof(struct roofline_options, name)

static const struct option options[] = {
    {"model", 'm', OPTION_TEXT, FIELD(model), NULL, "FILE", "the GGUF file", 0, 0, NULL, 0},
    {"backend", 'b', OPTION_CHOICE, FIELD(backend), "cpu", "NAME", "whose kernels", 0, 0,
     "cpu|cuda", 0},
    {"context", 'c', OPTION_INT, FIELD(context), "8192", "N",
     "tokens of the sequence at the end of the step", 1, CONTEXT_TOKENS_MAX, NULL, 0},
    {"rows", 0, OPTION_INT, FIELD(rows), "512", "N", "tokens of the prefill step", 1,
     STEP_ROWS_MAX, NULL, 0},
    {"kv-dtype", 0, OPTION_TEXT, FIELD(kv_dtype), "f16", "TYPE",
     "values of the pages: f16, f32, bf16, q8 or q4, or by kind of layers (global=q4,local=f16)", 0,
     0, NULL, 0},
    {"activations", 0, OPTION_CHOICE, FIELD(activations), "16", "TYPE",
     "what multiplies integer weights on a CPU", 0, 0, "16|int8|f32", 0},
    {"peaks", 0, OPTION_FLAG, FIELD(peaks), NULL, NULL, "measure this machine's peaks", 0, 0, NULL,
     0},
    {"threads", 't', OPTION_INT, FIELD(threads), "0", "N", "of the peaks; 0: all that are allowed",
     0, TEAM_THREADS_MAX, NULL, 0},
    {NULL, 0, 0, 0, NULL, NULL, NULL, 0, 0, NULL, 0},
};

static const struct command command = {
    .name = "roofline",
    .usage = "roofline --model FILE [options]",
    .summary = "Counts bytes and operations of each kernel in a decode and a prefill step.",
    .options = options,
    .examples = "  build/bench/roofline --model model.gguf --context 32768 --peaks\n",
};

static void view_of(const struct model_plan *plan, const struct kv_dtypes *dtypes,
                    struct kv_view *out)
{
    *out = (struct kv_view){.n_groups = plan->n_groups};
    for (uint32_t i = 0; i < plan->n_groups; i++) {
        enum kv_dtype dtype = kv_dtypes_of(dtypes, plan->groups[i].kind);
        out->groups[i] = (struct kv_group_view){.kind = plan->groups[i].kind,
                                                .window = plan->groups[i].window,
                                                .shape = plan->groups[i].shape,
                                                .dtype_open = kv_dtype_open(dtype),
                                                .dtype_full = dtype};
    }
}

/* The last n_rows tokens of the context as one step, one row of logits, a greedy draw. */
static void count_step(struct op_counter *counter, const struct model *model,
                       struct forward *forward, const struct roofline_options *in, uint32_t n_rows)
{
    static uint32_t position[STEP_ROWS_MAX], row_seq[STEP_ROWS_MAX];
    static const struct row_input inputs[STEP_ROWS_MAX];
    static const struct sample_params greedy;
    uint32_t context = (uint32_t)in->context, seq_begin[] = {0, n_rows}, last = n_rows - 1;
    uint32_t last_position = context - 1, last_begin[] = {0, 1};
    struct stream stream = {.device = &counter->base};
    struct kv_view view;
    for (uint32_t i = 0; i < n_rows; i++)
        position[i] = context - n_rows + i;
    struct forward_batch batch = {
        .inputs = inputs,
        .rows = {n_rows, 1, position, row_seq, seq_begin, context - 1},
        .output_rows = &last,
        .outputs = {1, 1, &last_position, row_seq, last_begin, context - 1},
    };
    op_counter_clear(counter);
    view_of(model_plan(model), &in->kv_dtypes, &view);
    forward_run(forward, &stream, &batch, &view);
    struct sample_args draw = {
        .n_rows = 1, .vocabulary = model_plan(model)->vocabulary, .params = &greedy};
    struct op_cost cost = counter->model->greedy(&draw);
    op_counter_add(counter, "sample, greedy", &cost);
}

static void print_line(const char *name, uint32_t n_calls, const struct op_cost *cost,
                       const struct peaks *peaks)
{
    double bytes = cost->read + cost->written, of_matrices = cost->int8_ops + cost->half_ops;
    double ops = of_matrices + cost->float_ops;
    printf("%-24s %5u %11.3f %11.3f %11.3f %11.3f %9.2f", name, n_calls, cost->read * 1e-6,
           cost->written * 1e-6, of_matrices * 1e-6, cost->float_ops * 1e-6,
           bytes > 0 ? ops / bytes : 0);
    if (peaks != NULL) {
        double compute = cost->int8_ops / peaks->int8_ops + cost->float_ops / peaks->fma_ops;
        double memory = bytes / peaks->read_bytes;
        printf(" %9.3f  %s", 1e3 * fmax(compute, memory), compute > memory ? "ops" : "bytes");
    }
    putchar('\n');
}

static void print_step(const struct op_counter *counter, const char *title,
                       const struct peaks *peaks)
{
    struct op_cost all = op_counter_total(counter);
    bool is_cuda = counter->model == &cost_model_cuda;
    uint32_t n_calls = 0;
    printf("\n%s\n%-24s %5s %11s %11s %11s %11s %9s%s\n", title, "kernel", "calls", "read MB",
           "written MB", is_cuda ? "mma Mop" : "int8 Mop", "float Mop", "op/byte",
           peaks != NULL ? "  least ms  bound by" : "");
    for (uint32_t i = 0; i < counter->n_lines; i++) {
        const struct counter_line *line = &counter->lines[i];
        print_line(line->name, line->n_calls, &line->cost, peaks);
        n_calls += line->n_calls;
    }
    print_line("all", n_calls, &all, peaks);
}

static int print_steps(struct op_counter *counter, const struct model *model,
                       const struct roofline_options *in, struct why *why)
{
    uint32_t n_rows = (uint32_t)(in->rows < in->context ? in->rows : in->context);
    struct forward *forward;
    struct peaks peaks;
    char title[128], pages[KV_DTYPES_TEXT_BYTES];
    int status = STATUS_OK;
    if (in->peaks)
        status = peaks_measure(in->threads > 0 ? (int)in->threads : cores_allowed(), &peaks, why);
    if (status == STATUS_OK)
        status = forward_create(&counter->base, model, n_rows, 1, (uint32_t)in->context, &forward,
                                why);
    if (status < 0)
        return status;
    static const char *const activations[] = {"16-bit", "8-bit", "f32"};
    printf("%s, %s kernels, %s activations, %s pages\n", model_plan(model)->name,
           counter->model->name, in->backend == 1 ? "f16" : activations[in->activations],
           kv_dtypes_text(&in->kv_dtypes, pages));
    if (in->peaks)
        printf("peaks: %.1f GB/s of reads, %.0f int8 Gop/s (%s), %.0f float Gop/s (%s)\n",
               peaks.read_bytes * 1e-9, peaks.int8_ops * 1e-9, peaks.int8_how,
               peaks.fma_ops * 1e-9, peaks.fma_how);

    count_step(counter, model, forward, in, 1);
    snprintf(title, sizeof title, "decode: 1 token at %u", (uint32_t)in->context - 1);
    print_step(counter, title, in->peaks ? &peaks : NULL);
    count_step(counter, model, forward, in, n_rows);
    snprintf(title, sizeof title, "prefill: %u tokens from %u on", n_rows,
             (uint32_t)in->context - n_rows);
    print_step(counter, title, in->peaks ? &peaks : NULL);
    forward_free(forward);
    return STATUS_OK;
}

int main(int argc, char **argv)
{
    struct roofline_options in = {.model = NULL};
    struct why why = {.text = ""};
    bool help;
    int n_operands, status;

    status = options_parse(&command, argc, argv, &in, NULL, &n_operands, &help, &why);
    if (status == STATUS_OK && help) {
        options_print_help(&command);
        return 0;
    }
    if (status == STATUS_OK && in.model == NULL)
        status = refuse(&why, STATUS_INVALID, "which model? Give --model FILE");
    if (status == STATUS_OK)
        status = kv_dtypes_parse("--kv-dtype", in.kv_dtype, &in.kv_dtypes, &why);
    if (status == STATUS_OK && in.backend == 1 && (in.peaks || in.activations != 0))
        status = refuse(&why, STATUS_INVALID,
                        "--peaks and --activations are of the CPU; with --backend cuda activations "
                        "are f16, and scripts/gpu-check measures a GPU");
    if (status < 0)
        return output_refusal(&why, status, EXIT_USAGE);

    struct op_counter counter;
    struct model *model;
    op_counter_init(&counter, in.backend == 1 ? &cost_model_cuda : &cost_model_cpu,
                    (enum activations)in.activations, true);
    status = model_load(&counter.base, in.model, NULL, &model, &why);
    if (status == STATUS_OK) {
        status = print_steps(&counter, model, &in, &why);
        model_free(model);
    }
    return status < 0 ? output_refusal(&why, status, EXIT_FAILED) : 0;
}
