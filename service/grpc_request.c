/* The request side of grpc_call.h: header block, upload, end. */
#include "service/grpc_call.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "service/wire.h"

#include <assert.h>
#include <stdlib.h>

#define FIELD_OVERHEAD 32
#define PLAIN_WAIT_MS 1000
#define PLAIN_BYTES_MAX SMALL_MESSAGE_BYTES_MAX /* of a request that is not gRPC */

/* --- the header block --- */

static bool is(struct slice name, const char *text)
{
    return slice_equal(name, slice_from(text));
}

static bool is_binary_name(struct slice name)
{
    return name.len > 4 && memcmp(name.bytes + name.len - 4, "-bin", 4) == 0;
}

void grpc_call_take_header(struct grpc_call *grpc, struct slice name, struct slice value)
{
    struct grpc_head *head = grpc->head;
    if (head == NULL)
        return;
    head->metadata_bytes += name.len + value.len + FIELD_OVERHEAD;
    head->n_fields++;
    if (is(name, ":path")) {
        if (value.len <= PATH_BYTES_MAX)
            grpc_text_copy(value, head->path, sizeof(head->path));
    } else if (is(name, ":method")) {
        head->is_post = is(value, "POST");
        head->is_head = is(value, "HEAD");
    } else if (is(name, "content-type")) {
        head->content = grpc_content_of(value);
    } else if (is(name, "grpc-timeout")) {
        head->has_timeout = true;
        head->bad_timeout = grpc_timeout_parse(value, &head->timeout_ns) < 0;
    } else if (is(name, "grpc-encoding")) {
        head->unknown_encoding = !is(value, "identity");
    } else if (is(name, "x-request-id")) {
        grpc_text_copy(value, grpc->call.request_id, sizeof(grpc->call.request_id));
    } else if (is(name, "traceparent")) {
        if (grpc_text_copy(value, grpc->call.traceparent, sizeof(grpc->call.traceparent)) &&
            !grpc_traceparent_is_valid(grpc->call.traceparent))
            grpc->call.traceparent[0] = '\0';
    } else if (is(name, "user-agent")) {
        if (value.len >= sizeof(head->agent))
            value.len = sizeof(head->agent) - 1;
        grpc_text_copy(value, head->agent, sizeof(head->agent));
    } else if (is_binary_name(name)) {
        head->bad_base64 |= !grpc_bin_is_valid(value);
    }
}

static const struct method *find_method(const struct loop *loop, const char *path)
{
    for (size_t i = 0; i < loop->n_methods; i++)
        if (strcmp(loop->methods[i].path, path) == 0)
            return &loop->methods[i];
    return NULL;
}

static void log_agent(struct grpc_call *grpc)
{
    char quoted[128];
    if (grpc->conn->agent_logged || grpc->head->agent[0] == '\0')
        return;
    grpc->conn->agent_logged = true;
    log_write(LOG_INFO, "client", "peer=%s agent=%s", grpc->conn->peer,
              log_quote(quoted, sizeof(quoted), grpc->head->agent, strlen(grpc->head->agent)));
}

/* The one line of a call that no handler sees. */
static void log_refusal(const struct grpc_call *grpc, int status, const struct why *why)
{
    char path[2 * PATH_BYTES_MAX], id[2 * sizeof(grpc->call.request_id)], reason[256];
    log_write(LOG_INFO, "call_refused", "path=%s grpc_status=%d peer=%s request_id=%s reason=%s",
              log_quote(path, sizeof(path), grpc->head->path, strlen(grpc->head->path)),
              status_grpc_code(status), grpc->conn->peer,
              log_quote(id, sizeof(id), grpc->call.request_id, strlen(grpc->call.request_id)),
              log_quote(reason, sizeof(reason), why->text, strlen(why->text)));
}

