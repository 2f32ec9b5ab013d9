/* Costs against sums done by hand. */
#include "kernels/cpu/cpu_cost.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/status.h"
#include "kernels/cpu/cpu_weight.h"
#include "kernels/tensor_type.h"

static struct weight weight_of(uint32_t type, uint32_t n_in, uint32_t n_out)
{
    struct weight_source source = {.type = type, .n_in = n_in, .n_out = n_out, .name = "w"};
    struct weight weight;
    assert_int_equal(cpu_weight_plan(WEIGHT_PLAIN, &source, 1, ACTIVATIONS_16, &weight, NULL),
                     STATUS_OK);
    return weight;
}

static void assert_cost(struct op_cost cost, double read, double written, double int8_ops,
                        double float_ops)
{
    assert_true(cost.read == read);
    assert_true(cost.written == written);
    assert_true(cost.int8_ops == int8_ops);
    assert_true(cost.float_ops == float_ops);
}

static void test_cpu_cost__a_linear_reads_whole_tiles_and_multiplies_two_planes(void **state)
{
    struct weight weight = weight_of(TENSOR_Q4_1, 64, 20); /* two tiles of two blocks */
    float bias;
    struct linear_args args = {.weight = &weight,
                               .in = {NULL, 4, 64, ACT_BLOCKS},
                               .n_rows = 3,
                               .mode = LINEAR_ADD,
                               .bias = &bias};
    double chains = 3 * 32;
    assert_cost(cpu_cost_linear(&args, ACTIVATIONS_16),
                2 * 2 * 320 + 3 * 2 * 80 + 4 * 3 * 20 + 4 * 20, 4 * 3 * 20, 2 * 2 * chains * 64,
                chains * 2 * 5 + 2 * 3 * 20);
}

static void test_cpu_cost__weights_of_floats_cost_an_fma_each(void **state)
{
    struct weight weight = weight_of(TENSOR_F16, 40, 16);
    struct linear_args args = {
        .weight = &weight, .in = {NULL, 1, 40, ACT_FLOATS}, .n_rows = 1, .mode = LINEAR_SET};
    assert_cost(cpu_cost_linear(&args, ACTIVATIONS_16), 40 * 16 * 2 + 40 * 4, 16 * 4, 0,
                2 * 40 * 16);
}

/* Three heads of one tile of two blocks; a panel of three times two blocks. */
static void test_cpu_cost__heads_read_their_own_part_of_the_rows(void **state)
{
    struct weight_source sources[3];
    struct weight weight;
    for (int h = 0; h < 3; h++)
        sources[h] =
            (struct weight_source){.type = TENSOR_Q4_1, .n_in = 64, .n_out = 16, .name = "w"};
    assert_int_equal(cpu_weight_plan(WEIGHT_HEADS, sources, 3, ACTIVATIONS_16, &weight, NULL),
                     STATUS_OK);
    struct act panel = {NULL, 5, 3 * 64, ACT_BLOCKS};
    struct linear_heads_args args = {
        .weight = &weight, .in = panel, .n_rows = 5, .n_tail = 4, .y_stride = 60};
    assert_cost(cpu_cost_linear_heads(&args, ACTIVATIONS_16),
                3 * (2 * 320 + 5 * 2 * 80 + 4 * 5 * 4), 3 * 4 * 5 * (16 + 4),
                2 * 2 * 3 * 5 * 16 * 64.0, 3 * 5 * 16 * 2 * 5);
    struct quantize_args quantize = {.n_heads = 3, .n = 64, .n_rows = 5, .out = panel};
    assert_cost(cpu_cost_quantize(&quantize, ACTIVATIONS_16), 4 * 5 * 192, 5 * 6 * 80, 0,
                4 * 5 * 192);
}

