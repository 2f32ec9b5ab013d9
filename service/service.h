/* service/service.h: what all handlers share, and the way of an event from the engine to its call.
 *
 *   engine --ring B--> service_on_wake --call_find(event.call_id)--> handler's on_event --> wire
 * --> call_send handler --service_send--> ring A --> engine
 *
 * Thread: the loop.
 */
#ifndef QUIRE_SERVICE_SERVICE_H
#define QUIRE_SERVICE_SERVICE_H

#include "base/list.h"
#include "engine/engine.h"
#include "limits.h"
#include "service/call.h"

#include <stdbool.h>

struct server;

struct service {
    struct engine *engine;
    struct server *server;
    struct engine_model_info model;
    bool is_draining;
    bool is_lost; /* the engine stopped after a device error */
    size_t text_bytes;                 /* of requests on their way to tokens, all calls */
    struct list watchers;              /* of struct watcher */
    uint8_t out[WIRE_EVENT_BYTES_MAX]; /* messages are packed here before call_send copies them */
};

/* First member of every handler's state that talks to the engine. */
struct engine_client {
    void (*on_event)(struct call *call, const struct event *event);
};

/* A call that wants to hear when the server's condition changes (health). */
struct watcher {
    struct list link;
    void (*on_change)(struct watcher *watcher);
};

void service_init(struct service *service, struct engine *engine);
void service_on_wake(void *service);     /* server_options.on_wake */
void service_on_draining(void *service); /* server_options.on_draining */
const struct method *service_methods(size_t *n);

/* False when ring A is full. Cancels and credits always fit. */
bool service_send(struct service *service, const struct message *message);
void service_cancel_runs(struct call *call, uint32_t tag);
void service_credit(struct call *call, uint32_t tag, uint32_t n);

/* The account of texts that wait for a worker, and of answers that wait until the best are known:
 * STATUS_EXHAUSTED beyond TEXT_BYTES_MAX. A byte_queue may keep it too (text_bytes is its
 * account): it asks for room only. */
int service_room_for_text(const struct service *service, size_t bytes, struct why *why);
int service_hold_text(struct service *service, size_t bytes, struct why *why);
void service_give_text(struct service *service, size_t bytes);

/* STATUS_PRECONDITION when the file that is served has a vocabulary and no weights. */
int service_check_weights(const struct service *service, struct why *why);

/* Times of a prompt whose end the engine may never tell: a deadline, a cancel. */
void service_follow(struct call_clock *clock, const struct event *event);
/* Adds what a prompt took until now, once. */
void service_count_time(struct call *call, struct call_clock *clock);

/* The one message of a unary call, and its end. */
void service_answer(struct call *call, struct slice message);
/* Ends the call with a refusal and its numbers as google.rpc.ErrorInfo. */
void service_refuse(struct call *call, int status, const char *message);
void service_refuse_why(struct call *call, int status, const struct why *why);
/* The same out of on_message or on_end: returns what the callback returns. */
int service_refuse_request(struct call *call, int status, const struct why *why);
void service_refuse_event(struct call *call, const struct event_refused *refused);

#endif
