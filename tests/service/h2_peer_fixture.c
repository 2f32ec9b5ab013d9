#include "h2_peer_fixture.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define PATIENCE_MS 10000
#define TURN_MS 20

/* --- callbacks --- */

static struct peer_stream *stream_of(nghttp2_session *session, int32_t id)
{
    return nghttp2_session_get_stream_user_data(session, id);
}

static void keep_text(char *out, size_t cap, const uint8_t *value, size_t len)
{
    assert(len < cap);
    memcpy(out, value, len);
    out[len] = '\0';
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
                     void *user)
{
    struct peer_stream *s = stream_of(session, frame->hd.stream_id);
    struct slice n = slice_of(name, name_len);
    (void)flags, (void)user;
    if (s == NULL)
        return 0;
    if (slice_equal(n, slice_from(":status")))
        s->http_status = atoi((const char *)value);
    else if (slice_equal(n, slice_from("grpc-status")))
        s->grpc_status = atoi((const char *)value);
    else if (slice_equal(n, slice_from("content-type")))
        keep_text(s->content_type, sizeof(s->content_type), value, value_len);
    else if (slice_equal(n, slice_from("grpc-message")))
        keep_text(s->grpc_message, sizeof(s->grpc_message), value, value_len);
    else if (slice_equal(n, slice_from("grpc-status-details-bin")))
        keep_text(s->details, sizeof(s->details), value, value_len);
    else if (slice_equal(n, slice_from("x-request-id")))
        keep_text(s->request_id, sizeof(s->request_id), value, value_len);
    else if (slice_equal(n, slice_from("grpc-accept-encoding")))
        keep_text(s->accept_encoding, sizeof(s->accept_encoding), value, value_len);
    else if (slice_equal(n, slice_from("allow")))
        keep_text(s->allow, sizeof(s->allow), value, value_len);
    return 0;
}

static int on_frame_recv(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct h2_peer *peer = user;
    bool ends = frame->hd.flags & NGHTTP2_FLAG_END_STREAM;
    struct peer_stream *s =
        frame->hd.stream_id == 0 ? NULL : stream_of(session, frame->hd.stream_id);
    switch (frame->hd.type) {
    case NGHTTP2_HEADERS:
        if (s == NULL)
            break;
        s->n_header_blocks++;
        s->trailers_only = s->n_header_blocks == 1 && ends;
        s->remote_ended |= ends;
        break;
    case NGHTTP2_DATA:
        if (s != NULL)
            s->remote_ended |= ends;
        if (peer->n_data_frames < 4096)
            peer->data_order[peer->n_data_frames++] = frame->hd.stream_id;
        break;
    case NGHTTP2_GOAWAY: {
        size_t n = frame->goaway.opaque_data_len;
        peer->got_goaway = true;
        peer->n_goaways++;
        peer->goaway_code = frame->goaway.error_code;
        peer->goaway_last_id = frame->goaway.last_stream_id;
        if (n > 0 && n < sizeof(peer->goaway_text))
            keep_text(peer->goaway_text, sizeof(peer->goaway_text), frame->goaway.opaque_data, n);
        break;
    }
    case NGHTTP2_PING:
        peer->n_pings_acked += frame->hd.flags & NGHTTP2_FLAG_ACK ? 1 : 0;
        break;
    default:
        break;
    }
    return 0;
}

static int on_chunk(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *bytes,
                    size_t len, void *user)
{
    struct h2_peer *peer = user;
    struct peer_stream *s = stream_of(session, id);
    (void)flags;
    if (s == NULL)
        return 0;
    s->body = realloc(s->body, s->n_body + len + 1);
    assert(s->body != NULL);
    memcpy(s->body + s->n_body, bytes, len);
    s->n_body += len;
    if (!peer->keep_windows)
        nghttp2_session_consume(session, id, len);
    return 0;
}

static int on_close(nghttp2_session *session, int32_t id, uint32_t error_code, void *user)
{
    struct peer_stream *s = stream_of(session, id);
    (void)user;
    if (s != NULL) {
        s->closed = true;
        s->error_code = error_code;
    }
    return 0;
}

static ssize_t pull_upload(nghttp2_session *session, int32_t id, uint8_t *buf, size_t max,
                           uint32_t *flags, nghttp2_data_source *source, void *user)
{
    struct peer_stream *s = source->ptr;
    (void)session, (void)id, (void)user;
    size_t n = s->n_upload - s->upload_at;
    if (n > max)
        n = max;
    if (n == 0 && !s->upload_ends)
        return NGHTTP2_ERR_DEFERRED;
    if (n != 0)
        memcpy(buf, s->upload + s->upload_at, n);
    s->upload_at += n;
    if (s->upload_at == s->n_upload && s->upload_ends)
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    return (ssize_t)n;
}

/* --- the connection --- */

