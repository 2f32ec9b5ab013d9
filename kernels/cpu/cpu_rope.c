#include "kernels/cpu/cpu_rope.h"

#include <assert.h>
#include <stdatomic.h>
#include <string.h>

#include "base/status.h"
#include "kernels/cpu/cpu_norm.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/cpu_page.h"
#include "kernels/cpu/cpu_panel.h"
#include "kernels/cpu/cpu_rope_body.h"
#include "kernels/cpu/cpu_x86.h"
#include "kernels/q_temperature.h"
#include "kernels/tensor_type.h"

struct rope_run {
    struct rope_append_args args;
    const struct cpu_rope_ops *ops;
    cpu_norm_row *norm;
    enum activations activations;
};

struct rope_row { /* a worker's scratch, one row at a time */
    float cosine[MODEL_HEAD_DIM_MAX / 2], sine[MODEL_HEAD_DIM_MAX / 2];
    float normed[MODEL_HEAD_DIM_MAX], rotated[MODEL_HEAD_DIM_MAX];
    uint16_t rounded[MODEL_HEAD_DIM_MAX];
};
_Static_assert(sizeof(struct rope_row) <= CPU_SCRATCH_BYTES, "a row's rotation fits the scratch");

static uint32_t scalar_halves(const float *from, uint32_t n, uint16_t *to)
{
    uint32_t n_saturated = 0;
    for (uint32_t i = 0; i < n; i++) {
        float v = from[i];
        n_saturated += v > ROPE_HALF_MAX || v < -ROPE_HALF_MAX;
        v = v > ROPE_HALF_MAX ? ROPE_HALF_MAX : v;
        v = v < -ROPE_HALF_MAX ? -ROPE_HALF_MAX : v;
        to[i] = f16_from_f32(v);
    }
    return n_saturated;
}

const struct cpu_rope_ops cpu_rope_scalar = {rope_angles, rope_rotate, scalar_halves};

#define BRAIN_MAX_BITS 0x7f7f0000u /* of the greatest finite bf16, as an f32 */

/* To bf16, round to even; beyond the greatest that value, as f16 has it; NaN stays NaN. */
static uint32_t brains(const float *from, uint32_t n, uint16_t *to)
{
    uint32_t n_saturated = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t bits, sign;
        memcpy(&bits, &from[i], sizeof bits);
        sign = bits & 0x80000000u;
        bits &= 0x7fffffff;
        bool is_nan = bits > 0x7f800000, is_beyond = !is_nan && bits > BRAIN_MAX_BITS;
        n_saturated += is_beyond;
        bits = is_beyond ? BRAIN_MAX_BITS : bits;
        bits = is_nan ? bits | 0x400000 : bits + 0x7fff + (bits >> 16 & 1);
        to[i] = (uint16_t)((sign | bits) >> 16);
    }
    return n_saturated;
}

/* As values of 16 bits. Returns how many were cut to their range. */
static uint32_t round_values(const struct rope_run *run, const float *from, uint32_t n,
                             uint16_t *to)
{
    if (run->args.group.dtype_open == KV_F16)
        return run->ops->halves(from, n, to);
    return brains(from, n, to);
}

/* K of one token and head: a column of [k_dim][64]. Returns how many values were cut. */
static uint32_t put_k(const struct rope_run *run, const float *k, uint8_t *plane, uint32_t slot,
                      uint16_t *rounded)
{
    uint32_t n = run->args.group.shape.k_dim;
    if (run->args.group.dtype_open == KV_F32) {
        float *to = (float *)plane + slot;
        for (uint32_t d = 0; d < n; d++)
            to[(size_t)d * PAGE_TOKENS] = k[d];
        return 0;
    }
    uint32_t n_saturated = round_values(run, k, n, rounded);
    uint16_t *to = (uint16_t *)plane + slot;
    for (uint32_t d = 0; d < n; d++)
        to[(size_t)d * PAGE_TOKENS] = rounded[d];
    return n_saturated;
}

