#include "clients/c/quire_client.h"

#include "base/clock.h"
#include "base/utf8.h"
#include "clients/c/client_address.h"
#include "clients/c/client_session.h"
#include "limits.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONNECT_TIMEOUT_MS 10000
#define CLOSE_TIMEOUT_MS 1000
#define READS_OF_A_TURN 4
#define HEADER_LIST_BYTES 16384
#define POLL_MS_MAX 3600000

/* --- the session's own callbacks --- */

static void keep_text(char out[SESSION_TEXT_BYTES], const void *text, size_t len)
{
    uint8_t repaired[3 * SESSION_TEXT_BYTES];
    len = len < SESSION_TEXT_BYTES ? len : SESSION_TEXT_BYTES - 1;
    size_t n = utf8_repair(text, utf8_complete_len(text, len), repaired, NULL);
    n = n < SESSION_TEXT_BYTES ? n : utf8_complete_len(repaired, SESSION_TEXT_BYTES - 1);
    for (size_t i = 0; i < n; i++)
        out[i] = repaired[i] < 0x20 || repaired[i] == 0x7F ? ' ' : (char)repaired[i];
    out[n] = 0;
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct quire_client *client = user;
    bool has_end = frame->hd.type == NGHTTP2_DATA || frame->hd.type == NGHTTP2_HEADERS;
    struct quire_call *call =
        has_end ? nghttp2_session_get_stream_user_data(session, frame->hd.stream_id) : NULL;
    if (call != NULL && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0)
        call->peer_ended = true;
    if (frame->hd.type == NGHTTP2_GOAWAY) {
        client->is_going_away = true;
        keep_text(client->lost_text, frame->goaway.opaque_data, frame->goaway.opaque_data_len);
    }
    return 0;
}

static int on_error(nghttp2_session *session, int code, const char *text, size_t len, void *user)
{
    struct quire_client *client = user;
    (void)session;
    (void)code;
    keep_text(client->protocol_text, text, len);
    return 0;
}

static int on_invalid_frame(nghttp2_session *session, const nghttp2_frame *frame, int code,
                            void *user)
{
    struct quire_client *client = user;
    const char *text = nghttp2_strerror(code);
    (void)session;
    (void)frame;
    if (client->protocol_text[0] == 0)
        keep_text(client->protocol_text, text, strlen(text));
    return 0;
}

static int start_session(struct quire_client *client)
{
    nghttp2_session_callbacks *callbacks = NULL;
    nghttp2_option *option = NULL;
    int failed = nghttp2_session_callbacks_new(&callbacks);
    if (failed == 0)
        failed = nghttp2_option_new(&option);
    if (failed == 0) {
        nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
        nghttp2_session_callbacks_set_error_callback2(callbacks, on_error);
        nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(callbacks, on_invalid_frame);
        client_session_call_callbacks(callbacks);
        nghttp2_option_set_no_closed_streams(option, 1);
        failed = nghttp2_session_client_new2(&client->session, callbacks, client, option);
    }
    nghttp2_option_del(option);
    nghttp2_session_callbacks_del(callbacks);
    const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, HEADER_LIST_BYTES},
    };
    if (failed == 0)
        failed = nghttp2_submit_settings(client->session, NGHTTP2_FLAG_NONE, settings, 2);
    return failed == 0 ? STATUS_OK : STATUS_NO_MEMORY;
}

/* --- life --- */

static void name_client(struct quire_client *client, const struct client_address *address,
                        const char *text, const char *user_agent)
{
    snprintf(client->address, sizeof client->address, "%s", text);
    snprintf(client->authority, sizeof client->authority, "%s",
             address->is_unix ? "localhost" : text);
    snprintf(client->user_agent, sizeof client->user_agent, "%s",
             user_agent != NULL ? user_agent : "quire-c/" QUIRE_VERSION);
}

