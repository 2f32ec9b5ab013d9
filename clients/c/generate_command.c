/* clients/c/generate_command.c: `quire generate`: a prompt to a stream of text. */
#include "clients/c/client_main.h"
#include "clients/c/client_run.h"
#include "clients/c/generate_view.h"
#include "clients/c/logit_biases.h"
#include "clients/c/message_codec.h"
#include "clients/c/sampling_options.h"
#include "clients/c/text_input.h"
#include "limits.h"
#include "quire/v1/quire.pb-c.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define METHOD "/quire.v1.Quire/Generate"

struct generate_options {
    struct client_options client; /* first */
    struct sampling_options sampling;
    const char *prompt, *system, *tokens, *schema, *grammar, *logit_bias;
    bool chat, ignore_eos, max_tokens_given, logprobs_given;
    int64_t max_tokens, min_tokens, logprobs, n, best_of;
    struct option_list stop;
};

#define FIELD(name) offsetof(struct generate_options, name)

static const struct option options[] = {
    {"prompt", 'p', OPTION_TEXT, FIELD(prompt), NULL, "TEXT|-|@FILE",
     "what to continue: the text, standard input (-) or a file; UTF-8. A text that begins with @ "
     "goes through standard input",
     0, 0, NULL, 0},
    {"tokens", 0, OPTION_TEXT, FIELD(tokens), NULL, "IDS|@FILE",
     "token ids instead of a text: 1,2,3", 0, 0, NULL, 0},
    {"chat", 0, OPTION_FLAG, FIELD(chat), NULL, NULL,
     "the prompt is what a user says, rendered by the model's chat template", 0, 0, NULL, 0},
    {"system", 0, OPTION_TEXT, FIELD(system), NULL, "TEXT|-|@FILE",
     "with --chat: the system's message", 0, 0, NULL, 0},
    {"max-tokens", 'n', OPTION_INT, FIELD(max_tokens), NULL, "N",
     "tokens of the answer at most; as many as fit when not given", 1, 4294967295.0, NULL,
     FIELD(max_tokens_given)},
    {"stop", 0, OPTION_LIST, FIELD(stop), NULL, "TEXT",
     "the answer ends before this text; may be given several times", 0, 0, NULL, 0},
    {"schema", 0, OPTION_TEXT, FIELD(schema), NULL, "FILE",
     "the answer is JSON under the JSON schema of this file", 0, 0, NULL, 0},
    {"grammar", 0, OPTION_TEXT, FIELD(grammar), NULL, "FILE",
     "the answer is a text of the grammar (GBNF) of this file", 0, 0, NULL, 0},
    {"min-tokens", 0, OPTION_INT, FIELD(min_tokens), "0", "N",
     "the model may not end its answer before so many tokens", 0, 4294967295.0, NULL, 0},
    {"n", 0, OPTION_INT, FIELD(n), "1", "N",
     "so many answers, one below the other; --json tells them side by side", 1, CHOICES_MAX, NULL,
     0},
    {"best-of", 0, OPTION_INT, FIELD(best_of), "0", "N",
     "draw so many answers and show the --n whose tokens are the likeliest on average; with "
     "--max-tokens. 0: as many as --n",
     0, CHOICES_MAX, NULL, 0},
    {"ignore-eos", 0, OPTION_FLAG, FIELD(ignore_eos), NULL, NULL,
     "go on past the end that the model draws", 0, 0, NULL, 0},
    {"logprobs", 0, OPTION_INT, FIELD(logprobs), NULL, "N",
     "one line a token: id, log-probability, text, and N best alternatives", 0, TOP_LOGPROBS_MAX,
     NULL, FIELD(logprobs_given)},
    {"logit-bias", 0, OPTION_TEXT, FIELD(logit_bias), NULL, "ID:BIAS,...",
     "added to the logits of these tokens, -100 to 100: 7042:-100,28:2.5", 0, 0, NULL, 0},
    SAMPLING_OPTION_ROWS(struct generate_options, "1", "1"),
    CLIENT_OPTION_ROWS,
    {NULL, 0, 0, 0, NULL, NULL, NULL, 0, 0, NULL, 0},
};

static const struct command command = {
    .name = "generate",
    .usage = "quire generate [--chat] --prompt TEXT|-|@FILE [options]",
    .summary = "Continues a prompt. The answer goes to standard output as it is made, progress and "
               "the closing line to standard error.",
    .options = options,
    .examples = "  quire generate --chat --prompt 'What is the capital of France?'\n"
                "  quire generate --model model.gguf --prompt 'Once upon a time' -n 64\n"
                "  quire generate --prompt @question.txt --temperature 0 --json\n"
                "  quire generate --prompt 'A name for a cat:' -n 8 --n 3 --best-of 8\n",
};

/* --- the request --- */