/* V of one token and head: a row of [64][v_dim]. */
static uint32_t put_v(const struct rope_run *run, const float *v, uint8_t *plane, uint32_t slot)
{
    uint32_t n = run->args.group.shape.v_dim;
    if (run->args.group.dtype_open == KV_F32) {
        memcpy((float *)plane + (size_t)slot * n, v, n * sizeof(float));
        return 0;
    }
    return round_values(run, v, n, (uint16_t *)plane + (size_t)slot * n);
}

/* The norm before of a head's first n values, if it has one; the head as it is rotated. */
static const float *norm_head(const struct rope_run *run, const float *from, const float *weight,
                              uint32_t n, struct rope_row *row)
{
    uint32_t n_all = run->args.group.shape.k_dim;
    if (weight == NULL)
        return from;
    run->norm(from, weight, run->args.norm_eps, n, row->normed);
    memcpy(row->normed + n, from + n, (n_all - n) * sizeof *from);
    return row->normed;
}

/* One head of q or k: rotated, normed after, times factor. */
static void turn_head(const struct rope_run *run, const float *from, float factor,
                      struct rope_row *row, float *to)
{
    const struct rope_append_args *args = &run->args;
    uint32_t n = args->group.shape.k_dim, first = args->style == ROPE_NONE ? 0 : args->first_rot;
    bool is_normed_after = args->qk_norm == QK_NORM_AFTER;
    float now = is_normed_after ? 1.0f : factor;
    if (first > 0)
        run->ops->rotate(from, first, 0, ROPE_NONE, row->cosine, row->sine, now, to);
    run->ops->rotate(from + first, n - first, args->n_rot, args->style, row->cosine, row->sine, now,
                     to + first);
    if (!is_normed_after)
        return;
    run->norm(to, NULL, args->norm_eps, n, to);
    for (uint32_t d = 0; d < n; d++)
        to[d] *= factor;
}

static void turn_queries(const struct rope_run *run, uint32_t r, struct rope_row *row)
{
    const struct rope_append_args *args = &run->args;
    uint32_t k_dim = args->group.shape.k_dim;
    const float *q = args->qkv + (size_t)r * args->qkv_stride;
    float *out = cpu_act_floats(&args->q, run->activations) + (size_t)r * args->q.width;
    float factor =
        q_temperature_factor(args->q_scale, &args->q_temperature, args->rows.position[r]);
    const float *weight = args->qk_norm == QK_NORM_BEFORE ? args->q_norm : NULL;
    for (uint32_t h = 0; h < args->n_heads; h++) {
        const float *head = norm_head(run, q + (size_t)h * k_dim, weight, k_dim, row);
        turn_head(run, head, factor, row, out + (size_t)h * k_dim);
    }
}

/* Returns how many values were cut. */
static uint32_t append_keys(const struct rope_run *run, uint32_t r, struct rope_row *row,
                            uint8_t *layer)
{
    const struct rope_append_args *args = &run->args;
    const struct kv_group_view *group = &args->group;
    const struct kv_shape *shape = &group->shape;
    const float *k =
        args->qkv + (size_t)r * args->qkv_stride + (size_t)args->n_heads * shape->k_dim;
    const float *v = k + (size_t)shape->n_kv_heads * shape->k_dim;
    uint32_t slot = args->rows.position[r] % PAGE_TOKENS, n_saturated = 0;
    bool is_before = args->qk_norm == QK_NORM_BEFORE, is_latent = args->qk_norm == QK_NORM_LATENT;
    struct cpu_head_layout layout = cpu_page_head(shape, group->dtype_open);
    for (uint32_t h = 0; h < shape->n_kv_heads; h++) {
        uint8_t *head = layer + h * layout.bytes;
        const float *from = norm_head(run, k + (size_t)h * shape->k_dim,
                                      is_before || is_latent ? args->k_norm : NULL,
                                      is_latent ? shape->v_dim : shape->k_dim, row);
        turn_head(run, from, 1.0f, row, row->rotated);
        n_saturated += put_k(run, row->rotated, head, slot, row->rounded);
        if (!shape->v_in_k)
            n_saturated += put_v(run, v + (size_t)h * shape->v_dim, head + layout.v, slot);
    }
    return n_saturated;
}

