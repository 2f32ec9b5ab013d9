/* service/call.h: one call as a handler sees it. No transport type appears here: gRPC over HTTP/2
 * is one codec, others follow.
 *
 *        peer bytes --> codec --on_message*--on_end--> handler
 *        peer bytes <-- codec <--send*-------finish--- handler
 *
 * Life of a call: CALL_OPEN (created by the codec) -> CALL_SENDING (first send or open_reply) ->
 * CALL_FINISHED (finish was called, or the peer cancelled) -> freed by the codec. Every change goes
 * through call_set_state. call_find finds a call until it is finished.
 *
 * Rules: the handler never blocks. After on_cancel it may not touch the call again, and gets no
 * other callback. After finish it may not send, gets no callback, and the call may be freed at any
 * moment. A slow reader makes call_unsent_bytes grow: the handler gives no more credit above
 * OUT_BUFFER_MARK_BYTES and is told by on_drain when it fell below half of it. A handler whose
 * callback returns an error gets no on_cancel for it: it releases what it holds before it returns.
 * Thread: the loop.
 */
#ifndef QUIRE_SERVICE_CALL_H
#define QUIRE_SERVICE_CALL_H

#include "base/arena.h"
#include "base/slice.h"
#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>

struct call;
struct call_table;
struct service; /* what handlers share: engine, config, health (service/service.h) */

enum call_shape { CALL_UNARY, CALL_SERVER_STREAM, CALL_CLIENT_STREAM, CALL_BIDI };
enum call_state { CALL_OPEN, CALL_SENDING, CALL_FINISHED };

/* What a handler puts on a call. Messages of CALL_UNARY and CALL_SERVER_STREAM arrive when the
 * request has ended, exactly one. */
struct call_handler {
    /* body lives until return. A streaming upload may return STATUS_AGAIN: it has taken the
     * message, but wants no other until call_want_more (the peer's window closes meanwhile). Any
     * other negative status ends the call with it. */
    int (*on_message)(struct call *call, struct slice body, struct why *why);
    /* the peer has sent everything; NULL: nothing to do */
    int (*on_end)(struct call *call, struct why *why);
    /* reset, disconnect, deadline, stop: release what you hold. Only after an on_message or on_end;
     * once. */
    void (*on_cancel)(struct call *call);
    /* out-buffer fell below OUT_BUFFER_MARK_BYTES / 2; may be NULL */
    void (*on_drain)(struct call *call);
};

struct method {
    const char *path;          /* "/quire.v1.Quire/Generate" */
    enum call_shape shape;
    uint32_t message_bytes_max;
    const struct call_handler *handler;
    size_t state_bytes;        /* zeroed handler state that lives with the call: call_state_of */
};

/* A codec's side of the call. */
struct call_codec {
    int (*send)(struct call *call, struct slice message);
    void (*finish)(struct call *call, int status, const char *message, struct slice details);
    void (*open_reply)(struct call *call);
    void (*want_more)(struct call *call);
    size_t (*unsent_bytes)(const struct call *call);
    /* upload bytes received and not yet handed to on_message */
    size_t (*waiting_bytes)(const struct call *call);
};

/* What the call used: for the trailers and the log. Its handler counts. */
struct call_usage {
    uint64_t n_prompt, n_completion; /* tokens */
    double queue_s, prefill_s, decode_s; /* of several prompts: their sums */
};

/* When one prompt came (0: nothing is counted), was started, wrote its first token (0: not yet). */
struct call_clock {
    int64_t came_ns, started_ns, wrote_ns;
};

/* Filled by the codec before method->handler sees the call; embedded in the codec's own struct. */
struct call {
    const struct call_codec *codec;
    const struct method *method;
    struct service *service;
    struct call_table *table;
    enum call_state state;
    /* slot in the low 32 bits, generation above: a late event finds its call or nothing */
    uint64_t id;
    int64_t deadline_ns;       /* monotonic; 0 = none */
    int64_t arrived_ns;        /* the request was complete */
    char request_id[129];      /* metadata x-request-id, or 32 random hex digits of call_enter */
    char traceparent[64];      /* metadata traceparent, or "" */
    char peer[64];             /* for the log */
    struct arena arena;        /* lives with the call; cap set by the codec */
    void *handler_state;       /* method->state_bytes, zeroed: call_state_of */
    struct call_usage usage;
};

/* --- for handlers --- */
/* Copies; opens the reply. STATUS_EXHAUSTED beyond OUT_BUFFER_BYTES_MAX, STATUS_NO_MEMORY (nothing
 * was taken). The one message of CALL_UNARY and CALL_CLIENT_STREAM may have
 * RESPONSE_MESSAGE_BYTES_MAX, while the replies of all calls wait in less than UNSENT_BYTES_MAX. */
int call_send(struct call *call, struct slice message);
/* sends response headers now (after admission) */
void call_open_reply(struct call *call);
/* Trailers; trailers-only when nothing was sent. message may be NULL. STATUS_OK of a call with one
 * reply message needs that message. */
void call_finish(struct call *call, int status, const char *message);
/* details: a packed google.rpc.Status whose code and message equal these; at most
 * TRAILERS_BYTES_MAX with the rest */
void call_finish_details(struct call *call, int status, const char *message, struct slice details);
/* after STATUS_AGAIN; may call on_message before it returns */
void call_want_more(struct call *call);
size_t call_unsent_bytes(const struct call *call);
/* upload bytes received and not yet handed to on_message */
size_t call_waiting_bytes(const struct call *call);
static inline void *call_state_of(const struct call *call)
{
    return call->handler_state;
}
/* Finds a call that is not finished by its id, or returns NULL: late events of dead calls end here.
 * O(1). */
struct call *call_find(struct call_table *table, uint64_t id);

/* --- for codecs --- */
/* asserts the transition; FINISHED leaves the table */
void call_set_state(struct call *call, enum call_state next);
const char *call_state_name(enum call_state state);
/* Gives the call its id, its name for people when it has none, arena and handler state; the rest of
 * *call was filled by the codec. STATUS_EXHAUSTED when the table is full, STATUS_NO_MEMORY. */
int call_enter(struct call *call, struct call_table *table, struct why *why);
/* FINISHED, then on_cancel; nothing when finished already */
void call_cancel(struct call *call, bool handler_knows);
/* FINISHED already; frees arena and handler state */
void call_leave(struct call *call);
/* One row of the table, NULL-terminated walk: for (c = call_next(t, NULL); c; c = call_next(t, c)).
 * The body may finish c. */
struct call *call_next(struct call_table *table, const struct call *after);

/* at most CALLS_MAX */
int call_table_create(uint32_t calls_max, struct call_table **out, struct why *why);
void call_table_free(struct call_table *table);          /* asserts that it is empty */
uint32_t call_table_count(const struct call_table *table);

#endif
