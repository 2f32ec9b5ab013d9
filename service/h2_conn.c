#include "service/h2_conn.h"

#include "base/clock.h"
#include "base/log.h"
#include "service/grpc_call.h"
#include "service/h2_session.h"

#include <arpa/inet.h>
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEEPALIVE_S 60

static const char strayed_text[] =
    "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\nconnection: close\r\n\r\n"
    "This port speaks gRPC: HTTP/2 with prior knowledge. Call it with a gRPC client.\n";

/* --- the end --- */

static void was_closed(uv_handle_t *handle)
{
    struct h2_conn *conn = handle->data;
    struct loop *loop = conn->loop;
    assert(conn->writing == NULL && conn->session == NULL && list_is_empty(&conn->streams));
    list_unlink(&conn->in_loop);
    loop->n_connections--;
    free(conn);
    if (loop->on_departure != NULL)
        loop->on_departure(loop);
}

void h2_conn_close(struct h2_conn *conn)
{
    if (conn->state == H2_CLOSED)
        return;
    conn->state = H2_CLOSED;
    struct timers *timers = &conn->loop->timers;
    timers_disarm(timers, &conn->peer_timer);
    timers_disarm(timers, &conn->write_timer);
    timers_disarm(timers, &conn->close_timer);
    h2_session_close(conn);
    list_unlink(&conn->in_dirty);
    uv_close(&conn->socket.handle, was_closed);
}

static void linger_is_over(struct timer *timer)
{
    h2_conn_close(list_entry(timer, struct h2_conn, close_timer));
}

static void was_shut_down(uv_shutdown_t *request, int status)
{
    struct h2_conn *conn = request->data;
    conn->shutting_down = false;
    if (status < 0)
        h2_conn_close(conn);
}

/* All is said. The peer may still have bytes on the way, and a close now would make the kernel
 * reset the connection, which can take our last words from the peer: send FIN, read and drop for a
 * moment. */
static void start_linger(struct h2_conn *conn)
{
    struct timers *timers = &conn->loop->timers;
    conn->state = H2_LINGER;
    timers_disarm(timers, &conn->peer_timer);
    h2_session_close(conn);
    conn->shutdown.data = conn;
    conn->shutting_down = uv_shutdown(&conn->shutdown, &conn->socket.stream, was_shut_down) == 0;
    if (!conn->shutting_down) {
        h2_conn_close(conn);
        return;
    }
    conn->close_timer.fire = linger_is_over;
    loop_arm(conn->loop, &conn->close_timer, LINGER_MS);
}

/* --- what the peer owes us --- */

static void peer_is_late(struct timer *timer)
{
    struct h2_conn *conn = list_entry(timer, struct h2_conn, peer_timer);
    if (conn->state == H2_PREFACE || conn->header_stream != 0) {
        log_write(LOG_WARN, "peer_late", "peer=%s waiting_for=%s", conn->peer,
                  conn->header_stream != 0 ? "header_block" : "preface");
        h2_conn_close(conn);
        return;
    }
    static const uint8_t reason[] = "max_idle";
    log_write(LOG_DEBUG, "peer_idle", "peer=%s", conn->peer);
    nghttp2_submit_goaway(conn->session, NGHTTP2_FLAG_NONE,
                          nghttp2_session_get_last_proc_stream_id(conn->session),
                          NGHTTP2_NO_ERROR, reason, sizeof(reason) - 1);
    h2_conn_mark_dirty(conn);
}

void h2_conn_watch(struct h2_conn *conn)
{
    struct timers *timers = &conn->loop->timers;
    int64_t wait_ms;
    if (conn->state == H2_PREFACE)
        wait_ms = PREFACE_TIMEOUT_MS;
    else if (conn->header_stream != 0)
        wait_ms = HEADERS_TIMEOUT_MS;
    else if (conn->n_streams == 0)
        wait_ms = IDLE_CONNECTION_MS;
    else {
        timers_disarm(timers, &conn->peer_timer);
        return;
    }
    loop_arm(conn->loop, &conn->peer_timer, wait_ms);
}

/* --- drain --- */

void h2_conn_send_goaway(struct h2_conn *conn)
{
    static const uint8_t reason[] = "the server is shutting down";
    if (conn->goaway_sent || conn->session == NULL)
        return;
    conn->goaway_sent = true;
    timers_disarm(&conn->loop->timers, &conn->close_timer);
    nghttp2_submit_goaway(conn->session, NGHTTP2_FLAG_NONE,
                          nghttp2_session_get_last_proc_stream_id(conn->session),
                          NGHTTP2_NO_ERROR, reason, sizeof(reason) - 1);
    h2_conn_mark_dirty(conn);
}

static void notice_is_over(struct timer *timer)
{
    h2_conn_send_goaway(list_entry(timer, struct h2_conn, close_timer));
}

