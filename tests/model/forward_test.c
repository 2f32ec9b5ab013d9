/* The forward pass against a naive one in double precision, and against itself in other chunks,
 * companies and instruction sets. */
#include "gguf_fixture.h"

#include "base/status.h"
#include "kernels/ops.h"
#include "kernels/tensor_type.h"
#include "model/forward.h"
#include "model/model.h"
#include "tests/under_tsan.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define N_TOKENS 150 /* crosses two pages */
#define MAX_ROWS 256
#define PAGES_OF_SEQ 4

static const struct tiny_shape shape = {2, 64, 4, 2, 96, 300};

static uint32_t token_at(uint32_t seq, uint32_t i)
{
    return (i * 37 + seq * 101 + i * i * 3) % shape.vocabulary;
}

/* --- the naive pass --- */

struct naive {
    double *k, *v; /* [n_layers][N_TOKENS][kv] */
};

static void naive_norm(const char *name, const double *x, double *out)
{
    double sum = 0;
    for (uint32_t i = 0; i < shape.width; i++)
        sum += x[i] * x[i];
    double scale = 1 / sqrt(sum / shape.width + 1e-5f);
    for (uint32_t i = 0; i < shape.width; i++)
        out[i] = x[i] * scale * (double)tiny_value(name, i);
}

static void naive_linear(const char *name, const double *x, uint32_t n_in, uint32_t n_out,
                         double *y)
{
    for (uint32_t o = 0; o < n_out; o++) {
        y[o] = 0;
        for (uint32_t i = 0; i < n_in; i++)
            y[o] += (double)tiny_value(name, (uint64_t)o * n_in + i) * x[i];
    }
}

static void naive_rope(double *x, uint32_t n_heads, uint32_t head, uint32_t position)
{
    for (uint32_t h = 0; h < n_heads; h++)
        for (uint32_t k = 0; k < head / 2; k++) {
            double angle = position * pow(10000.0, -2.0 * k / head), *pair = x + h * head + 2 * k;
            double a = pair[0], b = pair[1];
            pair[0] = a * cos(angle) - b * sin(angle);
            pair[1] = a * sin(angle) + b * cos(angle);
        }
}

static void naive_attend(const struct naive *naive, uint32_t layer, const double *q,
                         uint32_t position, double *out)
{
    uint32_t head = shape.width / shape.n_heads, kv = head * shape.n_kv_heads;
    const double *keys = naive->k + (size_t)layer * N_TOKENS * kv,
                 *values = naive->v + (size_t)layer * N_TOKENS * kv;
    double p[N_TOKENS];

    for (uint32_t h = 0; h < shape.n_heads; h++) {
        uint32_t from = h / (shape.n_heads / shape.n_kv_heads) * head;
        double sum = 0;
        for (uint32_t t = 0; t <= position; t++) {
            double score = 0;
            for (uint32_t d = 0; d < head; d++)
                score += q[h * head + d] * keys[t * kv + from + d];
            p[t] = exp(score / sqrt(head));
            sum += p[t];
        }
        for (uint32_t d = 0; d < head; d++) {
            out[h * head + d] = 0;
            for (uint32_t t = 0; t <= position; t++)
                out[h * head + d] += p[t] / sum * values[t * kv + from + d];
        }
    }
}

static void naive_layer(const struct naive *naive, uint32_t layer, uint32_t position, double *x)
{
    uint32_t head = shape.width / shape.n_heads, kv = head * shape.n_kv_heads;
    double h[256], q[256], a[256], gate[256], up[256], y[256];
    double *k = naive->k + ((size_t)layer * N_TOKENS + position) * kv;
    double *v = naive->v + ((size_t)layer * N_TOKENS + position) * kv;
    char name[64];
#define NAME(part) (snprintf(name, sizeof name, "blk.%u." part ".weight", layer), name)

    naive_norm(NAME("attn_norm"), x, h);
    naive_linear(NAME("attn_q"), h, shape.width, shape.width, q);
    naive_linear(NAME("attn_k"), h, shape.width, kv, k);
    naive_linear(NAME("attn_v"), h, shape.width, kv, v);
    naive_rope(q, shape.n_heads, head, position);
    naive_rope(k, shape.n_kv_heads, head, position);
    naive_attend(naive, layer, q, position, a);
    naive_linear(NAME("attn_output"), a, shape.width, shape.width, y);
    for (uint32_t i = 0; i < shape.width; i++)
        x[i] += y[i];
    naive_norm(NAME("ffn_norm"), x, h);
    naive_linear(NAME("ffn_gate"), h, shape.width, shape.n_ff, gate);
    naive_linear(NAME("ffn_up"), h, shape.width, shape.n_ff, up);
    for (uint32_t i = 0; i < shape.n_ff; i++)
        gate[i] = gate[i] / (1 + exp(-gate[i])) * up[i];
    naive_linear(NAME("ffn_down"), gate, shape.n_ff, shape.width, y);
    for (uint32_t i = 0; i < shape.width; i++)
        x[i] += y[i];
}

