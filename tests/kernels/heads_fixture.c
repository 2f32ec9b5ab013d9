#include "tests/kernels/heads_fixture.h"
#include "tests/kernels/linear_fixture.h"
#include "base/status.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

static uint32_t in_stride(const struct heads_case *c)
{
    return c->n_in + c->extra + c->n_tail;
}

static uint32_t out_stride(const struct heads_case *c)
{
    return c->n_out + c->n_tail + c->extra;
}

size_t heads_values(const struct heads_case *c)
{
    return (size_t)c->n_rows * c->n_heads * out_stride(c);
}

static void *device_room(struct heads_bench *bench, const void *from, size_t bytes)
{
    void *memory;
    assert_int_equal(device_alloc(bench->device, bytes, &memory, NULL), STATUS_OK);
    if (from != NULL)
        assert_int_equal(device_upload(bench->device, memory, from, bytes), STATUS_OK);
    return memory;
}

static float *device_halves(struct heads_bench *bench, size_t n)
{
    float *values = malloc(n * sizeof *values);
    for (size_t i = 0; i < n; i++)
        values[i] = 0.5f;
    float *memory = device_room(bench, values, n * sizeof *values);
    free(values);
    return memory;
}

static void finish(struct heads_bench *bench, const float *from, size_t n, float *to)
{
    device_submit(bench->stream);
    assert_int_equal(device_wait(bench->stream, NULL, NULL), STATUS_OK);
    assert_int_equal(device_download(bench->device, to, from, n * sizeof *to), STATUS_OK);
}

static struct weight *load(struct heads_bench *bench, const struct heads_case *c, uint32_t first,
                           uint32_t n, enum weight_fuse fuse)
{
    struct weight_source sources[64];
    struct weight *weight;
    struct why why = {.text = ""};
    assert_true(n <= 64);
    for (uint32_t h = 0; h < n; h++)
        sources[h] = (struct weight_source){
            c->type, c->n_in, c->n_out, random_weight(c->type, c->n_in, c->n_out, first + h + 1),
            "blk.0.attn_k_b.weight"};
    if (bench->ops->weight_load(bench->device, fuse, sources, n, 0, 1, &weight, &why) < 0)
        fail_msg("%s", why.text);
    for (uint32_t h = 0; h < n; h++)
        free((void *)(uintptr_t)sources[h].bytes);
    return weight;
}

/* Heads [first, first + n) of the rows x, as the weight reads them. */
static struct act quantize(struct heads_bench *bench, const struct heads_case *c, const float *x,
                           uint32_t first, uint32_t n, const struct weight *weight)
{
    uint32_t forms = bench->ops->weight_info(weight).act_forms;
    struct act out = {.max_rows = c->n_rows, .width = n * c->n_in, .forms = forms};
    out.base = device_room(bench, NULL, bench->ops->act_bytes(bench->device, c->n_rows, out.width,
                                                              forms));
    bench->ops->quantize(bench->stream,
                         &(struct quantize_args){.x = x + (size_t)first * in_stride(c),
                                                 .x_stride = c->n_heads * in_stride(c),
                                                 .n_heads = n,
                                                 .head_stride = in_stride(c),
                                                 .n = c->n_in,
                                                 .n_rows = c->n_rows,
                                                 .out = out});
    return out;
}

float *heads_result(struct heads_bench *bench, const struct heads_case *c)
{
    float *rows = random_rows(c->n_rows, c->n_heads * in_stride(c), 5);
    float *x = device_room(bench, rows, (size_t)c->n_rows * c->n_heads * in_stride(c) * sizeof *x);
    float *y = device_halves(bench, heads_values(c)), *out = malloc(heads_values(c) * sizeof *out);
    struct weight *weight = load(bench, c, 0, c->n_heads, WEIGHT_HEADS);
    struct act in = quantize(bench, c, x, 0, c->n_heads, weight);
    bench->ops->linear_heads(
        bench->stream, &(struct linear_heads_args){.weight = weight,
                                                   .in = in,
                                                   .n_rows = c->n_rows,
                                                   .tail = c->n_tail > 0 ? x + c->n_in + c->extra
                                                                         : NULL,
                                                   .n_tail = c->n_tail,
                                                   .tail_stride = c->n_heads * in_stride(c),
                                                   .tail_head_stride = in_stride(c),
                                                   .y = y,
                                                   .y_stride = c->n_heads * out_stride(c),
                                                   .y_head_stride = out_stride(c)});
    finish(bench, y, heads_values(c), out);
    bench->ops->weight_free(bench->device, weight);
    device_free(bench->device, in.base);
    device_free(bench->device, x);
    device_free(bench->device, y);
    free(rows);
    return out;
}

static void put_head(struct heads_bench *bench, const struct heads_case *c, const float *x,
                     uint32_t head, float *y)
{
    struct weight *weight = load(bench, c, head, 1, WEIGHT_PLAIN);
    struct act in = quantize(bench, c, x, head, 1, weight);
    bench->ops->linear(bench->stream,
                       &(struct linear_args){.weight = weight,
                                             .in = in,
                                             .n_rows = c->n_rows,
                                             .mode = LINEAR_SET,
                                             .y = y + (size_t)head * out_stride(c),
                                             .y_stride = c->n_heads * out_stride(c)});
    device_submit(bench->stream);
    assert_int_equal(device_wait(bench->stream, NULL, NULL), STATUS_OK);
    bench->ops->weight_free(bench->device, weight);
    device_free(bench->device, in.base);
}

float *heads_of_linears(struct heads_bench *bench, const struct heads_case *c)
{
    float *rows = random_rows(c->n_rows, c->n_heads * in_stride(c), 5);
    float *x = device_room(bench, rows, (size_t)c->n_rows * c->n_heads * in_stride(c) * sizeof *x);
    float *y = device_halves(bench, heads_values(c)), *out = malloc(heads_values(c) * sizeof *out);
    for (uint32_t h = 0; h < c->n_heads; h++)
        put_head(bench, c, x, h, y);
    assert_int_equal(device_download(bench->device, out, y, heads_values(c) * sizeof *out), 0);
    for (size_t i = 0; i < (size_t)c->n_rows * c->n_heads; i++)
        memcpy(out + i * out_stride(c) + c->n_out, rows + i * in_stride(c) + c->n_in + c->extra,
               c->n_tail * sizeof *out);
    device_free(bench->device, x);
    device_free(bench->device, y);
    free(rows);
    return out;
}