void h2_conn_drain(struct h2_conn *conn)
{
    if (conn->draining || conn->state >= H2_LINGER)
        return;
    conn->draining = true;
    nghttp2_submit_shutdown_notice(conn->session);
    nghttp2_submit_ping(conn->session, NGHTTP2_FLAG_NONE, NULL);
    conn->close_timer.fire = notice_is_over;
    loop_arm(conn->loop, &conn->close_timer, GOAWAY_NOTICE_MS);
    h2_conn_mark_dirty(conn);
}

/* --- writing --- */

void h2_conn_mark_dirty(struct h2_conn *conn)
{
    if (conn->state < H2_LINGER)
        loop_mark_dirty(conn->loop, &conn->in_dirty);
}

static void was_written(uv_write_t *request, int status)
{
    struct write_buffer *buffer = request->data;
    struct h2_conn *conn = buffer->conn;
    assert(conn->writing == buffer);
    conn->writing = NULL;
    loop_return_buffer(conn->loop, buffer);
    timers_disarm(&conn->loop->timers, &conn->write_timer);
    if (status < 0)
        h2_conn_close(conn);
    h2_conn_mark_dirty(conn);
}

static void write_is_stuck(struct timer *timer)
{
    struct h2_conn *conn = list_entry(timer, struct h2_conn, write_timer);
    size_t left = uv_stream_get_write_queue_size(&conn->socket.stream);
    if (left >= conn->write_left) {
        log_write(LOG_WARN, "reader_stuck", "peer=%s unread_bytes=%zu", conn->peer, left);
        h2_conn_close(conn);
        return;
    }
    conn->write_left = left;
    loop_arm(conn->loop, timer, conn->loop->paused_ms);
}

/* Writes what the kernel takes now and leaves the rest in flight. False: the connection is gone. */
static bool write_out(struct h2_conn *conn, struct write_buffer *buffer)
{
    uv_buf_t all = uv_buf_init((char *)buffer->bytes, (unsigned)buffer->used);
    int n = uv_try_write(&conn->socket.stream, &all, 1);
    if (n == UV_EAGAIN)
        n = 0;
    if (n == (int)buffer->used) {
        loop_return_buffer(conn->loop, buffer);
        return true;
    }
    uv_buf_t rest = uv_buf_init((char *)buffer->bytes + (n < 0 ? 0 : n),
                                (unsigned)(buffer->used - (size_t)(n < 0 ? 0 : n)));
    buffer->conn = conn;
    buffer->request.data = buffer;
    if (n < 0 || uv_write(&buffer->request, &conn->socket.stream, &rest, 1, was_written) < 0) {
        loop_return_buffer(conn->loop, buffer);
        return false;
    }
    conn->writing = buffer;
    conn->write_left = rest.len;
    loop_arm(conn->loop, &conn->write_timer, conn->loop->paused_ms);
    return true;
}

/* Pulls frames and writes them until there are none, a write stays in flight, or the share of this
 * turn is used. */
static bool pull_frames(struct h2_conn *conn)
{
    size_t written = 0;
    while (conn->writing == NULL && nghttp2_session_want_write(conn->session)) {
        if (written >= READ_TURN_BYTES) {
            h2_conn_mark_dirty(conn);
            break;
        }
        struct write_buffer *buffer = loop_lend_buffer(conn->loop);
        if (buffer == NULL)
            return false;
        int status = h2_session_send(conn, buffer);
        if (status < 0 || buffer->used == 0) {
            loop_return_buffer(conn->loop, buffer);
            if (status < 0)
                return false;
            break;
        }
        written += buffer->used;
        if (!write_out(conn, buffer))
            return false;
    }
    return true;
}

static void alloc_read(uv_handle_t *handle, size_t suggested, uv_buf_t *out)
{
    struct h2_conn *conn = handle->data;
    (void)suggested;
    *out = uv_buf_init((char *)conn->loop->read_buffer, sizeof(conn->loop->read_buffer));
}

static void was_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf);

/* A peer that makes us queue frames without reading them is not read from either; a blocked write
 * alone is no reason, since both ends could then wait for each other. */
static void steer_reading(struct h2_conn *conn)
{
    bool crowded =
        nghttp2_session_get_outbound_queue_size(conn->session) > OUTBOUND_QUEUE_FRAMES_MAX;
    conn->read_bytes = 0;
    if (crowded && conn->reading) {
        uv_read_stop(&conn->socket.stream);
        conn->reading = false;
    } else if (!crowded && !conn->reading) {
        conn->reading = uv_read_start(&conn->socket.stream, alloc_read, was_read) == 0;
        if (!conn->reading)
            h2_conn_close(conn);
    }
}

void h2_conn_flush(struct h2_conn *conn)
{
    if (conn->state >= H2_LINGER)
        return;
    if (!pull_frames(conn)) {
        h2_conn_close(conn);
        return;
    }
    grpc_call_tell_drained(conn); /* may send more: the connection is then dirty again */
    if (conn->state >= H2_LINGER)
        return;
    if (conn->writing == NULL && h2_session_has_ended(conn)) {
        start_linger(conn);
        return;
    }
    steer_reading(conn);
}

