/* clients/c/health_command.c: `quire health`: does a server serve? */
#include "clients/c/client_main.h"
#include "clients/c/client_run.h"
#include "clients/c/message_codec.h"
#include "grpc/health/v1/health.pb-c.h"

#include <ctype.h>

#define DEFAULT_TIMEOUT_S 5

struct health_options {
    struct client_options client; /* first */
    const char *service;
};

static const struct option options[] = {
    {"service", 0, OPTION_TEXT, offsetof(struct health_options, service), "", "NAME",
     "the service to ask about, such as quire.v1.Quire; the whole server when not given", 0, 0,
     NULL, 0},
    CLIENT_OPTION_ROWS,
    {NULL, 0, 0, 0, NULL, NULL, NULL, 0, 0, NULL, 0},
};

static const struct command command = {
    .name = "health",
    .usage = "quire health [--service NAME] [options]",
    .summary = "Asks a server whether it serves; exits with 0 when it does. Without --timeout it "
               "waits 5 seconds.",
    .options = options,
    .examples = "  quire health --server 127.0.0.1:7070\n"
                "  until quire health -q; do sleep 1; done\n",
};

static void call(struct client_run *run, const struct health_options *in)
{
    Grpc__Health__V1__HealthCheckRequest request = GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;
    char name[64];
    request.service = message_codec_text(in->service);
    Grpc__Health__V1__HealthCheckResponse *reply =
        client_run_unary(run, "/grpc.health.v1.Health/Check", &request.base,
                         &grpc__health__v1__health_check_response__descriptor);
    if (reply == NULL)
        return;
    json_writer_enum_name(&grpc__health__v1__health_check_response__serving_status__descriptor,
                          (int)reply->status, name);
    if (in->client.json)
        answer_output_event(&run->output, "health", &reply->base);
    for (char *at = name; *at != 0; at++)
        *at = (char)toupper((unsigned char)*at);
    if (!in->client.json)
        answer_output_format(&run->output, "%s\n", name);
    if (reply->status != GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING)
        quire_status_set(&run->status, QUIRE_UNAVAILABLE, "%s is %s",
                         quire_client_address(run->client), name);
}

int health_command(int argc, char **argv)
{
    struct health_options in = {.service = ""};
    struct client_run run;
    int n_operands, exit_status;
    if (!client_run_parse(&run, &command, argc, argv, &in, NULL, &n_operands, &exit_status))
        return exit_status;
    if (in.client.timeout == 0 && in.client.model == NULL)
        in.client.timeout = DEFAULT_TIMEOUT_S;
    if (client_run_open(&run))
        call(&run, &in);
    return client_run_close(&run);
}
