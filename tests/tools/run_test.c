/* Steps by hand: the same rows alone and in company; draws; costs counted from the plan. */
#include "tiny_file_fixture.h"

#include "base/status.h"
#include "tests/under_tsan.h"
#include "tools/bench_cost.h"
#include "tools/company.h"
#include "tools/run.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define N_TOKENS 90 /* two pages */
#define VOCABULARY 300

/* of the runs that are opened */
static struct kv_dtypes page_types = {.global = KV_F16, .local = KV_F16};

static void open_run(struct run *run, const struct run_sizes *sizes)
{
    struct why why = {.text = ""};
    const char *path = tiny_file(NULL);
    struct run_options options = {
        .model_path = path,
        .device = {.n_threads = 2, .strict = true},
        .kv_dtypes = page_types,
        .quiet = true,
    };
    int status = run_open(&options, run, &why);
    unlink(path);
    if (status < 0 || run_prepare(run, sizes, &why) < 0)
        fail_msg("%s", why.text);
}

static uint32_t token_at(uint32_t i)
{
    return (i * 37 + i * i * 3) % VOCABULARY;
}

/* All rows [N_TOKENS, VOCABULARY] of one sequence in chunks, beside n others. */
static float *rows_of(uint32_t chunk, uint32_t n_others)
{
    struct run run;
    struct company company;
    struct why why = {.text = ""};
    struct run_piece pieces[1 + COMPANY_MAX];
    uint32_t ids[N_TOKENS], first;
    kv_seq_id seq;
    float *rows = malloc(sizeof(float) * N_TOKENS * VOCABULARY);
    struct run_sizes sizes = {.n_sequences = 1 + n_others,
                              .n_tokens = 150,
                              .max_rows = chunk + n_others * COMPANY_ROWS_MAX,
                              .max_outputs = chunk + n_others};

    for (uint32_t i = 0; i < N_TOKENS; i++)
        ids[i] = token_at(i);
    open_run(&run, &sizes);
    assert_int_equal(run_begin(&run, &seq, &why), STATUS_OK);
    assert_int_equal(company_open(&company, &run, n_others, 100, &why), STATUS_OK);
    for (uint32_t at = 0; at < N_TOKENS; at += chunk) {
        uint32_t n = N_TOKENS - at < chunk ? N_TOKENS - at : chunk;
        struct run_piece ours = {.seq = seq, .ids = ids + at, .n_rows = n, .n_outputs = n};
        assert_int_equal(company_join(&company, &ours, pieces, &first, &why), STATUS_OK);
        assert_int_equal(run_step(&run, pieces, 1 + n_others, &why), STATUS_OK);
        assert_int_equal(run_read_logits(&run, first, n, rows + (size_t)at * VOCABULARY, &why),
                         STATUS_OK);
    }
    company_close(&company);
    run_end(&run, seq);
    run_close(&run);
    return rows;
}

static void test_run__rows_are_the_same_in_any_chunk_and_company(void **state)
{
    static const struct {
        uint32_t chunk, n_others;
    } cases[] = {{1, 0}, {7, 0}, {64, 0}, {N_TOKENS, 3}, {7, 7}, {1, 2}};
    int step = UNDER_TSAN ? KV_Q4 - KV_F16 : 1; /* threads do the same whatever a page holds */
    for (int dtype = KV_F16; dtype < KV_DTYPES; dtype += step) {
        page_types.global = (enum kv_dtype)dtype;
        float *alone = rows_of(N_TOKENS, 0);
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            float *rows = rows_of(cases[i].chunk, cases[i].n_others);
            if (memcmp(rows, alone, sizeof(float) * N_TOKENS * VOCABULARY) != 0)
                fail_msg("%s, chunk %u beside %u others differs", kv_dtype_name(page_types.global),
                         cases[i].chunk, cases[i].n_others);
            free(rows);
        }
        free(alone);
    }
    page_types.global = KV_F16;
}

/* --- the order of pages, of a model whose every layer turns keys by their position --- */

#define N_PAGES 4

/* Makes the next pages lent come in descending order. */
static void turn_pages_round(struct run *run)
{
    struct why why = {.text = ""};
    uint32_t id = 1;
    kv_seq_id seqs[N_PAGES];

    for (int i = 0; i < N_PAGES; i++) {
        struct run_piece piece = {.seq = 0, .ids = &id, .n_rows = 1};
        assert_int_equal(run_begin(run, &seqs[i], &why), STATUS_OK);
        piece.seq = seqs[i];
        assert_int_equal(run_step(run, &piece, 1, &why), STATUS_OK);
    }
    for (int i = 0; i < N_PAGES; i++)
        run_end(run, seqs[i]);
}

