/* tests/service/handler_stage.h: a stage for handlers: an engine, a loop and a peer that do what
 * the test says, in one thread. Header only, because it stands in for symbols that other tests of
 * this room take from the libraries: include it once in a test.
 *
 *   test --stage_upload--> handler --work--> stage_work --> handler --submit--> stage.submits
 *   test <--stage.sent---- handler <------------- stage_event <---------------- test
 *
 * Its tokenizer makes a token of every four bytes at most, never across a newline.
 */
#ifndef QUIRE_TESTS_HANDLER_STAGE_H
#define QUIRE_TESTS_HANDLER_STAGE_H

#include "base/clock.h"
#include "base/log.h"
#include "model/chat_calls.h"
#include "service/server.h"
#include "service/service.h"
#include "service/timers.h"
#include "service/work.h"

#include "quire/v1/quire.pb-c.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define STAGE_MESSAGES 100000
#define STAGE_RUNS 4096
#define STAGE_TOKEN_BYTES 4
#define STAGE_TEMPLATE_TOKENS 10

struct stage_bytes {
    uint8_t *bytes;
    size_t len;
};

struct stage_job {
    void (*work)(void *arg);
    void (*done)(void *arg, int status);
    void *arg;
};

static struct stage {
    struct service service;
    struct call_table *calls;
    struct timers timers;
    struct call call;
    struct method method;
    /* the peer */
    struct stage_bytes sent[STAGE_MESSAGES];
    size_t n_sent;
    struct stage_bytes upload[STAGE_MESSAGES];
    size_t n_upload, at_upload;
    struct cache_salt named_by; /* what was named last */
    bool upload_ends, end_told, wants, delivering, is_finished;
    int finish_status;
    char finish_text[WHY_BYTES];
    uint8_t details[4096];
    size_t details_bytes;
    size_t unsent_bytes;
    int send_status; /* what the next messages find */
    /* the engine */
    bool ring_is_full;
    struct submit *submits[STAGE_RUNS];
    size_t n_submits, n_open, n_open_max;
    size_t n_cancels, n_drains;
    uint32_t cancel_tag;
    uint32_t credit[STAGE_RUNS]; /* by tag */
    struct event *event;
    /* the pool */
    struct stage_job jobs[64];
    size_t n_jobs;
    /* prompts as text, in the order of rendering */
    struct stage_bytes rendered[STAGE_RUNS];
    size_t n_rendered;
} stage;

/* --- the engine --- */

struct submit *submit_create_of(uint32_t *ids, uint32_t n_ids, struct arena *memory)
{
    struct submit *submit = calloc(1, sizeof *submit);
    submit->ids = ids;
    submit->n_ids = n_ids;
    if (memory != NULL) {
        submit->memory = *memory;
        arena_init(memory, memory->cap);
    }
    return submit;
}

struct submit *submit_create(uint32_t n_ids)
{
    return submit_create_of(calloc(n_ids, sizeof(uint32_t)), n_ids, NULL);
}

struct submit *submit_add_choice(struct submit *first)
{
    struct submit *last = first;
    while (last->next_choice != NULL)
        last = last->next_choice;
    return last->next_choice = submit_create(first->n_ids);
}

uint32_t submit_n_choices(const struct submit *first)
{
    uint32_t n = 0;
    for (; first != NULL; first = first->next_choice)
        n++;
    return n;
}

void submit_free(struct submit *submit)
{
    while (submit != NULL) {
        struct submit *next = submit->next_choice;
        if (submit->memory.first == NULL)
            free(submit->ids);
        arena_release(&submit->memory);
        free(submit);
        submit = next;
    }
}

