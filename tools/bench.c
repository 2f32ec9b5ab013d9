/* `quire bench`: tokens a second of prefill and decode at given depths, beside what the machine
 * could do in the same minute.
 *
 *   sequence  |---- depth ----|-- prompt --|- gen -|        filled, then measured, then measured
 *
 * Decode takes its tokens by greedy draws, as the server does. Peaks are measured before and
 * after each depth, and the better count; they are the CPU's, so a GPU's rates stand alone here
 * (scripts/gpu-check measures its peaks). */
#include "tools/tools.h"

#include "base/clock.h"
#include "base/device_options.h"
#include "base/options.h"
#include "base/progress.h"
#include "base/text.h"
#include "model/weights.h"
#include "tools/bench_cost.h"
#include "tools/json_print.h"
#include "tools/output.h"
#include "tools/run.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#define DEPTHS_MAX 32
#define GEN_MAX 65536

struct bench_options {
    const char *model, *depth, *kv_dtype;
    int64_t prompt, gen, device, threads;
    int backend, isa, activations;
    struct kv_dtypes kv_dtypes; /* as kv_dtype says */
    bool has_device, no_last_layer_saving, json;
};

#define FIELD(name) offsetof(struct bench_options, name)

static const struct option options[] = {
    {"model", 'm', OPTION_TEXT, FIELD(model), NULL, "FILE", "the GGUF file", 0, 0, NULL, 0},
    {"prompt", 0, OPTION_INT, FIELD(prompt), "512", "N", "tokens of the prefill that is measured",
     1, CONTEXT_TOKENS_MAX, NULL, 0},
    {"gen", 0, OPTION_INT, FIELD(gen), "64", "N", "tokens decoded behind it", 1, GEN_MAX, NULL, 0},
    {"depth", 0, OPTION_TEXT, FIELD(depth), "0,2048", "LIST",
     "tokens in the cache before the prompt, parted by commas", 0, 0, NULL, 0},
    DEVICE_OPTION_ROWS(struct bench_options),
    {"kv-dtype", 0, OPTION_TEXT, FIELD(kv_dtype), "f16", "TYPE",
     "values of the cache: f16, f32, bf16, q8 or q4, or by kind of layers (global=q4,local=f16)", 0,
     0, NULL, 0},
    {"activations", 0, OPTION_CHOICE, FIELD(activations), "16", "TYPE",
     "what multiplies integer weights on the CPU; a GPU takes f16 and refuses others", 0, 0,
     "16|int8|f32", 0},
    {"no-last-layer-saving", 0, OPTION_FLAG, FIELD(no_last_layer_saving), NULL, NULL,
     "take all rows of a prompt through all of the last layer, though only keys and values are "
     "needed: the same logits later; to measure what that costs",
     0, 0, NULL, 0},
    {"json", 0, OPTION_FLAG, FIELD(json), NULL, NULL, "print one JSON object", 0, 0, NULL, 0},
    {NULL, 0, 0, 0, NULL, NULL, NULL, 0, 0, NULL, 0},
};

static const struct command command = {
    .name = "bench",
    .usage = "quire bench --model FILE [options]",
    .summary = "Measures tokens a second of prefill and decode, and what share that is of the "
               "machine's\nown peaks in the same minute.",
    .options = options,
    .examples = "  quire bench -m model.gguf\n"
                "  quire bench -m model.gguf --prompt 512 --gen 64 --depth 0,2048,6144 --json\n",
};

struct phase { /* one measured thing */
    uint64_t n_tokens;
    struct bench_cost cost;
    double seconds, cpu_seconds; /* cpu: of all threads of the process */
    double tokens_rate, ops_rate, bytes_rate;
    double share; /* of what the peaks allow */
};

struct result {
    uint32_t depth;
    struct peaks peaks;
    double linear_peak;
    struct phase prefill, decode;
};

