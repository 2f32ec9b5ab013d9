/* clients/c/model_command.c: `quire model`: what a server serves. */
#include "clients/c/client_main.h"
#include "clients/c/client_run.h"
#include "quire/v1/quire.pb-c.h"

#include "base/text.h"

#include <inttypes.h>

struct model_options {
    struct client_options client; /* first */
};

static const struct option options[] = {
    CLIENT_OPTION_ROWS,
    {NULL, 0, 0, 0, NULL, NULL, NULL, 0, 0, NULL, 0},
};

static const struct command command = {
    .name = "model",
    .usage = "quire model [options]",
    .summary = "Tells what a server serves: names, limits, the cache's geometry, the SHA-256 of "
               "the weights.",
    .options = options,
    .examples = "  quire model --server 127.0.0.1:7070\n"
                "  quire model --model model.gguf --json\n",
};

#define TEXT(field) (int)(field).len, (const char *)(field).data

static void show_cache(struct answer_output *output, const Quire__V1__KvGeometry *kv)
{
    char pages[TEXT_NUMBER_BYTES], tokens[TEXT_NUMBER_BYTES], per_token[TEXT_NUMBER_BYTES];
    char bytes[TEXT_NUMBER_BYTES];
    answer_output_format(
        output,
        "cache         %s tokens in %s pages of %" PRIu32 ", %s, %.*s, %s a "
        "token, %" PRIu32 " layer group%s\n",
        text_count(tokens, kv->pages * kv->page_tokens), text_count(pages, kv->pages),
        kv->page_tokens, text_bytes(bytes, kv->bytes), TEXT(kv->dtype),
        text_bytes(per_token, kv->bytes_per_token), kv->groups, kv->groups == 1 ? "" : "s");
}

/* What a file with a vocabulary and no tensors lacks. */
static void show_weights(struct answer_output *output, const Quire__V1__Model *model)
{
    char first[TEXT_NUMBER_BYTES], second[TEXT_NUMBER_BYTES];
    answer_output_format(output, "architecture  %.*s, %s parameters, %s of weights\n",
                         TEXT(model->architecture), text_count(first, model->parameters),
                         text_bytes(second, model->weight_bytes));
    if (model->weights_sha256.len > 0)
        answer_output_format(output, "weights       SHA-256 %.*s\n", TEXT(model->weights_sha256));
    else
        answer_output_format(output, "weights       SHA-256 is being computed\n");
    answer_output_format(output, "context       %s tokens (trained with %s)\n",
                         text_count(first, model->context_tokens),
                         text_count(second, model->trained_context_tokens));
    if (model->kv != NULL)
        show_cache(output, model->kv);
    answer_output_format(output, "arithmetic    activations %.*s on %.*s\n",
                         TEXT(model->activations), TEXT(model->device));
}

static void show(struct answer_output *output, const Quire__V1__Model *model)
{
    char first[TEXT_NUMBER_BYTES];
    answer_output_format(output, "name          %.*s\n", TEXT(model->name));
    if (model->context_tokens > 0)
        show_weights(output, model);
    else
        answer_output_format(output,
                             "weights       none: the file serves only Tokenize, Detokenize "
                             "and GetModel\n");
    answer_output_format(output, "vocabulary    %s tokens\n", text_count(first, model->vocabulary));
    if (model->chat_format.len > 0)
        answer_output_format(output, "chat          %.*s\n", TEXT(model->chat_format));
    else
        answer_output_format(output, "chat          refused: %.*s\n", TEXT(model->chat_refusal));
    answer_output_format(output, "requests      up to %s, %" PRIu32 " alternatives a token\n",
                         text_bytes(first, model->message_bytes_max), model->top_logprobs_max);
    answer_output_format(output, "server        quire %.*s\n", TEXT(model->version));
}

int model_command(int argc, char **argv)
{
    struct model_options in = {.client.json = false};
    struct client_run run;
    int n_operands, exit_status;
    Quire__V1__GetModelRequest request = QUIRE__V1__GET_MODEL_REQUEST__INIT;
    if (!client_run_parse(&run, &command, argc, argv, &in, NULL, &n_operands, &exit_status))
        return exit_status;
    if (client_run_open(&run)) {
        Quire__V1__Model *model = client_run_unary(&run, "/quire.v1.Quire/GetModel", &request.base,
                                                   &quire__v1__model__descriptor);
        if (model != NULL && in.client.json)
            answer_output_event(&run.output, "model", &model->base);
        else if (model != NULL)
            show(&run.output, model);
    }
    return client_run_close(&run);
}
