#include "service/h2_session.h"

#include "base/clock.h"
#include "base/log.h"
#include "service/grpc_call.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK_HEAD 16 /* in front of each block: its size; keeps the alignment of malloc */

/* --- the library's memory, counted and capped for each connection --- */

static void *count_malloc(size_t size, void *arg)
{
    struct h2_conn *conn = arg;
    if (conn->session_bytes + size > SESSION_BYTES_MAX)
        return NULL;
    uint8_t *block = malloc(BLOCK_HEAD + size);
    if (block == NULL)
        return NULL;
    memcpy(block, &size, sizeof(size));
    conn->session_bytes += BLOCK_HEAD + size;
    conn->loop->session_bytes += BLOCK_HEAD + size;
    return block + BLOCK_HEAD;
}

static void count_free(void *at, void *arg)
{
    struct h2_conn *conn = arg;
    if (at == NULL)
        return;
    uint8_t *block = (uint8_t *)at - BLOCK_HEAD;
    size_t size;
    memcpy(&size, block, sizeof(size));
    conn->session_bytes -= BLOCK_HEAD + size;
    conn->loop->session_bytes -= BLOCK_HEAD + size;
    free(block);
}

static void *count_calloc(size_t n, size_t size, void *arg)
{
    size_t bytes;
    if (__builtin_mul_overflow(n, size, &bytes))
        return NULL;
    void *at = count_malloc(bytes, arg);
    if (at != NULL)
        memset(at, 0, bytes);
    return at;
}

static void *count_realloc(void *at, size_t size, void *arg)
{
    if (at == NULL)
        return count_malloc(size, arg);
    size_t old;
    memcpy(&old, (uint8_t *)at - BLOCK_HEAD, sizeof(old));
    void *grown = count_malloc(size, arg);
    if (grown == NULL)
        return NULL;
    memcpy(grown, at, old < size ? old : size);
    count_free(at, arg);
    return grown;
}

/* --- abuse --- */

static void end_session(struct h2_conn *conn, uint32_t error_code, const char *reason)
{
    log_write(LOG_WARN, "peer_abuse", "peer=%s reason=%s", conn->peer, reason);
    nghttp2_submit_goaway(conn->session, NGHTTP2_FLAG_NONE,
                          nghttp2_session_get_last_proc_stream_id(conn->session), error_code,
                          (const uint8_t *)reason, strlen(reason));
    nghttp2_session_terminate_session(conn->session, error_code);
}

static void count_ping(struct h2_conn *conn)
{
    int64_t now_ns = loop_now_ns(conn->loop);
    int64_t allowed_ms = conn->n_streams > 0 ? PINGS_IDLE_MS : PINGS_NO_CALLS_MS;
    bool too_soon =
        conn->last_ping_ns != 0 && now_ns - conn->last_ping_ns < allowed_ms * NS_PER_MS;
    conn->last_ping_ns = now_ns;
    if (too_soon && ++conn->ping_strikes > PING_STRIKES_MAX)
        end_session(conn, NGHTTP2_ENHANCE_YOUR_CALM, "too_many_pings");
}

/* A peer that makes us reset streams costs us work and itself nothing. */
static void count_reset(struct h2_conn *conn, uint32_t error_code)
{
    if (error_code == NGHTTP2_NO_ERROR || error_code == NGHTTP2_CANCEL ||
        error_code == NGHTTP2_REFUSED_STREAM)
        return;
    int64_t now_ns = loop_now_ns(conn->loop);
    if (now_ns - conn->resets_ns > 60 * NS_PER_S) {
        conn->resets_ns = now_ns;
        conn->n_resets = 0;
    }
    if (++conn->n_resets == RESETS_SENT_PER_MINUTE_MAX + 1)
        end_session(conn, NGHTTP2_ENHANCE_YOUR_CALM, "too_many_resets");
}

/* --- callbacks: reading --- */

static struct grpc_call *call_of(nghttp2_session *session, int32_t stream_id)
{
    return nghttp2_session_get_stream_user_data(session, stream_id);
}

