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
#include <unistd.h>

#define STRING_OF(x) #x
#define TEXT_OF(x) STRING_OF(x)
#define DEFAULT_SERVER "127.0.0.1:" TEXT_OF(DEFAULT_PORT)
#define LOOK_MS 2
#define CHILD_END_NS (2 * NS_PER_S)

/* --- words --- */

struct child_option {
    const char *name, *variable, *value;
};

#define CHILD_OPTIONS 8

static void list_child_options(const struct client_options *in,
                               struct child_option out[CHILD_OPTIONS])
{
    out[0] = (struct child_option){"--threads", "QUIRE_THREADS", in->threads};
    out[1] = (struct child_option){"--kv-memory", "QUIRE_KV_MEMORY", in->kv_memory};
    out[2] = (struct child_option){"--kv-dtype", "QUIRE_KV_DTYPE", in->kv_dtype};
    out[3] = (struct child_option){"--activations", "QUIRE_ACTIVATIONS", in->activations};
    out[4] = (struct child_option){"--max-context", "QUIRE_MAX_CONTEXT", in->max_context};
    out[5] = (struct child_option){"--backend", "QUIRE_BACKEND", in->backend};
    out[6] = (struct child_option){"--device", "QUIRE_DEVICE", in->device};
    out[7] = (struct child_option){"--chat-format", "QUIRE_CHAT_FORMAT", in->chat_format};
}

/* The variables are the server's too: what stands there may mean nothing to this command. */
bool client_run_is_typed(const char *value, const char *variable)
{
    return value != NULL && value != getenv(variable);
}

/* What was typed goes before what the environment says. */
static int choose_server(struct client_options *in, struct why *why)
{
    struct child_option of_child[CHILD_OPTIONS];
    struct client_address address;
    bool model_typed = client_run_is_typed(in->model, "QUIRE_MODEL");
    bool server_typed = client_run_is_typed(in->server, "QUIRE_SERVER");
    if (model_typed && server_typed)
        return refuse(why, STATUS_INVALID,
                      "--server and --model exclude each other: ask a server, "
                      "or have this command start one");
    if (in->server != NULL && !model_typed)
        in->model = NULL;
    list_child_options(in, of_child);
    for (int i = 0; i < CHILD_OPTIONS && in->model == NULL; i++)
        if (client_run_is_typed(of_child[i].value, of_child[i].variable))
            return refuse(why, STATUS_INVALID,
                          "%s is an option of the server: give it to quire serve, or --model FILE "
                          "here too",
                          of_child[i].name);
    if (in->server == NULL)
        in->server = DEFAULT_SERVER;
    return in->model != NULL ? STATUS_OK : client_address_parse(in->server, &address, why);
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
    const char *id = run->options->request_id;
    if (status == STATUS_OK && !help && id != NULL && !quire_call_id_is_valid(id))
        status = refuse(&why, STATUS_INVALID,
                        "--request-id takes 1 to %d printable ASCII characters",
                        REQUEST_ID_BYTES_MAX);
    answer_output_init(&run->output, run->options->json, run->options->quiet);
    if (status < 0) {
        *exit_status = client_run_refuse_usage(run, &why);
        return false;
    }
    if (help) {
        options_print_help(command);
        *exit_status = 0;
    }
    return !help;
}

int client_run_refuse_usage(struct client_run *run, const struct why *why)
{
    fprintf(stderr, "quire: %s\n", why->text);
    answer_output_release(&run->output);
    arena_release(&run->arena);
    return CLIENT_EXIT_USAGE;
}

int client_run_refuse(struct client_run *run, int status, const struct why *why)
{
    quire_status_set(&run->status, status_grpc_code(status), "%s", why->text);
    return client_run_close(run);
}

/* --- calls --- */

static bool fail(struct client_run *run, int code, const char *sentence)
{
    quire_status_set(&run->status, code, "%s", sentence);
    return false;
}

