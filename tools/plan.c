/* `quire plan`: whether a model and a context fit given GPUs, and how fast their memory could
 * decode. Arithmetic alone: nothing is loaded, nothing is measured. */
#include "tools/tools.h"

#include "base/options.h"
#include "base/text.h"
#include "engine/memory_plan.h"
#include "kernels/gpu_matrix.h"
#include "kvcache/kv_open.h"
#include "limits.h"
#include "model/gguf.h"
#include "model/layer_plan.h"
#include "model/weights.h"
#include "tools/json_print.h"
#include "tools/output.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define STEPS_ROWS (STEP_ROWS_MAX * DEVICE_DEPTH_MAX) /* not yet committed, at most */
#define GOAL 0.8 /* of the bandwidth: what our kernels are to reach */

struct gpu {
    const char *name, *title;
    double memory_gb, gb_per_second; /* 1e9, as the vendor says */
};

static const struct gpu gpus[] = {
    {"a100", "A100 80 GB", 80, 2039},    {"h100", "H100 SXM", 80, 3350},
    {"h200", "H200", 141, 4800},         {"b200", "B200", 180, 8000},
    {"rtx4090", "RTX 4090", 24, 1008},   {"rtx5090", "RTX 5090", 32, 1792},
};

struct plan_options {
    const char *model, *kv_dtype;
    bool json, has_weights;
    int gpu, weights;
    struct kv_dtypes kv_dtypes; /* as kv_dtype says */
    int64_t n_gpus, context;
};

#define FIELD(name) offsetof(struct plan_options, name)

static const char *const weight_names[] = {"int4", "int8", "f16", "f32"};

static const struct option options[] = {
    {"model", 'm', OPTION_TEXT, FIELD(model), NULL, "FILE|NAME",
     "a GGUF file, or one of the names below", 0, 0, NULL, 0},
    {"gpu", 0, OPTION_CHOICE, FIELD(gpu), "h100", "NAME",
     "whose memory and bandwidth to count with", 0, 0, "a100|h100|h200|b200|rtx4090|rtx5090", 0},
    {"gpus", 0, OPTION_INT, FIELD(n_gpus), "1", "N", "that share the model, heads split evenly", 1,
     1024, NULL, 0},
    {"context", 'c', OPTION_INT, FIELD(context), "0", "N",
     "tokens of one sequence; 0: 131,072, or as trained if that is less", 0, CONTEXT_TOKENS_MAX,
     NULL, 0},
    {"kv-dtype", 0, OPTION_TEXT, FIELD(kv_dtype), "f16", "TYPE",
     "values of the pages: f16, f32, bf16, q8 or q4, or by kind of layers (global=q4,local=f16)", 0,
     0, NULL, 0},
    {"weights", 0, OPTION_CHOICE, FIELD(weights), "int4", "TYPE",
     "of a NAME: int4 (4.5 bits with scales), int8 (8.5), f16 or f32; a FILE has its own", 0, 0,
     "int4|int8|f16|f32", FIELD(has_weights)},
    {"json", 0, OPTION_FLAG, FIELD(json), NULL, NULL, "print one JSON object", 0, 0, NULL, 0},
    {NULL, 0, 0, 0, NULL, NULL, NULL, 0, 0, NULL, 0},
};

static const struct command command = {
    .name = "plan",
    .usage = "quire plan --model FILE|NAME [--gpu NAME] [options]",
    .summary =
        "Tells what a model takes of GPUs: weights, pages, workspace, the longest context that "
        "fits,\nand the tokens a second that the memory's bandwidth allows. Nothing is measured.",
    .options = options,
    .examples = "  quire plan --model llama4-scout --gpu h100 --context 1048576 --kv-dtype q4\n"
                "  quire plan --model llama3.3-70b --gpu h100 --gpus 2 --json\n"
                "  quire plan --model model.gguf --gpu rtx4090\n",
};

