/* The experts of a step, in five entries with a barrier behind each: sort the rows by expert; copy
 * their panels together; gate and up; down; sums by row. */
#include "kernels/cpu/cpu_glu.h"
#include "kernels/cpu/cpu_moe_plan.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/device_backend.h"

#include <assert.h>
#include <string.h>

#define DOWN_GROUPS 10 /* of one pass: 7.5 KB of accumulators */
#define SUM_VALUES 256 /* of a row at a time */
#define PIECES_EACH 8  /* that a worker takes: so that none waits long at the end */
#define PIECE_UNITS_MAX 64

_Static_assert(DOWN_GROUPS * PANEL_ROWS * TILE_ROWS * sizeof(float) <= CPU_SCRATCH_BYTES,
               "a pass fits in the scratch");

struct moe_work { /* one entry, as its workers see it */
    const struct cpu_worker *worker;
    const struct moe_args *args;
    struct moe_places places;
    struct cpu_input input; /* without its panel */
};

static struct moe_work work_of(const struct cpu_worker *worker, const struct moe_args *args)
{
    return (struct moe_work){
        .worker = worker,
        .args = args,
        .places = cpu_moe_places(worker->stream->device, args->gate_up, args->down,
                                 args->in.max_rows, args->n_used, args->workspace),
        .input = {.isa = stream_isa(worker->stream),
                  .activations = stream_activations(worker->stream)},
    };
}

static void run_plan(const struct cpu_worker *worker, const void *entry)
{
    const struct moe_args *args = entry;
    struct moe_work work = work_of(worker, args);
    if (worker->idx != 0)
        return;
    int status =
        cpu_moe_plan_fill(worker->stream->device, args, &work.places, worker->scratch);
    if (status < 0)
        cpu_worker_fail(worker, status);
}

/* Panels are copied as they are: nothing is quantized again. */
static void run_bring(const struct cpu_worker *worker, const void *entry)
{
    const struct moe_args *args = entry;
    struct moe_work work = work_of(worker, args);
    for (uint32_t i = 0; i < work.places.plan->n_chosen; i++) {
        const struct moe_chosen *chosen = &work.places.chosen[i];
        struct act in = cpu_moe_in(args, &work.places, chosen);
        for (uint32_t row = 0; row < chosen->n; row++) {
            uint32_t position = chosen->first + row;
            if (position % (uint32_t)worker->n_workers != (uint32_t)worker->idx)
                continue;
            cpu_panel_copy(&args->in, work.places.order[position] / args->n_used, args->n_rows, &in,
                           row, chosen->n, work.input.activations);
        }
    }
}

/* Some units of an item. */
typedef void visit_piece(const struct moe_work *work, const struct moe_item *item, uint32_t begin,
                         uint32_t end);

/* Workers take pieces of items until there are none. */
static void visit_items(const struct moe_work *work, const struct weight *weight,
                        visit_piece *visit)
{
    const struct moe_plan *plan = work->places.plan;
    uint32_t n_units = cpu_weight_n_units(weight);
    uint64_t n_all = (uint64_t)n_units * plan->n_items;
    uint64_t at_once = n_all / (PIECES_EACH * (uint32_t)work->worker->n_workers);
    at_once = at_once < 1 ? 1 : at_once > PIECE_UNITS_MAX ? PIECE_UNITS_MAX : at_once;
    uint32_t n_pieces = (n_units + (uint32_t)at_once - 1) / (uint32_t)at_once;
    for (;;) {
        uint32_t taken = team_counter_take(work->worker->counter, 1);
        if (taken >= n_pieces * plan->n_items)
            return;
        uint32_t begin = taken % n_pieces * (uint32_t)at_once, end = begin + (uint32_t)at_once;
        visit(work, &work->places.items[taken / n_pieces], begin, end < n_units ? end : n_units);
    }
}

/* Calls a walk's visit for each unit and each pass over the item's rows. */
static void visit_passes(const struct moe_work *work, const struct moe_item *item, uint32_t begin,
                         uint32_t end, uint32_t max_groups, cpu_walk_visit *visit, const void *arg)
{
    bool streams = work->places.chosen[item->chosen_idx].n <= PANEL_ROWS;
    for (uint32_t unit = begin; unit < end; unit++) {
        for (uint32_t group = item->group_begin; group < item->group_end; group += max_groups) {
            uint32_t left = item->group_end - group;
            struct cpu_pass pass = {.group_begin = group,
                                    .group_end = group + (left < max_groups ? left : max_groups),
                                    .streams = streams,
                                    .acc = work->worker->scratch};
            visit(arg, unit, &pass);
        }
    }
}

/* The weights of an expert's rows, in their order, behind a pass's accumulators. */
static const float *row_scales(const struct moe_work *work, const struct moe_chosen *chosen)
{
    if (!work->args->scales_input)
        return NULL;
    float *scales = (float *)work->worker->scratch + 4 * GLU_GROUPS * PANEL_ROWS * TILE_ROWS;
    for (uint32_t row = 0; row < chosen->n; row++)
        scales[row] = work->args->weights[work->places.order[chosen->first + row]];
    return scales;
}

static void glu_piece(const struct moe_work *work, const struct moe_item *item, uint32_t begin,
                      uint32_t end)
{
    const struct moe_args *args = work->args;
    const struct moe_chosen *chosen = &work->places.chosen[item->chosen_idx];
    struct weight expert = cpu_weight_expert(args->gate_up, chosen->expert);
    struct act in = cpu_moe_in(args, &work->places, chosen);
    struct cpu_glu glu = {
        .weight = &expert,
        .input = work->input,
        .row_scales = row_scales(work, chosen),
        .out = cpu_moe_gated(args, &work->places, chosen),
        .panel = cpu_panel_ops(work->input.isa),
        .multiply = cpu_tile_glu_kernel(work->input.isa),
    };
    glu.input.act = &in;
    glu.input.n_rows = chosen->n;
    visit_passes(work, item, begin, end, GLU_GROUPS, cpu_glu_visit, &glu);
}

