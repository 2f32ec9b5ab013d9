#include "tests/kernels/route_fixture.h"
#include "tests/kernels/linear_fixture.h"
#include "base/status.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>

struct route_rule route_rule_of(int i)
{
    static const struct route_rule rules[ROUTE_RULES] = {
        {8, 2, 1, 1, 2, ROUTE_SOFTMAX, false, true, 1},        /* Mixtral */
        {60, 4, 1, 1, 2, ROUTE_SOFTMAX, false, false, 1},      /* qwen2moe */
        {128, 8, 1, 1, 2, ROUTE_SOFTMAX, false, true, 1},      /* qwen3moe */
        {16, 1, 1, 1, 2, ROUTE_SIGMOID, true, false, 1},       /* Scout */
        {160, 6, 8, 3, 1, ROUTE_SOFTMAX, false, false, 16},    /* DeepSeek V2 */
        {256, 8, 8, 4, 2, ROUTE_SIGMOID, false, true, 2.5f},   /* DeepSeek V3 */
        {1, 1, 1, 1, 1, ROUTE_SIGMOID, false, false, 1},       /* the gate of a shared expert */
        {33, 33, 1, 1, 2, ROUTE_SOFTMAX, false, true, 0.5f},   /* all of them */
        {1024, 32, 32, 1, 2, ROUTE_SIGMOID, false, true, 1},   /* one group that is used up */
        {15, 5, 15, 7, 2, ROUTE_SOFTMAX, false, true, 1},      /* groups of one */
        {17, 3, 1, 1, 1, ROUTE_SOFTMAX, true, true, 1},
        {48, 7, 3, 2, 2, ROUTE_SOFTMAX, false, true, 1},
    };
    return rules[i];
}

float *route_logits(const struct route_rule *rule, uint32_t n_rows, uint64_t seed)
{
    float *logits = malloc((size_t)n_rows * rule->n_experts * sizeof *logits);
    assert_non_null(logits);
    for (size_t i = 0; i < (size_t)n_rows * rule->n_experts; i++) {
        float value = 2 * random_float(&seed);
        logits[i] = i / rule->n_experts % 2 == 1 ? rintf(value) : value;
    }
    return logits;
}

static void *room(struct device *device, size_t bytes)
{
    void *memory;
    assert_int_equal(device_alloc(device, bytes, &memory, NULL), STATUS_OK);
    return memory;
}

struct routed route_run(struct device *device, const struct route_rule *rule, const float *logits,
                        const float *bias, uint32_t n_rows)
{
    const struct ops *ops = device_ops(device);
    size_t logits_bytes = (size_t)n_rows * rule->n_experts * sizeof(float);
    size_t bias_bytes = rule->n_experts * sizeof(float), n = (size_t)n_rows * rule->n_used;
    struct route_args args = {.rule = *rule, .n_rows = n_rows};
    void *parts[] = {room(device, logits_bytes), room(device, bias_bytes),
                     room(device, n * sizeof(uint32_t)), room(device, n * sizeof(float))};
    struct stream *stream;
    assert_int_equal(stream_create(device, 8, &stream, NULL), STATUS_OK);
    assert_int_equal(device_upload(device, parts[0], logits, logits_bytes), STATUS_OK);
    if (bias != NULL)
        assert_int_equal(device_upload(device, parts[1], bias, bias_bytes), STATUS_OK);

    args.logits = parts[0];
    args.bias = bias != NULL ? parts[1] : NULL;
    args.experts = parts[2];
    args.weights = parts[3];
    ops->route(stream, &args);
    device_submit(stream);
    struct routed routed = {.experts = malloc(n * sizeof *routed.experts),
                            .weights = malloc(n * sizeof *routed.weights),
                            .status = device_wait(stream, NULL, NULL)};
    assert_true(routed.experts != NULL && routed.weights != NULL);
    assert_int_equal(device_download(device, routed.experts, parts[2], n * sizeof(uint32_t)), 0);
    assert_int_equal(device_download(device, routed.weights, parts[3], n * sizeof(float)), 0);
    stream_free(stream);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        device_free(device, parts[i]);
    return routed;
}

void routed_free(struct routed *routed)
{
    free(routed->experts);
    free(routed->weights);
}