static void remember_ended(struct h2_conn *conn, int32_t stream_id)
{
    conn->ended[conn->n_ended++ % ENDED_STREAMS] = stream_id;
}

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct h2_conn *conn = user;
    conn->header_stream = frame->hd.stream_id;
    h2_conn_watch(conn);
    if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST)
        return 0;
    int32_t stream_id = frame->hd.stream_id;
    struct grpc_call *call =
        conn->loop->n_streams < STREAMS_MAX ? grpc_call_create(conn, stream_id) : NULL;
    if (call == NULL) { /* nothing was processed: the client may try elsewhere */
        nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, stream_id, NGHTTP2_REFUSED_STREAM);
        return 0;
    }
    nghttp2_session_set_stream_user_data(session, stream_id, call);
    return 0;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
                     void *user)
{
    (void)flags, (void)user;
    struct grpc_call *call = call_of(session, frame->hd.stream_id);
    if (call != NULL && frame->headers.cat == NGHTTP2_HCAT_REQUEST)
        grpc_call_take_header(call, slice_of(name, name_len), slice_of(value, value_len));
    return 0;
}

/* Frames that carry nothing and end nothing are free for the peer and not for us. */
static void count_empty_frame(struct h2_conn *conn, struct grpc_call *call,
                              const nghttp2_frame *frame)
{
    if (frame->hd.length > frame->data.padlen || frame->hd.flags & NGHTTP2_FLAG_END_STREAM)
        return;
    if (call != NULL && ++call->n_empty_frames == EMPTY_DATA_FRAMES_MAX + 1) {
        log_write(LOG_WARN, "peer_abuse", "peer=%s reason=empty_frames", conn->peer);
        nghttp2_submit_rst_stream(conn->session, NGHTTP2_FLAG_NONE, frame->hd.stream_id,
                                  NGHTTP2_ENHANCE_YOUR_CALM);
    }
}

static int on_frame_recv(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct h2_conn *conn = user;
    struct grpc_call *call =
        frame->hd.stream_id == 0 ? NULL : call_of(session, frame->hd.stream_id);
    bool ends = frame->hd.flags & NGHTTP2_FLAG_END_STREAM;
    switch (frame->hd.type) {
    case NGHTTP2_SETTINGS:
        if (conn->state == H2_PREFACE) {
            conn->state = H2_OPEN;
            h2_conn_watch(conn);
        }
        break;
    case NGHTTP2_HEADERS:
        conn->header_stream = 0;
        h2_conn_watch(conn);
        if (call != NULL && frame->headers.cat == NGHTTP2_HCAT_REQUEST)
            grpc_call_begin(call, ends);
        else if (call != NULL && ends)
            grpc_call_end_request(call);
        break;
    case NGHTTP2_DATA:
        count_empty_frame(conn, call, frame);
        if (call != NULL && ends)
            grpc_call_end_request(call);
        break;
    case NGHTTP2_PING:
        if (!(frame->hd.flags & NGHTTP2_FLAG_ACK))
            count_ping(conn);
        else if (conn->draining)
            h2_conn_send_goaway(conn);
        break;
    case NGHTTP2_RST_STREAM:
        remember_ended(conn, frame->hd.stream_id);
        break;
    default:
        break;
    }
    return 0;
}

static int on_data_chunk(nghttp2_session *session, uint8_t flags, int32_t stream_id,
                         const uint8_t *bytes, size_t len, void *user)
{
    (void)flags, (void)user;
    struct grpc_call *call = call_of(session, stream_id);
    nghttp2_session_consume_connection(session, len); /* one slow call must not block the others */
    if (call != NULL)
        grpc_call_take_body(call, slice_of(bytes, len));
    else
        nghttp2_session_consume_stream(session, stream_id, len);
    return 0;
}

static int on_invalid_frame(nghttp2_session *session, const nghttp2_frame *frame, int lib_error,
                            void *user)
{
    (void)session;
    const struct h2_conn *conn = user;
    /* grpc-go ends with a GOAWAY that the library takes for one of these: no reason for alarm */
    log_write(LOG_DEBUG, "invalid_frame", "peer=%s type=%u stream=%d error=%d", conn->peer,
              frame->hd.type, frame->hd.stream_id, lib_error);
    return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t stream_id, uint32_t error_code,
                           void *user)
{
    struct h2_conn *conn = user;
    struct grpc_call *call = call_of(session, stream_id);
    if (conn->header_stream == stream_id)
        conn->header_stream = 0;
    if (nghttp2_session_get_stream_remote_close(session, stream_id) == 1)
        remember_ended(conn, stream_id);
    if (call != NULL) {
        nghttp2_session_set_stream_user_data(session, stream_id, NULL);
        grpc_call_close(call, error_code);
    }
    h2_conn_watch(conn);
    return 0;
}

