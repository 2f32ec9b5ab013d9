/* The cost of attend: its rows are cut here as cuda_attend_plan.cu cuts them on the device. */
#include "kernels/cuda/cuda_attend.h"
#include "kernels/cuda/cuda_cost.h"
#include "kernels/cuda/cuda_page.h"

#define OPS_SCORE 5 /* scale, maximum, difference, exp2, sum */
#define OPS_FOLD 3  /* of a value of o: product, fma */
/* of packed pages: of a value of q or p its scale, its part of z or w, rounding; of a code its bits
 * made f16; of a value of o another fma */
#define OPS_SCALED 4
#define WARPS 4     /* of a block of tiles */

static uint32_t first_visible(const struct kv_group_view *group, uint32_t position)
{
    if (group->kind == KV_SLIDING && position >= group->window)
        return position - group->window + 1;
    if (group->kind == KV_CHUNKED)
        return position / group->window * group->window;
    return 0;
}

/* Parts of `tokens` that [first, last] meets. */
static uint32_t n_parts(uint32_t first, uint32_t last, uint32_t tokens)
{
    return last / tokens - first / tokens + 1;
}

struct cut_rows { /* what the rows of a step come to */
    struct op_cost cost;
    double n_wanted[ATTEND_CLASSES][ATTEND_CUTS]; /* states, with each cut */
    double n_spans; /* x rows: folds while walking */
};

struct form { /* of the kernels that take them */
    bool is_tiled;
    uint32_t rows_max[ATTEND_CLASSES];
};

/* K and V of a block by mma: pages come once a kv head, up to the last position. Of few rows each
 * warp makes all scores and a part of the output, of many a warp has 16 rows for itself. */
static void count_tiled(struct op_cost *cost, const struct kv_group_view *group,
                        const struct attend_block *block)
{
    const struct kv_shape *shape = &group->shape;
    uint32_t first_page = block->first_position / PAGE_TOKENS;
    double n_pages = block->last_position / PAGE_TOKENS - first_page + 1;
    double n_tokens = block->last_position - first_page * PAGE_TOKENS + 1;
    double n_packed = kv_group_packs(group) ? n_pages - 1 : 0; /* all but the last, whole */
    uint32_t many_rows = ATTEND_MANY_ROWS(kv_group_packs(group), shape->k_dim);
    double n_tiles = block->attend_class == ATTEND_FEW ? 1 : many_rows / ATTEND_TILE_ROWS;
    double scores = ATTEND_TILE_ROWS * PAGE_TOKENS * (double)WARPS;
    double values = ATTEND_TILE_ROWS * (double)shape->v_dim * n_tiles;
    double n_units = n_pages * shape->n_kv_heads;
    cost->read += n_packed * (double)cuda_page_bytes(shape, group->dtype_full);
    n_tokens -= n_packed * PAGE_TOKENS;
    cost->read += n_tokens * shape->n_kv_heads * (shape->k_dim + shape->v_dim) * 2.0;
    cost->half_ops += n_units * 2 * (scores * shape->k_dim + values * PAGE_TOKENS);
    cost->float_ops += n_units * (scores * OPS_SCORE + values);
    double codes = PAGE_TOKENS * ((double)WARPS * shape->k_dim + n_tiles * shape->v_dim);
    double scaled = (double)ATTEND_TILE_ROWS * WARPS * (shape->k_dim + PAGE_TOKENS);
    cost->float_ops +=
        n_packed * shape->n_kv_heads * (codes + scaled * OPS_SCALED + 2 * values);
}

/* By fma, one row and query head a unit; heads of one kv head are taken side by side and read the
 * same bytes. */
static void count_plain(struct op_cost *cost, const struct attend_args *args,
                        const struct attend_block *block)
{
    const struct kv_shape *shape = &args->group.shape;
    double n_keys = block->last_position - block->first_position + 1;
    double n_pages = n_parts(block->first_position, block->last_position, PAGE_TOKENS);
    double bytes = (double)kv_dtype_bytes(args->group.dtype_open);
    double width = shape->k_dim + (shape->v_in_k ? 0 : shape->v_dim), n_rows = n_keys;
    if (kv_group_packs(&args->group)) { /* pages before its own, a fma a code */
        double page_bytes = (double)cuda_page_bytes(shape, args->group.dtype_full);
        n_rows = n_pages > 1 ? block->last_position % PAGE_TOKENS + 1 : n_keys;
        cost->read += (n_keys - n_rows) / PAGE_TOKENS * page_bytes;
        cost->float_ops +=
            2 * args->n_heads * (n_keys - n_rows) * (double)(shape->k_dim + shape->v_dim);
    }
    cost->read += n_rows * shape->n_kv_heads * width * bytes;
    cost->float_ops += args->n_heads * n_keys * (2.0 * (shape->k_dim + shape->v_dim) + 4);
    cost->float_ops += args->n_heads * n_pages * shape->v_dim;
}

