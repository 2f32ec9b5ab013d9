#include "service/serve_options.h"

#include "base/clock.h"
#include "base/device_options.h"
#include "base/status.h"
#include "engine/engine.h"
#include "limits.h"

#include <stddef.h>
#include <stdlib.h>

#define WAIT_MS_MAX 604800000.0 /* a week */
#define STRING_OF(x) #x
#define TEXT_OF(x) STRING_OF(x)

static const char *const backends[] = {"cpu", "cuda", "auto"};
static const char *const activations[] = {"16", "int8", "f32"};
static const char *const isas[] = {"auto", "scalar", "avx2", "avx512"};

#define FIELD(name) offsetof(struct serve_options, name)
#define CHAT_FORMATS                                                                               \
    "chatml, qwen3, phi-4, llama-2, llama-3, llama-4, mistral-v1, mistral-v3, mistral-v3-tekken, " \
    "mistral-v7, mistral-v7-tekken, deepseek-v2 or deepseek-v3"

static const struct option options[] = {
    {"model", 'm', OPTION_TEXT, FIELD(model), NULL, "FILE",
     "the GGUF file to serve; of a split model the first part; of a file with a vocabulary and no "
     "tensors only Tokenize, Detokenize and GetModel",
     0, 0, NULL, 0},
    {"listen", 'l', OPTION_TEXT, FIELD(listen), "127.0.0.1:" TEXT_OF(DEFAULT_PORT), "ADDRESS",
     "HOST:PORT (port 0: the system picks), [IPV6]:PORT or unix:PATH", 0, 0, NULL, 0},
    {"insecure", 0, OPTION_FLAG, FIELD(insecure), NULL, NULL,
     "listen beyond this machine without encryption or passwords", 0, 0, NULL, 0},
    DEVICE_OPTION_ROWS(struct serve_options),
    {"kv-memory", 0, OPTION_BYTES, FIELD(kv_memory), "0", "BYTES",
     "memory of the cache of keys and values, such as 8GiB; 0: 16 full contexts, at most half of "
     "what is free; on a GPU what weights, workspace and a reserve leave, at most --max-sequences "
     "full contexts",
     0, 0, NULL, 0},
    {"kv-dtype", 0, OPTION_TEXT, FIELD(kv_dtype), "f16", "TYPE",
     "values of the cache: f16, f32 (twice the memory, closest to exact), bf16, or packed q8 and "
     "q4 (half and a quarter of the memory, coarser); for all layers, or for those that see "
     "everything and those with a window: global=q4,local=f16",
     0, 0, NULL, 0},
    {"host-pool", 0, OPTION_BYTES, FIELD(host_pool), "0", "BYTES",
     "memory of the host for pages that give way to others: a prompt that goes on with them takes "
     "them from there and does not compute them again; 0: none",
     0, 0, NULL, 0},
    {"no-prefix-cache", 0, OPTION_FLAG, FIELD(no_prefix_cache), NULL, NULL,
     "compute every prompt from its first token (to measure that): by default pages of ended "
     "answers stay until their memory is needed, and prompts that begin alike share them",
     0, 0, NULL, 0},
    {"activations", 0, OPTION_CHOICE, FIELD(activations), "16", "TYPE",
     "what multiplies integer weights on the CPU: 16 (two signed bytes), int8 (faster, visibly "
     "worse answers) or f32 (slow, closest to exact); a GPU takes f16 and refuses the others",
     0, 0, "16|int8|f32", 0},
    {"max-context", 'c', OPTION_INT, FIELD(max_context), "0", "N",
     "tokens of one sequence, which must fit; 0: as the model was trained, or what fits of it", 0,
     CONTEXT_TOKENS_MAX, NULL, 0},
    {"chat-format", 0, OPTION_TEXT, FIELD(chat_format), "", "NAME",
     "how chats are rendered where the model's file does not say it, or says it "
     "wrong: " CHAT_FORMATS,
     0, 0, NULL, 0},
    {"max-step-ms", 0, OPTION_INT, FIELD(max_step_ms), TEXT_OF(DEFAULT_STEP_MS), "MS",
     "a step that reads prompts beside running answers takes about this long at most", 1, 60000,
     NULL, 0},
    {"max-sequences", 0, OPTION_INT, FIELD(max_sequences), TEXT_OF(DEFAULT_SEQUENCES), "N",
     "sequences that hold pages at once", 1, SEQUENCES_MAX, NULL, 0},
    {"max-queued", 0, OPTION_INT, FIELD(max_queued), TEXT_OF(DEFAULT_QUEUED), "N",
     "sequences that may wait for pages; more are refused", 0, CALLS_MAX, NULL, 0},
    {"max-connections", 0, OPTION_INT, FIELD(max_connections), TEXT_OF(DEFAULT_CONNECTIONS), "N",
     "connections at once", 1, CONNECTIONS_MAX, NULL, 0},
    {"drain-ms", 0, OPTION_INT, FIELD(drain_ms), TEXT_OF(DEFAULT_DRAIN_MS), "MS",
     "after SIGTERM calls may go on for this long", 1, WAIT_MS_MAX, NULL, 0},
    {"max-paused-ms", 0, OPTION_INT, FIELD(max_paused_ms), TEXT_OF(DEFAULT_PAUSED_MS), "MS",
     "a reader that takes nothing for this long is ended, and told", 1, WAIT_MS_MAX, NULL, 0},
    {"preempt-ms", 0, OPTION_INT, FIELD(preempt_ms), TEXT_OF(DEFAULT_PREEMPT_MS), "MS",
     "a reader that takes nothing for this long gives up its pages to others who wait for some; "
     "when it takes again, its answer goes on where it was",
     1, WAIT_MS_MAX, NULL, 0},
    {"strict-device", 0, OPTION_FLAG, FIELD(strict_device), NULL, NULL,
     "keep device memory unreadable outside of operations (a check; slow)", 0, 0, NULL, 0},
    {"log-level", 0, OPTION_CHOICE, FIELD(log_level), "info", "LEVEL",
     "debug, info, warn, error or none", 0, 0, "debug|info|warn|error|none", 0},
    {"log-format", 0, OPTION_CHOICE, FIELD(log_format), "pairs", "FORMAT",
     "a record of the log is a line of key=value pairs, or a JSON object (json)", 0, 0,
     "pairs|json", 0},
    {"parent-fd", 0, OPTION_INT, FIELD(parent_fd), "-1", "FD",
     "stop when this descriptor (a pipe from the parent) reaches its end", -1, 1 << 20, NULL, 0},
    {NULL, 0, 0, 0, NULL, NULL, NULL, 0, 0, NULL, 0},
};

