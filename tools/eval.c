/* `quire eval`: how likely a model finds a text, and what a coarser cache or coarser activations
 * change in its logits.
 *
 *   tokens --> the run as asked for ---> logits --> mean of -ln p(next token)
 *        '---> the run beside it ------> logits --> rms and most of the differences
 *
 * The two runs take the same steps in turns; both models are in memory then. */
#include "tools/tools.h"

#include "base/clock.h"
#include "base/device_options.h"
#include "base/options.h"
#include "base/progress.h"
#include "base/text.h"
#include "base/utf8.h"
#include "model/token_buffer.h"
#include "model/tokenizer.h"
#include "tools/output.h"
#include "tools/run.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ROWS_READ 16     /* rows of logits on the host at once */
#define TOKEN_BYTES 64   /* of the text, for each token that is wanted, read at most */
#define TEXT_BYTES_LEAST (1u << 20)

struct eval_options {
    const char *model, *text, *kv_dtype, *against_kv;
    int64_t tokens, device, threads;
    bool has_device, against_kv_given, against_activations_given;
    int backend, isa, activations, against_activations;
    struct kv_dtypes kv_dtypes, against_kv_dtypes; /* as kv_dtype and against_kv say */
};

#define FIELD(name) offsetof(struct eval_options, name)
#define STRING_OF(x) #x
#define TEXT_OF(x) STRING_OF(x)

static const struct option options[] = {
    {"model", 'm', OPTION_TEXT, FIELD(model), NULL, "FILE", "the GGUF file", 0, 0, NULL, 0},
    {"text", 0, OPTION_TEXT, FIELD(text), NULL, "FILE", "UTF-8 text; - is standard input", 0, 0,
     NULL, 0},
    {"tokens", 'n', OPTION_INT, FIELD(tokens), "0", "N",
     "read this many tokens of it at most; 0: as many as the model's context holds", 0,
     CONTEXT_TOKENS_MAX, NULL, 0},
    {"kv-dtype", 0, OPTION_TEXT, FIELD(kv_dtype), "f16", "TYPE",
     "values of the cache: f16, f32, bf16, q8 or q4, or by kind of layers (global=q4,local=f16)", 0,
     0, NULL, 0},
    {"activations", 0, OPTION_CHOICE, FIELD(activations), "16", "TYPE",
     "what multiplies integer weights on the CPU: 16, int8 or f32", 0, 0, "16|int8|f32", 0},
    {"against-kv", 0, OPTION_TEXT, FIELD(against_kv), NULL, "TYPE",
     "compare with a second run that has a cache of this type", 0, 0, NULL,
     FIELD(against_kv_given)},
    {"against-activations", 0, OPTION_CHOICE, FIELD(against_activations), NULL, "TYPE",
     "compare with a second run that has these activations", 0, 0, "16|int8|f32",
     FIELD(against_activations_given)},
    DEVICE_OPTION_ROWS(struct eval_options),
    {NULL, 0, 0, 0, NULL, NULL, NULL, 0, 0, NULL, 0},
};

static const struct command command = {
    .name = "eval",
    .usage = "quire eval --model FILE --text FILE [options]",
    .summary =
        "Tells how likely the model finds a text (mean negative log likelihood of each token "
        "given all before it), and what a coarser cache or activations change in its logits.",
    .options = options,
    .examples = "  quire eval -m model.gguf --text book.txt --tokens 512\n"
                "  quire eval -m model.gguf --text book.txt --against-kv f32\n"
                "  quire eval -m model.gguf --text book.txt --activations int8 "
                "--against-activations f32\n",
};

/* One of the two runs. */
struct side {
    struct run run;
    kv_seq_id seq;
    float *rows; /* [ROWS_READ, vocabulary] of the last step */
};

struct eval {
    struct side sides[2]; /* as asked for; beside it */
    int n_sides;
    struct token_buffer tokens;
    int text_fd;          /* closed by the end of the program */
    size_t n_text;        /* bytes of the text that the tokens say */
    bool has_more;        /* the text goes on */
    double nll, squares, most;
    uint64_t n_compared;
};

/* --- the text --- */

static int read_fd(int fd, const char *path, size_t max, uint8_t **out, size_t *len, bool *has_more,
                   struct why *why)
{
    uint8_t *bytes = malloc(max + 1);
    if (bytes == NULL)
        return refuse(why, STATUS_NO_MEMORY, "no memory for %zu bytes of %s", max, path);
    *len = 0;
    for (;;) {
        ssize_t n = read(fd, bytes + *len, max + 1 - *len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            free(bytes);
            return refuse(why, STATUS_IO, "%s: %s", path, strerror(errno));
        }
        *len += (size_t)n;
        *has_more = *len > max;
        if (n == 0 || *has_more)
            break;
    }
    *len = *has_more ? max : *len;
    if (*has_more)
        *len = utf8_complete_len(bytes, *len);
    *out = bytes;
    return STATUS_OK;
}

