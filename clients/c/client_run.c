#include "clients/c/client_run.h"

#include "base/clock.h"
#include "clients/c/client_signals.h"
#include "clients/c/message_codec.h"
#include "grpc/health/v1/health.pb-c.h"
#include "limits.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#define STRING_OF(x) #x
#define TEXT_OF(x) STRING_OF(x)
#define DEFAULT_SERVER "127.0.0.1:" TEXT_OF(DEFAULT_PORT)
#define LOOK_MS 2
#define CHILD_END_NS (2 * NS_PER_S)

/* --- words --- */

struct child_option {
    const char *name, *variable, *value;
};

#define CHILD_OPTIONS 5

static void list_child_options(const struct client_options *in,
                               struct child_option out[CHILD_OPTIONS])
{
    out[0] = (struct child_option){"--threads", "QUIRE_THREADS", in->threads};
    out[1] = (struct child_option){"--kv-memory", "QUIRE_KV_MEMORY", in->kv_memory};
    out[2] = (struct child_option){"--kv-dtype", "QUIRE_KV_DTYPE", in->kv_dtype};
    out[3] = (struct child_option){"--activations", "QUIRE_ACTIVATIONS", in->activations};
    out[4] = (struct child_option){"--max-context", "QUIRE_MAX_CONTEXT", in->max_context};
}

/* The variables are the server's too: what stands there may mean nothing to this command. */
static bool is_typed(const char *value, const char *variable)
{
    return value != NULL && value != getenv(variable);
}

/* What was typed goes before what the environment says. */
static int choose_server(struct client_options *in, struct why *why)
{
    struct child_option of_child[CHILD_OPTIONS];
    bool model_typed = is_typed(in->model, "QUIRE_MODEL");
    bool server_typed = is_typed(in->server, "QUIRE_SERVER");
    if (model_typed && server_typed)
        return refuse(why, STATUS_INVALID,
                      "--server and --model exclude each other: ask a server, "
                      "or have this command start one");
    if (in->server != NULL && !model_typed)
        in->model = NULL;
    list_child_options(in, of_child);
    for (int i = 0; i < CHILD_OPTIONS && in->model == NULL; i++)
        if (is_typed(of_child[i].value, of_child[i].variable))
            return refuse(why, STATUS_INVALID,
                          "%s is an option of the server: give it to quire serve, or --model FILE "
                          "here too",
                          of_child[i].name);
    if (in->server == NULL)
        in->server = DEFAULT_SERVER;
    return STATUS_OK;
}

bool client_run_parse(struct client_run *run, const struct command *command, int argc, char **argv,
                      void *values, const char **operands, int *n_operands, int *exit_status)
{
    struct why why = {.text = ""};
    bool help;
    memset(run, 0, sizeof *run);
    arena_init(&run->arena, 0);
    run->command = command;
    run->options = values;
    int status = options_parse(command, argc, argv, values, operands, n_operands, &help, &why);
    if (status == STATUS_OK && !help)
        status = choose_server(run->options, &why);
    answer_output_init(&run->output, run->options->json, run->options->quiet);
    if (status < 0) {
        *exit_status = client_run_refuse(run, CLIENT_EXIT_USAGE, &why);
        return false;
    }
    if (help) {
        options_print_help(command);
        *exit_status = 0;
    }
    return !help;
}

int client_run_refuse(struct client_run *run, int exit_status, const struct why *why)
{
    fprintf(stderr, "quire: %s\n", why->text);
    answer_output_release(&run->output);
    arena_release(&run->arena);
    return exit_status;
}

/* --- a server --- */

static bool fail(struct client_run *run, int code, const char *sentence)
{
    quire_status_set(&run->status, code, "%s", sentence);
    return false;
}

static bool fail_child(struct client_run *run)
{
    int status = run->child.status;
    if (WIFSIGNALED(status))
        quire_status_set(&run->status, QUIRE_UNAVAILABLE,
                         "the server that was started for --model was ended by signal %d",
                         WTERMSIG(status));
    else
        quire_status_set(&run->status, QUIRE_UNAVAILABLE,
                         "the server that was started for --model ended with %d; the reason stands "
                         "above",
                         WEXITSTATUS(status));
    return false;
}

/* The connection of a child that ends breaks a moment before the child can be waited for. */
static bool has_just_ended(struct server_child *child)
{
    int64_t until_ns = clock_now(&clock_monotonic) + CHILD_END_NS;
    while (!server_child_has_ended(child) && client_signals_caught() == 0 &&
           clock_now(&clock_monotonic) < until_ns)
        poll(NULL, 0, LOOK_MS);
    return child->has_ended;
}

static bool is_serving(struct client_run *run)
{
    Grpc__Health__V1__HealthCheckRequest request = GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;
    Grpc__Health__V1__HealthCheckResponse *reply =
        client_run_unary(run, "/grpc.health.v1.Health/Check", &request.base,
                         &grpc__health__v1__health_check_response__descriptor);
    if (reply == NULL)
        return has_just_ended(&run->child) ? fail_child(run) : false;
    return reply->status == GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING ||
           fail(run, QUIRE_UNAVAILABLE, "the server that was started for --model is not serving");
}

/* The child listens before it loads: a connection stands soon, and its first answer comes when the
 * model is there. */
