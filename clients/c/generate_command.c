/* clients/c/generate_command.c: `quire generate`: a prompt to a stream of text. */
#include "clients/c/client_main.h"
#include "clients/c/client_run.h"
#include "clients/c/logit_biases.h"
#include "clients/c/message_codec.h"
#include "clients/c/sampling_options.h"
#include "clients/c/section_order.h"
#include "clients/c/text_input.h"
#include "limits.h"
#include "quire/v1/quire.pb-c.h"

#include "base/text.h"

#include <inttypes.h>
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

/* --- events --- */

struct generate_run {
    struct client_run client;
    bool with_logprobs;
    bool begun, finished; /* the answer; all of them */
    uint32_t n, n_finished;
    struct section_order order; /* of several answers: index is the choice */
};

static const char *phase_name(Quire__V1__Phase phase)
{
    switch (phase) {
    case QUIRE__V1__PHASE__PHASE_WAITING:
        return "waiting";
    case QUIRE__V1__PHASE__PHASE_PREFILL:
        return "prefill";
    case QUIRE__V1__PHASE__PHASE_ANSWER:
        return "answer";
    default:
        return "working";
    }
}

/* The bytes of a token as a JSON string: one word, whatever they are. */
static bool show_bytes(struct answer_output *output, struct json_writer *json,
                       const ProtobufCBinaryData *bytes)
{
    json_writer_clear(json);
    json_writer_text(json, NULL, bytes->data, bytes->len);
    return !json->failed && answer_output_text(output, json->text, json->n);
}

/* id, log-probability, text, alternatives; parted by tabs */
static bool show_logprob(struct answer_output *output, const Quire__V1__TokenLogprob *token)
{
    struct json_writer json;
    json_writer_init(&json);
    answer_output_hold(output);
    bool ok = answer_output_format(output, "%" PRIu32 "\t%.6f\t", token->token,
                                   (double)token->logprob) &&
              show_bytes(output, &json, &token->bytes);
    for (size_t i = 0; ok && i < token->n_top; i++) {
        const Quire__V1__TopLogprob *top = token->top[i];
        ok = answer_output_format(output, "%c%" PRIu32 " %.6f ", i == 0 ? '\t' : ' ', top->token,
                                  (double)top->logprob) &&
             show_bytes(output, &json, &top->bytes);
    }
    json_writer_release(&json);
    ok = ok && answer_output_text(output, "\n", 1);
    return answer_output_flush(output) && ok;
}

/* Of several answers: what is due, under a heading each. */
static bool show_piece(void *arg, const struct section_piece *piece)
{
    struct generate_run *run = arg;
    struct answer_output *output = &run->client.output;
    bool ok = true;
    if (piece->first)
        ok = answer_output_end_line(output) &&
             answer_output_format(output, "--- answer %" PRIu32 " of %" PRIu32 "\n",
                                  piece->index + 1, run->n);
    return ok && answer_output_text(output, piece->text, piece->len) &&
           (!piece->last || answer_output_end_line(output));
}

static bool add_piece(struct generate_run *run, uint32_t choice, ProtobufCBinaryData text,
                      bool last)
{
    struct section_piece piece = {
        .index = choice, .text = text.data, .len = text.len, .last = last};
    return section_order_add(&run->order, &piece);
}

static bool show_delta(struct generate_run *run, const Quire__V1__Delta *delta)
{
    struct answer_output *output = &run->client.output;
    bool ok = true;
    if (!run->begun)
        answer_output_complete_progress(output);
    run->begun = true;
    if (run->n > 1)
        return add_piece(run, delta->choice, delta->text, false);
    if (!run->with_logprobs)
        return answer_output_text(output, delta->text.data, delta->text.len);
    for (size_t i = 0; ok && i < delta->n_logprobs; i++)
        ok = show_logprob(output, delta->logprobs[i]);
    return ok;
}

static void tell_end(struct answer_output *output, const Quire__V1__Finished *finished)
{
    char prompt[TEXT_NUMBER_BYTES], answer[TEXT_NUMBER_BYTES], reason[64];
    Quire__V1__Usage usage = QUIRE__V1__USAGE__INIT;
    Quire__V1__Timings timings = QUIRE__V1__TIMINGS__INIT;
    if (finished->usage != NULL)
        usage = *finished->usage;
    if (finished->timings != NULL)
        timings = *finished->timings;
    json_writer_enum_name(&quire__v1__finish_reason__descriptor, (int)finished->reason, reason);
    answer_output_note(output, "%s prompt tokens (%.1f/s), %s of answer (%.1f/s), ended by %s",
                       text_count(prompt, usage.prompt_tokens), timings.prefill_tokens_per_second,
                       text_count(answer, usage.completion_tokens),
                       timings.decode_tokens_per_second, reason);
}

