#include "kernels/cuda/cuda_cost.h"

#include "kernels/cuda/cuda_moe.h"
#include "kernels/cuda/cuda_page.h"

/* operations of one value, as the kernels have them */
#define OPS_EXP2 15   /* two clamps, rounding, difference, five fma, exponent */
#define OPS_SILU (OPS_EXP2 + 4)
#define OPS_TO_HALF 2 /* product with the row's scale, rounding */
/* of a pair: reduction 7, two polynomials of 8 and 9 fma, quadrant 5, scale 2 */
#define OPS_TURN 48
#define OPS_ROTATE 3  /* a product, a fused sum */
#define OPS_KEY 3     /* sum with zero, is it a NaN, its sign */
#define OPS_PUT_F16 5 /* beyond either end, brought within, rounding */

/* of blocks of rows and tiles (cuda_linear.cu, cuda_glu.cu, cuda_prefill.cuh) */
#define ONE_TILE_ROWS 8
#define FEW_ROWS 32
#define MANY_ROWS 64
#define MANY_TILES 8
#define MANY_SPLIT 2   /* a block of many rows makes operands of a tile for each half of its rows */
#define MMA_OPS 4096.0 /* 16 outputs x 8 rows x 16 inputs, products and sums */
#define SECTOR_BYTES 32 /* least that comes from memory */

static double round_up(double n, uint32_t unit)
{
    return (double)((uint64_t)((n + unit - 1) / unit) * unit);
}

double cuda_cost_panel_row(const struct act *act)
{
    double bytes = 0;
    if ((act->forms & (ACT_BLOCKS | ACT_QUERY)) != 0)
        bytes += 2 * round_up(act->width, CUDA_ACT_STRIDE_UNIT) + 4;
    if ((act->forms & ACT_FLOATS) != 0)
        bytes += 4.0 * act->width;
    return bytes;
}

static bool has_halves(const struct act *act)
{
    return (act->forms & (ACT_BLOCKS | ACT_QUERY)) != 0;
}

/* The greatest of a row is sought before values are made again as halves. */
struct op_cost cuda_cost_norm(const struct norm_args *args)
{
    double n = args->n_rows, width = args->width;
    double of_value = 2 + 3 + (has_halves(&args->out) ? 2 + OPS_TO_HALF : 0);
    return (struct op_cost){.read = 4 * width * (n + 1),
                            .written = n * cuda_cost_panel_row(&args->out),
                            .float_ops = of_value * width * n};
}

/* As norm, but for the sum of squares and the products. */
struct op_cost cuda_cost_quantize(const struct quantize_args *args)
{
    double n = args->n_rows, width = args->out.width;
    return (struct op_cost){
        .read = 4 * width * n,
        .written = n * cuda_cost_panel_row(&args->out),
        .float_ops = (1 + (has_halves(&args->out) ? OPS_TO_HALF : 0)) * width * n,
    };
}

/* --- weights --- */

/* A row's codes stand in a tile beside those of the row 8 below, and its scales among others'. */
struct op_cost cuda_cost_embed(const struct embed_args *args)
{
    const struct weight *table = args->table;
    uint32_t type = table->segments[0].type;
    bool is_float = tensor_type_is_float(type);
    double n = args->n_rows, n_values = n * table->n_in;
    double of_tile = 2.0 * cuda_tile_bytes(type) / CUDA_TILE_OUTPUTS;
    of_tile += cuda_tile_scale_bytes(type) > 0 ? SECTOR_BYTES : 0;
    return (struct op_cost){.read = n * table->n_in_tiles * of_tile,
                            .written = 4 * n_values,
                            .float_ops = is_float ? 0 : 2 * n_values};
}

/* How a launch goes over a matrix. */
struct walk {
    double n_walks;
    double n_rows;      /* multiplied: whole tiles of rows */
    uint32_t tile_unit; /* outputs are multiplied in so many tiles at once */
    bool is_many;
};