/* Why the header block cannot become a call; STATUS_OK if it can. */
static int judge_head(const struct grpc_head *head, const struct method *method, struct why *why)
{
    char seen[TEXT_NUMBER_BYTES], limit[TEXT_NUMBER_BYTES];
    if (head->metadata_bytes > METADATA_BYTES_MAX || head->n_fields > METADATA_FIELDS_MAX)
        return refuse_numbers(
            why, STATUS_TOO_LARGE,
            head->metadata_bytes > METADATA_BYTES_MAX
                ? (struct why_numbers){(double)head->metadata_bytes, METADATA_BYTES_MAX, "bytes",
                                       NULL}
                : (struct why_numbers){head->n_fields, METADATA_FIELDS_MAX, "fields", NULL},
            "the metadata has %s bytes in %u fields; taken are %s bytes in %u fields",
            text_count(seen, head->metadata_bytes), head->n_fields,
            text_count(limit, METADATA_BYTES_MAX), METADATA_FIELDS_MAX);
    if (head->content == GRPC_CONTENT_UNKNOWN_CODEC)
        return refuse(why, STATUS_UNSUPPORTED,
                      "unknown codec in content-type; use application/grpc+proto");
    if (head->unknown_encoding)
        return refuse(why, STATUS_UNSUPPORTED,
                      "unknown grpc-encoding; this server takes uncompressed messages (identity)");
    if (head->bad_base64)
        return refuse(why, STATUS_INTERNAL, "a -bin metadata value is not base64");
    if (head->bad_timeout)
        return refuse(why, STATUS_INTERNAL,
                      "grpc-timeout must be 1 to 8 digits and one of H M S m u n");
    if (method == NULL)
        return refuse(why, STATUS_UNSUPPORTED, "unknown service or method");
    if (head->has_timeout && head->timeout_ns == 0)
        return refuse_numbers(why, STATUS_DEADLINE, (struct why_numbers){0, 0, "seconds", NULL},
                              "the deadline had passed when the call arrived");
    return STATUS_OK;
}

static const struct grpc_plain *plain_for(const struct grpc_head *head, const struct method *method)
{
    static const struct grpc_plain no_path = {"404", "not found: this server speaks gRPC\n", NULL};
    static const struct grpc_plain no_post = {"405", "gRPC calls use POST\n", "POST"};
    static const struct grpc_plain no_grpc = {
        "415", "gRPC calls use content-type application/grpc\n", NULL};
    if (head->is_post)
        return &no_grpc;
    return method == NULL ? &no_path : &no_post;
}

static void answer_plain(struct grpc_call *grpc)
{
    timers_disarm(&grpc->conn->loop->timers, &grpc->request_timer);
    grpc_call_answer_plain(grpc);
    free(grpc->head);
    grpc->head = NULL;
}

static void answer_late_plain(struct timer *timer)
{
    answer_plain(list_entry(timer, struct grpc_call, request_timer));
}

/* HTTP answers when the request has ended, but does not wait for it without end. */
static void await_plain(struct grpc_call *grpc, const struct method *method)
{
    grpc->plain = plain_for(grpc->head, method);
    grpc->request_timer.fire = answer_late_plain;
    loop_arm(grpc->conn->loop, &grpc->request_timer, PLAIN_WAIT_MS);
}

static void end_late_request(struct timer *timer)
{
    struct grpc_call *grpc = list_entry(timer, struct grpc_call, request_timer);
    bool awaits = !grpc->request_ended && grpc->wants &&
                  (grpc->n_messages == 0 || grpc_reader_is_inside(&grpc->reader));
    bool grew = grpc->received_bytes - grpc->judged_bytes >= UPLOAD_TURN_BYTES_MIN;
    if (!awaits || grew) {
        grpc->judged_bytes = grpc->received_bytes;
        if (!grpc->request_ended)
            loop_arm(grpc->conn->loop, timer, FIRST_MESSAGE_TIMEOUT_MS);
        return;
    }
    struct why why;
    refuse_numbers(&why, STATUS_DEADLINE,
                   (struct why_numbers){.requested = UPLOAD_TURN_BYTES_MIN,
                                        .available =
                                            (double)(grpc->received_bytes - grpc->judged_bytes),
                                        .unit = "bytes"},
                   "the request message is not complete and grew by less than %d bytes in %d s",
                   UPLOAD_TURN_BYTES_MIN, FIRST_MESSAGE_TIMEOUT_MS / 1000);
    grpc_call_end(grpc, STATUS_DEADLINE, &why, NGHTTP2_CANCEL);
}

static void end_at_deadline(struct timer *timer)
{
    struct grpc_call *grpc = list_entry(timer, struct grpc_call, deadline_timer);
    double given_s = (double)(grpc->call.deadline_ns - grpc->began_ns) / (double)NS_PER_S;
    double spent_s = (double)(loop_now_ns(grpc->conn->loop) - grpc->began_ns) / (double)NS_PER_S;
    struct why why;
    refuse_numbers(&why, STATUS_DEADLINE, (struct why_numbers){spent_s, given_s, "seconds", NULL},
                   "the deadline of the call has passed: it gave %.3f seconds", given_s);
    grpc_call_end(grpc, STATUS_DEADLINE, &why, NGHTTP2_CANCEL);
}

