/* clients/c/tokenize_command.c: `quire tokenize`: standard input to token ids. */
#include "clients/c/client_main.h"
#include "clients/c/client_run.h"
#include "clients/c/message_codec.h"
#include "clients/c/text_input.h"
#include "limits.h"
#include "quire/v1/quire.pb-c.h"

#include <inttypes.h>
#include <stdio.h>

struct tokenize_options {
    struct client_options client; /* first */
    bool special, add_special, spans;
};

#define FIELD(name) offsetof(struct tokenize_options, name)

static const struct option options[] = {
    {"special", 0, OPTION_FLAG, FIELD(special), NULL, NULL,
     "special tokens in the text, such as <|im_end|>, are tokens and not text", 0, 0, NULL, 0},
    {"add-special", 0, OPTION_FLAG, FIELD(add_special), NULL, NULL,
     "begin and end as the model's file says", 0, 0, NULL, 0},
    {"spans", 0, OPTION_FLAG, FIELD(spans), NULL, NULL,
     "one line a token: id, first byte in the text, byte behind the last", 0, 0, NULL, 0},
    CLIENT_OPTION_ROWS,
    {NULL, 0, 0, 0, NULL, NULL, NULL, 0, 0, NULL, 0},
};

static const struct command command = {
    .name = "tokenize",
    .usage = "quire tokenize [--special] [--spans] [options] < FILE",
    .summary = "Turns the text on standard input into token ids, on one line.",
    .options = options,
    .examples = "  printf 'Hello' | quire tokenize\n"
                "  quire tokenize --special --model model.gguf < prompt.txt\n",
};

static bool show_ids(struct answer_output *output, const Quire__V1__TokenizeResponse *reply)
{
    bool ok = true;
    answer_output_hold(output);
    for (size_t i = 0; ok && i < reply->n_ids; i++)
        ok = answer_output_format(output, "%s%" PRIu32, i == 0 ? "" : " ", reply->ids[i]);
    return ok && answer_output_text(output, "\n", 1) && answer_output_flush(output);
}

static void show_spans(struct client_run *run, const Quire__V1__TokenizeResponse *reply)
{
    if (reply->n_spans != reply->n_ids) {
        quire_status_set(&run->status, QUIRE_INTERNAL, "the server sent %zu ids and %zu spans",
                         reply->n_ids, reply->n_spans);
        return;
    }
    bool ok = true;
    answer_output_hold(&run->output);
    for (size_t i = 0; ok && i < reply->n_ids; i++)
        ok = answer_output_format(&run->output, "%" PRIu32 "\t%" PRIu64 "\t%" PRIu64 "\n",
                                  reply->ids[i], reply->spans[i]->begin, reply->spans[i]->end);
    answer_output_flush(&run->output);
}

static void call(struct client_run *run, const struct tokenize_options *in,
                 const struct text_input *text)
{
    Quire__V1__TokenizeRequest request = QUIRE__V1__TOKENIZE_REQUEST__INIT;
    request.text = message_codec_bytes(text->bytes, text->len);
    request.add_special = in->add_special;
    request.parse_special = in->special;
    request.spans = in->spans;
    Quire__V1__TokenizeResponse *reply = client_run_unary(
        run, "/quire.v1.Quire/Tokenize", &request.base, &quire__v1__tokenize_response__descriptor);
    if (reply == NULL)
        return;
    if (in->client.json)
        answer_output_event(&run->output, "tokens", &reply->base);
    else if (in->spans)
        show_spans(run, reply);
    else
        show_ids(&run->output, reply);
}

int tokenize_command(int argc, char **argv)
{
    struct tokenize_options in = {.special = false};
    struct client_run run;
    struct text_input text;
    struct why why = {.text = ""};
    int n_operands, exit_status;
    if (!client_run_parse(&run, &command, argc, argv, &in, NULL, &n_operands, &exit_status))
        return exit_status;
    int status = text_input_file("-", GENERATE_MESSAGE_BYTES_MAX, &text, &why);
    if (status == STATUS_OK)
        status = text_input_check(&text, "standard input", &why);
    if (status < 0) {
        text_input_release(&text);
        return client_run_refuse(&run, status, &why);
    }
    if (client_run_open(&run))
        call(&run, &in, &text);
    text_input_release(&text);
    return client_run_close(&run);
}
