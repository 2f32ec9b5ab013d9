#include "kernels/cpu/cpu_cost.h"

#include "kernels/cpu/cpu_attend_plan.h"
#include "kernels/cpu/cpu_moe_plan.h"
#include "kernels/cpu/cpu_page.h"
#include "kernels/cpu/cpu_panel_forms.h"
#include "kernels/cpu/cpu_product.h"
#include "kernels/cpu/cpu_walk.h"

/* operations of one value, as the scalar forms have them */
#define OPS_EXP2 15     /* two clamps, rounding, difference, five fma, exponent */
#define OPS_SILU (OPS_EXP2 + 4)
#define OPS_QUANTIZE 4  /* magnitude's maximum, product, rounding, sum */
#define OPS_SINCOS 46   /* reduction 7, two polynomials of 8 and 9 fma, quadrant 5; of one angle */
#define OPS_HEAD_NORM 4 /* fma, and two products: with scale and weight, or scale and factor */
#define OPS_SCALE 3     /* of a block: product of the scales, fma */
#define OPS_MINIMUM 2   /* of a block: fma */
#define OPS_SCALED 3    /* of a value of q or p: times its step, and the least one's fma */

static double n_blocks_of(uint32_t width)
{
    return (double)((width + BLOCK_VALUES - 1) / BLOCK_VALUES);
}

static bool keeps_blocks(uint32_t forms, enum activations activations)
{
    return (forms & ACT_BLOCKS) != 0 && activations != ACTIVATIONS_F32;
}

/* --- activations --- */

/* Bytes of a row of a panel in these forms. */
static double row_bytes(uint32_t width, uint32_t forms, enum activations activations)
{
    double bytes = 0;
    if (keeps_blocks(forms, activations))
        bytes += n_blocks_of(width) * (double)cpu_panel_row_bytes(activations);
    if ((forms & (ACT_FLOATS | ACT_QUERY)) != 0)
        bytes += 4.0 * width;
    return bytes;
}

static void count_panel(struct op_cost *cost, const struct act *act, enum activations activations,
                        double n_rows)
{
    cost->written += n_rows * row_bytes(act->width, act->forms, activations);
    if (keeps_blocks(act->forms, activations))
        cost->float_ops += n_rows * OPS_QUANTIZE * act->width;
}

struct op_cost cpu_cost_norm(const struct norm_args *args, enum activations activations)
{
    double n = args->n_rows, width = args->width;
    struct op_cost cost = {.read = 4 * width * (n + 1), .float_ops = 4 * width * n};
    count_panel(&cost, &args->out, activations, n);
    return cost;
}

struct op_cost cpu_cost_quantize(const struct quantize_args *args, enum activations activations)
{
    struct op_cost cost = {.read = 4.0 * args->n_rows * args->out.width};
    count_panel(&cost, &args->out, activations, args->n_rows);
    return cost;
}

/* --- weights --- */

/* Of one value: d * w + m. */
static double ops_of_reading(uint32_t type)
{
    if (tensor_type_is_float(type))
        return 0;
    return tensor_block_has_minimum(type) ? 2 : 1;
}

/* The float steps of a block. */
static double ops_of_scales(uint32_t type)
{
    switch (cpu_form_of(type)) {
    case FORM_ONE_MINIMUM:
        return OPS_SCALE + OPS_MINIMUM;
    case FORM_ONE_TWO_MINIMA:
        return OPS_SCALE + 2 * (OPS_MINIMUM + 1); /* da times each half's sum */
    default:
        return OPS_SCALE;
    }
}

/* A row is a sixteenth of a tile. */
struct op_cost cpu_cost_embed(const struct embed_args *args)
{
    const struct weight *table = args->table;
    const struct cpu_segment *segment = &table->segments[0];
    double n_values = (double)args->n_rows * table->n_in;
    return (struct op_cost){.read = (double)args->n_rows * (double)segment->tile_bytes / TILE_ROWS,
                            .written = 4 * n_values,
                            .float_ops = ops_of_reading(segment->type) * n_values};
}

