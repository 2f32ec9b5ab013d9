/* `quire logits`: the forward pass over given tokens, its logits in NumPy's format.
 *
 * --beside N runs N other sequences of random tokens and lengths in the same steps, in an order
 * that changes from step to step: by law 2 not one bit of the output may differ. */
#include "tools/tools.h"

#include "base/clock.h"
#include "base/device_options.h"
#include "base/options.h"
#include "base/progress.h"
#include "base/text.h"
#include "tools/company.h"
#include "tools/npy.h"
#include "tools/output.h"
#include "tools/run.h"
#include "tools/token_file.h"

#include <signal.h>
#include <stdlib.h>

#define ROWS_READ 16 /* rows of logits on the host at once */

struct logits_options {
    const char *model, *tokens, *output, *kv_dtype;
    int64_t prefill_chunk, beside, device, threads;
    bool has_device, no_last_layer_saving;
    int backend, rows, isa, activations;
    struct kv_dtypes kv_dtypes; /* as kv_dtype says */
};

enum { ROWS_LAST, ROWS_ALL };

#define FIELD(name) offsetof(struct logits_options, name)
#define STRING_OF(x) #x
#define TEXT_OF(x) STRING_OF(x)

static const struct option options[] = {
    {"model", 'm', OPTION_TEXT, FIELD(model), NULL, "FILE", "the GGUF file", 0, 0, NULL, 0},
    {"tokens", 0, OPTION_TEXT, FIELD(tokens), NULL, "IDS",
     "token ids parted by commas, or @FILE with such a list", 0, 0, NULL, 0},
    {"output", 'o', OPTION_TEXT, FIELD(output), NULL, "OUT.npy",
     "where the array [rows, vocabulary] goes; a pipe or /dev/null will do", 0, 0, NULL, 0},
    {"rows", 0, OPTION_CHOICE, FIELD(rows), "last", "WHICH", "of the last token, or of all", 0, 0,
     "last|all", 0},
    {"prefill-chunk", 0, OPTION_INT, FIELD(prefill_chunk), TEXT_OF(STEP_ROWS_MAX), "N",
     "tokens of one step", 1, STEP_ROWS_MAX, NULL, 0},
    {"beside", 0, OPTION_INT, FIELD(beside), "0", "N", "other random sequences in the same steps",
     0, COMPANY_MAX, NULL, 0},
    DEVICE_OPTION_ROWS(struct logits_options),
    {"kv-dtype", 0, OPTION_TEXT, FIELD(kv_dtype), "f16", "TYPE",
     "values of the cache: f16, f32 (closest to exact), bf16, q8 or q4, or by kind of layers "
     "(global=q4,local=f16)",
     0, 0, NULL, 0},
    {"activations", 0, OPTION_CHOICE, FIELD(activations), "16", "TYPE",
     "what multiplies integer weights on the CPU: 16 (two signed bytes), int8 (coarse) or f32 "
     "(slow, closest to exact); a GPU takes f16 and refuses the others",
     0, 0, "16|int8|f32", 0},
    {"no-last-layer-saving", 0, OPTION_FLAG, FIELD(no_last_layer_saving), NULL, NULL,
     "take all rows through all of the last layer, those without logits too: the same bits, slower",
     0, 0, NULL, 0},
    {NULL, 0, 0, 0, NULL, NULL, NULL, 0, 0, NULL, 0},
};

static const struct command command = {
    .name = "logits",
    .usage = "quire logits --model FILE --tokens IDS --output OUT.npy [options]",
    .summary = "Runs the model over tokens and writes its float32 logits as NumPy's .npy.",
    .options = options,
    .examples =
        "  quire logits -m model.gguf --tokens 504,3575,282,4649,314 -o last.npy\n"
        "  quire logits -m model.gguf --tokens @ids.txt -o all.npy --rows all --kv-dtype f32\n"
        "  quire logits -m model.gguf --tokens @ids.txt -o beside.npy --rows all --beside 7\n",
};

/* --- what is run --- */

struct pass {
    struct run run;
    struct company company;
    struct token_list tokens;
    struct npy out;
    kv_seq_id seq;
    bool wants_all;
    float *rows; /* [ROWS_READ, vocabulary] */
};

static int check_tokens(const struct token_list *tokens, const struct model_plan *plan,
                        struct why *why)
{
    char n[TEXT_NUMBER_BYTES], most[TEXT_NUMBER_BYTES];
    uint32_t context = plan->context < CONTEXT_TOKENS_MAX ? plan->context : CONTEXT_TOKENS_MAX;

    for (size_t i = 0; i < tokens->n; i++)
        if (tokens->ids[i] >= plan->vocabulary)
            return refuse(why, STATUS_OUT_OF_RANGE,
                          "token %zu is %u; the vocabulary has the ids 0 to %u", i, tokens->ids[i],
                          plan->vocabulary - 1);
    if (tokens->n > context)
        return refuse(why, STATUS_TOO_LARGE, "%s tokens; the model's context holds %s",
                      text_count(n, tokens->n), text_count(most, context));
    return STATUS_OK;
}

static int check_before_load(const char *path, const struct token_list *tokens, struct why *why)
{
    struct model_plan plan;

    int status = run_read_plan(path, &plan, why);
    if (status < 0)
        return status;
    status = check_tokens(tokens, &plan, why);
    model_plan_release(&plan);
    return status;
}

