#include "kernels/cpu/cpu_attend_plan.h"

#include <assert.h>

#include "kernels/cpu/cpu_ops.h"

#define WIDEN_COST 4 /* what a page costs beside its rows, in rows */
#define N_LEVELS 64  /* of cost: its bit length */

static uint32_t min_u32(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static size_t line_up(size_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

struct attend_layout attend_layout(int n_threads, uint32_t n_heads, const struct kv_shape *shape)
{
    assert(n_heads > 0 && shape->n_kv_heads > 0 && n_heads % shape->n_kv_heads == 0);
    struct attend_layout layout = {
        .n_threads = (uint32_t)n_threads,
        .n_heads = n_heads,
        .k_dim = shape->k_dim,
        .v_dim = shape->v_dim,
        .group_heads = n_heads / shape->n_kv_heads,
    };
    layout.part_heads = min_u32(layout.group_heads, ATTEND_PART_HEADS);
    layout.n_parts = (layout.group_heads + layout.part_heads - 1) / layout.part_heads;
    layout.n_vheads = shape->n_kv_heads * layout.n_parts;

    /* A worker's scratch: a widened page, then q, the span's state with 16 lanes, the merged state,
     * and two bytes of mask. */
    size_t page_bytes = (size_t)PAGE_TOKENS * (shape->k_dim + shape->v_dim) * sizeof(float);
    size_t row_bytes =
        (shape->k_dim + 2 * (size_t)shape->v_dim + ATTEND_LANES + 4) * sizeof(float) + 2;
    assert(page_bytes < CPU_SCRATCH_BYTES);
    size_t fitting = (CPU_SCRATCH_BYTES - page_bytes - 1024) / row_bytes;
    assert(fitting >= layout.part_heads);
    layout.block_rows = min_u32(ATTEND_BLOCK_ROWS, (uint32_t)(fitting / layout.part_heads));
    layout.unit_rows = layout.block_rows * layout.part_heads;
    layout.n_slots = layout.n_threads * ATTEND_SLOTS_PER_THREAD;
    layout.max_chains = layout.n_threads * ATTEND_CHAINS_PER_THREAD;
    layout.direct = layout.group_heads * layout.v_dim % 32 == 0;
    return layout;
}

/* The next `bytes` of a workspace, in whole lines; without a base they are only counted. */
static void *take(uint8_t *base, size_t *at, size_t bytes)
{
    void *taken = base == NULL ? NULL : base + *at;
    *at += line_up(bytes);
    return taken;
}

/* Gives each part of the workspace its place; returns the bytes of all. */
static size_t place(const struct attend_layout *layout, uint32_t n_rows, uint8_t *base,
                    struct attend_plan *plan)
{
    size_t at = 0, row_floats = (size_t)layout->n_heads * layout->v_dim;
    size_t n_states = layout->n_slots + layout->max_chains;
    size_t state_floats = (size_t)layout->unit_rows * (layout->v_dim + 2);
    take(base, &at, sizeof *plan);
    plan->chains = take(base, &at, layout->max_chains * sizeof *plan->chains);
    plan->slots = take(base, &at, layout->n_slots * sizeof *plan->slots);
    plan->states = take(base, &at, n_states * state_floats * sizeof(float));
    plan->blocks = take(base, &at, n_rows * sizeof *plan->blocks);
    plan->order = take(base, &at, n_rows * sizeof *plan->order);
    plan->rows = take(base, &at, layout->direct ? 0 : n_rows * row_floats * sizeof(float));
    return at;
}

size_t attend_workspace(const struct attend_layout *layout, uint32_t n_rows)
{
    struct attend_plan plan;
    return place(layout, n_rows, NULL, &plan);
}

static void cut_blocks(const struct attend_layout *layout, const struct rows_view *rows,
                       const struct kv_group_view *group, struct attend_plan *plan)
{
    plan->n_blocks = 0;
    for (uint32_t seq = 0; seq < rows->n_seqs; seq++) {
        uint32_t end = rows->seq_begin[seq + 1];
        for (uint32_t row = rows->seq_begin[seq]; row < end;) {
            uint32_t position = rows->position[row];
            uint32_t n = min_u32(layout->block_rows, PAGE_TOKENS - position % PAGE_TOKENS);
            n = min_u32(n, end - row);
            plan->blocks[plan->n_blocks++] = (struct attend_block){
                .row = row,
                .n_rows = n,
                .seq = rows->row_seq[row],
                .first_position = attend_first_visible(group, position),
                .last_position = position + n - 1,
            };
            row += n;
        }
    }
}

static uint64_t block_cost(const struct attend_layout *layout, const struct attend_block *block)
{
    uint64_t n_pages = block->last_position / PAGE_TOKENS - block->first_position / PAGE_TOKENS + 1;
    return n_pages * (block->n_rows * layout->part_heads + WIDEN_COST);
}

static uint32_t block_spans(const struct attend_block *block)
{
    return block->last_position / SPAN_TOKENS - block->first_position / SPAN_TOKENS + 1;
}

static bool is_split(const struct attend_layout *layout, const struct attend_block *block,
                     uint64_t total)
{
    return layout->n_threads > 1 && block_spans(block) > 1 &&
           block_cost(layout, block) * layout->max_chains > total;
}

static void add_chains(const struct attend_layout *layout, struct attend_plan *plan,
                       uint32_t block_idx, bool side_by_side)
{
    const struct attend_block *block = &plan->blocks[block_idx];
    uint32_t n_vheads = 1;
    if (side_by_side)
        n_vheads = layout->unit_rows / (block->n_rows * layout->part_heads);
    for (uint32_t vhead = 0; vhead < layout->n_vheads; vhead += n_vheads) {
        assert(plan->n_chains < layout->max_chains);
        struct attend_chain *chain = &plan->chains[plan->n_chains++];
        atomic_init(&chain->locked, 0);
        chain->n_merged = 0;
        chain->block_idx = block_idx;
        chain->vhead = vhead;
        chain->n_vheads = min_u32(n_vheads, layout->n_vheads - vhead);
        chain->first_span = block->first_position / SPAN_TOKENS;
        chain->n_spans = block_spans(block);
        chain->first_unit = plan->n_split_units;
        plan->n_split_units += chain->n_spans;
    }
}

/* Long blocks become chains. With many spans a unit takes several kv heads of a page, which lie
 * side by side in memory. */
static void cut_chains(const struct attend_layout *layout, struct attend_plan *plan, uint64_t total)
{
    uint64_t n_spans = 0;
    for (uint32_t i = 0; i < plan->n_blocks; i++)
        if (is_split(layout, &plan->blocks[i], total))
            n_spans += block_spans(&plan->blocks[i]);
    plan->n_chains = 0;
    plan->n_split_units = 0;
    for (uint32_t i = 0; i < plan->n_blocks; i++)
        if (is_split(layout, &plan->blocks[i], total))
            add_chains(layout, plan, i, n_spans >= 4 * layout->n_threads);
}

/* Blocks of whole units by the bit length of their cost, longest first; within a level later rows
 * first. */
static void order_blocks(const struct attend_layout *layout, struct attend_plan *plan,
                         uint64_t total)
{
    uint32_t n_at[N_LEVELS + 1] = {0};
    for (uint32_t i = 0; i < plan->n_blocks; i++)
        if (!is_split(layout, &plan->blocks[i], total))
            n_at[__builtin_clzll(block_cost(layout, &plan->blocks[i]))]++;
    uint32_t begin = 0;
    for (int level = 0; level < N_LEVELS; level++) {
        uint32_t n = n_at[level];
        n_at[level] = begin;
        begin += n;
    }
    plan->n_whole_blocks = begin;
    for (uint32_t i = plan->n_blocks; i-- > 0;)
        if (!is_split(layout, &plan->blocks[i], total))
            plan->order[n_at[__builtin_clzll(block_cost(layout, &plan->blocks[i]))]++] = i;
}

void attend_plan_fill(const struct attend_layout *layout, const struct rows_view *rows,
                      const struct kv_group_view *group, void *workspace)
{
    struct attend_plan *plan = workspace;
    place(layout, rows->n_rows, workspace, plan);
    cut_blocks(layout, rows, group, plan);
    uint64_t total = 0;
    for (uint32_t i = 0; i < plan->n_blocks; i++)
        total += block_cost(layout, &plan->blocks[i]) * layout->n_vheads;
    cut_chains(layout, plan, total);
    order_blocks(layout, plan, total);
    for (uint32_t i = 0; i < layout->n_slots; i++)
        atomic_init(&plan->slots[i].turn, 0);
}
