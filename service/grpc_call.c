#include "service/grpc_call.h"

#include "base/clock.h"
#include "base/log.h"
#include "service/h2_session.h"
#include "service/wire.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define HEADERS_MAX 12
#define USAGE_BYTES_MAX 320 /* of the three fields of add_usage, each with 32 bytes */
#define GRPC_CODE_UNKNOWN 2

/* --- life --- */

const char *grpc_call_state_name(enum grpc_call_state state)
{
    static const char *const names[] = {"HEADERS",  "BODY",     "HANDLED",
                                        "REPLYING", "TRAILERS", "CLOSED"};
    return names[state];
}

void grpc_call_set_state(struct grpc_call *grpc, enum grpc_call_state next)
{
    static const bool legal[6][6] = {
        [GRPC_HEADERS] = {[GRPC_BODY] = true, [GRPC_TRAILERS] = true, [GRPC_CLOSED] = true},
        [GRPC_BODY] = {[GRPC_HANDLED] = true,
                       [GRPC_REPLYING] = true,
                       [GRPC_TRAILERS] = true,
                       [GRPC_CLOSED] = true},
        [GRPC_HANDLED] = {[GRPC_REPLYING] = true, [GRPC_TRAILERS] = true, [GRPC_CLOSED] = true},
        [GRPC_REPLYING] = {[GRPC_TRAILERS] = true, [GRPC_CLOSED] = true},
        [GRPC_TRAILERS] = {[GRPC_CLOSED] = true},
    };
    assert(legal[grpc->state][next]);
    grpc->state = next;
}

struct grpc_call *grpc_call_of(struct call *call)
{
    return (struct grpc_call *)((char *)call - offsetof(struct grpc_call, call));
}

struct grpc_call *grpc_call_create(struct h2_conn *conn, int32_t stream_id)
{
    struct grpc_call *grpc = calloc(1, sizeof(*grpc));
    if (grpc == NULL)
        return NULL;
    grpc->head = calloc(1, sizeof(*grpc->head));
    if (grpc->head == NULL) {
        free(grpc);
        return NULL;
    }
    grpc->conn = conn;
    grpc->stream_id = stream_id;
    grpc->state = GRPC_HEADERS;
    list_init(&grpc->in_drained);
    list_append(&conn->streams, &grpc->in_conn);
    byte_queue_init(&grpc->waiting, &conn->loop->receive_bytes);
    byte_queue_init(&grpc->out, &conn->loop->unsent_bytes);
    conn->n_streams++;
    conn->loop->n_streams++;
    return grpc;
}

static void log_call(const struct grpc_call *grpc, uint32_t error_code)
{
    char id[2 * sizeof(grpc->call.request_id)], trace[2 * sizeof(grpc->call.traceparent)];
    const struct call *call = &grpc->call;
    if (!grpc->has_call)
        return;
    log_write(LOG_INFO, "call",
              "method=%s grpc_status=%d ms=%.1f prompt_tokens=%llu completion_tokens=%llu "
              "received_bytes=%llu sent_bytes=%llu http2_error=%u peer=%s request_id=%s "
              "traceparent=%s",
              call->method->path, grpc->grpc_code,
              (double)(loop_now_ns(grpc->conn->loop) - grpc->began_ns) / (double)NS_PER_MS,
              (unsigned long long)call->usage.n_prompt,
              (unsigned long long)call->usage.n_completion,
              (unsigned long long)grpc->received_bytes, (unsigned long long)grpc->sent_bytes,
              error_code, call->peer,
              log_quote(id, sizeof(id), call->request_id, strlen(call->request_id)),
              log_quote(trace, sizeof(trace), call->traceparent, strlen(call->traceparent)));
}

static void disarm_timers(struct grpc_call *grpc)
{
    struct timers *timers = &grpc->conn->loop->timers;
    timers_disarm(timers, &grpc->deadline_timer);
    timers_disarm(timers, &grpc->request_timer);
}