/* Weights once a walk, panels once. All columns of a tile are multiplied, even those beyond
 * n_out. */
static struct op_cost cost_of_products(const struct weight *weight, uint32_t n_rows,
                                       uint32_t n_walks, enum activations activations)
{
    struct op_cost cost = {.read = 0};
    double planes = activations == ACTIVATIONS_16 ? 2 : 1;
    uint32_t forms = 0;

    for (uint32_t i = 0; i < weight->n_segments; i++) {
        const struct cpu_segment *segment = &weight->segments[i];
        bool floats = cpu_tile_wants_floats(segment->type, activations);
        double n_chains = (double)n_rows * segment->n_tiles * TILE_ROWS;
        double n_blocks = n_blocks_of(weight->n_in);
        if (floats)
            cost.float_ops += 2 * n_chains * weight->n_in;
        else
            cost.int8_ops += 2 * planes * n_chains * n_blocks * BLOCK_VALUES;
        if (!floats)
            cost.float_ops += n_chains * n_blocks * ops_of_scales(segment->type);
        forms |= floats ? ACT_FLOATS : ACT_BLOCKS;
    }
    cost.read = (double)weight->bytes * n_walks +
                n_rows * row_bytes(weight->n_in, forms, activations);
    return cost;
}

static uint32_t n_walks_of(const struct act *in, uint32_t n_rows, enum activations activations)
{
    struct cpu_input input = {.act = in, .n_rows = n_rows, .activations = activations};
    return cpu_walk_n_walks(&input);
}

struct op_cost cpu_cost_linear(const struct linear_args *args, enum activations activations)
{
    struct op_cost cost = cost_of_products(
        args->weight, args->n_rows, n_walks_of(&args->in, args->n_rows, activations), activations);
    double n_outputs = (double)args->n_rows * args->weight->n_out;
    bool adds = args->mode == LINEAR_ADD;
    cost.read += adds ? 4 * n_outputs : 0;
    cost.read += args->bias != NULL ? 4.0 * args->weight->n_out : 0;
    cost.written += 4 * n_outputs;
    cost.float_ops += n_outputs * ((adds ? 1 : 0) + (args->bias != NULL ? 1 : 0));
    return cost;
}

/* Each head's matrix passes as often as its own part of the rows asks for. */
struct op_cost cpu_cost_linear_heads(const struct linear_heads_args *args,
                                     enum activations activations)
{
    struct weight head = cpu_weight_expert(args->weight, 0);
    struct act in = {.width = head.n_in, .forms = args->in.forms};
    struct op_cost one = cost_of_products(&head, args->n_rows,
                                          n_walks_of(&in, args->n_rows, activations), activations);
    double n_heads = args->weight->n_experts, n_tails = (double)args->n_rows * args->n_tail;
    return (struct op_cost){
        .read = n_heads * (one.read + 4 * n_tails),
        .written = n_heads * 4 * ((double)args->n_rows * head.n_out + n_tails),
        .int8_ops = n_heads * one.int8_ops,
        .float_ops = n_heads * one.float_ops,
    };
}

struct op_cost cpu_cost_linear_glu(const struct linear_glu_args *args, enum activations activations)
{
    struct op_cost cost = cost_of_products(
        args->weight, args->n_rows, n_walks_of(&args->in, args->n_rows, activations), activations);
    double n_outputs = (double)args->n_rows * args->weight->n_out;
    uint32_t n_biases = (args->gate_bias != NULL ? 1 : 0) + (args->up_bias != NULL ? 1 : 0);
    cost.read += 4.0 * n_biases * args->weight->n_out;
    cost.float_ops += n_outputs * (OPS_SILU + 1 + n_biases);
    count_panel(&cost, &args->out, activations, args->n_rows);
    return cost;
}

/* --- experts --- */

