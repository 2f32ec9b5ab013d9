#include "door_fixture.h"

#include "base/clock.h"

#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#define PATIENCE_MS 120000 /* never the promise of a test: only the end of one that hangs */

/* --- the tiny model --- */

#define D 64
#define HEADS 4
#define KV_HEADS 2
#define FF 96
#define LAYERS 2
#define ALIGNMENT 32

struct bytes {
    uint8_t *at;
    size_t n, room;
};

static void put(struct bytes *to, const void *from, size_t n)
{
    if (to->n + n > to->room) {
        to->room = 2 * (to->n + n);
        to->at = realloc(to->at, to->room);
        assert_non_null(to->at);
    }
    memcpy(to->at + to->n, from, n);
    to->n += n;
}

static void put_u32(struct bytes *to, uint32_t value)
{
    put(to, &value, sizeof value);
}

static void put_u64(struct bytes *to, uint64_t value)
{
    put(to, &value, sizeof value);
}

static void put_text(struct bytes *to, const char *text)
{
    put_u64(to, strlen(text));
    put(to, text, strlen(text));
}

enum { U32 = 4, I32 = 5, F32 = 6, STRING = 8, ARRAY = 9 };

static void key_u32(struct bytes *keys, const char *key, uint32_t value)
{
    put_text(keys, key);
    put_u32(keys, U32);
    put_u32(keys, value);
}

static void key_f32(struct bytes *keys, const char *key, float value)
{
    put_text(keys, key);
    put_u32(keys, F32);
    put(keys, &value, sizeof value);
}

static void key_text(struct bytes *keys, const char *key, const char *value)
{
    put_text(keys, key);
    put_u32(keys, STRING);
    put_text(keys, value);
}

static void key_array(struct bytes *keys, const char *key, uint32_t kind, uint64_t n)
{
    put_text(keys, key);
    put_u32(keys, ARRAY);
    put_u32(keys, kind);
    put_u64(keys, n);
}

/* The printable stand-in of a byte, as UTF-8. */
static void stand_in(int byte, char out[3])
{
    int n_moved = 0, code = byte;
    for (int b = 0; b <= byte; b++) {
        bool shown = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
        code = shown ? b : 256 + n_moved++;
    }
    memset(out, 0, 3);
    if (code < 128) {
        out[0] = (char)code;
        return;
    }
    out[0] = (char)(0xc0 | code >> 6);
    out[1] = (char)(0x80 | (code & 63));
}

static void put_vocabulary(struct bytes *keys)
{
    static const char *const specials[] = {"<|endoftext|>", "<|im_start|>", "<|im_end|>",
                                           "<|pad|>"};
    key_text(keys, "tokenizer.ggml.model", "gpt2");
    key_text(keys, "tokenizer.ggml.pre", "smollm");
    key_array(keys, "tokenizer.ggml.tokens", STRING, TINY_VOCABULARY);
    for (int i = 0; i < 4; i++)
        put_text(keys, specials[i]);
    for (int byte = 0; byte < 256; byte++) {
        char text[3];
        stand_in(byte, text);
        put_text(keys, text);
    }
    put_text(keys, "ab");
    key_array(keys, "tokenizer.ggml.token_type", I32, TINY_VOCABULARY);
    for (int i = 0; i < TINY_VOCABULARY; i++)
        put_u32(keys, i < 4 ? 3 : 1);
    key_array(keys, "tokenizer.ggml.merges", STRING, 1);
    put_text(keys, "a b");
    key_u32(keys, "tokenizer.ggml.eos_token_id", TINY_END_ID);
}

struct tensors {
    struct bytes infos, values;
    uint64_t n, dice;
};

static float toss(struct tensors *tensors) /* -1 .. 1 */
{
    tensors->dice = tensors->dice * 6364136223846793005u + 1442695040888963407u;
    return (float)(int32_t)(tensors->dice >> 33) / (float)(1 << 30) - 1.0f;
}