void grpc_call_close(struct grpc_call *grpc, uint32_t error_code)
{
    struct h2_conn *conn = grpc->conn;
    if (grpc->has_call) {
        if (grpc->call.state != CALL_FINISHED)
            grpc->grpc_code = 1; /* CANCELLED */
        call_cancel(&grpc->call, grpc->handler_knows);
        log_call(grpc, error_code);
        call_leave(&grpc->call);
    }
    grpc_call_set_state(grpc, GRPC_CLOSED);
    disarm_timers(grpc);
    timers_disarm(&conn->loop->timers, &grpc->stall_timer);
    grpc_request_release(grpc);
    byte_queue_release(&grpc->out);
    free(grpc->trailers);
    free(grpc->head);
    list_unlink(&grpc->in_conn);
    list_unlink(&grpc->in_drained);
    conn->n_streams--;
    conn->loop->n_streams--;
    free(grpc);
}

/* --- header fields out --- */

struct fields {
    size_t n;
    nghttp2_nv rows[HEADERS_MAX];
    char prompt[24], completion[24], timing[120]; /* the library copies them */
};

static void add_field(struct fields *fields, const char *name, struct slice value)
{
    assert(fields->n < HEADERS_MAX);
    fields->rows[fields->n++] = (nghttp2_nv){
        .name = (uint8_t *)name,
        .namelen = strlen(name),
        .value = (uint8_t *)value.bytes,
        .valuelen = value.len,
        .flags = NGHTTP2_NV_FLAG_NONE,
    };
}

static void add_text(struct fields *fields, const char *name, const char *value)
{
    if (value[0] != '\0')
        add_field(fields, name, slice_from(value));
}

static void add_reply_fields(struct fields *fields, const struct grpc_call *grpc)
{
    add_text(fields, ":status", "200");
    add_text(fields, "content-type", "application/grpc");
    add_text(fields, "grpc-accept-encoding", "identity");
    add_text(fields, "x-request-id", grpc->call.request_id);
    add_text(fields, "traceparent", grpc->call.traceparent);
}

/* For callers that read no messages, and for calls that end without their last one. */
static void add_usage(struct fields *fields, const struct call_usage *usage)
{
    if (usage->n_prompt == 0)
        return;
    snprintf(fields->prompt, sizeof(fields->prompt), "%" PRIu64, usage->n_prompt);
    snprintf(fields->completion, sizeof(fields->completion), "%" PRIu64, usage->n_completion);
    add_text(fields, "quire-prompt-tokens", fields->prompt);
    add_text(fields, "quire-completion-tokens", fields->completion);
    if (usage->queue_s + usage->prefill_s + usage->decode_s <= 0)
        return;
    snprintf(fields->timing, sizeof(fields->timing),
             "queue;dur=%.3f, prefill;dur=%.3f, decode;dur=%.3f", 1e3 * usage->queue_s,
             1e3 * usage->prefill_s, 1e3 * usage->decode_s);
    add_text(fields, "server-timing", fields->timing);
}

static void add_trailers(struct fields *fields, const struct grpc_call *grpc)
{
    const struct grpc_trailers *trailers = grpc->trailers;
    for (size_t i = 0; i < trailers->n_fields; i++)
        add_field(fields, (const char *)trailers->fields[i].name.bytes, trailers->fields[i].value);
    add_usage(fields, &grpc->call.usage);
}

/* --- the provider: what the connection pulls --- */

/* Follows the message borders in the n bytes that leave the queue now. */
static void track_borders(struct grpc_call *grpc, struct slice leaving)
{
    size_t at = 0;
    while (at < leaving.len) {
        if (grpc->front_left == 0) /* messages enter the queue whole, so the prefix is all there */
            grpc->front_left =
                GRPC_PREFIX_BYTES + (size_t)grpc_frame_len(leaving.bytes + at);
        size_t n = leaving.len - at < grpc->front_left ? leaving.len - at : grpc->front_left;
        grpc->front_left -= n;
        at += n;
    }
}

