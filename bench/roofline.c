/* bench/roofline.c: bytes and operations of each kernel in a decode step and in a prefill step,
 * counted as the kernels' sources have them (kernels/op_cost.h). Nothing is computed: the forward
 * pass runs over a device that counts.
 *
 *   roofline --model FILE [--context 8192] [--rows 512] [--kv-dtype f16|f32]
 *            [--activations 16|int8|f32] [--peaks] [--threads N]
 *
 *   model/forward.c --ops--> counted_norm, counted_linear, ... --cpu_cost_*--> a line a kernel
 *
 * With --peaks this machine's peaks are measured, and each line tells what it takes at least and
 * what binds it.
 */
#include "base/options.h"
#include "base/threads.h"
#include "kernels/cpu/cpu_cost.h"
#include "kernels/cpu/cpu_weight.h"
#include "kernels/device_backend.h"
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

#define LINES_MAX 64
#define NAME_BYTES 64

struct roofline_options {
    const char *model;
    int64_t context, rows, threads;
    int kv_dtype, activations;
    bool peaks;
};

#define FIELD(name) offsetof(struct roofline_options, name)

static const struct option options[] = {
    {"model", 'm', OPTION_TEXT, FIELD(model), NULL, "FILE", "the GGUF file", 0, 0, NULL, 0},
    {"context", 'c', OPTION_INT, FIELD(context), "8192", "N",
     "tokens of the sequence at the end of the step", 1, CONTEXT_TOKENS_MAX, NULL, 0},
    {"rows", 0, OPTION_INT, FIELD(rows), "512", "N", "tokens of the prefill step", 1,
     STEP_ROWS_MAX, NULL, 0},
    {"kv-dtype", 0, OPTION_CHOICE, FIELD(kv_dtype), "f16", "TYPE", "values of the cache", 0, 0,
     "f16|f32", 0},
    {"activations", 0, OPTION_CHOICE, FIELD(activations), "16", "TYPE",
     "what multiplies integer weights", 0, 0, "16|int8|f32", 0},
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

struct line { /* of one kernel, or one matrix */
    char name[NAME_BYTES];
    uint32_t n_calls;
    struct op_cost cost;
};

struct counting_device {
    struct device base;
    enum activations activations;
    uint32_t n_lines;
    struct line lines[LINES_MAX];
};

struct counted_weight {
    struct weight weight; /* first: what ops are handed */
    char name[NAME_BYTES];
};

static void count(struct stream *stream, const char *op, const struct weight *weight,
                  struct op_cost cost)
{
    struct counting_device *device = (struct counting_device *)stream->device;
    char name[NAME_BYTES];
    uint32_t i = 0;
    snprintf(name, sizeof name, "%s%s%.40s", op, weight != NULL ? " " : "",
             weight != NULL ? ((const struct counted_weight *)weight)->name : "");
    while (i < device->n_lines && strcmp(device->lines[i].name, name) != 0)
        i++;
    if (i == LINES_MAX)
        return;
    if (i == device->n_lines)
        memcpy(device->lines[device->n_lines++].name, name, sizeof name);
    device->lines[i].n_calls++;
    op_cost_add(&device->lines[i].cost, &cost);
}

static enum activations activations_of(const struct stream *stream)
{
    return ((const struct counting_device *)stream->device)->activations;
}

/* --- ops --- */

/* blk.3.ffn_down.weight is one of the "ffn_down" */
static void name_weight(enum weight_fuse fuse, const char *tensor, char out[NAME_BYTES])
{
    unsigned layer;
    int begin = 0;
    if (sscanf(tensor, "blk.%u.%n", &layer, &begin) < 1)
        begin = 0;
    snprintf(out, NAME_BYTES, "%.*s", (int)strcspn(tensor + begin, "."), tensor + begin);
    if (fuse != WEIGHT_PLAIN)
        strcpy(out, fuse == WEIGHT_QKV ? "attn_qkv" : "ffn_gate_up");
}

static int counted_weight_load(struct device *device, enum weight_fuse fuse,
                               const struct weight_source *sources, uint32_t n_sources,
                               uint32_t rank, uint32_t n_ranks, struct weight **out,
                               struct why *why)
{
    (void)rank, (void)n_ranks;
    struct counted_weight *counted = calloc(1, sizeof *counted);
    if (counted == NULL)
        return refuse(why, STATUS_NO_MEMORY, "no memory for a weight");
    int status = cpu_weight_plan(fuse, sources, n_sources,
                                 ((struct counting_device *)device)->activations,
                                 &counted->weight, why);
    if (status < 0) {
        free(counted);
        return status;
    }
    name_weight(fuse, sources[0].name, counted->name);
    *out = &counted->weight;
    return STATUS_OK;
}

static void counted_weight_free(struct device *device, struct weight *weight)
{
    (void)device;
    free(weight);
}

static size_t no_act_bytes(const struct device *device, uint32_t max_rows, uint32_t width,
                           uint32_t forms)
{
    (void)device, (void)max_rows, (void)width, (void)forms;
    return 0;
}

static size_t no_attend_bytes(const struct device *device, uint32_t n_heads,
                              const struct kv_shape *shape, uint32_t max_rows, uint32_t max_context)
{
    (void)device, (void)n_heads, (void)shape, (void)max_rows, (void)max_context;
    return 0;
}

static void count_embed(struct stream *stream, const struct embed_args *args)
{
    count(stream, "embed", NULL, cpu_cost_embed(args));
}

static void count_norm(struct stream *stream, const struct norm_args *args)
{
    count(stream, "norm", NULL, cpu_cost_norm(args, activations_of(stream)));
}

static void count_linear(struct stream *stream, const struct linear_args *args)
{
    count(stream, "linear", args->weight, cpu_cost_linear(args, activations_of(stream)));
}

static void count_linear_glu(struct stream *stream, const struct linear_glu_args *args)
{
    count(stream, "linear_glu", args->weight, cpu_cost_linear_glu(args, activations_of(stream)));
}

static void count_rope_append(struct stream *stream, const struct rope_append_args *args)
{
    count(stream, "rope_append", NULL, cpu_cost_rope_append(args));
}

static void count_attend(struct stream *stream, const struct attend_args *args)
{
    count(stream, "attend", NULL, cpu_cost_attend(args, activations_of(stream)));
}

static void count_gather(struct stream *stream, const struct gather_args *args)
{
    count(stream, "gather", NULL, cpu_cost_gather(args));
}

static const struct ops counting_ops = {
    .name = "cpu, counted",
    .weight_load = counted_weight_load,
    .weight_free = counted_weight_free,
    .weight_info = cpu_weight_info,
    .act_bytes = no_act_bytes,
    .attend_workspace_bytes = no_attend_bytes,
    .embed = count_embed,
    .norm = count_norm,
    .linear = count_linear,
    .linear_glu = count_linear_glu,
    .rope_append = count_rope_append,
    .attend = count_attend,
    .gather = count_gather,
};

/* --- the device: host memory, untouched where nothing is written --- */

static int counting_alloc(struct device *device, size_t bytes, void **out, struct why *why)
{
    (void)device;
    *out = calloc(bytes == 0 ? 1 : bytes, 1);
    return *out != NULL ? STATUS_OK : refuse(why, STATUS_NO_MEMORY, "no %zu bytes", bytes);
}

static void counting_free(struct device *device, void *memory)
{
    (void)device;
    free(memory);
}

static int counting_upload(struct device *device, void *to, const void *from, size_t bytes)
{
    (void)device;
    memcpy(to, from, bytes);
    return STATUS_OK;
}

static const struct device_backend counting_backend = {
    .ops = &counting_ops,
    .alloc = counting_alloc,
    .free = counting_free,
    .upload = counting_upload,
    .download = counting_upload,
};

/* --- steps --- */

static void view_of(const struct model_plan *plan, enum kv_dtype dtype, struct kv_view *out)
{
    *out = (struct kv_view){.n_groups = plan->n_groups};
    for (uint32_t i = 0; i < plan->n_groups; i++)
        out->groups[i] = (struct kv_group_view){.kind = plan->groups[i].kind,
                                                .window = plan->groups[i].window,
                                                .shape = plan->groups[i].shape,
                                                .dtype_open = dtype,
                                                .dtype_full = dtype};
}

/* The last n_rows tokens of the context as one step, one row of logits, a greedy draw. */
static void count_step(struct counting_device *device, const struct model *model,
                       struct forward *forward, const struct roofline_options *in, uint32_t n_rows)
{
    static uint32_t position[STEP_ROWS_MAX], row_seq[STEP_ROWS_MAX];
    static const struct row_input inputs[STEP_ROWS_MAX];
    static const struct sample_params greedy;
    uint32_t context = (uint32_t)in->context, seq_begin[] = {0, n_rows}, last = n_rows - 1;
    struct stream stream = {.device = &device->base};
    struct kv_view view;
    for (uint32_t i = 0; i < n_rows; i++)
        position[i] = context - n_rows + i;
    struct forward_batch batch = {
        .inputs = inputs,
        .rows = {n_rows, 1, position, row_seq, seq_begin, context - 1},
        .output_rows = &last,
        .n_outputs = 1,
    };
    device->n_lines = 0;
    memset(device->lines, 0, sizeof device->lines);
    view_of(model_plan(model), in->kv_dtype == 1 ? KV_F32 : KV_F16, &view);
    forward_run(forward, &stream, &batch, &view);
    struct sample_args draw = {
        .n_rows = 1, .vocabulary = model_plan(model)->vocabulary, .params = &greedy};
    count(&stream, "sample, greedy", NULL, cpu_cost_greedy(&draw));
}

static void print_line(const char *name, uint32_t n_calls, const struct op_cost *cost,
                       const struct peaks *peaks)
{
    double bytes = cost->read + cost->written, ops = cost->int8_ops + cost->float_ops;
    printf("%-24s %5u %11.3f %11.3f %11.3f %11.3f %9.2f", name, n_calls, cost->read * 1e-6,
           cost->written * 1e-6, cost->int8_ops * 1e-6, cost->float_ops * 1e-6, ops / bytes);
    if (peaks != NULL) {
        double compute = cost->int8_ops / peaks->int8_ops + cost->float_ops / peaks->fma_ops;
        double memory = bytes / peaks->read_bytes;
        printf(" %9.3f  %s", 1e3 * fmax(compute, memory), compute > memory ? "ops" : "bytes");
    }
    putchar('\n');
}

static void print_step(const struct counting_device *device, const char *title,
                       const struct peaks *peaks)
{
    struct op_cost all = {.read = 0};
    uint32_t n_calls = 0;
    printf("\n%s\n%-24s %5s %11s %11s %11s %11s %9s%s\n", title, "kernel", "calls", "read MB",
           "written MB", "int8 Mop", "float Mop", "op/byte",
           peaks != NULL ? "  least ms  bound by" : "");
    for (uint32_t i = 0; i < device->n_lines; i++) {
        const struct line *line = &device->lines[i];
        print_line(line->name, line->n_calls, &line->cost, peaks);
        op_cost_add(&all, &line->cost);
        n_calls += line->n_calls;
    }
    print_line("all", n_calls, &all, peaks);
}

static int print_steps(struct counting_device *device, const struct model *model,
                       const struct roofline_options *in, struct why *why)
{
    uint32_t n_rows = (uint32_t)(in->rows < in->context ? in->rows : in->context);
    struct forward *forward;
    struct peaks peaks;
    char title[128];
    int status = STATUS_OK;
    if (in->peaks)
        status = peaks_measure(in->threads > 0 ? (int)in->threads : cores_allowed(), &peaks, why);
    if (status == STATUS_OK)
        status = forward_create(&device->base, model, n_rows, 1, (uint32_t)in->context, &forward,
                                why);
    if (status < 0)
        return status;
    printf("%s, CPU kernels, %s activations, %s pages\n", model_plan(model)->name,
           in->activations == 0 ? "16-bit" : in->activations == 1 ? "8-bit" : "f32",
           kv_dtype_name(in->kv_dtype == 1 ? KV_F32 : KV_F16));
    if (in->peaks)
        printf("peaks: %.1f GB/s of reads, %.0f int8 Gop/s (%s), %.0f float Gop/s (%s)\n",
               peaks.read_bytes * 1e-9, peaks.int8_ops * 1e-9, peaks.int8_how,
               peaks.fma_ops * 1e-9, peaks.fma_how);

    count_step(device, model, forward, in, 1);
    snprintf(title, sizeof title, "decode: 1 token at %u", (uint32_t)in->context - 1);
    print_step(device, title, in->peaks ? &peaks : NULL);
    count_step(device, model, forward, in, n_rows);
    snprintf(title, sizeof title, "prefill: %u tokens from %u on", n_rows,
             (uint32_t)in->context - n_rows);
    print_step(device, title, in->peaks ? &peaks : NULL);
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
    if (status < 0)
        return output_refusal(&why, status, EXIT_USAGE);

    struct counting_device device = {.base = {.backend = &counting_backend},
                                     .activations = (enum activations)in.activations};
    struct model *model;
    status = model_load(&device.base, in.model, NULL, &model, &why);
    if (status == STATUS_OK) {
        status = print_steps(&device, model, &in, &why);
        model_free(model);
    }
    return status < 0 ? output_refusal(&why, status, EXIT_FAILED) : 0;
}
