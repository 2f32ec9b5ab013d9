#include "service/model_calls.h"

#include "base/clock.h"
#include "service/server.h"
#include "service/service.h"
#include "service/timers.h"
#include "service/wire.h"

#include <stdio.h>
#include <unistd.h>

struct watch_stats {
    struct engine_client client; /* first */
    struct watcher watcher;
    struct timer timer;
    struct call *call;
    struct wire_watch_stats request;
    bool is_asked; /* an answer of the engine is under way */
    struct engine_stats before;
    struct event_tables tables; /* of request.sequence, told just before the stats */
};

size_t watch_stats_state_bytes(void)
{
    return sizeof(struct watch_stats);
}

/* --- GetModel --- */

static int on_get_model(struct call *call, struct slice body, struct why *why)
{
    struct service *service = call->service;
    char digest[65] = "";
    int status = wire_unpack_model(&call->arena, body, why);
    if (status < 0)
        return service_refuse_request(call, status, why);

    engine_weights_sha256(service->engine, digest);
    size_t bytes = wire_pack_model(service->out, sizeof service->out, &service->model, digest);
    service_answer(call, slice_of(service->out, bytes));
    return STATUS_OK;
}

/* --- WatchStats --- */

static uint64_t resident_bytes(void)
{
    unsigned long long total = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "re");

    if (file == NULL)
        return 0;
    int n = fscanf(file, "%llu %llu", &total, &resident);
    fclose(file);
    return n == 2 ? resident * (uint64_t)sysconf(_SC_PAGESIZE) : 0;
}

static void ask(struct watch_stats *watch)
{
    struct call *call = watch->call;
    int64_t next_ns = clock_now(&clock_monotonic) + watch->request.interval_ms * NS_PER_MS;

    timers_arm(server_timers(call->service->server), &watch->timer, next_ns);
    if (watch->is_asked || call_unsent_bytes(call) > OUT_BUFFER_MARK_BYTES)
        return;
    if (watch->request.has_sequence &&
        !service_send(call->service, &(struct message){.kind = MESSAGE_TABLES,
                                                       .call_id = call->id,
                                                       .tag = watch->request.sequence}))
        return;
    watch->is_asked =
        service_send(call->service, &(struct message){.kind = MESSAGE_STATS, .call_id = call->id});
}

static void on_timer(struct timer *timer)
{
    ask((struct watch_stats *)((char *)timer - offsetof(struct watch_stats, timer)));
}

static void on_stats(struct call *call, const struct event *event)
{
    struct watch_stats *watch = call_state_of(call);
    struct service *service = call->service;
    struct server_stats server;

    if (event->kind == EVENT_TABLES)
        watch->tables = event->tables;
    if (event->kind != EVENT_STATS)
        return;
    watch->is_asked = false;
    server_stats(service->server, &server);
    struct wire_stats stats = {.now = &event->stats,
                               .before = &watch->before,
                               .tables = watch->request.has_sequence ? &watch->tables : NULL,
                               .resident_bytes = resident_bytes(),
                               .n_connections = server.connections};
    size_t bytes = wire_pack_stats(service->out, sizeof service->out, &stats);
    watch->before = event->stats;
    call_send(call, slice_of(service->out, bytes));
}

static void leave(struct watch_stats *watch)
{
    list_unlink(&watch->watcher.link);
    timers_disarm(server_timers(watch->call->service->server), &watch->timer);
}

static void on_change(struct watcher *watcher)
{
    struct watch_stats *watch = list_entry(watcher, struct watch_stats, watcher);
    if (!watch->call->service->is_draining)
        return;
    leave(watch);
    service_refuse(watch->call, STATUS_UNAVAILABLE, "the server is shutting down");
}

static int on_watch(struct call *call, struct slice body, struct why *why)
{
    struct watch_stats *watch = call_state_of(call);
    int status = service_check_weights(call->service, why);
    if (status == STATUS_OK)
        status = wire_unpack_watch_stats(&call->arena, body, &watch->request, why);
    if (status < 0)
        return service_refuse_request(call, status, why);

    watch->client.on_event = on_stats;
    watch->timer.fire = on_timer;
    watch->watcher.on_change = on_change;
    watch->call = call;
    list_append(&call->service->watchers, &watch->watcher.link);
    ask(watch);
    on_change(&watch->watcher);
    return STATUS_OK;
}

static void on_watch_cancel(struct call *call)
{
    struct watch_stats *watch = call_state_of(call);
    if (watch->call != NULL)
        leave(watch);
}

const struct call_handler get_model_handler = {.on_message = on_get_model};
const struct call_handler watch_stats_handler = {.on_message = on_watch,
                                                 .on_cancel = on_watch_cancel};
