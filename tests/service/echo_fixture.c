#include "echo_fixture.h"

#include "base/log.h"
#include "limits.h"
#include "service/loop.h"
#include "service/timers.h"
#include "service/work.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct echo_state {
    struct echo *echo;
    struct call *call;
    struct timer timer;
    struct work_piece *piece; /* Work: on its way */
    uint64_t n_bytes;
    uint32_t left, size;
    bool holds;
    bool gated;
};

static struct echo *echo_of(struct call *call)
{
    return (struct echo *)call->service; /* opaque to the server */
}

static struct echo_state *hold(struct call *call)
{
    struct echo_state *state = call_state_of(call);
    if (!state->holds) {
        state->holds = true;
        state->echo = echo_of(call);
        state->call = call;
        state->echo->begun++;
        state->echo->held++;
    }
    return state;
}

static void let_go(struct call *call)
{
    struct echo_state *state = call_state_of(call);
    assert(state->holds); /* exactly once */
    state->holds = false;
    state->echo->held--;
    timers_disarm(server_timers(state->echo->server), &state->timer);
}

static void finish(struct call *call, int status, const char *message)
{
    let_go(call);
    call_finish(call, status, message);
}

static void cancelled(struct call *call)
{
    echo_of(call)->cancels++;
    let_go(call);
}

static void count_drain(struct call *call)
{
    echo_of(call)->drains++;
}