/* Not before the last byte was pulled: trailers overtake DATA. */
static int submit_trailers(struct grpc_call *grpc)
{
    struct fields fields = {.n = 0};
    assert(grpc->out.len == 0 && !grpc->trailers_submitted);
    grpc->trailers_submitted = true;
    timers_disarm(&grpc->conn->loop->timers, &grpc->stall_timer);
    add_trailers(&fields, grpc);
    return nghttp2_submit_trailer(grpc->conn->session, grpc->stream_id, fields.rows, fields.n);
}

static int end_of_reply(struct grpc_call *grpc, uint32_t *flags)
{
    *flags |= NGHTTP2_DATA_FLAG_EOF;
    if (grpc->is_plain) {
        timers_disarm(&grpc->conn->loop->timers, &grpc->stall_timer);
        return 0;
    }
    *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
    return submit_trailers(grpc) == 0 ? 0 : NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}

static ssize_t pull_bytes(nghttp2_session *session, int32_t stream_id, uint8_t *buf, size_t max,
                          uint32_t *flags, nghttp2_data_source *source, void *user)
{
    (void)session, (void)stream_id, (void)user;
    struct grpc_call *grpc = source->ptr;
    struct slice front = byte_queue_front(&grpc->out);
    size_t n = front.len < max ? front.len : max;
    if (n == 0 && (grpc->state != GRPC_TRAILERS || grpc->trailers_submitted))
        return NGHTTP2_ERR_DEFERRED;
    if (n != 0) {
        memcpy(buf, front.bytes, n);
        if (!grpc->is_plain)
            track_borders(grpc, slice_of(front.bytes, n));
        byte_queue_drop(&grpc->out, n);
        grpc->sent_bytes += n;
    }
    if (grpc->above_mark && grpc->out.len < OUT_BUFFER_MARK_BYTES / 2) {
        grpc->above_mark = false; /* told after the pull: a handler may send from on_drain */
        if (list_is_empty(&grpc->in_drained))
            list_append(&grpc->conn->drained, &grpc->in_drained);
    }
    if (grpc->out.len == 0 && grpc->state == GRPC_TRAILERS) {
        int error = end_of_reply(grpc, flags);
        if (error != 0)
            return error;
    }
    return (ssize_t)n;
}

void grpc_call_tell_drained(struct h2_conn *conn)
{
    struct list now; /* a call that sends and drains again waits for the next turn */
    list_init(&now);
    while (!list_is_empty(&conn->drained)) {
        struct list *node = conn->drained.next;
        list_unlink(node);
        list_append(&now, node);
    }
    while (!list_is_empty(&now)) {
        struct list *node = now.next;
        list_unlink(node);
        struct call *call = &list_entry(node, struct grpc_call, in_drained)->call;
        if (call->state != CALL_FINISHED && call->method->handler->on_drain != NULL)
            call->method->handler->on_drain(call);
    }
}

/* --- a reader that takes nothing --- */

static void judge_reader(struct timer *timer)
{
    struct grpc_call *grpc = list_entry(timer, struct grpc_call, stall_timer);
    struct loop *loop = grpc->conn->loop;
    if (grpc->out.len == 0 && grpc->state != GRPC_TRAILERS)
        return; /* armed again with the next bytes */
    if (grpc->sent_bytes != grpc->stalled_bytes) {
        grpc->stalled_bytes = grpc->sent_bytes;
        loop_arm(grpc->conn->loop, timer, loop->paused_ms);
        return;
    }
    struct why why;
    refuse_numbers(&why, STATUS_EXHAUSTED,
                   (struct why_numbers){(double)grpc->out.len, 0, "bytes", "--max-paused-ms"},
                   "the reader took nothing for %lld s with %zu bytes waiting for it "
                   "(--max-paused-ms %lld)",
                   (long long)(loop->paused_ms / 1000), grpc->out.len, (long long)loop->paused_ms);
    grpc_call_end(grpc, STATUS_EXHAUSTED, &why, NGHTTP2_ENHANCE_YOUR_CALM);
}