int peer_connect(const char *address)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    struct sockaddr_in in = {.sin_family = AF_INET};
    const struct sockaddr *to = (const struct sockaddr *)&in;
    socklen_t n = sizeof(in);
    if (strncmp(address, "unix:", 5) == 0) {
        snprintf(un.sun_path, sizeof(un.sun_path), "%s", address + 5);
        to = (const struct sockaddr *)&un;
        n = sizeof(un);
    } else {
        const char *colon = strrchr(address, ':');
        char host[64] = "";
        memcpy(host, address, (size_t)(colon - address));
        assert(inet_pton(AF_INET, host, &in.sin_addr) == 1);
        in.sin_port = htons((uint16_t)atoi(colon + 1));
    }
    int fd = socket(to->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert(fd >= 0);
    if (connect(fd, to, n) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

void peer_open(struct h2_peer *peer, const char *address, const struct peer_options *options)
{
    memset(peer, 0, sizeof(*peer));
    peer->fd = peer_connect(address);
    assert(peer->fd >= 0);
    peer->keep_windows = options != NULL && options->keep_windows;
    nghttp2_session_callbacks *callbacks;
    nghttp2_option *option;
    nghttp2_session_callbacks_new(&callbacks);
    nghttp2_option_new(&option);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame_recv);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_chunk);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_close);
    nghttp2_option_set_no_auto_window_update(option, 1);
    nghttp2_option_set_peer_max_concurrent_streams(option, 100000);
    assert(nghttp2_session_client_new2(&peer->session, callbacks, peer, option) == 0);
    nghttp2_session_callbacks_del(callbacks);
    nghttp2_option_del(option);
    nghttp2_settings_entry window = {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE,
                                     options == NULL ? 0 : options->window};
    nghttp2_submit_settings(peer->session, 0, &window, window.value == 0 ? 0 : 1);
}

void peer_close(struct h2_peer *peer)
{
    close(peer->fd);
    nghttp2_session_del(peer->session);
    for (int i = 0; i < peer->n_streams; i++) {
        free(peer->streams[i]->body);
        free(peer->streams[i]->upload);
        free(peer->streams[i]);
    }
}

static void write_queued(struct h2_peer *peer)
{
    const uint8_t *bytes;
    ssize_t n;
    while ((n = nghttp2_session_mem_send(peer->session, &bytes)) > 0)
        if (!peer->closed && !peer_raw_send(peer->fd, bytes, (size_t)n))
            peer->closed = true;
}

bool peer_turn(struct h2_peer *peer, int timeout_ms)
{
    static uint8_t buf[1 << 16];
    write_queued(peer);
    struct pollfd wait = {.fd = peer->fd, .events = POLLIN};
    if (peer->closed || poll(&wait, 1, timeout_ms) <= 0)
        return false;
    ssize_t n = recv(peer->fd, buf, sizeof(buf), 0);
    if (n <= 0)
        peer->closed = true;
    else
        nghttp2_session_mem_recv(peer->session, buf, (size_t)n);
    write_queued(peer);
    return n > 0;
}

/* --- requests --- */

static nghttp2_nv field(const char *name, const char *value)
{
    return (nghttp2_nv){(uint8_t *)name, (uint8_t *)value, strlen(name), strlen(value), 0};
}

static struct peer_stream *submit(struct h2_peer *peer, const nghttp2_nv *rows, size_t n, bool ends)
{
    struct peer_stream *s = calloc(1, sizeof(*s));
    assert(s != NULL && peer->n_streams < PEER_STREAMS_MAX);
    nghttp2_data_provider provider = {.source = {.ptr = s}, .read_callback = pull_upload};
    s->peer = peer;
    s->grpc_status = -1;
    s->id = nghttp2_submit_request(peer->session, NULL, rows, n, ends ? NULL : &provider, s);
    assert(s->id > 0);
    peer->streams[peer->n_streams++] = s;
    return s;
}

struct peer_stream *peer_request(struct h2_peer *peer, const char *path, bool ends,
                                 const char *const *extra)
{
    nghttp2_nv rows[200];
    size_t n = 0;
    rows[n++] = field(":method", "POST");
    rows[n++] = field(":scheme", "http");
    rows[n++] = field(":path", path);
    rows[n++] = field(":authority", "localhost");
    rows[n++] = field("te", "trailers");
    rows[n++] = field("content-type", "application/grpc");
    rows[n++] = field("user-agent", "peer-fixture/1");
    for (size_t i = 0; extra != NULL && extra[i] != NULL; i += 2) {
        assert(n < 200);
        rows[n++] = field(extra[i], extra[i + 1]);
    }
    return submit(peer, rows, n, ends);
}

struct peer_stream *peer_request_plain(struct h2_peer *peer, const char *const *headers, bool ends)
{
    nghttp2_nv rows[32];
    size_t n = 0;
    for (size_t i = 0; headers[i] != NULL; i += 2)
        rows[n++] = field(headers[i], headers[i + 1]);
    return submit(peer, rows, n, ends);
}