struct subject {
    struct model_shape shape;
    /* of a file: of its weights as it has them, and as a GPU does; 0: a name */
    uint64_t file_bytes, gpu_bytes;
};

static int read_file(const char *path, struct subject *out, struct why *why)
{
    struct gguf *file;
    struct model_plan plan = {.n_layers = 0};

    int status = gguf_open(path, &file, why);
    if (status < 0)
        return status;
    status = model_plan_read(file, &plan, why);
    if (status == STATUS_OK) {
        model_shape_from_plan(&plan, &out->shape);
        out->file_bytes = plan.weight_bytes;
        out->gpu_bytes = weights_planned_bytes(file, &plan, gpu_matrix_bytes);
        model_plan_release(&plan);
    } else {
        refuse_prefix(why, status, "%s", path);
    }
    gguf_close(file);
    return status;
}

static void list_names(char *out, size_t size)
{
    size_t n = 0;
    const struct model_shape *shape;

    for (size_t i = 0; (shape = model_shape_at(i)) != NULL && n < size; i++)
        n += (size_t)snprintf(out + n, size - n, "%s%s", i > 0 ? ", " : "", shape->name);
}

static int find_subject(const char *model, struct subject *out, bool *is_usage, struct why *why)
{
    const struct model_shape *known = model_shape_find(model);
    char names[600];

    *out = (struct subject){.file_bytes = 0};
    if (known != NULL) {
        out->shape = *known;
        return STATUS_OK;
    }
    int status = read_file(model, out, why);
    if (status != STATUS_NOT_FOUND && status != STATUS_IO)
        return status;
    if (strchr(model, '/') != NULL || strstr(model, ".gguf") != NULL)
        return status;
    *is_usage = true;
    list_names(names, sizeof names);
    return refuse(why, STATUS_INVALID, "\"%.64s\" is no file and no model known by name; known: %s",
                  model, names);
}

/* --- text --- */

static void print_bytes(const char *label, uint64_t bytes, const char *how)
{
    char exact[TEXT_NUMBER_BYTES];
    printf("  %-15s %8.2f GB  %20s bytes  %s\n", label, (double)bytes / 1e9,
           text_count(exact, bytes), how);
}

static void print_weights(const struct subject *subject, const struct weight_format *weights,
                          const struct memory_plan *plan)
{
    char how[160], file[TEXT_NUMBER_BYTES];
    double all = (double)model_shape_parameters(&subject->shape);
    double active = (double)model_shape_active_parameters(&subject->shape);

    if (subject->file_bytes > 0)
        snprintf(how, sizeof how, "as kernels read them; the file has %s",
                 text_bytes(file, subject->file_bytes));
    else
        snprintf(how, sizeof how, "%.4g parameters x %.3g bits / 8", all, weights->bits);
    print_bytes("weights", plan->weights_bytes, how);
    snprintf(how, sizeof how, "%.4g parameters meet one token", active);
    print_bytes("  read a token", plan->weights_read_bytes, how);
}

static void print_pages(const struct model_shape *shape, const struct memory_plan *plan,
                        const char *dtype)
{
    char how[200], a[TEXT_NUMBER_BYTES], b[TEXT_NUMBER_BYTES];
    uint32_t n_global = shape->n_layers - shape->n_local_layers;

    snprintf(how, sizeof how, "%u layers: %s bytes a token x %s tokens (%s)", n_global,
             text_count(a, plan->global_token_bytes), text_count(b, plan->context), dtype);
    print_bytes("pages", plan->global_bytes, how);
    if (shape->n_local_layers > 0) {
        snprintf(how, sizeof how, "%u layers: %s bytes a token, the last %s tokens at most",
                 shape->n_local_layers, text_count(a, plan->local_token_bytes),
                 text_count(b, shape->window));
        print_bytes("  local layers", plan->local_bytes, how);
    }
    if (plan->open_bytes > 0)
        print_bytes("  being written", plan->open_bytes, "their rows, until they are packed");
}

