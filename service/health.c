#include "service/health.h"

#include "service/service.h"
#include "service/wire.h"

#define HEALTH_BYTES 16       /* of an answer: one number */
#define HEALTH_LIST_BYTES 256 /* the same by name */

/* "" is the whole server */
static const char *const names[] = {"", "quire.v1.Quire"};
#define N_NAMES (sizeof names / sizeof *names)

struct health_watch {
    struct watcher watcher;
    struct call *call;
    bool is_known;
    enum wire_health told;
};

size_t health_watch_state_bytes(void)
{
    return sizeof(struct health_watch);
}

static bool is_known(struct slice name)
{
    for (size_t i = 0; i < N_NAMES; i++)
        if (slice_equal(name, slice_from(names[i])))
            return true;
    return false;
}

static enum wire_health condition(const struct service *service)
{
    return service->is_draining || service->is_lost ? WIRE_NOT_SERVING : WIRE_SERVING;
}

static int on_check(struct call *call, struct slice body, struct why *why)
{
    struct slice name;
    int status = wire_unpack_health(&call->arena, body, &name, why);
    if (status < 0)
        return status;
    if (!is_known(name))
        return refuse(why, STATUS_NOT_FOUND,
                      "no service of that name; ask for \"\" or \"quire.v1.Quire\"");
    uint8_t out[HEALTH_BYTES];
    size_t bytes = wire_pack_health(out, sizeof out, condition(call->service));
    service_answer(call, slice_of(out, bytes));
    return STATUS_OK;
}

static int on_list(struct call *call, struct slice body, struct why *why)
{
    uint8_t out[HEALTH_LIST_BYTES];
    int status = wire_unpack_health_list(&call->arena, body, why);
    if (status < 0)
        return status;
    size_t bytes =
        wire_pack_health_list(out, sizeof out, names, N_NAMES, condition(call->service));
    service_answer(call, slice_of(out, bytes));
    return STATUS_OK;
}

static void end_watch(struct health_watch *watch, int status, const char *message)
{
    list_unlink(&watch->watcher.link);
    service_refuse(watch->call, status, message);
}

static void on_change(struct watcher *watcher)
{
    struct health_watch *watch = list_entry(watcher, struct health_watch, watcher);
    struct call *call = watch->call;
    enum wire_health now = watch->is_known ? condition(call->service) : WIRE_SERVICE_UNKNOWN;

    if (now != watch->told) { /* changes are few: a handful of messages a stream at most */
        uint8_t out[HEALTH_BYTES];
        struct slice message = slice_of(out, wire_pack_health(out, sizeof out, now));
        if (call_send(call, message) < 0) {
            end_watch(watch, STATUS_NO_MEMORY, "no memory for the next change");
            return;
        }
    }
    watch->told = now;
    if (call->service->is_draining) /* it was told; a drain does not wait for watchers */
        end_watch(watch, STATUS_UNAVAILABLE, "the server is shutting down");
}

static int on_watch(struct call *call, struct slice body, struct why *why)
{
    struct health_watch *watch = call_state_of(call);
    struct slice name;
    int status = wire_unpack_health(&call->arena, body, &name, why);
    if (status < 0)
        return status;

    watch->watcher.on_change = on_change;
    watch->call = call;
    watch->is_known = is_known(name);
    list_append(&call->service->watchers, &watch->watcher.link);
    on_change(&watch->watcher); /* told is UNKNOWN: the first state always goes out */
    return STATUS_OK;
}

static void on_watch_cancel(struct call *call)
{
    struct health_watch *watch = call_state_of(call);
    if (watch->call != NULL)
        list_unlink(&watch->watcher.link);
}

const struct call_handler health_check_handler = {.on_message = on_check};
const struct call_handler health_list_handler = {.on_message = on_list};
const struct call_handler health_watch_handler = {.on_message = on_watch,
                                                  .on_cancel = on_watch_cancel};