/* logits [N_TOKENS, vocabulary] of sequence 0 */
static void naive_run(double *logits)
{
    size_t cells = (size_t)shape.n_layers * N_TOKENS * shape.width;
    struct naive naive = {calloc(cells, sizeof(double)), calloc(cells, sizeof(double))};
    double x[256], h[256];

    for (uint32_t t = 0; t < N_TOKENS; t++) {
        for (uint32_t i = 0; i < shape.width; i++)
            x[i] =
                (double)tiny_value("token_embd.weight", (uint64_t)token_at(0, t) * shape.width + i);
        for (uint32_t layer = 0; layer < shape.n_layers; layer++)
            naive_layer(&naive, layer, t, x);
        naive_norm("output_norm.weight", x, h);
        naive_linear("token_embd.weight", h, shape.width, shape.vocabulary,
                     logits + (size_t)t * shape.vocabulary);
    }
    free(naive.k);
    free(naive.v);
}

/* --- ours --- */

struct rig {
    struct device *device;
    struct model *model;
    struct forward *forward;
    struct stream *stream;
    enum kv_dtype dtype;
    uint8_t *pages;
    size_t layer_bytes, page_bytes;
    void *arrays;   /* device memory for one step's arrays */
    bool last_only; /* logits of sequence 0's very last token alone */
};

struct step_outputs {
    uint32_t rows[MAX_ROWS], position[MAX_ROWS], seq[MAX_ROWS], begin[2];
};

struct step_arrays {
    struct row_input inputs[MAX_ROWS];
    uint32_t position[MAX_ROWS], row_seq[MAX_ROWS];
    struct step_outputs outputs; /* of sequence 0 */
    uint32_t seq_begin[9], first_page[8];
    page_id table[8 * PAGES_OF_SEQ];
};

/* change (may be NULL) adds to the tiny model. */
static struct rig rig_open_changed(enum isa isa, int n_threads, enum activations activations,
                                   enum kv_dtype dtype, bool strict,
                                   void (*change)(struct gguf_writer *))
{
    struct rig rig = {.dtype = dtype};
    struct gguf_writer writer;
    struct why why = {.text = ""};
    struct device_options options = {
        .n_threads = n_threads, .isa = isa, .activations = activations, .strict = strict};

    gguf_writer_init(&writer);
    gguf_add_tiny_llama(&writer, &shape);
    if (change != NULL)
        change(&writer);
    const char *path = gguf_write(&writer, 0);
    if (device_open(&options, &rig.device, &why) < 0 ||
        model_load(rig.device, path, NULL, &rig.model, &why) < 0 ||
        forward_create(rig.device, rig.model, MAX_ROWS, MAX_ROWS, 1024, &rig.forward, &why) < 0 ||
        stream_create(rig.device, forward_ops_max(rig.model) + 2, &rig.stream, &why) < 0)
        fail_msg("%s", why.text);
    const struct kv_group_plan *group = &model_plan(rig.model)->groups[0];
    rig.layer_bytes = device_ops(rig.device)->page_layer_bytes(&group->shape, dtype);
    rig.page_bytes = rig.layer_bytes * group->n_layers;
    assert_int_equal(
        device_alloc(rig.device, 8 * PAGES_OF_SEQ * rig.page_bytes, (void **)&rig.pages, &why),
        STATUS_OK);
    assert_int_equal(device_alloc(rig.device, sizeof(struct step_arrays), &rig.arrays, &why),
                     STATUS_OK);
    unlink(path);
    gguf_writer_release(&writer);
    return rig;
}

static struct rig rig_open(enum isa isa, int n_threads, enum activations activations,
                           enum kv_dtype dtype, bool strict)
{
    return rig_open_changed(isa, n_threads, activations, dtype, strict, NULL);
}

static void rig_close(struct rig *rig)
{
    device_free(rig->device, rig->arrays);
    device_free(rig->device, rig->pages);
    forward_free(rig->forward);
    stream_free(rig->stream);
    model_free(rig->model);
    device_close(rig->device);
}