static int prepare(struct pass *pass, const struct logits_options *in, struct why *why)
{
    const struct model_plan *plan = model_plan(pass->run.model);
    uint32_t n_others = (uint32_t)in->beside, n = (uint32_t)pass->tokens.n;
    uint32_t chunk = (uint32_t)in->prefill_chunk < n ? (uint32_t)in->prefill_chunk : n;
    uint32_t n_longest = n_others > 0 ? company_longest(n, plan->context) : n;
    struct run_sizes sizes = {.n_sequences = 1 + n_others,
                              .n_tokens = n_longest > n ? n_longest : n,
                              .max_rows = chunk + n_others * COMPANY_ROWS_MAX,
                              .max_outputs = (pass->wants_all ? chunk : 1) + n_others,
                              .no_last_layer_saving = in->no_last_layer_saving};

    int status = run_prepare(&pass->run, &sizes, why);
    if (status == STATUS_OK)
        status = run_begin(&pass->run, &pass->seq, why);
    if (status == STATUS_OK)
        status = company_open(&pass->company, &pass->run, n_others, n_longest, why);
    if (status < 0)
        return status;
    pass->rows = malloc(ROWS_READ * (size_t)plan->vocabulary * sizeof *pass->rows);
    if (pass->rows == NULL)
        return refuse(why, STATUS_NO_MEMORY, "no memory for rows of %u logits", plan->vocabulary);
    return npy_open(in->output, pass->wants_all ? n : 1, plan->vocabulary, &pass->out, why);
}

static int write_rows(struct pass *pass, uint32_t first, uint32_t n, struct why *why)
{
    uint64_t vocabulary = model_plan(pass->run.model)->vocabulary;
    for (uint32_t at = 0; at < n; at += ROWS_READ) {
        uint32_t n_now = n - at < ROWS_READ ? n - at : ROWS_READ;
        int status = run_read_logits(&pass->run, first + at, n_now, pass->rows, why);
        if (status == STATUS_OK)
            status = npy_write(&pass->out, pass->rows, n_now * vocabulary, why);
        if (status < 0)
            return status;
    }
    return STATUS_OK;
}

static int step_all(struct pass *pass, uint32_t chunk, struct progress *progress, struct why *why)
{
    struct run_piece pieces[1 + COMPANY_MAX];
    uint32_t n = (uint32_t)pass->tokens.n;

    for (uint32_t at = 0; at < n;) {
        uint32_t n_rows = n - at < chunk ? n - at : chunk, first_output;
        bool is_last = at + n_rows == n;
        struct run_piece ours = {.seq = pass->seq,
                                 .ids = pass->tokens.ids + at,
                                 .n_rows = n_rows,
                                 .n_outputs = pass->wants_all ? n_rows : is_last};
        int status = company_join(&pass->company, &ours, pieces, &first_output, why);
        if (status == STATUS_OK)
            status = run_step(&pass->run, pieces, 1 + pass->company.n, why);
        if (status == STATUS_OK)
            status = write_rows(pass, first_output, ours.n_outputs, why);
        if (status < 0)
            return status;
        at += n_rows;
        progress_update(progress, "prefill", at, n, 0);
    }
    return STATUS_OK;
}

static int run_pass(struct pass *pass, const struct logits_options *in, struct why *why)
{
    struct progress progress;
    struct run_options open = {.model_path = in->model,
                               .device = {.backend = (enum backend)in->backend,
                                          .has_index = in->has_device,
                                          .index = (uint32_t)in->device,
                                          .n_threads = (int)in->threads,
                                          .isa = (enum isa)in->isa,
                                          .activations = (enum activations)in->activations},
                               .kv_dtypes = in->kv_dtypes};

    int status = check_before_load(in->model, &pass->tokens, why);
    if (status == STATUS_OK)
        status = run_open(&open, &pass->run, why);
    if (status == STATUS_OK)
        status = prepare(pass, in, why);
    if (status < 0)
        return status;
    progress_init(&progress, &clock_monotonic, "tokens", false);
    progress_update(&progress, "prefill", 0, pass->tokens.n, 0);
    status = step_all(pass, (uint32_t)in->prefill_chunk, &progress, why);
    progress_end(&progress);
    return status < 0 ? status : npy_close(&pass->out, why);
}

static int check_given(const struct logits_options *in, struct why *why)
{
    const char *missing = in->model == NULL    ? "--model FILE"
                          : in->tokens == NULL ? "--tokens IDS"
                          : in->output == NULL ? "--output OUT.npy"
                                               : NULL;
    return missing == NULL
               ? STATUS_OK
               : refuse(why, STATUS_INVALID, "%s is missing; see quire logits --help", missing);
}

int tools_logits(int argc, char **argv)
{
    struct logits_options in = {.model = NULL};
    struct pass pass = {.seq = KV_SEQ_NONE, .out = {.fd = -1}};
    struct why why = {.text = ""};
    bool help;
    int n_operands;

    int status = options_parse(&command, argc, argv, &in, NULL, &n_operands, &help, &why);
    if (status == STATUS_OK && help) {
        options_print_help(&command);
        return 0;
    }
    if (status == STATUS_OK)
        status = check_given(&in, &why);
    if (status == STATUS_OK)
        status = kv_dtypes_parse("--kv-dtype", in.kv_dtype, &in.kv_dtypes, &why);
    if (status == STATUS_OK)
        status = token_list_read(in.tokens, &pass.tokens, &why);
    if (status < 0) {
        bool is_usage = status == STATUS_INVALID;
        return output_refusal(&why, status, is_usage ? EXIT_USAGE : EXIT_FAILED);
    }
    signal(SIGPIPE, SIG_IGN); /* a reader that left is a sentence, not a signal */
    pass.wants_all = in.rows == ROWS_ALL;
    status = run_pass(&pass, &in, &why);
    npy_abandon(&pass.out);
    company_close(&pass.company);
    if (pass.seq != KV_SEQ_NONE)
        run_end(&pass.run, pass.seq);
    run_close(&pass.run);
    free(pass.rows);
    token_list_release(&pass.tokens);
    return status < 0 ? output_refusal(&why, status, EXIT_FAILED) : 0;
}
