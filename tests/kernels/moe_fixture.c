#include "tests/kernels/moe_fixture.h"
#include "tests/kernels/linear_fixture.h"
#include "base/status.h"
#include "kernels/cpu/cpu_math.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

static void *room(size_t bytes)
{
    void *memory = calloc(bytes > 0 ? bytes : 1, 1);
    assert_non_null(memory);
    return memory;
}

static struct weight_source source_of(uint32_t type, uint32_t n_in, uint32_t n_out, uint64_t seed)
{
    return (struct weight_source){.type = type,
                                  .n_in = n_in,
                                  .n_out = n_out,
                                  .bytes = random_weight(type, n_in, n_out, seed),
                                  .name = "blk.1.ffn_exps.weight"};
}

/* Different experts for each row: the first slot takes 0 for most rows. */
static void choose(const struct moe_case *c, struct moe_inputs *inputs, uint64_t seed)
{
    uint32_t n = c->n_experts > c->n_used ? c->n_experts - 1 : c->n_experts;
    for (uint32_t r = 0; r < c->n_rows; r++) {
        uint32_t first = random_next(&seed) % 4 != 0 ? 0 : random_next(&seed) % n;
        for (uint32_t slot = 0; slot < c->n_used; slot++) {
            uint32_t place = c->n_used - 1 - slot; /* not in the order of experts */
            inputs->experts[r * c->n_used + place] = (first + slot) % n;
            inputs->weights[r * c->n_used + place] = 0.1f + 0.3f * random_float(&seed);
        }
    }
}

struct moe_inputs moe_inputs_of(const struct moe_case *c)
{
    uint32_t n = c->n_experts;
    size_t n_pairs = (size_t)c->n_rows * c->n_used;
    struct moe_inputs inputs = {
        .gate_up = room(2 * n * sizeof *inputs.gate_up),
        .down = room(n * sizeof *inputs.down),
        .rows = random_rows(c->n_rows, c->n_in, 3),
        .experts = room(n_pairs * sizeof *inputs.experts),
        .weights = room(n_pairs * sizeof *inputs.weights),
    };
    for (uint32_t e = 0; e < n; e++) {
        inputs.gate_up[e] = source_of(c->gate_type, c->n_in, c->n_ff, 100 + e);
        inputs.gate_up[n + e] = source_of(c->up_type, c->n_in, c->n_ff, 200 + e);
        inputs.down[e] = source_of(c->down_type, c->n_ff, c->n_out, 300 + e);
    }
    choose(c, &inputs, 17 + c->n_rows);
    return inputs;
}

void moe_inputs_free(const struct moe_case *c, struct moe_inputs *inputs)
{
    for (uint32_t e = 0; e < 2 * c->n_experts; e++)
        free((void *)(uintptr_t)inputs->gate_up[e].bytes);
    for (uint32_t e = 0; e < c->n_experts; e++)
        free((void *)(uintptr_t)inputs->down[e].bytes);
    free(inputs->gate_up);
    free(inputs->down);
    free(inputs->rows);
    free(inputs->experts);
    free(inputs->weights);
}

static void *device_room(struct moe_bench *bench, const void *from, size_t bytes)
{
    void *memory;
    assert_int_equal(device_alloc(bench->device, bytes, &memory, NULL), STATUS_OK);
    if (from != NULL)
        assert_int_equal(device_upload(bench->device, memory, from, bytes), STATUS_OK);
    return memory;
}

static struct weight *load(struct moe_bench *bench, enum weight_fuse fuse,
                           const struct weight_source *sources, uint32_t n)
{
    struct weight *weight;
    struct why why = {.text = ""};
    if (bench->ops->weight_load(bench->device, fuse, sources, n, 0, 1, &weight, &why) < 0)
        fail_msg("%s", why.text);
    return weight;
}

static size_t y_values(const struct moe_case *c)
{
    return (size_t)c->n_rows * (c->n_out + c->extra_stride);
}

struct moe_args moe_open(struct moe_bench *bench, const struct moe_case *c,
                         const struct moe_inputs *inputs)
{
    const struct ops *ops = bench->ops;
    struct weight *gate_up = load(bench, WEIGHT_EXPERTS_GATE_UP, inputs->gate_up, 2 * c->n_experts);
    struct weight *down = load(bench, WEIGHT_EXPERTS, inputs->down, c->n_experts);
    size_t n_pairs = (size_t)c->n_rows * c->n_used;
    size_t workspace = ops->moe_workspace_bytes(bench->device, gate_up, down, c->n_rows, c->n_used);
    uint8_t *garbage = room(workspace);
    float *y = room(y_values(c) * sizeof *y);
    memset(garbage, 0xff, workspace);
    for (size_t i = 0; i < y_values(c); i++)
        y[i] = 0.5f;
    struct moe_args args = {
        .gate_up = gate_up,
        .down = down,
        .in = bench->panel(bench->owner, inputs->rows, c->n_rows, c->n_in,
                           ops->weight_info(gate_up).act_forms),
        .experts = device_room(bench, inputs->experts, n_pairs * sizeof(uint32_t)),
        .weights = device_room(bench, inputs->weights, n_pairs * sizeof(float)),
        .n_rows = c->n_rows,
        .n_used = c->n_used,
        .scales_input = c->scales_input,
        .workspace = device_room(bench, garbage, workspace),
        .workspace_bytes = workspace,
        .mode = c->mode,
        .y = device_room(bench, y, y_values(c) * sizeof *y),
        .y_stride = c->n_out + c->extra_stride,
    };
    free(garbage);
    free(y);
    return args;
}

