#include "service/reflection.h"

#include "base/log.h"
#include "limits.h"
#include "service/descriptor_set.h"
#include "service/service.h"
#include "service/wire.h"

#include <stdio.h>
#include <stdlib.h>

#define QUOTED_BYTES 160
#define SERVICES_MAX 32
#define EXTENSIONS_MAX 64

struct reflection {
    struct watcher watcher;
    struct call *call; /* NULL before the first message and after the end */
    uint64_t sent;     /* a bit a file */
    bool is_full;      /* the peer reads too little */
};

size_t reflection_state_bytes(void)
{
    return sizeof(struct reflection);
}

/* --- one request --- */

/* What a response points to. */
struct answer {
    struct wire_reflection_reply reply;
    struct slice files[DESCRIPTOR_FILES_MAX];
    struct descriptor_service services[SERVICES_MAX];
    int32_t numbers[EXTENSIONS_MAX];
    char error[2 * QUOTED_BYTES];
};

static void answer_missing(struct answer *answer, const char *before, struct slice name,
                           const char *after)
{
    char quoted[QUOTED_BYTES];
    log_quote(quoted, sizeof quoted, (const char *)name.bytes, name.len);
    snprintf(answer->error, sizeof answer->error, "%s%s%s", before, quoted, after);
    answer->reply = (struct wire_reflection_reply){.kind = WIRE_REPLY_ERROR,
                                                   .error_code =
                                                       status_grpc_code(STATUS_NOT_FOUND),
                                                   .error_text = answer->error};
}

static void answer_file(struct answer *answer, struct reflection *state, int file)
{
    answer->reply = (struct wire_reflection_reply){.kind = WIRE_REPLY_FILES,
                                                   .files = answer->files};
    answer->reply.n_files =
        descriptor_set_take(descriptor_set_own(), file, &state->sent, answer->files);
}

static void answer_extensions(struct answer *answer, struct slice name)
{
    struct slice set = descriptor_set_own();
    if (!descriptor_set_has_message(set, name)) {
        answer_missing(answer, "no message is named ", name, " here");
        return;
    }
    answer->reply = (struct wire_reflection_reply){
        .kind = WIRE_REPLY_EXTENSIONS,
        .base_type = name,
        .numbers = answer->numbers,
        .n_numbers = descriptor_set_extensions(set, name, answer->numbers, EXTENSIONS_MAX)};
}

static void answer_request(struct answer *answer, struct reflection *state,
                           const struct wire_reflection *request)
{
    struct slice set = descriptor_set_own(), name = request->name;
    const char *before = "", *after = "";
    int file = -1;

    switch (request->kind) {
    case WIRE_FILE_BY_NAME:
        file = descriptor_set_named(set, name);
        before = "no file is named ";
        after = " here: ask for a symbol, or list the services";
        break;
    case WIRE_FILE_OF_SYMBOL:
        file = descriptor_set_declaring(set, name);
        before = "no file declares ";
        after = " here: full names begin with a package, and services can be listed";
        break;
    case WIRE_FILE_OF_EXTENSION:
        file = descriptor_set_extending(set, name, request->number);
        before = "no file has this extension of ";
        after = ": all its extension numbers can be asked for";
        break;
    case WIRE_EXTENSIONS_OF:
        answer_extensions(answer, name);
        return;
    case WIRE_SERVICES:
        answer->reply = (struct wire_reflection_reply){
            .kind = WIRE_REPLY_SERVICES,
            .services = answer->services,
            .n_services = descriptor_set_services(set, answer->services, SERVICES_MAX)};
        return;
    default:
        answer->reply = (struct wire_reflection_reply){
            .kind = WIRE_REPLY_ERROR,
            .error_code = status_grpc_code(STATUS_INVALID),
            .error_text = "the request asks for nothing that this server knows"};
        return;
    }
    if (file >= 0)
        answer_file(answer, state, file);
    else
        answer_missing(answer, before, name, after);
}

static int answer_body(struct call *call, struct reflection *state, struct slice body,
                       struct why *why)
{
    struct wire_reflection request;
    struct answer answer;
    struct arena arena;

    arena_init(&arena, wire_arena_bytes(body.len));
    int status = wire_unpack_reflection(&arena, body, &request, why);
    if (status == STATUS_OK) {
        size_t bytes;
        answer_request(&answer, state, &request);
        uint8_t *message = wire_pack_reflection(&arena, &request, &answer.reply, &bytes);
        status = message != NULL ? call_send(call, slice_of(message, bytes)) : STATUS_NO_MEMORY;
        if (status < 0)
            refuse(why, status, "no memory for the answer: send less at once");
        free(message);
    }
    arena_release(&arena);
    return status;
}

/* --- the stream --- */

static void leave(struct reflection *state)
{
    if (state->call != NULL)
        list_unlink(&state->watcher.link);
    state->call = NULL;
}

static void on_change(struct watcher *watcher)
{
    struct reflection *state = list_entry(watcher, struct reflection, watcher);
    struct call *call = state->call;

    if (!call->service->is_draining)
        return;
    leave(state); /* a drain waits for work, not for who may ask more */
    service_refuse(call, STATUS_UNAVAILABLE, "the server is shutting down");
}

static int on_message(struct call *call, struct slice body, struct why *why)
{
    struct reflection *state = call_state_of(call);

    if (state->call == NULL) {
        state->call = call;
        state->watcher.on_change = on_change;
        list_append(&call->service->watchers, &state->watcher.link);
        if (call->service->is_draining) {
            on_change(&state->watcher);
            return STATUS_OK;
        }
    }
    int status = answer_body(call, state, body, why);
    if (status < 0) {
        leave(state);
        return service_refuse_request(call, status, why);
    }
    state->is_full = call_unsent_bytes(call) > OUT_BUFFER_MARK_BYTES;
    return state->is_full ? STATUS_AGAIN : STATUS_OK;
}

static int on_end(struct call *call, struct why *why)
{
    (void)why;
    leave(call_state_of(call));
    call_finish(call, STATUS_OK, NULL);
    return STATUS_OK;
}

static void on_cancel(struct call *call)
{
    leave(call_state_of(call));
}

static void on_drain(struct call *call)
{
    struct reflection *state = call_state_of(call);
    if (!state->is_full)
        return;
    state->is_full = false;
    call_want_more(call);
}

const struct call_handler reflection_handler = {
    .on_message = on_message,
    .on_end = on_end,
    .on_cancel = on_cancel,
    .on_drain = on_drain,
};
