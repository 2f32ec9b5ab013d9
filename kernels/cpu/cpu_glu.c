#include "kernels/cpu/cpu_glu.h"
#include "kernels/cpu/cpu_ops.h"

#include <assert.h>

#define PASS_FLOATS (GLU_GROUPS * PANEL_ROWS * TILE_ROWS)

/* n of the 16 columns exist; the others hold the products of zero rows and stay finite or are never
 * read. */
static void add_bias(float *acc, const float *bias, uint32_t n)
{
    for (uint32_t i = 0; bias != NULL && i < n; i++)
        acc[i] += bias[i];
}

static void scale_chains(float *acc, float scale)
{
    for (uint32_t i = 0; i < TILE_ROWS; i++)
        acc[i] *= scale;
}

/* acc: [gate, up][tile of the pair][row of the pass][16] */
static void finish_rows(const struct cpu_glu *glu, uint32_t unit, const struct cpu_pass *pass,
                        float *acc)
{
    uint32_t n_rows = glu->input.n_rows;
    uint32_t first_row = pass->group_begin * PANEL_ROWS, end = pass->group_end * PANEL_ROWS;
    end = end < n_rows ? end : n_rows;
    uint32_t column = unit * BLOCK_VALUES, left = glu->weight->n_out - column;
    uint32_t n = left < BLOCK_VALUES ? left : BLOCK_VALUES;

    for (uint32_t row = first_row; row < end; row++) {
        float values[BLOCK_VALUES];
        for (uint32_t tile = 0; tile * TILE_ROWS < n; tile++) {
            uint32_t at = column + tile * TILE_ROWS, rest = n - tile * TILE_ROWS;
            uint32_t n_tile = rest < TILE_ROWS ? rest : TILE_ROWS;
            float *gate = acc + tile * PASS_FLOATS + (row - first_row) * TILE_ROWS;
            float *up = gate + 2 * PASS_FLOATS;
            if (glu->row_scales != NULL) {
                scale_chains(gate, glu->row_scales[row]);
                scale_chains(up, glu->row_scales[row]);
            }
            add_bias(gate, glu->gate_bias != NULL ? glu->gate_bias + at : NULL, n_tile);
            add_bias(up, glu->up_bias != NULL ? glu->up_bias + at : NULL, n_tile);
            glu->multiply(gate, up, values + tile * TILE_ROWS);
        }
        glu->panel->write(&glu->out, glu->input.activations, row, n_rows, column, n, values);
    }
}

void cpu_glu_visit(const void *arg, uint32_t unit, struct cpu_pass *pass)
{
    const struct cpu_glu *glu = arg;
    const struct weight *weight = glu->weight;
    float *acc = pass->acc;
    for (uint32_t tile = 0; tile < 2 && 2 * unit + tile < weight->segments[0].n_tiles; tile++) {
        for (uint32_t side = 0; side < 2; side++) {
            const struct cpu_segment *segment = &weight->segments[side];
            pass->acc = acc + (2 * side + tile) * PASS_FLOATS;
            cpu_walk_tile(&glu->input, segment->type,
                          cpu_weight_tile(weight, segment, 2 * unit + tile), pass);
        }
    }
    pass->acc = acc;
    finish_rows(glu, unit, pass, acc);
}

static void run_glu(const struct cpu_worker *worker, const void *entry)
{
    const struct linear_glu_args *args = entry;
    enum isa isa = stream_isa(worker->stream);
    struct cpu_glu glu = {
        .weight = args->weight,
        .input = {.act = &args->in,
                  .n_rows = args->n_rows,
                  .isa = isa,
                  .activations = stream_activations(worker->stream)},
        .gate_bias = args->gate_bias,
        .up_bias = args->up_bias,
        .out = args->out,
        .panel = cpu_panel_ops(isa),
        .multiply = cpu_tile_glu_kernel(isa),
    };
    cpu_walk(worker, &glu.input, cpu_weight_n_units(args->weight), GLU_GROUPS, cpu_glu_visit, &glu);
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
