/* tests/service/summarize_stage.h: a Summarize call on the stage of handler_stage.h: its upload, an
 * engine that answers each prompt with words that depend on the prompt alone, and what the peer got
 * of it. Header only, as that one.
 */
#ifndef QUIRE_TESTS_SUMMARIZE_STAGE_H
#define QUIRE_TESTS_SUMMARIZE_STAGE_H

#include "tests/service/handler_stage.h"

#include "service/summarize.h"

#include "base/hash.h"

#define TEXT_OPTIONS QUIRE__V1__SUMMARIZE_REQUEST__PART_TEXT

static struct wanted {
    uint32_t section_tokens, section_max_tokens, max_tokens;
    uint64_t total_bytes;
    bool replace_invalid;
    const char *instruction, *cache_salt;
} defaults;

static inline void upload_options(struct wanted wanted)
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
    options.replace_invalid = wanted.replace_invalid;
    if (wanted.cache_salt != NULL)
        options.cache_salt = (ProtobufCBinaryData){strlen(wanted.cache_salt),
                                                   (uint8_t *)wanted.cache_salt};
    if (wanted.instruction != NULL) {
        options.opt_instruction_case = QUIRE__V1__SUMMARIZE_OPTIONS__OPT_INSTRUCTION_INSTRUCTION;
        options.instruction = (ProtobufCBinaryData){strlen(wanted.instruction),
                                                    (uint8_t *)wanted.instruction};
    }
    stage_upload(&request.base);
}

static inline void upload_text(const void *bytes, size_t len)
{
    Quire__V1__SummarizeRequest request = QUIRE__V1__SUMMARIZE_REQUEST__INIT;
    request.part_case = TEXT_OPTIONS;
    request.text = (ProtobufCBinaryData){len, (uint8_t *)bytes};
    stage_upload(&request.base);
}

static inline void open_call(struct wanted wanted)
{
    stage_open(&summarize_handler, summarize_state_bytes());
    upload_options(wanted);
}

/* The whole upload, in pieces. */
static inline void upload_document(const char *text, size_t len, size_t piece)
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
static inline void answer(const struct submit *submit, uint32_t n_words)
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
static inline void answer_all(uint32_t n_words)
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

static inline struct outcome read_outcome(void)
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

static inline struct outcome summarize(struct wanted wanted, const char *text, size_t len,
                                       size_t piece, uint32_t n_words)
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
static inline size_t write_document(size_t len, bool is_clean)
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

#endif
