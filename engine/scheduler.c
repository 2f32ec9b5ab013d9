#include "engine/scheduler.h"

#include <assert.h>
#include <string.h>

void scheduler_init(struct scheduler *scheduler, uint32_t max_rows, int64_t max_step_ns)
{
    /* Room for one chunk of a prompt and as much for those that decode: neither starves the other.
     * */
    assert(max_rows >= 2 * PREFILL_CHUNK_MIN && max_rows <= STEP_ROWS_MAX);
    *scheduler = (struct scheduler){.max_rows = max_rows, .max_step_ns = max_step_ns};
}

static uint32_t min_rows(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* Index of the first of that kind behind `last`, round the end; n when there is none. */
static uint32_t first_behind(const struct candidate *candidates, uint32_t n, bool is_prefill,
                             int32_t priority, uint64_t last)
{
    uint32_t first = n;

    for (uint32_t i = 0; i < n; i++) {
        if (candidates[i].is_prefill != is_prefill || candidates[i].priority != priority)
            continue;
        if (candidates[i].order > last)
            return i;
        if (first == n)
            first = i;
    }
    return first;
}

/* rows[i] for decoding candidates, all of them or as many as fit, in turn. */
static uint32_t plan_decode(struct scheduler *scheduler, const struct candidate *candidates,
                            uint32_t n, uint32_t *rows, uint32_t left)
{
    uint32_t n_decode = 0, n_given = 0;

    for (uint32_t i = 0; i < n; i++)
        n_decode += !candidates[i].is_prefill;
    uint32_t start = 0;
    while (n_decode > left && start < n &&
           (candidates[start].is_prefill || candidates[start].order <= scheduler->last_decode))
        start++;
    for (uint32_t k = 0; k < n && n_given < left; k++) {
        uint32_t i = (start + k) % n;
        if (candidates[i].is_prefill)
            continue;
        rows[i] = 1;
        n_given++;
        scheduler->last_decode = candidates[i].order;
    }
    return n_given;
}

static uint32_t rows_in_time(const struct scheduler *scheduler, const struct step_cost *cost,
                             uint32_t n_decode)
{
    double left_ns = (double)scheduler->max_step_ns - (n_decode > 0 ? cost->fixed_ns : 0);
    double rows = cost->row_ns > 0 ? left_ns / cost->row_ns : STEP_ROWS_MAX;

    if (rows < PREFILL_CHUNK_MIN)
        return PREFILL_CHUNK_MIN;
    return rows > STEP_ROWS_MAX ? STEP_ROWS_MAX : (uint32_t)rows;
}

/* One priority class shares `left` rows: each in turn an equal part, what nobody wants goes on to
 * the next. */
static uint32_t plan_class(struct scheduler *scheduler, const struct candidate *candidates,
                           uint32_t n, int32_t priority, uint32_t *rows, uint32_t left)
{
    uint32_t n_class = 0, n_given = 0;

    for (uint32_t i = 0; i < n; i++)
        n_class += candidates[i].is_prefill && candidates[i].priority == priority;
    uint32_t start = first_behind(candidates, n, true, priority, scheduler->last_prefill);
    for (uint32_t k = 0; k < n && left > 0; k++) {
        uint32_t i = (start + k) % n;
        if (!candidates[i].is_prefill || candidates[i].priority != priority)
            continue;
        uint32_t share = left / n_class--;
        uint32_t want =
            min_rows(candidates[i].n_wanted, share > PREFILL_CHUNK_MIN ? share : PREFILL_CHUNK_MIN);
        if (want > left) /* less than a chunk is left: it comes first next time */
            break;
        rows[i] = want;
        left -= want;
        n_given += want;
        scheduler->last_prefill = candidates[i].order;
    }
    return n_given;
}

static void plan_prefill(struct scheduler *scheduler, const struct candidate *candidates,
                         uint32_t n, uint32_t *rows, uint32_t left)
{
    int64_t above = INT64_MAX;

    while (left > 0) {
        int64_t priority = INT64_MIN;
        for (uint32_t i = 0; i < n; i++)
            if (candidates[i].is_prefill && candidates[i].priority < above &&
                candidates[i].priority > priority)
                priority = candidates[i].priority;
        if (priority == INT64_MIN)
            return;
        left -= plan_class(scheduler, candidates, n, (int32_t)priority, rows, left);
        above = priority;
    }
}

void scheduler_plan(struct scheduler *scheduler, const struct candidate *candidates, uint32_t n,
                    const struct step_cost *cost, struct schedule *out)
{
    uint32_t rows[SEQUENCES_MAX];
    bool has_prefill = false;

    assert(n <= SEQUENCES_MAX);
    memset(rows, 0, n * sizeof *rows);
    for (uint32_t i = 0; i < n; i++)
        has_prefill |= candidates[i].is_prefill;
    /* A prefill always finds room for one chunk, however many decode. */
    uint32_t kept = has_prefill ? PREFILL_CHUNK_MIN : 0;
    uint32_t n_decode =
        n > 0 ? plan_decode(scheduler, candidates, n, rows, scheduler->max_rows - kept) : 0;
    if (has_prefill)
        plan_prefill(
            scheduler, candidates, n, rows,
            min_rows(scheduler->max_rows - n_decode, rows_in_time(scheduler, cost, n_decode)));

    out->n_items = out->n_rows = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (rows[i] == 0)
            continue;
        out->items[out->n_items++] = (struct schedule_item){.candidate_idx = i, .n_rows = rows[i]};
        out->n_rows += rows[i];
    }
    assert(out->n_rows <= scheduler->max_rows);
}
