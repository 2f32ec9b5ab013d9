/* service/loop.h: what the connections of one server share: the libuv loop, its timers, its
 * buffers, its counts. Transport files only; handlers see server.h, timers.h and work.h.
 *
 * one turn:   poll (reads, writes, wakes) -> closes -> turn: fire due timers, flush every dirty
 * connection once -> sleep
 *
 * Write buffers belong to the loop and are lent to a connection while a write is in flight, so an
 * idle connection holds none. Thread: the loop.
 */
#ifndef QUIRE_SERVICE_LOOP_H
#define QUIRE_SERVICE_LOOP_H

#include "base/clock.h"
#include "base/list.h"
#include "limits.h"
#include "service/call.h"
#include "service/timers.h"

#include <uv.h>

struct h2_conn;

struct write_buffer {
    struct write_buffer *next; /* in the pool */
    struct h2_conn *conn;      /* that it is lent to */
    uv_write_t request;
    size_t used;
    uint8_t bytes[WRITE_BUFFER_BYTES];
};

struct loop {
    uv_loop_t uv;
    uv_prepare_t turn;
    /* active while a connection has more to do: the loop then does not sleep */
    uv_idle_t busy;
    uv_poll_t bell;        /* other threads ring it: see loop_ring */
    int bell_fd;           /* eventfd */
    void (*on_bell)(struct loop *loop);
    uv_timer_t alarm;      /* ends the sleep when the first timer is due */
    int64_t alarm_ns;      /* what it is set to; INT64_MAX: stopped */
    const struct clock *clock;
    struct timers timers;
    struct list connections; /* h2_conn.in_loop */
    struct list dirty;       /* h2_conn.in_dirty: flushed before the loop sleeps */
    /* a connection or a piece of work has ended; may be NULL */
    void (*on_departure)(struct loop *loop);

    const struct method *methods;
    size_t n_methods;
    struct service *service;
    struct call_table *calls;
    int64_t paused_ms;

    uint8_t read_buffer[64 << 10]; /* for every read: it is consumed before the callback returns */
    struct write_buffer *spare;
    uint32_t n_spare;

    uint32_t n_connections;
    uint32_t n_streams;
    uint32_t n_works;
    struct list works;     /* work.c: under way */
    uint64_t n_calls_total;
    size_t session_bytes, receive_bytes, unsent_bytes;
    size_t unsent_max;     /* UNSENT_BYTES_MAX */
};

/* STATUS_IO. After loop_init, loop_close must follow: it runs the loop until every handle is
 * closed, and asserts that none is left. */
int loop_init(struct loop *loop, struct why *why);
void loop_close(struct loop *loop);
void loop_run(struct loop *loop);  /* until loop_end */
void loop_end(struct loop *loop);

/* From any thread: on_bell is called on the loop soon, once for any number of rings. Not a
 * uv_async: a loop that preempts the sender within uv_async_send spins there, then yields its core,
 * and gets it back only at the kernel's next tick, 4 ms later, when a step keeps all cores busy. */
void loop_ring(struct loop *loop);

int64_t loop_now_ns(const struct loop *loop); /* monotonic, or what a test says */
void loop_arm(struct loop *loop, struct timer *timer, int64_t wait_ms); /* from now */
void loop_mark_dirty(struct loop *loop, struct list *in_dirty);
struct write_buffer *loop_lend_buffer(struct loop *loop); /* NULL when memory is out */
void loop_return_buffer(struct loop *loop, struct write_buffer *buffer);
void loop_log_uv(const char *event, int uv_error, const char *peer);

#endif
