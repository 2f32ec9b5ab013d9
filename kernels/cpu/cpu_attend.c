#include "kernels/cpu/cpu_attend.h"

#include <assert.h>
#include <sched.h>
#include <string.h>

#include "base/status.h"
#include "kernels/cpu/cpu_attend_plan.h"
#include "kernels/cpu/cpu_math.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/cpu_page.h"
#include "kernels/cpu/cpu_panel.h"

#define SPAN_PAGES (SPAN_TOKENS / PAGE_TOKENS)
#define HEADS_AHEAD 2      /* heads of pages between reading and prefetch */
#define SPINS_PATIENT 4096 /* for a slot, before the core is offered to others */

struct attend_run {
    struct attend_args args;
    struct attend_layout layout;
    const struct cpu_attend_ops *ops;
    const struct cpu_panel_ops *panel;
    enum activations activations;
};

struct unit { /* one block and some vheads, as a worker walks it; arrays stand in its scratch */
    const struct attend_run *run;
    const struct cpu_worker *worker;
    const struct attend_block *block;
    uint32_t vhead, n_vheads;
    uint32_t rows_before[MODEL_HEADS_MAX + 1]; /* [n_vheads + 1]: first row of each vhead */
    float *widened, *q;                        /* [64, k_dim + v_dim], [rows, k_dim] */
    float *lanes;                              /* [rows, 16] */
    struct attend_state span;                  /* of the span being walked */
    struct attend_state sum;                   /* of all spans so far */
    uint8_t *begin, *end; /* [block rows * part heads]: the same for each vhead */
    const uint8_t
        *beyond[HEADS_AHEAD]; /* heads of pages that will be read after this span, or NULL */
};

/* Query heads of a vhead: the last part of a kv head may be smaller. */
static uint32_t first_head(const struct attend_layout *layout, uint32_t vhead)
{
    return vhead / layout->n_parts * layout->group_heads +
           vhead % layout->n_parts * layout->part_heads;
}

static uint32_t n_heads_of(const struct attend_layout *layout, uint32_t vhead)
{
    uint32_t left = layout->group_heads - vhead % layout->n_parts * layout->part_heads;
    return left < layout->part_heads ? left : layout->part_heads;
}

static float *take(float **at, size_t n)
{
    float *taken = *at;
    *at += (n + 15) / 16 * 16;
    return taken;
}

static void unit_init(struct unit *unit, const struct attend_run *run,
                      const struct cpu_worker *worker, const struct attend_block *block,
                      uint32_t vhead, uint32_t n_vheads)
{
    const struct attend_layout *layout = &run->layout;
    unit->run = run;
    unit->worker = worker;
    unit->block = block;
    unit->vhead = vhead;
    unit->n_vheads = n_vheads;
    memset(unit->beyond, 0, sizeof unit->beyond);
    unit->rows_before[0] = 0;
    for (uint32_t i = 0; i < n_vheads; i++)
        unit->rows_before[i + 1] =
            unit->rows_before[i] + block->n_rows * n_heads_of(layout, vhead + i);

    size_t n_rows = layout->unit_rows;
    float *at = worker->scratch;
    unit->widened = take(&at, (size_t)PAGE_TOKENS * (layout->k_dim + layout->v_dim));
    unit->q = take(&at, n_rows * layout->k_dim);
    unit->lanes = take(&at, n_rows * ATTEND_LANES);
    unit->span.o = take(&at, n_rows * layout->v_dim);
    unit->span.m = take(&at, n_rows);
    unit->span.l = take(&at, n_rows);
    unit->sum.o = take(&at, n_rows * layout->v_dim);
    unit->sum.m = take(&at, n_rows);
    unit->sum.l = take(&at, n_rows);
    unit->begin = (uint8_t *)at;
    unit->end = unit->begin + n_rows;
    assert(unit->end + n_rows <= (uint8_t *)worker->scratch + CPU_SCRATCH_BYTES);
}

static void load_queries(struct unit *unit)
{
    const struct attend_layout *layout = &unit->run->layout;
    const struct act *q = &unit->run->args.q;
    const float *from = cpu_act_floats(q, unit->run->activations);
    float *to = unit->q;
    for (uint32_t i = 0; i < unit->n_vheads; i++) {
        size_t n = (size_t)n_heads_of(layout, unit->vhead + i) * layout->k_dim;
        size_t offset = (size_t)first_head(layout, unit->vhead + i) * layout->k_dim;
        for (uint32_t r = 0; r < unit->block->n_rows; r++, to += n)
            memcpy(to, from + (size_t)(unit->block->row + r) * q->width + offset,
                   n * sizeof(float));
    }
}