static void watch_reader(struct grpc_call *grpc)
{
    if (grpc->stall_timer.armed)
        return;
    grpc->stall_timer.fire = judge_reader;
    grpc->stalled_bytes = grpc->sent_bytes;
    loop_arm(grpc->conn->loop, &grpc->stall_timer, grpc->conn->loop->paused_ms);
}

/* --- the codec --- */

static void reset_stream(struct grpc_call *grpc, uint32_t error_code)
{
    if (grpc->was_reset)
        return;
    grpc->was_reset = true;
    nghttp2_submit_rst_stream(grpc->conn->session, NGHTTP2_FLAG_NONE, grpc->stream_id, error_code);
    h2_conn_mark_dirty(grpc->conn);
}

static void submit_reply(struct grpc_call *grpc, const struct fields *fields, bool with_body)
{
    nghttp2_data_provider provider = {.source = {.ptr = grpc}, .read_callback = pull_bytes};
    grpc->reply_open = true;
    if (nghttp2_submit_response(grpc->conn->session, grpc->stream_id, fields->rows, fields->n,
                                with_body ? &provider : NULL) != 0)
        reset_stream(grpc, NGHTTP2_INTERNAL_ERROR);
    h2_conn_mark_dirty(grpc->conn);
}

static void open_reply(struct call *call)
{
    struct grpc_call *grpc = grpc_call_of(call);
    struct fields fields = {.n = 0};
    if (grpc->reply_open)
        return;
    add_reply_fields(&fields, grpc);
    grpc_call_set_state(grpc, GRPC_REPLYING);
    submit_reply(grpc, &fields, true);
}

static bool replies_once(const struct call *call)
{
    return call->method->shape == CALL_UNARY || call->method->shape == CALL_CLIENT_STREAM;
}

static int send_message(struct call *call, struct slice message)
{
    struct grpc_call *grpc = grpc_call_of(call);
    size_t n = GRPC_PREFIX_BYTES + message.len;
    assert(!replies_once(call) || grpc->n_sent == 0);
    size_t limit = replies_once(call) ? RESPONSE_MESSAGE_BYTES_MAX + GRPC_PREFIX_BYTES
                                      : OUT_BUFFER_BYTES_MAX;
    if (grpc->out.len + n > limit)
        return STATUS_EXHAUSTED;
    const struct loop *loop = grpc->conn->loop;
    if (replies_once(call) && loop->unsent_bytes + n > loop->unsent_max)
        return STATUS_NO_MEMORY;
    if (byte_queue_reserve(&grpc->out, n) < 0)
        return STATUS_NO_MEMORY;
    uint8_t prefix[GRPC_PREFIX_BYTES];
    grpc_frame_prefix(prefix, (uint32_t)message.len);
    byte_queue_append(&grpc->out, slice_of(prefix, sizeof(prefix)));
    byte_queue_append(&grpc->out, message);
    grpc->n_sent++;
    if (grpc->out.len > OUT_BUFFER_MARK_BYTES)
        grpc->above_mark = true;
    open_reply(call);
    watch_reader(grpc);
    /* harmless when not parked */
    nghttp2_session_resume_data(grpc->conn->session, grpc->stream_id);
    h2_conn_mark_dirty(grpc->conn);
    return STATUS_OK;
}

/* The outcome is decided: trailers behind what is unsent, or a single HEADERS frame when nothing
 * was opened. */
