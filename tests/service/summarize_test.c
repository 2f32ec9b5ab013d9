/* Summarize without a model: what covers what, what runs at once, what is held, and how it ends. */
#include "tests/service/handler_stage.h"

#include "google/rpc/details.pb-c.h"
#include "service/summarize.h"

#include "base/hash.h"

#define TEXT_OPTIONS QUIRE__V1__SUMMARIZE_REQUEST__PART_TEXT

static struct wanted {
    uint32_t section_tokens, section_max_tokens, max_tokens;
    uint64_t total_bytes;
    const char *instruction;
} defaults;

static void upload_options(struct wanted wanted)
{
    Quire__V1__SummarizeRequest request = QUIRE__V1__SUMMARIZE_REQUEST__INIT;
    Quire__V1__SummarizeOptions options = QUIRE__V1__SUMMARIZE_OPTIONS__INIT;
    Quire__V1__Sampling sampling = QUIRE__V1__SAMPLING__INIT;
    request.part_case = QUIRE__V1__SUMMARIZE_REQUEST__PART_OPTIONS;
    request.options = &options;
    options.sampling = &sampling;
    sampling.opt_seed_case = QUIRE__V1__SAMPLING__OPT_SEED_SEED;
    sampling.seed = 7;
    if (wanted.section_tokens > 0) {
        options.opt_section_tokens_case =
            QUIRE__V1__SUMMARIZE_OPTIONS__OPT_SECTION_TOKENS_SECTION_TOKENS;
        options.section_tokens = wanted.section_tokens;
    }
    if (wanted.section_max_tokens > 0) {
        options.opt_section_max_tokens_case =
            QUIRE__V1__SUMMARIZE_OPTIONS__OPT_SECTION_MAX_TOKENS_SECTION_MAX_TOKENS;
        options.section_max_tokens = wanted.section_max_tokens;
    }
    if (wanted.max_tokens > 0) {
        options.opt_max_tokens_case = QUIRE__V1__SUMMARIZE_OPTIONS__OPT_MAX_TOKENS_MAX_TOKENS;
        options.max_tokens = wanted.max_tokens;
    }
    if (wanted.total_bytes > 0) {
        options.opt_total_bytes_case = QUIRE__V1__SUMMARIZE_OPTIONS__OPT_TOTAL_BYTES_TOTAL_BYTES;
        options.total_bytes = wanted.total_bytes;
    }
    if (wanted.instruction != NULL) {
        options.opt_instruction_case = QUIRE__V1__SUMMARIZE_OPTIONS__OPT_INSTRUCTION_INSTRUCTION;
        options.instruction = (ProtobufCBinaryData){strlen(wanted.instruction),
                                                    (uint8_t *)wanted.instruction};
    }
    stage_upload(&request.base);
}

static void upload_text(const void *bytes, size_t len)
{
    Quire__V1__SummarizeRequest request = QUIRE__V1__SUMMARIZE_REQUEST__INIT;
    request.part_case = TEXT_OPTIONS;
    request.text = (ProtobufCBinaryData){len, (uint8_t *)bytes};
    stage_upload(&request.base);
}

static void open_call(struct wanted wanted)
{
    stage_open(&summarize_handler, summarize_state_bytes());
    upload_options(wanted);
}

/* The whole upload, in pieces. */
static void upload_document(const char *text, size_t len, size_t piece)
{
    for (size_t at = 0; at < len; at += piece)
        upload_text(text + at, len - at < piece ? len - at : piece);
    stage.upload_ends = true;
    stage_pump();
    stage_work();
}

/* --- the engine's answers --- */

static size_t at_submit; /* the next run to answer */

/* An answer that depends on the prompt alone: n_words words. */
static void answer(const struct submit *submit, uint32_t n_words)
{
    uint64_t mark = hash64(submit->ids, submit->n_ids * sizeof *submit->ids, 0);
    char word[32];
    stage_tell(&(struct event){.kind = EVENT_ACCEPTED, .tag = submit->tag,
                               .accepted = {.n_prompt = submit->n_ids}});
    stage_tell(&(struct event){.kind = EVENT_PROGRESS, .tag = submit->tag,
                               .progress = {.phase = RUN_PREFILL, .n_done = submit->n_ids,
                                            .n_total = submit->n_ids}});
    for (uint32_t i = 0; i < n_words; i++) {
        snprintf(word, sizeof word, "%03llx ", (unsigned long long)(mark >> i % 48 & 0xfff));
        stage_tell(stage_delta(submit->tag, word));
    }
    stage.n_open--;
    stage_tell(&(struct event){.kind = EVENT_FINISHED, .tag = submit->tag,
                               .finished = {.reason = FINISH_STOP, .stop_idx = -1}});
    stage_work();
}