struct op_cost cpu_cost_route(const struct route_args *args)
{
    const struct route_rule *rule = &args->rule;
    double n = args->n_rows, n_values = n * rule->n_experts;
    return (struct op_cost){
        .read = 4 * n_values + (args->bias != NULL ? 4.0 * rule->n_experts : 0),
        .written = n * rule->n_used * 8,
        /* each slot looks at all that are left */
        .float_ops = n_values * (OPS_EXP2 + 4 + rule->n_used),
    };
}

/* Gate, up and down of one expert for its rows. */
static void count_expert(struct op_cost *cost, const struct moe_args *args, uint32_t n_rows,
                         enum activations activations)
{
    uint32_t most = cpu_moe_item_groups(args, activations);
    uint32_t n_walks = (cpu_walk_n_groups(n_rows) + most - 1) / most;
    struct weight gate_up = cpu_weight_expert(args->gate_up, 0);
    struct weight down = cpu_weight_expert(args->down, 0);
    struct op_cost glu = cost_of_products(&gate_up, n_rows, n_walks, activations);
    struct op_cost last = cost_of_products(&down, n_rows, n_walks, activations);
    struct act gated = {.width = down.n_in, .forms = down.act_forms};
    double n_gated = (double)n_rows * down.n_in;
    glu.float_ops += n_gated * (OPS_SILU + 1 + (args->scales_input ? 2 : 0));
    count_panel(&glu, &gated, activations, n_rows);
    last.written += 4.0 * n_rows * down.n_out;
    op_cost_add(cost, &glu);
    op_cost_add(cost, &last);
}

struct op_cost cpu_cost_moe(const struct moe_args *args, enum activations activations)
{
    double n_pairs = (double)args->n_rows * args->n_used, width = args->down->n_out;
    bool adds = args->mode == LINEAR_ADD;
    double panel = row_bytes(args->gate_up->n_in, args->gate_up->act_forms, activations);
    struct op_cost cost = {.read = n_pairs * (panel + 8), .written = n_pairs * panel};

    uint32_t counts[MODEL_EXPERTS_MAX] = {0};
    for (size_t pair = 0; pair < (size_t)args->n_rows * args->n_used; pair++)
        counts[args->experts[pair]]++;
    for (uint32_t e = 0; e < args->gate_up->n_experts; e++)
        if (counts[e] > 0)
            count_expert(&cost, args, counts[e], activations);
    cost.read += 4 * width * (n_pairs + (adds ? args->n_rows : 0));
    cost.written += 4 * width * args->n_rows;
    cost.float_ops += width * (2 * n_pairs + (adds ? args->n_rows : 0));
    return cost;
}

/* --- pages --- */

struct op_cost cpu_cost_rope_append(const struct rope_append_args *args)
{
    const struct kv_shape *shape = &args->group.shape;
    double n = args->rows.n_rows, n_pairs = args->style == ROPE_NONE ? 0 : args->n_rot / 2;
    double n_kv_heads = args->no_append ? 0 : shape->n_kv_heads;
    double q = (double)args->n_heads * shape->k_dim, k = n_kv_heads * shape->k_dim;
    double v = shape->v_in_k ? 0 : n_kv_heads * shape->v_dim;
    double n_heads = args->n_heads + n_kv_heads;
    double normed = 0, weights = 0; /* values of a row, of all */
    if (args->qk_norm == QK_NORM_LATENT) {
        weights = shape->v_dim;
        normed = n_kv_heads * shape->v_dim;
    } else if (args->qk_norm != QK_NORM_NONE) {
        weights = args->qk_norm == QK_NORM_BEFORE ? 2.0 * shape->k_dim : 0;
        normed = q + k;
    }
    return (struct op_cost){
        .read = n * 4 * (q + k + v) + 8 * n_pairs + 4 * weights,
        .written = n * (4 * q + (k + v) * (double)kv_dtype_bytes(args->group.dtype_open)),
        /* a rotation is four products and two sums; queries and keys are scaled */
        .float_ops = n * (n_pairs * (OPS_SINCOS + 6 * n_heads) + q + k + OPS_HEAD_NORM * normed),
    };
}

