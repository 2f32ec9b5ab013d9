/* Summarize without a model: what covers what, what runs at once, and what is held. */
#include "tests/service/summarize_stage.h"

#include "service/summary_progress.h"

#include <unistd.h>

static void test_summarize__a_document_that_fits_is_read_whole(void **state)
{
    struct outcome out = summarize(defaults, "A text.", 7, 7, 5);
    assert_int_equal(out.n_sections, 1);
    assert_int_equal(out.n_levels, 0);
    assert_int_equal(out.n_answer, 20);
    assert_int_equal(stage.n_submits, 1);
    assert_int_equal(stage.submits[0]->max_tokens, DEFAULT_SUMMARY_TOKENS);
    assert_true(stage.submits[0]->sampling.temperature == 0);
    assert_int_equal(stage.submits[0]->sampling.seed, 7);
    stage_close();
}

static void test_summarize__the_document_stands_in_the_prompts_unchanged(void **state)
{
    size_t len = write_document(30000, true);
    summarize((struct wanted){.section_tokens = 300}, document, len, 1000, 5);
    size_t at = 0;
    for (size_t i = 0; i < stage.n_rendered && at < len; i++) {
        const struct stage_bytes *text = &stage.rendered[i];
        size_t n = 0; /* the prompt begins with the section */
        while (n < text->len && at + n < len && text->bytes[n] == (uint8_t)document[at + n])
            n++;
        if (n < 100)
            continue; /* measured with empty text, or summaries */
        bool is_section = false;
        for (uint32_t s = 0; s < n_seen[0]; s++)
            is_section |= sections[0][s].begin == at && sections[0][s].end <= at + n &&
                          (at = sections[0][s].end) > 0;
        assert_true(is_section);
    }
    assert_int_equal(at, len);
    stage_close();
}

static void test_summarize__pieces_and_order_change_nothing(void **state)
{
    static const size_t pieces[] = {1, 3, 700, 4096, 65536, 400000};
    size_t len = write_document(18000, false);
    uint64_t first = 0;
    for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++) {
        struct outcome out =
            summarize((struct wanted){.section_tokens = 200, .replace_invalid = true}, document,
                      len, pieces[i], 40);
        if (i == 0)
            first = out.hash;
        assert_int_equal(out.hash, first);
        assert_true(out.n_sections > 18 && out.replaced > 5);
        stage_close();
    }
}

static void test_summarize__without_section_tokens_sections_are_as_large_as_fit(void **state)
{
    size_t len = write_document(40000, true);
    struct outcome out = summarize(defaults, document, len, 4096, 20);
    assert_in_range(out.n_sections, len / 4 / 1500, len / 4 / 700); /* of 1500 tokens at most */
    stage_close();
}

static void test_summarize__summaries_of_summaries_until_they_fit_one_prompt(void **state)
{
    size_t len = write_document(100000, true);
    struct outcome out =
        summarize((struct wanted){.section_tokens = 100}, document, len, 10000, 150);
    assert_true(out.n_sections > 240);
    assert_in_range(out.n_levels, 3, 5); /* about 8 summaries fit one prompt */
    for (uint32_t level = 1; level < out.n_levels; level++)
        assert_true(n_seen[level] * 4 < n_seen[level - 1]);
    stage_close();
}

static void test_summarize__a_few_runs_at_once_and_a_window_of_text(void **state)
{
    size_t len = write_document(400000, true);
    at_submit = 0;
    open_call((struct wanted){.section_tokens = 200});
    upload_document(document, len, 2000);
    assert_int_equal(stage.n_submits, SUMMARY_RUNS);
    assert_false(stage.wants); /* the peer's window closes */
    size_t first = stage.at_upload;
    assert_true(first * 2000 < 20000); /* sections of 800 bytes, one window and one piece */
    answer(stage.submits[at_submit++], 10);
    assert_int_equal(stage.n_submits, SUMMARY_RUNS + 1);
    assert_in_range(stage.at_upload, first, first + 2);
    answer_all(10);
    assert_int_equal(stage.n_open_max, SUMMARY_RUNS);
    stage_close();
}

static void test_summarize__bytes_that_are_not_utf8_are_counted_and_spans_stay(void **state)
{
    struct outcome out = summarize((struct wanted){.replace_invalid = true},
                                   "a\xff\xe2\x82 b\xc3", 7, 1, 5);
    assert_int_equal(out.replaced, 3);
    assert_memory_equal(stage.rendered[stage.n_rendered - 1].bytes,
                        "a\xef\xbf\xbd\xef\xbf\xbd b\xef\xbf\xbd", 12);
    stage_close();
}

