#include "tests/kernels/linear_fixture.h"
#include "base/status.h"
#include "kernels/cpu/cpu_panel.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

const uint32_t linear_types[N_LINEAR_TYPES] = {
    TENSOR_F32,  TENSOR_F16,  TENSOR_Q4_0, TENSOR_Q4_1,   TENSOR_Q8_0,   TENSOR_BF16,
    TENSOR_Q5_0, TENSOR_Q5_1, TENSOR_Q2_K, TENSOR_Q3_K,   TENSOR_Q4_K,   TENSOR_Q5_K,
    TENSOR_Q6_K, TENSOR_IQ4_NL, TENSOR_IQ4_XS, TENSOR_MXFP4};

uint32_t linear_width(uint32_t type, uint32_t n_in)
{
    uint32_t block = tensor_type_info(type)->block_values;
    return (n_in + block - 1) / block * block;
}

struct rig rig_open(enum isa isa, enum activations activations, int n_threads)
{
    struct rig rig = {.isa = isa, .activations = activations};
    struct device_options options = {
        .n_threads = n_threads, .isa = isa, .activations = activations, .strict = true};
    struct why why;
    assert_int_equal(device_open(&options, &rig.device, &why), STATUS_OK);
    assert_int_equal(stream_create(rig.device, 64, &rig.stream, &why), STATUS_OK);
    rig.ops = device_ops(rig.device);
    return rig;
}

void rig_close(struct rig *rig)
{
    stream_free(rig->stream);
    device_close(rig->device);
}

static void *rig_alloc(struct rig *rig, size_t bytes)
{
    void *memory;
    struct why why;
    assert_int_equal(device_alloc(rig->device, bytes, &memory, &why), STATUS_OK);
    return memory;
}

float *rig_alloc_floats(struct rig *rig, size_t n)
{
    return rig_alloc(rig, n * sizeof(float));
}

void rig_run(struct rig *rig)
{
    device_submit(rig->stream);
    assert_int_equal(device_wait(rig->stream, NULL, NULL), STATUS_OK);
}

struct act rig_act(struct rig *rig, uint32_t max_rows, uint32_t width, uint32_t forms)
{
    size_t bytes = rig->ops->act_bytes(rig->device, max_rows, width, forms);
    return (struct act){rig_alloc(rig, bytes), max_rows, width, forms};
}

struct fill {
    struct act act;
    const float *rows;
    uint32_t n_rows;
};

static void run_fill(const struct cpu_worker *worker, const void *args)
{
    const struct fill *fill = args;
    const struct cpu_panel_ops *panel = cpu_panel_ops(stream_isa(worker->stream));
    for (uint32_t row = 0; worker->idx == 0 && row < fill->n_rows; row++)
        panel->write(&fill->act, stream_activations(worker->stream), row, fill->n_rows, 0,
                     fill->act.width, fill->rows + (size_t)row * fill->act.width);
}

void rig_fill_act(struct rig *rig, const struct act *act, const float *rows, uint32_t n_rows)
{
    struct fill fill = {*act, rows, n_rows};
    cpu_stream_push(rig->stream, "fill", run_fill, &fill, sizeof fill, true);
    rig_run(rig);
}

uint32_t random_next(uint64_t *state)
{
    *state = *state * 6364136223846793005ull + 1442695040888963407ull;
    uint64_t z = (*state ^ (*state >> 33)) * 0xff51afd7ed558ccdull;
    return (uint32_t)(z >> 32);
}

float random_float(uint64_t *state)
{
    float sum = 0;
    for (int i = 0; i < 4; i++)
        sum += (float)random_next(state) * 0x1p-32f - 0.5f;
    return sum * 1.7320508f;
}

/* Where the f16 scales of a block stand; -1: it has no such one. */
static void places_of_halves(uint32_t type, int *d, int *m)
{
    *d = 0;
    *m = -1;
    switch (type) {
    case TENSOR_Q4_1:
    case TENSOR_Q5_1:
    case TENSOR_Q4_K:
    case TENSOR_Q5_K:
        *m = 2;
        break;
    case TENSOR_Q2_K:
        *d = 80;
        *m = 82;
        break;
    case TENSOR_Q3_K:
        *d = 108;
        break;
    case TENSOR_Q6_K:
        *d = 208;
        break;
    case TENSOR_MXFP4:
        *d = -1;
        break;
    }
}