static uint8_t within_page(uint32_t position, uint32_t page_start)
{
    if (position <= page_start)
        return 0;
    uint32_t n = position - page_start;
    return n < PAGE_TOKENS ? (uint8_t)n : PAGE_TOKENS;
}

static void set_masks(struct unit *unit, uint32_t page_idx, uint32_t n_heads)
{
    uint32_t last = unit->block->last_position, start = page_idx * PAGE_TOKENS;
    uint8_t *begin = unit->begin, *end = unit->end;
    for (uint32_t r = 0; r < unit->block->n_rows; r++) {
        uint32_t position = last - (unit->block->n_rows - 1) + r;
        uint32_t first = attend_first_visible(&unit->run->args.group, position);
        uint8_t e = within_page(position + 1, start), b = within_page(first, start);
        if (b >= e)
            b = e = 0;
        memset(begin, b, n_heads);
        memset(end, e, n_heads);
        begin += n_heads;
        end += n_heads;
    }
}

static void start_span(struct unit *unit)
{
    uint32_t n_rows = unit->rows_before[unit->n_vheads];
    for (uint32_t r = 0; r < n_rows; r++)
        unit->span.m[r] = ATTEND_M_START;
    memset(unit->lanes, 0, (size_t)n_rows * ATTEND_LANES * sizeof(float));
    memset(unit->span.o, 0, (size_t)n_rows * unit->run->layout.v_dim * sizeof(float));
}

/* The part of a page that belongs to a vhead's kv head. */
static const uint8_t *page_head(const struct attend_run *run, const uint8_t *layer, uint32_t vhead)
{
    const struct kv_group_view *group = &run->args.group;
    return layer +
           vhead / run->layout.n_parts * cpu_page_head_bytes(&group->shape, group->dtype_open);
}

/* The first heads of pages that somebody reads who starts at page_idx of a block. */
static void look_beyond(const struct attend_run *run, const struct attend_block *block,
                        uint32_t page_idx, uint32_t vhead, uint32_t n_vheads,
                        const uint8_t **beyond)
{
    for (uint32_t i = 0; i < HEADS_AHEAD; i++) {
        uint32_t idx = page_idx + i / n_vheads;
        if (idx > block->last_position / PAGE_TOKENS)
            return;
        const uint8_t *layer =
            cpu_page_find(&run->args.group, run->args.layer_idx, block->seq, idx);
        if (layer != NULL)
            beyond[i] = page_head(run, layer, vhead + i % n_vheads);
    }
}

static void step_page(struct unit *unit, const uint8_t *const *layers, uint32_t n_pages, uint32_t p,
                      uint32_t page_idx)
{
    const struct attend_layout *layout = &unit->run->layout;
    const struct kv_group_view *group = &unit->run->args.group;
    uint32_t heads_before = 0;
    for (uint32_t i = 0; i < unit->n_vheads; i++) {
        uint32_t row = unit->rows_before[i], n_heads = n_heads_of(layout, unit->vhead + i);
        if (n_heads != heads_before)
            set_masks(unit, page_idx, n_heads);
        heads_before = n_heads;
        uint32_t ahead = p * unit->n_vheads + i + HEADS_AHEAD;
        const uint8_t *head = page_head(unit->run, layers[p], unit->vhead + i);
        struct attend_page page = {
            .k = head,
            .v = group->shape.v_in_k ? NULL
                                     : head + cpu_page_k_bytes(&group->shape, group->dtype_open),
            .dtype = group->dtype_open,
        };
        if (ahead < n_pages * unit->n_vheads)
            page.ahead = page_head(unit->run, layers[ahead / unit->n_vheads],
                                   unit->vhead + ahead % unit->n_vheads);
        else
            page.ahead = unit->beyond[ahead - n_pages * unit->n_vheads];
        struct attend_tile tile = {
            .n_rows = unit->rows_before[i + 1] - row,
            .k_dim = layout->k_dim,
            .v_dim = layout->v_dim,
            .q = unit->q + (size_t)row * layout->k_dim,
            .m = unit->span.m + row,
            .l = unit->lanes + (size_t)row * ATTEND_LANES,
            .o = unit->span.o + (size_t)row * layout->v_dim,
            .begin = unit->begin,
            .end = unit->end,
        };
        unit->run->ops->step(&tile, &page, unit->widened);
    }
}