static void print_workspace(const struct memory_plan *plan)
{
    char how[120], a[TEXT_NUMBER_BYTES], b[TEXT_NUMBER_BYTES], c[TEXT_NUMBER_BYTES];

    snprintf(how, sizeof how, "activations %s + logits %s + partial states %s",
             text_bytes(a, plan->activations_bytes), text_bytes(b, plan->logits_bytes),
             text_bytes(c, plan->partials_bytes));
    print_bytes("workspace", plan->workspace_bytes, how);
    print_bytes("reserve", plan->reserve_bytes, "driver, code, the allocator's edges");
}

static void print_plan(const struct subject *subject, const struct plan_options *in,
                       const struct memory_plan *plan)
{
    const struct gpu *gpu = &gpus[in->gpu];
    char a[TEXT_NUMBER_BYTES], b[TEXT_NUMBER_BYTES];

    output_text(stdout, slice_from(subject->shape.title), 0);
    printf(" on %" PRId64 " x %s (%.0f GB, %.0f GB/s each), one sequence of %s tokens\n\n",
           in->n_gpus, gpu->title, gpu->memory_gb, gpu->gb_per_second,
           text_count(a, plan->context));
    print_weights(subject, weight_format_find(weight_names[in->weights]), plan);
    print_pages(&subject->shape, plan, in->kv_dtype);
    print_workspace(plan);
    print_bytes("needed", plan->needed_bytes,
                plan->fits ? "fits" : "does not fit: fewer tokens, smaller pages or more GPUs");
    print_bytes("there is", plan->memory_bytes, "");
    printf("\n  longest context   %s tokens of the %s trained\n",
           text_count(a, plan->longest_context), text_count(b, subject->shape.context));
    printf("  decode            %.0f tokens/s = %.0f GB/s / %.2f GB (weights read + pages), at\n"
           "                    the whole bandwidth; %.0f at %.0f %% of it, our kernels' goal. "
           "Not measured.\n",
           plan->tokens_per_second, gpu->gb_per_second * (double)in->n_gpus,
           plan->bytes_per_token / 1e9, plan->tokens_per_second * GOAL, GOAL * 100);
}

/* --- JSON --- */

static void print_json(const struct subject *subject, const struct plan_options *in,
                       const struct memory_plan *plan)
{
    struct json_print json = {.to = stdout};
    bool is_known = subject->shape.n_layers > 0;

    json_print_open(&json, NULL, '{');
    json_print_string(&json, "model", subject->shape.title);
    json_print_string(&json, "gpu", gpus[in->gpu].name);
    json_print_uint(&json, "gpus", (uint64_t)in->n_gpus);
    json_print_string(&json, "weights",
                      subject->file_bytes > 0 ? "file" : weight_names[in->weights]);
    json_print_string(&json, "kv_dtype", in->kv_dtype);
    json_print_uint(&json, "parameters", model_shape_parameters(&subject->shape));
    json_print_uint(&json, "active_parameters", model_shape_active_parameters(&subject->shape));
    if (subject->file_bytes > 0)
        json_print_uint(&json, "file_bytes", subject->file_bytes);
    json_print_uint(&json, "weights_bytes", plan->weights_bytes);
    json_print_uint(&json, "weights_read_bytes", plan->weights_read_bytes);
    if (is_known) {
        json_print_uint(&json, "context", plan->context);
        json_print_uint(&json, "kv_global_token_bytes", plan->global_token_bytes);
        json_print_uint(&json, "kv_local_token_bytes", plan->local_token_bytes);
        json_print_uint(&json, "kv_global_bytes", plan->global_bytes);
        json_print_uint(&json, "kv_local_bytes", plan->local_bytes);
        json_print_uint(&json, "kv_bytes", plan->kv_bytes);
        json_print_uint(&json, "kv_open_bytes", plan->open_bytes);
        json_print_uint(&json, "workspace_bytes", plan->workspace_bytes);
        json_print_uint(&json, "reserve_bytes", plan->reserve_bytes);
        json_print_uint(&json, "needed_bytes", plan->needed_bytes);
        json_print_uint(&json, "memory_bytes", plan->memory_bytes);
        json_print_bool(&json, "fits", plan->fits);
        json_print_uint(&json, "longest_context", plan->longest_context);
        json_print_real(&json, "bytes_per_token", plan->bytes_per_token);
        json_print_real(&json, "decode_tokens_per_second", plan->tokens_per_second);
    } else {
        json_print_string(&json, "note", subject->shape.note);
    }
    json_print_close(&json, '}');
    putchar('\n');
}

