/* kernels/cpu/cpu_attend_unit.h: one block of rows and some vheads, as a worker walks them over
 * pages.
 *
 *   init -> load queries -> walk span, walk span, ... -> (merge) -> write
 *
 * Pages ascending, all vheads of a page before the next page. Everything stands in the worker's
 * scratch.
 */
#ifndef QUIRE_KERNELS_CPU_ATTEND_UNIT_H
#define QUIRE_KERNELS_CPU_ATTEND_UNIT_H

#include "kernels/cpu/cpu_attend_plan.h"
#include "kernels/cpu/cpu_page.h"
#include "kernels/cpu/cpu_panel.h"

#define SPAN_PAGES (SPAN_TOKENS / PAGE_TOKENS)
#define HEADS_AHEAD 2 /* heads of pages between reading and prefetch */

struct attend_run {
    struct attend_args args;
    struct attend_layout layout;
    struct cpu_head_layout open_head, full_head; /* of pages as they are written, and when full */
    const struct cpu_attend_ops *ops;
    const struct cpu_panel_ops *panel;
    enum activations activations;
};

/* One block and some vheads, as a worker walks it; arrays stand in its scratch. */
struct attend_unit {
    const struct attend_run *run;
    const struct cpu_worker *worker;
    const struct attend_block *block;
    uint32_t vhead, n_vheads;
    /* [n_vheads + 1]: first row of each vhead; several only where their rows fit one unit */
    uint32_t rows_before[ATTEND_BLOCK_ROWS + 1];
    float *widened, *q;                        /* [64, k_dim + v_dim], [rows, k_dim] */
    float *lanes;                              /* [rows, 16] */
    struct attend_state span;                  /* of the span being walked */
    struct attend_state sum;                   /* of all spans so far */
    uint8_t *begin, *end;               /* [block rows * part heads], the same for each vhead */
    const uint8_t *beyond[HEADS_AHEAD]; /* read after this span, or NULL */
};

void attend_unit_init(struct attend_unit *unit, const struct attend_run *run,
                      const struct cpu_worker *worker, const struct attend_block *block,
                      uint32_t vhead, uint32_t n_vheads);
void attend_unit_load(struct attend_unit *unit);
/* Fills unit->span. A page that the table lacks sticks STATUS_INTERNAL and leaves the span as if
 * nothing was visible. */
void attend_unit_walk(struct attend_unit *unit, uint32_t span_idx);
/* out = o / l for every row of the unit: to the panel, or to plain rows that a last entry puts
 * there. */
void attend_unit_write(const struct attend_unit *unit, const struct attend_plan *plan,
                       const struct attend_state *sum);
/* The first heads of pages that somebody reads who starts at page_idx of a block. */
void attend_unit_look_beyond(const struct attend_run *run, const struct attend_block *block,
                             uint32_t page_idx, uint32_t vhead, uint32_t n_vheads,
                             const uint8_t **beyond);
void attend_state_copy(const struct attend_state *from, uint32_t n_rows, uint32_t v_dim,
                       const struct attend_state *to);

#endif
