#include "clients/c/quire_call.h"

#include "base/clock.h"
#include "clients/c/client_session.h"
#include "limits.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TIMEOUT_NUMBER_MAX 99999999 /* 8 digits */
#define IN_BYTES_MIN 4096
#define FIELDS_MAX 10

/* --- the end --- */

/* Leaves the stream, and resets it where one side is still open. */
static void detach(struct quire_call *call)
{
    if (call->stream_id > 0 && !call->is_closed) {
        nghttp2_session_set_stream_user_data(call->client->session, call->stream_id, NULL);
        if (!call->peer_ended || !call->end_packed)
            nghttp2_submit_rst_stream(call->client->session, NGHTTP2_FLAG_NONE, call->stream_id,
                                      NGHTTP2_CANCEL);
    }
    call->has_ended = true;
    call->out = NULL;
    call->n_out = call->out_at = 0;
}

void client_session_end_call(struct quire_call *call, int code, const char *format, ...)
{
    char text[QUIRE_MESSAGE_BYTES];
    va_list args;
    if (call->has_ended)
        return;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    quire_status_set(&call->status, code, "%s", text);
    detach(call);
}

/* Nothing more will come: what does that say? */
static void conclude(struct quire_call *call)
{
    const struct quire_client *client = call->client;
    if (call->has_status && call->status.code == QUIRE_OK && call->in_at < call->n_in) {
        client_session_end_call(call, QUIRE_INTERNAL,
                                "%s ended the call inside a message: %zu bytes of it came",
                                client->address, call->n_in - call->in_at);
    } else if (call->has_status) {
        detach(call);
    } else if (call->http_status != 0 && call->http_status != 200) {
        client_session_end_call(call, quire_status_of_http(call->http_status),
                                "%s answered HTTP %d without a gRPC status: is it a gRPC server?",
                                client->address, call->http_status);
    } else if (call->close_error == NGHTTP2_REFUSED_STREAM && client->is_going_away) {
        client_session_end_call(call, QUIRE_UNAVAILABLE,
                                "%s is going away and did not begin this call%s%s", client->address,
                                client->lost_text[0] != 0 ? ": " : "", client->lost_text);
    } else if (call->close_error != NGHTTP2_NO_ERROR) {
        client_session_end_call(call, quire_status_of_reset(call->close_error),
                                "%s reset the call (%s)%s%s", client->address,
                                nghttp2_http2_strerror(call->close_error),
                                client->protocol_text[0] != 0 ? ": " : "", client->protocol_text);
    } else {
        client_session_end_call(call, QUIRE_UNKNOWN, "%s ended the call without a status",
                                client->address);
    }
}

/* --- what comes --- */

static struct quire_call *call_of(nghttp2_session *session, int32_t stream_id)
{
    return nghttp2_session_get_stream_user_data(session, stream_id);
}

static bool is_named(const uint8_t *name, size_t len, const char *wanted)
{
    return len == strlen(wanted) && memcmp(name, wanted, len) == 0;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
                     void *user)
{
    struct quire_call *call = call_of(session, frame->hd.stream_id);
    (void)flags;
    (void)user;
    if (call == NULL)
        return 0;
    if (is_named(name, name_len, ":status") && value_len == 3)
        call->http_status = (value[0] - '0') * 100 + (value[1] - '0') * 10 + (value[2] - '0');
    else if (is_named(name, name_len, "grpc-status")) {
        call->has_status = true;
        call->status.code = quire_status_parse_code(value, value_len);
    } else if (is_named(name, name_len, "grpc-message"))
        quire_status_take_message(&call->status, value, value_len);
    else if (is_named(name, name_len, "grpc-status-details-bin"))
        quire_status_take_details(&call->status, value, value_len);
    return 0;
}

static bool in_reserve(struct quire_call *call, size_t more)
{
    if (call->in_at > 0) {
        memmove(call->in, call->in + call->in_at, call->n_in - call->in_at);
        call->n_in -= call->in_at;
        call->in_at = 0;
    }
    size_t cap = call->in_cap != 0 ? call->in_cap : IN_BYTES_MIN;
    while (cap < call->n_in + more)
        cap *= 2;
    if (cap == call->in_cap)
        return true;
    uint8_t *grown = realloc(call->in, cap);
    if (grown == NULL)
        return false;
    call->in = grown;
    call->in_cap = cap;
    return true;
}