/* One step: n_rows[s] more tokens of each sequence from done[s] on; logits of sequence 0's rows go
 * to out. */
static void rig_step(struct rig *rig, uint32_t n_seqs, const uint32_t *done, const uint32_t *n_rows,
                     float *out)
{
    struct step_arrays *host = calloc(1, sizeof *host), *device = rig->arrays;
    const struct kv_group_plan *plan = &model_plan(rig->model)->groups[0];
    uint32_t n = 0, n_outputs = 0, max_position = 0;

    for (uint32_t s = 0; s < n_seqs; s++) {
        host->seq_begin[s] = n;
        for (uint32_t p = 0; p < PAGES_OF_SEQ; p++)
            host->table[s * PAGES_OF_SEQ + p] =
                p * 8 + s; /* pages of sequences interleave in memory */
        for (uint32_t i = 0; i < n_rows[s]; i++, n++) {
            host->inputs[n] =
                (struct row_input){.kind = ROW_TOKEN, .value = token_at(s, done[s] + i)};
            host->position[n] = done[s] + i;
            host->row_seq[n] = s;
            max_position = host->position[n] > max_position ? host->position[n] : max_position;
            if (s == 0 && (!rig->last_only || host->position[n] == N_TOKENS - 1)) {
                host->outputs.rows[n_outputs] = n;
                host->outputs.position[n_outputs++] = host->position[n];
            }
        }
    }
    host->seq_begin[n_seqs] = n;
    host->outputs.begin[1] = n_outputs;
    struct forward_batch batch = {.inputs = device->inputs,
                                  .rows = {.n_rows = n,
                                           .n_seqs = n_seqs,
                                           .position = device->position,
                                           .row_seq = device->row_seq,
                                           .seq_begin = device->seq_begin,
                                           .max_position = max_position},
                                  .output_rows = device->outputs.rows,
                                  .outputs = {.n_rows = n_outputs,
                                              .n_seqs = n_outputs > 0,
                                              .position = device->outputs.position,
                                              .row_seq = device->outputs.seq,
                                              .seq_begin = device->outputs.begin,
                                              .max_position = max_position}};
    struct kv_view view = {.n_groups = 1,
                           .groups[0] = {.kind = KV_FULL,
                                         .shape = plan->shape,
                                         .dtype_open = rig->dtype,
                                         .dtype_full = rig->dtype,
                                         .base = rig->pages,
                                         .page_stride = rig->page_bytes,
                                         .layer_stride = rig->layer_bytes,
                                         .table = device->table,
                                         .first_page = device->first_page,
                                         .table_stride = PAGES_OF_SEQ}};
    device_write(rig->stream, rig->arrays, host, sizeof *host);
    forward_run(rig->forward, rig->stream, &batch, &view);
    if (n_outputs > 0)
        device_read(rig->stream, out, forward_logits(rig->forward),
                    (size_t)n_outputs * shape.vocabulary * sizeof(float));
    device_submit(rig->stream);
    assert_int_equal(device_wait(rig->stream, NULL, NULL), STATUS_OK);
    free(host);
}

static float *run(struct rig *rig, uint32_t chunk, uint32_t n_others)
{
    float *logits = malloc((size_t)N_TOKENS * shape.vocabulary * sizeof *logits);
    uint32_t done[8] = {0}, n_rows[8];

    while (done[0] < N_TOKENS) {
        uint32_t left = N_TOKENS - done[0];
        n_rows[0] = left < chunk ? left : chunk;
        for (uint32_t s = 1; s <= n_others;
             s++) /* others move at their own pace and stand still at the end */
            n_rows[s] = done[s] + s <= 200 ? s : 1, done[s] = done[s] + s <= 200 ? done[s] : 199;
        rig_step(rig, 1 + n_others, done, n_rows, logits + (size_t)done[0] * shape.vocabulary);
        for (uint32_t s = 0; s <= n_others; s++)
            done[s] += n_rows[s];
    }
    return logits;
}

static float *run_once(enum isa isa, int n_threads, enum activations activations,
                       enum kv_dtype dtype, uint32_t chunk, uint32_t n_others)
{
    struct rig rig = rig_open(isa, n_threads, activations, dtype, false);
    float *logits = run(&rig, chunk, n_others);
    rig_close(&rig);
    return logits;
}

/* --- tests --- */

