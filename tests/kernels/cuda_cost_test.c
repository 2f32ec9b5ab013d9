/* Costs of the CUDA ops against sums done by hand; those of attend's partial states against what
 * the device has cut.
 */
#include "kernels/cuda/cuda_cost.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>

#include "base/status.h"
#include "kernels/cuda/cuda_attend.h"
#include "kernels/cuda/cuda_weight.h"
#include "tests/kernels/twin_fixture.h"

#define MMA 4096.0 /* operations of one m16n8k16 */

static struct weight weight_of(enum weight_fuse fuse, uint32_t type, uint32_t n_in, uint32_t n_out)
{
    struct weight_source source = {.type = type, .n_in = n_in, .n_out = n_out, .name = "w"};
    struct weight_source sources[] = {source, source};
    struct weight weight;
    assert_int_equal(
        cuda_weight_plan(fuse, sources, fuse == WEIGHT_PLAIN ? 1 : 2, &weight, NULL), STATUS_OK);
    return weight;
}

static void assert_cost(struct op_cost cost, double read, double written, double half_ops,
                        double float_ops)
{
    assert_true(cost.read == read);
    assert_true(cost.written == written);
    assert_true(cost.int8_ops == 0);
    assert_true(cost.half_ops == half_ops);
    assert_true(cost.float_ops == float_ops);
}

/* --- weights --- */

static void test_cuda_cost__few_rows_are_multiplied_as_eight(void **state)
{
    struct weight weight = weight_of(WEIGHT_PLAIN, TENSOR_Q4_1, 64, 20); /* two tiles */
    float bias;
    struct linear_args args = {.weight = &weight,
                               .in = {NULL, 4, 64, ACT_BLOCKS},
                               .n_rows = 3,
                               .mode = LINEAR_ADD,
                               .bias = &bias};
    double chains = 2 * 16 * 8, codes = 2 * 16 * 64;
    assert_cost(cuda_cost_linear(&args),
                3 * (2 * 64 + 4) + 2 * (512 + 128) + 4 * 3 * 20 + 4 * 20, 4 * 3 * 20,
                2 * 2 * 4 * MMA, /* the sums of x as often */
                codes + 2 * 2 * chains * 2 + 9 * 3 * 20 + 2 * 3 * 20);
    args.n_rows = 9; /* as 32, from one walk */
    assert_true(cuda_cost_linear(&args).half_ops == 2 * 2 * 4 * 4 * MMA);
}

/* Chains of mma go over the inputs once, and once more for minima, or for what BF16 leaves of
 * activations; sums are scaled in each of the
 * eight groups of 256 inputs: of Q2_K two and their two minima, of Q6_K two. */
static void test_cuda_cost__types_of_other_planes_cost_what_their_planes_do(void **state)
{
    static const struct {
        uint32_t type;
        double tile_bytes, n_chains, n_sums;
    } planes[] = {{TENSOR_Q2_K, 1024 + 512, 2, 4},
                  {TENSOR_Q6_K, 1024 + 128, 1, 2},
                  {TENSOR_Q4_K, 512 + 256, 2, 2},
                  {TENSOR_IQ4_XS, 1024 + 128, 1, 1},
                  {TENSOR_Q3_K, 1024 + 64, 1, 1},
                  {TENSOR_BF16, 2048, 2, 0}};
    for (size_t i = 0; i < sizeof planes / sizeof *planes; i++) {
        struct weight weight = weight_of(WEIGHT_PLAIN, planes[i].type, 256, 16);
        struct linear_args args = {
            .weight = &weight, .in = {NULL, 1, 256, ACT_BLOCKS}, .n_rows = 1, .mode = LINEAR_SET};
        double chains = 16 * 8, codes = planes[i].n_sums > 0 ? 16 * 256 : 0;
        assert_cost(cuda_cost_linear(&args), 2 * 256 + 4 + 4 * planes[i].tile_bytes, 4 * 16,
                    planes[i].n_chains * 4 * 4 * MMA,
                    codes + 2 * chains * planes[i].n_sums * 8 + 9 * 16);
    }
}