static void end_with(struct grpc_call *grpc, int grpc_code, struct slice message,
                     struct slice details)
{
    struct fields fields = {.n = 0};
    grpc_call_set_state(grpc, GRPC_TRAILERS);
    grpc->grpc_code = grpc_code;
    /* what shares the client's limit with them */
    size_t n_reply = grpc->call.usage.n_prompt == 0 ? 0 : USAGE_BYTES_MAX;
    if (!grpc->reply_open) {
        add_reply_fields(&fields, grpc);
        for (size_t i = 0; i < fields.n; i++)
            n_reply += fields.rows[i].namelen + fields.rows[i].valuelen + 32;
    }
    grpc->trailers =
        grpc_trailers_create(grpc_code, message, details, TRAILERS_BYTES_MAX - n_reply);
    if (grpc->trailers == NULL) {
        reset_stream(grpc, NGHTTP2_INTERNAL_ERROR);
        return;
    }
    if (grpc->trailers->details_dropped)
        log_write(LOG_WARN, "details_dropped", "peer=%s details_bytes=%zu limit_bytes=%d",
                  grpc->conn->peer, details.len, TRAILERS_BYTES_MAX);
    if (!grpc->reply_open) {
        add_trailers(&fields, grpc);
        submit_reply(grpc, &fields, false);
        return;
    }
    if (grpc->out.len != 0) {
        watch_reader(grpc);
    } else if (submit_trailers(grpc) != 0) { /* not by the provider: a closed window stops it */
        reset_stream(grpc, NGHTTP2_INTERNAL_ERROR);
        return;
    }
    h2_conn_mark_dirty(grpc->conn);
}

void grpc_call_refuse(struct grpc_call *grpc, int status, const struct why *why)
{
    uint8_t details[WIRE_DETAILS_BYTES_MAX];
    const char *sentence = why->text[0] != '\0' ? why->text : status_text(status);
    size_t n = wire_pack_refusal(details, sizeof(details), status, sentence, &why->numbers);
    end_with(grpc, status_grpc_code(status), slice_from(sentence), slice_of(details, n));
}

static void finish(struct call *call, int status, const char *message, struct slice details)
{
    struct grpc_call *grpc = grpc_call_of(call);
    assert(status != STATUS_OK || !replies_once(call) || grpc->n_sent == 1);
    disarm_timers(grpc);
    if (!grpc->delivering)
        grpc_request_release(grpc);
    end_with(grpc, status_grpc_code(status), slice_from(message), details);
}

void grpc_call_end(struct grpc_call *grpc, int status, const struct why *why, uint32_t reset_code)
{
    if (grpc->has_call && grpc->call.state != CALL_FINISHED) {
        call_cancel(&grpc->call, grpc->handler_knows);
        disarm_timers(grpc);
        if (!grpc->delivering)
            grpc_request_release(grpc);
    }
    if (grpc->front_left != 0 || grpc->state == GRPC_TRAILERS) {
        /* A message is cut in its middle, or the outcome was told and the rest is not taken. */
        if (grpc->state != GRPC_TRAILERS) {
            grpc->grpc_code = status_grpc_code(status);
            grpc_call_set_state(grpc, GRPC_TRAILERS);
        }
        byte_queue_release(&grpc->out);
        reset_stream(grpc, reset_code);
        return;
    }
    byte_queue_release(&grpc->out);
    grpc_call_refuse(grpc, status, why);
}

void grpc_call_answer_plain(struct grpc_call *grpc)
{
    struct fields fields = {.n = 0};
    const struct grpc_plain *plain = grpc->plain;
    size_t n = grpc->head->is_head ? 0 : strlen(plain->text);
    grpc->plain = NULL;
    grpc->is_plain = true;
    grpc->grpc_code = GRPC_CODE_UNKNOWN;
    add_text(&fields, ":status", plain->http_status);
    add_text(&fields, "content-type", "text/plain; charset=utf-8");
    if (plain->allow != NULL)
        add_text(&fields, "allow", plain->allow);
    if (n != 0 && byte_queue_reserve(&grpc->out, n) < 0)
        n = 0;
    byte_queue_append(&grpc->out, slice_of(plain->text, n));
    grpc_call_set_state(grpc, GRPC_TRAILERS);
    submit_reply(grpc, &fields, n != 0);
    watch_reader(grpc);
}

static size_t unsent_bytes(const struct call *call)
{
    return grpc_call_of((struct call *)call)->out.len;
}

static size_t waiting_bytes(const struct call *call)
{
    return grpc_call_of((struct call *)call)->waiting.len;
}

const struct call_codec grpc_codec = {
    .send = send_message,
    .finish = finish,
    .open_reply = open_reply,
    .want_more = grpc_request_want_more,
    .unsent_bytes = unsent_bytes,
    .waiting_bytes = waiting_bytes,
};
