/* The flat arrays of a step: whose rows, which token each takes, what fills them up. */
#include "engine/batch.h"

#include "base/status.h"
#include "engine/decode_graph.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define PADDING 9 /* a slot of nobody */

static uint32_t ids[] = {100, 101, 102, 103, 104};

struct bench {
    struct device *device;
    struct batch *batch;
    struct submit submit;
    struct sequence sequence;
};

static struct bench bench_open(void)
{
    struct bench bench = {.submit = {.ids = ids, .n_ids = 5, .sampling = SAMPLING_DEFAULT}};
    const struct lookback everything = {.n_layers = 0};
    struct why why = {.text = ""};
    if (device_open(&(struct device_options){.n_threads = 1}, &bench.device, &why) < 0 ||
        batch_create(bench.device, 16, 261, &everything, &bench.batch, &why) < 0)
        fail_msg("%s", why.text);
    batch_clear(bench.batch, 1);
    bench.sequence = (struct sequence){.state = SEQUENCE_PREFILL,
                                       .kv = 3,
                                       .promised_output = 10,
                                       .n_credit = CALL_CREDIT_EVENTS};
    return bench;
}

static void bench_close(struct bench *bench)
{
    batch_free(bench->batch);
    device_close(bench->device);
}

/* Rows of another sequence, all of its prompt, in slot 4. */
static struct sequence other_than(struct bench *bench)
{
    struct sequence other = bench->sequence;
    other.kv = 4;
    other.submit = &bench->submit;
    return other;
}

static void test_batch__a_prompt_takes_its_tokens_at_ascending_positions(void **state)
{
    struct bench bench = bench_open();
    const struct batch_arrays *arrays = bench.batch->arrays;
    struct sequence other = other_than(&bench);
    bench.sequence.submit = &bench.submit;
    bench.sequence.n_launched = 2;

    batch_add(bench.batch, &other, 4);
    batch_add(bench.batch, &bench.sequence, 3);

    assert_int_equal(bench.batch->n_rows, 7);
    assert_int_equal(bench.batch->n_seqs, 2);
    assert_int_equal(bench.batch->n_outputs, 1); /* the other's prompt goes on */
    assert_int_equal(bench.batch->max_position, 4);
    assert_int_equal(bench.batch->work.n_prefill, 7);
    for (uint32_t r = 0; r < 7; r++) {
        uint32_t at = r < 4 ? r : r - 2;
        assert_int_equal(arrays->inputs[r].kind, ROW_TOKEN);
        assert_int_equal(arrays->inputs[r].value, ids[at]);
        assert_int_equal(arrays->position[r], at);
        assert_int_equal(arrays->row_seq[r], r < 4 ? 4 : 3);
        assert_int_equal(arrays->count_slots[r], COUNT_NONE);
    }
    assert_int_equal(arrays->seq_begin[1], 4);
    assert_int_equal(arrays->seq_begin[2], 7);
    assert_int_equal(arrays->output_rows[0], 6);
    assert_int_equal(arrays->output_position[0], 4); /* a row of its own in the last layer */
    assert_int_equal(arrays->output_seq[0], 3);
    assert_int_equal(arrays->output_begin[0], 0);
    assert_int_equal(arrays->output_begin[1], 1);
    assert_ptr_equal(bench.batch->outputs[0], &bench.sequence);
    assert_int_equal(arrays->params[0].position, 0);
    assert_int_equal(bench.sequence.n_launched, 5);
    assert_int_equal(bench.sequence.n_steps, 1);
    assert_false(batch_is_decode(bench.batch));
    bench_close(&bench);
}