bool engine_try_send(struct engine *engine, const struct message *message)
{
    (void)engine;
    switch (message->kind) {
    case MESSAGE_SUBMIT:
    case MESSAGE_ESTIMATE:
        if (stage.ring_is_full)
            return false;
        assert_true(stage.n_submits < STAGE_RUNS);
        stage.submits[stage.n_submits++] = message->submit;
        if (++stage.n_open > stage.n_open_max)
            stage.n_open_max = stage.n_open;
        return true;
    case MESSAGE_CANCEL:
        stage.n_cancels++;
        stage.cancel_tag = message->tag;
        return true;
    case MESSAGE_CREDIT:
        assert_true(message->tag < STAGE_RUNS);
        stage.credit[message->tag] += message->n_credit;
        return true;
    default:
        return true;
    }
}

/* Marked, since there is nothing to name by, and its salt noted. */
void engine_name_prompt(const struct engine *engine, struct submit *submit)
{
    (void)engine;
    submit->has_page_keys = true;
    stage.named_by = submit->salt;
}

const struct event *engine_peek_event(struct engine *engine)
{
    (void)engine;
    return stage.event;
}

void engine_pop_event(struct engine *engine)
{
    (void)engine;
    stage.event = NULL;
}

void engine_model_info(const struct engine *engine, struct engine_model_info *out)
{
    (void)engine;
    /* few pages: of layers that all look at a window */
    *out = (struct engine_model_info){.max_context = 2048, .page_tokens = 64, .n_pages = 8,
                                      .chat_format = "chatml", .vocabulary = 256,
                                      .chat_tools = CHAT_TOOLS_QWEN};
}

bool engine_weights_sha256(const struct engine *engine, char out[65])
{
    (void)engine;
    memset(out, 'a', 64);
    out[64] = '\0';
    return true;
}

int engine_tokenize(const struct engine *engine, struct slice text, int add_bos,
                    bool parse_special, size_t n_max, uint32_t **ids, struct token_span **spans,
                    size_t *n, struct why *why)
{
    (void)engine;
    (void)add_bos;
    (void)parse_special;
    size_t count = 0;
    *ids = malloc((text.len + 1) * sizeof **ids);
    if (spans != NULL)
        *spans = malloc((text.len + 1) * sizeof **spans);
    for (size_t at = 0; at < text.len;) {
        size_t len = 1;
        while (len < STAGE_TOKEN_BYTES && at + len < text.len && text.bytes[at + len - 1] != '\n')
            len++;
        (*ids)[count] = 0;
        memcpy(&(*ids)[count], text.bytes + at, len);
        if (spans != NULL)
            (*spans)[count] = (struct token_span){at, at + len};
        count++;
        at += len;
    }
    *n = count;
    if (count <= n_max)
        return STATUS_OK;
    free(*ids);
    *ids = NULL;
    if (spans != NULL) {
        free(*spans);
        *spans = NULL;
    }
    return refuse(why, STATUS_TOO_LARGE, "%zu tokens of %zu", count, n_max);
}

int engine_compile_grammar(const struct engine *engine, enum engine_grammar form,
                           struct slice text, struct grammar **out, struct why *why)
{
    (void)engine;
    (void)form;
    (void)text;
    *out = NULL;
    return refuse(why, STATUS_INVALID, "grammar: line 1, column 2: this stage compiles none");
}

void engine_free_grammar(struct grammar *grammar)
{
    assert_null(grammar);
}

int engine_render_chat(const struct engine *engine, const struct chat *chat, size_t n_max,
                       uint32_t **ids, size_t *n_ids, struct why *why)
{
    assert_true(stage.n_rendered < STAGE_RUNS);
    struct stage_bytes *text = &stage.rendered[stage.n_rendered];
    text->len = 0;
    for (size_t i = 0; i < chat->n_messages; i++) { /* all contents, without anything between */
        struct slice content = chat->messages[i].content;
        text->bytes = realloc(text->bytes, text->len + content.len + 1);
        if (content.len > 0)
            memcpy(text->bytes + text->len, content.bytes, content.len);
        text->len += content.len;
    }
    int status = engine_tokenize(engine, slice_of(text->bytes, text->len), 0, false, n_max, ids,
                                 NULL, n_ids, why);
    if (status < 0)
        return status; /* the next one takes its place */
    stage.n_rendered++;
    *ids = realloc(*ids, (*n_ids + STAGE_TEMPLATE_TOKENS) * sizeof **ids);
    memset(*ids + *n_ids, 0, STAGE_TEMPLATE_TOKENS * sizeof **ids);
    *n_ids += STAGE_TEMPLATE_TOKENS;
    if (*n_ids <= n_max)
        return STATUS_OK;
    free(*ids);
    *ids = NULL;
    return refuse(why, STATUS_TOO_LARGE, "%zu tokens of %zu", *n_ids, n_max);
}