static void test_cuda_cost__weights_of_floats_cost_an_fma_each(void **state)
{
    struct weight weight = weight_of(WEIGHT_PLAIN, TENSOR_F32, 40, 16);
    struct linear_args args = {
        .weight = &weight, .in = {NULL, 64, 40, ACT_FLOATS}, .n_rows = 1, .mode = LINEAR_SET};
    assert_cost(cuda_cost_linear(&args), 4 * 40 + 4096, 4 * 16, 0, 2 * 16 * 8 * 40 + 9 * 16);
    args.n_rows = 33; /* 32 at a time, always */
    assert_cost(cuda_cost_linear(&args), 33 * 4 * 40 + 2 * 4096, 33 * 4 * 16, 0,
                2 * 16 * 64 * 40 + 9 * 33 * 16);
}

static void test_cuda_cost__heads_read_their_own_part_of_the_rows(void **state)
{
    struct weight_source source = {.type = TENSOR_F16, .n_in = 64, .n_out = 16, .name = "w"};
    struct weight_source sources[] = {source, source, source};
    struct weight weight;
    assert_int_equal(cuda_weight_plan(WEIGHT_HEADS, sources, 3, &weight, NULL), STATUS_OK);
    struct act panel = {NULL, 5, 3 * 64, ACT_BLOCKS};
    struct linear_heads_args args = {.weight = &weight, .in = panel, .n_rows = 5, .n_tail = 4};
    assert_cost(cuda_cost_linear_heads(&args), 3 * (5 * (2 * 64 + 4) + 2048 + 4 * 5 * 4),
                3 * 4 * 5 * (16 + 4), 3 * 4 * MMA, 3 * 9 * 5 * 16);
    struct quantize_args quantize = {.n_heads = 3, .n = 64, .n_rows = 5, .out = panel};
    assert_cost(cuda_cost_quantize(&quantize), 4 * 5 * 192, 5 * (2 * 192 + 4), 0, 3 * 5 * 192);
}

static void test_cuda_cost__halves_are_multiplied_in_whole_tiles_of_inputs(void **state)
{
    struct weight weight = weight_of(WEIGHT_PLAIN, TENSOR_F16, 40, 16);
    struct linear_args args = {
        .weight = &weight, .in = {NULL, 1, 40, ACT_BLOCKS}, .n_rows = 1, .mode = LINEAR_SET};
    assert_cost(cuda_cost_linear(&args), 2 * 64 + 4 + 2048, 4 * 16, 4 * MMA, 9 * 16);
}

static void test_cuda_cost__many_rows_let_the_weights_pass_again(void **state)
{
    struct weight weight = weight_of(WEIGHT_PLAIN, TENSOR_Q4_0, 128, 160); /* 10 tiles, as 16 */
    struct linear_args args = {
        .weight = &weight, .in = {NULL, 128, 128, ACT_BLOCKS}, .n_rows = 100, .mode = LINEAR_SET};
    double chains = 16 * 16 * 128, codes = 2 * 16 * 2 * 1024;
    assert_cost(cuda_cost_linear(&args), 2 * 10 * 2 * (512 + 64) + 100 * (2 * 128 + 4),
                4 * 100 * 160, 16 * 2 * 4 * 16 * MMA, 2 * codes + 2 * chains * 4 + 9 * 100 * 160);
}

static void test_cuda_cost__gate_and_up_become_one_panel(void **state)
{
    struct weight weight = weight_of(WEIGHT_GATE_UP, TENSOR_Q8_0, 64, 72); /* 5 tiles each, as 8 */
    struct linear_glu_args args = {.weight = &weight,
                                   .in = {NULL, 64, 64, ACT_BLOCKS},
                                   .n_rows = 64,
                                   .out = {NULL, 64, 72, ACT_BLOCKS}};
    double chains = 2 * 8 * 16 * 64, codes = 2 * 8 * 1024;
    assert_cost(cuda_cost_linear_glu(&args), 64 * (2 * 64 + 4) + 2 * 5 * (1024 + 64),
                64 * (2 * 128 + 4), 2 * 8 * 4 * 8 * MMA,
                2 * codes + 2 * chains * 2 + 2 * 9 * 64 * 72 + 64 * 72 * (19 + 1 + 2));
    args.n_rows = 32;
    assert_true(cuda_cost_linear_glu(&args).half_ops == 2 * 5 * 4 * 4 * MMA);
}

static void test_cuda_cost__a_looked_up_row_brings_the_sectors_that_it_stands_in(void **state)
{
    struct weight table = weight_of(WEIGHT_PLAIN, TENSOR_Q4_1, 64, 160);
    struct embed_args args = {.table = &table, .n_rows = 3};
    assert_cost(cuda_cost_embed(&args), 3 * (2 * 512 / 16 + 32), 3 * 64 * 4, 0, 3 * 64 * 2);
    table = weight_of(WEIGHT_PLAIN, TENSOR_F32, 64, 160);
    assert_cost(cuda_cost_embed(&args), 3 * 2 * 64 * 4, 3 * 64 * 4, 0, 0);
}