struct bench {
    struct run run;
    const struct bench_options *in;
    struct progress progress;
    uint32_t *depths; /* [n_depths], owned */
    size_t n_depths;
    kv_seq_id seq;
    uint32_t n_written;
    uint32_t ids[STEP_ROWS_MAX];
};

/* --- steps --- */

static int restart(struct bench *bench, struct why *why)
{
    if (bench->seq != KV_SEQ_NONE)
        run_end(&bench->run, bench->seq);
    bench->seq = KV_SEQ_NONE;
    bench->n_written = 0;
    return run_begin(&bench->run, &bench->seq, why);
}

/* n tokens by whole steps; the last one gives a row of logits. */
static int prefill(struct bench *bench, const char *label, uint32_t n, struct why *why)
{
    uint32_t vocabulary = model_plan(bench->run.model)->vocabulary;
    for (uint32_t at = 0; at < n;) {
        uint32_t n_rows = n - at < STEP_ROWS_MAX ? n - at : STEP_ROWS_MAX;
        for (uint32_t i = 0; i < n_rows; i++)
            bench->ids[i] = (uint32_t)((bench->n_written + i) * UINT64_C(2654435761) % vocabulary);
        struct run_piece piece = {
            .seq = bench->seq, .ids = bench->ids, .n_rows = n_rows, .n_outputs = at + n_rows == n};
        int status = run_step(&bench->run, &piece, 1, why);
        if (status < 0)
            return status;
        at += n_rows;
        bench->n_written += n_rows;
        progress_update(&bench->progress, label, at, n, 0);
    }
    return STATUS_OK;
}

static int decode(struct bench *bench, uint32_t n, struct why *why)
{
    for (uint32_t i = 0; i < n; i++) {
        uint32_t id = bench->run.results[0].id; /* drawn by the step before */
        struct run_piece piece = {.seq = bench->seq, .ids = &id, .n_rows = 1, .n_outputs = 1};
        int status = run_step(&bench->run, &piece, 1, why);
        if (status < 0)
            return status;
        bench->n_written++;
        progress_update(&bench->progress, "decode", i + 1, n, 0);
    }
    return STATUS_OK;
}

/* --- measuring --- */

static bool has_block_weights(const struct run *run)
{
    const struct weight *weight = model_weights(run->model)->layers[0].out;
    return (run->ops->weight_info(weight).act_forms & ACT_BLOCKS) != 0;
}

struct moment {
    int64_t ns, cpu_ns;
};

static struct moment moment_now(void)
{
    struct timespec cpu;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
    return (struct moment){clock_now(&clock_monotonic), cpu.tv_sec * NS_PER_S + cpu.tv_nsec};
}

static struct phase phase_of(const struct bench *bench, uint32_t first, uint64_t n, bool is_decode,
                             struct moment began)
{
    struct moment now = moment_now();
    double seconds = (double)(now.ns - began.ns) / (double)NS_PER_S;
    struct bench_work work = {
        .first = first, .n_rows = n, .n_steps = n, .n_outputs = n, .n_last_rows = n};
    if (!is_decode) {
        work.n_steps = (n + STEP_ROWS_MAX - 1) / STEP_ROWS_MAX;
        work.n_outputs = 1;
        work.n_last_rows = bench->in->no_last_layer_saving ? n : 1;
    }
    struct bench_cost cost = bench_cost_of(bench->run.model, &bench->run.kv_dtypes, &work);
    return (struct phase){.n_tokens = n,
                          .cost = cost,
                          .seconds = seconds,
                          .cpu_seconds = (double)(now.cpu_ns - began.cpu_ns) / (double)NS_PER_S,
                          .tokens_rate = (double)n / seconds,
                          .ops_rate = (cost.linear_ops + cost.attention_ops) / seconds,
                          .bytes_rate = cost.bytes / seconds};
}