/* Pages ascending, all kv heads of a page before the next one. */
static void walk_span(struct unit *unit, uint32_t span_idx)
{
    const struct attend_args *args = &unit->run->args;
    uint32_t first = unit->block->first_position / PAGE_TOKENS;
    uint32_t last = unit->block->last_position / PAGE_TOKENS;
    if (first < span_idx * SPAN_PAGES)
        first = span_idx * SPAN_PAGES;
    if (last > span_idx * SPAN_PAGES + SPAN_PAGES - 1)
        last = span_idx * SPAN_PAGES + SPAN_PAGES - 1;
    start_span(unit);
    const uint8_t *layers[SPAN_PAGES];
    uint32_t n_pages = last - first + 1;
    bool complete = true;
    for (uint32_t p = 0; p < n_pages; p++) {
        layers[p] = cpu_page_find(&args->group, args->layer_idx, unit->block->seq, first + p);
        complete &= layers[p] != NULL;
    }
    if (!complete)
        cpu_stream_fail(unit->worker->stream, STATUS_INTERNAL);
    for (uint32_t p = 0; complete && p < n_pages; p++)
        step_page(unit, layers, n_pages, p, first + p);
    uint32_t n_rows = unit->rows_before[unit->n_vheads];
    for (uint32_t r = 0; r < n_rows; r++)
        unit->span.l[r] = cpu_fold16(unit->lanes + (size_t)r * ATTEND_LANES);
}

static void copy_state(const struct attend_state *from, uint32_t n_rows, uint32_t v_dim,
                       const struct attend_state *to)
{
    memcpy(to->o, from->o, (size_t)n_rows * v_dim * sizeof(float));
    memcpy(to->m, from->m, n_rows * sizeof(float));
    memcpy(to->l, from->l, n_rows * sizeof(float));
}

/* out = o / l for every row of the unit: to the panel, or to plain rows that a last entry puts
 * there. */
static void write_output(const struct unit *unit, const struct attend_plan *plan,
                         const struct attend_state *sum)
{
    const struct attend_run *run = unit->run;
    uint32_t v_dim = run->layout.v_dim, n_rows = run->args.rows.n_rows;
    for (uint32_t i = 0; i < unit->n_vheads; i++) {
        uint32_t n_heads = n_heads_of(&run->layout, unit->vhead + i);
        uint32_t first = first_head(&run->layout, unit->vhead + i) * v_dim;
        for (uint32_t r = 0; r < unit->block->n_rows; r++) {
            uint32_t at = unit->rows_before[i] + r * n_heads, row = unit->block->row + r;
            float *o = sum->o + (size_t)at * v_dim;
            for (uint32_t h = 0; h < n_heads; h++)
                run->ops->divide(o + (size_t)h * v_dim, sum->l[at + h], v_dim,
                                 o + (size_t)h * v_dim);
            if (run->layout.direct)
                run->panel->write(&run->args.out, run->activations, row, n_rows, first,
                                  n_heads * v_dim, o);
            else
                memcpy(plan->rows + (size_t)row * run->args.out.width + first, o,
                       (size_t)n_heads * v_dim * sizeof(float));
        }
    }
}

static void run_whole(struct unit *unit, const struct attend_plan *plan)
{
    uint32_t n_rows = unit->rows_before[unit->n_vheads], v_dim = unit->run->layout.v_dim;
    uint32_t first = unit->block->first_position / SPAN_TOKENS;
    uint32_t last = unit->block->last_position / SPAN_TOKENS;
    load_queries(unit);
    for (uint32_t span = first; span <= last; span++) {
        const uint8_t *beyond[HEADS_AHEAD];
        memcpy(beyond, unit->beyond, sizeof beyond);
        if (span < last)
            look_beyond(unit->run, unit->block, (span + 1) * SPAN_PAGES, unit->vhead, 1,
                        unit->beyond);
        walk_span(unit, span);
        memcpy(unit->beyond, beyond, sizeof beyond);
        if (span == first)
            copy_state(&unit->span, n_rows, v_dim, &unit->sum);
        else
            unit->run->ops->merge(&unit->span, n_rows, v_dim, &unit->sum);
    }
    write_output(unit, plan, &unit->sum);
}

