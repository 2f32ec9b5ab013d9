#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/cpu_walk.h"

#include <assert.h>

#define LINEAR_GROUPS 10 /* of one pass: 7.5 KB of accumulators */

struct linear_visit {
    const struct linear_args *args;
    const struct cpu_input *input;
};

/* The end of a chain: + bias, then set or add. n of the 16 columns exist. */
static void store_row(const float *acc, const float *bias, enum linear_mode mode, uint32_t n,
                      float *y)
{
    float sum[TILE_ROWS];
    for (uint32_t i = 0; i < n; i++)
        sum[i] = bias != NULL ? acc[i] + bias[i] : acc[i];
    for (uint32_t i = 0; i < n; i++)
        y[i] = mode == LINEAR_ADD ? y[i] + sum[i] : sum[i];
}

static void visit_tile(const void *arg, uint32_t tile_idx, struct cpu_pass *pass)
{
    const struct linear_visit *visit = arg;
    const struct linear_args *args = visit->args;
    const struct cpu_segment *segment = cpu_weight_segment(args->weight, tile_idx);
    uint32_t idx = tile_idx - segment->first_tile;
    cpu_walk_tile(visit->input, segment->type, cpu_weight_tile(args->weight, segment, idx), pass);

    uint32_t column = segment->first_out + idx * TILE_ROWS;
    uint32_t left = segment->n_out - idx * TILE_ROWS;
    uint32_t row = pass->group_begin * PANEL_ROWS, end = pass->group_end * PANEL_ROWS;
    end = end < args->n_rows ? end : args->n_rows;
    const float *bias = args->bias != NULL ? args->bias + column : NULL;
    const float *acc = pass->acc;
    for (; row < end; row++, acc += TILE_ROWS) {
        float *y = args->y + (size_t)row * args->y_stride + column;
        if (left >= TILE_ROWS)
            store_row(acc, bias, args->mode, TILE_ROWS, y);
        else
            store_row(acc, bias, args->mode, left, y);
    }
}

static void run_linear(const struct cpu_worker *worker, const void *entry)
{
    const struct linear_args *args = entry;
    struct cpu_input input = {.act = &args->in,
                              .n_rows = args->n_rows,
                              .isa = stream_isa(worker->stream),
                              .activations = stream_activations(worker->stream)};
    struct linear_visit visit = {args, &input};
    cpu_walk(worker, &input, cpu_weight_n_units(args->weight), LINEAR_GROUPS, visit_tile, &visit);
}

void cpu_linear(struct stream *stream, const struct linear_args *args)
{
    assert(args->weight->n_experts == 0 && args->weight->fuse != WEIGHT_GATE_UP);
    assert(args->in.width == args->weight->n_in);
    assert((args->in.forms & args->weight->act_forms) == args->weight->act_forms);
    assert(args->n_rows <= args->in.max_rows && args->y_stride >= args->weight->n_out);
    cpu_stream_push(stream, "linear", run_linear, args, sizeof *args, true);
}