static int time_phases(struct bench *bench, struct result *out, struct why *why)
{
    const struct bench_options *in = bench->in;
    uint32_t first = bench->n_written;
    struct moment began = moment_now();

    int status = prefill(bench, "prefill", (uint32_t)in->prompt, why);
    if (status < 0)
        return status;
    out->prefill = phase_of(bench, first, (uint64_t)in->prompt, false, began);

    first = bench->n_written;
    began = moment_now();
    status = decode(bench, (uint32_t)in->gen, why);
    if (status == STATUS_OK)
        out->decode = phase_of(bench, first, (uint64_t)in->gen, true, began);
    return status;
}

static void compare(const struct bench *bench, struct result *result)
{
    struct phase *phases[] = {&result->prefill, &result->decode};

    result->linear_peak = bench_linear_peak(
        &result->peaks, (enum activations)bench->in->activations, has_block_weights(&bench->run));
    for (size_t i = 0; i < 2; i++)
        phases[i]->share =
            bench_least_seconds(&phases[i]->cost, &result->peaks, result->linear_peak) /
            phases[i]->seconds;
}

static int measure(struct bench *bench, uint32_t depth, struct result *out, struct why *why)
{
    int n_threads = device_n_threads(bench->run.device), status = STATUS_OK;
    struct peaks after;

    *out = (struct result){.depth = depth};
    if (bench->seq == KV_SEQ_NONE || depth < bench->n_written)
        status = restart(bench, why);
    if (status == STATUS_OK)
        status = prefill(bench, "filling", depth - bench->n_written, why);
    if (device_is_gpu(bench->run.device))
        return status < 0 ? status : time_phases(bench, out, why);
    if (status == STATUS_OK)
        status = peaks_measure(n_threads, &out->peaks, why);
    if (status == STATUS_OK)
        status = time_phases(bench, out, why);
    if (status == STATUS_OK)
        status = peaks_measure(n_threads, &after, why);
    if (status < 0)
        return status;
    peaks_take_better(&out->peaks, &after);
    compare(bench, out);
    return STATUS_OK;
}

/* --- output --- */

static void print_phase(const char *name, uint32_t depth, const struct phase *phase)
{
    char at[TEXT_NUMBER_BYTES], share[16] = "-";
    if (phase->share > 0)
        snprintf(share, sizeof share, "%.0f %%", 100 * phase->share);
    printf("%-8s %10s %8llu %11.1f %11.1f %11.2f %10s\n", name, text_count(at, depth),
           (unsigned long long)phase->n_tokens, phase->tokens_rate, phase->ops_rate * 1e-9,
           phase->bytes_rate * 1e-9, share);
}

static void print_result(const struct bench *bench, const struct result *result)
{
    const struct peaks *peaks = &result->peaks;
    if (!device_is_gpu(bench->run.device))
        printf("peaks now: read %.1f GB/s, int8 %.0f Gop/s (%s), f32 %.0f Gop/s (%s)\n",
               peaks->read_bytes * 1e-9, peaks->int8_ops * 1e-9, peaks->int8_how,
               peaks->fma_ops * 1e-9, peaks->fma_how);
    print_phase("prefill", result->depth, &result->prefill);
    print_phase("decode", result->depth + (uint32_t)bench->in->prompt, &result->decode);
    fflush(stdout);
}

static const char *activations_name(const struct bench *bench)
{
    static const char *const names[] = {"16", "int8", "f32"};
    return device_is_gpu(bench->run.device) ? "f16" : names[bench->in->activations];
}

static void print_head(const struct bench *bench)
{
    char dtypes[KV_DTYPES_TEXT_BYTES];
    printf("%s on %s, %s pages, %s activations\n", model_plan(bench->run.model)->name,
           device_name(bench->run.device), kv_dtypes_text(&bench->run.kv_dtypes, dtypes),
           activations_name(bench));
    printf("what        at depth   tokens    tokens/s       Gop/s        GB/s  of peaks\n");
    fflush(stdout);
}