static int on_chunk(nghttp2_session *session, uint8_t flags, int32_t stream_id,
                    const uint8_t *bytes, size_t len, void *user)
{
    struct quire_call *call = call_of(session, stream_id);
    (void)flags;
    (void)user;
    if (call == NULL || len == 0)
        return 0;
    if (call->times.first_data_ns == 0)
        call->times.first_data_ns = clock_now(&clock_monotonic);
    if (!in_reserve(call, len)) {
        call->in_refused = true;
        return 0;
    }
    memcpy(call->in + call->n_in, bytes, len);
    call->n_in += len;
    return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t stream_id, uint32_t error, void *user)
{
    struct quire_call *call = call_of(session, stream_id);
    (void)user;
    if (call != NULL) {
        call->is_closed = true;
        call->close_error = error;
    }
    return 0;
}

void client_session_call_callbacks(nghttp2_session_callbacks *callbacks)
{
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_chunk);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
}

/* Length of the message that begins at in_at; false when the call is over or more must come. */
static bool message_is_whole(struct quire_call *call, size_t *len)
{
    size_t there = call->n_in - call->in_at;
    const uint8_t *at = call->in + call->in_at;
    size_t max = call->client->receive_bytes_max;
    if (there < SESSION_PREFIX_BYTES)
        return false;
    *len = (size_t)at[1] << 24 | (size_t)at[2] << 16 | (size_t)at[3] << 8 | at[4];
    if (at[0] != 0)
        client_session_end_call(call, QUIRE_INTERNAL,
                                "%s sent a compressed or malformed message (flag %u)",
                                call->client->address, at[0]);
    else if (*len > max)
        client_session_end_call(call, QUIRE_RESOURCE_EXHAUSTED,
                                "%s sent a message of %zu bytes; this client takes %zu",
                                call->client->address, *len, max);
    return !call->has_ended && there - SESSION_PREFIX_BYTES >= *len;
}

void client_session_deliver(struct quire_call *call)
{
    size_t len;
    if (call->in_refused)
        client_session_end_call(call, QUIRE_RESOURCE_EXHAUSTED, "no memory for what %s sent",
                                call->client->address);
    while (!call->has_ended && message_is_whole(call, &len)) {
        const uint8_t *bytes = call->in + call->in_at + SESSION_PREFIX_BYTES;
        call->in_at += SESSION_PREFIX_BYTES + len;
        if (call->on_message != NULL && !call->on_message(call->arg, bytes, len))
            client_session_end_call(call, QUIRE_CANCELLED, "cancelled");
    }
    if ((call->is_closed || call->peer_ended) && !call->has_ended)
        conclude(call);
}

/* --- what goes --- */

static bool is_drained(const struct quire_call *call)
{
    return call->prefix_at == sizeof call->prefix && call->out_at == call->n_out;
}

static ssize_t on_read(nghttp2_session *session, int32_t stream_id, uint8_t *out, size_t cap,
                       uint32_t *flags, nghttp2_data_source *source, void *user)
{
    struct quire_call *call = call_of(session, stream_id);
    size_t n = 0;
    (void)source;
    (void)user;
    if (call == NULL)
        return NGHTTP2_ERR_DEFERRED; /* ended: its reset is on the way */
    while (n < cap && call->prefix_at < sizeof call->prefix)
        out[n++] = call->prefix[call->prefix_at++];
    size_t left = call->n_out - call->out_at;
    size_t more = left < cap - n ? left : cap - n;
    if (more > 0)
        memcpy(out + n, call->out + call->out_at, more);
    call->out_at += more;
    n += more;
    if (is_drained(call) && call->is_last) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
        call->end_packed = true;
        return (ssize_t)n;
    }
    return n > 0 ? (ssize_t)n : NGHTTP2_ERR_DEFERRED;
}

