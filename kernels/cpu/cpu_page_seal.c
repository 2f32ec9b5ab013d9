#include "kernels/cpu/cpu_page_seal.h"

#include <assert.h>

#include "base/status.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/cpu_page_seal_body.h"
#include "kernels/cpu/cpu_x86.h"
#include "kernels/tensor_type.h"

struct seal_run {
    struct page_seal_args args;
    cpu_seal_row *row;
};

static void scalar_range(const uint16_t *halves, uint32_t n, float *min, float *max)
{
    *min = INFINITY;
    *max = -INFINITY;
    for (uint32_t i = 0; i < n; i++) {
        float x = f16_to_f32(halves[i]);
        *min = x < *min ? x : *min;
        *max = x > *max ? x : *max;
    }
}

static void scalar_encode(const uint16_t *halves, uint32_t n, float least, float step, float top,
                          uint8_t *codes)
{
    for (uint32_t i = 0; i < n; i++) {
        float code = nearbyintf((f16_to_f32(halves[i]) - least) / step);
        code = code > 0 ? code : 0;
        codes[i] = (uint8_t)(code < top ? code : top);
    }
}

void cpu_seal_row_scalar(const uint16_t *halves, uint32_t n, enum kv_dtype dtype, uint8_t *codes,
                         float *least, float *step)
{
    seal_row(scalar_range, scalar_encode, halves, n, dtype, codes, least, step);
}

/* Rows of one plane, from rows of as many values. */
static void seal_plane(const struct seal_run *run, const uint16_t *rows, uint32_t n_rows,
                       uint32_t n, uint8_t *codes, float *least, float *step)
{
    enum kv_dtype dtype = run->args.group.dtype_full;
    size_t row_bytes = cpu_page_row_bytes(n, dtype);
    for (uint32_t i = 0; i < n_rows; i++)
        run->row(rows + (size_t)i * n, n, dtype, codes + i * row_bytes, &least[i], &step[i]);
}

/* Part 2 h of a page is K of head h, part 2 h + 1 its V. */
static void seal_part(const struct seal_run *run, const uint8_t *open, uint8_t *full, uint32_t part)
{
    const struct kv_group_view *group = &run->args.group;
    const struct kv_shape *shape = &group->shape;
    struct cpu_head_layout from = cpu_page_head(shape, group->dtype_open);
    struct cpu_head_layout to = cpu_page_head(shape, group->dtype_full);
    open += part / 2 * from.bytes;
    full += part / 2 * to.bytes;
    if (part % 2 == 0)
        seal_plane(run, (const uint16_t *)(open + from.k), shape->k_dim, PAGE_TOKENS, full + to.k,
                   (float *)(full + to.k_least), (float *)(full + to.k_step));
    else if (!shape->v_in_k)
        seal_plane(run, (const uint16_t *)(open + from.v), PAGE_TOKENS, shape->v_dim, full + to.v,
                   (float *)(full + to.v_least), (float *)(full + to.v_step));
}

static int seal_page(const struct cpu_worker *worker, const struct seal_run *run, uint32_t seq,
                     uint32_t page_idx, uint32_t *turn)
{
    const struct kv_group_view *group = &run->args.group;
    const uint8_t *open = kv_page_find_open(group, run->args.layer_idx, seq, page_idx);
    uint8_t *full = kv_page_find(group, run->args.layer_idx, seq, page_idx);
    if (open == NULL || full == NULL)
        return STATUS_INTERNAL;
    for (uint32_t part = 0; part < 2 * group->shape.n_kv_heads; part++)
        if ((*turn)++ % (uint32_t)worker->n_workers == (uint32_t)worker->idx)
            seal_part(run, open, full, part);
    return STATUS_OK;
}

static void run_seal(const struct cpu_worker *worker, const void *args)
{
    const struct seal_run *run = args;
    const struct rows_view *rows = &run->args.rows;
    uint32_t turn = 0; /* of all parts, the same count in every worker */
    int status = STATUS_OK;
    for (uint32_t s = 0; s < rows->n_seqs; s++) {
        uint32_t begin = rows->seq_begin[s], end = rows->seq_begin[s + 1];
        if (begin == end)
            continue;
        struct kv_page_run filled = kv_pages_filled(rows->position[begin], rows->position[end - 1]);
        for (uint32_t page = filled.begin; page < filled.end && status == STATUS_OK; page++)
            status = seal_page(worker, run, rows->row_seq[begin], page, &turn);
    }
    if (status < 0)
        cpu_worker_fail(worker, status);
}

static cpu_seal_row *row_of(enum isa isa)
{
    if (isa == ISA_AVX512)
        return CPU_X86(cpu_seal_row_avx512);
    if (isa == ISA_AVX2)
        return CPU_X86(cpu_seal_row_avx2);
    return cpu_seal_row_scalar;
}

void cpu_page_seal(struct stream *stream, const struct page_seal_args *args)
{
    const struct kv_group_view *group = &args->group;
    struct seal_run run = {.args = *args, .row = row_of(stream_isa(stream))};
    assert(kv_dtype_is_packed(group->dtype_full) && group->dtype_open == KV_F16);
    assert(group->open.base != NULL);
    assert(group->shape.k_dim <= MODEL_HEAD_DIM_MAX && group->shape.v_dim <= MODEL_HEAD_DIM_MAX);
    cpu_stream_push(stream, "page_seal", run_seal, &run, sizeof run, true);
}