static void assert_near(enum activations activations, enum kv_dtype dtype, double max_allowed)
{
    double *exact = malloc((size_t)N_TOKENS * shape.vocabulary * sizeof *exact), worst = 0;
    float *logits = run_once(ISA_SCALAR, 1, activations, dtype, 64, 0);

    naive_run(exact);
    for (size_t i = 0; i < (size_t)N_TOKENS * shape.vocabulary; i++) {
        double difference = fabs(exact[i] - (double)logits[i]);
        if (!(difference <= worst)) /* no number is the worst */
            worst = difference;
    }
    if (!(worst <= max_allowed))
        fail_msg("largest difference %g, allowed %g", worst, max_allowed);
    assert_true(worst > 0); /* the two did not share a path */
    free(logits);
    free(exact);
}

static void test_forward__f32_pages_agree_with_double_precision(void **state)
{
    SKIP_UNDER_TSAN();
    assert_near(ACTIVATIONS_16, KV_F32, 2e-4);
}

static void test_forward__f16_pages_agree_within_their_rounding(void **state)
{
    SKIP_UNDER_TSAN();
    assert_near(ACTIVATIONS_16, KV_F16, 2e-2);
}

static void assert_same(float *a, float *b, const char *what)
{
    if (memcmp(a, b, (size_t)N_TOKENS * shape.vocabulary * sizeof *a) != 0)
        fail_msg("bits differ: %s", what);
    free(b);
}

static void test_forward__chunks_companions_and_threads_change_no_bit(void **state)
{
    float *alone = run_once(ISA_AUTO, 1, ACTIVATIONS_16, KV_F16, 64, 0);
    static const uint32_t chunks[] = {1, 7, 37, 150};

    for (size_t i = 0; i < sizeof chunks / sizeof *chunks; i++)
        assert_same(alone, run_once(ISA_AUTO, 1, ACTIVATIONS_16, KV_F16, chunks[i], 0), "chunk");
    assert_same(alone, run_once(ISA_AUTO, 1, ACTIVATIONS_16, KV_F16, 16, 7), "beside seven others");
    assert_same(alone, run_once(ISA_AUTO, 2, ACTIVATIONS_16, KV_F16, 64, 3), "two threads");
    assert_same(alone, run_once(ISA_AUTO, 3, ACTIVATIONS_16, KV_F16, 5, 7), "three threads");
    free(alone);
}

static void test_forward__instruction_sets_change_no_bit(void **state)
{
    float *scalar = run_once(ISA_SCALAR, 1, ACTIVATIONS_16, KV_F16, 64, 0);
    static const enum isa isas[] = {ISA_AVX2, ISA_AVX512};

    for (size_t i = 0; i < sizeof isas / sizeof *isas; i++) {
        if (!isa_is_available(isas[i])) {
            print_message("%s is not on this machine: not compared\n", isa_name(isas[i]));
            continue;
        }
        assert_same(scalar, run_once(isas[i], 1, ACTIVATIONS_16, KV_F16, 64, 0), isa_name(isas[i]));
    }
    free(scalar);
}

static void test_forward__runs_with_device_memory_locked(void **state)
{
    struct rig rig = rig_open(ISA_AUTO, 1, ACTIVATIONS_16, KV_F16, true);
    float *strict = run(&rig, 64, 1),
          *free_running = run_once(ISA_AUTO, 1, ACTIVATIONS_16, KV_F16, 64, 1);

    rig_close(&rig);
    assert_same(free_running, strict, "strict device");
    free(free_running);
}

static void test_forward__a_step_enqueues_the_same_list_whatever_its_rows(void **state)
{
    struct rig rig = rig_open(ISA_AUTO, 1, ACTIVATIONS_16, KV_F16, false);
    float *out = malloc((size_t)MAX_ROWS * shape.vocabulary * sizeof *out);
    uint64_t counts[3];

    for (uint32_t i = 0; i < 3; i++) {
        uint64_t before = stream_n_enqueued(rig.stream);
        rig_step(&rig, 1, (uint32_t[]){0}, (uint32_t[]){i == 0 ? 1 : i * 60}, out);
        counts[i] = stream_n_enqueued(rig.stream) - before;
    }
    assert_int_equal(counts[0], counts[1]);
    assert_int_equal(counts[0], counts[2]);
    free(out);
    rig_close(&rig);
}