/* --- attention; heads of 64 values, 4 of q on 2 of k and v --- */

#define N_HEADS 4
#define N_KV_HEADS 2
#define DIM 64
#define STATE_BYTES (N_HEADS * (DIM + 2) * 4.0)

static struct attend_args attend_of(enum kv_dtype dtype, const struct rows_view *rows)
{
    return (struct attend_args){
        .q = {NULL, rows->n_rows, N_HEADS * DIM, ACT_QUERY},
        .n_heads = N_HEADS,
        .rows = *rows,
        .group = {.shape = {N_KV_HEADS, DIM, DIM, false},
                  .dtype_open = kv_dtype_open(dtype),
                  .dtype_full = dtype},
        .out = {NULL, rows->n_rows, N_HEADS * DIM, ACT_BLOCKS},
    };
}

static struct op_cost attend_cost(enum kv_dtype dtype, enum kv_kind kind, uint32_t window,
                                  uint32_t first, uint32_t n_rows)
{
    uint32_t position[128], row_seq[128] = {0}, seq_begin[] = {0, n_rows};
    for (uint32_t i = 0; i < n_rows; i++)
        position[i] = first + i;
    struct rows_view rows = {n_rows, 1, position, row_seq, seq_begin, first + n_rows - 1};
    struct attend_args args = attend_of(dtype, &rows);
    args.group.kind = kind;
    args.group.window = window;
    return cuda_cost_attend(&args);
}

static double panels(uint32_t n_rows)
{
    return n_rows * (2.0 * N_HEADS * DIM + 4);
}

/* bytes of K and V of so many tokens */
static double keys(uint32_t n_tokens)
{
    return n_tokens * 2.0 * N_KV_HEADS * DIM * 2;
}

static void test_cuda_cost__a_decode_row_reads_the_tokens_of_its_pages(void **state)
{
    /* all scores by each of four warps; the output once */
    double tile_ops = 2.0 * 16 * 64 * DIM * (4 + 1), tile_floats = 4 * 16 * 64 * 5 + 16 * DIM;
    assert_cost(attend_cost(KV_F16, KV_FULL, 0, 64, 1), panels(1) + keys(65) + STATE_BYTES,
                panels(1) + STATE_BYTES, 2 * N_KV_HEADS * tile_ops,
                2 * N_KV_HEADS * tile_floats + (3 * 2 + 1) * N_HEADS * DIM);
    /* from the page of the first visible token on */
    assert_true(attend_cost(KV_F16, KV_SLIDING, 64, 150, 1).read ==
                panels(1) + keys(151 - 64) + STATE_BYTES);
    assert_true(attend_cost(KV_F16, KV_CHUNKED, 128, 128, 1).read ==
                panels(1) + keys(1) + STATE_BYTES);
}

static void test_cuda_cost__rows_of_a_block_share_its_pages(void **state)
{
    /* blocks of 32 rows: 0..31 of one page, 32..39 */
    struct op_cost cost = attend_cost(KV_F16, KV_FULL, 0, 0, 40);
    assert_true(cost.read == panels(40) + keys(32) + keys(40) + 40 * STATE_BYTES);
    double many = 2.0 * 4 * 16 * 64 * DIM * 2, few = 2.0 * 16 * 64 * DIM * (4 + 1);
    assert_true(cost.half_ops == N_KV_HEADS * (many + few));
}

static void test_cuda_cost__spans_leave_states_and_their_folds(void **state)
{
    struct op_cost cost = attend_cost(KV_F16, KV_FULL, 0, 1023, 1);
    assert_true(cost.read == panels(1) + keys(1024) + 2 * STATE_BYTES);
    assert_true(cost.written == panels(1) + 2 * STATE_BYTES);
}

static void test_cuda_cost__f32_pages_are_attended_over_row_by_row(void **state)
{
    double row = N_HEADS * DIM * 4.0;
    assert_cost(attend_cost(KV_F32, KV_SLIDING, 10, 69, 1),
                panels(1) + 10 * 2.0 * N_KV_HEADS * DIM * 4 + STATE_BYTES + row,
                panels(1) + STATE_BYTES + row, 0,
                N_HEADS * (10 * (4.0 * DIM + 4) + 2 * DIM) + (3 * 2 + 1) * N_HEADS * DIM);
}