static uint32_t turn;

/* Answers all runs, in an order that `turn` stirs. */
static void answer_all(uint32_t n_words)
{
    while (!stage.is_finished && at_submit < stage.n_submits) {
        size_t n = stage.n_submits - at_submit;
        turn = turn * 1664525u + 1013904223u;
        size_t chosen = at_submit + (turn >> 16) % n;
        struct submit *submit = stage.submits[chosen];
        stage.submits[chosen] = stage.submits[at_submit];
        stage.submits[at_submit] = submit;
        at_submit++;
        answer(submit, n_words);
    }
    assert_true(stage.is_finished);
}

/* --- what the peer got --- */

struct outcome {
    uint64_t hash; /* of all sections and the answer, independent of interleaving */
    uint32_t n_sections, n_levels;
    uint64_t covered, total, replaced;
    size_t n_answer;
};

#define SECTIONS_MAX 4096

static struct section {
    uint64_t begin, end, hash;
    bool is_last;
} sections[SUMMARY_LEVELS_MAX][SECTIONS_MAX];
static uint32_t n_seen[SUMMARY_LEVELS_MAX];

static void take_section(const Quire__V1__SectionDelta *delta)
{
    assert_true(delta->level < SUMMARY_LEVELS_MAX && delta->index < SECTIONS_MAX);
    struct section *section = &sections[delta->level][delta->index];
    if (delta->index >= n_seen[delta->level])
        n_seen[delta->level] = delta->index + 1;
    assert_false(section->is_last);
    assert_true(section->end == 0 || section->end == delta->end);
    section->begin = delta->begin;
    section->end = delta->end;
    section->is_last = delta->last;
    for (size_t i = 0; i < delta->text.len; i++)
        section->hash = hash64(delta->text.data + i, 1, section->hash);
}

static struct outcome read_outcome(void)
{
    struct outcome out = {.hash = 0};
    memset(sections, 0, sizeof sections);
    memset(n_seen, 0, sizeof n_seen);
    for (size_t i = 0; i < stage.n_sent; i++) {
        Quire__V1__SummarizeEvent *event = quire__v1__summarize_event__unpack(
            NULL, stage.sent[i].len, stage.sent[i].bytes);
        assert_non_null(event);
        assert_int_equal(event->event_case == QUIRE__V1__SUMMARIZE_EVENT__EVENT_ACCEPTED, i == 0);
        assert_int_equal(event->event_case == QUIRE__V1__SUMMARIZE_EVENT__EVENT_FINISHED,
                         i + 1 == stage.n_sent);
        if (event->event_case == QUIRE__V1__SUMMARIZE_EVENT__EVENT_SECTION)
            take_section(event->section);
        if (event->event_case == QUIRE__V1__SUMMARIZE_EVENT__EVENT_DELTA) {
            out.n_answer += event->delta->text.len;
            for (size_t b = 0; b < event->delta->text.len; b++)
                out.hash = hash64(event->delta->text.data + b, 1, out.hash);
        }
        if (event->event_case == QUIRE__V1__SUMMARIZE_EVENT__EVENT_FINISHED) {
            out.n_sections = event->finished->sections;
            out.n_levels = event->finished->levels;
            out.covered = event->finished->covered_bytes;
            out.total = event->finished->total_bytes;
            out.replaced = event->finished->replaced_bytes;
        }
        quire__v1__summarize_event__free_unpacked(event, NULL);
    }
    /* no gap, no overlap, at any level; what a level leaves to the final prompt is its tail */
    for (uint32_t level = 0; level < SUMMARY_LEVELS_MAX; level++)
        for (uint32_t i = 0; i < n_seen[level]; i++) {
            const struct section *section = &sections[level][i];
            assert_true(section->is_last && section->begin < section->end);
            assert_int_equal(section->begin, i == 0 ? 0 : sections[level][i - 1].end);
            out.hash = hash64(section, sizeof *section, out.hash);
        }
    return out;
}

static struct outcome summarize(struct wanted wanted, const char *text, size_t len, size_t piece,
                                uint32_t n_words)
{
    at_submit = 0;
    open_call(wanted);
    upload_document(text, len, piece);
    answer_all(n_words);
    assert_int_equal(stage.finish_status, STATUS_OK);
    struct outcome out = read_outcome();
    assert_int_equal(out.covered, len);
    assert_int_equal(out.total, len);
    return out;
}

static char document[400000];