static size_t page_bytes(const struct kv_shape *shape, enum kv_dtype dtype)
{
    return shape->n_kv_heads * cpu_page_head(shape, dtype).bytes;
}

struct op_cost cpu_cost_page_seal(const struct page_seal_args *args)
{
    const struct kv_group_view *group = &args->group;
    return op_cost_seal(&args->rows, group, page_bytes(&group->shape, group->dtype_open),
                        page_bytes(&group->shape, group->dtype_full));
}

/* The rows from `first` on that are one block of attend_plan. */
static uint32_t rows_of_block(const struct rows_view *rows, uint32_t first, uint32_t most)
{
    uint32_t n = 1, page = rows->position[first] / PAGE_TOKENS;
    while (first + n < rows->n_rows && n < most &&
           rows->row_seq[first + n] == rows->row_seq[first] &&
           rows->position[first + n] / PAGE_TOKENS == page)
        n++;
    return n;
}

/* What packed pages ask for beside the loops over their codes: of each row, or of latent ones,
 * which each vhead widens, of each page. */
static double ops_of_packed(const struct attend_args *args, uint32_t n_vheads, double n_rows,
                            double n_pages)
{
    const struct kv_shape *shape = &args->group.shape;
    if (shape->v_in_k)
        return n_vheads * n_pages * 2 * PAGE_TOKENS * shape->k_dim;
    return n_rows * args->n_heads * n_pages * OPS_SCALED * (shape->k_dim + PAGE_TOKENS);
}

/* A block reads each page between the first position that one of its rows sees and its own, once
 * a vhead, its own as it was written; scores and values count where they are visible. */
struct op_cost cpu_cost_attend(const struct attend_args *args, enum activations activations)
{
    const struct rows_view *rows = &args->rows;
    const struct kv_group_view *group = &args->group;
    const struct kv_shape *shape = &group->shape;
    struct attend_layout layout = attend_layout(1, args->n_heads, shape);
    double open_bytes = (double)cpu_page_head(shape, group->dtype_open).bytes;
    double full_bytes = (double)cpu_page_head(shape, group->dtype_full).bytes;
    double of_key = 2.0 * (shape->k_dim + shape->v_dim) + OPS_EXP2 + 3;
    double of_page = shape->v_dim + OPS_EXP2 + 2.0 * ATTEND_LANES;
    struct op_cost cost = {.read = 4.0 * rows->n_rows * args->n_heads * shape->k_dim,
                           .float_ops = (double)rows->n_rows * args->n_heads * shape->v_dim};

    for (uint32_t r = 0, n; r < rows->n_rows; r += n) {
        n = rows_of_block(rows, r, layout.block_rows);
        uint32_t first = attend_first_visible(group, rows->position[r]);
        uint32_t last = rows->position[r + n - 1];
        double n_pages = last / PAGE_TOKENS - first / PAGE_TOKENS + 1;
        cost.read += ((n_pages - 1) * full_bytes + open_bytes) * layout.n_vheads;
        if (kv_group_packs(group))
            cost.float_ops += ops_of_packed(args, layout.n_vheads, n, n_pages - 1);
        for (uint32_t i = r; i < r + n; i++) {
            uint32_t begin = attend_first_visible(group, rows->position[i]);
            double n_keys = rows->position[i] - begin + 1;
            cost.float_ops += args->n_heads * (n_keys * of_key + n_pages * of_page);
        }
    }
    count_panel(&cost, &args->out, activations, rows->n_rows);
    return cost;
}

/* --- rows --- */

struct op_cost cpu_cost_gather(const struct gather_args *args)
{
    double bytes = 4.0 * args->n * args->width;
    return (struct op_cost){.read = bytes, .written = bytes};
}

struct op_cost cpu_cost_greedy(const struct sample_args *args)
{
    double n = (double)args->n_rows * args->vocabulary;
    return (struct op_cost){.read = 4 * n,
                            .written = (double)sizeof(struct sample_result) * args->n_rows,
                            .float_ops = 2 * n}; /* is it a NaN; is it larger */
}
