#include "tests/clients/scripted_peer_fixture.h"

#include <assert.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define GIVE_UP_MS 20000
#define REPLY_PREFIX_BYTES 5

/* --- scripts --- */

static void put(struct script *script, const void *bytes, size_t len)
{
    assert(script->n + len <= sizeof script->bytes);
    if (len > 0)
        memcpy(script->bytes + script->n, bytes, len);
    script->n += len;
}

void script_frame(struct script *script, uint8_t type, uint8_t flags, int32_t stream,
                  const void *payload, size_t len)
{
    const uint8_t head[9] = {(uint8_t)(len >> 16),
                             (uint8_t)(len >> 8),
                             (uint8_t)len,
                             type,
                             flags,
                             (uint8_t)(stream >> 24),
                             (uint8_t)(stream >> 16),
                             (uint8_t)(stream >> 8),
                             (uint8_t)stream};
    put(script, head, sizeof head);
    put(script, payload, len);
}

void script_settings(struct script *script)
{
    script_frame(script, NGHTTP2_SETTINGS, 0, 0, NULL, 0);
}

/* A length with a prefix of 7 bits, without Huffman coding. */
static size_t put_length(uint8_t *out, size_t len)
{
    size_t n = 0;
    if (len < 127) {
        out[n++] = (uint8_t)len;
        return n;
    }
    out[n++] = 127;
    for (len -= 127; len >= 128; len >>= 7)
        out[n++] = (uint8_t)(len & 127) | 128;
    out[n++] = (uint8_t)len;
    return n;
}

void script_headers(struct script *script, int32_t stream, bool ends, const char *const *fields)
{
    static uint8_t block[65536];
    size_t n = 0;
    for (size_t i = 0; fields[i] != NULL; i++) {
        size_t len = strlen(fields[i]);
        if (i % 2 == 0)
            block[n++] = 0; /* a literal that is not indexed, with its name */
        n += put_length(block + n, len);
        memcpy(block + n, fields[i], len);
        n += len;
    }
    script_frame(script, NGHTTP2_HEADERS,
                 NGHTTP2_FLAG_END_HEADERS | (ends ? NGHTTP2_FLAG_END_STREAM : 0), stream, block, n);
}

void script_message(struct script *script, int32_t stream, uint8_t flag, size_t declared,
                    const void *bytes, size_t len)
{
    static uint8_t payload[16384];
    assert(len + 5 <= sizeof payload);
    const uint8_t prefix[5] = {flag, (uint8_t)(declared >> 24), (uint8_t)(declared >> 16),
                               (uint8_t)(declared >> 8), (uint8_t)declared};
    memcpy(payload, prefix, sizeof prefix);
    if (len > 0)
        memcpy(payload + 5, bytes, len);
    script_frame(script, NGHTTP2_DATA, 0, stream, payload, len + 5);
}

void script_goaway(struct script *script, int32_t last_stream, const char *text)
{
    uint8_t payload[128] = {(uint8_t)(last_stream >> 24), (uint8_t)(last_stream >> 16),
                            (uint8_t)(last_stream >> 8), (uint8_t)last_stream};
    memcpy(payload + 8, text, strlen(text));
    script_frame(script, NGHTTP2_GOAWAY, 0, 0, payload, 8 + strlen(text));
}

void script_reply(struct script *script)
{
    static const char *const fields[] = {":status", "200", "content-type", "application/grpc",
                                         NULL};
    script_headers(script, 1, false, fields);
}

void script_trailers(struct script *script, const char *status)
{
    const char *const fields[] = {"grpc-status", status, NULL};
    script_headers(script, 1, true, fields);
}

/* --- the session that records --- */

static void keep(char *out, size_t cap, const uint8_t *value, size_t len)
{
    snprintf(out, cap, "%.*s", (int)len, (const char *)value);
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_len, const uint8_t *value, size_t len, uint8_t flags, void *user)
{
    struct scripted_peer *peer = user;
    char word[64];
    keep(word, sizeof word, name, name_len);
    if (strcmp(word, ":path") == 0)
        keep(peer->path, sizeof peer->path, value, len);
    else if (strcmp(word, "grpc-timeout") == 0)
        keep(peer->timeout, sizeof peer->timeout, value, len);
    else if (strcmp(word, "x-request-id") == 0)
        keep(peer->request_id, sizeof peer->request_id, value, len);
    else if (strcmp(word, "user-agent") == 0)
        keep(peer->user_agent, sizeof peer->user_agent, value, len);
    else if (strcmp(word, "te") == 0)
        keep(peer->te, sizeof peer->te, value, len);
    return 0;
}

static int on_chunk(nghttp2_session *session, uint8_t flags, int32_t stream, const uint8_t *bytes,
                    size_t len, void *user)
{
    struct scripted_peer *peer = user;
    peer->n_body += len;
    return 0;
}

static ssize_t on_read(nghttp2_session *session, int32_t stream, uint8_t *out, size_t cap,
                       uint32_t *flags, nghttp2_data_source *source, void *user)
{
    static const nghttp2_nv status = {(uint8_t *)"grpc-status", (uint8_t *)"0", 11, 1,
                                      NGHTTP2_NV_FLAG_NONE};
    struct scripted_peer *peer = user;
    size_t n = 0;
    while (n < cap && peer->reply_at < peer->reply_n) {
        size_t at = peer->reply_at++;
        out[n++] = at < sizeof peer->reply ? peer->reply[at] : (uint8_t)at;
    }
    if (peer->reply_at == peer->reply_n) {
        *flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
        nghttp2_submit_trailer(session, stream, &status, 1);
    }
    return (ssize_t)n;
}