/* --- chains --- */

static struct attend_state state_at(const struct attend_plan *plan,
                                    const struct attend_layout *layout, uint32_t idx)
{
    float *base = plan->states + (size_t)idx * layout->unit_rows * (layout->v_dim + 2);
    float *m = base + (size_t)layout->unit_rows * layout->v_dim;
    return (struct attend_state){base, m, m + layout->unit_rows};
}

static bool state_waits(const struct attend_plan *plan, uint32_t n_slots, uint32_t unit_idx)
{
    return atomic_load(&plan->slots[unit_idx % n_slots].turn) == 2 * (unit_idx / n_slots) + 1;
}

/* Merges what waits in order, and writes the output after the last span. Called with the chain
 * locked. */
static void merge_due(const struct unit *unit, struct attend_plan *plan, struct attend_chain *chain)
{
    const struct attend_layout *layout = &unit->run->layout;
    uint32_t n_rows = unit->rows_before[unit->n_vheads];
    struct attend_state sum =
        state_at(plan, layout, layout->n_slots + (uint32_t)(chain - plan->chains));
    while (chain->n_merged < chain->n_spans) {
        uint32_t unit_idx = chain->first_unit + chain->n_merged;
        if (!state_waits(plan, layout->n_slots, unit_idx))
            return;
        struct attend_state due = state_at(plan, layout, unit_idx % layout->n_slots);
        if (chain->n_merged == 0)
            copy_state(&due, n_rows, layout->v_dim, &sum);
        else
            unit->run->ops->merge(&due, n_rows, layout->v_dim, &sum);
        atomic_fetch_add(&plan->slots[unit_idx % layout->n_slots].turn, 1);
        if (++chain->n_merged == chain->n_spans)
            write_output(unit, plan, &sum);
    }
}

/* Whoever holds the lock merges for all; a state that came while it was being given back is seen by
 * one of the two. */
static void merge_chain(const struct unit *unit, struct attend_plan *plan,
                        struct attend_chain *chain)
{
    uint32_t next;
    do {
        if (atomic_exchange(&chain->locked, 1) != 0)
            return;
        merge_due(unit, plan, chain);
        next = chain->n_merged;
        atomic_store(&chain->locked, 0);
    } while (next < chain->n_spans &&
             state_waits(plan, unit->run->layout.n_slots, chain->first_unit + next));
}

static void wait_for_slot(struct attend_slot *slot, uint32_t turn)
{
    for (uint32_t spins = 0; atomic_load(&slot->turn) != turn; spins++) {
        if (spins < SPINS_PATIENT)
            __builtin_ia32_pause();
        else
            sched_yield();
    }
}

static void run_split(struct unit *unit, struct attend_plan *plan, struct attend_chain *chain,
                      uint32_t unit_idx)
{
    const struct attend_layout *layout = &unit->run->layout;
    uint32_t slot_idx = unit_idx % layout->n_slots, generation = unit_idx / layout->n_slots;
    load_queries(unit);
    walk_span(unit, chain->first_span + (unit_idx - chain->first_unit));
    wait_for_slot(&plan->slots[slot_idx], 2 * generation);
    struct attend_state slot = state_at(plan, layout, slot_idx);
    copy_state(&unit->span, unit->rows_before[unit->n_vheads], layout->v_dim, &slot);
    atomic_store(&plan->slots[slot_idx].turn, 2 * generation + 1);
    merge_chain(unit, plan, chain);
}

/* --- entries --- */

static void run_plan(const struct cpu_worker *worker, const void *args)
{
    const struct attend_run *run = args;
    if (worker->idx == 0)
        attend_plan_fill(&run->layout, &run->args.rows, &run->args.group, run->args.workspace);
}

/* A unit by its number on the counter. */
struct unit_place {
    const struct attend_block *block;
    struct attend_chain *chain; /* NULL: whole */
    uint32_t vhead, n_vheads;
    uint32_t first_page;
};