static int accept_call(struct grpc_call *grpc, const struct method *method, struct why *why)
{
    struct loop *loop = grpc->conn->loop;
    struct call *call = &grpc->call;
    call->codec = &grpc_codec;
    call->method = method;
    call->service = loop->service;
    memcpy(call->peer, grpc->conn->peer, sizeof(call->peer));
    call->arrived_ns = grpc->began_ns;
    int status = call_enter(call, loop->calls, why);
    if (status < 0)
        return status;
    grpc->has_call = true;
    grpc->wants = true;
    loop->n_calls_total++;
    grpc_reader_init(&grpc->reader, method->message_bytes_max, &loop->receive_bytes,
                     RECEIVE_BYTES_MAX);
    if (grpc->head->has_timeout) {
        int64_t room_ns = INT64_MAX - grpc->began_ns;
        call->deadline_ns = grpc->head->timeout_ns > room_ns
                                ? INT64_MAX
                                : grpc->began_ns + grpc->head->timeout_ns;
        timers_arm(&loop->timers, &grpc->deadline_timer, call->deadline_ns);
    }
    loop_arm(loop, &grpc->request_timer, FIRST_MESSAGE_TIMEOUT_MS);
    grpc_call_set_state(grpc, GRPC_BODY);
    return STATUS_OK;
}

void grpc_call_begin(struct grpc_call *grpc, bool request_ends)
{
    static const nghttp2_extpri fair = {.urgency = 3, .inc = 1}; /* frame by frame in turn */
    nghttp2_session_change_extpri_stream_priority(grpc->conn->session, grpc->stream_id, &fair, 1);
    const struct method *method = find_method(grpc->conn->loop, grpc->head->path);
    grpc->began_ns = loop_now_ns(grpc->conn->loop);
    grpc->request_timer.fire = end_late_request;
    grpc->deadline_timer.fire = end_at_deadline;
    log_agent(grpc);

    struct why why = {.text = ""};
    if (!grpc->head->is_post || grpc->head->content == GRPC_CONTENT_OTHER) {
        await_plain(grpc, method);
    } else {
        int status = judge_head(grpc->head, method, &why);
        if (status == STATUS_OK)
            status = accept_call(grpc, method, &why);
        if (status < 0) {
            log_refusal(grpc, status, &why);
            grpc_call_refuse(grpc, status, &why);
        }
    }
    if (grpc->plain == NULL) {
        free(grpc->head);
        grpc->head = NULL;
    }
    if (request_ends)
        grpc_call_end_request(grpc);
}

/* --- the upload --- */

static bool takes_one_message(const struct grpc_call *grpc)
{
    enum call_shape shape = grpc->call.method->shape;
    return shape == CALL_UNARY || shape == CALL_SERVER_STREAM;
}

static bool is_open(const struct grpc_call *grpc)
{
    return grpc->has_call && grpc->call.state != CALL_FINISHED;
}

void grpc_request_release(struct grpc_call *grpc)
{
    if (grpc->reader.held != NULL)
        grpc_reader_release(&grpc->reader);
    byte_queue_release(&grpc->waiting);
}

/* After a callback: what it returned, unless it finished the call itself. True: the call goes on.
 * */
static bool settle_callback(struct grpc_call *grpc, int status, const struct why *why)
{
    grpc->delivering = false;
    if (is_open(grpc) && status < 0) {
        uint8_t details[WIRE_DETAILS_BYTES_MAX];
        const char *sentence = why->text[0] != '\0' ? why->text : status_text(status);
        size_t n = wire_pack_refusal(details, sizeof(details), status, sentence, &why->numbers);
        call_finish_details(&grpc->call, status, sentence, slice_of(details, n));
    }
    if (is_open(grpc))
        return true;
    grpc_request_release(grpc); /* the callback is over: its body may go */
    return false;
}

static bool deliver_message(struct grpc_call *grpc)
{
    struct why why = {.text = ""};
    grpc->handler_knows = true;
    grpc->delivering = true;
    grpc->wants = false; /* so that a call_want_more from inside the callback is seen */
    int status = grpc->call.method->handler->on_message(&grpc->call,
                                                        grpc_reader_message(&grpc->reader), &why);
    if (status != STATUS_AGAIN)
        grpc->wants = true;
    if (!settle_callback(grpc, status == STATUS_AGAIN ? STATUS_OK : status, &why))
        return false;
    grpc_reader_next(&grpc->reader);
    return true;
}

static void fail_request(struct grpc_call *grpc, int status, const struct why *why)
{
    grpc_call_end(grpc, status, why, NGHTTP2_INTERNAL_ERROR);
}

/* Reads messages out of bytes while the handler wants them. Returns how many bytes were taken; the
 * call may be finished. */