void moe_close(struct moe_bench *bench, const struct moe_args *args)
{
    void *parts[] = {args->in.base, (void *)(uintptr_t)args->experts,
                     (void *)(uintptr_t)args->weights, args->workspace, args->y};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        device_free(bench->device, parts[i]);
    bench->ops->weight_free(bench->device, (struct weight *)(uintptr_t)args->gate_up);
    bench->ops->weight_free(bench->device, (struct weight *)(uintptr_t)args->down);
}

float *moe_wait(struct moe_bench *bench, const struct moe_case *c, const struct moe_args *args,
                int *status)
{
    float *y = room(y_values(c) * sizeof *y);
    device_submit(bench->stream);
    *status = device_wait(bench->stream, NULL, NULL);
    if (*status == STATUS_OK)
        assert_int_equal(device_download(bench->device, y, args->y, y_values(c) * sizeof *y), 0);
    return y;
}

float *moe_result(struct moe_bench *bench, const struct moe_case *c,
                  const struct moe_inputs *inputs, int *status)
{
    struct moe_args args = moe_open(bench, c, inputs);
    bench->ops->moe(bench->stream, &args);
    float *y = moe_wait(bench, c, &args, status);
    moe_close(bench, &args);
    return y;
}

/* malloc'd [n_rows, n_out] */
static float *product(struct moe_bench *bench, const struct weight_source *source,
                      const float *rows, uint32_t n_rows)
{
    struct weight *weight = load(bench, WEIGHT_PLAIN, source, 1);
    struct act in = bench->panel(bench->owner, rows, n_rows, source->n_in,
                                 bench->ops->weight_info(weight).act_forms);
    size_t bytes = (size_t)n_rows * source->n_out * sizeof(float);
    float *y = device_room(bench, NULL, bytes), *host = room(bytes);
    bench->ops->linear(bench->stream, &(struct linear_args){.weight = weight,
                                                            .in = in,
                                                            .n_rows = n_rows,
                                                            .mode = LINEAR_SET,
                                                            .y = y,
                                                            .y_stride = source->n_out});
    device_submit(bench->stream);
    assert_int_equal(device_wait(bench->stream, NULL, NULL), STATUS_OK);
    assert_int_equal(device_download(bench->device, host, y, bytes), STATUS_OK);
    device_free(bench->device, y);
    device_free(bench->device, in.base);
    bench->ops->weight_free(bench->device, weight);
    return host;
}

/* What expert e gives for every row, with the input scaled as this slot of the row asks; malloc'd
 * [n_rows, n_out]. */
static float *expert_result(struct moe_bench *bench, const struct moe_case *c,
                            const struct moe_inputs *inputs, uint32_t e, uint32_t slot)
{
    float *gate = product(bench, &inputs->gate_up[e], inputs->rows, c->n_rows);
    float *up = product(bench, &inputs->gate_up[c->n_experts + e], inputs->rows, c->n_rows);
    for (size_t i = 0; i < (size_t)c->n_rows * c->n_ff; i++) {
        float weight = inputs->weights[i / c->n_ff * c->n_used + slot];
        float scale = c->scales_input ? weight : 1.0f;
        float scaled = up[i] * scale;
        gate[i] = cpu_silu(gate[i] * scale) * scaled;
    }
    float *result = product(bench, &inputs->down[e], gate, c->n_rows);
    free(gate);
    free(up);
    return result;
}

static bool is_chosen(const struct moe_case *c, const struct moe_inputs *inputs, uint32_t e)
{
    for (size_t pair = 0; pair < (size_t)c->n_rows * c->n_used; pair++)
        if (inputs->experts[pair] == e)
            return true;
    return false;
}

/* results [n_rows, n_used, n_out] of the pairs that chose e; without scales all slots are alike. */
static void fill_pairs(struct moe_bench *bench, const struct moe_case *c,
                       const struct moe_inputs *inputs, uint32_t e, float *results)
{
    size_t bytes = c->n_out * sizeof *results;
    float *result = NULL;
    for (uint32_t slot = 0; slot < c->n_used; slot++) {
        if (result == NULL || c->scales_input) {
            free(result);
            result = expert_result(bench, c, inputs, e, slot);
        }
        for (size_t r = 0; r < c->n_rows; r++)
            if (inputs->experts[r * c->n_used + slot] == e)
                memcpy(results + (r * c->n_used + slot) * c->n_out, result + r * c->n_out, bytes);
    }
    free(result);
}

float *moe_of_linears(struct moe_bench *bench, const struct moe_case *c,
                      const struct moe_inputs *inputs)
{
    size_t stride = c->n_out + c->extra_stride, n_pairs = (size_t)c->n_rows * c->n_used;
    float *results = room(n_pairs * c->n_out * sizeof *results);
    float *y = room(c->n_rows * stride * sizeof *y);
    for (uint32_t e = 0; e < c->n_experts; e++)
        if (is_chosen(c, inputs, e))
            fill_pairs(bench, c, inputs, e, results);
    for (size_t i = 0; i < c->n_rows * stride; i++) {
        size_t row = i / stride, o = i % stride;
        float sum = 0;
        for (size_t pair = row * c->n_used; o < c->n_out && pair < (row + 1) * c->n_used; pair++) {
            float weight = c->scales_input ? 1.0f : inputs->weights[pair];
            float weighted = weight * results[pair * c->n_out + o];
            sum += weighted;
        }
        y[i] = o < c->n_out && c->mode == LINEAR_SET ? sum : 0.5f + sum;
    }
    free(results);
    return y;
}