struct prompt {
    struct text_input text, system, form; /* form: schema or grammar */
    uint32_t *ids;
    size_t n_ids;
};

static void prompt_release(struct prompt *prompt)
{
    text_input_release(&prompt->text);
    text_input_release(&prompt->system);
    text_input_release(&prompt->form);
    free(prompt->ids);
}

/* What was typed goes before what the environment says. */
static void drop_untyped(struct generate_options *in)
{
    bool prompt_typed = client_run_is_typed(in->prompt, "QUIRE_PROMPT");
    bool tokens_typed = client_run_is_typed(in->tokens, "QUIRE_TOKENS");
    if (prompt_typed && !tokens_typed)
        in->tokens = NULL;
    if (tokens_typed && !prompt_typed)
        in->prompt = NULL;
    if (!in->chat && !client_run_is_typed(in->system, "QUIRE_SYSTEM"))
        in->system = NULL;
}

static int check_options(const struct generate_options *in, struct why *why)
{
    if ((in->prompt != NULL) == (in->tokens != NULL))
        return refuse(why, STATUS_INVALID,
                      "give one of --prompt TEXT|-|@FILE and --tokens IDS; see quire generate "
                      "--help");
    if (in->system != NULL && !in->chat)
        return refuse(why, STATUS_INVALID, "--system is a message of --chat: give that too");
    if (in->chat && in->tokens != NULL)
        return refuse(why, STATUS_INVALID, "--chat takes a text: give --prompt, not --tokens");
    if (in->schema != NULL && in->grammar != NULL)
        return refuse(why, STATUS_INVALID, "give one of --schema FILE and --grammar FILE");
    if (in->best_of > 0 && in->best_of < in->n)
        return refuse(why, STATUS_INVALID, "--best-of %lld draws fewer than --n %lld gives",
                      (long long)in->best_of, (long long)in->n);
    if (in->best_of > in->n && !in->max_tokens_given)
        return refuse(why, STATUS_INVALID, "--best-of needs --max-tokens: answers are held until "
                                           "the best is known");
    if (in->n > 1 && in->logprobs_given && !in->client.json)
        return refuse(why, STATUS_INVALID, "--logprobs of several answers are told by --json");
    for (size_t i = 0; i < in->stop.n; i++) {
        size_t len = strlen(in->stop.values[i]);
        if (len < 1 || len > STOP_BYTES_MAX)
            return refuse(why, STATUS_INVALID, "--stop takes a text of 1 to %d bytes, not of %zu",
                          STOP_BYTES_MAX, len);
    }
    return STATUS_OK;
}

/* Ids that stand on the command line, and not in a file. */
static bool has_typed_ids(const struct generate_options *in)
{
    return in->tokens != NULL && in->tokens[0] != '@' && strcmp(in->tokens, "-") != 0;
}

static int read_form(const struct generate_options *in, struct prompt *out, struct why *why)
{
    const char *path = in->schema != NULL ? in->schema : in->grammar;
    const char *name = in->schema != NULL ? "the schema" : "the grammar";

    if (path == NULL)
        return STATUS_OK;
    int status = text_input_file(path, GRAMMAR_BYTES_MAX, &out->form, why);
    return status == STATUS_OK ? text_input_check(&out->form, name, why) : status;
}

static int read_prompt(const struct generate_options *in, struct prompt *out, struct why *why)
{
    int status = text_input_argument(in->tokens != NULL ? in->tokens : in->prompt,
                                     GENERATE_MESSAGE_BYTES_MAX, &out->text, why);
    if (status == STATUS_OK && in->tokens != NULL)
        return text_input_ids(&out->text, &out->ids, &out->n_ids, why);
    if (status == STATUS_OK)
        status = text_input_check(&out->text, "the prompt", why);
    if (status == STATUS_OK && in->system != NULL)
        status = text_input_argument(in->system, GENERATE_MESSAGE_BYTES_MAX, &out->system, why);
    if (status == STATUS_OK && in->system != NULL)
        status = text_input_check(&out->system, "the system's message", why);
    return status;
}

static void fill_form(const struct generate_options *in, const struct prompt *prompt,
                      Quire__V1__GenerateRequest *request)
{
    if (in->schema != NULL) {
        request->form_case = QUIRE__V1__GENERATE_REQUEST__FORM_JSON_SCHEMA;
        request->json_schema = message_codec_bytes(prompt->form.bytes, prompt->form.len);
    } else if (in->grammar != NULL) {
        request->form_case = QUIRE__V1__GENERATE_REQUEST__FORM_GRAMMAR;
        request->grammar = message_codec_bytes(prompt->form.bytes, prompt->form.len);
    }
}