static nghttp2_nv field_of(const char *name, const char *value)
{
    return (nghttp2_nv){(uint8_t *)(uintptr_t)name, (uint8_t *)(uintptr_t)value, strlen(name),
                        strlen(value), NGHTTP2_NV_FLAG_NONE};
}

static void format_timeout(char *out, size_t n, int64_t timeout_ms)
{
    int64_t seconds = (timeout_ms + 999) / 1000;
    if (timeout_ms <= TIMEOUT_NUMBER_MAX)
        snprintf(out, n, "%lldm", (long long)timeout_ms);
    else
        snprintf(out, n, "%lldS",
                 (long long)(seconds < TIMEOUT_NUMBER_MAX ? seconds : TIMEOUT_NUMBER_MAX));
}

bool quire_call_id_is_valid(const char *request_id)
{
    size_t n = 0;
    for (; request_id[n] != 0; n++)
        if ((uint8_t)request_id[n] < 0x20 || (uint8_t)request_id[n] > 0x7E)
            return false;
    return n > 0 && n <= REQUEST_ID_BYTES_MAX;
}

static void submit(struct quire_call *call, const char *method, const char *request_id)
{
    struct quire_client *client = call->client;
    char timeout[32];
    nghttp2_nv fields[FIELDS_MAX];
    size_t n = 0;
    fields[n++] = field_of(":method", "POST");
    fields[n++] = field_of(":scheme", "http");
    fields[n++] = field_of(":path", method);
    fields[n++] = field_of(":authority", client->authority);
    if (call->timeout_ms > 0) {
        format_timeout(timeout, sizeof timeout, call->timeout_ms);
        fields[n++] = field_of("grpc-timeout", timeout);
    }
    fields[n++] = field_of("te", "trailers");
    fields[n++] = field_of("content-type", "application/grpc");
    fields[n++] = field_of("user-agent", client->user_agent);
    if (request_id != NULL)
        fields[n++] = field_of("x-request-id", request_id);
    assert(n <= FIELDS_MAX);
    nghttp2_data_provider provider = {.read_callback = on_read};
    call->stream_id = nghttp2_submit_request(client->session, NULL, fields, n, &provider, call);
    if (call->stream_id < 0)
        client_session_end_call(call, QUIRE_UNAVAILABLE, "a call could not begin: %s",
                                nghttp2_strerror(call->stream_id));
}

struct quire_call *quire_call_open(struct quire_client *client, const char *method,
                                   const struct quire_call_options *options)
{
    static const struct quire_call_options defaults = {.timeout_ms = 0};
    struct quire_call *call = calloc(1, sizeof *call);
    if (call == NULL)
        return NULL;
    if (options == NULL)
        options = &defaults;
    call->client = client;
    call->on_message = options->on_message;
    call->arg = options->arg;
    call->prefix_at = sizeof call->prefix;
    call->timeout_ms = options->timeout_ms;
    call->deadline_ns = INT64_MAX;
    int64_t now_ns = clock_now(&clock_monotonic);
    if (call->timeout_ms > 0 && call->timeout_ms < (INT64_MAX - now_ns) / NS_PER_MS)
        call->deadline_ns = now_ns + call->timeout_ms * NS_PER_MS;
    call->next = client->calls;
    client->calls = call;

    const char *id = options->request_id;
    if (quire_client_is_interrupted(client))
        client_session_end_call(call, QUIRE_CANCELLED, "interrupted");
    else if (client->is_lost || client->is_going_away)
        client_session_end_call(call, QUIRE_UNAVAILABLE, "the connection to %s has ended: %s",
                                client->address,
                                client->lost_text[0] != 0 ? client->lost_text : "going away");
    else if (id != NULL && !quire_call_id_is_valid(id))
        client_session_end_call(call, QUIRE_INVALID_ARGUMENT,
                                "a request id is 1 to %d printable ASCII characters",
                                REQUEST_ID_BYTES_MAX);
    else
        submit(call, method, id);
    return call;
}

void quire_call_free(struct quire_call *call)
{
    if (call == NULL)
        return;
    quire_call_cancel(call);
    client_session_flush(call->client);
    struct quire_call **at = &call->client->calls;
    while (*at != call)
        at = &(*at)->next;
    *at = call->next;
    free(call->in);
    free(call);
}