/* Earlier pages as they are packed, a row's own as it was written: blocks end with their page. */
static void test_cuda_cost__packed_pages_cost_their_bytes_and_scales(void **state)
{
    double page = N_KV_HEADS * (2.0 * 64 * DIM + 8 * (DIM + 64));
    struct op_cost cost = attend_cost(KV_Q8, KV_FULL, 0, 64, 1);
    struct op_cost plain = attend_cost(KV_F16, KV_FULL, 0, 64, 1);
    assert_true(cost.read == panels(1) + page + keys(1) + STATE_BYTES);
    assert_true(cost.half_ops == plain.half_ops && cost.written == plain.written);
    double codes = 64 * (4.0 * DIM + DIM), scaled = 16 * 4.0 * (DIM + 64);
    assert_true(cost.float_ops - plain.float_ops ==
                N_KV_HEADS * (codes + 4 * scaled + 2 * 16 * DIM));
    cost = attend_cost(KV_Q4, KV_FULL, 0, 60, 8); /* four rows in each of two pages */
    page = N_KV_HEADS * (64 * DIM + 8 * (DIM + 64));
    assert_true(cost.read == panels(8) + keys(64) + page + keys(4) + 8 * STATE_BYTES);
}

/* Pages whose last token comes: of rows 60 to 130 those of 63 and of 127. */
static void test_cuda_cost__sealing_reads_rows_and_writes_codes_and_scales(void **state)
{
    uint32_t position[71 + 2], row_seq[71 + 2] = {0}, seq_begin[] = {0, 71, 71, 73};
    for (uint32_t i = 0; i < 71; i++)
        position[i] = 60 + i;
    position[71] = 0, position[72] = 1; /* of a sequence that fills none; one has no rows */
    struct page_seal_args args = {
        .rows = {73, 3, position, row_seq, seq_begin, 130},
        .group = {.shape = {2, 64, 32, false}, .dtype_open = KV_F16, .dtype_full = KV_Q8}};
    double values = 2 * 64 * (64 + 32), scales = 2 * 8 * (64 + 64);
    assert_cost(cuda_cost_page_seal(&args), 2 * 2 * values, 2 * (values + scales), 0,
                2 * 7 * values);
    args.group.dtype_full = KV_Q4;
    args.group.shape.v_in_k = true;
    assert_cost(cuda_cost_page_seal(&args), 2 * 2 * 2 * 64 * 64,
                2 * 2 * (32 * 64 + 8 * 64), 0, 2 * 7 * 2 * 64 * 64);
}

/* How many states the device cut these rows of one sequence into. */
static uint32_t states_on_device(uint32_t first, uint32_t n_rows)
{
    struct twin twin = twin_open(BACKEND_CUDA);
    uint32_t position[64], row_seq[64] = {0}, seq_begin[] = {0, n_rows}, first_page = 0;
    uint32_t last = first + n_rows - 1, n_pages = last / PAGE_TOKENS + 1;
    page_id *table = calloc(n_pages, sizeof *table); /* one page, zeros, again and again */
    for (uint32_t i = 0; i < n_rows; i++)
        position[i] = first + i;
    struct rows_view rows = {n_rows,
                             1,
                             twin_upload(&twin, position, sizeof position),
                             twin_upload(&twin, row_seq, sizeof row_seq),
                             twin_upload(&twin, seq_begin, sizeof seq_begin),
                             last};
    struct attend_args args = attend_of(KV_F16, &rows);
    size_t page_bytes = twin.ops->page_layer_bytes(&args.group.shape, KV_F16);
    args.group.base = twin_alloc(&twin, page_bytes);
    args.group.page_stride = args.group.layer_stride = page_bytes;
    args.group.table = twin_upload(&twin, table, n_pages * sizeof *table);
    args.group.first_page = twin_upload(&twin, &first_page, sizeof first_page);
    args.group.table_stride = n_pages;
    args.q.base = twin_alloc(&twin, twin.ops->act_bytes(twin.device, n_rows, args.q.width,
                                                        ACT_QUERY));
    args.out.base = twin_alloc(&twin, twin.ops->act_bytes(twin.device, n_rows, args.out.width,
                                                          ACT_BLOCKS));
    args.workspace_bytes = twin.ops->attend_workspace_bytes(twin.device, N_HEADS,
                                                            &args.group.shape, n_rows, last + 1);
    args.workspace = twin_alloc(&twin, args.workspace_bytes);
    twin.ops->attend(twin.stream, &args);
    assert_int_equal(twin_run(&twin), STATUS_OK);
    struct attend_counts *counts = twin_download(&twin, args.workspace, sizeof *counts);
    uint32_t n_states = counts->n_states;
    free(counts);
    free(table);
    twin_close(&twin);
    return n_states;
}