static void answer(struct scripted_peer *peer, int32_t stream)
{
    static const nghttp2_nv fields[] = {
        {(uint8_t *)":status", (uint8_t *)"200", 7, 3, NGHTTP2_NV_FLAG_NONE},
        {(uint8_t *)"content-type", (uint8_t *)"application/grpc", 12, 16, NGHTTP2_NV_FLAG_NONE}};
    nghttp2_data_provider provider = {.read_callback = on_read};
    bool is_big = strcmp(peer->path, "/t/Big") == 0;
    size_t len = is_big ? BIG_BYTES : 8;
    memset(peer->reply, 0, sizeof peer->reply);
    for (int i = 0; i < 4; i++)
        peer->reply[1 + i] = (uint8_t)(len >> (24 - 8 * i));
    for (int i = 0; i < 8; i++)
        peer->reply[5 + i] = (uint8_t)((uint64_t)peer->n_body >> (56 - 8 * i));
    peer->reply_at = 0;
    peer->reply_n = REPLY_PREFIX_BYTES + len;
    nghttp2_submit_response(peer->session, stream, fields, 2, &provider);
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct scripted_peer *peer = user;
    if (frame->hd.type == NGHTTP2_HEADERS)
        atomic_store(&peer->got_request, true);
    if (frame->hd.type == NGHTTP2_RST_STREAM && atomic_load(&peer->reset_code) < 0)
        atomic_store(&peer->reset_code, (int)frame->rst_stream.error_code);
    bool can_end = frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA;
    if (can_end && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0) {
        peer->ended = true;
        if (peer->is_live)
            answer(peer, frame->hd.stream_id);
    }
    return 0;
}

static void open_session(struct scripted_peer *peer)
{
    static const nghttp2_settings_entry none[1];
    nghttp2_session_callbacks *callbacks;
    nghttp2_session_callbacks_new(&callbacks);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_chunk);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    nghttp2_session_server_new(&peer->session, callbacks, peer);
    nghttp2_session_callbacks_del(callbacks);
    nghttp2_submit_settings(peer->session, 0, none, 0);
}

/* --- the thread --- */

static bool say(int fd, const uint8_t *bytes, size_t len)
{
    for (size_t at = 0; at < len;) {
        ssize_t n = send(fd, bytes + at, len - at, MSG_NOSIGNAL);
        if (n <= 0)
            return false;
        at += (size_t)n;
    }
    return true;
}

static bool say_session(struct scripted_peer *peer)
{
    const uint8_t *bytes;
    ssize_t n;
    while ((n = nghttp2_session_mem_send(peer->session, &bytes)) > 0)
        if (!say(peer->connection, bytes, (size_t)n))
            return false;
    return true;
}

static void *serve(void *arg)
{
    struct scripted_peer *peer = arg;
    static _Thread_local uint8_t bytes[65536];
    bool said = false;
    struct pollfd wait = {.fd = peer->fd, .events = POLLIN};
    if (poll(&wait, 1, GIVE_UP_MS) <= 0)
        return NULL;
    peer->connection = accept(peer->fd, NULL, NULL);
    for (;;) {
        wait.fd = peer->connection;
        if (poll(&wait, 1, GIVE_UP_MS) <= 0)
            break;
        ssize_t n = recv(peer->connection, bytes, sizeof bytes, 0);
        if (n <= 0)
            break;
        nghttp2_session_mem_recv(peer->session, bytes, (size_t)n);
        if (peer->is_live && !say_session(peer))
            break;
        if (!peer->is_live && !said && atomic_load(&peer->got_request)) {
            said = true;
            say(peer->connection, peer->said, peer->n_said);
            if (!peer->stays_open)
                shutdown(peer->connection, SHUT_WR);
        }
    }
    close(peer->connection);
    return NULL;
}

static void start(struct scripted_peer *peer)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof at;
    atomic_store(&peer->reset_code, -1);
    peer->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert(bind(peer->fd, (struct sockaddr *)&at, size) == 0 && listen(peer->fd, 8) == 0);
    getsockname(peer->fd, (struct sockaddr *)&at, &size);
    snprintf(peer->address, sizeof peer->address, "127.0.0.1:%d", ntohs(at.sin_port));
    open_session(peer);
    assert(pthread_create(&peer->thread, NULL, serve, peer) == 0);
}

void scripted_peer_start(struct scripted_peer *peer, const void *said, size_t n, bool stays_open)
{
    memset(peer, 0, sizeof *peer);
    peer->said = said;
    peer->n_said = n;
    peer->stays_open = stays_open;
    start(peer);
}

void scripted_peer_start_live(struct scripted_peer *peer)
{
    memset(peer, 0, sizeof *peer);
    peer->is_live = true;
    start(peer);
}

void scripted_peer_stop(struct scripted_peer *peer)
{
    pthread_join(peer->thread, NULL);
    nghttp2_session_del(peer->session);
    close(peer->fd);
}