size_t engine_read_calls(const struct engine *engine, struct slice text, struct chat_call *calls,
                         size_t max)
{
    (void)engine;
    return chat_calls_read(CHAT_TOOLS_QWEN, text, calls, max);
}

bool engine_says_byte(const struct engine *engine, uint8_t byte)
{
    return byte != 0x04 && byte != 0xf1;
}

int engine_detokenize(const struct engine *engine, const uint32_t *ids, size_t n, bool special,
                      uint8_t **out, size_t *len, struct why *why)
{
    (void)engine;
    (void)special;
    (void)why;
    *out = malloc(n + 1);
    *len = n;
    for (size_t i = 0; i < n; i++)
        (*out)[i] = (uint8_t)ids[i];
    return STATUS_OK;
}

struct slice engine_token_bytes(const struct engine *engine, uint32_t id)
{
    static uint8_t longest[TOKEN_BYTES_MAX];
    (void)engine;
    memset(longest, 'x', sizeof longest);
    return slice_of(longest, id == 0 ? sizeof longest : 1);
}

/* --- the loop --- */

struct call_table *server_calls(struct server *server)
{
    (void)server;
    return stage.calls;
}

struct timers *server_timers(struct server *server)
{
    (void)server;
    return &stage.timers;
}

struct loop *server_loop(struct server *server)
{
    (void)server;
    return NULL;
}

void server_drain(struct server *server)
{
    (void)server;
    stage.n_drains++;
}

void server_stats(const struct server *server, struct server_stats *out)
{
    (void)server;
    *out = (struct server_stats){.connections = 3};
}

int work_submit(struct loop *loop, void (*work)(void *arg), void (*done)(void *arg, int status),
                void *arg)
{
    (void)loop;
    assert_true(stage.n_jobs < sizeof stage.jobs / sizeof stage.jobs[0]);
    stage.jobs[stage.n_jobs++] = (struct stage_job){work, done, arg};
    return STATUS_OK;
}

/* Runs what is queued and what comes of it. */
static inline void stage_work(void)
{
    while (stage.n_jobs > 0) {
        struct stage_job job = stage.jobs[0];
        memmove(stage.jobs, stage.jobs + 1, --stage.n_jobs * sizeof stage.jobs[0]);
        job.work(job.arg);
        job.done(job.arg, STATUS_OK);
    }
}

/* --- the peer --- */

static int stage_send(struct call *call, struct slice message)
{
    (void)call;
    assert_false(stage.is_finished);
    if (stage.send_status < 0)
        return stage.send_status;
    assert_true(stage.n_sent < STAGE_MESSAGES);
    struct stage_bytes *sent = &stage.sent[stage.n_sent++];
    sent->bytes = malloc(message.len + 1);
    memcpy(sent->bytes, message.bytes, message.len);
    sent->len = message.len;
    return STATUS_OK;
}

static void stage_finish(struct call *call, int status, const char *message, struct slice details)
{
    /* a codec may free the call at once */
    if (call->handler_state != NULL)
        memset(call->handler_state, 0xEE, stage.method.state_bytes);
    stage.is_finished = true;
    stage.finish_status = status;
    snprintf(stage.finish_text, sizeof stage.finish_text, "%s", message);
    assert_true(details.len <= sizeof stage.details);
    if (details.len > 0)
        memcpy(stage.details, details.bytes, details.len);
    stage.details_bytes = details.len;
}

static void stage_open_reply(struct call *call)
{
    (void)call;
}