static page_id *table_of(const struct run *run, kv_seq_id seq)
{
    struct kv_view view;
    kv_cache_view(run->cache, &view);
    return (page_id *)view.groups[0].table + (size_t)seq * view.groups[0].table_stride;
}

/* Exchanges the first two pages in the table that ops read. */
static void exchange_pages(struct run *run, kv_seq_id seq)
{
    page_id pages[2];
    assert_int_equal(device_download(run->device, pages, table_of(run, seq), sizeof pages),
                     STATUS_OK);
    page_id exchanged[2] = {pages[1], pages[0]};
    assert_int_equal(device_upload(run->device, table_of(run, seq), exchanged, sizeof exchanged),
                     STATUS_OK);
}

/* The row behind N_PAGES - 1 pages and a bit. */
static void row_behind(bool turned, bool exchanged, float *row, page_id *pages)
{
    struct run run;
    struct why why = {.text = ""};
    uint32_t ids[(N_PAGES - 1) * PAGE_TOKENS + 9], n = sizeof ids / sizeof *ids;
    kv_seq_id seq;
    struct run_sizes sizes = {
        .n_sequences = N_PAGES, .n_tokens = n, .max_rows = n, .max_outputs = 1};

    for (uint32_t i = 0; i < n; i++)
        ids[i] = token_at(i);
    open_run(&run, &sizes);
    if (turned)
        turn_pages_round(&run);
    assert_int_equal(run_begin(&run, &seq, &why), STATUS_OK);
    struct run_piece before = {.seq = seq, .ids = ids, .n_rows = n - 1};
    struct run_piece last = {.seq = seq, .ids = ids + n - 1, .n_rows = 1, .n_outputs = 1};
    assert_int_equal(run_step(&run, &before, 1, &why), STATUS_OK);
    if (exchanged)
        exchange_pages(&run, seq);
    assert_int_equal(run_step(&run, &last, 1, &why), STATUS_OK);
    assert_int_equal(run_read_logits(&run, 0, 1, row, &why), STATUS_OK);
    assert_int_equal(
        device_download(run.device, pages, table_of(&run, seq), N_PAGES * sizeof *pages),
        STATUS_OK);
    run_end(&run, seq);
    run_close(&run);
}

static void test_run__pages_are_read_in_the_order_of_the_table_wherever_they_lie(void **state)
{
    float flat[VOCABULARY], turned[VOCABULARY], exchanged[VOCABULARY];
    page_id pages[N_PAGES];

    row_behind(false, false, flat, pages);
    for (page_id i = 0; i < N_PAGES; i++)
        assert_int_equal(pages[i], i); /* one flat stretch of memory */
    row_behind(true, false, turned, pages);
    for (page_id i = 1; i < N_PAGES; i++)
        assert_true(pages[i] < pages[i - 1]);
    row_behind(false, true, exchanged, pages);

    assert_memory_equal(turned, flat, sizeof flat);
    assert_true(memcmp(exchanged, flat, sizeof flat) != 0);
}

/* --- company, draws, costs --- */

static void test_company__each_step_places_our_piece_anew_and_members_begin_again(void **state)
{
    struct run run;
    struct company company;
    struct why why = {.text = ""};
    struct run_piece pieces[4];
    uint32_t id = 1, first, places[4] = {0}, n_restarts = 0, before[3] = {0};
    kv_seq_id seq;
    struct run_sizes sizes = {
        .n_sequences = 4, .n_tokens = 100, .max_rows = 1 + 3 * COMPANY_ROWS_MAX, .max_outputs = 4};

    open_run(&run, &sizes);
    assert_int_equal(run_begin(&run, &seq, &why), STATUS_OK);
    assert_int_equal(company_open(&company, &run, 3, 40, &why), STATUS_OK);
    for (int step = 0; step < 60; step++) {
        struct run_piece ours = {.seq = seq, .ids = &id, .n_rows = 1, .n_outputs = 1};
        assert_int_equal(company_join(&company, &ours, pieces, &first, &why), STATUS_OK);
        uint32_t place = 0, n_outputs = 0;
        for (; pieces[place].seq != seq; place++)
            n_outputs += pieces[place].n_outputs;
        assert_int_equal(n_outputs, first);
        places[place]++;
        assert_int_equal(run_step(&run, pieces, 4, &why), STATUS_OK);
        for (int m = 0; m < 3; m++) {
            n_restarts += company.members[m].n_done < before[m];
            before[m] = company.members[m].n_done;
        }
    }
    for (int i = 0; i < 4; i++)
        assert_true(places[i] > 0);
    assert_true(n_restarts > 3);
    company_close(&company);
    run_end(&run, seq);
    run_close(&run);
}