/* --- callbacks: writing --- */

static int on_frame_send(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct h2_conn *conn = user;
    int32_t stream_id = frame->hd.stream_id;
    switch (frame->hd.type) {
    case NGHTTP2_RST_STREAM:
        count_reset(conn, frame->rst_stream.error_code);
        break;
    case NGHTTP2_HEADERS:
    case NGHTTP2_DATA:
        conn->ping_strikes = 0;
        conn->last_ping_ns = 0;
        /* An early end: without the reset the stream stays open until the client ends its upload.
         * */
        if (frame->hd.flags & NGHTTP2_FLAG_END_STREAM &&
            nghttp2_session_get_stream_remote_close(session, stream_id) == 0)
            nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, stream_id, NGHTTP2_NO_ERROR);
        break;
    default:
        break;
    }
    return 0;
}

/* --- the session --- */

static int make_rules(nghttp2_session_callbacks **callbacks, nghttp2_option **options)
{
    if (nghttp2_session_callbacks_new(callbacks) != 0)
        return STATUS_NO_MEMORY;
    if (nghttp2_option_new(options) != 0) {
        nghttp2_session_callbacks_del(*callbacks);
        return STATUS_NO_MEMORY;
    }
    nghttp2_session_callbacks_set_on_begin_headers_callback(*callbacks, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(*callbacks, on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(*callbacks, on_frame_recv);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(*callbacks, on_data_chunk);
    nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(*callbacks, on_invalid_frame);
    nghttp2_session_callbacks_set_on_stream_close_callback(*callbacks, on_stream_close);
    nghttp2_session_callbacks_set_on_frame_send_callback(*callbacks, on_frame_send);
    nghttp2_option_set_no_auto_window_update(*options, 1);
    nghttp2_option_set_no_closed_streams(*options, 1);
    nghttp2_option_set_max_outbound_ack(*options, OUTBOUND_ACKS_MAX);
    nghttp2_option_set_max_settings(*options, SETTINGS_ENTRIES_MAX);
    nghttp2_option_set_stream_reset_rate_limit(*options, RESETS_RECEIVED_BURST,
                                               RESETS_RECEIVED_PER_S);
    nghttp2_option_set_max_continuations(*options, CONTINUATIONS_MAX);
    return STATUS_OK;
}

int h2_session_open(struct h2_conn *conn)
{
    static const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_HEADER_TABLE_SIZE, 4096},
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, STREAMS_PER_CONNECTION},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, STREAM_WINDOW_BYTES},
        {NGHTTP2_SETTINGS_MAX_FRAME_SIZE, 16384},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, METADATA_BYTES_MAX},
        {NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1},
    };
    nghttp2_session_callbacks *callbacks;
    nghttp2_option *options;
    if (make_rules(&callbacks, &options) < 0)
        return STATUS_NO_MEMORY;
    nghttp2_mem mem = {conn, count_malloc, count_free, count_calloc, count_realloc};
    nghttp2_session *session;
    int error = nghttp2_session_server_new3(&session, callbacks, conn, options, &mem);
    nghttp2_session_callbacks_del(callbacks);
    nghttp2_option_del(options);
    if (error != 0)
        return STATUS_NO_MEMORY;
    conn->session = session;
    conn->piece_left = NGHTTP2_CLIENT_MAGIC_LEN;
    error = nghttp2_submit_settings(session, NGHTTP2_FLAG_NONE, settings,
                                    sizeof(settings) / sizeof(settings[0]));
    if (error == 0)
        error = nghttp2_session_set_local_window_size(session, NGHTTP2_FLAG_NONE, 0,
                                                      CONNECTION_WINDOW_BYTES);
    return error == 0 ? STATUS_OK : STATUS_NO_MEMORY;
}

void h2_session_close(struct h2_conn *conn)
{
    if (conn->session == NULL)
        return;
    /* The library frees its streams without a word to us. */
    while (!list_is_empty(&conn->streams)) {
        struct grpc_call *call = list_entry(conn->streams.next, struct grpc_call, in_conn);
        grpc_call_close(call, NGHTTP2_CANCEL);
    }
    nghttp2_session_del(conn->session);
    conn->session = NULL;
    assert(conn->session_bytes == 0);
}

