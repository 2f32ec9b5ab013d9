#include "service/serve.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/options.h"
#include "base/progress.h"
#include "base/threads.h"
#include "engine/engine.h"
#include "limits.h"
#include "service/loop.h"
#include "service/server.h"
#include "service/service.h"

#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>
#include <uv.h>

#define EXIT_USAGE 2
#define LOADING_NS (5 * NS_PER_S) /* between two records of a long load */
#define OWN_MAP_BYTES (256 << 10)
#define WAIT_MS_MAX 604800000.0 /* a week */
#define STRING_OF(x) #x
#define TEXT_OF(x) STRING_OF(x)

struct serve_options {
    const char *model, *listen;
    bool insecure, strict_device, has_device, no_prefix_cache;
    int64_t device, threads, max_context, max_step_ms, max_sequences, max_queued, max_connections;
    int64_t drain_ms, max_paused_ms, preempt_ms, parent_fd;
    uint64_t kv_memory, host_pool;
    const char *chat_format, *kv_dtype;
    int backend, activations, isa, log_level, log_format;
};

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
    {"backend", 0, OPTION_CHOICE, FIELD(backend), "auto", "NAME",
     "cpu; cuda: a GPU, or it is an error; auto: a GPU where there is one that can be used, else "
     "the CPU",
     0, 0, "cpu|cuda|auto", 0},
    {"device", 0, OPTION_INT, FIELD(device), "0", "N",
     "which GPU, as quire devices counts them; where it is given, auto takes nothing else", 0,
     65535, NULL, FIELD(has_device)},
    {"threads", 't', OPTION_INT, FIELD(threads), "0", "N",
     "worker threads of the CPU; 0: as measured best for the cores that are allowed", 0,
     TEAM_THREADS_MAX, NULL, 0},
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
    {"isa", 0, OPTION_CHOICE, FIELD(isa), "auto", "NAME",
     "instruction set of the CPU: auto, scalar, avx2 or avx512; all give the same answers", 0, 0,
     "auto|scalar|avx2|avx512", 0},
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