static size_t read_messages(struct grpc_call *grpc, struct slice bytes)
{
    size_t total = 0;
    while (total < bytes.len && is_open(grpc) && grpc->wants) {
        struct why why = {.text = ""};
        if (takes_one_message(grpc) && grpc->n_messages == 1) {
            refuse_numbers(&why, STATUS_UNSUPPORTED, (struct why_numbers){2, 1, "messages", NULL},
                           "this method takes one message, more were sent");
            fail_request(grpc, STATUS_UNSUPPORTED, &why);
            break;
        }
        size_t n;
        bool complete;
        int status = grpc_reader_take(
            &grpc->reader, slice_of(bytes.bytes + total, bytes.len - total), &n, &complete, &why);
        if (status < 0) {
            fail_request(grpc, status, &why);
            break;
        }
        total += n;
        if (!complete)
            continue;
        grpc->n_messages++;
        if (!takes_one_message(grpc) && !deliver_message(grpc))
            break;
    }
    return total;
}

static void consume(struct grpc_call *grpc, size_t n)
{
    if (n == 0)
        return;
    nghttp2_session_consume_stream(grpc->conn->session, grpc->stream_id, n);
    h2_conn_mark_dirty(grpc->conn);
}

/* The request has ended and all of it was read: tell the handler. */
static void settle_request(struct grpc_call *grpc)
{
    if (!grpc->request_ended || grpc->request_settled || !is_open(grpc) || !grpc->wants ||
        grpc->waiting.len != 0 || grpc->delivering)
        return;
    struct why why = {.text = ""};
    grpc->request_settled = true;
    grpc->call.arrived_ns = loop_now_ns(grpc->conn->loop);
    timers_disarm(&grpc->conn->loop->timers, &grpc->request_timer);
    if (grpc_reader_is_inside(&grpc->reader)) {
        refuse(&why, STATUS_INTERNAL, "the request ended inside a message");
        fail_request(grpc, STATUS_INTERNAL, &why);
        return;
    }
    if (takes_one_message(grpc) && grpc->n_messages == 0) {
        refuse_numbers(&why, STATUS_UNSUPPORTED, (struct why_numbers){0, 1, "messages", NULL},
                       "this method takes one message, none was sent");
        fail_request(grpc, STATUS_UNSUPPORTED, &why);
        return;
    }
    if (grpc->state == GRPC_BODY)
        grpc_call_set_state(grpc, GRPC_HANDLED);
    if (takes_one_message(grpc) && !deliver_message(grpc))
        return;
    const struct call_handler *handler = grpc->call.method->handler;
    if (handler->on_end != NULL) {
        grpc->handler_knows = true;
        grpc->delivering = true;
        int status = handler->on_end(&grpc->call, &why);
        if (!settle_callback(grpc, status, &why))
            return;
    }
    grpc_request_release(grpc);
}

void grpc_call_take_body(struct grpc_call *grpc, struct slice bytes)
{
    size_t n = 0;
    grpc->received_bytes += bytes.len;
    if (grpc->plain != NULL && grpc->received_bytes > PLAIN_BYTES_MAX)
        answer_plain(grpc);
    if (grpc->waiting.len == 0)
        n = read_messages(grpc, bytes);
    if (!is_open(grpc)) {
        /* dropped; a client blocked in its upload must still get to the reply */
        consume(grpc, bytes.len);
        return;
    }
    consume(grpc, n);
    struct slice rest = slice_of(bytes.bytes + n, bytes.len - n);
    if (rest.len == 0)
        return;
    struct why why = {.text = ""};
    int status = STATUS_OK;
    if (grpc->conn->loop->receive_bytes + rest.len > RECEIVE_BYTES_MAX)
        status = refuse_numbers(
            &why, STATUS_EXHAUSTED,
            (struct why_numbers){(double)(grpc->conn->loop->receive_bytes + rest.len),
                                 RECEIVE_BYTES_MAX, "bytes", NULL},
            "the server holds %u MiB of unfinished requests, its limit; try again later",
            RECEIVE_BYTES_MAX >> 20);
    else if (byte_queue_reserve(&grpc->waiting, rest.len) < 0)
        status = refuse(&why, STATUS_NO_MEMORY, "no memory for the upload");
    if (status < 0) {
        fail_request(grpc, status, &why);
        consume(grpc, rest.len);
        return;
    }
    byte_queue_append(&grpc->waiting, rest);
}

void grpc_call_end_request(struct grpc_call *grpc)
{
    grpc->request_ended = true;
    if (grpc->plain != NULL)
        answer_plain(grpc);
    settle_request(grpc);
}

void grpc_request_want_more(struct call *call)
{
    struct grpc_call *grpc = grpc_call_of(call);
    grpc->wants = true;
    if (grpc->delivering)
        return; /* whoever delivers goes on by itself */
    while (is_open(grpc) && grpc->wants && grpc->waiting.len != 0) {
        /* The handler's callbacks may end the call, not touch the queue: new bytes come from the
         * loop only. */
        size_t n = read_messages(grpc, byte_queue_front(&grpc->waiting));
        if (!is_open(grpc))
            return;
        byte_queue_drop(&grpc->waiting, n);
        consume(grpc, n);
    }
    settle_request(grpc);
}