static int tokenize(struct eval *eval, struct slice text, size_t n_max, struct why *why)
{
    const struct vocabulary *vocabulary = model_vocabulary(eval->sides[0].run.model);

    token_buffer_init(&eval->tokens, text.len + 2, true);
    int status = tokenizer_encode(vocabulary, text, true, false, &eval->tokens, why);
    if (status < 0)
        return refuse_prefix(why, status, "the text");
    if (eval->tokens.n > n_max) {
        eval->tokens.n = n_max;
        eval->has_more = true;
    }
    if (eval->tokens.n < 2)
        return refuse(why, STATUS_INVALID,
                      "%zu tokens; at least 2 are needed: each is judged by those before it",
                      eval->tokens.n);
    eval->n_text = eval->tokens.spans[eval->tokens.n - 1].end;
    return STATUS_OK;
}

/* Before models are loaded, which may take minutes. */
static int open_text(struct eval *eval, const struct eval_options *in, struct why *why)
{
    bool is_input = strcmp(in->text, "-") == 0;
    eval->text_fd = is_input ? STDIN_FILENO : open(in->text, O_RDONLY | O_CLOEXEC);
    if (eval->text_fd < 0)
        return refuse(why, STATUS_IO, "%s: %s", in->text, strerror(errno));
    return STATUS_OK;
}

static int read_text(struct eval *eval, const struct eval_options *in, struct why *why)
{
    uint32_t context = model_plan(eval->sides[0].run.model)->context;
    size_t n_max = in->tokens > 0 && in->tokens < context ? (size_t)in->tokens : context;
    size_t max = n_max * TOKEN_BYTES > TEXT_BYTES_LEAST ? n_max * TOKEN_BYTES : TEXT_BYTES_LEAST;
    uint8_t *bytes = NULL;
    size_t len = 0;

    if (in->tokens > context)
        return refuse(why, STATUS_TOO_LARGE, "--tokens %lld; the model's context holds %u",
                      (long long)in->tokens, context);
    int status = read_fd(eval->text_fd, in->text, max, &bytes, &len, &eval->has_more, why);
    if (status == STATUS_OK)
        status = tokenize(eval, slice_of(bytes, len), n_max, why);
    free(bytes);
    return status;
}

/* --- the runs --- */

static int open_side(struct side *side, const struct eval_options *in, bool is_beside,
                     struct why *why)
{
    bool other_kv = is_beside && in->against_kv_given;
    bool other_activations = is_beside && in->against_activations_given;
    struct run_options open = {
        .model_path = in->model,
        .device = {.backend = (enum backend)in->backend,
                   .has_index = in->has_device,
                   .index = (uint32_t)in->device,
                   .n_threads = (int)in->threads,
                   .isa = (enum isa)in->isa,
                   .activations = (enum activations)(other_activations ? in->against_activations
                                                                       : in->activations)},
        .kv_dtypes = other_kv ? in->against_kv_dtypes : in->kv_dtypes};
    return run_open(&open, &side->run, why);
}

static int prepare_side(struct side *side, size_t n_tokens, struct why *why)
{
    uint32_t n_rows = n_tokens < STEP_ROWS_MAX ? (uint32_t)n_tokens : STEP_ROWS_MAX;
    struct run_sizes sizes = {.n_sequences = 1, .n_tokens = n_tokens, .max_rows = n_rows,
                              .max_outputs = n_rows};
    size_t vocabulary = model_plan(side->run.model)->vocabulary;
    int status = run_prepare(&side->run, &sizes, why);
    if (status == STATUS_OK)
        status = run_begin(&side->run, &side->seq, why);
    side->rows = malloc(ROWS_READ * vocabulary * sizeof *side->rows);
    if (status == STATUS_OK && side->rows == NULL)
        status = refuse(why, STATUS_NO_MEMORY, "no memory for rows of %zu logits", vocabulary);
    return status;
}

static void close_side(struct side *side)
{
    if (side->seq != KV_SEQ_NONE)
        run_end(&side->run, side->seq);
    run_close(&side->run);
    free(side->rows);
}

/* -ln softmax(row)[id], in double and in the order of ids. */
static double surprise(const float *row, uint32_t n, uint32_t id)
{
    double sum = 0, top = row[0];
    for (uint32_t i = 1; i < n; i++)
        top = row[i] > top ? row[i] : top;
    for (uint32_t i = 0; i < n; i++)
        sum += exp(row[i] - top);
    return log(sum) + top - row[id];
}

static void judge_row(struct eval *eval, size_t position, size_t idx)
{
    uint32_t n = model_plan(eval->sides[0].run.model)->vocabulary;
    const float *row = eval->sides[0].rows + idx * n;

    if (position + 1 < eval->tokens.n)
        eval->nll += surprise(row, n, eval->tokens.ids[position + 1]);
    if (eval->n_sides < 2)
        return;
    const float *other = eval->sides[1].rows + idx * n;
    for (uint32_t i = 0; i < n; i++) {
        double difference = (double)row[i] - other[i];
        eval->squares += difference * difference;
        eval->most = fabs(difference) > eval->most ? fabs(difference) : eval->most;
    }
    eval->n_compared += n;
}