/* Paragraphs of sentences, with a few bytes that are not UTF-8. */
static size_t write_document(size_t len, bool is_clean)
{
    uint32_t n = 12345;
    for (size_t i = 0; i < len; i++) {
        n = n * 1664525u + 1013904223u;
        uint32_t draw = n >> 20;
        document[i] = draw % 7 == 0     ? ' '
                      : draw % 61 == 0  ? '.'
                      : draw % 151 == 0 ? '\n'
                      : draw % 401 == 0 && !is_clean ? '\xe2'
                                                     : (char)('a' + draw % 26);
    }
    return len;
}

/* --- tests --- */

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
            summarize((struct wanted){.section_tokens = 200}, document, len, pieces[i], 40);
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
    struct outcome out = summarize(defaults, "a\xff\xe2\x82 b\xc3", 7, 1, 5);
    assert_int_equal(out.replaced, 3);
    assert_memory_equal(stage.rendered[stage.n_rendered - 1].bytes,
                        "a\xef\xbf\xbd\xef\xbf\xbd b\xef\xbf\xbd", 12);
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

static void test_summarize__a_cancel_cancels_all_runs_and_gives_everything_back(void **state)
{
    size_t len = write_document(100000, true);
    at_submit = 0;
    open_call((struct wanted){.section_tokens = 200});
    upload_document(document, len, 2000);
    answer(stage.submits[at_submit++], 10);
    call_cancel(&stage.call, true);
    assert_int_equal(stage.n_cancels, 1);
    assert_int_equal(stage.cancel_tag, TAG_ALL);
    stage_close(); /* leaks are the sanitizer's to see */
}

static void test_summarize__a_cancel_while_text_is_with_a_worker_finds_nobody(void **state)
{
    open_call(defaults);
    upload_text("text", 4);
    stage_pump();
    call_cancel(&stage.call, true);
    stage_work();
    assert_int_equal(stage.n_submits, 0);
    stage_close();
}

static void test_summarize__a_reader_that_takes_nothing_is_owed_the_credit(void **state)
{
    at_submit = 0;
    open_call(defaults);
    upload_document("A text.", 7, 7);
    uint32_t tag = stage.submits[0]->tag;
    stage_tell(&(struct event){.kind = EVENT_ACCEPTED, .tag = tag, .accepted = {.n_prompt = 3}});
    stage_tell(stage_delta(tag, "one "));
    assert_int_equal(stage.credit[tag], 1);
    stage.unsent_bytes = OUT_BUFFER_MARK_BYTES + 1;
    stage_tell(stage_delta(tag, "two "));
    stage_tell(stage_delta(tag, "three "));
    assert_int_equal(stage.credit[tag], 1);
    stage.unsent_bytes = 0;
    summarize_handler.on_drain(&stage.call);
    assert_int_equal(stage.credit[tag], 3);
    stage_close();
}

/* --- refusals --- */