static void add_tensor(struct tensors *tensors, const char *name, uint32_t n_in, uint32_t n_out,
                       float spread, float centre)
{
    put_text(&tensors->infos, name);
    put_u32(&tensors->infos, n_out == 0 ? 1 : 2);
    put_u64(&tensors->infos, n_in);
    if (n_out > 0)
        put_u64(&tensors->infos, n_out);
    put_u32(&tensors->infos, 0); /* F32 */
    put_u64(&tensors->infos, tensors->values.n);
    for (uint32_t i = 0; i < n_in * (n_out == 0 ? 1 : n_out); i++) {
        float value = centre + spread * toss(tensors);
        put(&tensors->values, &value, sizeof value);
    }
    static const uint8_t zeros[ALIGNMENT];
    put(&tensors->values, zeros, (ALIGNMENT - tensors->values.n % ALIGNMENT) % ALIGNMENT);
    tensors->n++;
}

static void add_layer(struct tensors *tensors, int layer)
{
    static const struct {
        const char *name;
        uint32_t n_in, n_out;
        float spread, centre;
    } parts[] = {
        {"attn_norm", D, 0, 0.2f, 1},
        {"attn_q", D, D, 0.4f, 0},
        {"attn_k", D, D / HEADS * KV_HEADS, 0.4f, 0},
        {"attn_v", D, D / HEADS * KV_HEADS, 0.3f, 0},
        {"attn_output", D, D, 0.3f, 0},
        {"ffn_norm", D, 0, 0.2f, 1},
        {"ffn_gate", D, FF, 0.3f, 0},
        {"ffn_up", D, FF, 0.3f, 0},
        {"ffn_down", FF, D, 0.3f, 0},
    };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        char name[64];
        snprintf(name, sizeof name, "blk.%d.%s.weight", layer, parts[i].name);
        add_tensor(tensors, name, parts[i].n_in, parts[i].n_out, parts[i].spread, parts[i].centre);
    }
}

static char model_path[256];

static void remove_model(void)
{
    unlink(model_path);
}

