#include "service/service.h"

#include "base/clock.h"
#include "base/list.h"
#include "base/log.h"
#include "base/text.h"
#include "service/server.h"
#include "service/wire.h"

#include <assert.h>
#include <string.h>

void service_init(struct service *service, struct engine *engine)
{
    memset(service, 0, sizeof *service);
    service->engine = engine;
    list_init(&service->watchers);
    engine_model_info(engine, &service->model);
}

bool service_send(struct service *service, const struct message *message)
{
    return engine_try_send(service->engine, message);
}

void service_cancel_runs(struct call *call, uint32_t tag)
{
    service_send(call->service,
                 &(struct message){.kind = MESSAGE_CANCEL, .call_id = call->id, .tag = tag});
}

void service_credit(struct call *call, uint32_t tag, uint32_t n)
{
    service_send(
        call->service,
        &(struct message){.kind = MESSAGE_CREDIT, .call_id = call->id, .tag = tag, .n_credit = n});
}

/* --- events --- */

static void tell_watchers(struct service *service)
{
    list_for_each_safe(node, &service->watchers)
    {
        struct watcher *watcher = list_entry(node, struct watcher, link);
        watcher->on_change(watcher);
    }
}

static void handle_lost(struct service *service)
{
    service->is_lost = true;
    tell_watchers(service);
    server_drain(service->server); /* every run has been refused; nothing else can be served */
}

void service_on_wake(void *arg)
{
    struct service *service = arg;
    struct call_table *calls = server_calls(service->server);
    const struct event *event;

    while ((event = engine_peek_event(service->engine)) != NULL) {
        if (event->kind == EVENT_WEIGHTS) {
            log_write(LOG_INFO, "weights", "sha256=%s", event->weights_sha256);
        } else if (event->kind == EVENT_LOST) {
            handle_lost(service);
        } else {
            struct call *call = call_find(calls, event->call_id);
            if (call != NULL)
                ((struct engine_client *)call_state_of(call))->on_event(call, event);
        }
        engine_pop_event(service->engine);
    }
}

void service_on_draining(void *arg)
{
    struct service *service = arg;

    service->is_draining = true;
    tell_watchers(service);
}

int service_check_weights(const struct service *service, struct why *why)
{
    if (!service->model.is_vocabulary)
        return STATUS_OK;
    return refuse(why, STATUS_PRECONDITION,
                  "%s has a vocabulary of %u tokens and no weights: Tokenize, Detokenize and "
                  "GetModel answer here; start quire serve with a whole model for the rest",
                  service->model.name, service->model.vocabulary);
}

/* --- texts --- */

int service_room_for_text(const struct service *service, size_t bytes, struct why *why)
{
    char held[TEXT_NUMBER_BYTES], limit[TEXT_NUMBER_BYTES];
    if (bytes > TEXT_BYTES_MAX || service->text_bytes > TEXT_BYTES_MAX - bytes)
        return refuse(why, STATUS_EXHAUSTED,
                      "the server holds %s of texts that wait, of %s at most: try "
                      "again in a second",
                      text_bytes(held, service->text_bytes), text_bytes(limit, TEXT_BYTES_MAX));
    return STATUS_OK;
}

int service_hold_text(struct service *service, size_t bytes, struct why *why)
{
    int status = service_room_for_text(service, bytes, why);
    if (status == STATUS_OK)
        service->text_bytes += bytes;
    return status;
}

void service_give_text(struct service *service, size_t bytes)
{
    assert(bytes <= service->text_bytes);
    service->text_bytes -= bytes;
}

/* --- times --- */

void service_follow(struct call_clock *clock, const struct event *event)
{
    bool waits = event->kind == EVENT_PROGRESS && event->progress.phase == RUN_WAITING;
    int64_t now_ns = clock_now(&clock_monotonic);
    if (waits)
        clock->started_ns = 0; /* accepted, but without pages */
    else if (clock->started_ns == 0)
        clock->started_ns = now_ns;
    if (event->kind == EVENT_DELTA && clock->wrote_ns == 0)
        clock->wrote_ns = now_ns;
}

void service_count_time(struct call *call, struct call_clock *clock)
{
    int64_t now_ns = clock_now(&clock_monotonic);
    if (clock->came_ns == 0)
        return;
    int64_t started_ns = clock->started_ns != 0 ? clock->started_ns : now_ns;
    int64_t wrote_ns = clock->wrote_ns != 0 ? clock->wrote_ns : now_ns;
    call->usage.queue_s += (double)(started_ns - clock->came_ns) / (double)NS_PER_S;
    call->usage.prefill_s += (double)(wrote_ns - started_ns) / (double)NS_PER_S;
    call->usage.decode_s += (double)(now_ns - wrote_ns) / (double)NS_PER_S;
    clock->came_ns = 0;
}

/* --- ends --- */

void service_answer(struct call *call, struct slice message)
{
    if (call_send(call, message) == STATUS_OK)
        call_finish(call, STATUS_OK, NULL);
    else
        service_refuse(call, STATUS_NO_MEMORY, "no memory for the answer");
}

static void refuse_with(struct call *call, int status, const char *message,
                        const struct why_numbers *numbers)
{
    uint8_t packed[WIRE_DETAILS_BYTES_MAX];
    size_t bytes = wire_pack_refusal(packed, sizeof packed, status, message, numbers);
    call_finish_details(call, status, message, slice_of(packed, bytes));
}

void service_refuse(struct call *call, int status, const char *message)
{
    refuse_with(call, status, message, &(struct why_numbers){.unit = NULL});
}

void service_refuse_why(struct call *call, int status, const struct why *why)
{
    refuse_with(call, status, why->text[0] != '\0' ? why->text : status_text(status),
                &why->numbers);
}

int service_refuse_request(struct call *call, int status, const struct why *why)
{
    service_refuse_why(call, status, why);
    return STATUS_OK;
}

void service_refuse_event(struct call *call, const struct event_refused *refused)
{
    struct why_numbers numbers = {.requested = refused->numbers[0],
                                  .available = refused->numbers[1],
                                  .unit = refused->unit[0] != '\0' ? refused->unit : NULL,
                                  .setting = refused->setting[0] != '\0' ? refused->setting : NULL};
    refuse_with(call, refused->status, refused->text, &numbers);
}
