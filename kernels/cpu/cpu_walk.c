#include "kernels/cpu/cpu_walk.h"
#include "kernels/cpu/cpu_panel_forms.h"

#include <assert.h>
#include <string.h>

static uint32_t min_u32(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static uint32_t n_in_of(const struct cpu_input *input)
{
    return input->n_in > 0 ? input->n_in : input->act->width;
}

/* The m rows of a group, from the first value on that is multiplied. */
static const void *rows_of(const struct cpu_input *input, bool floats, uint32_t group_idx,
                           uint32_t m)
{
    if (!floats)
        return cpu_act_group(input->act, input->activations, group_idx, input->n_rows) +
               (size_t)(input->first / BLOCK_VALUES) * m * cpu_panel_row_bytes(input->activations);
    const float *rows = cpu_act_floats(input->act, input->activations);
    return rows + (size_t)group_idx * PANEL_ROWS * input->act->width + input->first;
}

/* Bytes of a block as the kernels of many rows have it. */
static uint32_t wide_bytes_of(const struct cpu_products *products, uint32_t type,
                              enum activations activations)
{
    if (products == NULL)
        return BLOCK_VALUES * TILE_ROWS;
    bool floats = cpu_tile_wants_floats(type, activations);
    return products->wide_bytes[floats ? FORM_FLOATS : cpu_form_of(type)][activations];
}

/* Blocks of k that are multiplied at a time: whole groups of `unit`. */
static uint32_t piece_blocks(uint32_t wide_bytes, uint32_t n_blocks, uint32_t unit, bool streams)
{
    uint32_t most = (streams ? WALK_STREAM_BYTES : WALK_PIECE_BYTES) / wide_bytes;
    most = most < unit ? unit : most / unit * unit;
    uint32_t n_pieces = (n_blocks + most - 1) / most;
    uint32_t piece = (n_blocks + n_pieces - 1) / n_pieces;
    return (piece + unit - 1) / unit * unit;
}

/* Blocks [begin, end) with the rows of every group of the pass. */
static void multiply_piece(const struct cpu_input *input, const struct cpu_products *products,
                           const struct cpu_pass *pass, bool floats, struct cpu_span *span)
{
    uint8_t *wide = span->wide;
    bool is_unpacked = false;
    for (uint32_t group = pass->group_begin; group < pass->group_end; group++) {
        span->m = min_u32(PANEL_ROWS, input->n_rows - group * PANEL_ROWS);
        span->rows = rows_of(input, floats, group, span->m);
        span->acc = pass->acc + (group - pass->group_begin) * PANEL_ROWS * TILE_ROWS;
        if (products == NULL) {
            cpu_multiply_scalar(span);
        } else if (span->m == 1) {
            products->one[span->type][span->activations](span);
        } else {
            cpu_multiply *unpack = products->unpack[span->type][span->activations];
            if (unpack == NULL) /* f32: the tile is as wide as it can be */
                span->wide = (uint8_t *)(uintptr_t)span->tile +
                             (size_t)span->begin * BLOCK_VALUES * TILE_ROWS * sizeof(float);
            else if (!is_unpacked)
                unpack(span);
            is_unpacked = true;
            enum cpu_form form = floats ? FORM_FLOATS : cpu_form_of(span->type);
            products->wide[form][span->activations][span->m - 1](span);
        }
    }
    span->wide = wide;
}

void cpu_walk_tile(const struct cpu_input *input, uint32_t type, const uint8_t *tile,
                   const struct cpu_pass *pass)
{
    _Alignas(64) uint8_t wide[WALK_PIECE_BYTES];
    const struct cpu_products *products = cpu_products(input->isa);
    bool floats = cpu_tile_wants_floats(type, input->activations);
    uint32_t n_in = n_in_of(input), n_blocks = (n_in + BLOCK_VALUES - 1) / BLOCK_VALUES;
    uint32_t wide_bytes = wide_bytes_of(products, type, input->activations);
    uint32_t unit = !floats && cpu_form_of(type) == FORM_TWO ? GROUP_BLOCKS : 1;
    uint32_t piece = piece_blocks(wide_bytes, n_blocks, unit, pass->streams);
    if (pass->streams && input->n_rows == 1)
        piece = n_blocks; /* nothing is unpacked */
    struct cpu_span span = {
        .type = type,
        .activations = input->activations,
        .tile = tile,
        .wide = wide,
        .n_in = n_in,
        .row_floats = input->act->width,
        .prefetch_bytes = pass->streams ? WALK_PREFETCH_BYTES : 0,
    };

    memset(pass->acc, 0,
           (pass->group_end - pass->group_begin) * PANEL_ROWS * TILE_ROWS * sizeof(float));
    for (span.begin = 0; span.begin < n_blocks; span.begin = span.end) {
        span.end = min_u32(span.begin + piece, n_blocks);
        multiply_piece(input, products, pass, floats, &span);
    }
}

static void walk_streaming(const struct cpu_worker *worker, uint32_t n_units, cpu_walk_visit *visit,
                           const void *arg)
{
    uint32_t begin, end;
    cpu_weight_share(n_units, worker->idx, worker->n_workers, &begin, &end);
    struct cpu_pass pass = {.group_end = 1, .streams = true, .acc = worker->scratch};
    for (uint32_t unit = begin; unit < end; unit++)
        visit(arg, unit, &pass);
}

/* Pieces of units: at most 64, and small enough that every worker takes about eight, so that none
 * waits long at the end. */
static uint32_t units_at_once(uint32_t n_units, int n_workers)
{
    uint32_t n = n_units / (8 * (uint32_t)n_workers);
    return n < 1 ? 1 : min_u32(n, 64);
}

uint32_t cpu_walk_groups(const struct cpu_input *input)
{
    size_t row_bytes = 0;
    if (input->act->forms & ACT_BLOCKS)
        row_bytes = (n_in_of(input) + BLOCK_VALUES - 1) / BLOCK_VALUES *
                    cpu_panel_row_bytes(input->activations);
    if (row_bytes == 0)
        row_bytes = n_in_of(input) * sizeof(float);
    size_t n = WALK_PANEL_BYTES / (row_bytes * PANEL_ROWS);
    return n < WALK_GROUPS_MIN ? WALK_GROUPS_MIN : (uint32_t)n;
}

uint32_t cpu_walk_n_walks(const struct cpu_input *input)
{
    uint32_t n_groups = cpu_walk_n_groups(input->n_rows);
    if (n_groups <= 1)
        return n_groups;
    uint32_t walk = cpu_walk_groups(input);
    return (n_groups + walk - 1) / walk;
}

void cpu_walk(const struct cpu_worker *worker, const struct cpu_input *input, uint32_t n_units,
              uint32_t max_groups, cpu_walk_visit *visit, const void *arg)
{
    uint32_t n_groups = cpu_walk_n_groups(input->n_rows);
    if (n_groups == 0)
        return;
    if (n_groups == 1) {
        walk_streaming(worker, n_units, visit, arg);
        return;
    }

    uint32_t walk = cpu_walk_groups(input), at_once = units_at_once(n_units, worker->n_workers);
    uint32_t n_pieces = (n_units + at_once - 1) / at_once;
    uint32_t n_walks = cpu_walk_n_walks(input);
    for (;;) {
        uint32_t taken = team_counter_take(worker->counter, 1);
        if (taken >= n_pieces * n_walks)
            return;
        uint32_t first = taken / n_pieces * walk, last = min_u32(first + walk, n_groups);
        uint32_t unit = taken % n_pieces * at_once, end = min_u32(unit + at_once, n_units);
        for (; unit < end; unit++) {
            for (uint32_t group = first; group < last; group += max_groups) {
                struct cpu_pass pass = {.group_begin = group,
                                        .group_end = min_u32(group + max_groups, last),
                                        .acc = worker->scratch};
                visit(arg, unit, &pass);
            }
        }
    }
}