static struct walk walk_of(uint32_t n_rows, bool is_few, uint32_t tile_unit)
{
    if (n_rows <= ONE_TILE_ROWS)
        return (struct walk){1, ONE_TILE_ROWS, 1, false};
    uint32_t unit = n_rows <= FEW_ROWS || is_few ? FEW_ROWS : MANY_ROWS;
    double rows = round_up(n_rows, unit);
    return (struct walk){rows / unit, rows, unit == FEW_ROWS ? 1 : tile_unit, unit == MANY_ROWS};
}

static void count_segment(struct op_cost *cost, const struct weight *weight,
                          const struct cuda_segment *segment, const struct walk *walk)
{
    uint32_t type = segment->type;
    double n_tiles = round_up(segment->n_tiles, walk->tile_unit), k_tiles = weight->n_in_tiles;
    double chains = n_tiles * CUDA_TILE_OUTPUTS * walk->n_rows;
    double tile_bytes = cuda_tile_bytes(type) + cuda_tile_scale_bytes(type);
    cost->read += walk->n_walks * segment->n_tiles * k_tiles * tile_bytes;
    if (type == TENSOR_F32) {
        cost->float_ops += 2 * chains * weight->n_in;
        return;
    }
    double n_sums = type == CUDA_PLANE_HALVES || type == CUDA_PLANE_SIXTEENS ? 2 : 1;
    double mma = n_tiles * k_tiles * CUDA_TILE_STEPS * walk->n_rows / 8;
    cost->half_ops += MMA_OPS * (type == TENSOR_BF16 ? 2 * mma : mma); /* leading bits, the rest */
    if (type == TENSOR_F16 || type == TENSOR_BF16)
        return;
    double codes = n_tiles * k_tiles * CUDA_TILE_OUTPUTS * CUDA_TILE_INPUTS;
    double n_groups = n_sums * k_tiles * CUDA_TILE_INPUTS / CUDA_GROUP_INPUTS;
    cost->float_ops += walk->n_walks * codes * (walk->is_many ? MANY_SPLIT : 1);
    cost->float_ops += 2 * chains * n_groups;
    if (type != TENSOR_Q4_1 && type != CUDA_PLANE_NIBBLES && type != CUDA_PLANE_HALVES)
        return;
    /* the sums of x, once for each warp's tile, or for its two tiles; and the minimum */
    cost->half_ops += MMA_OPS * (walk->is_many ? mma / 2 : mma);
    cost->float_ops += 2 * chains * n_groups;
}

/* Weights once a walk, the panel once; then the parts of each chain are added up and scaled. */
static struct op_cost cost_of_products(const struct weight *weight, uint32_t n_rows,
                                       const struct walk *walk)
{
    struct op_cost cost = {.read = 0};
    struct act in = {.width = weight->n_in, .forms = weight->act_forms};
    cost.read = n_rows * cuda_cost_panel_row(&in);
    for (uint32_t i = 0; i < weight->n_segments; i++) {
        const struct cuda_segment *segment = &weight->segments[i];
        count_segment(&cost, weight, segment, walk);
        cost.float_ops += (CUDA_PARTS + 1.0) * n_rows * segment->n_out;
    }
    return cost;
}

struct op_cost cuda_cost_linear(const struct linear_args *args)
{
    const struct weight *weight = args->weight;
    bool is_few = (weight->act_forms & ACT_FLOATS) != 0;
    struct walk walk = walk_of(args->n_rows, is_few, MANY_TILES);
    struct op_cost cost = cost_of_products(weight, args->n_rows, &walk);
    double n_outputs = (double)args->n_rows * weight->n_out;
    bool adds = args->mode == LINEAR_ADD;
    cost.read += adds ? 4 * n_outputs : 0;
    cost.read += args->bias != NULL ? 4.0 * weight->n_out : 0;
    cost.written += 4 * n_outputs;
    cost.float_ops += n_outputs * ((adds ? 1 : 0) + (args->bias != NULL ? 1 : 0));
    return cost;
}