bool quire_call_send(struct quire_call *call, const void *bytes, size_t len, bool last)
{
    if (len > UINT32_MAX)
        client_session_end_call(call, QUIRE_INVALID_ARGUMENT,
                                "a message holds at most %u bytes; this one has %zu", UINT32_MAX,
                                len);
    if (call->has_ended)
        return false;
    assert(is_drained(call) && !call->is_last);
    call->prefix[0] = 0;
    for (int i = 0; i < 4; i++)
        call->prefix[1 + i] = (uint8_t)(len >> (24 - 8 * i));
    call->prefix_at = 0;
    call->out = bytes;
    call->n_out = len;
    call->out_at = 0;
    call->is_last = last;
    nghttp2_session_resume_data(call->client->session, call->stream_id);
    client_session_flush(call->client);
    while (!call->has_ended && (!is_drained(call) || call->client->n_out > 0))
        client_session_turn(call->client, INT64_MAX, -1);
    return !call->has_ended;
}

bool quire_call_send_end(struct quire_call *call)
{
    if (call->has_ended)
        return false;
    assert(is_drained(call) && !call->is_last);
    call->is_last = true;
    nghttp2_session_resume_data(call->client->session, call->stream_id);
    client_session_flush(call->client);
    return true;
}

const struct quire_status *quire_call_wait(struct quire_call *call)
{
    while (!call->has_ended)
        client_session_turn(call->client, INT64_MAX, -1);
    return &call->status;
}

bool quire_call_wait_readable(struct quire_call *call, int fd)
{
    bool is_readable = false;
    while (!call->has_ended && !is_readable)
        is_readable = client_session_turn(call->client, INT64_MAX, fd);
    return !call->has_ended;
}

void quire_call_cancel(struct quire_call *call)
{
    client_session_end_call(call, QUIRE_CANCELLED, "cancelled");
}

bool quire_call_has_ended(const struct quire_call *call)
{
    return call->has_ended;
}

const struct quire_status *quire_call_status(const struct quire_call *call)
{
    return &call->status;
}

struct quire_call_times quire_call_times(const struct quire_call *call)
{
    return call->times;
}

/* --- one request, one reply --- */

struct reply {
    void *bytes;
    size_t len;
    int n;
    bool no_memory;
};

static bool on_reply(void *arg, const void *bytes, size_t len)
{
    struct reply *reply = arg;
    if (reply->n++ > 0)
        return false;
    reply->bytes = malloc(len + 1);
    reply->no_memory = reply->bytes == NULL;
    if (reply->no_memory)
        return false;
    if (len > 0)
        memcpy(reply->bytes, bytes, len);
    reply->len = len;
    return true;
}

bool quire_call_unary(struct quire_client *client, const char *method, const void *request,
                      size_t len, const struct quire_call_options *options, void **reply,
                      size_t *reply_len, struct quire_status *status)
{
    struct reply got = {.bytes = NULL};
    struct quire_call_options own = {.timeout_ms = 0};
    if (options != NULL)
        own = *options;
    own.on_message = on_reply;
    own.arg = &got;
    struct quire_call *call = quire_call_open(client, method, &own);
    *reply = NULL;
    *reply_len = 0;
    if (call == NULL) {
        quire_status_set(status, QUIRE_RESOURCE_EXHAUSTED, "no memory for a call");
        return false;
    }
    quire_call_send(call, request, len, true);
    *status = *quire_call_wait(call);
    if (got.no_memory)
        quire_status_set(status, QUIRE_RESOURCE_EXHAUSTED, "no memory for the reply");
    else if (got.n > 1 || (status->code == QUIRE_OK && got.n == 0))
        quire_status_set(status, QUIRE_INTERNAL, "%s sent %s where one reply was due",
                         client->address, got.n == 0 ? "nothing" : "several messages");
    quire_call_free(call);
    if (status->code != QUIRE_OK) {
        free(got.bytes);
        return false;
    }
    *reply = got.bytes;
    *reply_len = got.len;
    return true;
}
