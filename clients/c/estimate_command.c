/* clients/c/estimate_command.c: `quire estimate`: what a prompt would take of a server. */
#include "clients/c/client_main.h"
#include "clients/c/client_run.h"
#include "clients/c/message_codec.h"
#include "clients/c/text_input.h"
#include "limits.h"
#include "quire/v1/quire.pb-c.h"

#include "base/text.h"

#include <inttypes.h>

struct estimate_options {
    struct client_options client; /* first */
    const char *prompt;
    bool chat, prompt_tokens_given, max_tokens_given;
    int64_t prompt_tokens, max_tokens;
};

#define FIELD(name) offsetof(struct estimate_options, name)

static const struct option options[] = {
    {"prompt", 'p', OPTION_TEXT, FIELD(prompt), NULL, "TEXT|-|@FILE", "the prompt", 0, 0, NULL, 0},
    {"chat", 0, OPTION_FLAG, FIELD(chat), NULL, NULL,
     "the prompt is what a user says, rendered by the model's chat template", 0, 0, NULL, 0},
    {"prompt-tokens", 0, OPTION_INT, FIELD(prompt_tokens), NULL, "N",
     "instead of a prompt: of so many tokens", 1, 4294967295.0, NULL, FIELD(prompt_tokens_given)},
    {"max-tokens", 'n', OPTION_INT, FIELD(max_tokens), NULL, "N",
     "tokens of the answer at most; as many as fit when not given", 1, 4294967295.0, NULL,
     FIELD(max_tokens_given)},
    CLIENT_OPTION_ROWS,
    {NULL, 0, 0, 0, NULL, NULL, NULL, 0, 0, NULL, 0},
};

static const struct command command = {
    .name = "estimate",
    .usage = "quire estimate --prompt TEXT|-|@FILE | --prompt-tokens N [options]",
    .summary = "Tells what a prompt and its answer would take (pages, bytes, seconds), and whether "
               "they would be admitted now; exits with 1 when not. Nothing is computed.",
    .options = options,
    .examples = "  quire estimate --prompt @book.txt --max-tokens 512\n"
                "  quire estimate --prompt-tokens 100000 --json\n",
};

#define TEXT(field) (int)(field).len, (const char *)(field).data

static void show(struct answer_output *output, const Quire__V1__EstimateResponse *told)
{
    char first[TEXT_NUMBER_BYTES], second[TEXT_NUMBER_BYTES];
    answer_output_format(output, "prompt        %s tokens\n",
                         text_count(first, told->prompt_tokens));
    if (told->max_tokens > 0)
        answer_output_format(output, "answer        up to %s tokens\n",
                             text_count(first, told->max_tokens));
    answer_output_format(output, "cache         %s pages, %s", text_count(first, told->pages),
                         text_bytes(second, told->bytes));
    answer_output_format(output, " (free: %s pages)\n", text_count(first, told->free_pages));
    if (told->first_token_seconds > 0)
        answer_output_format(output, "first token   in %.2f s, behind %" PRIu32 " others\n",
                             told->first_token_seconds, told->queued_ahead);
    if (told->total_seconds > 0)
        answer_output_format(output, "whole answer  in %.2f s\n", told->total_seconds);
    if (told->fits)
        answer_output_format(output, "admission     yes\n");
    else
        answer_output_format(output, "admission     no: %.*s\n", TEXT(told->refusal));
}

static void fill(const struct estimate_options *in, const struct text_input *text,
                 Quire__V1__EstimateRequest *out, Quire__V1__GenerateRequest *request,
                 Quire__V1__Chat *chat)
{
    static Quire__V1__Message user, *messages = &user;

    if (in->prompt_tokens_given) {
        out->prompt_case = QUIRE__V1__ESTIMATE_REQUEST__PROMPT_PROMPT_TOKENS;
        out->prompt_tokens = (uint32_t)in->prompt_tokens;
        if (in->max_tokens_given) {
            out->opt_max_tokens_case = QUIRE__V1__ESTIMATE_REQUEST__OPT_MAX_TOKENS_MAX_TOKENS;
            out->max_tokens = (uint32_t)in->max_tokens;
        }
        return;
    }
    out->prompt_case = QUIRE__V1__ESTIMATE_REQUEST__PROMPT_REQUEST;
    out->request = request;
    if (in->max_tokens_given) {
        request->opt_max_tokens_case = QUIRE__V1__GENERATE_REQUEST__OPT_MAX_TOKENS_MAX_TOKENS;
        request->max_tokens = (uint32_t)in->max_tokens;
    }
    if (!in->chat) {
        request->prompt_case = QUIRE__V1__GENERATE_REQUEST__PROMPT_TEXT;
        request->text = message_codec_bytes(text->bytes, text->len);
        return;
    }
    quire__v1__message__init(&user);
    user.role = message_codec_text("user");
    user.content = message_codec_bytes(text->bytes, text->len);
    chat->messages = &messages;
    chat->n_messages = 1;
    request->prompt_case = QUIRE__V1__GENERATE_REQUEST__PROMPT_CHAT;
    request->chat = chat;
}

static void call(struct client_run *run, const struct estimate_options *in,
                 const struct text_input *text)
{
    Quire__V1__EstimateRequest estimate = QUIRE__V1__ESTIMATE_REQUEST__INIT;
    Quire__V1__GenerateRequest request = QUIRE__V1__GENERATE_REQUEST__INIT;
    Quire__V1__Chat chat = QUIRE__V1__CHAT__INIT;

    fill(in, text, &estimate, &request, &chat);
    Quire__V1__EstimateResponse *told =
        client_run_unary(run, "/quire.v1.Quire/Estimate", &estimate.base,
                         &quire__v1__estimate_response__descriptor);
    if (told == NULL)
        return;
    if (in->client.json)
        answer_output_event(&run->output, "estimate", &told->base);
    else
        show(&run->output, told);
    if (!told->fits)
        quire_status_set(&run->status, QUIRE_RESOURCE_EXHAUSTED, "it would not be admitted");
}

int estimate_command(int argc, char **argv)
{
    struct estimate_options in = {.prompt = NULL};
    struct text_input text = {.bytes = NULL};
    struct client_run run;
    struct why why = {.text = ""};
    int n_operands, exit_status, status = STATUS_OK;

    if (!client_run_parse(&run, &command, argc, argv, &in, NULL, &n_operands, &exit_status))
        return exit_status;
    if (in.prompt_tokens_given && !client_run_is_typed(in.prompt, "QUIRE_PROMPT"))
        in.prompt = NULL;
    if ((in.prompt != NULL) == in.prompt_tokens_given) {
        refuse(&why, STATUS_INVALID,
               "give one of --prompt TEXT|-|@FILE and --prompt-tokens N; see quire estimate "
               "--help");
        return client_run_refuse_usage(&run, &why);
    }
    if (in.prompt != NULL)
        status = text_input_argument(in.prompt, GENERATE_MESSAGE_BYTES_MAX, &text, &why);
    if (status == STATUS_OK && in.prompt != NULL)
        status = text_input_check(&text, "the prompt", &why);
    if (status < 0) {
        text_input_release(&text);
        return client_run_refuse(&run, status, &why);
    }
    if (client_run_open(&run))
        call(&run, &in, &text);
    text_input_release(&text);
    return client_run_close(&run);
}