static void test_run__a_draw_is_the_largest_logit(void **state)
{
    struct run run;
    struct why why = {.text = ""};
    uint32_t ids[3] = {5, 6, 7};
    float row[VOCABULARY];
    kv_seq_id seq;
    struct run_sizes sizes = {
        .n_sequences = 1, .n_tokens = 16, .max_rows = 3, .max_outputs = 1, .draws = true};

    open_run(&run, &sizes);
    assert_int_equal(run_begin(&run, &seq, &why), STATUS_OK);
    struct run_piece piece = {.seq = seq, .ids = ids, .n_rows = 3, .n_outputs = 1};
    assert_int_equal(run_step(&run, &piece, 1, &why), STATUS_OK);
    assert_int_equal(run_read_logits(&run, 0, 1, row, &why), STATUS_OK);
    uint32_t best = 0;
    for (uint32_t i = 1; i < VOCABULARY; i++)
        best = row[i] > row[best] ? i : best;
    assert_int_equal(run.results[0].id, best);
    run_end(&run, seq);
    run_close(&run);
}

static void test_bench_cost__counts_what_the_plan_says(void **state)
{
    struct run run;
    struct run_sizes sizes = {.n_sequences = 1, .n_tokens = 16, .max_rows = 1, .max_outputs = 1};
    struct kv_dtypes f16 = {.global = KV_F16, .local = KV_F16};

    open_run(&run, &sizes);
    /* two layers: width 64, 4 heads of 16 over 2, feed-forward 96; f16 pages */
    double keys = 64 * 64, query = 64 * 64, out = 64 * 64, ffn = 3 * 64 * 96;
    double layer = keys + query + out + ffn;
    struct bench_work prefill = {
        .first = 10, .n_rows = 3, .n_steps = 1, .n_outputs = 1, .n_last_rows = 3};
    struct bench_cost cost = bench_cost_of(run.model, &f16, &prefill);
    assert_true(cost.linear_ops == 2 * (2 * 3 * layer + 64 * VOCABULARY));
    assert_true(cost.attention_ops == 2.0 * 2 * (11 + 12 + 13) * 4 * (16 + 16));
    assert_true(cost.bytes == (double)model_step_bytes(run.model));

    prefill.n_last_rows = 1; /* the others have keys and values there alone */
    cost = bench_cost_of(run.model, &f16, &prefill);
    assert_true(cost.linear_ops == 2 * (3 * layer + 2 * keys + layer + 64 * VOCABULARY));
    assert_true(cost.attention_ops == 2.0 * (11 + 12 + 13 + 13) * 4 * (16 + 16));

    struct bench_work decode = {
        .first = 10, .n_rows = 3, .n_steps = 3, .n_outputs = 3, .n_last_rows = 3};
    cost = bench_cost_of(run.model, &f16, &decode);
    assert_true(cost.linear_ops == 2.0 * 3 * (2 * layer + 64 * VOCABULARY));
    assert_true(cost.bytes == 3.0 * (double)model_step_bytes(run.model) +
                                  2.0 * (11 + 12 + 13) * 2 * (16 + 16) * 2);
    run_close(&run);
}

static void test_bench_cost__the_longer_of_computing_and_reading_counts(void **state)
{
    struct peaks peaks = {.read_bytes = 100, .int8_ops = 80, .fma_ops = 20};
    struct bench_cost cost = {.linear_ops = 400, .attention_ops = 40, .bytes = 500};

    assert_true(bench_linear_peak(&peaks, ACTIVATIONS_16, true) == 40);
    assert_true(bench_linear_peak(&peaks, ACTIVATIONS_INT8, true) == 80);
    assert_true(bench_linear_peak(&peaks, ACTIVATIONS_F32, true) == 20);
    assert_true(bench_linear_peak(&peaks, ACTIVATIONS_16, false) == 20);
    assert_true(bench_least_seconds(&cost, &peaks, 40) == 12);
    cost.bytes = 5000;
    assert_true(bench_least_seconds(&cost, &peaks, 40) == 50);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_run__rows_are_the_same_in_any_chunk_and_company),
        cmocka_unit_test(test_run__pages_are_read_in_the_order_of_the_table_wherever_they_lie),
        cmocka_unit_test(test_company__each_step_places_our_piece_anew_and_members_begin_again),
        cmocka_unit_test(test_run__a_draw_is_the_largest_logit),
        cmocka_unit_test(test_bench_cost__counts_what_the_plan_says),
        cmocka_unit_test(test_bench_cost__the_longer_of_computing_and_reading_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
