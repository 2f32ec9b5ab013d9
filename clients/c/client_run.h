/* clients/c/client_run.h: one run of a client subcommand, from its words to its exit status.
 *
 *   client_run_parse --> (read the input) --> client_run_open --> calls --> client_run_close
 *
 *   --server ADDRESS   a server that is there
 *   --model FILE       a server of its own: server_child.h
 *
 * Exit status: 0; 1 a failure; 2 wrong usage; 128 + N ended by signal N (141: the reader of
 * standard output went away).
 */
#ifndef QUIRE_CLIENTS_C_CLIENT_RUN_H
#define QUIRE_CLIENTS_C_CLIENT_RUN_H

#include "base/arena.h"
#include "base/options.h"
#include "base/status.h"
#include "clients/c/answer_output.h"
#include "clients/c/quire_call.h"
#include "clients/c/server_child.h"

#include <protobuf-c/protobuf-c.h>

#define CLIENT_EXIT_FAILED 1
#define CLIENT_EXIT_USAGE 2

/* What every subcommand takes; the first field of its own struct of values. */
struct client_options {
    const char *server, *model;
    /* of the child */
    const char *threads, *kv_memory, *kv_dtype, *activations, *max_context, *backend, *device;
    const char *chat_format;
    const char *request_id;
    double timeout; /* s; 0: none */
    bool json, quiet;
};

#define CLIENT_TEXT_ROW(name, letter, field, value_name, help)                                     \
    {name, letter, OPTION_TEXT, offsetof(struct client_options, field), NULL, value_name, help,    \
     0,    0,      NULL,        0}
#define CLIENT_FLAG_ROW(name, letter, field, help)                                                 \
    {name, letter, OPTION_FLAG, offsetof(struct client_options, field), NULL, NULL, help, 0, 0,    \
     NULL, 0}
#define CLIENT_REAL_ROW(name, field, value_name, help)                                             \
    {name, 0, OPTION_REAL, offsetof(struct client_options, field), "0", value_name, help, 0, 1e8,  \
     NULL, 0}

/* Rows of every subcommand's option table. */
#define CLIENT_OPTION_ROWS                                                                         \
    CLIENT_TEXT_ROW("server", 's', server, "ADDRESS", CLIENT_SERVER_HELP),                         \
    CLIENT_TEXT_ROW("model", 'm', model, "FILE", CLIENT_MODEL_HELP),                               \
    CLIENT_TEXT_ROW("threads", 't', threads, "N", "with --model: worker threads"),                 \
    CLIENT_TEXT_ROW("kv-memory", 0, kv_memory, "BYTES", "with --model: memory of the cache"),      \
    CLIENT_TEXT_ROW("kv-dtype", 0, kv_dtype, "TYPE",                                               \
                    "with --model: cache of f16, f32, bf16, q8 or q4"),                            \
    CLIENT_TEXT_ROW("activations", 0, activations, "TYPE", "with --model: 16, int8 or f32"),       \
    CLIENT_TEXT_ROW("max-context", 0, max_context, "N", "with --model: tokens of one sequence"),   \
    CLIENT_TEXT_ROW("backend", 0, backend, "NAME", "with --model: cpu, cuda or auto"),             \
    CLIENT_TEXT_ROW("device", 0, device, "N", "with --model: which GPU"),                          \
    CLIENT_TEXT_ROW("chat-format", 0, chat_format, "NAME", "with --model: how chats are rendered"),\
    CLIENT_REAL_ROW("timeout", timeout, "SECONDS", CLIENT_TIMEOUT_HELP),                           \
    CLIENT_TEXT_ROW("request-id", 0, request_id, "ID", "x-request-id; stands in the server's log"),\
    CLIENT_FLAG_ROW("json", 'j', json, "one JSON object an event"),                                \
    CLIENT_FLAG_ROW("quiet", 'q', quiet, "no progress and no closing line")

#define CLIENT_SERVER_HELP                                                                         \
    "HOST:PORT, [IPV6]:PORT or unix:PATH of a running quire serve; 127.0.0.1:7070 when neither "   \
    "this nor --model is given"
#define CLIENT_MODEL_HELP                                                                          \
    "serve this GGUF file for as long as the command runs, instead of asking a server; further "   \
    "options of quire serve by their variables, such as QUIRE_ISA"
#define CLIENT_TIMEOUT_HELP                                                                        \
    "deadline of the call, which the server keeps too (loading --model does not count); 0: none"

struct client_run {
    const struct command *command;
    struct client_options *options; /* within the values of the command */
    struct answer_output output;
    struct quire_client *client; /* NULL before it is open */
    struct server_child child;
    struct quire_status status; /* of the last call, or why none could be made */
    struct arena arena;         /* of the last message that was unpacked */
};

/* False: the command ends with *exit_status (help was printed, or the usage was wrong). values
 * begins with a struct client_options. Operands go to operands[0..*n_operands). */
bool client_run_parse(struct client_run *run, const struct command *command, int argc, char **argv,
                      void *values, const char **operands, int *n_operands, int *exit_status);

/* Before anything was opened: tells why and gives the exit status. Wrong usage is one sentence; a
 * failure (status) is told as client_run_close tells it. */
int client_run_refuse_usage(struct client_run *run, const struct why *why);
int client_run_refuse(struct client_run *run, int status, const struct why *why);

/* Whether a text option was given on the command line, and not by its variable. */
bool client_run_is_typed(const char *value, const char *variable);

/* Connects, or starts a server and waits until it serves. False: status says why. */
bool client_run_open(struct client_run *run);
/* Between calls, to the same server, whose connection was lost. False: status says why, and the
 * lost one stays; a server of its own that ended is not started again. */
bool client_run_reopen(struct client_run *run);

/* One call with one request; each message goes to on_message. True when it ended OK. */
bool client_run_call(struct client_run *run, const char *method, const ProtobufCMessage *request,
                     bool (*on_message)(void *arg, const void *bytes, size_t len), void *arg);
/* The same with a request that is packed already. */
bool client_run_call_packed(struct client_run *run, const char *method, const void *request,
                            size_t len,
                            bool (*on_message)(void *arg, const void *bytes, size_t len),
                            void *arg);
/* A message, valid until the next one is unpacked. NULL, and status set, when it is none. */
void *client_run_unpack(struct client_run *run, const ProtobufCMessageDescriptor *type,
                        const void *bytes, size_t len);
/* The same with one reply, unpacked. NULL: status says why. */
void *client_run_unary(struct client_run *run, const char *method, const ProtobufCMessage *request,
                       const ProtobufCMessageDescriptor *reply_type);
/* The options that every call of this run has. */
struct quire_call_options client_run_call_options(const struct client_run *run);

/* Ends output, connection and child, tells a failure, and gives the exit status. */
int client_run_close(struct client_run *run);

#endif