uint8_t *random_weight(uint32_t type, uint32_t n_in, uint32_t n_out, uint64_t seed)
{
    const struct tensor_type_info *info = tensor_type_info(type);
    size_t bytes = tensor_type_bytes(type, n_in, n_out);
    uint8_t *weight = malloc(bytes);
    assert_non_null(weight);
    uint64_t state = seed;
    bool is_k = info->block_values == 256; /* its small scales multiply by up to 128 */
    int d_at, m_at;
    places_of_halves(type, &d_at, &m_at);
    for (size_t at = 0; at < bytes; at += info->block_bytes) {
        float value = random_float(&state), bend = is_k ? 0.002f : 0.05f;
        uint16_t d = f16_from_f32(value * bend), m = f16_from_f32(random_float(&state) * 2 * bend);
        for (uint32_t i = 0; i < info->block_bytes; i++)
            weight[at + i] = (uint8_t)random_next(&state);
        if (type == TENSOR_F32) {
            memcpy(weight + at, &value, 4);
            continue;
        }
        if (type == TENSOR_BF16) {
            memcpy(weight + at, (uint8_t *)&value + 2, 2);
            continue;
        }
        if (d_at < 0)
            weight[at] = (uint8_t)(120 + weight[at] % 8);
        else
            memcpy(weight + at + d_at, &d, 2);
        if (m_at >= 0)
            memcpy(weight + at + m_at, &m, 2);
    }
    return weight;
}

float *random_rows(uint32_t n_rows, uint32_t width, uint64_t seed)
{
    float *rows = malloc((size_t)n_rows * width * sizeof *rows);
    assert_non_null(rows);
    uint64_t state = seed ^ 0x9e3779b97f4a7c15ull;
    for (size_t i = 0; i < (size_t)n_rows * width; i++) {
        rows[i] = random_float(&state);
        if (random_next(&state) % 97 == 0)
            rows[i] *= 100;
    }
    for (size_t block = 0; block + 32 <= (size_t)n_rows * width; block += 32)
        if (random_next(&state) % 31 == 0)
            memset(rows + block, 0, 32 * sizeof *rows);
    return rows;
}

struct weight *rig_load(struct rig *rig, enum weight_fuse fuse, const struct weight_source *sources,
                        uint32_t n_sources)
{
    struct weight *weight;
    struct why why;
    int status = rig->ops->weight_load(rig->device, fuse, sources, n_sources, 0, 1, &weight, &why);
    assert_int_equal(status, STATUS_OK);
    return weight;
}

float *linear_result(enum isa isa, enum activations activations, int n_threads,
                     const struct linear_case *c)
{
    struct rig rig = rig_open(isa, activations, n_threads);
    uint8_t *bytes = random_weight(c->type, c->n_in, c->n_out, c->seed);
    struct weight_source source = {c->type, c->n_in, c->n_out, bytes, "w"};
    struct weight *weight = rig_load(&rig, WEIGHT_PLAIN, &source, 1);
    free(bytes);

    struct act act = rig_act(&rig, c->n_rows, c->n_in, rig.ops->weight_info(weight).act_forms);
    float *rows = random_rows(c->n_rows, c->n_in, c->seed + 1);
    rig_fill_act(&rig, &act, rows, c->n_rows);
    free(rows);

    uint32_t y_stride = c->n_out + c->extra_stride;
    size_t n = (size_t)c->n_rows * y_stride;
    float *result = malloc(n * sizeof *result);
    assert_non_null(result);
    for (size_t i = 0; i < n; i++)
        result[i] = 0.5f;
    float *bias_values = random_rows(1, c->n_out, c->seed + 2);
    float *y = rig_alloc_floats(&rig, n), *bias = rig_alloc_floats(&rig, c->n_out);
    device_write(rig.stream, y, result, n * sizeof *y);
    device_write(rig.stream, bias, bias_values, c->n_out * sizeof *bias);
    rig.ops->linear(rig.stream, &(struct linear_args){.weight = weight,
                                                      .in = act,
                                                      .bias = c->has_bias ? bias : NULL,
                                                      .n_rows = c->n_rows,
                                                      .mode = c->mode,
                                                      .y = y,
                                                      .y_stride = y_stride});
    device_read(rig.stream, result, y, n * sizeof *y);
    rig_run(&rig);

    free(bias_values);
    device_free(rig.device, y);
    device_free(rig.device, bias);
    device_free(rig.device, act.base);
    rig.ops->weight_free(rig.device, weight);
    rig_close(&rig);
    return result;
}