static void test_cpu_cost__a_looked_up_row_is_a_sixteenth_of_a_tile(void **state)
{
    struct weight table = weight_of(TENSOR_Q4_1, 64, 160);
    struct embed_args args = {.table = &table, .n_rows = 3};
    assert_cost(cpu_cost_embed(&args), 3 * 2 * 320 / 16, 3 * 64 * 4, 0, 3 * 64 * 2);
    table = weight_of(TENSOR_F32, 64, 160);
    assert_cost(cpu_cost_embed(&args), 3 * 64 * 4, 3 * 64 * 4, 0, 0);
}

static void test_cpu_cost__many_rows_let_the_weights_pass_again(void **state)
{
    struct weight weight = weight_of(TENSOR_Q4_1, 2048, 16);
    /* 7 groups of 12 rows of 64 blocks of 80 bytes stay in 448 KiB; 512 rows are 43 groups */
    struct linear_args args = {
        .weight = &weight, .in = {NULL, 512, 2048, ACT_BLOCKS}, .n_rows = 512, .mode = LINEAR_SET};
    struct op_cost cost = cpu_cost_linear(&args, ACTIVATIONS_16);
    assert_true(cost.read == 7.0 * weight.bytes + 512.0 * 64 * 80);
    args.n_rows = 12;
    cost = cpu_cost_linear(&args, ACTIVATIONS_16);
    assert_true(cost.read == 1.0 * weight.bytes + 12.0 * 64 * 80);
}

/* Three rows of two slots: expert 2 has three pairs, expert 0 two, expert 3 one, expert 1 none. */
static void test_cpu_cost__experts_are_read_once_each_and_only_those_chosen(void **state)
{
    struct weight_source up[8], out[4];
    for (int i = 0; i < 8; i++)
        up[i] = (struct weight_source){.type = TENSOR_Q4_1, .n_in = 64, .n_out = 32, .name = "up"};
    for (int i = 0; i < 4; i++)
        out[i] = (struct weight_source){.type = TENSOR_Q8_0, .n_in = 32, .n_out = 16, .name = "o"};
    struct weight gate_up, down;
    assert_int_equal(cpu_weight_plan(WEIGHT_EXPERTS_GATE_UP, up, 8, ACTIVATIONS_16, &gate_up, NULL),
                     STATUS_OK);
    assert_int_equal(cpu_weight_plan(WEIGHT_EXPERTS, out, 4, ACTIVATIONS_16, &down, NULL),
                     STATUS_OK);
    uint32_t experts[6] = {2, 0, 3, 2, 0, 2};
    struct moe_args args = {.gate_up = &gate_up,
                            .down = &down,
                            .in = {NULL, 4, 64, ACT_BLOCKS},
                            .experts = experts,
                            .n_rows = 3,
                            .n_used = 2,
                            .mode = LINEAR_ADD};
    double matrices = 4 * 2 * 320 + 1 * (64 + 512), in = 2 * 80, gated = 80;
    double up_chains = 6 * 2 * 32, down_chains = 6 * 16;
    struct op_cost cost = cpu_cost_moe(&args, ACTIVATIONS_16);
    /* brought, multiplied, multiplied again, summed into y */
    assert_true(cost.read == 6 * (in + 8) + 3 * matrices + 6 * (in + gated) + 4 * 16 * (6 + 3));
    assert_true(cost.written == 6 * in + 6 * gated + 4 * 16 * (6 + 3));
    assert_true(cost.int8_ops == 2 * 2 * (up_chains * 64 + down_chains * 32));
    assert_true(cost.float_ops == up_chains * 2 * 5 + down_chains * 3 + 6 * 32 * (20 + 4) +
                                      16 * (2 * 6 + 3));
    for (int i = 0; i < 6; i++)
        experts[i] = i % 2;
    assert_true(cpu_cost_moe(&args, ACTIVATIONS_16).read == cost.read - matrices);
}