static void test_forward__rows_nobody_asks_for_are_left_out_and_change_no_bit(void **state)
{
    struct rig rig = rig_open(ISA_AUTO, 1, ACTIVATIONS_16, KV_F16, false);
    size_t row = (size_t)shape.vocabulary;
    float *all = run(&rig, 64, 0), *last = malloc(N_TOKENS * row * sizeof *last);
    uint64_t n_with, n_without, begin = stream_n_enqueued(rig.stream);

    rig.last_only = true;
    rig_step(&rig, 1, (uint32_t[]){0}, (uint32_t[]){64}, last);
    n_without = stream_n_enqueued(rig.stream) - begin;
    rig_step(&rig, 2, (uint32_t[]){64, 0}, (uint32_t[]){85, 9}, last);
    begin = stream_n_enqueued(rig.stream);
    rig_step(&rig, 2, (uint32_t[]){149, 9}, (uint32_t[]){1, 30}, last);
    n_with = stream_n_enqueued(rig.stream) - begin;

    assert_memory_equal(last, all + (N_TOKENS - 1) * row, row * sizeof *last);
    assert_true(n_without + 6 < n_with); /* no attention, no feed-forward, no head at the end */
    free(all);
    free(last);
    rig_close(&rig);
}

static void add_biases(struct gguf_writer *writer, const char *const *parts, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        uint64_t n_values = strcmp(parts[i], "attn_q") == 0 ? 64 : 32;
        float values[64] = {0};
        char name[64];
        for (uint32_t j = 0; strcmp(parts[i], "attn_k") == 0 && j < n_values; j++)
            values[j] = 0.25f * (float)(j % 5) - 0.5f;
        snprintf(name, sizeof name, "blk.1.%s.bias", parts[i]);
        gguf_add_tensor(writer, name, TENSOR_F32, 1, &n_values, values, n_values * sizeof *values);
    }
}

static void all_biases(struct gguf_writer *writer)
{
    add_biases(writer, (const char *const[]){"attn_q", "attn_k", "attn_v"}, 3);
}

static void key_bias(struct gguf_writer *writer)
{
    add_biases(writer, (const char *const[]){"attn_k"}, 1);
}

static void test_forward__a_bias_that_the_file_lacks_is_zero(void **state)
{
    void (*const changes[])(struct gguf_writer *) = {NULL, all_biases, key_bias};
    float *logits[3];

    for (int i = 0; i < 3; i++) {
        struct rig rig = rig_open_changed(ISA_AUTO, 1, ACTIVATIONS_16, KV_F16, false, changes[i]);
        logits[i] = run(&rig, 64, 0);
        rig_close(&rig);
    }
    size_t bytes = (size_t)N_TOKENS * shape.vocabulary * sizeof **logits;
    assert_true(memcmp(logits[0], logits[1], bytes) != 0); /* it is added */
    assert_memory_equal(logits[1], logits[2], bytes);
    for (int i = 0; i < 3; i++)
        free(logits[i]);
}

/* The last layer's queries have a bias of their own to take. */
static void test_forward__a_last_layer_for_all_rows_gives_the_same_bits(void **state)
{
    size_t row = (size_t)shape.vocabulary;
    float *last[2];

    for (int whole = 0; whole < 2; whole++) {
        struct rig rig = rig_open_changed(ISA_AUTO, 2, ACTIVATIONS_16, KV_F16, false, all_biases);
        last[whole] = malloc(N_TOKENS * row * sizeof **last);
        if (whole)
            forward_keep_last_layer_whole(rig.forward);
        rig.last_only = true;
        rig_step(&rig, 1, (uint32_t[]){0}, (uint32_t[]){64}, last[whole]);
        rig_step(&rig, 2, (uint32_t[]){64, 0}, (uint32_t[]){86, 9}, last[whole]);
        rig_close(&rig);
    }
    assert_memory_equal(last[1], last[0], row * sizeof **last);
    free(last[0]);
    free(last[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forward__f32_pages_agree_with_double_precision),
        cmocka_unit_test(test_forward__f16_pages_agree_within_their_rounding),
        cmocka_unit_test(test_forward__chunks_companions_and_threads_change_no_bit),
        cmocka_unit_test(test_forward__instruction_sets_change_no_bit),
        cmocka_unit_test(test_forward__runs_with_device_memory_locked),
        cmocka_unit_test(test_forward__a_step_enqueues_the_same_list_whatever_its_rows),
        cmocka_unit_test(test_forward__rows_nobody_asks_for_are_left_out_and_change_no_bit),
        cmocka_unit_test(test_forward__a_bias_that_the_file_lacks_is_zero),
        cmocka_unit_test(test_forward__a_last_layer_for_all_rows_gives_the_same_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