int quire_client_open(const char *address, const struct quire_client_options *options,
                      struct quire_client **out, struct why *why)
{
    static const struct quire_client_options defaults = {.connect_timeout_ms = 0};
    struct client_address parsed;
    *out = NULL;
    if (options == NULL)
        options = &defaults;
    int status = client_address_parse(address, &parsed, why);
    if (status < 0)
        return status;
    struct quire_client *client = calloc(1, sizeof *client);
    if (client == NULL)
        return refuse(why, STATUS_NO_MEMORY, "no memory for a connection");
    client->fd = client->reader_fd = -1;
    client->receive_bytes_max =
        options->receive_bytes_max != 0 ? options->receive_bytes_max : GENERATE_MESSAGE_BYTES_MAX;
    name_client(client, &parsed, address, options->user_agent);
    client->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (client->wake_fd < 0)
        status = refuse(why, STATUS_IO, "no descriptor for a connection: %s", strerror(errno));
    if (status == STATUS_OK)
        status = client_address_connect(
            &parsed, address,
            options->connect_timeout_ms != 0 ? options->connect_timeout_ms : CONNECT_TIMEOUT_MS,
            &client->fd, why);
    if (status == STATUS_OK && start_session(client) < 0)
        status = refuse(why, STATUS_NO_MEMORY, "no memory for a connection");
    if (status < 0) {
        quire_client_close(client);
        return status;
    }
    *out = client;
    return STATUS_OK;
}

void quire_client_close(struct quire_client *client)
{
    if (client == NULL)
        return;
    if (client->session != NULL && !client->is_lost) {
        int64_t until_ns = clock_now(&clock_monotonic) + CLOSE_TIMEOUT_MS * NS_PER_MS;
        nghttp2_session_terminate_session(client->session, NGHTTP2_NO_ERROR);
        client_session_flush(client);
        while (!client->is_lost && client->n_out > 0 && clock_now(&clock_monotonic) < until_ns)
            client_session_turn(client, until_ns, -1);
    }
    nghttp2_session_del(client->session);
    if (client->fd >= 0)
        close(client->fd);
    if (client->wake_fd >= 0)
        close(client->wake_fd);
    free(client);
}

const char *quire_client_address(const struct quire_client *client)
{
    return client->address;
}

void quire_client_watch_reader(struct quire_client *client, int fd)
{
    client->reader_fd = fd;
}

void quire_client_interrupt(struct quire_client *client)
{
    static const uint64_t one = 1;
    int before = errno;
    atomic_store(&client->is_interrupted, true);
    ssize_t written = write(client->wake_fd, &one, sizeof one);
    (void)written; /* full: it is readable already */
    errno = before;
}

void quire_client_resume(struct quire_client *client)
{
    uint64_t n;
    ssize_t taken = read(client->wake_fd, &n, sizeof n);
    (void)taken; /* nothing there: nobody interrupted */
    atomic_store(&client->is_interrupted, false);
    client_session_flush(client); /* the server hears of calls that were ended */
}

bool quire_client_is_interrupted(const struct quire_client *client)
{
    return atomic_load(&client->is_interrupted);
}

/* --- a turn --- */

static void lose(struct quire_client *client, const char *reason)
{
    if (client->is_lost)
        return;
    char said[SESSION_TEXT_BYTES];
    memcpy(said, client->lost_text, sizeof said);
    if (said[0] != 0)
        snprintf(client->lost_text, sizeof client->lost_text, "%.120s; it said \"%.100s\"", reason,
                 said);
    else
        snprintf(client->lost_text, sizeof client->lost_text, "%.240s", reason);
    client->is_lost = true;
    client->n_out = client->out_at = 0;
}

/* The frames that are ready, as many as the out-buffer takes whole. */
static void pack_frames(struct quire_client *client)
{
    const uint8_t *bytes;
    client->out_at = client->n_out = 0;
    while (client->n_out + 9 + 16384 <= sizeof client->out) {
        ssize_t n = nghttp2_session_mem_send(client->session, &bytes);
        if (n < 0)
            lose(client, nghttp2_strerror((int)n));
        if (n <= 0)
            break;
        if ((size_t)n > sizeof client->out - client->n_out) {
            lose(client, "a frame is larger than the peer may ask for");
            break;
        }
        memcpy(client->out + client->n_out, bytes, (size_t)n);
        client->n_out += (size_t)n;
    }
}

static void note_sent(struct quire_client *client)
{
    int64_t now_ns = clock_now(&clock_monotonic);
    for (struct quire_call *call = client->calls; call != NULL; call = call->next)
        if (call->end_packed && call->times.sent_ns == 0)
            call->times.sent_ns = now_ns;
}

