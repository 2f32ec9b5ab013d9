#include "kernels/cpu/cpu_attend_unit.h"

#include <assert.h>
#include <string.h>

#include "base/status.h"
#include "kernels/cpu/cpu_math.h"
#include "kernels/cpu/cpu_page.h"

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

void attend_unit_init(struct attend_unit *unit, const struct attend_run *run,
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
    assert(n_vheads <= ATTEND_BLOCK_ROWS);
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

void attend_unit_load(struct attend_unit *unit)
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

static void set_masks(struct attend_unit *unit, uint32_t page_idx, uint32_t n_heads)
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

static void start_span(struct attend_unit *unit)
{
    uint32_t n_rows = unit->rows_before[unit->n_vheads];
    for (uint32_t r = 0; r < n_rows; r++)
        unit->span.m[r] = ATTEND_M_START;
    memset(unit->lanes, 0, (size_t)n_rows * ATTEND_LANES * sizeof(float));
    memset(unit->span.o, 0, (size_t)n_rows * unit->run->layout.v_dim * sizeof(float));
}

static const struct cpu_head_layout *head_layout(const struct attend_run *run, enum kv_dtype dtype)
{
    return dtype == run->args.group.dtype_open ? &run->open_head : &run->full_head;
}

/* A page as its rows may see it: the one that they stand in as it was written. */
struct seen_page {
    const uint8_t *layer; /* NULL: the table has it not */
    enum kv_dtype dtype;
};

static struct seen_page find_page(const struct attend_run *run, const struct attend_block *block,
                                  uint32_t page_idx)
{
    const struct kv_group_view *group = &run->args.group;
    uint32_t layer_idx = run->args.layer_idx;
    if (page_idx == block->last_position / PAGE_TOKENS)
        return (struct seen_page){kv_page_find_open(group, layer_idx, block->seq, page_idx),
                                  group->dtype_open};
    return (struct seen_page){kv_page_find(group, layer_idx, block->seq, page_idx),
                              group->dtype_full};
}

/* The part of a page that belongs to a vhead's kv head. */
static const uint8_t *page_head(const struct attend_run *run, const struct seen_page *page,
                                uint32_t vhead)
{
    const struct attend_layout *layout = &run->layout;
    return page->layer + vhead / layout->n_parts * head_layout(run, page->dtype)->bytes;
}

void attend_unit_look_beyond(const struct attend_run *run, const struct attend_block *block,
                             uint32_t page_idx, uint32_t vhead, uint32_t n_vheads,
                             const uint8_t **beyond)
{
    for (uint32_t i = 0; i < HEADS_AHEAD; i++) {
        uint32_t idx = page_idx + i / n_vheads;
        if (idx > block->last_position / PAGE_TOKENS)
            return;
        struct seen_page page = find_page(run, block, idx);
        if (page.layer != NULL)
            beyond[i] = page_head(run, &page, vhead + i % n_vheads);
    }
}

/* One head of a page, and what to prefetch meanwhile. */
static struct attend_page page_of(const struct attend_run *run, const struct seen_page *seen,
                                  uint32_t vhead, const uint8_t *ahead)
{
    const struct cpu_head_layout *head = head_layout(run, seen->dtype);
    const uint8_t *base = page_head(run, seen, vhead);
    struct attend_page page = {.k = base + head->k,
                               .dtype = seen->dtype,
                               .ahead = ahead,
                               .ahead_k_bytes = head->v_part,
                               .ahead_v_bytes = head->bytes - head->v_part};
    if (!run->args.group.shape.v_in_k)
        page.v = base + head->v;
    if (kv_dtype_is_packed(seen->dtype)) {
        page.k_least = (const float *)(base + head->k_least);
        page.k_step = (const float *)(base + head->k_step);
        page.v_least = (const float *)(base + head->v_least);
        page.v_step = (const float *)(base + head->v_step);
    }
    return page;
}

static void step_page(struct attend_unit *unit, const struct seen_page *pages, uint32_t n_pages,
                      uint32_t p, uint32_t page_idx)
{
    const struct attend_layout *layout = &unit->run->layout;
    uint32_t heads_before = 0;
    for (uint32_t i = 0; i < unit->n_vheads; i++) {
        uint32_t row = unit->rows_before[i], n_heads = n_heads_of(layout, unit->vhead + i);
        if (n_heads != heads_before)
            set_masks(unit, page_idx, n_heads);
        heads_before = n_heads;
        uint32_t next = p * unit->n_vheads + i + HEADS_AHEAD;
        const uint8_t *ahead;
        if (next < n_pages * unit->n_vheads)
            ahead = page_head(unit->run, &pages[next / unit->n_vheads],
                              unit->vhead + next % unit->n_vheads);
        else
            ahead = unit->beyond[next - n_pages * unit->n_vheads];
        struct attend_page page = page_of(unit->run, &pages[p], unit->vhead + i, ahead);
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
void attend_unit_walk(struct attend_unit *unit, uint32_t span_idx)
{
    uint32_t first = unit->block->first_position / PAGE_TOKENS;
    uint32_t last = unit->block->last_position / PAGE_TOKENS;
    if (first < span_idx * SPAN_PAGES)
        first = span_idx * SPAN_PAGES;
    if (last > span_idx * SPAN_PAGES + SPAN_PAGES - 1)
        last = span_idx * SPAN_PAGES + SPAN_PAGES - 1;
    start_span(unit);
    struct seen_page pages[SPAN_PAGES];
    uint32_t n_pages = last - first + 1;
    bool complete = true;
    for (uint32_t p = 0; p < n_pages; p++) {
        pages[p] = find_page(unit->run, unit->block, first + p);
        complete &= pages[p].layer != NULL;
    }
    if (!complete)
        cpu_worker_fail(unit->worker, STATUS_INTERNAL);
    for (uint32_t p = 0; complete && p < n_pages; p++)
        step_page(unit, pages, n_pages, p, first + p);
    uint32_t n_rows = unit->rows_before[unit->n_vheads];
    for (uint32_t r = 0; r < n_rows; r++)
        unit->span.l[r] = cpu_fold16(unit->lanes + (size_t)r * ATTEND_LANES);
}

void attend_state_copy(const struct attend_state *from, uint32_t n_rows, uint32_t v_dim,
                       const struct attend_state *to)
{
    memcpy(to->o, from->o, (size_t)n_rows * v_dim * sizeof(float));
    memcpy(to->m, from->m, n_rows * sizeof(float));
    memcpy(to->l, from->l, n_rows * sizeof(float));
}

void attend_unit_write(const struct attend_unit *unit, const struct attend_plan *plan,
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