static uint32_t run_row(const struct rope_run *run, uint32_t r, struct rope_row *row, int *status)
{
    const struct rope_append_args *args = &run->args;
    uint32_t position = args->rows.position[r];
    uint8_t *layer = kv_page_find_open(&args->group, args->layer_idx, args->rows.row_seq[r],
                                       position / PAGE_TOKENS);
    if (layer == NULL) {
        *status = STATUS_INTERNAL;
        return 0;
    }
    if (args->style != ROPE_NONE)
        run->ops->angles(args->inv_freq, args->n_rot / 2, position, args->rope_scale, row->cosine,
                         row->sine);
    if (args->n_heads > 0)
        turn_queries(run, r, row);
    return args->no_append ? 0 : append_keys(run, r, row, layer);
}

/* Rows in contiguous runs: neighbours in a page share cache lines of K. */
static void run_rope(const struct cpu_worker *worker, const void *args)
{
    const struct rope_run *run = args;
    uint64_t n_rows = run->args.rows.n_rows, n_workers = (uint64_t)worker->n_workers;
    uint32_t begin = (uint32_t)(n_rows * (uint64_t)worker->idx / n_workers);
    uint32_t end = (uint32_t)(n_rows * ((uint64_t)worker->idx + 1) / n_workers);
    uint64_t n_saturated = 0;
    int status = STATUS_OK;
    for (uint32_t r = begin; r < end; r++)
        n_saturated += run_row(run, r, worker->scratch, &status);
    if (n_saturated > 0 && run->args.n_saturated != NULL)
        atomic_fetch_add_explicit((_Atomic uint64_t *)run->args.n_saturated, n_saturated,
                                  memory_order_relaxed);
    if (status < 0)
        cpu_worker_fail(worker, status);
}

static struct rope_run run_of(enum isa isa, const struct rope_append_args *args,
                              enum activations activations)
{
    if (isa == ISA_AVX512)
        return (struct rope_run){*args, CPU_X86(&cpu_rope_avx512), CPU_X86(cpu_norm_row_avx512),
                                 activations};
    if (isa == ISA_AVX2)
        return (struct rope_run){*args, CPU_X86(&cpu_rope_avx2), CPU_X86(cpu_norm_row_avx2),
                                 activations};
    return (struct rope_run){*args, &cpu_rope_scalar, cpu_norm_row_scalar, activations};
}

/* Floats of one row of qkv. */
static size_t row_floats(const struct rope_append_args *args)
{
    const struct kv_shape *shape = &args->group.shape;
    size_t kv_dim = shape->k_dim + (shape->v_in_k ? 0 : shape->v_dim);
    size_t n_kv_heads = args->no_append ? 0 : shape->n_kv_heads;
    return (size_t)args->n_heads * shape->k_dim + n_kv_heads * kv_dim;
}

void cpu_rope_append(struct stream *stream, const struct rope_append_args *args)
{
    const struct kv_shape *shape = &args->group.shape;
    assert(shape->k_dim <= MODEL_HEAD_DIM_MAX && shape->v_dim <= MODEL_HEAD_DIM_MAX);
    assert(args->style == ROPE_NONE ||
           (args->n_rot % 2 == 0 && args->first_rot + args->n_rot <= shape->k_dim));
    assert(args->qkv_stride >= row_floats(args));
    assert(args->n_heads > 0 || !args->no_append);
    assert(args->n_heads == 0 ||
           (args->q.width == args->n_heads * shape->k_dim && (args->q.forms & ACT_QUERY) != 0 &&
            args->rows.n_rows <= args->q.max_rows));
    assert(args->qk_norm != QK_NORM_BEFORE || (args->q_norm != NULL && args->k_norm != NULL));
    assert(args->qk_norm != QK_NORM_LATENT ||
           (args->k_norm != NULL && shape->v_in_k && shape->v_dim <= shape->k_dim));
    assert(!kv_dtype_is_packed(args->group.dtype_open));
    assert(kv_group_packs(&args->group) == (args->group.open.base != NULL));
    assert(args->q_temperature.scale == 0 || args->q_temperature.length > 0);
    struct rope_run run = run_of(stream_isa(stream), args, stream_activations(stream));
    cpu_stream_push(stream, "rope_append", run_rope, &run, sizeof run, true);
}