/* Heads of 8 and 4 values, 6 of q on 2 of k and v, f16. */
static struct op_cost attend_cost(enum kv_kind kind, uint32_t window, uint32_t first,
                                  uint32_t n_rows)
{
    uint32_t position[64], row_seq[64] = {0}, seq_begin[] = {0, n_rows};
    for (uint32_t i = 0; i < n_rows; i++)
        position[i] = first + i;
    struct attend_args args = {
        .n_heads = 6,
        .rows = {n_rows, 1, position, row_seq, seq_begin, first + n_rows - 1},
        .group = {.kind = kind, .window = window, .shape = {2, 8, 4, false}},
        .out = {NULL, 64, 24, ACT_FLOATS},
    };
    return cpu_cost_attend(&args, ACTIVATIONS_16);
}

static double attend_read(uint32_t n_rows, uint32_t n_pages)
{
    return 4.0 * n_rows * 6 * 8 + n_pages * 2.0 * 64 * (8 + 4) * 2;
}

/* keys and pages: of all rows together */
static double attend_ops(uint32_t n_rows, uint32_t n_keys, uint32_t n_pages)
{
    return 6.0 * (n_keys * (2.0 * 12 + 15 + 3) + n_pages * (4 + 15 + 32)) + 6.0 * 4 * n_rows;
}

static void test_cpu_cost__attention_reads_whole_pages_and_counts_visible_keys(void **state)
{
    assert_cost(attend_cost(KV_FULL, 0, 63, 1), attend_read(1, 1), 4 * 24, 0,
                attend_ops(1, 64, 1));
    assert_cost(attend_cost(KV_FULL, 0, 64, 1), attend_read(1, 2), 4 * 24, 0,
                attend_ops(1, 65, 2));
    assert_cost(attend_cost(KV_SLIDING, 64, 128, 1), attend_read(1, 2), 4 * 24, 0,
                attend_ops(1, 64, 2));
    assert_cost(attend_cost(KV_CHUNKED, 128, 128, 1), attend_read(1, 1), 4 * 24, 0,
                attend_ops(1, 1, 1));
}

static void test_cpu_cost__rows_of_a_block_share_its_pages(void **state)
{
    /* 60..63 in page 0, 64..79 and 80..83 in page 1, for blocks of 16 rows */
    assert_cost(attend_cost(KV_FULL, 0, 60, 24), attend_read(24, 1 + 2 + 2), 24 * 4 * 24, 0,
                attend_ops(24, 24 * (61 + 84) / 2, 4 * 1 + 20 * 2));
}

/* Of earlier pages codes and scales, and as many products more; of the row's own its values. */
static void test_cpu_cost__packed_pages_cost_their_bytes_and_scales(void **state)
{
    uint32_t position = 130, row_seq = 0, seq_begin[] = {0, 1};
    struct attend_args args = {
        .n_heads = 6,
        .rows = {1, 1, &position, &row_seq, seq_begin, 130},
        .group = {.shape = {2, 64, 32, false}, .dtype_full = KV_F16},
        .out = {NULL, 64, 6 * 32, ACT_FLOATS},
    };
    struct op_cost plain = cpu_cost_attend(&args, ACTIVATIONS_16);
    args.group.dtype_full = KV_Q8;
    struct op_cost cost = cpu_cost_attend(&args, ACTIVATIONS_16);
    double values = 2 * 64 * (64 + 32), scales = 2 * 8 * (64 + 64);
    assert_true(plain.read - cost.read == 2 * (2 * values - values - scales));
    assert_true(cost.float_ops - plain.float_ops == 6 * 2 * 3 * (64 + 64));
    args.group.shape.v_in_k = true; /* widened for each part of a kv head's query heads */
    cost = cpu_cost_attend(&args, ACTIVATIONS_16);
    args.group.dtype_full = KV_F16;
    plain = cpu_cost_attend(&args, ACTIVATIONS_16);
    assert_true(cost.float_ops - plain.float_ops == 2 * 2 * 2 * 64 * 64);
}