static void refused(int status, const char *part)
{
    assert_true(stage.is_finished);
    assert_int_equal(stage.finish_status, status);
    if (strstr(stage.finish_text, part) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", stage.finish_text, part);
    assert_true(stage.details_bytes > 0);
    stage_close();
}

static void test_summarize__options_come_first_and_once(void **state)
{
    stage_open(&summarize_handler, summarize_state_bytes());
    upload_text("text", 4);
    stage_pump();
    refused(STATUS_INVALID, "options first");

    open_call(defaults);
    upload_options(defaults);
    stage_pump();
    stage_work();
    refused(STATUS_INVALID, "options came twice");

    stage_open(&summarize_handler, summarize_state_bytes());
    stage.upload_ends = true;
    stage_pump();
    refused(STATUS_INVALID, "nothing was sent");
}

static void test_summarize__an_empty_document_is_refused_before_anything_is_sent(void **state)
{
    open_call(defaults);
    upload_document("", 0, 1);
    assert_int_equal(stage.n_sent, 0);
    refused(STATUS_INVALID, "empty");
}

static void test_summarize__a_size_over_the_limit_is_refused_at_once(void **state)
{
    open_call((struct wanted){.total_bytes = (uint64_t)DOCUMENT_BYTES_MAX + 1});
    stage_pump();
    refused(STATUS_TOO_LARGE, "268435457");

    open_call((struct wanted){.total_bytes = DOCUMENT_BYTES_MAX});
    stage_pump();
    stage_work();
    assert_false(stage.is_finished);
    stage_close();
}

static void test_summarize__ranges_are_told(void **state)
{
    open_call((struct wanted){.section_tokens = SECTION_TOKENS_MIN - 1});
    stage_pump();
    refused(STATUS_INVALID, "section_tokens is 15");

    open_call((struct wanted){.max_tokens = 2000});
    upload_document("text", 4, 4);
    refused(STATUS_INVALID, "fewer max_tokens");

    size_t len = write_document(9000, true);
    open_call((struct wanted){.section_tokens = 100, .section_max_tokens = 800});
    upload_document(document, len, 4000);
    refused(STATUS_INVALID, "now 800");
}

static void refuse_run(uint32_t tag, int status)
{
    struct event event = {.kind = EVENT_REFUSED, .tag = tag};
    event.refused = (struct event_refused){
        .status = status, .numbers = {300, 256}, .unit = "sequences", .setting = "--max-queued"};
    snprintf(event.refused.text, sizeof event.refused.text, "300 of 256 sequences wait");
    stage.n_open--;
    stage_tell(&event);
}

static void test_summarize__a_full_queue_is_told_at_once_at_the_beginning(void **state)
{
    open_call(defaults);
    upload_document("A text.", 7, 7);
    refuse_run(stage.submits[0]->tag, STATUS_EXHAUSTED);
    Google__Rpc__Status *details =
        google__rpc__status__unpack(NULL, stage.details_bytes, stage.details);
    assert_non_null(details);
    assert_int_equal(details->code, 8);
    google__rpc__status__free_unpacked(details, NULL);
    refused(STATUS_EXHAUSTED, "300 of 256");
}

static void test_summarize__a_full_queue_in_the_middle_is_waited_for(void **state)
{
    size_t len = write_document(8000, true);
    at_submit = 0;
    open_call((struct wanted){.section_tokens = 200});
    upload_document(document, len, 2000);
    answer(stage.submits[at_submit++], 10);
    size_t n_before = stage.n_submits;
    refuse_run(stage.submits[at_submit++]->tag, STATUS_EXHAUSTED);
    assert_false(stage.is_finished);
    assert_int_equal(stage.n_submits, n_before);
    timers_run(&stage.timers, timers_next_ns(&stage.timers));
    assert_int_equal(stage.n_submits, n_before + 1);
    answer_all(10);
    struct outcome out = read_outcome();
    assert_int_equal(out.covered, len);
    stage_close();
}

static void test_summarize__a_full_ring_is_waited_for(void **state)
{
    at_submit = 0;
    open_call(defaults);
    stage.ring_is_full = true;
    upload_document("A text.", 7, 7);
    assert_int_equal(stage.n_submits, 0);
    timers_run(&stage.timers, timers_next_ns(&stage.timers));
    stage.ring_is_full = false;
    timers_run(&stage.timers, timers_next_ns(&stage.timers));
    assert_int_equal(stage.n_submits, 1);
    answer_all(3);
    assert_int_equal(read_outcome().covered, 7);
    stage_close();
}

static void test_summarize__a_run_that_fails_ends_the_call_and_the_other_runs(void **state)
{
    size_t len = write_document(100000, true);
    open_call((struct wanted){.section_tokens = 200});
    upload_document(document, len, 2000);
    refuse_run(stage.submits[1]->tag, STATUS_UNAVAILABLE);
    assert_int_equal(stage.n_cancels, 1);
    refused(STATUS_UNAVAILABLE, "300 of 256");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_summarize__a_document_that_fits_is_read_whole),
        cmocka_unit_test(test_summarize__the_document_stands_in_the_prompts_unchanged),
        cmocka_unit_test(test_summarize__pieces_and_order_change_nothing),
        cmocka_unit_test(test_summarize__without_section_tokens_sections_are_as_large_as_fit),
        cmocka_unit_test(test_summarize__summaries_of_summaries_until_they_fit_one_prompt),
        cmocka_unit_test(test_summarize__a_few_runs_at_once_and_a_window_of_text),
        cmocka_unit_test(test_summarize__bytes_that_are_not_utf8_are_counted_and_spans_stay),
        cmocka_unit_test(test_summarize__an_instruction_stands_in_every_prompt),
        cmocka_unit_test(test_summarize__a_cancel_cancels_all_runs_and_gives_everything_back),
        cmocka_unit_test(test_summarize__a_cancel_while_text_is_with_a_worker_finds_nobody),
        cmocka_unit_test(test_summarize__a_reader_that_takes_nothing_is_owed_the_credit),
        cmocka_unit_test(test_summarize__options_come_first_and_once),
        cmocka_unit_test(test_summarize__an_empty_document_is_refused_before_anything_is_sent),
        cmocka_unit_test(test_summarize__a_size_over_the_limit_is_refused_at_once),
        cmocka_unit_test(test_summarize__ranges_are_told),
        cmocka_unit_test(test_summarize__a_full_queue_is_told_at_once_at_the_beginning),
        cmocka_unit_test(test_summarize__a_full_queue_in_the_middle_is_waited_for),
        cmocka_unit_test(test_summarize__a_full_ring_is_waited_for),
        cmocka_unit_test(test_summarize__a_run_that_fails_ends_the_call_and_the_other_runs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
