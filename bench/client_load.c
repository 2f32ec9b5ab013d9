#include "bench/client_load.h"

#include "base/clock.h"
#include "base/options.h"
#include "clients/c/message_codec.h"

#include <stdio.h>
#include <stdlib.h>

#define FIRST_EVENT_TOKENS 16

void load_parse_options(const struct command *command, int argc, char **argv, void *in)
{
    struct why why = {.text = ""};
    bool help;
    int n_operands;
    if (options_parse(command, argc, argv, in, NULL, &n_operands, &help, &why) < 0) {
        fprintf(stderr, "%s: %s\n", command->name, why.text);
        exit(2);
    }
    if (help) {
        options_print_help(command);
        exit(0);
    }
}

_Noreturn void load_give_up(const char *what, const char *why)
{
    fprintf(stderr, "bench: %s: %s\n", what, why);
    exit(1);
}

struct quire_client *load_connect(const char *server)
{
    struct quire_client *client;
    struct why why = {.text = ""};
    if (quire_client_open(server, NULL, &client, &why) < 0)
        load_give_up("cannot connect", why.text);
    return client;
}

Quire__V1__Model *load_get_model(struct quire_client *client)
{
    struct quire_status status;
    void *reply;
    size_t len;
    if (!quire_call_unary(client, "/quire.v1.Quire/GetModel", "", 0, NULL, &reply, &len, &status))
        load_give_up("GetModel", status.message);
    Quire__V1__Model *model = quire__v1__model__unpack(NULL, len, reply);
    free(reply);
    if (model == NULL)
        load_give_up("GetModel", "a message that is none");
    return model;
}

void *load_pack_text(const char *text, size_t len, uint32_t max_tokens, bool ignore_eos, size_t *n)
{
    Quire__V1__GenerateRequest request = QUIRE__V1__GENERATE_REQUEST__INIT;
    request.prompt_case = QUIRE__V1__GENERATE_REQUEST__PROMPT_TEXT;
    request.text = message_codec_bytes(text, len);
    request.ignore_eos = ignore_eos;
    if (max_tokens > 0) {
        request.opt_max_tokens_case = QUIRE__V1__GENERATE_REQUEST__OPT_MAX_TOKENS_MAX_TOKENS;
        request.max_tokens = max_tokens;
    }
    void *bytes = message_codec_pack(&request.base, n);
    if (bytes == NULL)
        load_give_up("Generate", "no memory");
    return bytes;
}

static bool stop_at_first(void *arg, const void *bytes, size_t len)
{
    (void)bytes;
    (void)len;
    *(bool *)arg = true;
    return false;
}

double load_first_event_ms(struct quire_client *client, const char *text, size_t len)
{
    bool came = false;
    size_t n;
    void *bytes = load_pack_text(text, len, FIRST_EVENT_TOKENS, false, &n);
    struct quire_call_options about = {.on_message = stop_at_first, .arg = &came};
    struct quire_call *call = quire_call_open(client, "/quire.v1.Quire/Generate", &about);
    if (call == NULL)
        load_give_up("Generate", "no memory");
    quire_call_send(call, bytes, n, true);
    const struct quire_status *status = quire_call_wait(call);
    if (!came)
        load_give_up("Generate", status->message);
    struct quire_call_times times = quire_call_times(call);
    quire_call_free(call);
    free(bytes);
    return (double)(times.first_data_ns - times.sent_ns) / (double)NS_PER_MS;
}

uint64_t load_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 33;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

void load_sort(double *values, size_t n)
{
    qsort(values, n, sizeof *values, compare);
}

double load_percentile(const double *sorted, size_t n, double share)
{
    size_t idx = (size_t)((double)n * share);
    return n == 0 ? 0 : sorted[idx < n ? idx : n - 1];
}