static void print_unpublished(const struct subject *subject, const struct plan_options *in,
                              const struct memory_plan *plan)
{
    printf("%s on %" PRId64 " x %s\n\n", subject->shape.title, in->n_gpus, gpus[in->gpu].title);
    print_weights(subject, weight_format_find(weight_names[in->weights]), plan);
    printf("\nNothing more can be planned: %s.\n", subject->shape.note);
}

/* *is_usage: what was asked for cannot be; else a file could not be read. */
static int plan(const struct plan_options *in, bool *is_usage, struct why *why)
{
    const struct gpu *gpu = &gpus[in->gpu];
    struct subject subject;
    struct memory_plan made;
    uint64_t memory_bytes = (uint64_t)(gpu->memory_gb * 1e9);
    struct memory_budget budget = {.memory_bytes = memory_bytes,
                                   .bytes_per_second = gpu->gb_per_second * 1e9,
                                   .n_devices = (uint32_t)in->n_gpus,
                                   .reserve_bytes = memory_plan_reserve(memory_bytes),
                                   .open_pages = kv_open_pages(1, STEPS_ROWS)};

    int status = find_subject(in->model, &subject, is_usage, why);
    if (status < 0)
        return status;
    *is_usage = true;
    if (subject.file_bytes > 0 && in->has_weights)
        return refuse(why, STATUS_INVALID,
                      "--weights goes with a NAME: a file has its own weights");
    status = model_shape_check_pages(&subject.shape, &in->kv_dtypes, why);
    if (status < 0)
        return status;
    status = memory_plan_make(&subject.shape, weight_format_find(weight_names[in->weights]),
                              subject.gpu_bytes, &in->kv_dtypes,
                              &budget, (uint64_t)in->context, &made, why);
    if (status < 0 && status != STATUS_UNSUPPORTED)
        return status;
    if (in->json)
        print_json(&subject, in, &made);
    else if (status == STATUS_UNSUPPORTED)
        print_unpublished(&subject, in, &made);
    else
        print_plan(&subject, in, &made);
    return STATUS_OK;
}

int tools_plan(int argc, char **argv)
{
    struct plan_options in = {.model = NULL};
    struct why why = {.text = ""};
    bool help, is_usage = false;
    int n_operands;

    int status = options_parse(&command, argc, argv, &in, NULL, &n_operands, &help, &why);
    if (status == STATUS_OK && help) {
        char names[600];
        options_print_help(&command);
        list_names(names, sizeof names);
        printf("\nNames: %s\n", names);
        return 0;
    }
    if (status == STATUS_OK && in.model == NULL)
        status = refuse(&why, STATUS_INVALID,
                        "which model? Give --model FILE or NAME; see quire plan --help");
    if (status == STATUS_OK)
        status = kv_dtypes_parse("--kv-dtype", in.kv_dtype, &in.kv_dtypes, &why);
    if (status < 0)
        return output_refusal(&why, status, EXIT_USAGE);
    status = plan(&in, &is_usage, &why);
    return status < 0 ? output_refusal(&why, status, is_usage ? EXIT_USAGE : EXIT_FAILED) : 0;
}