static uint32_t read_u32(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

/* --- unary --- */

static int unary_message(struct call *call, struct slice body, struct why *why)
{
    hold(call);
    int status = call_send(call, body);
    let_go(call);
    if (status < 0)
        return refuse(why, status, "the answer does not fit");
    call_finish(call, STATUS_OK, NULL);
    return STATUS_OK;
}

/* --- count --- */

static void count_on(struct call *call)
{
    static const uint8_t zeros[WIRE_EVENT_BYTES_MAX];
    struct echo_state *state = call_state_of(call);
    while (state->left > 0 && call_unsent_bytes(call) <= OUT_BUFFER_MARK_BYTES) {
        int status = call_send(call, slice_of(zeros, state->size));
        assert(status == STATUS_OK);
        state->left--;
        size_t unsent = call_unsent_bytes(call);
        if (unsent > state->echo->unsent_max)
            state->echo->unsent_max = unsent;
        struct server_stats stats;
        server_stats(state->echo->server, &stats);
        if (stats.unsent_bytes > state->echo->unsent_account_max)
            state->echo->unsent_account_max = stats.unsent_bytes;
    }
    if (state->left == 0)
        finish(call, STATUS_OK, NULL);
}

static int count_message(struct call *call, struct slice body, struct why *why)
{
    if (body.len != 8 || read_u32(body.bytes + 4) > WIRE_EVENT_BYTES_MAX)
        return refuse(why, STATUS_INVALID, "Count takes 8 bytes");
    struct echo_state *state = hold(call);
    state->left = read_u32(body.bytes);
    state->size = read_u32(body.bytes + 4);
    call_open_reply(call);
    count_on(call);
    return STATUS_OK;
}

static void count_drained(struct call *call)
{
    count_drain(call);
    count_on(call);
}

/* --- client streams --- */

static int sum_end(struct call *call, struct why *why)
{
    (void)why;
    struct echo_state *state = hold(call);
    uint8_t out[8];
    for (int i = 0; i < 8; i++)
        out[i] = (uint8_t)(state->n_bytes >> (56 - 8 * i));
    call_send(call, slice_of(out, 8));
    finish(call, STATUS_OK, NULL);
    return STATUS_OK;
}

static int sum_message(struct call *call, struct slice body, struct why *why)
{
    (void)why;
    hold(call)->n_bytes += body.len;
    return STATUS_OK;
}

#define GATE_LOOK_MS 2

static bool pass_gate(struct echo *echo)
{
    if (echo->gate == 0)
        return false;
    echo->gate--;
    return true;
}

static void look_at_gate(struct timer *timer)
{
    struct echo_state *state = (struct echo_state *)((char *)timer -
                                                     offsetof(struct echo_state, timer));
    if (pass_gate(state->echo)) {
        call_want_more(state->call); /* may finish the call: nothing is touched after it */
        return;
    }
    loop_arm(server_loop(state->echo->server), timer, GATE_LOOK_MS);
}

static int slow_message(struct call *call, struct slice body, struct why *why)
{
    (void)why;
    struct echo_state *state = hold(call);
    state->n_bytes += body.len;
    state->echo->taken++;
    if (pass_gate(state->echo))
        return STATUS_OK;
    state->timer.fire = look_at_gate;
    loop_arm(server_loop(state->echo->server), &state->timer, GATE_LOOK_MS);
    return STATUS_AGAIN;
}

static int early_message(struct call *call, struct slice body, struct why *why)
{
    (void)body;
    hold(call);
    let_go(call);
    return refuse(why, STATUS_PRECONDITION, "enough: 100%% of it\n\xc3\xa9");
}

/* --- bidi and the odd ones --- */

static int bidi_message(struct call *call, struct slice body, struct why *why)
{
    hold(call);
    int status = call_send(call, body);
    if (status < 0) {
        let_go(call);
        return refuse(why, status, "the reader is too slow");
    }
    return STATUS_OK;
}

static int bidi_end(struct call *call, struct why *why)
{
    (void)why;
    hold(call);
    finish(call, STATUS_OK, NULL);
    return STATUS_OK;
}

static int refuse_message(struct call *call, struct slice body, struct why *why)
{
    (void)why;
    char *text = strndup((const char *)body.bytes, body.len);
    call_finish_details(call, STATUS_EXHAUSTED, text, body);
    free(text);
    return STATUS_OK;
}

static int never_message(struct call *call, struct slice body, struct why *why)
{
    (void)body, (void)why;
    hold(call);
    call_open_reply(call);
    return STATUS_OK;
}

static int silent_message(struct call *call, struct slice body, struct why *why)
{
    (void)body, (void)why;
    hold(call);
    return STATUS_OK;
}

/* --- work --- */

struct work_piece {
    struct echo *echo;
    uint64_t call_id;
    size_t len;
    uint8_t bytes[];
};

static void reverse(void *arg)
{
    struct work_piece *piece = arg;
    for (size_t i = 0; i < piece->len / 2; i++) {
        uint8_t swap = piece->bytes[i];
        piece->bytes[i] = piece->bytes[piece->len - 1 - i];
        piece->bytes[piece->len - 1 - i] = swap;
    }
}

static void reversed(void *arg, int status)
{
    struct work_piece *piece = arg;
    struct call *call = call_find(server_calls(piece->echo->server), piece->call_id);
    if (call != NULL && status == STATUS_OK) {
        call_send(call, slice_of(piece->bytes, piece->len));
        finish(call, STATUS_OK, NULL);
    }
    free(piece);
}

static int work_message(struct call *call, struct slice body, struct why *why)
{
    struct echo *echo = echo_of(call);
    struct work_piece *piece = malloc(sizeof(*piece) + body.len);
    assert(piece != NULL);
    *piece = (struct work_piece){.echo = echo, .call_id = call->id, .len = body.len};
    memcpy(piece->bytes, body.bytes, body.len);
    int status = work_submit(server_loop(echo->server), reverse, reversed, piece);
    if (status < 0) {
        free(piece);
        return refuse(why, status, "too much work");
    }
    hold(call);
    return STATUS_OK;
}

#define METHOD(name, kind, limit, ...)                                                             \
    {                                                                                              \
        .path = "/test.Echo/" name, .shape = kind, .message_bytes_max = limit,                     \
        .state_bytes = sizeof(struct echo_state),                                                  \
        .handler = &(const struct call_handler){.on_cancel = cancelled, __VA_ARGS__},              \
    }

const struct method echo_methods[] = {
    METHOD("Unary", CALL_UNARY, 8u << 20, .on_message = unary_message),
    METHOD("Small", CALL_UNARY, ECHO_SMALL_BYTES, .on_message = unary_message),
    METHOD("Count", CALL_SERVER_STREAM, 64, .on_message = count_message,
           .on_drain = count_drained),
    METHOD("Sum", CALL_CLIENT_STREAM, 4u << 20, .on_message = sum_message, .on_end = sum_end),
    METHOD("Slow", CALL_CLIENT_STREAM, 1u << 20, .on_message = slow_message, .on_end = sum_end),
    METHOD("Early", CALL_CLIENT_STREAM, 1u << 20, .on_message = early_message),
    METHOD("Bidi", CALL_BIDI, 1u << 16, .on_message = bidi_message, .on_end = bidi_end),
    METHOD("Refuse", CALL_SERVER_STREAM, 1u << 16, .on_message = refuse_message),
    METHOD("Never", CALL_SERVER_STREAM, 64, .on_message = never_message),
    METHOD("Silent", CALL_SERVER_STREAM, 64, .on_message = silent_message),
    METHOD("Work", CALL_UNARY, 1u << 16, .on_message = work_message),
};
const size_t n_echo_methods = sizeof(echo_methods) / sizeof(echo_methods[0]);

/* --- the server --- */

static void on_wake(void *arg)
{
    struct echo *echo = arg;
    if (echo->advance_ms != 0) { /* on the loop: it alone reads the fake clock */
        clock_advance(&echo->clock, (int64_t)echo->advance_ms * NS_PER_MS);
        echo->advance_ms = 0;
    }
    if (!echo->wants_stats)
        return;
    server_stats(echo->server, &echo->stats);
    echo->wants_stats = 0;
}

static void on_draining(void *arg)
{
    ((struct echo *)arg)->draining++;
}

static void *serve(void *arg)
{
    struct echo *echo = arg;
    echo->result = server_run(echo->server);
    return NULL;
}

static void start(struct echo *echo, const struct server_options *options, bool frozen)
{
    struct why why = {.text = ""};
    memset(echo, 0, sizeof(*echo));
    log_set_level(getenv("ECHO_LOG") == NULL ? LOG_NONE : LOG_DEBUG);
    if (options != NULL)
        echo->options = *options;
    if (echo->options.listen == NULL)
        echo->options.listen = "127.0.0.1:0";
    echo->options.methods = echo_methods;
    echo->options.n_methods = n_echo_methods;
    echo->options.service = (struct service *)echo;
    echo->options.on_wake = on_wake;
    echo->options.on_draining = on_draining;
    echo->options.arg = echo;
    echo->clock = clock_fake(NS_PER_S);
    if (frozen)
        echo->options.clock = &echo->clock;
    int status = server_create(&echo->options, &echo->server, &why);
    if (status < 0)
        fprintf(stderr, "%s\n", why.text);
    assert(status == STATUS_OK);
    assert(pthread_create(&echo->thread, NULL, serve, echo) == 0);
    echo->has_thread = true;
}

void echo_start(struct echo *echo, const struct server_options *options)
{
    start(echo, options, false);
}

void echo_start_frozen(struct echo *echo)
{
    start(echo, NULL, true);
}

void echo_join(struct echo *echo)
{
    pthread_join(echo->thread, NULL);
    assert(echo->result == STATUS_OK);
    struct server_stats stats;
    server_stats(echo->server, &stats);
    assert(stats.connections == 0 && stats.calls == 0);
    assert(stats.session_bytes == 0 && stats.receive_bytes == 0 && stats.unsent_bytes == 0);
    server_free(echo->server); /* asserts that no handle and no call is left */
    assert(echo->held == 0);
}

void echo_stop(struct echo *echo)
{
    server_stop(echo->server);
    echo_join(echo);
}

void echo_release(struct echo *echo, int n_messages)
{
    echo->gate += n_messages;
}

void echo_advance(struct echo *echo, int ms)
{
    echo->advance_ms = ms;
    server_wake(echo->server);
    bool came = echo_wait(&echo->advance_ms, 0);
    assert(came);
}

bool echo_wait(_Atomic int *value, int wanted)
{
    for (int i = 0; i < 5000; i++) {
        if (*value == wanted)
            return true;
        usleep(2000);
    }
    return false;
}

void echo_stats(struct echo *echo, struct server_stats *out)
{
    echo->wants_stats = 1;
    server_wake(echo->server);
    bool came = echo_wait(&echo->wants_stats, 0);
    assert(came);
    *out = echo->stats;
}
