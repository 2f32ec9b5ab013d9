#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/cpu_walk.h"

#include <assert.h>

#define GLU_GROUPS 4 /* of one pass: 12 KB of accumulators for the four tiles of a unit */
#define PASS_FLOATS (GLU_GROUPS * PANEL_ROWS * TILE_ROWS)

struct glu_visit {
    const struct linear_glu_args *args;
    const struct cpu_input *input;
    const struct cpu_panel_ops *panel;
    cpu_tile_glu *glu;
};

/* n of the 16 columns exist; the others hold the products of zero rows and stay finite or are never
 * read. */
static void add_bias(float *acc, const float *bias, uint32_t n)
{
    for (uint32_t i = 0; bias != NULL && i < n; i++)
        acc[i] += bias[i];
}

/* acc: [gate, up][tile of the pair][row of the pass][16] */
static void finish_rows(const struct glu_visit *visit, uint32_t unit, const struct cpu_pass *pass,
                        float *acc)
{
    const struct linear_glu_args *args = visit->args;
    uint32_t first_row = pass->group_begin * PANEL_ROWS, end = pass->group_end * PANEL_ROWS;
    end = end < args->n_rows ? end : args->n_rows;
    uint32_t column = unit * BLOCK_VALUES, left = args->weight->n_out - column;
    uint32_t n = left < BLOCK_VALUES ? left : BLOCK_VALUES;

    for (uint32_t row = first_row; row < end; row++) {
        float values[BLOCK_VALUES];
        for (uint32_t tile = 0; tile * TILE_ROWS < n; tile++) {
            uint32_t at = column + tile * TILE_ROWS, rest = n - tile * TILE_ROWS;
            uint32_t n_tile = rest < TILE_ROWS ? rest : TILE_ROWS;
            float *gate = acc + tile * PASS_FLOATS + (row - first_row) * TILE_ROWS;
            float *up = gate + 2 * PASS_FLOATS;
            add_bias(gate, args->gate_bias != NULL ? args->gate_bias + at : NULL, n_tile);
            add_bias(up, args->up_bias != NULL ? args->up_bias + at : NULL, n_tile);
            visit->glu(gate, up, values + tile * TILE_ROWS);
        }
        visit->panel->write(&args->out, visit->input->activations, row, args->n_rows, column, n,
                            values);
    }
}

static void visit_pair(const void *arg, uint32_t unit, struct cpu_pass *pass)
{
    const struct glu_visit *visit = arg;
    const struct weight *weight = visit->args->weight;
    float *acc = pass->acc;
    for (uint32_t tile = 0; tile < 2 && 2 * unit + tile < weight->segments[0].n_tiles; tile++) {
        for (uint32_t side = 0; side < 2; side++) {
            const struct cpu_segment *segment = &weight->segments[side];
            pass->acc = acc + (2 * side + tile) * PASS_FLOATS;
            cpu_walk_tile(visit->input, segment->type,
                          cpu_weight_tile(weight, segment, 2 * unit + tile), pass);
        }
    }
    pass->acc = acc;
    finish_rows(visit, unit, pass, acc);
}

static void run_glu(const struct cpu_worker *worker, const void *entry)
{
    const struct linear_glu_args *args = entry;
    enum isa isa = stream_isa(worker->stream);
    struct cpu_input input = {.act = &args->in,
                              .n_rows = args->n_rows,
                              .isa = isa,
                              .activations = stream_activations(worker->stream)};
    struct glu_visit visit = {args, &input, cpu_panel_ops(isa), cpu_tile_glu_kernel(isa)};
    cpu_walk(worker, &input, cpu_weight_n_units(args->weight), GLU_GROUPS, visit_pair, &visit);
}

void cpu_linear_glu(struct stream *stream, const struct linear_glu_args *args)
{
    assert(args->weight->fuse == WEIGHT_GATE_UP && args->in.width == args->weight->n_in);
    assert((args->in.forms & args->weight->act_forms) == args->weight->act_forms);
    assert(args->n_rows <= args->in.max_rows && args->n_rows <= args->out.max_rows);
    assert(args->out.width == args->weight->n_out && args->out.base != args->in.base);
    cpu_stream_push(stream, "linear_glu", run_glu, args, sizeof *args, true);
}
_Static_assert(4 * PASS_FLOATS * sizeof(float) <= CPU_SCRATCH_BYTES, "a pass fits in the scratch");