void peer_send(struct peer_stream *stream, const void *bytes, size_t len, bool ends)
{
    stream->upload = realloc(stream->upload, stream->n_upload + len + 1);
    assert(stream->upload != NULL);
    if (len != 0)
        memcpy(stream->upload + stream->n_upload, bytes, len);
    stream->n_upload += len;
    stream->upload_ends |= ends;
    nghttp2_session_resume_data(stream->peer->session, stream->id);
}

void peer_send_message(struct peer_stream *stream, const void *bytes, size_t len, bool ends)
{
    uint8_t prefix[5] = {0, (uint8_t)(len >> 24), (uint8_t)(len >> 16), (uint8_t)(len >> 8),
                         (uint8_t)len};
    peer_send(stream, prefix, 5, false);
    peer_send(stream, bytes, len, ends);
}

void peer_reset(struct peer_stream *stream, uint32_t error_code)
{
    nghttp2_submit_rst_stream(stream->peer->session, 0, stream->id, error_code);
}

void peer_consume(struct peer_stream *stream, size_t n)
{
    nghttp2_session_consume(stream->peer->session, stream->id, n);
}

/* --- waiting --- */

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

#define UNTIL(peer, condition)                                                                     \
    do {                                                                                           \
        int64_t end_ms = now_ms() + PATIENCE_MS;                                                   \
        while (!(condition) && !(peer)->closed && now_ms() < end_ms)                               \
            peer_turn(peer, TURN_MS);                                                              \
        return condition;                                                                          \
    } while (0)

bool peer_until_closed(struct peer_stream *stream)
{
    UNTIL(stream->peer, stream->closed);
}

static bool all_closed(const struct h2_peer *peer)
{
    for (int i = 0; i < peer->n_streams; i++)
        if (!peer->streams[i]->closed)
            return false;
    return true;
}

bool peer_until_all_closed(struct h2_peer *peer)
{
    UNTIL(peer, all_closed(peer));
}

bool peer_until_body(struct peer_stream *stream, size_t n)
{
    UNTIL(stream->peer, stream->n_body >= n);
}

bool peer_until_status(struct peer_stream *stream)
{
    UNTIL(stream->peer, stream->n_header_blocks > 0);
}

bool peer_until_end(struct h2_peer *peer)
{
    UNTIL(peer, peer->closed);
}

bool peer_until_goaway(struct h2_peer *peer, int n)
{
    UNTIL(peer, peer->n_goaways >= n);
}

struct slice peer_message(const struct peer_stream *stream, int idx, bool *found)
{
    size_t at = 0;
    *found = false;
    while (at + 5 <= stream->n_body) {
        const uint8_t *p = stream->body + at;
        size_t len = (size_t)p[1] << 24 | (size_t)p[2] << 16 | (size_t)p[3] << 8 | p[4];
        if (at + 5 + len > stream->n_body)
            break;
        if (idx-- == 0) {
            *found = true;
            return slice_of(p + 5, len);
        }
        at += 5 + len;
    }
    return slice_of(NULL, 0);
}

struct peer_stream *peer_unary(struct h2_peer *peer, const char *path, const void *bytes,
                               size_t len)
{
    struct peer_stream *stream = peer_request(peer, path, false, NULL);
    peer_send_message(stream, bytes, len, true);
    peer_until_closed(stream);
    return stream;
}

/* --- raw bytes --- */

size_t peer_raw_frame(uint8_t *out, uint8_t type, uint8_t flags, uint32_t stream_id,
                      const void *payload, size_t len)
{
    out[0] = (uint8_t)(len >> 16);
    out[1] = (uint8_t)(len >> 8);
    out[2] = (uint8_t)len;
    out[3] = type;
    out[4] = flags;
    out[5] = (uint8_t)(stream_id >> 24);
    out[6] = (uint8_t)(stream_id >> 16);
    out[7] = (uint8_t)(stream_id >> 8);
    out[8] = (uint8_t)stream_id;
    if (len != 0)
        memcpy(out + 9, payload, len);
    return 9 + len;
}

size_t peer_raw_preface(uint8_t *out)
{
    static const char magic[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    memcpy(out, magic, 24);
    return 24 + peer_raw_frame(out + 24, NGHTTP2_SETTINGS, 0, 0, NULL, 0);
}

bool peer_raw_send(int fd, const void *bytes, size_t len)
{
    const uint8_t *at = bytes;
    while (len > 0) {
        ssize_t n = send(fd, at, len, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        at += n;
        len -= (size_t)n;
    }
    return true;
}

bool peer_raw_until_closed(int fd)
{
    char drop[4096];
    int64_t end_ms = now_ms() + PATIENCE_MS;
    while (now_ms() < end_ms) {
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        if (poll(&wait, 1, TURN_MS) > 0 && recv(fd, drop, sizeof(drop), 0) <= 0)
            return true;
    }
    return false;
}
