#include "engine/scheduler.h"

#include <assert.h>

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

/* What a step has left for masks of one kind of candidates. */
struct mask_room {
    int64_t ns;
    bool is_taken, is_over; /* one has a mask; one found no room, so none behind it does */
};

static bool takes_mask(struct mask_room *room, const struct candidate *candidate)
{
    if (candidate->mask_ns == 0)
        return true;
    if (room->is_over || (room->is_taken && candidate->mask_ns > room->ns)) {
        room->is_over = true;
        return false;
    }
    room->ns -= candidate->mask_ns;
    room->is_taken = true;
    return true;
}

/* rows[i] for decoding candidates: all of them, or the first. */
static void plan_decode(const struct candidate *candidates, uint32_t n, uint32_t most,
                        struct mask_room *masks, uint32_t *rows)
{
    for (uint32_t i = 0; i < n; i++) {
        rows[i] = !candidates[i].is_prefill && most > 0 && takes_mask(masks, &candidates[i]);
        most -= rows[i];
    }
}

/* What a step has left for prompts. */
struct room {
    uint32_t rows;
    double ns;
    bool is_taken; /* one has rows */
    struct mask_room masks;
};

static struct room room_beside(const struct scheduler *scheduler,
                               const struct candidate *candidates, uint32_t n,
                               const uint32_t *rows, const struct step_cost *cost,
                               const struct mask_room *masks)
{
    struct step_work work = {.lookback = &cost->lookback};

    for (uint32_t i = 0; i < n; i++)
        if (rows[i] > 0)
            step_work_add_decode(&work, candidates[i].n_context);
    return (struct room){.rows = scheduler->max_rows - work.n_decode,
                         .ns = (double)scheduler->max_step_ns - step_cost_of(cost, &work),
                         .masks = {.ns = masks->ns}};
}

static bool is_in_class(const struct candidate *candidate, int32_t priority)
{
    return candidate->is_prefill && candidate->priority == priority;
}

/* One priority class shares the room: each in line an equal part, what nobody wants goes on to the
 * next. */
static void plan_class(const struct candidate *candidates, uint32_t n, int32_t priority,
                       const struct step_cost *cost, uint32_t *rows, struct room *room)
{
    uint32_t n_class = 0;

    for (uint32_t i = 0; i < n; i++)
        n_class += is_in_class(&candidates[i], priority);
    for (uint32_t i = 0; i < n && room->rows > 0; i++) {
        if (!is_in_class(&candidates[i], priority))
            continue;
        uint32_t n_context = candidates[i].n_context;
        uint32_t share = min_rows(room->rows / n_class,
                                  step_cost_rows_within(cost, n_context, room->ns / n_class));
        uint32_t want =
            min_rows(candidates[i].n_wanted, share > PREFILL_CHUNK_MIN ? share : PREFILL_CHUNK_MIN);
        double want_ns = step_cost_prefill(cost, n_context, want);
        if (want > room->rows || (room->is_taken && want_ns > room->ns))
            return; /* less than a chunk is left: it comes first next time */
        n_class--;
        if (want == candidates[i].n_wanted && !takes_mask(&room->masks, &candidates[i]))
            continue; /* it would draw */
        rows[i] = want;
        room->rows -= want;
        room->ns -= want_ns;
        room->is_taken = true;
    }
}

static void plan_prefill(const struct candidate *candidates, uint32_t n,
                         const struct step_cost *cost, uint32_t *rows, struct room *room)
{
    int64_t above = INT64_MAX;

    while (room->rows > 0) {
        int64_t priority = INT64_MIN;
        for (uint32_t i = 0; i < n; i++)
            if (candidates[i].is_prefill && candidates[i].priority < above &&
                candidates[i].priority > priority)
                priority = candidates[i].priority;
        if (priority == INT64_MIN)
            return;
        plan_class(candidates, n, (int32_t)priority, cost, rows, room);
        above = priority;
    }
}

void scheduler_plan(const struct scheduler *scheduler, const struct candidate *candidates,
                    uint32_t n, const struct step_cost *cost, struct schedule *out)
{
    uint32_t rows[SEQUENCES_MAX];
    struct mask_room masks = {.ns = scheduler->max_step_ns / MASK_SHARE};
    bool has_prefill = false;

    assert(n <= SEQUENCES_MAX);
    for (uint32_t i = 0; i < n; i++)
        has_prefill |= candidates[i].is_prefill;
    /* A prefill always finds room for one chunk, however many decode. */
    plan_decode(candidates, n, scheduler->max_rows - (has_prefill ? PREFILL_CHUNK_MIN : 0), &masks,
                rows);
    if (has_prefill) {
        struct room room = room_beside(scheduler, candidates, n, rows, cost, &masks);
        plan_prefill(candidates, n, cost, rows, &room);
    }

    out->n_items = out->n_rows = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (rows[i] == 0)
            continue;
        out->items[out->n_items++] = (struct schedule_item){.candidate_idx = i, .n_rows = rows[i]};
        out->n_rows += rows[i];
    }
    assert(out->n_rows <= scheduler->max_rows);
}