static void run_glu(const struct cpu_worker *worker, const void *entry)
{
    const struct moe_args *args = entry;
    struct moe_work work = work_of(worker, args);
    visit_items(&work, args->gate_up, glu_piece);
}

struct down {
    const struct moe_work *work;
    const struct moe_chosen *chosen;
    struct weight expert;
    struct cpu_input input;
};

/* Each row's outputs go to the place of its pair. */
static void visit_down(const void *arg, uint32_t tile_idx, struct cpu_pass *pass)
{
    const struct down *down = arg;
    const struct cpu_segment *segment = &down->expert.segments[0];
    cpu_walk_tile(&down->input, segment->type, cpu_weight_tile(&down->expert, segment, tile_idx),
                  pass);

    uint32_t column = tile_idx * TILE_ROWS, left = segment->n_out - column;
    uint32_t row = pass->group_begin * PANEL_ROWS, end = pass->group_end * PANEL_ROWS;
    end = end < down->input.n_rows ? end : down->input.n_rows;
    const struct moe_places *places = &down->work->places;
    const float *acc = pass->acc;
    for (; row < end; row++, acc += TILE_ROWS) {
        size_t pair = places->order[down->chosen->first + row];
        memcpy(places->results + pair * segment->n_out + column, acc,
               (left < TILE_ROWS ? left : TILE_ROWS) * sizeof(float));
    }
}

static void down_piece(const struct moe_work *work, const struct moe_item *item, uint32_t begin,
                       uint32_t end)
{
    const struct moe_chosen *chosen = &work->places.chosen[item->chosen_idx];
    struct act gated = cpu_moe_gated(work->args, &work->places, chosen);
    struct down down = {.work = work,
                        .chosen = chosen,
                        .expert = cpu_weight_expert(work->args->down, chosen->expert),
                        .input = work->input};
    down.input.act = &gated;
    down.input.n_rows = chosen->n;
    visit_passes(work, item, begin, end, DOWN_GROUPS, visit_down, &down);
}

static void run_down(const struct cpu_worker *worker, const void *entry)
{
    const struct moe_args *args = entry;
    struct moe_work work = work_of(worker, args);
    visit_items(&work, args->down, down_piece);
}

/* Values [first, first + n) of a row. */
static void sum_slots(const struct moe_args *args, const float *results, uint32_t row,
                      uint32_t first, uint32_t n)
{
    uint32_t width = args->down->n_out;
    float sum[SUM_VALUES] = {0}, *y = args->y + (size_t)row * args->y_stride + first;
    for (uint32_t slot = 0; slot < args->n_used; slot++) {
        size_t pair = (size_t)row * args->n_used + slot;
        const float *result = results + pair * width + first;
        float weight = args->scales_input ? 1.0f : args->weights[pair];
        for (uint32_t i = 0; i < n; i++)
            sum[i] += weight * result[i];
    }
    for (uint32_t i = 0; i < n; i++)
        y[i] = args->mode == LINEAR_ADD ? y[i] + sum[i] : sum[i];
}

static void run_sum(const struct cpu_worker *worker, const void *entry)
{
    const struct moe_args *args = entry;
    struct moe_work work = work_of(worker, args);
    uint32_t width = args->down->n_out, n_parts = (width + SUM_VALUES - 1) / SUM_VALUES;
    uint64_t n_all = (uint64_t)args->n_rows * n_parts;
    for (uint64_t i = (uint64_t)worker->idx; i < n_all; i += (uint64_t)worker->n_workers) {
        uint32_t first = (uint32_t)(i % n_parts) * SUM_VALUES, left = width - first;
        sum_slots(args, work.places.results, (uint32_t)(i / n_parts), first,
                  left < SUM_VALUES ? left : SUM_VALUES);
    }
}

size_t cpu_moe_workspace_bytes(const struct device *device, const struct weight *gate_up,
                               const struct weight *down, uint32_t max_rows, uint32_t n_used)
{
    return cpu_moe_places(device, gate_up, down, max_rows, n_used, NULL).bytes;
}

void cpu_moe(struct stream *stream, const struct moe_args *args)
{
    const struct weight *gate_up = args->gate_up, *down = args->down;
    assert(gate_up->fuse == WEIGHT_EXPERTS_GATE_UP && down->fuse == WEIGHT_EXPERTS);
    assert(gate_up->n_experts == down->n_experts && gate_up->n_out == down->n_in);
    assert(args->in.width == gate_up->n_in && args->n_rows <= args->in.max_rows);
    assert((args->in.forms & gate_up->act_forms) == gate_up->act_forms);
    assert(args->y_stride >= down->n_out && args->n_used >= 1);
    assert(args->n_rows * sizeof(float) <= CPU_SCRATCH_BYTES / 2); /* scales beside a pass */
    assert(args->workspace_bytes >= cpu_moe_workspace_bytes(stream->device, gate_up, down,
                                                            args->in.max_rows, args->n_used));
    cpu_stream_push(stream, "moe", run_plan, args, sizeof *args, true);
    cpu_stream_push(stream, "moe", run_bring, args, sizeof *args, true);
    cpu_stream_push(stream, "moe", run_glu, args, sizeof *args, true);
    cpu_stream_push(stream, "moe", run_down, args, sizeof *args, true);
    cpu_stream_push(stream, "moe", run_sum, args, sizeof *args, true);
}