static void test_batch__a_token_that_is_not_known_yet_is_taken_on_the_device(void **state)
{
    struct bench bench = bench_open();
    const struct batch_arrays *arrays = bench.batch->arrays;
    struct sequence other = other_than(&bench);
    bench.sequence.submit = &bench.submit;
    batch_add(bench.batch, &other, 5);
    batch_add(bench.batch, &bench.sequence, 5);
    assert_int_equal(bench.batch->n_outputs, 2);

    batch_clear(bench.batch, 2); /* the next step's; the first is under way */
    batch_add(bench.batch, &bench.sequence, 1);

    assert_int_equal(arrays->inputs[0].kind, ROW_SAMPLED);
    assert_int_equal(arrays->inputs[0].value, 1); /* it was the second to draw */
    assert_int_equal(arrays->position[0], 5);
    assert_int_equal(arrays->params[0].position, 1);
    assert_int_equal(bench.batch->work.n_decode, 1);
    assert_true(batch_is_decode(bench.batch));

    batch_clear(bench.batch, 3); /* both steps are over, but for the second's token */
    bench.sequence.state = SEQUENCE_DECODE;
    bench.sequence.n_prefilled = 5;
    bench.sequence.n_generated = 2;
    bench.sequence.last_id = 77;
    batch_add(bench.batch, &bench.sequence, 1);

    assert_int_equal(arrays->inputs[0].kind, ROW_TOKEN);
    assert_int_equal(arrays->inputs[0].value, 77);
    assert_int_equal(arrays->position[0], 6);
    assert_int_equal(arrays->params[0].position, 2);
    bench_close(&bench);
}

static void test_batch__tokens_are_counted_where_a_penalty_asks_for_it(void **state)
{
    struct bench bench = bench_open();
    const struct batch_arrays *arrays = bench.batch->arrays;
    bench.sequence.submit = &bench.submit;
    bench.submit.sampling.repetition = 1.5f;

    batch_add(bench.batch, &bench.sequence, 5);

    for (uint32_t r = 0; r < 5; r++)
        assert_int_equal(arrays->count_slots[r], 3);
    assert_int_equal(arrays->params[0].count_slot, 3);
    bench_close(&bench);
}

static void test_batch__tokens_of_the_output_are_counted_as_such(void **state)
{
    struct bench bench = bench_open();
    const struct batch_arrays *arrays = bench.batch->arrays;
    bench.sequence.submit = &bench.submit;
    bench.submit.sampling.presence = 0.5f;
    bench.sequence.n_launched = 6;
    bench.sequence.state = SEQUENCE_DECODE;
    bench.sequence.n_prefilled = 5;
    bench.sequence.n_generated = 2;
    bench.sequence.has_counts = true;

    batch_add(bench.batch, &bench.sequence, 1);

    assert_int_equal(bench.batch->n_count_rows, 0);
    assert_int_equal(arrays->count_slots[0], 3 | COUNT_OUTPUT);
    assert_int_equal(arrays->params[0].count_slot, 3);
    bench_close(&bench);
}

static void test_batch__tokens_of_the_cache_are_counted_with_the_first_row(void **state)
{
    struct bench bench = bench_open();
    bench.sequence.submit = &bench.submit;
    bench.submit.sampling.repetition = 1.5f;
    bench.sequence.n_launched = bench.sequence.n_prefilled = 3; /* of the cache */

    assert_true(sequence_lacks_counts(&bench.sequence));
    batch_add(bench.batch, &bench.sequence, 1);
    batch_add(bench.batch, &bench.sequence, 1);

    assert_int_equal(bench.batch->n_count_rows, 1);
    assert_int_equal(bench.batch->count_slots[0], 3);
    for (uint32_t id = 0; id < 261; id++)
        assert_int_equal(bench.batch->count_rows[id],
                         id == ids[0] || id == ids[1] || id == ids[2]);
    bench_close(&bench);
}