static void stage_pump(void)
{
    const struct call_handler *handler = stage.method.handler;
    struct why why = {.text = ""};
    if (stage.delivering)
        return;
    while (stage.wants && !stage.is_finished && stage.at_upload < stage.n_upload) {
        struct stage_bytes *next = &stage.upload[stage.at_upload++];
        stage.wants = false;
        stage.delivering = true;
        int status = handler->on_message(&stage.call, slice_of(next->bytes, next->len), &why);
        stage.delivering = false;
        if (status != STATUS_AGAIN)
            stage.wants = true;
        assert_true(status == STATUS_OK || status == STATUS_AGAIN);
    }
    if (!stage.wants || stage.is_finished || !stage.upload_ends || stage.end_told ||
        handler->on_end == NULL)
        return;
    stage.end_told = true;
    stage.delivering = true;
    assert_int_equal(handler->on_end(&stage.call, &why), STATUS_OK);
    stage.delivering = false;
}

static void stage_want_more(struct call *call)
{
    (void)call;
    stage.wants = true;
    stage_pump();
}

static size_t stage_unsent(const struct call *call)
{
    (void)call;
    return stage.unsent_bytes;
}

static size_t stage_waiting(const struct call *call)
{
    (void)call;
    return 0;
}

static const struct call_codec stage_codec = {stage_send,      stage_finish, stage_open_reply,
                                              stage_want_more, stage_unsent, stage_waiting};

/* --- life --- */

/* A call of that handler, open and quiet. */
static inline void stage_open(const struct call_handler *handler, size_t state_bytes)
{
    memset(&stage, 0, sizeof stage);
    log_set_level(LOG_NONE);
    assert_int_equal(call_table_create(4, &stage.calls, NULL), STATUS_OK);
    service_init(&stage.service, NULL);
    stage.method = (struct method){.path = "/test", .handler = handler,
                                   .message_bytes_max = UPLOAD_MESSAGE_BYTES_MAX,
                                   .state_bytes = state_bytes};
    stage.call = (struct call){
        .codec = &stage_codec, .method = &stage.method, .service = &stage.service};
    assert_int_equal(call_enter(&stage.call, stage.calls, NULL), STATUS_OK);
    stage.wants = true;
}

static inline void stage_close(void)
{
    if (stage.call.state != CALL_FINISHED)
        call_cancel(&stage.call, true);
    stage_work(); /* finds nobody */
    call_leave(&stage.call);
    call_table_free(stage.calls);
    assert_int_equal(timers_next_ns(&stage.timers), INT64_MAX);
    for (size_t i = 0; i < stage.n_sent; i++)
        free(stage.sent[i].bytes);
    for (size_t i = 0; i < stage.n_upload; i++)
        free(stage.upload[i].bytes);
    for (size_t i = 0; i < stage.n_rendered; i++)
        free(stage.rendered[i].bytes);
    for (size_t i = 0; i < stage.n_submits; i++)
        submit_free(stage.submits[i]);
}

/* Adds a message of the peer; stage_pump hands it over when the handler wants it. */
static inline void stage_upload(const ProtobufCMessage *message)
{
    assert_true(stage.n_upload < STAGE_MESSAGES);
    struct stage_bytes *next = &stage.upload[stage.n_upload++];
    next->len = protobuf_c_message_get_packed_size(message);
    next->bytes = malloc(next->len + 1);
    protobuf_c_message_pack(message, next->bytes);
}

/* Tells the call an event of the engine, as service_on_wake does. */
static inline void stage_tell(struct event *event)
{
    event->call_id = stage.call.id;
    stage.event = event;
    service_on_wake(&stage.service);
}

static inline struct event *stage_delta(uint32_t tag, const char *text)
{
    static union {
        struct event event;
        uint8_t room[sizeof(struct event) + EVENT_TEXT_BYTES_MAX];
    } at;
    at.event = (struct event){.kind = EVENT_DELTA, .tag = tag};
    at.event.delta.has_token = true;
    at.event.delta.text_bytes = (uint32_t)strlen(text);
    memcpy(at.event.delta.text, text, strlen(text));
    return &at.event;
}

#endif
