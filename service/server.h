/* service/server.h: the loop thread: one listener, its connections, their calls.
 *
 * server_create --> server_run (blocks) ----------------------------------> returns --> server_free
 * listening        |  first SIGTERM or server_drain: on_draining, GOAWAY, calls may end within
 * drain_ms
 * '- second signal or server_stop: every call is cancelled, every connection closed
 *
 * What others give to the loop: server_wake from any thread (on_wake then runs on the loop, at
 * least once after the last wake), work.h for whole buffers, timers.h for time. Everything else
 * here is called on the loop thread or before server_run.
 */
#ifndef QUIRE_SERVICE_SERVER_H
#define QUIRE_SERVICE_SERVER_H

#include "base/status.h"
#include "service/call.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct clock;
struct server;
struct loop;
struct timers;

struct server_options {
    /* "HOST:PORT" (port 0: the system picks), "[::1]:PORT", "unix:PATH" */
    const char *listen;
    bool insecure;            /* allows plaintext beyond loopback */
    /* SIGTERM and SIGINT belong to the server: first drains, second stops */
    bool signals;
    uint32_t connections_max; /* 0: DEFAULT_CONNECTIONS */
    int64_t drain_ms;         /* grace of calls after a drain began; 0: DEFAULT_DRAIN_MS */
    /* a reader that takes nothing for so long is ended; 0: DEFAULT_PAUSED_MS */
    int64_t paused_ms;
    const struct method *methods; /* borrowed until server_free */
    size_t n_methods;
    struct service *service;  /* handed to every call; the server never looks inside */
    /* after server_wake: drain the engine's rings until empty; may be NULL */
    void (*on_wake)(void *arg);
    /* once, when a drain or stop begins, before GOAWAY: health turns NOT_SERVING; may be NULL */
    void (*on_draining)(void *arg);
    void *arg;                /* of both */
    const struct clock *clock; /* NULL: clock_monotonic */
};

struct server_stats {
    uint32_t connections;       /* open now */
    uint32_t calls;             /* open now */
    uint64_t connections_total; /* accepted since the start */
    uint64_t connections_refused; /* above connections_max */
    uint64_t calls_total;       /* handed to a method since the start */
    size_t session_bytes;       /* held by the HTTP/2 library for all connections */
    size_t receive_bytes;       /* of unfinished and waiting requests */
    size_t unsent_bytes;        /* in all out-buffers */
};

/* Binds and listens; connections wait in the backlog until server_run. The caller owns *out and
 * frees it with server_free. STATUS_INVALID (address), STATUS_DENIED (beyond loopback without
 * insecure; permissions), STATUS_EXISTS (address in use), STATUS_NO_MEMORY, STATUS_IO; the sentence
 * says what to change. */
int server_create(const struct server_options *options, struct server **out, struct why *why);
void server_free(struct server *server); /* not while server_run runs; removes the unix socket */

/* The address as a client would write it: "127.0.0.1:43121", "[::1]:7070", "unix:/run/quire.sock".
 * Lives with the server. */
const char *server_address(const struct server *server);

/* Serves until drained or stopped. Returns STATUS_OK, or STATUS_IO when the loop itself failed. A
 * stop does not wait for work that has begun: server_free does. */
int server_run(struct server *server);
bool server_is_working(const struct server *server); /* after it: some work has not come back */

/* From any thread, any number of times. */
void server_wake(struct server *server);  /* full fence, then on_wake on the loop */
void server_drain(struct server *server); /* as the first SIGTERM */
void server_stop(struct server *server);  /* as the second */

bool server_is_draining(const struct server *server);
struct call_table *server_calls(struct server *server);    /* for call_find */
struct timers *server_timers(struct server *server);       /* for timers_arm */
struct loop *server_loop(struct server *server);           /* for work_submit */
void server_stats(const struct server *server, struct server_stats *out);

#endif