static void count_finished(struct generate_run *run)
{
    run->finished = ++run->n_finished == run->n;
}

static bool show_finished(struct generate_run *run, const Quire__V1__Finished *finished)
{
    ProtobufCBinaryData nothing = {0, NULL};
    count_finished(run);
    if (run->n > 1 && !add_piece(run, finished->choice, nothing, true))
        return false;
    if (run->finished)
        tell_end(&run->client.output, finished);
    return true;
}

static bool show_event(struct generate_run *run, const Quire__V1__GenerateEvent *event)
{
    const Quire__V1__Progress *progress = event->progress;
    switch (event->event_case) {
    case QUIRE__V1__GENERATE_EVENT__EVENT_PROGRESS:
        answer_output_progress(&run->client.output, phase_name(progress->phase), progress->done,
                               progress->total, progress->per_second);
        return true;
    case QUIRE__V1__GENERATE_EVENT__EVENT_DELTA:
        return show_delta(run, event->delta);
    case QUIRE__V1__GENERATE_EVENT__EVENT_FINISHED:
        return show_finished(run, event->finished);
    default:
        return true; /* accepted, and what later servers may say */
    }
}

static bool write_event(struct generate_run *run, const Quire__V1__GenerateEvent *event)
{
    struct answer_output *output = &run->client.output;
    switch (event->event_case) {
    case QUIRE__V1__GENERATE_EVENT__EVENT_ACCEPTED:
        return answer_output_event(output, "accepted", &event->accepted->base);
    case QUIRE__V1__GENERATE_EVENT__EVENT_PROGRESS:
        return answer_output_event(output, "progress", &event->progress->base);
    case QUIRE__V1__GENERATE_EVENT__EVENT_DELTA:
        return answer_output_event(output, "delta", &event->delta->base);
    case QUIRE__V1__GENERATE_EVENT__EVENT_FINISHED:
        count_finished(run);
        return answer_output_event(output, "finished", &event->finished->base);
    default:
        return true;
    }
}

static bool on_event(void *arg, const void *bytes, size_t len)
{
    struct generate_run *run = arg;
    Quire__V1__GenerateEvent *event =
        client_run_unpack(&run->client, &quire__v1__generate_event__descriptor, bytes, len);
    if (event == NULL)
        return false;
    return run->client.options->json ? write_event(run, event) : show_event(run, event);
}

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

static bool call(struct generate_run *run, const struct generate_options *in,
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
    if (!client_run_call(&run->client, METHOD, &request.base, on_event, run))
        return false;
    if (!run->finished)
        quire_status_set(&run->client.status, QUIRE_INTERNAL,
                         "the server ended the stream without its last event");
    return run->finished;
}

int generate_command(int argc, char **argv)
{
    struct generate_options in = {.prompt = NULL};
    struct generate_run run = {.finished = false};
    struct prompt prompt = {.ids = NULL};
    struct why why = {.text = ""};
    Quire__V1__Sampling sampling = QUIRE__V1__SAMPLING__INIT;
    struct logit_biases biases = {.n = 0};
    int n_operands, exit_status;
    if (!client_run_parse(&run.client, &command, argc, argv, &in, NULL, &n_operands, &exit_status))
        return exit_status;
    drop_untyped(&in);
    if (check_options(&in, &why) < 0 || fill_sampling(&in, &biases, &sampling, &why) < 0)
        return client_run_refuse_usage(&run.client, &why);
    run.with_logprobs = in.logprobs_given;
    run.n = (uint32_t)in.n;
    section_order_init(&run.order, show_piece, &run);
    int status = read_form(&in, &prompt, &why);
    if (status == STATUS_OK)
        status = read_prompt(&in, &prompt, &why);
    if (status < 0) {
        prompt_release(&prompt);
        return status == STATUS_INVALID && has_typed_ids(&in)
                   ? client_run_refuse_usage(&run.client, &why)
                   : client_run_refuse(&run.client, status, &why);
    }
    if (client_run_open(&run.client))
        call(&run, &in, &prompt, &sampling);
    prompt_release(&prompt);
    section_order_release(&run.order);
    return client_run_close(&run.client);
}