static void print_json_phase(struct json_print *json, const char *key, const struct phase *phase)
{
    json_print_open(json, key, '{');
    json_print_uint(json, "tokens", phase->n_tokens);
    json_print_real(json, "seconds", phase->seconds);
    json_print_real(json, "cpu_seconds", phase->cpu_seconds);
    json_print_real(json, "tokens_per_s", phase->tokens_rate);
    json_print_real(json, "ops_per_s", phase->ops_rate);
    json_print_real(json, "bytes_per_s", phase->bytes_rate);
    if (phase->share > 0)
        json_print_real(json, "share_of_peaks", phase->share);
    json_print_close(json, '}');
}

static void print_json_peaks(struct json_print *json, const struct result *result)
{
    json_print_open(json, "peaks", '{');
    json_print_real(json, "read_bytes_per_s", result->peaks.read_bytes);
    json_print_real(json, "int8_ops_per_s", result->peaks.int8_ops);
    json_print_string(json, "int8_instruction", result->peaks.int8_how);
    json_print_real(json, "fma_ops_per_s", result->peaks.fma_ops);
    json_print_string(json, "fma_instruction", result->peaks.fma_how);
    json_print_real(json, "linear_ops_per_s", result->linear_peak);
    json_print_close(json, '}');
}

static void print_json_result(struct json_print *json, const struct result *result)
{
    json_print_open(json, NULL, '{');
    json_print_uint(json, "depth", result->depth);
    if (result->linear_peak > 0)
        print_json_peaks(json, result);
    print_json_phase(json, "prefill", &result->prefill);
    print_json_phase(json, "decode", &result->decode);
    json_print_close(json, '}');
}

static void print_json(const struct bench *bench, const struct result *results, size_t n)
{
    struct json_print json = {.to = stdout};
    char dtypes[KV_DTYPES_TEXT_BYTES];
    json_print_open(&json, NULL, '{');
    json_print_string(&json, "model", model_plan(bench->run.model)->name);
    json_print_string(&json, "device", device_name(bench->run.device));
    json_print_uint(&json, "threads", (uint64_t)device_n_threads(bench->run.device));
    json_print_string(&json, "kv_dtype", kv_dtypes_text(&bench->run.kv_dtypes, dtypes));
    json_print_string(&json, "activations", activations_name(bench));
    json_print_uint(&json, "step_weight_bytes", model_step_bytes(bench->run.model));
    json_print_open(&json, "depths", '[');
    for (size_t i = 0; i < n; i++)
        print_json_result(&json, &results[i]);
    json_print_close(&json, ']');
    json_print_close(&json, '}');
    putchar('\n');
}

/* --- life --- */

static int check_depths(const struct bench *bench, const struct model_plan *plan,
                        struct run_sizes *sizes, struct why *why)
{
    uint64_t context = plan->context < CONTEXT_TOKENS_MAX ? plan->context : CONTEXT_TOKENS_MAX;
    uint64_t longest = 0, more = (uint64_t)bench->in->prompt + (uint64_t)bench->in->gen;
    char need[TEXT_NUMBER_BYTES], most[TEXT_NUMBER_BYTES];

    for (size_t i = 0; i < bench->n_depths; i++)
        longest = bench->depths[i] > longest ? bench->depths[i] : longest;
    if (longest + more > context)
        return refuse(why, STATUS_TOO_LARGE,
                      "--depth %llu, --prompt %lld and --gen %lld need %s tokens of context; the "
                      "model's holds %s",
                      (unsigned long long)longest, (long long)bench->in->prompt,
                      (long long)bench->in->gen, text_count(need, longest + more),
                      text_count(most, context));
    *sizes = (struct run_sizes){.n_sequences = 1,
                                .n_tokens = longest + more,
                                .max_rows = STEP_ROWS_MAX,
                                .max_outputs = 1,
                                .draws = true,
                                .no_last_layer_saving = bench->in->no_last_layer_saving};
    return STATUS_OK;
}

static int check_before_load(const struct bench *bench, struct run_sizes *sizes, struct why *why)
{
    struct model_plan plan;

    int status = run_read_plan(bench->in->model, &plan, why);
    if (status < 0)
        return status;
    status = check_depths(bench, &plan, sizes, why);
    model_plan_release(&plan);
    return status;
}