static int judge_step(struct eval *eval, size_t begin, uint32_t n_rows, struct why *why)
{
    for (uint32_t at = 0; at < n_rows; at += ROWS_READ) {
        uint32_t n = n_rows - at < ROWS_READ ? n_rows - at : ROWS_READ;
        for (int s = 0; s < eval->n_sides; s++) {
            int status =
                run_read_logits(&eval->sides[s].run, at, n, eval->sides[s].rows, why);
            if (status < 0)
                return status;
        }
        for (uint32_t i = 0; i < n; i++)
            judge_row(eval, begin + at + i, i);
    }
    return STATUS_OK;
}

static int step_all(struct eval *eval, struct progress *progress, struct why *why)
{
    size_t n = eval->tokens.n;

    for (size_t at = 0; at < n;) {
        uint32_t n_rows = n - at < STEP_ROWS_MAX ? (uint32_t)(n - at) : STEP_ROWS_MAX;
        int status = STATUS_OK;
        for (int s = 0; s < eval->n_sides && status == STATUS_OK; s++) {
            struct run_piece piece = {.seq = eval->sides[s].seq, .ids = eval->tokens.ids + at,
                                      .n_rows = n_rows, .n_outputs = n_rows};
            status = run_step(&eval->sides[s].run, &piece, 1, why);
        }
        if (status == STATUS_OK)
            status = judge_step(eval, at, n_rows, why);
        if (status < 0)
            return status;
        at += n_rows;
        progress_update(progress, "prefill", at, n, 0);
    }
    return STATUS_OK;
}

static void print_result(const struct eval *eval)
{
    char tokens[TEXT_NUMBER_BYTES], bytes[TEXT_NUMBER_BYTES];
    size_t n = eval->tokens.n;
    double mean = eval->nll / (double)(n - 1);

    printf("tokens             %s (%s of text%s)\n", text_count(tokens, n),
           text_bytes(bytes, eval->n_text), eval->has_more ? "; it goes on" : "");
    printf("mean NLL           %.6f nats (perplexity %.4f)\n", mean, exp(mean));
    if (eval->n_sides > 1)
        printf("logits, rms        %.3e\nlogits, most       %.3e\n",
               sqrt(eval->squares / (double)eval->n_compared), eval->most);
}

static int run_eval(struct eval *eval, const struct eval_options *in, struct why *why)
{
    struct progress progress;
    int status = open_text(eval, in, why);

    for (int s = 0; s < eval->n_sides && status == STATUS_OK; s++)
        status = open_side(&eval->sides[s], in, s > 0, why);
    if (status == STATUS_OK)
        status = read_text(eval, in, why);
    for (int s = 0; s < eval->n_sides && status == STATUS_OK; s++)
        status = prepare_side(&eval->sides[s], eval->tokens.n, why);
    if (status < 0)
        return status;
    progress_init(&progress, &clock_monotonic, "tokens", false);
    status = step_all(eval, &progress, why);
    progress_end(&progress);
    if (status == STATUS_OK)
        print_result(eval);
    return status;
}

int tools_eval(int argc, char **argv)
{
    struct eval_options in = {.against_kv = "f16"};
    struct eval eval = {.sides = {{.seq = KV_SEQ_NONE}, {.seq = KV_SEQ_NONE}}};
    struct why why = {.text = ""};
    bool help;
    int n_operands;

    int status = options_parse(&command, argc, argv, &in, NULL, &n_operands, &help, &why);
    if (status == STATUS_OK && help) {
        options_print_help(&command);
        return 0;
    }
    if (status == STATUS_OK && (in.model == NULL || in.text == NULL))
        status = refuse(&why, STATUS_INVALID, "%s is missing; see quire eval --help",
                        in.model == NULL ? "--model FILE" : "--text FILE");
    if (status == STATUS_OK)
        status = kv_dtypes_parse("--kv-dtype", in.kv_dtype, &in.kv_dtypes, &why);
    if (status == STATUS_OK)
        status = kv_dtypes_parse("--against-kv", in.against_kv, &in.against_kv_dtypes, &why);
    if (status < 0)
        return output_refusal(&why, status, EXIT_USAGE);
    eval.n_sides = in.against_kv_given || in.against_activations_given ? 2 : 1;
    token_buffer_init(&eval.tokens, 0, false);
    status = run_eval(&eval, &in, &why);
    for (int s = 0; s < 2; s++)
        close_side(&eval.sides[s]);
    token_buffer_release(&eval.tokens);
    return status < 0 ? output_refusal(&why, status, EXIT_FAILED) : 0;
}