static const struct command command = {
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

/* --- what may end the process before it serves --- */

struct loading {
    struct progress progress; /* for a terminal or a waiting parent; the log gets records */
    int64_t begun_ns, told_ns;
    struct server *server;
    int parent_fd;
};

static bool parent_is_gone(int fd)
{
    char byte;
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    if (fd < 0 || poll(&wait, 1, 0) <= 0)
        return false;
    return (wait.revents & (POLLIN | POLLHUP)) != 0 && read(fd, &byte, 1) == 0;
}

static bool stop_is_pending(void)
{
    sigset_t pending;
    sigpending(&pending);
    return sigismember(&pending, SIGTERM) == 1 || sigismember(&pending, SIGINT) == 1;
}

/* Blocked while the model loads: the threads made meanwhile never see them, and on_load does. */
static void block_stops(int how)
{
    sigset_t stops;
    sigemptyset(&stops);
    sigaddset(&stops, SIGTERM);
    sigaddset(&stops, SIGINT);
    pthread_sigmask(how, &stops, NULL);
}

static void log_loading(struct loading *loading, uint64_t n_done, uint64_t n_total)
{
    int64_t now_ns = clock_now(&clock_monotonic);
    if (loading->told_ns != 0 && now_ns - loading->told_ns < LOADING_NS)
        return;
    double seconds = (double)(now_ns - loading->begun_ns) / NS_PER_S;
    double per_s = seconds > 0 ? (double)n_done / seconds : 0;
    loading->told_ns = now_ns;
    log_write(LOG_INFO, "loading",
              "done_bytes=%llu total_bytes=%llu bytes_per_second=%.0f seconds_left=%.1f",
              (unsigned long long)n_done, (unsigned long long)n_total, per_s,
              per_s > 0 ? (double)(n_total - n_done) / per_s : 0.0);
}

static void on_load(void *arg, uint64_t n_done, uint64_t n_total)
{
    struct loading *loading = arg;
    if (loading->progress.live || loading->parent_fd >= 0)
        progress_update(&loading->progress, "loading", n_done, n_total, 0);
    else
        log_loading(loading, n_done, n_total);
    if (!stop_is_pending() && !parent_is_gone(loading->parent_fd))
        return;
    progress_end(&loading->progress);
    log_write(LOG_INFO, "stopping", "loaded_bytes=%llu", (unsigned long long)n_done);
    server_free(loading->server);
    _exit(0); /* the engine is half made: the kernel takes it apart */
}

static int load(const struct serve_options *in, struct server *server, struct engine **out,
                struct why *why)
{
    struct loading loading = {.server = server,
                              .parent_fd = (int)in->parent_fd,
                              .begun_ns = clock_now(&clock_monotonic)};
    struct engine_options engine = {
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
        .on_progress = on_load,
        .on_progress_arg = &loading,
    };
    progress_init(&loading.progress, &clock_monotonic, "bytes", in->log_level > LOG_WARN);
    int status = engine_create(&engine, out, why);
    progress_end(&loading.progress);
    return status;
}

/* --- the parent --- */

struct parent_watch {
    uv_poll_t poll;
    struct server *server;
    int fd;
    bool is_open;
};

static void on_parent(uv_poll_t *poll, int status, int events)
{
    struct parent_watch *watch = poll->data;
    char bytes[256];
    (void)events;
    ssize_t n = read(watch->fd, bytes, sizeof bytes);
    if (n > 0 || (n < 0 && status == 0))
        return; /* what a parent writes means nothing */
    log_write(LOG_INFO, "parent_gone", "fd=%d", watch->fd);
    uv_poll_stop(poll);
    server_stop(watch->server);
}

static int watch_parent(struct parent_watch *watch, struct server *server, int fd, struct why *why)
{
    watch->server = server;
    watch->fd = fd;
    if (fd < 0)
        return STATUS_OK;
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    int error = uv_poll_init(&server_loop(server)->uv, &watch->poll, fd);
    if (error < 0)
        return refuse(why, STATUS_INVALID, "--parent-fd %d cannot be watched: %s", fd,
                      uv_strerror(error));
    watch->is_open = true;
    watch->poll.data = watch;
    uv_poll_start(&watch->poll, UV_READABLE | UV_DISCONNECT, on_parent);
    return STATUS_OK;
}

/* --- life --- */

static void wake(void *server)
{
    server_wake(server);
}

static void tell_ready(const struct service *service, const char *address)
{
    const struct engine_model_info *model = &service->model;
    char name[160], device[160], where[2 * sizeof name];
    log_write(LOG_INFO, "ready",
              "address=%s model=%s pages=%llu bytes=%llu context=%u kv_dtype=%s activations=%s "
              "device=%s",
              log_quote(where, sizeof where, address, strlen(address)),
              log_quote(name, sizeof name, model->name, strlen(model->name)),
              (unsigned long long)model->n_pages, (unsigned long long)model->kv_bytes,
              model->max_context, model->kv_dtype, model->activations,
              log_quote(device, sizeof device, model->device, strlen(model->device)));
}

static int run(const struct serve_options *in, struct service *service, struct server *server,
               struct why *why)
{
    struct engine *engine = NULL;
    int status = load(in, server, &engine, why);
    if (status < 0)
        return status;

    service_init(service, engine);
    service->server = server;
    status = engine_start(engine, wake, server, why);
    if (status == STATUS_OK) {
        tell_ready(service, server_address(server));
        block_stops(SIG_UNBLOCK);
        status = server_run(server);
        /* In the middle of a long text a worker would hold the stop for seconds: calls have ended,
         * and the kernel takes the rest apart. */
        if (status == STATUS_OK && server_is_working(server))
            _exit(service->is_lost ? 1 : 0);
        if (status < 0)
            refuse(why, status, "the event loop failed");
        else if (service->is_lost)
            status = refuse(why, STATUS_INTERNAL,
                            "the device (%s) failed and every call was ended: device_error in the "
                            "log says what failed, dmesg perhaps why; start the server again",
                            service->model.device);
        engine_stop(engine);
    }
    engine_free(engine);
    return status;
}

/* *is_usage: what was asked for on the command line cannot be. */
static int serve(const struct serve_options *in, bool *is_usage, struct why *why)
{
    struct parent_watch parent = {.is_open = false};
    struct server *server = NULL;
    struct service *service = calloc(1, sizeof *service);
    if (service == NULL)
        return refuse(why, STATUS_NO_MEMORY, "no memory to begin with");

    struct server_options listen = {
        .listen = in->listen,
        .insecure = in->insecure,
        .signals = true,
        .connections_max = (uint32_t)in->max_connections,
        .drain_ms = in->drain_ms,
        .paused_ms = in->max_paused_ms,
        .service = service,
        .on_wake = service_on_wake,
        .on_draining = service_on_draining,
        .arg = service,
    };
    listen.methods = service_methods(&listen.n_methods);
    block_stops(SIG_BLOCK);
    int status = server_create(&listen, &server, why);
    *is_usage = status == STATUS_INVALID;
    if (*is_usage && in->listen == getenv("QUIRE_LISTEN"))
        refuse_prefix(why, status, "QUIRE_LISTEN");
    if (status == STATUS_OK) {
        status = watch_parent(&parent, server, (int)in->parent_fd, why);
        *is_usage = status == STATUS_INVALID;
        if (status == STATUS_OK)
            status = run(in, service, server, why);
        if (parent.is_open)
            uv_close((uv_handle_t *)&parent.poll, NULL);
        server_free(server);
    }
    free(service);
    return status;
}

static int check_chat_format(const struct serve_options *in, struct why *why)
{
    int status = engine_check_chat_format(in->chat_format, why);
    if (status < 0 && in->chat_format == getenv("QUIRE_CHAT_FORMAT"))
        refuse_prefix(why, status, "QUIRE_CHAT_FORMAT");
    return status;
}

static int check_kv_dtype(const struct serve_options *in, struct why *why)
{
    int status = engine_check_kv_dtype(in->kv_dtype, why);
    if (status < 0 && in->kv_dtype == getenv("QUIRE_KV_DTYPE"))
        refuse_prefix(why, status, "QUIRE_KV_DTYPE");
    return status;
}

/* Messages, texts and ids of prompts go back to the system with their end. By itself malloc would
 * learn from the first large block that is freed to keep all others up to that size. */
static void map_large_blocks(void)
{
#ifdef M_MMAP_THRESHOLD
    mallopt(M_MMAP_THRESHOLD, OWN_MAP_BYTES);
#endif
}

int serve_main(int argc, char **argv)
{
    struct serve_options in = {.parent_fd = -1};
    struct why why = {.text = ""};
    bool help, is_usage = true;
    int n_operands;

    int status = options_parse(&command, argc, argv, &in, NULL, &n_operands, &help, &why);
    if (status == STATUS_OK && help) {
        options_print_help(&command);
        return 0;
    }
    if (status == STATUS_OK && (in.model == NULL || in.model[0] == '\0'))
        status = refuse(&why, STATUS_INVALID,
                        "which model? Give --model FILE (or QUIRE_MODEL); see quire serve --help");
    if (status == STATUS_OK)
        status = check_chat_format(&in, &why);
    if (status == STATUS_OK)
        status = check_kv_dtype(&in, &why);
    if (status == STATUS_OK) {
        map_large_blocks();
        log_set_level((enum log_level)in.log_level);
        log_set_format((enum log_format)in.log_format);
        status = serve(&in, &is_usage, &why);
    }
    if (status == STATUS_OK)
        return 0;
    fprintf(stderr, "quire: %s\n", why.text[0] != '\0' ? why.text : status_text(status));
    return is_usage ? EXIT_USAGE : 1;
}