/* --- bytes in --- */

static bool has_ended(const struct h2_conn *conn, int32_t stream_id)
{
    for (int i = 0; i < ENDED_STREAMS; i++)
        if (conn->ended[i] == stream_id)
            return true;
    return false;
}

/* What the library lets pass, since it keeps no closed streams and looks at no priorities: the
 * error of a frame by its header. On a stream that we ended alone frames may still arrive.
 */
static uint32_t judge_frame(const struct h2_conn *conn)
{
    const uint8_t *head = conn->frame_head;
    uint8_t type = head[3];
    int32_t stream_id = (int32_t)((uint32_t)(head[5] & 0x7F) << 24 | (uint32_t)head[6] << 16 |
                                  (uint32_t)head[7] << 8 | head[8]);
    if (type == NGHTTP2_PRIORITY && stream_id == 0)
        return NGHTTP2_PROTOCOL_ERROR;
    if ((type == NGHTTP2_HEADERS || type == NGHTTP2_DATA) && stream_id != 0 &&
        has_ended(conn, stream_id))
        return NGHTTP2_STREAM_CLOSED;
    return NGHTTP2_NO_ERROR;
}

/* Bytes up to the end of the preface, of a frame's header, or of its payload. */
static size_t next_piece(struct h2_conn *conn, struct slice bytes, uint32_t *error_code)
{
    if (conn->piece_left == 0) { /* a header */
        size_t n = FRAME_HEAD_BYTES - conn->n_head;
        if (n > bytes.len)
            n = bytes.len;
        memcpy(conn->frame_head + conn->n_head, bytes.bytes, n);
        conn->n_head += (uint32_t)n;
        if (conn->n_head == FRAME_HEAD_BYTES) {
            const uint8_t *head = conn->frame_head;
            conn->piece_left = (uint32_t)head[0] << 16 | (uint32_t)head[1] << 8 | head[2];
            conn->n_head = 0;
            *error_code = judge_frame(conn);
        }
        return n;
    }
    size_t n = conn->piece_left < bytes.len ? conn->piece_left : bytes.len;
    conn->piece_left -= (uint32_t)n;
    return n;
}

int h2_session_receive(struct h2_conn *conn, struct slice bytes)
{
    while (bytes.len > 0) {
        uint32_t error_code = NGHTTP2_NO_ERROR;
        size_t n = next_piece(conn, bytes, &error_code);
        if (error_code != NGHTTP2_NO_ERROR) {
            log_write(LOG_DEBUG, "invalid_frame", "peer=%s type=%u http2_error=%u", conn->peer,
                      conn->frame_head[3], error_code);
            nghttp2_session_terminate_session(conn->session, error_code);
            return STATUS_OK; /* what follows is of no interest */
        }
        ssize_t taken = nghttp2_session_mem_recv(conn->session, bytes.bytes, n);
        if (taken == NGHTTP2_ERR_BAD_CLIENT_MAGIC)
            return STATUS_UNSUPPORTED;
        if (taken < 0) {
            log_write(taken == NGHTTP2_ERR_NOMEM ? LOG_ERROR : LOG_WARN, "peer_abuse",
                      "peer=%s reason=\"%s\"", conn->peer, nghttp2_strerror((int)taken));
            return STATUS_INVALID;
        }
        bytes = slice_of(bytes.bytes + n, bytes.len - n); /* an error of the peer queues a GOAWAY */
    }
    return STATUS_OK;
}

int h2_session_send(struct h2_conn *conn, struct write_buffer *buffer)
{
    const size_t frame_max = 16384 + 9;
    while (buffer->used + frame_max <= sizeof(buffer->bytes)) {
        const uint8_t *bytes;
        ssize_t n = nghttp2_session_mem_send(conn->session, &bytes);
        if (n < 0)
            return STATUS_IO;
        if (n == 0)
            return STATUS_OK;
        assert((size_t)n <= frame_max);
        memcpy(buffer->bytes + buffer->used, bytes, (size_t)n);
        buffer->used += (size_t)n;
    }
    return STATUS_OK;
}

bool h2_session_has_ended(const struct h2_conn *conn)
{
    return !nghttp2_session_want_read(conn->session) && !nghttp2_session_want_write(conn->session);
}