static int fill_sampling(const struct generate_options *in, struct logit_biases *biases,
                         Quire__V1__Sampling *out, struct why *why)
{
    int status = sampling_options_fill(&in->sampling, out, why);

    if (status == STATUS_OK && in->logit_bias != NULL)
        status = logit_biases_parse(in->logit_bias, biases, why);
    out->logit_bias = biases->list;
    out->n_logit_bias = biases->n;
    return status;
}

static void call(struct generate_view *view, const struct generate_options *in,
                 const struct prompt *prompt, Quire__V1__Sampling *sampling)
{
    Quire__V1__GenerateRequest request = QUIRE__V1__GENERATE_REQUEST__INIT;
    Quire__V1__TokenIds tokens = QUIRE__V1__TOKEN_IDS__INIT;
    Quire__V1__Chat chat = QUIRE__V1__CHAT__INIT;
    Quire__V1__Message system = QUIRE__V1__MESSAGE__INIT, user = QUIRE__V1__MESSAGE__INIT;
    Quire__V1__Message *messages[2];
    ProtobufCBinaryData stop[OPTION_LIST_MAX];

    if (in->tokens != NULL) {
        request.prompt_case = QUIRE__V1__GENERATE_REQUEST__PROMPT_TOKENS;
        tokens.ids = prompt->ids;
        tokens.n_ids = prompt->n_ids;
        request.tokens = &tokens;
    } else if (in->chat) {
        request.prompt_case = QUIRE__V1__GENERATE_REQUEST__PROMPT_CHAT;
        system.role = message_codec_text("system");
        system.content = message_codec_bytes(prompt->system.bytes, prompt->system.len);
        user.role = message_codec_text("user");
        user.content = message_codec_bytes(prompt->text.bytes, prompt->text.len);
        if (in->system != NULL)
            messages[chat.n_messages++] = &system;
        messages[chat.n_messages++] = &user;
        chat.messages = messages;
        request.chat = &chat;
    } else {
        request.prompt_case = QUIRE__V1__GENERATE_REQUEST__PROMPT_TEXT;
        request.text = message_codec_bytes(prompt->text.bytes, prompt->text.len);
    }
    request.sampling = sampling;
    for (size_t i = 0; i < in->stop.n; i++)
        stop[i] = message_codec_text(in->stop.values[i]);
    request.stop = stop;
    request.n_stop = in->stop.n;
    request.ignore_eos = in->ignore_eos;
    request.min_tokens = (uint32_t)in->min_tokens;
    fill_form(in, prompt, &request);
    if (in->max_tokens_given) {
        request.opt_max_tokens_case = QUIRE__V1__GENERATE_REQUEST__OPT_MAX_TOKENS_MAX_TOKENS;
        request.max_tokens = (uint32_t)in->max_tokens;
    }
    if (in->logprobs_given) {
        request.opt_logprobs_case = QUIRE__V1__GENERATE_REQUEST__OPT_LOGPROBS_LOGPROBS;
        request.logprobs = (uint32_t)in->logprobs;
    }
    if (in->n > 1) {
        request.opt_n_case = QUIRE__V1__GENERATE_REQUEST__OPT_N_N;
        request.n = (uint32_t)in->n;
    }
    if (in->best_of > 0) {
        request.opt_best_of_case = QUIRE__V1__GENERATE_REQUEST__OPT_BEST_OF_BEST_OF;
        request.best_of = (uint32_t)in->best_of;
    }
    if (client_run_call(view->client, METHOD, &request.base, generate_view_take, view) &&
        !view->finished)
        quire_status_set(&view->client->status, QUIRE_INTERNAL,
                         "the server ended the stream without its last event");
}

int generate_command(int argc, char **argv)
{
    struct generate_options in = {.prompt = NULL};
    struct client_run run;
    struct generate_view view;
    struct prompt prompt = {.ids = NULL};
    struct why why = {.text = ""};
    Quire__V1__Sampling sampling = QUIRE__V1__SAMPLING__INIT;
    struct logit_biases biases = {.n = 0};
    int n_operands, exit_status;
    if (!client_run_parse(&run, &command, argc, argv, &in, NULL, &n_operands, &exit_status))
        return exit_status;
    drop_untyped(&in);
    if (check_options(&in, &why) < 0 || fill_sampling(&in, &biases, &sampling, &why) < 0)
        return client_run_refuse_usage(&run, &why);
    int status = read_form(&in, &prompt, &why);
    if (status == STATUS_OK)
        status = read_prompt(&in, &prompt, &why);
    if (status < 0) {
        prompt_release(&prompt);
        return status == STATUS_INVALID && has_typed_ids(&in)
                   ? client_run_refuse_usage(&run, &why)
                   : client_run_refuse(&run, status, &why);
    }
    generate_view_init(&view, &run, (uint32_t)in.n, in.logprobs_given);
    if (client_run_open(&run))
        call(&view, &in, &prompt, &sampling);
    prompt_release(&prompt);
    generate_view_release(&view);
    return client_run_close(&run);
}
