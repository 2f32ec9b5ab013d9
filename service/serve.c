#include "service/serve.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/options.h"
#include "base/progress.h"
#include "engine/engine.h"
#include "service/loop.h"
#include "service/serve_options.h"
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

static void close_all(struct parent_watch *parent, struct server *server)
{
    if (parent->is_open)
        uv_close((uv_handle_t *)&parent->poll, NULL);
    server_free(server);
}

/* --- what may end the process before it serves --- */

struct loading {
    struct progress progress; /* for a terminal or a waiting parent; the log gets records */
    int64_t begun_ns, told_ns;
    struct server *server;
    struct parent_watch *parent;
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
    int parent_fd = loading->parent->fd;
    if (loading->progress.live || parent_fd >= 0)
        progress_update(&loading->progress, "loading", n_done, n_total, 0);
    else
        log_loading(loading, n_done, n_total);
    if (!stop_is_pending() && !parent_is_gone(parent_fd))
        return;
    progress_end(&loading->progress);
    log_write(LOG_INFO, "stopping", "loaded_bytes=%llu", (unsigned long long)n_done);
    close_all(loading->parent, loading->server);
    _exit(0); /* the engine is half made: the kernel takes it apart */
}

static int load(const struct serve_options *in, struct parent_watch *parent, struct server *server,
                struct engine **out, struct why *why)
{
    struct loading loading = {.server = server,
                              .parent = parent,
                              .begun_ns = clock_now(&clock_monotonic)};
    struct engine_options engine = serve_options_engine(in);
    engine.on_progress = on_load;
    engine.on_progress_arg = &loading;
    progress_init(&loading.progress, &clock_monotonic, "bytes", in->log_level > LOG_WARN);
    int status = engine_create(&engine, out, why);
    progress_end(&loading.progress);
    return status;
}

/* --- life --- */

static void wake(void *server)
{
    server_wake(server);
}

static void tell_ready(const struct service *service, const char *address)
{
    const struct engine_model_info *model = &service->model;
    char name[160], device[160], activations[16], where[2 * sizeof name];
    log_write(LOG_INFO, "ready",
              "address=%s model=%s pages=%llu bytes=%llu context=%u kv_dtype=%s activations=%s "
              "device=%s",
              log_quote(where, sizeof where, address, strlen(address)),
              log_quote(name, sizeof name, model->name, strlen(model->name)),
              (unsigned long long)model->n_pages, (unsigned long long)model->kv_bytes,
              model->max_context, model->kv_dtype,
              log_quote(activations, sizeof activations, model->activations,
                        strlen(model->activations)),
              log_quote(device, sizeof device, model->device, strlen(model->device)));
}

static int run(const struct serve_options *in, struct service *service, struct parent_watch *parent,
               struct server *server, struct why *why)
{
    struct engine *engine = NULL;
    int status = load(in, parent, server, &engine, why);
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
            status = run(in, service, &parent, server, why);
        close_all(&parent, server);
    }
    free(service);
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

    int status = serve_options_parse(&in, argc, argv, &help, &why);
    if (status == STATUS_OK && help) {
        options_print_help(&serve_options_command);
        return 0;
    }
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