static double states_by_cost(uint32_t first, uint32_t n_rows)
{
    struct op_cost cost = attend_cost(KV_F16, KV_FULL, 0, first, n_rows);
    return (cost.written - panels(n_rows)) / STATE_BYTES;
}

static void test_cuda_cost__states_are_as_many_as_the_device_cuts(void **state)
{
    if (!twin_has_cuda())
        skip();
    static const uint32_t first_and_rows[][2] = {{0, 1}, {1000, 1}, {600, 40}, {8100, 36}};
    for (size_t i = 0; i < sizeof first_and_rows / sizeof *first_and_rows; i++) {
        uint32_t first = first_and_rows[i][0], n_rows = first_and_rows[i][1];
        assert_true(states_by_cost(first, n_rows) == (double)states_on_device(first, n_rows));
    }
}

/* --- the rest --- */

static void test_cuda_cost__append_turns_queries_twice(void **state)
{
    struct rope_append_args args = {
        .n_heads = 6,
        .style = ROPE_NEOX,
        .n_rot = 4,
        .rows = {.n_rows = 3},
        .group = {.shape = {2, 8, 4, false}, .dtype_open = KV_F16},
        .q = {NULL, 3, 48, ACT_QUERY},
    };
    assert_cost(cuda_cost_rope_append(&args), 3 * 4 * (48 + 16 + 8) + 8 * 2,
                3 * (2 * 64 + 4 + 2 * (16 + 8)), 0,
                3 * (2 * 48 + 2 * 24 * 3 + 48 * 5 + 8 * 3 + (16 + 8) * 5));
    struct op_cost plain = cuda_cost_rope_append(&args), queries, keys;
    args.no_append = true;
    queries = cuda_cost_rope_append(&args);
    args.no_append = false;
    args.n_heads = 0;
    keys = cuda_cost_rope_append(&args);
    args.n_heads = 6;
    assert_true(queries.read + keys.read == plain.read + 8 * 2); /* the angles twice */
    assert_true(queries.written + keys.written == plain.written);
    assert_true(queries.float_ops + keys.float_ops == plain.float_ops + 3 * 2 * 48);
    args.qk_norm = QK_NORM_BEFORE; /* of 8 dims 4 are turned: 12 values of a head are normed */
    struct op_cost normed = cuda_cost_rope_append(&args);
    assert_true(normed.read - plain.read == 2 * 4 * 8);
    assert_true(normed.float_ops - plain.float_ops ==
                3 * (2 * (48 + 16) + 2 * (2 * 6 * 12 + 2 * 12)));
    args.qk_norm = QK_NORM_AFTER;
    normed = cuda_cost_rope_append(&args);
    assert_true(normed.read == plain.read);
    assert_true(normed.float_ops - plain.float_ops ==
                3 * (8 * 4 * 3 + 2 * (48 + 16) + 2 * 48 + 16));
}

static void test_cuda_cost__a_norm_makes_what_consumers_want(void **state)
{
    struct norm_args args = {.n_rows = 2, .width = 40, .out = {NULL, 2, 40, ACT_BLOCKS}};
    assert_cost(cuda_cost_norm(&args), 4 * 40 * 3, 2 * (2 * 64 + 4), 0, 2 * 40 * 9);
    args.out.forms = ACT_FLOATS;
    assert_cost(cuda_cost_norm(&args), 4 * 40 * 3, 2 * 40 * 4, 0, 2 * 40 * 5);
}

static void test_cuda_cost__rows_and_pages_are_moved_once(void **state)
{
    struct gather_args gather = {.n = 3, .width = 40};
    assert_cost(cuda_cost_gather(&gather), 3 * 160, 3 * 160, 0, 0);
    struct page_copy_args copy = {.n = 2, .page_stride = 4096};
    assert_cost(cuda_cost_page_copy(&copy), 8192, 8192, 0, 0);
    struct page_zero_args zero = {.n = 2, .page_stride = 4096};
    assert_cost(cuda_cost_page_zero(&zero), 0, 8192, 0, 0);
    struct sample_args draw = {.n_rows = 2, .vocabulary = 100};
    assert_cost(cuda_cost_greedy(&draw), 800, 800 + 2 * sizeof(struct sample_result), 0, 1600);
}

