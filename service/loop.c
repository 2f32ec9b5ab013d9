#include "service/loop.h"

#include "base/log.h"
#include "service/h2_conn.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define SPARE_BUFFERS_MAX 8

int64_t loop_now_ns(const struct loop *loop)
{
    return clock_now(loop->clock);
}

void loop_arm(struct loop *loop, struct timer *timer, int64_t wait_ms)
{
    timers_arm(&loop->timers, timer, loop_now_ns(loop) + wait_ms * NS_PER_MS);
}

static void alarm_rang(uv_timer_t *alarm)
{
    /* the turn that follows fires what is due */
    ((struct loop *)alarm->data)->alarm_ns = INT64_MAX;
}

static void bell_rang(uv_poll_t *bell, int status, int events)
{
    struct loop *loop = bell->data;
    uint64_t n_rings;
    (void)status;
    (void)events;
    if (read(loop->bell_fd, &n_rings, sizeof n_rings) > 0 && loop->on_bell != NULL)
        loop->on_bell(loop);
}

void loop_ring(struct loop *loop)
{
    uint64_t one = 1;
    ssize_t n = write(loop->bell_fd, &one, sizeof one);
    (void)n; /* a full counter has rung already */
}

static void stay_awake(uv_idle_t *busy)
{
    (void)busy;
}

static void set_alarm(struct loop *loop)
{
    int64_t due_ns = timers_next_ns(&loop->timers);
    if (due_ns == loop->alarm_ns)
        return;
    loop->alarm_ns = due_ns;
    if (due_ns == INT64_MAX) {
        uv_timer_stop(&loop->alarm);
        return;
    }
    int64_t wait_ns = due_ns - loop_now_ns(loop);
    uint64_t wait_ms = wait_ns <= 0 ? 0 : (uint64_t)((wait_ns + NS_PER_MS - 1) / NS_PER_MS);
    uv_update_time(&loop->uv);
    uv_timer_start(&loop->alarm, alarm_rang, wait_ms, 0);
}

/* Runs just before the loop sleeps. A connection that has more to write after its share is dirty
 * again and waits for the next turn, which then comes at once. */
static void take_turn(uv_prepare_t *turn)
{
    struct loop *loop = turn->data;
    timers_run(&loop->timers, loop_now_ns(loop));
    struct list now;
    list_init(&now);
    while (!list_is_empty(&loop->dirty)) {
        struct list *node = loop->dirty.next;
        list_unlink(node);
        list_append(&now, node);
    }
    while (!list_is_empty(&now)) {
        struct list *node = now.next;
        list_unlink(node);
        h2_conn_flush(list_entry(node, struct h2_conn, in_dirty));
    }
    if (list_is_empty(&loop->dirty))
        uv_idle_stop(&loop->busy);
    else
        uv_idle_start(&loop->busy, stay_awake);
    set_alarm(loop);
}

int loop_init(struct loop *loop, struct why *why)
{
    *loop = (struct loop){
        .alarm_ns = INT64_MAX, .clock = &clock_monotonic, .unsent_max = UNSENT_BYTES_MAX};
    loop->bell_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (loop->bell_fd < 0)
        return refuse(why, STATUS_IO, "cannot make an event loop: eventfd: %s", strerror(errno));
    int error = uv_loop_init(&loop->uv);
    if (error < 0) {
        close(loop->bell_fd);
        return refuse(why, STATUS_IO, "cannot make an event loop: %s", uv_strerror(error));
    }
    list_init(&loop->connections);
    list_init(&loop->dirty);
    list_init(&loop->works);
    loop->uv.data = loop;
    uv_prepare_init(&loop->uv, &loop->turn);
    uv_idle_init(&loop->uv, &loop->busy);
    uv_timer_init(&loop->uv, &loop->alarm);
    uv_poll_init(&loop->uv, &loop->bell, loop->bell_fd);
    loop->turn.data = loop->alarm.data = loop->bell.data = loop;
    uv_poll_start(&loop->bell, UV_READABLE, bell_rang);
    uv_prepare_start(&loop->turn, take_turn);
    return STATUS_OK;
}

void loop_close(struct loop *loop)
{
    uv_close((uv_handle_t *)&loop->turn, NULL);
    uv_close((uv_handle_t *)&loop->busy, NULL);
    uv_close((uv_handle_t *)&loop->alarm, NULL);
    uv_close((uv_handle_t *)&loop->bell, NULL);
    uv_run(&loop->uv, UV_RUN_DEFAULT);
    int error = uv_loop_close(&loop->uv);
    assert(error == 0); /* a handle that nobody closed */
    (void)error;
    close(loop->bell_fd);
    while (loop->spare != NULL) {
        struct write_buffer *buffer = loop->spare;
        loop->spare = buffer->next;
        free(buffer);
    }
}

void loop_run(struct loop *loop)
{
    uv_run(&loop->uv, UV_RUN_DEFAULT);
}

void loop_end(struct loop *loop)
{
    uv_stop(&loop->uv);
}

void loop_mark_dirty(struct loop *loop, struct list *in_dirty)
{
    if (list_is_empty(in_dirty)) /* unlinked */
        list_append(&loop->dirty, in_dirty);
}

struct write_buffer *loop_lend_buffer(struct loop *loop)
{
    struct write_buffer *buffer = loop->spare;
    if (buffer == NULL) {
        buffer = malloc(sizeof(*buffer));
        if (buffer == NULL)
            return NULL;
    } else {
        loop->spare = buffer->next;
        loop->n_spare--;
    }
    buffer->next = NULL;
    buffer->conn = NULL;
    buffer->used = 0;
    return buffer;
}

void loop_return_buffer(struct loop *loop, struct write_buffer *buffer)
{
    if (loop->n_spare == SPARE_BUFFERS_MAX) {
        free(buffer);
        return;
    }
    buffer->next = loop->spare;
    loop->spare = buffer;
    loop->n_spare++;
}

void loop_log_uv(const char *event, int uv_error, const char *peer)
{
    char quoted[128];
    const char *text = uv_strerror(uv_error);
    log_write(LOG_WARN, event, "peer=%s error=%s", peer,
              log_quote(quoted, sizeof(quoted), text, strlen(text)));
}