/* --- reading --- */

/* A request line of HTTP/1, as far as the first read shows it. */
static bool looks_like_http1(struct slice bytes)
{
    static const char version[] = " HTTP/1.";
    const uint8_t *end = memchr(bytes.bytes, '\n', bytes.len);
    size_t len = end == NULL ? bytes.len : (size_t)(end - bytes.bytes);
    return memmem(bytes.bytes, len, version, sizeof version - 1) != NULL;
}

/* A human with a browser or curl deserves a sentence; noise gets none. */
static void answer_stranger(struct h2_conn *conn, struct slice bytes)
{
    bool looks_like_http = looks_like_http1(bytes);
    log_write(LOG_INFO, "not_http2", "peer=%s kind=%s", conn->peer,
              looks_like_http             ? "http1"
              : bytes.bytes[0] == 0x16 ? "tls"
                                         : "noise");
    if (!looks_like_http || conn->writing != NULL) {
        h2_conn_close(conn);
        return;
    }
    uv_buf_t text = uv_buf_init((char *)strayed_text, sizeof(strayed_text) - 1);
    uv_try_write(&conn->socket.stream, &text, 1);
    start_linger(conn);
}

static void was_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct h2_conn *conn = stream->data;
    if (n == 0)
        return;
    if (n < 0) {
        h2_conn_close(conn);
        return;
    }
    if (conn->state >= H2_LINGER)
        return;
    int status = h2_session_receive(conn, slice_of(buf->base, (size_t)n));
    if (status == STATUS_UNSUPPORTED) {
        answer_stranger(conn, slice_of(buf->base, (size_t)n));
        return;
    }
    if (status < 0) {
        h2_conn_close(conn);
        return;
    }
    conn->read_bytes += (size_t)n;
    if (conn->read_bytes >= READ_TURN_BYTES && conn->reading) {
        uv_read_stop(stream); /* others have their turn; the flush starts it again */
        conn->reading = false;
    }
    h2_conn_mark_dirty(conn);
}

/* --- the beginning --- */

static void name_peer(struct h2_conn *conn)
{
    struct sockaddr_storage address;
    int n = sizeof(address);
    char host[INET6_ADDRSTRLEN] = "?";
    snprintf(conn->peer, sizeof(conn->peer), "unix");
    if (conn->socket.handle.type != UV_TCP)
        return;
    if (uv_tcp_getpeername(&conn->socket.tcp, (struct sockaddr *)&address, &n) < 0)
        snprintf(conn->peer, sizeof(conn->peer), "gone");
    else if (address.ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&address;
        uv_ip6_name(in6, host, sizeof(host));
        snprintf(conn->peer, sizeof(conn->peer), "[%s]:%u", host, ntohs(in6->sin6_port));
    } else {
        const struct sockaddr_in *in4 = (const struct sockaddr_in *)&address;
        uv_ip4_name(in4, host, sizeof(host));
        snprintf(conn->peer, sizeof(conn->peer), "%s:%u", host, ntohs(in4->sin_port));
    }
}

static struct h2_conn *make_conn(struct loop *loop, bool is_tcp)
{
    struct h2_conn *conn = calloc(1, sizeof(*conn));
    if (conn == NULL)
        return NULL;
    conn->loop = loop;
    list_init(&conn->in_loop);
    list_init(&conn->in_dirty);
    list_init(&conn->streams);
    list_init(&conn->drained);
    conn->peer_timer.fire = peer_is_late;
    conn->write_timer.fire = write_is_stuck;
    conn->close_timer.fire = linger_is_over;
    if (is_tcp)
        uv_tcp_init(&loop->uv, &conn->socket.tcp);
    else
        uv_pipe_init(&loop->uv, &conn->socket.pipe, 0);
    conn->socket.handle.data = conn;
    list_append(&loop->connections, &conn->in_loop);
    loop->n_connections++;
    return conn;
}

int h2_conn_accept(struct loop *loop, uv_stream_t *listener)
{
    bool is_tcp = listener->type == UV_TCP;
    struct h2_conn *conn = make_conn(loop, is_tcp);
    if (conn == NULL)
        return UV_ENOMEM;
    int error = uv_accept(listener, &conn->socket.stream);
    if (error == 0 && h2_session_open(conn) < 0)
        error = UV_ENOMEM;
    if (error == 0)
        error = uv_read_start(&conn->socket.stream, alloc_read, was_read);
    if (error < 0) {
        h2_conn_close(conn);
        return error;
    }
    conn->reading = true;
    if (is_tcp) {
        uv_tcp_nodelay(&conn->socket.tcp, 1);
        uv_tcp_keepalive(&conn->socket.tcp, 1, KEEPALIVE_S);
    }
    name_peer(conn);
    log_write(LOG_DEBUG, "connected", "peer=%s connections=%u", conn->peer, loop->n_connections);
    h2_conn_watch(conn); /* our SETTINGS wait for its first bytes: a stranger gets plain text */
    return 0;
}