static bool connect_to_child(struct client_run *run)
{
    struct why why = {.text = ""};
    while (quire_client_open(run->child.address, NULL, &run->client, &why) < 0) {
        if (client_signals_caught() != 0)
            return fail(run, QUIRE_CANCELLED, "interrupted");
        if (server_child_has_ended(&run->child))
            return fail_child(run);
        poll(NULL, 0, LOOK_MS);
    }
    client_signals_watch(run->client);
    bool serving = is_serving(run);
    server_child_forget_socket(&run->child);
    return serving;
}

static bool start_child(struct client_run *run)
{
    struct child_option of_child[CHILD_OPTIONS];
    struct why why = {.text = ""};
    bool shows_loading = run->output.err_is_terminal && !run->options->quiet;
    const char *words[SERVER_CHILD_WORDS_MAX] = {"--model", run->options->model, "--log-level",
                                                 shows_loading ? "warn" : "error"};
    size_t n = 4;
    list_child_options(run->options, of_child);
    for (int i = 0; i < CHILD_OPTIONS; i++) {
        if (of_child[i].value != NULL) {
            words[n++] = of_child[i].name;
            words[n++] = of_child[i].value;
        }
    }
    if (server_child_start(&run->child, words, &why) < 0)
        return fail(run, QUIRE_UNAVAILABLE, why.text);
    return connect_to_child(run);
}

bool client_run_open(struct client_run *run)
{
    struct why why = {.text = ""};
    if (run->options->model != NULL) {
        client_signals_catch();
        return start_child(run);
    }
    int status = quire_client_open(run->options->server, NULL, &run->client, &why);
    if (status == STATUS_INVALID)
        return fail(run, QUIRE_INVALID_ARGUMENT, why.text);
    if (status < 0) {
        quire_status_set(&run->status, QUIRE_UNAVAILABLE,
                         "%s; start one with `quire serve --model FILE`, or give --model FILE",
                         why.text);
        return false;
    }
    client_signals_catch();
    client_signals_watch(run->client);
    return true;
}

/* --- calls --- */

struct quire_call_options client_run_call_options(const struct client_run *run)
{
    double ms = run->options->timeout * 1000;
    return (struct quire_call_options){
        .request_id = run->options->request_id,
        .timeout_ms = ms > 0 && ms < 1 ? 1 : (int64_t)ms,
    };
}

bool client_run_call(struct client_run *run, const char *method, const ProtobufCMessage *request,
                     bool (*on_message)(void *arg, const void *bytes, size_t len), void *arg)
{
    struct quire_call_options options = client_run_call_options(run);
    size_t len;
    options.on_message = on_message;
    options.arg = arg;
    void *bytes = message_codec_pack(request, &len);
    struct quire_call *call = bytes != NULL ? quire_call_open(run->client, method, &options) : NULL;
    if (call == NULL) {
        free(bytes);
        return fail(run, QUIRE_RESOURCE_EXHAUSTED, "no memory for the request");
    }
    run->status.code = QUIRE_OK; /* on_message may refuse what came, and say why */
    quire_call_send(call, bytes, len, true);
    const struct quire_status *status = quire_call_wait(call);
    if (run->status.code == QUIRE_OK)
        run->status = *status;
    quire_call_free(call);
    free(bytes);
    return run->status.code == QUIRE_OK;
}

void *client_run_unpack(struct client_run *run, const ProtobufCMessageDescriptor *type,
                        const void *bytes, size_t len)
{
    arena_release(&run->arena);
    arena_init(&run->arena, message_codec_cap(len));
    void *message = message_codec_unpack(&run->arena, type, bytes, len);
    if (message == NULL)
        quire_status_set(&run->status, QUIRE_INTERNAL, "the server's message of %zu bytes is no %s",
                         len, type->short_name);
    return message;
}

void *client_run_unary(struct client_run *run, const char *method, const ProtobufCMessage *request,
                       const ProtobufCMessageDescriptor *reply_type)
{
    struct quire_call_options options = client_run_call_options(run);
    size_t len, reply_len;
    void *reply;
    void *bytes = message_codec_pack(request, &len);
    if (bytes == NULL) {
        fail(run, QUIRE_RESOURCE_EXHAUSTED, "no memory for the request");
        return NULL;
    }
    bool ok = quire_call_unary(run->client, method, bytes, len, &options, &reply, &reply_len,
                               &run->status);
    free(bytes);
    if (!ok)
        return NULL;
    void *unpacked = client_run_unpack(run, reply_type, reply, reply_len);
    free(reply);
    return unpacked;
}

/* --- the end --- */

int client_run_close(struct client_run *run)
{
    int signal_number = client_signals_caught();
    const struct answer_output *output = &run->output;
    int exit_status = 0;
    if (signal_number != 0)
        exit_status = 128 + signal_number;
    else if (output->reader_gone)
        exit_status = 128 + SIGPIPE;
    else if (output->error != 0 || run->status.code != QUIRE_OK)
        exit_status = CLIENT_EXIT_FAILED;

    if (signal_number == 0 && !output->reader_gone && output->error != 0)
        fprintf(stderr, "quire: cannot write the answer: %s\n", strerror(output->error));
    else if (exit_status == CLIENT_EXIT_FAILED)
        answer_output_failure(&run->output, &run->status);
    answer_output_end_progress(&run->output);
    if (output->out_is_terminal)
        answer_output_end_line(&run->output);
    client_signals_watch(NULL);
    quire_client_close(run->client);
    server_child_stop(&run->child);
    answer_output_release(&run->output);
    arena_release(&run->arena);
    return exit_status;
}
