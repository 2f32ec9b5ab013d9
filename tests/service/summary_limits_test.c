/* How deep summaries of summaries may go: SUMMARY_LEVELS_MAX levels are summarized, one more is
 * refused. */
#include "tests/service/summarize_stage.h"

/* Two summaries fill a prompt, so that each level has half of the sections of the one below. */
#define SUMMARY_WORDS 600

static void answer_at_length(void)
{
    static char text[4 * SUMMARY_WORDS + 1];
    for (int i = 0; i < SUMMARY_WORDS; i++)
        memcpy(text + 4 * i, "abc ", 4);
    while (!stage.is_finished && at_submit < stage.n_submits) {
        const struct submit *submit = stage.submits[at_submit++];
        stage_tell(&(struct event){.kind = EVENT_ACCEPTED, .tag = submit->tag,
                                   .accepted = {.n_prompt = submit->n_ids}});
        stage_tell(stage_delta(submit->tag, text));
        stage.n_open--;
        stage_tell(&(struct event){.kind = EVENT_FINISHED, .tag = submit->tag,
                                   .finished = {.reason = FINISH_STOP, .stop_idx = -1}});
        stage_work();
    }
    assert_true(stage.is_finished);
}

/* The status of a summary of so many sections of 16 tokens; *n_levels when it was made. */
static int summarize_sections(uint32_t n_sections, uint32_t *n_levels)
{
    size_t len = (size_t)n_sections * 4 * SECTION_TOKENS_MIN;
    memset(document, 'a', len);
    struct wanted wanted = defaults;
    wanted.section_tokens = SECTION_TOKENS_MIN;
    wanted.section_max_tokens = SUMMARY_WORDS;
    at_submit = 0;
    open_call(wanted);
    upload_document(document, len, 4096);
    answer_at_length();
    int status = stage.finish_status;
    if (status == STATUS_OK) {
        struct outcome out = read_outcome();
        assert_int_equal(out.n_sections, n_sections);
        *n_levels = out.n_levels;
    }
    stage_close();
    return status;
}

static void test_summary_limits__as_many_levels_are_summarized_and_one_more_is_refused(void **state)
{
    uint32_t n_levels = 0;

#ifdef __SANITIZE_THREAD__
    print_message("skipped: one thread, and minutes under TSan; the other builds run it\n");
    skip();
#endif
    assert_int_equal(summarize_sections(1u << SUMMARY_LEVELS_MAX, &n_levels), STATUS_OK);
    assert_int_equal(n_levels, SUMMARY_LEVELS_MAX);
    assert_int_equal(summarize_sections((1u << SUMMARY_LEVELS_MAX) + 1, &n_levels),
                     STATUS_TOO_LARGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(
            test_summary_limits__as_many_levels_are_summarized_and_one_more_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