struct quire_call_options client_run_call_options(const struct client_run *run)
{
    double ms = run->options->timeout * 1000;
    return (struct quire_call_options){
        .request_id = run->options->request_id,
        .timeout_ms = ms > 0 && ms < 1 ? 1 : (int64_t)ms,
    };
}

bool client_run_call_packed(struct client_run *run, const char *method, const void *request,
                            size_t len,
                            bool (*on_message)(void *arg, const void *bytes, size_t len),
                            void *arg)
{
    struct quire_call_options options = client_run_call_options(run);
    options.on_message = on_message;
    options.arg = arg;
    struct quire_call *call = quire_call_open(run->client, method, &options);
    if (call == NULL)
        return fail(run, QUIRE_RESOURCE_EXHAUSTED, "no memory for the request");
    run->status.code = QUIRE_OK; /* on_message may refuse what came, and say why */
    quire_call_send(call, request, len, true);
    const struct quire_status *status = quire_call_wait(call);
    if (run->status.code == QUIRE_OK)
        run->status = *status;
    quire_call_free(call);
    return run->status.code == QUIRE_OK;
}

bool client_run_call(struct client_run *run, const char *method, const ProtobufCMessage *request,
                     bool (*on_message)(void *arg, const void *bytes, size_t len), void *arg)
{
    size_t len;
    void *bytes = message_codec_pack(request, &len);
    if (bytes == NULL)
        return fail(run, QUIRE_RESOURCE_EXHAUSTED, "no memory for the request");
    bool ok = client_run_call_packed(run, method, bytes, len, on_message, arg);
    free(bytes);
    return ok;
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

static void *call_unary(struct client_run *run, const char *method, const ProtobufCMessage *request,
                        const ProtobufCMessageDescriptor *reply_type,
                        const struct quire_call_options *options)
{
    size_t len, reply_len;
    void *reply;
    void *bytes = message_codec_pack(request, &len);
    if (bytes == NULL) {
        fail(run, QUIRE_RESOURCE_EXHAUSTED, "no memory for the request");
        return NULL;
    }
    bool ok = quire_call_unary(run->client, method, bytes, len, options, &reply, &reply_len,
                               &run->status);
    free(bytes);
    if (!ok)
        return NULL;
    void *unpacked = client_run_unpack(run, reply_type, reply, reply_len);
    free(reply);
    return unpacked;
}

void *client_run_unary(struct client_run *run, const char *method, const ProtobufCMessage *request,
                       const ProtobufCMessageDescriptor *reply_type)
{
    struct quire_call_options options = client_run_call_options(run);
    return call_unary(run, method, request, reply_type, &options);
}

/* --- a server --- */

static bool fail_child(struct client_run *run)
{
    int status = run->child.status;
    if (WIFSIGNALED(status))
        quire_status_set(&run->status, QUIRE_UNAVAILABLE,
                         "the server that was started for --model was ended by signal %d (%s)",
                         WTERMSIG(status), strsignal(WTERMSIG(status)));
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

/* Loading has no deadline. */
static bool is_serving(struct client_run *run)
{
    static const struct quire_call_options no_deadline = {.timeout_ms = 0};
    Grpc__Health__V1__HealthCheckRequest request = GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;
    Grpc__Health__V1__HealthCheckResponse *reply =
        call_unary(run, "/grpc.health.v1.Health/Check", &request.base,
                   &grpc__health__v1__health_check_response__descriptor, &no_deadline);
    if (reply == NULL)
        return false;
    return reply->status == GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING ||
           fail(run, QUIRE_UNAVAILABLE, "the server that was started for --model is not serving");
}

/* Ctrl-C ends what runs, and so does a reader that goes away before there is anything to read. */
static void watch(struct quire_client *client)
{
    client_signals_watch(client);
    quire_client_watch_reader(client, STDOUT_FILENO);
}

/* The child listens before it loads: a connection stands soon, and its first answer comes when the
 * model is there. */
static bool connect_to_child(struct client_run *run)
{
    struct why why = {.text = ""};
    int status;
    while ((status = quire_client_open(run->child.address, NULL, &run->client, &why)) < 0) {
        if (status != STATUS_UNAVAILABLE)
            return fail(run, status_grpc_code(status), why.text);
        if (client_signals_caught() != 0)
            return fail(run, QUIRE_CANCELLED, "interrupted");
        if (server_child_has_ended(&run->child))
            return fail_child(run);
        poll(NULL, 0, LOOK_MS);
    }
    server_child_forget_socket(&run->child);
    watch(run->client);
    return is_serving(run);
}

static bool start_child(struct client_run *run)
{
    struct child_option of_child[CHILD_OPTIONS];
    struct why why = {.text = ""};
    const char *words[SERVER_CHILD_WORDS_MAX] = {"--model", run->options->model, "--log-level",
                                                 run->options->quiet ? "error" : "warn"};
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

static bool connect_to_server(struct client_run *run)
{
    struct quire_client *client;
    struct why why = {.text = ""};
    int status = quire_client_open(run->options->server, NULL, &client, &why);
    if (status == STATUS_INVALID)
        return fail(run, QUIRE_INVALID_ARGUMENT, why.text);
    if (status < 0) {
        quire_status_set(&run->status, QUIRE_UNAVAILABLE,
                         "%s; start one with `quire serve --model FILE`, or give --model FILE",
                         why.text);
        return false;
    }
    run->client = client;
    return true;
}

bool client_run_open(struct client_run *run)
{
    if (run->options->model != NULL) {
        client_signals_catch();
        return start_child(run);
    }
    if (!connect_to_server(run))
        return false;
    client_signals_catch();
    watch(run->client);
    return true;
}

bool client_run_reopen(struct client_run *run)
{
    struct quire_client *before = run->client;
    if (run->options->model != NULL || !connect_to_server(run))
        return false;
    watch(run->client);
    quire_client_close(before);
    return true;
}

/* --- the end --- */

/* A connection that broke is the end of the child, where there is one. */
static void look_for_child(struct client_run *run)
{
    bool broke = run->status.code == QUIRE_UNAVAILABLE && run->status.is_local;
    if (broke && run->child.pid != 0 && has_just_ended(&run->child))
        fail_child(run);
}

/* A server that knows no such option says so with this exit status, and so does its parent. */
static bool is_usage(const struct server_child *child)
{
    return child->has_ended && WIFEXITED(child->status) &&
           WEXITSTATUS(child->status) == CLIENT_EXIT_USAGE;
}

int client_run_close(struct client_run *run)
{
    look_for_child(run);
    int signal_number = client_signals_caught();
    const struct answer_output *output = &run->output;
    if (run->status.code == QUIRE_CANCELLED && run->status.is_local)
        answer_output_look_for_reader(&run->output);
    int exit_status = 0;
    if (signal_number != 0)
        exit_status = 128 + signal_number;
    else if (output->reader_gone)
        exit_status = 128 + SIGPIPE;
    else if (output->error != 0 || run->status.code != QUIRE_OK)
        exit_status = is_usage(&run->child) ? CLIENT_EXIT_USAGE : CLIENT_EXIT_FAILED;

    answer_output_end_progress(&run->output);
    if (output->out_is_terminal)
        answer_output_end_line(&run->output);
    bool is_told = signal_number != 0 || output->reader_gone; /* by who did it */
    if (!is_told && output->error != 0)
        fprintf(stderr, "quire: cannot write the answer: %s\n", strerror(output->error));
    else if (!is_told && run->status.code != QUIRE_OK)
        answer_output_failure(&run->output, &run->status);
    client_signals_watch(NULL);
    quire_client_close(run->client);
    server_child_stop(&run->child);
    answer_output_release(&run->output);
    arena_release(&run->arena);
    return exit_status;
}