static void cut_sequence(struct cut_rows *rows, const struct attend_args *args,
                         const struct form *form, uint32_t begin, uint32_t end)
{
    for (uint32_t r = begin, n; r < end; r += n) {
        n = end - r < form->rows_max[ATTEND_MANY] ? end - r : form->rows_max[ATTEND_MANY];
        uint32_t left = PAGE_TOKENS - args->rows.position[r] % PAGE_TOKENS;
        n = kv_group_packs(&args->group) && left < n ? left : n;
        struct attend_block block = {.n_rows = n};
        block.first_position = first_visible(&args->group, args->rows.position[r]);
        block.last_position = args->rows.position[r] + n - 1;
        block.attend_class = n <= form->rows_max[ATTEND_FEW] ? ATTEND_FEW : ATTEND_MANY;
        if (form->is_tiled)
            count_tiled(&rows->cost, &args->group, &block);
        else
            count_plain(&rows->cost, args, &block);
        uint32_t first = block.first_position, last = block.last_position;
        double n_spans = n_parts(first, last, SPAN_TOKENS);
        double *wanted = rows->n_wanted[block.attend_class];
        wanted[ATTEND_BY_SPAN] += n * n_spans;
        wanted[ATTEND_BY_GROUP] += n * n_parts(first, last, ATTEND_GROUP_SPANS * SPAN_TOKENS);
        wanted[ATTEND_WHOLE] += n;
        rows->n_spans += n * n_spans;
    }
}

/* As many as the finest cuts give that fit. */
static double n_states(const struct cut_rows *rows, const struct attend_args *args)
{
    double spans = n_parts(0, args->rows.max_position, SPAN_TOKENS);
    spans = spans < ATTEND_STATES_MIN ? ATTEND_STATES_MIN : spans;
    double most = args->q.max_rows + (spans < ATTEND_STATES_MAX ? spans : ATTEND_STATES_MAX);
    int few = ATTEND_BY_SPAN, many = ATTEND_BY_SPAN;
    while (rows->n_wanted[ATTEND_FEW][few] + rows->n_wanted[ATTEND_MANY][many] > most &&
           (few != ATTEND_WHOLE || many != ATTEND_WHOLE)) {
        if (many != ATTEND_WHOLE)
            many++;
        else
            few++;
    }
    return rows->n_wanted[ATTEND_FEW][few] + rows->n_wanted[ATTEND_MANY][many];
}

struct op_cost cuda_cost_attend(const struct attend_args *args)
{
    const struct kv_shape *shape = &args->group.shape;
    uint32_t group_heads = args->n_heads / shape->n_kv_heads;
    bool is_tiled = attend_is_tiled(&args->group, group_heads);
    uint32_t many_rows = ATTEND_MANY_ROWS(kv_group_packs(&args->group), shape->k_dim);
    struct form form = {is_tiled,
                        {is_tiled ? ATTEND_TILE_ROWS / group_heads : 1,
                         is_tiled ? many_rows / group_heads : 1}};
    struct cut_rows rows = {.n_spans = 0};
    for (uint32_t s = 0; s < args->rows.n_seqs; s++)
        cut_sequence(&rows, args, &form, args->rows.seq_begin[s], args->rows.seq_begin[s + 1]);

    struct op_cost cost = rows.cost;
    double n = args->rows.n_rows, heads = args->n_heads, v_dim = shape->v_dim;
    double states = n_states(&rows, args), state_bytes = heads * (v_dim + 2) * 4;
    cost.read += n * cuda_cost_panel_row(&args->q) + states * state_bytes;
    cost.written += n * cuda_cost_panel_row(&args->out) + states * state_bytes;
    cost.float_ops += OPS_FOLD * (rows.n_spans + states) * heads * v_dim; /* walking, merging */
    cost.float_ops += n * heads * v_dim;                                  /* o / l */
    if (args->group.dtype_open != KV_F16) { /* rows wait as floats for their greatest */
        cost.read += n * heads * v_dim * 4;
        cost.written += n * heads * v_dim * 4;
    }
    return cost;
}
