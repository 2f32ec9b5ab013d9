#include "kernels/cpu/cpu_attend.h"

#include <assert.h>
#include <sched.h>
#include <string.h>

#include "base/threads.h"
#include "kernels/cpu/cpu_attend_plan.h"
#include "kernels/cpu/cpu_attend_unit.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/cpu_x86.h"

#define SPINS_PATIENT 4096 /* for a slot, before the core is offered to others */

static void run_whole(struct attend_unit *unit, const struct attend_plan *plan)
{
    uint32_t n_rows = unit->rows_before[unit->n_vheads], v_dim = unit->run->layout.v_dim;
    uint32_t first = unit->block->first_position / SPAN_TOKENS;
    uint32_t last = unit->block->last_position / SPAN_TOKENS;
    attend_unit_load(unit);
    for (uint32_t span = first; span <= last; span++) {
        const uint8_t *beyond[HEADS_AHEAD];
        memcpy(beyond, unit->beyond, sizeof beyond);
        if (span < last)
            attend_unit_look_beyond(unit->run, unit->block, (span + 1) * SPAN_PAGES, unit->vhead, 1,
                                    unit->beyond);
        attend_unit_walk(unit, span);
        memcpy(unit->beyond, beyond, sizeof beyond);
        if (span == first)
            attend_state_copy(&unit->span, n_rows, v_dim, &unit->sum);
        else
            unit->run->ops->merge(&unit->span, n_rows, v_dim, &unit->sum);
    }
    attend_unit_write(unit, plan, &unit->sum);
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
static void merge_due(const struct attend_unit *unit, struct attend_plan *plan,
                      struct attend_chain *chain)
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
            attend_state_copy(&due, n_rows, layout->v_dim, &sum);
        else
            unit->run->ops->merge(&due, n_rows, layout->v_dim, &sum);
        atomic_fetch_add(&plan->slots[unit_idx % layout->n_slots].turn, 1);
        if (++chain->n_merged == chain->n_spans)
            attend_unit_write(unit, plan, &sum);
    }
}

/* Whoever holds the lock merges for all; a state that came while it was being given back is seen by
 * one of the two. */
static void merge_chain(const struct attend_unit *unit, struct attend_plan *plan,
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
            thread_relax();
        else
            sched_yield();
    }
}

static void run_split(struct attend_unit *unit, struct attend_plan *plan,
                      struct attend_chain *chain, uint32_t unit_idx)
{
    const struct attend_layout *layout = &unit->run->layout;
    uint32_t slot_idx = unit_idx % layout->n_slots, generation = unit_idx / layout->n_slots;
    attend_unit_load(unit);
    attend_unit_walk(unit, chain->first_span + (unit_idx - chain->first_unit));
    wait_for_slot(&plan->slots[slot_idx], 2 * generation);
    struct attend_state slot = state_at(plan, layout, slot_idx);
    attend_state_copy(&unit->span, unit->rows_before[unit->n_vheads], layout->v_dim, &slot);
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
    struct attend_unit unit;
    for (uint32_t idx; (idx = team_counter_take(worker->counter, 1)) < n_units;) {
        struct unit_place place = find_unit(layout, plan, idx);
        attend_unit_init(&unit, run, worker, place.block, place.vhead, place.n_vheads);
        if (idx + layout->n_threads < n_units) { /* the likely next one of this worker */
            struct unit_place next = find_unit(layout, plan, idx + layout->n_threads);
            attend_unit_look_beyond(run, next.block, next.first_page, next.vhead, next.n_vheads,
                                    unit.beyond);
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
        return CPU_X86(&cpu_attend_avx512);
    if (isa == ISA_AVX2)
        return CPU_X86(&cpu_attend_avx2);
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
        .open_head = cpu_page_head(shape, args->group.dtype_open),
        .full_head = cpu_page_head(shape, args->group.dtype_full),
        .ops = attend_ops_of(stream_isa(stream)),
        .panel = cpu_panel_ops(stream_isa(stream)),
        .activations = stream_activations(stream),
    };
    assert(args->q.width == args->n_heads * shape->k_dim &&
           args->out.width == args->n_heads * shape->v_dim);
    assert(args->rows.n_rows <= args->q.max_rows && args->rows.n_rows <= args->out.max_rows);
    assert(args->group.kind == KV_FULL || args->group.window > 0);
    assert(!shape->v_in_k || shape->v_dim <= shape->k_dim);
    assert(kv_group_packs(&args->group) == (args->group.open.base != NULL));
    assert((uintptr_t)args->workspace % 64 == 0);
    assert(attend_workspace(&run.layout, args->rows.n_rows) <= args->workspace_bytes);
    cpu_stream_push(stream, "attend_plan", run_plan, &run, sizeof run, true);
    cpu_stream_push(stream, "attend", run_units, &run, sizeof run, true);
    if (!run.layout.direct)
        cpu_stream_push(stream, "attend_write", run_write, &run, sizeof run, true);
}