static void test_batch__biases_of_all_rows_stand_behind_each_other(void **state)
{
    struct bench bench = bench_open();
    const struct batch_arrays *arrays = bench.batch->arrays;
    struct submit other_submit = bench.submit;
    struct sequence other = other_than(&bench);
    bench.sequence.submit = &bench.submit;
    other.submit = &other_submit;
    bench.submit.sampling.n_biases = 2;
    bench.submit.sampling.biases[0] = (struct logit_bias){7, 1.5f};
    bench.submit.sampling.biases[1] = (struct logit_bias){9, -2};
    other_submit.sampling.n_biases = 1;
    other_submit.sampling.biases[0] = (struct logit_bias){8, 100};
    other_submit.min_tokens = 1;

    batch_add(bench.batch, &bench.sequence, 5);
    batch_add(bench.batch, &other, 5);

    assert_int_equal(bench.batch->n_biases, 3);
    assert_int_equal(bench.batch->biases[1].id, 9);
    assert_int_equal(bench.batch->biases[2].id, 8);
    assert_int_equal(arrays->params[0].n_biases, 2);
    assert_int_equal(arrays->params[1].first_bias, 2);
    assert_int_equal(arrays->params[1].n_biases, 1);
    assert_int_equal(arrays->params[0].mask_banned, 0);
    assert_int_equal(arrays->params[1].mask_banned, 1); /* the first of at least one */
    assert_int_equal(arrays->params[0].mask_slot, -1);
    bench_close(&bench);
}

static void test_batch__rows_of_nobody_fill_a_decode_up(void **state)
{
    struct bench bench = bench_open();
    const struct batch_arrays *arrays = bench.batch->arrays;
    bench.sequence.submit = &bench.submit;
    bench.submit.sampling.repetition = 1.5f;
    bench.sequence.n_launched = 4;
    batch_add(bench.batch, &bench.sequence, 1);

    batch_fill_up(bench.batch, 4, PADDING);

    assert_int_equal(bench.batch->n_rows, 1);
    assert_int_equal(bench.batch->n_outputs, 1);
    assert_int_equal(arrays->row_seq[0], 3);
    for (uint32_t r = 1; r < 4; r++) {
        assert_int_equal(arrays->inputs[r].kind, ROW_TOKEN);
        assert_int_equal(arrays->row_seq[r], PADDING);
        assert_int_equal(arrays->position[r], r - 1);
        assert_int_equal(arrays->seq_begin[r], r);
        assert_int_equal(arrays->output_rows[r], r);
        assert_int_equal(arrays->count_slots[r], COUNT_NONE);
        assert_int_equal(arrays->params[r].count_slot, -1);
        assert_true(arrays->params[r].temperature == 0);
    }
    assert_int_equal(arrays->seq_begin[4], 4);
    bench_close(&bench);
}

static void test_decode_graph__each_number_of_rows_has_one_with_little_padding(void **state)
{
    static const uint32_t most[] = {1, 2, 5, 16, 20, 128, 129, 200, STEP_ROWS_MAX};
    for (size_t i = 0; i < sizeof most / sizeof *most; i++) {
        uint32_t before = 0, n_graphs = 0;
        for (uint32_t n = 1; n <= most[i]; n++) {
            uint32_t rows = decode_graph_rows(n, most[i]);
            assert_in_range(rows, n, most[i]);
            assert_true(rows >= before && rows - n < PAGE_TOKENS);
            n_graphs += rows != before;
            before = rows;
        }
        assert_int_equal(before, most[i]);
        assert_true(n_graphs <= DECODE_GRAPHS_MAX);
    }
    assert_int_equal(decode_graph_rows(5, STEP_ROWS_MAX), 6);
    assert_int_equal(decode_graph_rows(129, STEP_ROWS_MAX), 192);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_batch__a_prompt_takes_its_tokens_at_ascending_positions),
        cmocka_unit_test(test_batch__a_token_that_is_not_known_yet_is_taken_on_the_device),
        cmocka_unit_test(test_batch__tokens_are_counted_where_a_penalty_asks_for_it),
        cmocka_unit_test(test_batch__tokens_of_the_output_are_counted_as_such),
        cmocka_unit_test(test_batch__tokens_of_the_cache_are_counted_with_the_first_row),
        cmocka_unit_test(test_batch__biases_of_all_rows_stand_behind_each_other),
        cmocka_unit_test(test_batch__rows_of_nobody_fill_a_decode_up),
        cmocka_unit_test(test_decode_graph__each_number_of_rows_has_one_with_little_padding),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