static void test_summarize__whole_is_what_leaves_the_reserve_and_not_a_token_more(void **state)
{
    summarize(defaults, "four", 4, 4, 5);
    size_t n_words = stage.submits[0]->n_ids - 1; /* around a text of one token */
    stage_close();

    size_t n_fit = stage.service.model.max_context - SUMMARY_RESERVE_TOKENS - n_words;
    memset(document, 'a', sizeof document);
    for (size_t i = 40; i < sizeof document; i += 40)
        document[i] = ' ';
    assert_int_equal(summarize(defaults, document, 4 * n_fit, 4096, 5).n_levels, 0);
    assert_int_equal(stage.submits[0]->n_ids + SUMMARY_RESERVE_TOKENS,
                     stage.service.model.max_context);
    stage_close();
    assert_int_equal(summarize(defaults, document, 4 * (n_fit + 1), 4096, 5).n_levels, 1);
    stage_close();
}

static void test_summarize__nul_is_text_like_any_other(void **state)
{
    summarize(defaults, "a\0b\0", 4, 1, 5);
    assert_memory_equal(stage.rendered[stage.n_rendered - 1].bytes, "a\0b\0", 4);
    stage_close();
}

static void test_summarize__an_instruction_stands_in_every_prompt(void **state)
{
    size_t len = write_document(8000, true);
    summarize((struct wanted){.section_tokens = 500, .instruction = "Name the colours."}, document,
              len, 4096, 20);
    for (size_t i = 0; i < stage.n_rendered; i++)
        assert_non_null(memmem(stage.rendered[i].bytes, stage.rendered[i].len,
                               "Name the colours.", 17));
    stage_close();
}

static void test_summarize__prompts_come_to_the_engine_under_their_names(void **state)
{
    size_t len = write_document(8000, true);
    summarize((struct wanted){.section_tokens = 500, .cache_salt = "mine"}, document, len, 4096,
              20);
    assert_true(stage.n_submits > 4); /* sections, and what joins them */
    for (size_t i = 0; i < stage.n_submits; i++) {
        const struct cache_salt *salt = &stage.submits[i]->salt;
        assert_true(stage.submits[i]->has_page_keys);
        assert_true(salt->n == 4 && memcmp(salt->bytes, "mine", 4) == 0);
    }
    assert_true(stage.named_by.n == 4 && memcmp(stage.named_by.bytes, "mine", 4) == 0);
    stage_close();
}

/* done of the last SECTIONS progress */
static uint64_t sections_done(void)
{
    uint64_t done = 0;
    for (size_t i = 0; i < stage.n_sent; i++) {
        Quire__V1__SummarizeEvent *event = quire__v1__summarize_event__unpack(
            NULL, stage.sent[i].len, stage.sent[i].bytes);
        if (event->event_case == QUIRE__V1__SUMMARIZE_EVENT__EVENT_PROGRESS &&
            event->progress->phase == QUIRE__V1__PHASE__PHASE_SECTIONS)
            done = event->progress->done;
        quire__v1__summarize_event__free_unpacked(event, NULL);
    }
    return done;
}

static void test_summarize__progress_of_sections_goes_on_while_they_are_written(void **state)
{
    size_t len = write_document(3000, true);
    open_call((struct wanted){.section_tokens = 200, .section_max_tokens = 40});
    upload_document(document, len, 1000);
    const struct submit *submit = stage.submits[0];
    stage_tell(&(struct event){.kind = EVENT_ACCEPTED, .tag = submit->tag,
                               .accepted = {.n_prompt = submit->n_ids}});
    usleep(SUMMARY_PROGRESS_NS / 1000);
    stage_tell(&(struct event){.kind = EVENT_PROGRESS, .tag = submit->tag,
                               .progress = {.phase = RUN_PREFILL, .n_done = submit->n_ids,
                                            .n_total = submit->n_ids}});
    uint64_t n_read = sections_done();
    assert_true(n_read > 0);
    for (int i = 0; i < 20; i++)
        stage_tell(stage_delta(submit->tag, "word "));
    usleep(SUMMARY_PROGRESS_NS / 1000);
    stage_tell(stage_delta(submit->tag, "word "));
    assert_true(sections_done() > n_read);
    stage_close();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_summarize__progress_of_sections_goes_on_while_they_are_written),
        cmocka_unit_test(test_summarize__a_document_that_fits_is_read_whole),
        cmocka_unit_test(test_summarize__the_document_stands_in_the_prompts_unchanged),
        cmocka_unit_test(test_summarize__pieces_and_order_change_nothing),
        cmocka_unit_test(test_summarize__without_section_tokens_sections_are_as_large_as_fit),
        cmocka_unit_test(test_summarize__summaries_of_summaries_until_they_fit_one_prompt),
        cmocka_unit_test(test_summarize__a_few_runs_at_once_and_a_window_of_text),
        cmocka_unit_test(test_summarize__bytes_that_are_not_utf8_are_counted_and_spans_stay),
        cmocka_unit_test(test_summarize__whole_is_what_leaves_the_reserve_and_not_a_token_more),
        cmocka_unit_test(test_summarize__nul_is_text_like_any_other),
        cmocka_unit_test(test_summarize__prompts_come_to_the_engine_under_their_names),
        cmocka_unit_test(test_summarize__an_instruction_stands_in_every_prompt),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