const struct command serve_options_command = {
    .name = "serve",
    .usage = "quire serve --model FILE [options]",
    .summary = "Serves a model over gRPC. SIGTERM ends it when its calls have ended; a second one "
               "at once.",
    .options = options,
    .examples = "  quire serve --model SmolLM2-135M-Instruct.Q4_1.gguf\n"
                "  quire serve -m scout.gguf --listen 0.0.0.0:7070 --insecure --kv-memory 8GiB\n"
                "  quire serve -m scout.gguf --backend cuda --device 1 --max-context 131072\n"
                "  quire serve -m strange.gguf --chat-format chatml --log-format json\n"
                "  QUIRE_MODEL=m.gguf QUIRE_LISTEN=unix:/run/quire.sock quire serve\n",
};

/* A refusal of a value that came by its variable names that. */
static int named(int status, const char *value, const char *variable, struct why *why)
{
    return status < 0 && value == getenv(variable) ? refuse_prefix(why, status, "%s", variable)
                                                   : status;
}

int serve_options_parse(struct serve_options *out, int argc, char **argv, bool *help,
                        struct why *why)
{
    int n_operands;

    *out = (struct serve_options){.parent_fd = -1};
    int status = options_parse(&serve_options_command, argc, argv, out, NULL, &n_operands, help,
                               why);
    if (status < 0 || *help)
        return status;
    if (out->model == NULL || out->model[0] == '\0')
        return refuse(why, STATUS_INVALID,
                      "which model? Give --model FILE (or QUIRE_MODEL); see quire serve --help");
    status = named(engine_check_chat_format(out->chat_format, why), out->chat_format,
                   "QUIRE_CHAT_FORMAT", why);
    if (status < 0)
        return status;
    return named(engine_check_kv_dtype(out->kv_dtype, why), out->kv_dtype, "QUIRE_KV_DTYPE", why);
}

struct engine_options serve_options_engine(const struct serve_options *in)
{
    return (struct engine_options){
        .model_path = in->model,
        .backend = backends[in->backend],
        .has_gpu = in->has_device,
        .gpu = (uint32_t)in->device,
        .n_threads = (int)in->threads,
        .isa = isas[in->isa],
        .activations = activations[in->activations],
        .kv_dtype = in->kv_dtype,
        .kv_memory_bytes = in->kv_memory,
        .host_pool_bytes = in->host_pool,
        .max_context = (uint32_t)in->max_context,
        .no_prefix_cache = in->no_prefix_cache,
        .chat_format = in->chat_format,
        .max_sequences = (uint32_t)in->max_sequences,
        .max_queued = (uint32_t)in->max_queued,
        .max_step_ns = in->max_step_ms * NS_PER_MS,
        .preempt_ns = in->preempt_ms * NS_PER_MS,
        .strict_device = in->strict_device,
    };
}