/* Each head's matrix with its own part of the rows. */
struct op_cost cuda_cost_linear_heads(const struct linear_heads_args *args)
{
    const struct weight *weight = args->weight;
    bool is_few = (weight->act_forms & ACT_FLOATS) != 0;
    struct walk walk = walk_of(args->n_rows, is_few, MANY_TILES);
    struct op_cost one = cost_of_products(weight, args->n_rows, &walk);
    double n_heads = weight->n_experts, n_tails = (double)args->n_rows * args->n_tail;
    return (struct op_cost){
        .read = n_heads * (one.read + 4 * n_tails),
        .written = n_heads * 4 * ((double)args->n_rows * weight->n_out + n_tails),
        .half_ops = n_heads * one.half_ops,
        .float_ops = n_heads * one.float_ops,
    };
}

struct op_cost cuda_cost_linear_glu(const struct linear_glu_args *args)
{
    const struct weight *weight = args->weight;
    uint32_t type = weight->segments[0].type;
    bool is_few = type != weight->segments[1].type || type == TENSOR_F32;
    struct walk walk = walk_of(args->n_rows, is_few, MANY_TILES / 2);
    struct op_cost cost = cost_of_products(weight, args->n_rows, &walk);
    double n_outputs = (double)args->n_rows * weight->n_out;
    uint32_t n_biases = (args->gate_bias != NULL ? 1 : 0) + (args->up_bias != NULL ? 1 : 0);
    cost.read += 4.0 * n_biases * weight->n_out;
    cost.written += args->n_rows * cuda_cost_panel_row(&args->out);
    cost.float_ops +=
        n_outputs * (OPS_SILU + 1 + n_biases + (has_halves(&args->out) ? OPS_TO_HALF : 0));
    return cost;
}

/* --- experts --- */

struct op_cost cuda_cost_route(const struct route_args *args)
{
    const struct route_rule *rule = &args->rule;
    double n = args->n_rows, n_values = n * rule->n_experts;
    return (struct op_cost){
        .read = 4 * n_values + (args->bias != NULL ? 4.0 * rule->n_experts : 0),
        .written = n * rule->n_used * 8,
        /* each slot looks at all that are left */
        .float_ops = n_values * (OPS_EXP2 + 4 + OPS_KEY + rule->n_used),
    };
}

/* Gate, up and down of one expert for its rows, in whole tiles of them. */
static void count_expert(struct op_cost *cost, const struct moe_args *args, uint32_t n_rows)
{
    uint32_t tile_rows = moe_tile_rows(args->n_rows);
    double n_tiles = (n_rows + tile_rows - 1) / tile_rows;
    struct walk walk = {n_tiles, n_tiles * tile_rows, 1, false};
    struct op_cost glu = cost_of_products(args->gate_up, n_rows, &walk);
    struct op_cost down = cost_of_products(args->down, n_rows, &walk);
    struct act gated = {.width = args->down->n_in, .forms = args->down->act_forms};
    double n_gated = (double)n_rows * gated.width;
    glu.written += n_rows * cuda_cost_panel_row(&gated);
    glu.float_ops += n_gated * (OPS_SILU + 1 + (args->scales_input ? 2 : 0) +
                                (has_halves(&gated) ? OPS_TO_HALF : 0));
    down.written += 4.0 * n_rows * args->down->n_out;
    op_cost_add(cost, &glu);
    op_cost_add(cost, &down);
}

/* Pairs are read twice to sort them; rows are copied together, and summed by slot at the end. */
struct op_cost cuda_cost_moe(const struct moe_args *args)
{
    double n_pairs = (double)args->n_rows * args->n_used, width = args->down->n_out;
    bool adds = args->mode == LINEAR_ADD;
    struct act in = {.width = args->gate_up->n_in, .forms = args->gate_up->act_forms};
    double panel = cuda_cost_panel_row(&in);
    struct op_cost cost = {.read = n_pairs * (8 + panel + 4), .written = n_pairs * (4 + panel)};

