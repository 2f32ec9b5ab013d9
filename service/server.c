#include "service/server.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/ring.h"
#include "service/grpc_call.h"
#include "service/h2_conn.h"
#include "service/listener.h"
#include "service/loop.h"
#include "service/work.h"

#include <assert.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/resource.h>

#define FILES_RESERVED 64 /* descriptors that are not connections: model, pages, the loop's own */

enum server_state { SERVER_SERVING, SERVER_DRAINING, SERVER_ENDING, SERVER_STOPPING };
enum server_wish { WISH_NONE, WISH_DRAIN, WISH_STOP };

struct server {
    struct loop loop;
    struct server_options options;
    struct listener listener;
    enum server_state state;
    uv_signal_t signals[2];
    _Atomic int wish;        /* enum server_wish, raised by any thread */
    struct timer grace;      /* end of a drain, then of the last words */
    uint64_t n_accepted, n_refused;
    int64_t refusal_logged_ns;
};

static struct server *server_of(struct loop *loop)
{
    return list_entry(loop, struct server, loop);
}

/* --- the end --- */

static void leave_when_empty(struct loop *loop)
{
    enum server_state state = server_of(loop)->state;
    bool waits_for_work = state != SERVER_STOPPING && loop->n_works > 0;
    if (state != SERVER_SERVING && loop->n_connections == 0 && !waits_for_work)
        loop_end(loop);
}

static void begin_leaving(struct server *server)
{
    if (server->state != SERVER_SERVING)
        return;
    server->state = SERVER_DRAINING;
    if (server->options.on_draining != NULL)
        server->options.on_draining(server->options.arg);
    listener_close(&server->listener);
}

static void stop_now(struct server *server)
{
    if (server->state == SERVER_STOPPING)
        return;
    log_write(LOG_INFO, "stopping", "connections=%u calls=%u", server->loop.n_connections,
              call_table_count(server->loop.calls));
    begin_leaving(server);
    server->state = SERVER_STOPPING;
    timers_disarm(&server->loop.timers, &server->grace);
    list_for_each(node, &server->loop.connections)
        h2_conn_close(list_entry(node, struct h2_conn, in_loop));
    work_cancel_all(&server->loop);
    leave_when_empty(&server->loop);
}

static void last_words_are_over(struct timer *timer)
{
    stop_now(list_entry(timer, struct server, grace));
}

static void grace_is_over(struct timer *timer)
{
    struct server *server = list_entry(timer, struct server, grace);
    struct call *call;
    log_write(LOG_WARN, "drain_over", "calls=%u", call_table_count(server->loop.calls));
    server->state = SERVER_ENDING;
    struct why why;
    refuse(&why, STATUS_UNAVAILABLE, "the server is shutting down");
    while ((call = call_next(server->loop.calls, NULL)) != NULL)
        grpc_call_end(grpc_call_of(call), STATUS_UNAVAILABLE, &why, NGHTTP2_CANCEL);
    timer->fire = last_words_are_over;
    loop_arm(&server->loop, timer, LINGER_MS);
}

static void drain(struct server *server)
{
    if (server->state != SERVER_SERVING)
        return;
    log_write(LOG_INFO, "draining", "connections=%u calls=%u grace_ms=%lld",
              server->loop.n_connections, call_table_count(server->loop.calls),
              (long long)server->options.drain_ms);
    begin_leaving(server);
    list_for_each(node, &server->loop.connections)
        h2_conn_drain(list_entry(node, struct h2_conn, in_loop));
    server->grace.fire = grace_is_over;
    loop_arm(&server->loop, &server->grace, server->options.drain_ms);
    leave_when_empty(&server->loop);
}

static void was_woken(struct loop *loop)
{
    struct server *server = server_of(loop);
    int wish = atomic_load(&server->wish);
    if (wish == WISH_STOP)
        stop_now(server);
    else if (wish == WISH_DRAIN)
        drain(server);
    if (server->options.on_wake != NULL)
        server->options.on_wake(server->options.arg);
}

static void was_signalled(uv_signal_t *handle, int number)
{
    struct server *server = handle->data;
    (void)number;
    if (server->state == SERVER_SERVING)
        drain(server);
    else
        stop_now(server);
}

/* --- accepting --- */

static void close_refused(uv_handle_t *handle)
{
    free(handle);
}

static void refuse_connection(struct server *server, uv_stream_t *listener)
{
    union {
        uv_tcp_t tcp;
        uv_pipe_t pipe;
        uv_stream_t stream;
        uv_handle_t handle;
    } *socket = malloc(sizeof(*socket));
    server->n_refused++;
    if (socket == NULL)
        return; /* it waits in the backlog */
    if (listener->type == UV_TCP)
        uv_tcp_init(&server->loop.uv, &socket->tcp);
    else
        uv_pipe_init(&server->loop.uv, &socket->pipe, 0);
    uv_accept(listener, &socket->stream);
    uv_close(&socket->handle, close_refused);
    int64_t now_ns = loop_now_ns(&server->loop);
    if (server->refusal_logged_ns != 0 && now_ns - server->refusal_logged_ns < NS_PER_S)
        return;
    server->refusal_logged_ns = now_ns;
    log_write(LOG_WARN, "connection_refused", "connections=%u limit=%u refused=%llu",
              server->loop.n_connections, server->options.connections_max,
              (unsigned long long)server->n_refused);
}

static void has_connection(uv_stream_t *listener, int status)
{
    struct server *server = listener->data;
    if (status < 0) {
        loop_log_uv("accept_failed", status, "?");
        return;
    }
    if (server->loop.n_connections >= server->options.connections_max) {
        refuse_connection(server, listener);
        return;
    }
    int error = h2_conn_accept(&server->loop, listener);
    if (error < 0)
        loop_log_uv("accept_failed", error, "?");
    else
        server->n_accepted++;
}