static void test_cpu_cost__sealing_reads_rows_and_writes_codes_and_scales(void **state)
{
    uint32_t position[] = {62, 63, 64}, row_seq[3] = {0}, seq_begin[] = {0, 3};
    struct page_seal_args args = {
        .rows = {3, 1, position, row_seq, seq_begin, 64},
        .group = {.shape = {2, 64, 32, false}, .dtype_open = KV_F16, .dtype_full = KV_Q8}};
    double values = 2 * 64 * (64 + 32);
    assert_cost(cpu_cost_page_seal(&args), 2 * values, values + 2 * 8 * (64 + 64), 0, 7 * values);
}

static void test_cpu_cost__append_writes_halves_and_turns_pairs(void **state)
{
    struct rope_append_args args = {
        .n_heads = 6,
        .style = ROPE_NEOX,
        .n_rot = 4,
        .rows = {.n_rows = 3},
        .group = {.shape = {2, 8, 4, false}, .dtype_open = KV_F16},
    };
    assert_cost(cpu_cost_rope_append(&args), 3 * 4 * (48 + 16 + 8) + 8 * 2,
                3 * (4 * 48 + 2 * (16 + 8)), 0, 3 * (2 * (46 + 6 * 8) + 48 + 16));
    args.no_append = true;
    assert_cost(cpu_cost_rope_append(&args), 3 * 4 * 48 + 8 * 2, 3 * 4 * 48, 0,
                3 * (2 * (46 + 6 * 6) + 48));
    args.no_append = false;
    args.n_heads = 0;
    assert_cost(cpu_cost_rope_append(&args), 3 * 4 * (16 + 8) + 8 * 2, 3 * 2 * (16 + 8), 0,
                3 * (2 * (46 + 6 * 2) + 16));
    args.n_heads = 6;
    args.qk_norm = QK_NORM_BEFORE;
    assert_cost(cpu_cost_rope_append(&args), 3 * 4 * (48 + 16 + 8) + 8 * 2 + 2 * 4 * 8,
                3 * (4 * 48 + 2 * (16 + 8)), 0, 3 * (2 * (46 + 6 * 8) + 5 * (48 + 16)));
}

static void test_cpu_cost__a_norm_quantises_what_blocks_want(void **state)
{
    struct norm_args args = {.n_rows = 2, .width = 64, .out = {NULL, 2, 64, ACT_BLOCKS}};
    assert_cost(cpu_cost_norm(&args, ACTIVATIONS_16), 4 * 64 * 3, 2 * 2 * 80, 0, 2 * 64 * (4 + 4));
    args.out.forms = ACT_FLOATS;
    assert_cost(cpu_cost_norm(&args, ACTIVATIONS_16), 4 * 64 * 3, 2 * 64 * 4, 0, 2 * 64 * 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cpu_cost__a_linear_reads_whole_tiles_and_multiplies_two_planes),
        cmocka_unit_test(test_cpu_cost__weights_of_floats_cost_an_fma_each),
        cmocka_unit_test(test_cpu_cost__heads_read_their_own_part_of_the_rows),
        cmocka_unit_test(test_cpu_cost__a_looked_up_row_is_a_sixteenth_of_a_tile),
        cmocka_unit_test(test_cpu_cost__experts_are_read_once_each_and_only_those_chosen),
        cmocka_unit_test(test_cpu_cost__many_rows_let_the_weights_pass_again),
        cmocka_unit_test(test_cpu_cost__attention_reads_whole_pages_and_counts_visible_keys),
        cmocka_unit_test(test_cpu_cost__rows_of_a_block_share_its_pages),
        cmocka_unit_test(test_cpu_cost__packed_pages_cost_their_bytes_and_scales),
        cmocka_unit_test(test_cpu_cost__sealing_reads_rows_and_writes_codes_and_scales),
        cmocka_unit_test(test_cpu_cost__append_writes_halves_and_turns_pairs),
        cmocka_unit_test(test_cpu_cost__a_norm_quantises_what_blocks_want),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