    uint32_t counts[MODEL_EXPERTS_MAX] = {0};
    for (size_t pair = 0; pair < (size_t)args->n_rows * args->n_used; pair++)
        counts[args->experts[pair]]++;
    for (uint32_t e = 0; e < args->gate_up->n_experts; e++)
        if (counts[e] > 0)
            count_expert(&cost, args, counts[e]);
    cost.read += 4 * width * (n_pairs + (adds ? args->n_rows : 0));
    cost.written += 4 * width * args->n_rows;
    cost.float_ops += width * (2 * n_pairs + (adds ? args->n_rows : 0));
    return cost;
}

/* --- pages --- */

/* Queries are turned twice: for the row's greatest, and as halves. */
struct op_cost cuda_cost_rope_append(const struct rope_append_args *args)
{
    const struct kv_shape *shape = &args->group.shape;
    double n = args->rows.n_rows, n_rot = args->style == ROPE_NONE ? 0 : args->n_rot;
    double n_kv_heads = args->no_append ? 0 : shape->n_kv_heads;
    double q = (double)args->n_heads * shape->k_dim, k = n_kv_heads * shape->k_dim;
    double v = shape->v_in_k ? 0 : n_kv_heads * shape->v_dim;
    double q_turned = args->n_heads * n_rot, k_turned = n_kv_heads * n_rot;
    double put = args->group.dtype_open == KV_F16 ? OPS_PUT_F16 : 0;
    struct op_cost cost = {
        .read = n * 4 * (q + k + v) + 8 * n_rot / 2,
        .written = n * ((args->n_heads > 0 ? cuda_cost_panel_row(&args->q) : 0) +
                        (k + v) * (double)kv_dtype_bytes(args->group.dtype_open)),
        .float_ops = n_rot / 2 * OPS_TURN,
    };
    if (args->qk_norm == QK_NORM_BEFORE) { /* a pair is normed for each of its two values */
        cost.read += 2 * 4.0 * shape->k_dim;
        cost.float_ops += 2 * (q + k) + 2 * (2 * (q + q_turned) + k + k_turned);
    } else if (args->qk_norm == QK_NORM_AFTER) { /* rotated for the sum, too */
        cost.float_ops += (q_turned + k_turned) * OPS_ROTATE + 2 * (q + k) + 2 * q + k;
    } else if (args->qk_norm == QK_NORM_LATENT) {
        cost.read += 4.0 * shape->v_dim;
        cost.float_ops += 2 * 2 * n_kv_heads * shape->v_dim;
    }
    cost.float_ops += 2 * q_turned * OPS_ROTATE + q * (2 + 1 + OPS_TO_HALF);
    cost.float_ops += k_turned * OPS_ROTATE + (k + v) * put;
    cost.float_ops *= n;
    return cost;
}

struct op_cost cuda_cost_page_seal(const struct page_seal_args *args)
{
    const struct kv_group_view *group = &args->group;
    return op_cost_seal(&args->rows, group, cuda_page_bytes(&group->shape, group->dtype_open),
                        cuda_page_bytes(&group->shape, group->dtype_full));
}

struct op_cost cuda_cost_page_zero(const struct page_zero_args *args)
{
    return (struct op_cost){.written = (double)args->n * (double)args->page_stride};
}

struct op_cost cuda_cost_page_copy(const struct page_copy_args *args)
{
    double bytes = (double)args->n * (double)args->page_stride;
    return (struct op_cost){.read = bytes, .written = bytes};
}

/* --- rows --- */

struct op_cost cuda_cost_gather(const struct gather_args *args)
{
    double bytes = 4.0 * args->n * args->width;
    return (struct op_cost){.read = bytes, .written = bytes};
}

/* Logits go to the workspace as they are; keys of both are compared. */
struct op_cost cuda_cost_greedy(const struct sample_args *args)
{
    double n = (double)args->n_rows * args->vocabulary;
    return (struct op_cost){.read = 4 * n,
                            .written =
                                4 * n + (double)sizeof(struct sample_result) * args->n_rows,
                            .float_ops = 2 * (OPS_KEY + 1) * n};
}