/* --- life --- */

static int take_options(struct server *server, struct why *why)
{
    struct server_options *own = &server->options;
    if (own->connections_max == 0)
        own->connections_max = DEFAULT_CONNECTIONS;
    if (own->drain_ms == 0)
        own->drain_ms = DEFAULT_DRAIN_MS;
    if (own->paused_ms == 0)
        own->paused_ms = DEFAULT_PAUSED_MS;
    if (own->connections_max > CONNECTIONS_MAX)
        return refuse(why, STATUS_INVALID, "%u connections; --max-connections is at most %u",
                      own->connections_max, CONNECTIONS_MAX);
    if (own->drain_ms < 0 || own->paused_ms < 0)
        return refuse(why, STATUS_INVALID, "--drain-ms and --max-paused-ms must not be negative");
    if (own->clock != NULL)
        server->loop.clock = own->clock;
    server->loop.methods = own->methods;
    server->loop.n_methods = own->n_methods;
    server->loop.service = own->service;
    server->loop.paused_ms = own->paused_ms;
    return STATUS_OK;
}

/* Connections must never use up the descriptors that everything else needs. */
static void fit_descriptors(struct server *server)
{
    struct rlimit files;
    rlim_t needed = (rlim_t)server->options.connections_max + FILES_RESERVED;
    if (getrlimit(RLIMIT_NOFILE, &files) != 0 || files.rlim_cur >= needed)
        return;
    files.rlim_cur = files.rlim_max < needed ? files.rlim_max : needed;
    if (setrlimit(RLIMIT_NOFILE, &files) != 0)
        getrlimit(RLIMIT_NOFILE, &files);
    if (files.rlim_cur >= needed)
        return;
    uint32_t fits =
        files.rlim_cur > 2 * FILES_RESERVED ? (uint32_t)files.rlim_cur - FILES_RESERVED : 1;
    log_write(LOG_WARN, "descriptors_short", "max_connections=%u limit_nofile=%llu now=%u",
              server->options.connections_max, (unsigned long long)files.rlim_cur, fits);
    server->options.connections_max = fits;
}

static void start_handles(struct server *server)
{
    static const int numbers[2] = {SIGTERM, SIGINT};
    for (int i = 0; i < 2 && server->options.signals; i++) {
        uv_signal_init(&server->loop.uv, &server->signals[i]);
        server->signals[i].data = server;
        uv_signal_start(&server->signals[i], was_signalled, numbers[i]);
    }
}

int server_create(const struct server_options *options, struct server **out, struct why *why)
{
    struct server *server = calloc(1, sizeof(*server));
    if (server == NULL)
        return refuse(why, STATUS_NO_MEMORY, "no memory for the server");
    int status = loop_init(&server->loop, why);
    if (status < 0) {
        free(server);
        return status;
    }
    signal(SIGPIPE, SIG_IGN); /* a vanished peer is an error of write, not the end of us */
    server->loop.on_departure = leave_when_empty;
    server->loop.on_bell = was_woken;
    server->options = *options;
    start_handles(server);
    status = take_options(server, why);
    if (status == STATUS_OK)
        status = call_table_create(CALLS_MAX, &server->loop.calls, why);
    if (status == STATUS_OK)
        status = listener_open(&server->listener, &server->loop, options->listen,
                               options->insecure, has_connection, why);
    if (status < 0) {
        server_free(server);
        return status;
    }
    server->listener.socket.handle.data = server;
    fit_descriptors(server);
    *out = server;
    return STATUS_OK;
}

void server_free(struct server *server)
{
    if (server == NULL)
        return;
    server->loop.on_departure = NULL;
    listener_close(&server->listener);
    list_for_each(node, &server->loop.connections)
        h2_conn_close(list_entry(node, struct h2_conn, in_loop));
    work_cancel_all(&server->loop);
    for (int i = 0; i < 2 && server->options.signals; i++)
        uv_close((uv_handle_t *)&server->signals[i], NULL);
    loop_close(&server->loop);
    call_table_free(server->loop.calls);
    free(server);
}

int server_run(struct server *server)
{
    loop_run(&server->loop);
    return server->state == SERVER_SERVING ? STATUS_IO : STATUS_OK;
}

static void wish(struct server *server, int raised)
{
    int seen = atomic_load(&server->wish);
    while (seen < raised && !atomic_compare_exchange_weak(&server->wish, &seen, raised))
        continue;
    loop_ring(&server->loop);
}

void server_wake(struct server *server)
{
    ring_fence();
    loop_ring(&server->loop);
}

void server_drain(struct server *server)
{
    wish(server, WISH_DRAIN);
}

void server_stop(struct server *server)
{
    wish(server, WISH_STOP);
}

/* --- looking --- */

const char *server_address(const struct server *server)
{
    return server->listener.address;
}

bool server_is_working(const struct server *server)
{
    return server->loop.n_works > 0;
}

bool server_is_draining(const struct server *server)
{
    return server->state != SERVER_SERVING;
}

struct call_table *server_calls(struct server *server)
{
    return server->loop.calls;
}

struct timers *server_timers(struct server *server)
{
    return &server->loop.timers;
}

struct loop *server_loop(struct server *server)
{
    return &server->loop;
}

void server_stats(const struct server *server, struct server_stats *out)
{
    const struct loop *loop = &server->loop;
    *out = (struct server_stats){
        .connections = loop->n_connections,
        .calls = call_table_count(loop->calls),
        .connections_total = server->n_accepted,
        .connections_refused = server->n_refused,
        .calls_total = loop->n_calls_total,
        .session_bytes = loop->session_bytes,
        .receive_bytes = loop->receive_bytes,
        .unsent_bytes = loop->unsent_bytes,
    };
}