/* Nine rows of one slot: expert 1 has eight of them, expert 2 one, and each is multiplied as 32. */
static void test_cuda_cost__experts_are_read_once_for_32_rows_and_only_those_chosen(void **state)
{
    struct weight_source up[6], out[3];
    for (int i = 0; i < 6; i++)
        up[i] = (struct weight_source){.type = TENSOR_Q8_0, .n_in = 64, .n_out = 16, .name = "u"};
    for (int i = 0; i < 3; i++)
        out[i] = (struct weight_source){.type = TENSOR_F16, .n_in = 16, .n_out = 16, .name = "o"};
    struct weight gate_up, down;
    assert_int_equal(cuda_weight_plan(WEIGHT_EXPERTS_GATE_UP, up, 6, &gate_up, NULL), STATUS_OK);
    assert_int_equal(cuda_weight_plan(WEIGHT_EXPERTS, out, 3, &down, NULL), STATUS_OK);
    uint32_t experts[9] = {1, 1, 1, 1, 2, 1, 1, 1, 1};
    struct moe_args args = {.gate_up = &gate_up,
                            .down = &down,
                            .in = {NULL, 9, 64, ACT_BLOCKS},
                            .experts = experts,
                            .n_rows = 9,
                            .n_used = 1,
                            .mode = LINEAR_SET};
    double panel = 2 * 64 + 4, matrices = 2 * (1024 + 64) + 2048;
    struct op_cost cost = cuda_cost_moe(&args);
    assert_true(cost.read == 9 * (8 + panel + 4) + 2 * matrices + 9 * (panel + panel) + 4 * 16 * 9);
    assert_true(cost.written == 9 * (4 + panel) + 9 * panel + 4 * 16 * 9 + 4 * 16 * 9);
    assert_true(cost.half_ops == 2 * (2 * 4 * 4 + 4 * 4) * MMA);
    args.n_rows = 8; /* now as 8, and expert 2 among them */
    assert_true(cuda_cost_moe(&args).half_ops == 2 * (2 * 4 + 4) * MMA);
    experts[4] = 1;
    assert_true(cuda_cost_moe(&args).half_ops == (2 * 4 + 4) * MMA);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cuda_cost__experts_are_read_once_for_32_rows_and_only_those_chosen),
        cmocka_unit_test(test_cuda_cost__few_rows_are_multiplied_as_eight),
        cmocka_unit_test(test_cuda_cost__types_of_other_planes_cost_what_their_planes_do),
        cmocka_unit_test(test_cuda_cost__weights_of_floats_cost_an_fma_each),
        cmocka_unit_test(test_cuda_cost__heads_read_their_own_part_of_the_rows),
        cmocka_unit_test(test_cuda_cost__halves_are_multiplied_in_whole_tiles_of_inputs),
        cmocka_unit_test(test_cuda_cost__many_rows_let_the_weights_pass_again),
        cmocka_unit_test(test_cuda_cost__gate_and_up_become_one_panel),
        cmocka_unit_test(test_cuda_cost__a_looked_up_row_brings_the_sectors_that_it_stands_in),
        cmocka_unit_test(test_cuda_cost__a_decode_row_reads_the_tokens_of_its_pages),
        cmocka_unit_test(test_cuda_cost__rows_of_a_block_share_its_pages),
        cmocka_unit_test(test_cuda_cost__spans_leave_states_and_their_folds),
        cmocka_unit_test(test_cuda_cost__sealing_reads_rows_and_writes_codes_and_scales),
        cmocka_unit_test(test_cuda_cost__f32_pages_are_attended_over_row_by_row),
        cmocka_unit_test(test_cuda_cost__packed_pages_cost_their_bytes_and_scales),
        cmocka_unit_test(test_cuda_cost__states_are_as_many_as_the_device_cuts),
        cmocka_unit_test(test_cuda_cost__append_turns_queries_twice),
        cmocka_unit_test(test_cuda_cost__a_norm_makes_what_consumers_want),
        cmocka_unit_test(test_cuda_cost__rows_and_pages_are_moved_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