const char *tiny_model_path(void)
{
    if (model_path[0] != 0)
        return model_path;
    struct bytes keys = {0}, head = {0};
    struct tensors tensors = {.dice = 4};
    key_text(&keys, "general.architecture", "llama");
    key_text(&keys, "general.name", "tiny");
    key_u32(&keys, "llama.context_length", TINY_CONTEXT);
    key_u32(&keys, "llama.embedding_length", D);
    key_u32(&keys, "llama.block_count", LAYERS);
    key_u32(&keys, "llama.feed_forward_length", FF);
    key_u32(&keys, "llama.attention.head_count", HEADS);
    key_u32(&keys, "llama.attention.head_count_kv", KV_HEADS);
    key_u32(&keys, "llama.rope.dimension_count", D / HEADS);
    key_f32(&keys, "llama.rope.freq_base", 10000.0f);
    key_f32(&keys, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    put_vocabulary(&keys);
    add_tensor(&tensors, "token_embd.weight", D, TINY_VOCABULARY, 1, 0);
    for (int layer = 0; layer < LAYERS; layer++)
        add_layer(&tensors, layer);
    add_tensor(&tensors, "output_norm.weight", D, 0, 0.2f, 1);

    put(&head, "GGUF", 4);
    put_u32(&head, 3);
    put_u64(&head, tensors.n);
    put_u64(&head, 12 + 5); /* keys as written above */
    put(&head, keys.at, keys.n);
    put(&head, tensors.infos.at, tensors.infos.n);
    static const uint8_t zeros[ALIGNMENT];
    put(&head, zeros, (ALIGNMENT - head.n % ALIGNMENT) % ALIGNMENT);
    put(&head, tensors.values.at, tensors.values.n);
    snprintf(model_path, sizeof model_path, "%s/engine_tiny_%d.gguf", BINARY_DIR, (int)getpid());
    FILE *file = fopen(model_path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(head.at, 1, head.n, file), head.n);
    fclose(file);
    atexit(remove_model);
    free(keys.at);
    free(head.at);
    free(tensors.infos.at);
    free(tensors.values.at);
    return model_path;
}

/* --- the loop's side --- */

struct engine_options door_options(void)
{
    return (struct engine_options){
        .model_path = tiny_model_path(),
        .n_threads = 2,
        .activations = "16",
        .kv_dtype = "f16",
        .max_sequences = 16,
        .max_queued = 128,
        .max_step_ns = 50 * NS_PER_MS,
    };
}

static void on_wake(void *arg)
{
    uint64_t one = 1;
    struct door *door = arg;
    assert_int_equal(write(door->wake_fd, &one, sizeof one), sizeof one);
}

struct door *door_create(const struct engine_options *options)
{
    struct door *door = calloc(1, sizeof *door);
    struct why why = {.text = ""};
    door->wake_fd = eventfd(0, EFD_NONBLOCK);
    if (engine_create(options, &door->engine, &why) < 0)
        fail_msg("%s", why.text);
    return door;
}

void door_start(struct door *door)
{
    assert_int_equal(engine_start(door->engine, on_wake, door, NULL), STATUS_OK);
}

struct door *door_open(const struct engine_options *options)
{
    struct door *door = door_create(options);
    door_start(door);
    return door;
}

void door_close(struct door *door)
{
    engine_stop(door->engine);
    engine_free(door->engine);
    close(door->wake_fd);
    for (uint32_t i = 0; i < door->n_runs; i++)
        free(door->runs[i]);
    free(door);
}

struct submit *door_submit(uint32_t which, uint32_t n_prompt, uint32_t max_tokens)
{
    struct submit *submit = submit_create(n_prompt);
    assert_non_null(submit);
    for (uint32_t i = 0; i < n_prompt; i++)
        submit->ids[i] = 4 + (which * 131 + i * i * 7 + i * 29) % 256;
    submit->has_max_tokens = max_tokens > 0;
    submit->max_tokens = max_tokens;
    submit->sampling.temperature = 0;
    submit->want_ids = true;
    submit->want_text = true;
    return submit;
}

struct run *door_send(struct door *door, struct submit *submit)
{
    uint32_t first = door->n_runs;
    for (struct submit *choice = submit; choice != NULL; choice = choice->next_choice) {
        assert_true(door->n_runs < DOOR_RUNS_MAX);
        struct run *run = calloc(1, sizeof *run);
        run->call_id = choice->call_id = 1000 + first;
        run->tag = choice->tag;
        choice->arrived_ns = clock_now(&clock_monotonic);
        door->runs[door->n_runs++] = run;
    }
    assert_true(
        engine_try_send(door->engine, &(struct message){.kind = MESSAGE_SUBMIT, .submit = submit}));
    return door->runs[first];
}

struct run *door_choice(struct door *door, const struct run *first, uint32_t i)
{
    return door->runs[first->call_id - 1000 + i];
}

void door_cancel(struct door *door, const struct run *run)
{
    assert_true(engine_try_send(
        door->engine,
        &(struct message){.kind = MESSAGE_CANCEL, .call_id = run->call_id, .tag = TAG_ALL}));
}

void door_credit(struct door *door, const struct run *run, uint32_t n)
{
    assert_true(engine_try_send(
        door->engine,
        &(struct message){
            .kind = MESSAGE_CREDIT, .call_id = run->call_id, .tag = run->tag, .n_credit = n}));
}

static void take_delta(struct door *door, struct run *run, const struct event_delta *delta)
{
    assert_false(run->is_finished || run->is_refused);
    run->n_deltas++;
    run->n_logprobs += delta->has_logprob;
    if (delta->has_token) {
        run->logprobs[run->n_ids % RUN_IDS_MAX] = delta->logprob;
        run->ids[run->n_ids++ % RUN_IDS_MAX] = delta->id;
    }
    assert_true(run->n_text + delta->text_bytes < RUN_TEXT_MAX);
    memcpy(run->text + run->n_text, delta->text, delta->text_bytes);
    run->n_text += delta->text_bytes;
    if (!run->keeps_credit)
        door_credit(door, run, 1);
}

static void take_run_event(struct door *door, struct run *run, const struct event *event)
{
    switch (event->kind) {
    case EVENT_ACCEPTED:
        run->is_accepted = true;
        run->accepted = event->accepted;
        break;
    case EVENT_REFUSED:
        run->is_refused = true;
        run->refused = event->refused;
        break;
    case EVENT_FINISHED:
        run->is_finished = true;
        run->finished = event->finished;
        break;
    case EVENT_PROGRESS:
        run->progress = event->progress;
        run->n_progress += event->progress.phase == RUN_PREFILL;
        run->n_waiting_progress += event->progress.phase == RUN_WAITING;
        break;
    case EVENT_DELTA:
        take_delta(door, run, &event->delta);
        break;
    default:
        fail();
    }
}

static bool take_event(struct door *door)
{
    const struct event *event = engine_peek_event(door->engine);
    if (event == NULL)
        return false;
    if (event->kind == EVENT_STATS) {
        door->stats = event->stats;
        door->n_stats++;
    } else if (event->kind == EVENT_TABLES) {
        door->tables = event->tables;
        door->n_tables++;
    } else if (event->kind == EVENT_WEIGHTS) {
        memcpy(door->weights, event->weights_sha256, sizeof door->weights);
    } else if (event->kind == EVENT_LOST) {
        door->is_lost = true;
    } else {
        assert_in_range(event->call_id + event->tag, 1000, 1000 + door->n_runs - 1);
        take_run_event(door, door->runs[event->call_id - 1000 + event->tag], event);
    }
    engine_pop_event(door->engine);
    return true;
}

void door_turn(struct door *door, int timeout_ms)
{
    uint64_t ignored;
    bool any = false;
    while (take_event(door))
        any = true;
    if (any)
        return;
    poll(&(struct pollfd){.fd = door->wake_fd, .events = POLLIN}, 1, timeout_ms);
    (void)!read(door->wake_fd, &ignored, sizeof ignored);
    while (take_event(door))
        ;
}

static int64_t patience(void)
{
    return clock_now(&clock_monotonic) + PATIENCE_MS * NS_PER_MS;
}

void door_until_over(struct door *door, const struct run *run)
{
    for (int64_t end_ns = patience(); !run->is_finished && !run->is_refused;) {
        door_turn(door, 1000);
        if (clock_now(&clock_monotonic) > end_ns)
            fail_msg("run %llu hangs: %u ids", (unsigned long long)run->call_id, run->n_ids);
    }
}

static void ask(struct door *door, const struct message *message, const uint32_t *n_answers)
{
    uint32_t n_before = *n_answers;
    assert_true(engine_try_send(door->engine, message));
    for (int64_t end_ns = patience(); *n_answers == n_before;) {
        door_turn(door, 1000);
        if (clock_now(&clock_monotonic) > end_ns)
            fail_msg("no statistics");
    }
}

const struct engine_stats *door_stats(struct door *door)
{
    ask(door, &(struct message){.kind = MESSAGE_STATS, .call_id = 5}, &door->n_stats);
    return &door->stats;
}

const struct event_tables *door_tables(struct door *door, uint32_t id)
{
    ask(door, &(struct message){.kind = MESSAGE_TABLES, .call_id = 5, .tag = id}, &door->n_tables);
    return &door->tables;
}

struct run *door_run_alone(struct door *door, uint32_t which, uint32_t n_prompt,
                           uint32_t max_tokens)
{
    struct run *run = door_send(door, door_submit(which, n_prompt, max_tokens));
    door_until_over(door, run);
    return run;
}