void client_session_flush(struct quire_client *client)
{
    while (!client->is_lost) {
        if (client->out_at == client->n_out)
            pack_frames(client);
        if (client->n_out == 0)
            return;
        ssize_t n = send(client->fd, client->out + client->out_at, client->n_out - client->out_at,
                         MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return;
        if (n < 0) {
            /* What the peer said before it closed may still be there to read. */
            client->out_at = client->n_out = 0;
            return;
        }
        client->out_at += (size_t)n;
        if (client->out_at == client->n_out) {
            client->out_at = client->n_out = 0;
            note_sent(client);
        }
    }
}

static void read_frames(struct quire_client *client)
{
    for (int i = 0; i < READS_OF_A_TURN && !client->is_lost; i++) {
        ssize_t n = recv(client->fd, client->in, sizeof client->in, 0);
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
            return;
        if (n <= 0) {
            lose(client, n == 0 ? "the server closed it" : strerror(errno));
            return;
        }
        ssize_t used = nghttp2_session_mem_recv(client->session, client->in, (size_t)n);
        if (used < 0)
            lose(client, client->protocol_text[0] != 0 ? client->protocol_text
                                                       : nghttp2_strerror((int)used));
    }
}

/* The library says so when it has sent its GOAWAY, or when one came and no call is open. */
static void note_end_of_session(struct quire_client *client)
{
    if (!client->is_lost && client->n_out == 0 && nghttp2_session_want_read(client->session) == 0 &&
        nghttp2_session_want_write(client->session) == 0)
        lose(client, client->protocol_text[0] != 0 ? client->protocol_text : "the server ended it");
}

static void end_what_is_over(struct quire_client *client)
{
    int64_t now_ns = clock_now(&clock_monotonic);
    bool is_interrupted = quire_client_is_interrupted(client);
    for (struct quire_call *call = client->calls; call != NULL; call = call->next) {
        if (!call->has_ended)
            client_session_deliver(call);
        if (call->has_ended)
            continue;
        if (is_interrupted)
            client_session_end_call(call, QUIRE_CANCELLED, "interrupted");
        else if (call->deadline_ns <= now_ns)
            client_session_end_call(call, QUIRE_DEADLINE_EXCEEDED,
                                    "no end within the %.3f s that the call was given",
                                    (double)call->timeout_ms / 1000);
        else if (client->is_lost)
            client_session_end_call(call, QUIRE_UNAVAILABLE, "the connection to %s broke: %s",
                                    client->address, client->lost_text);
    }
}

static int poll_ms(const struct quire_client *client, int64_t until_ns)
{
    for (const struct quire_call *call = client->calls; call != NULL; call = call->next)
        if (!call->has_ended && call->deadline_ns < until_ns)
            until_ns = call->deadline_ns;
    if (until_ns == INT64_MAX)
        return -1;
    int64_t left_ns = until_ns - clock_now(&clock_monotonic);
    if (left_ns <= 0)
        return 0;
    int64_t ms = (left_ns + NS_PER_MS - 1) / NS_PER_MS;
    return ms < POLL_MS_MAX ? (int)ms : POLL_MS_MAX;
}

bool client_session_turn(struct quire_client *client, int64_t until_ns, int wait_fd)
{
    bool is_readable = false;
    if (!client->is_lost && !quire_client_is_interrupted(client)) {
        client_session_flush(client);
        short wanted = POLLIN | (client->n_out > 0 ? POLLOUT : 0);
        struct pollfd waits[4] = {{.fd = client->is_lost ? -1 : client->fd, .events = wanted},
                                  {.fd = client->wake_fd, .events = POLLIN},
                                  {.fd = wait_fd, .events = POLLIN},
                                  {.fd = client->reader_fd}}; /* POLLERR comes unasked */
        int n = client->is_lost ? 0 : poll(waits, 4, poll_ms(client, until_ns));
        is_readable = n > 0 && waits[2].revents != 0;
        if (n > 0 && (waits[3].revents & POLLERR) != 0)
            quire_client_interrupt(client);
        if (n > 0 && waits[0].revents != 0)
            read_frames(client);
        client_session_flush(client);
        note_end_of_session(client);
    }
    end_what_is_over(client);
    client_session_flush(client);
    return is_readable;
}