static int bench_open(struct bench *bench, const struct bench_options *in, struct why *why)
{
    struct run_sizes sizes;
    struct run_options open = {.model_path = in->model,
                               .device = {.backend = (enum backend)in->backend,
                                          .has_index = in->has_device,
                                          .index = (uint32_t)in->device,
                                          .n_threads = (int)in->threads,
                                          .isa = (enum isa)in->isa,
                                          .activations = (enum activations)in->activations},
                               .kv_dtypes = in->kv_dtypes};

    int status = check_before_load(bench, &sizes, why);
    if (status == STATUS_OK)
        status = run_open(&open, &bench->run, why);
    if (status == STATUS_OK)
        status = run_prepare(&bench->run, &sizes, why);
    if (status < 0)
        return status;
    progress_init(&bench->progress, &clock_monotonic, "tokens", false);
    /* once for nothing: memory is touched, clocks are up */
    status = restart(bench, why);
    if (status == STATUS_OK)
        status = prefill(bench, "warming up", (uint32_t)(in->prompt < 64 ? in->prompt : 64), why);
    return status == STATUS_OK ? restart(bench, why) : status;
}

static int run_all(struct bench *bench, const struct bench_options *in, struct why *why)
{
    struct result results[DEPTHS_MAX];

    int status = bench_open(bench, in, why);
    if (status == STATUS_OK && !in->json) {
        progress_clear(&bench->progress);
        print_head(bench);
    }
    for (size_t i = 0; i < bench->n_depths && status == STATUS_OK; i++) {
        status = measure(bench, bench->depths[i], &results[i], why);
        if (status == STATUS_OK && !in->json) {
            progress_clear(&bench->progress);
            print_result(bench, &results[i]);
        }
    }
    if (bench->progress.clock != NULL)
        progress_end(&bench->progress);
    if (status == STATUS_OK && in->json)
        print_json(bench, results, bench->n_depths);
    return status;
}

static int check_given(struct bench *bench, const struct bench_options *in, struct why *why)
{
    if (in->model == NULL)
        return refuse(why, STATUS_INVALID, "--model FILE is missing; see quire bench --help");
    int status =
        text_parse_ids(in->depth, strlen(in->depth), &bench->depths, &bench->n_depths, why);
    if (status == STATUS_INVALID)
        return refuse(why, status,
                      "--depth \"%s\" is no list of whole numbers parted by commas, like 0,2048",
                      in->depth);
    if (status < 0)
        return refuse_prefix(why, status, "--depth");
    if (bench->n_depths > DEPTHS_MAX)
        return refuse(why, STATUS_INVALID, "--depth names %zu depths; at most %d are measured",
                      bench->n_depths, DEPTHS_MAX);
    return STATUS_OK;
}

int tools_bench(int argc, char **argv)
{
    struct bench_options in = {.model = NULL};
    struct bench bench = {.in = &in, .seq = KV_SEQ_NONE};
    struct why why = {.text = ""};
    bool help;
    int n_operands;

    int status = options_parse(&command, argc, argv, &in, NULL, &n_operands, &help, &why);
    if (status == STATUS_OK && help) {
        options_print_help(&command);
        return 0;
    }
    if (status == STATUS_OK)
        status = check_given(&bench, &in, &why);
    if (status == STATUS_OK)
        status = kv_dtypes_parse("--kv-dtype", in.kv_dtype, &in.kv_dtypes, &why);
    if (status < 0) {
        free(bench.depths);
        return output_refusal(&why, status, EXIT_USAGE);
    }
    status = run_all(&bench, &in, &why);
    if (bench.seq != KV_SEQ_NONE)
        run_end(&bench.run, bench.seq);
    run_close(&bench.run);
    free(bench.depths);
    return status < 0 ? output_refusal(&why, status, EXIT_FAILED) : 0;
}