static struct unit_place find_unit(const struct attend_layout *layout,
                                   const struct attend_plan *plan, uint32_t idx)
{
    if (idx >= plan->n_split_units) {
        uint32_t whole = idx - plan->n_split_units;
        const struct attend_block *block = &plan->blocks[plan->order[whole / layout->n_vheads]];
        return (struct unit_place){block, NULL, whole % layout->n_vheads, 1,
                                   block->first_position / PAGE_TOKENS};
    }
    struct attend_chain *chain = plan->chains;
    while (idx >= chain->first_unit + chain->n_spans)
        chain++;
    const struct attend_block *block = &plan->blocks[chain->block_idx];
    uint32_t first_page = (chain->first_span + (idx - chain->first_unit)) * SPAN_PAGES;
    if (first_page < block->first_position / PAGE_TOKENS)
        first_page = block->first_position / PAGE_TOKENS;
    return (struct unit_place){block, chain, chain->vhead, chain->n_vheads, first_page};
}

static void run_units(const struct cpu_worker *worker, const void *args)
{
    const struct attend_run *run = args;
    const struct attend_layout *layout = &run->layout;
    struct attend_plan *plan = run->args.workspace;
    uint32_t n_units = plan->n_split_units + plan->n_whole_blocks * layout->n_vheads;
    struct unit unit;
    for (uint32_t idx; (idx = team_counter_take(worker->counter, 1)) < n_units;) {
        struct unit_place place = find_unit(layout, plan, idx);
        unit_init(&unit, run, worker, place.block, place.vhead, place.n_vheads);
        if (idx + layout->n_threads < n_units) { /* the likely next one of this worker */
            struct unit_place next = find_unit(layout, plan, idx + layout->n_threads);
            look_beyond(run, next.block, next.first_page, next.vhead, next.n_vheads, unit.beyond);
        }
        if (place.chain != NULL)
            run_split(&unit, plan, place.chain, idx);
        else
            run_whole(&unit, plan);
    }
}

static void run_write(const struct cpu_worker *worker, const void *args)
{
    const struct attend_run *run = args;
    const struct attend_plan *plan = run->args.workspace;
    const struct act *out = &run->args.out;
    uint32_t n_rows = run->args.rows.n_rows;
    for (uint32_t r = (uint32_t)worker->idx; r < n_rows; r += (uint32_t)worker->n_workers)
        run->panel->write(out, run->activations, r, n_rows, 0, out->width,
                          plan->rows + (size_t)r * out->width);
}

static const struct cpu_attend_ops *attend_ops_of(enum isa isa)
{
    if (isa == ISA_AVX512)
        return &cpu_attend_avx512;
    if (isa == ISA_AVX2)
        return &cpu_attend_avx2;
    return &cpu_attend_scalar;
}

size_t cpu_attend_workspace_bytes(const struct device *device, uint32_t n_heads,
                                  const struct kv_shape *shape, uint32_t max_rows,
                                  uint32_t max_context)
{
    (void)max_context; /* states of spans pass through a ring */
    struct attend_layout layout = attend_layout(device_n_threads(device), n_heads, shape);
    return attend_workspace(&layout, max_rows);
}

void cpu_attend(struct stream *stream, const struct attend_args *args)
{
    const struct kv_shape *shape = &args->group.shape;
    struct attend_run run = {
        .args = *args,
        .layout = attend_layout(stream_n_threads(stream), args->n_heads, shape),
        .ops = attend_ops_of(stream_isa(stream)),
        .panel = cpu_panel_ops(stream_isa(stream)),
        .activations = stream_activations(stream),
    };
    assert(args->q.width == args->n_heads * shape->k_dim &&
           args->out.width == args->n_heads * shape->v_dim);
    assert(args->rows.n_rows <= args->q.max_rows && args->rows.n_rows <= args->out.max_rows);
    assert(args->group.kind == KV_FULL || args->group.window > 0);
    assert(!shape->v_in_k || shape->v_dim <= shape->k_dim);
    assert(args->group.dtype_full == args->group.dtype_open);
    assert((uintptr_t)args->workspace % 64 == 0);
    assert(attend_workspace(&run.layout, args->rows.n_rows) <= args->workspace_bytes);
    cpu_stream_push(stream, "attend_plan", run_plan, &run, sizeof run, true);
    cpu_stream_push(stream, "attend", run_units, &run, sizeof run, true);
    if (!run.layout.direct)
        cpu_stream_push(stream, "attend_write", run_write, &run, sizeof run, true);
}
