/* clients/c/detokenize_command.c: `quire detokenize`: token ids to text. */
#include "clients/c/client_main.h"
#include "clients/c/client_run.h"
#include "clients/c/text_input.h"
#include "limits.h"
#include "quire/v1/quire.pb-c.h"

#include "base/text.h"

#include <stdlib.h>
#include <string.h>

#define OPERANDS_MAX 4096

struct detokenize_options {
    struct client_options client; /* first */
    bool special;
};

static const struct option options[] = {
    {"special", 0, OPTION_FLAG, offsetof(struct detokenize_options, special), NULL, NULL,
     "control tokens as their text and not as nothing", 0, 0, NULL, 0},
    CLIENT_OPTION_ROWS,
    {NULL, 0, 0, 0, NULL, NULL, NULL, 0, 0, NULL, 0},
};

static const struct command command = {
    .name = "detokenize",
    .usage = "quire detokenize [--special] [options] [ID...]",
    .summary = "Turns token ids (1 2 3 or 1,2,3; else those on standard input) into text: their "
               "exact bytes, or on a terminal what can be shown of them.",
    .options = options,
    .examples = "  quire detokenize 19556 28\n"
                "  printf 'Hello' | quire tokenize | quire detokenize\n",
    .operands_max = OPERANDS_MAX,
};

static int read_ids(const char *const *operands, int n_operands, uint32_t **ids, size_t *n,
                    struct why *why)
{
    struct text_input text;
    int status = STATUS_OK;
    for (int i = 0; i < n_operands && status == STATUS_OK; i++)
        status = text_parse_ids(operands[i], strlen(operands[i]), ids, n, why);
    if (n_operands > 0)
        return status;
    status = text_input_file("-", GENERATE_MESSAGE_BYTES_MAX, &text, why);
    if (status == STATUS_OK)
        status = text_input_ids(&text, ids, n, why);
    text_input_release(&text);
    return status;
}

static void call(struct client_run *run, const struct detokenize_options *in, uint32_t *ids,
                 size_t n)
{
    Quire__V1__DetokenizeRequest request = QUIRE__V1__DETOKENIZE_REQUEST__INIT;
    request.ids = ids;
    request.n_ids = n;
    request.special = in->special;
    Quire__V1__DetokenizeResponse *reply =
        client_run_unary(run, "/quire.v1.Quire/Detokenize", &request.base,
                         &quire__v1__detokenize_response__descriptor);
    if (reply == NULL)
        return;
    if (in->client.json)
        answer_output_event(&run->output, "text", &reply->base);
    else
        answer_output_text(&run->output, reply->bytes.data, reply->bytes.len);
}

int detokenize_command(int argc, char **argv)
{
    static const char *operands[OPERANDS_MAX];
    struct detokenize_options in = {.special = false};
    struct client_run run;
    struct why why = {.text = ""};
    uint32_t *ids = NULL;
    size_t n = 0;
    int n_operands, exit_status;
    if (!client_run_parse(&run, &command, argc, argv, &in, operands, &n_operands, &exit_status))
        return exit_status;
    int status = read_ids(operands, n_operands, &ids, &n, &why);
    if (status < 0) {
        free(ids);
        return n_operands > 0 ? client_run_refuse_usage(&run, &why)
                              : client_run_refuse(&run, status, &why);
    }
    if (client_run_open(&run))
        call(&run, &in, ids, n);
    free(ids);
    return client_run_close(&run);
}
