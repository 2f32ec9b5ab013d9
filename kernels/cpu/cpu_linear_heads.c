/* A matrix a head: units are tiles, head by head, as they stand in memory; each meets its own part
 * of the rows. */
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/cpu_walk.h"

#include <assert.h>
#include <string.h>

#define HEADS_GROUPS 10 /* of one pass: 7.5 KB of accumulators */

struct heads_visit {
    const struct linear_heads_args *args;
    struct cpu_input input; /* of head 0 */
};

static void put_tails(const struct linear_heads_args *args, uint32_t head, uint32_t row,
                      uint32_t end)
{
    for (; row < end; row++)
        memcpy(args->y + (size_t)row * args->y_stride + (size_t)head * args->y_head_stride +
                   args->weight->n_out,
               args->tail + (size_t)row * args->tail_stride + (size_t)head * args->tail_head_stride,
               args->n_tail * sizeof(float));
}

static void visit_unit(const void *arg, uint32_t unit, struct cpu_pass *pass)
{
    const struct heads_visit *visit = arg;
    const struct linear_heads_args *args = visit->args;
    uint32_t head = unit / args->weight->n_tiles, tile_idx = unit % args->weight->n_tiles;
    struct weight weight = cpu_weight_expert(args->weight, head);
    const struct cpu_segment *segment = &weight.segments[0];
    struct cpu_input input = visit->input;
    input.first = head * weight.n_in;
    cpu_walk_tile(&input, segment->type, cpu_weight_tile(&weight, segment, tile_idx), pass);

    uint32_t column = tile_idx * TILE_ROWS, left = segment->n_out - column;
    uint32_t row = pass->group_begin * PANEL_ROWS, end = pass->group_end * PANEL_ROWS;
    end = end < args->n_rows ? end : args->n_rows;
    if (tile_idx == 0 && args->n_tail > 0)
        put_tails(args, head, row, end);
    float *y = args->y + (size_t)head * args->y_head_stride + column;
    for (const float *acc = pass->acc; row < end; row++, acc += TILE_ROWS)
        memcpy(y + (size_t)row * args->y_stride, acc,
               (left < TILE_ROWS ? left : TILE_ROWS) * sizeof *y);
}

static void run_heads(const struct cpu_worker *worker, const void *entry)
{
    const struct linear_heads_args *args = entry;
    struct heads_visit visit = {
        .args = args,
        .input = {.act = &args->in,
                  .n_in = args->weight->n_in,
                  .n_rows = args->n_rows,
                  .isa = stream_isa(worker->stream),
                  .activations = stream_activations(worker->stream)},
    };
    cpu_walk(worker, &visit.input, args->weight->n_experts * args->weight->n_tiles, HEADS_GROUPS,
             visit_unit, &visit);
}

void cpu_linear_heads(struct stream *stream, const struct linear_heads_args *args)
{
    const struct weight *weight = args->weight;
    assert(weight->fuse == WEIGHT_HEADS && args->in.width == weight->n_experts * weight->n_in);
    assert((args->in.forms & weight->act_forms) == weight->act_forms);
    assert(weight->act_forms == ACT_FLOATS || weight->n_in % BLOCK_VALUES == 0);
    assert(args->n_rows <= args->in.max_rows && (args->n_tail == 0 || args->tail != NULL));
    assert(args->y_head_stride >= weight->n_out + args->n_tail);
    assert((uint64_t)args->y_head_stride * (weight->n_experts - 1) + weight->n_out + args->n_tail <=
           args->y_stride);
    cpu_stream_push(stream, "linear_heads", run_heads, args, sizeof *args, true);
}
