#include "service/summary_work.h"

#include "base/utf8.h"
#include "service/sections.h"
#include "service/server.h"
#include "service/service.h"

#include <stdlib.h>
#include <string.h>

#define NO_UTF8_BYTE 0xFF
/* A text that stands between other words may take a few tokens more or less than alone. */
#define BORDER_TOKENS 16
/* A rest of up to 4/3 sections becomes two of about a half, not one and a stump. */
#define is_stumpy(n, limit) ((n) * 3 <= (uint64_t)(limit) * 4)

/* --- the plan --- */

static uint32_t reserve_for(uint32_t n_context, uint32_t n_answer)
{
    uint32_t n = n_context / 4 < SUMMARY_RESERVE_TOKENS ? n_context / 4 : SUMMARY_RESERVE_TOKENS;
    return n > n_answer ? n : n_answer;
}

struct summary_plan *summary_plan_create(const struct engine *engine,
                                         const struct engine_model_info *model,
                                         const struct wire_summary_options *options)
{
    struct summary_plan *plan = malloc(sizeof *plan + options->instruction.len);
    if (plan == NULL)
        return NULL;
    *plan = (struct summary_plan){
        .n_owners = 1,
        .engine = engine,
        .has_chat = model->chat_format[0] != '\0',
        .salt = options->cache_salt,
        .n_context = model->max_context,
        .max_tokens = options->max_tokens,
        .section_max_tokens = options->section_max_tokens,
        .section_tokens_asked = options->section_tokens,
        .replaces_invalid = options->replaces_invalid,
        .n_reserve = reserve_for(model->max_context, options->max_tokens),
        .instruction_bytes = options->instruction.len,
    };
    if (plan->instruction_bytes > 0)
        memcpy(plan->instruction, options->instruction.bytes, plan->instruction_bytes);
    return plan;
}

void summary_plan_drop(struct summary_plan *plan)
{
    if (plan != NULL && --plan->n_owners == 0)
        free(plan);
}

static int render(const struct summary_plan *plan, struct slice text, size_t n_max,
                  uint32_t **ids, size_t *n, struct why *why)
{
    return summary_prompt_render(plan->engine, plan->has_chat,
                                 slice_of(plan->instruction, plan->instruction_bytes), text, n_max,
                                 ids, n, why);
}

/* Tokens that the context has for text, beside the words around it and room for the answer. */
static int room_for(const struct summary_plan *plan, uint32_t n_answer, uint32_t *out,
                    struct why *why)
{
    uint32_t n_reserve = reserve_for(plan->n_context, n_answer);
    uint32_t *ids = NULL;
    size_t n = 0;

    /* as many tokens as there may be: a refusal tells how many */
    int status = render(plan, slice_of(NULL, 0), plan->n_context + plan->instruction_bytes, &ids,
                        &n, why);
    free(ids);
    if (status < 0 && status != STATUS_TOO_LARGE)
        return status;
    if (status < 0)
        n = plan->n_context;
    uint64_t n_spent = (uint64_t)n + n_reserve + BORDER_TOKENS;
    if (n_spent + SECTION_TOKENS_MIN > plan->n_context)
        return refuse_numbers(
            why, STATUS_INVALID,
            (struct why_numbers){(double)(n_spent + SECTION_TOKENS_MIN), plan->n_context, "tokens",
                                 NULL},
            "of the context's %u tokens the instruction and the prompt take %zu and the "
            "answer %u: no room is left for text; give a shorter instruction or fewer "
            "%s",
            plan->n_context, n, n_reserve,
            n_answer == plan->section_max_tokens ? "section_max_tokens" : "max_tokens");
    *out = plan->n_context - (uint32_t)n_spent;
    return STATUS_OK;
}

static void run_plan(struct summary_work *work)
{
    struct summary_plan *plan = work->plan;
    uint32_t n_whole = 0;

    work->status = room_for(plan, plan->max_tokens, &n_whole, &work->why);
    if (work->status == STATUS_OK)
        work->status = room_for(plan, plan->section_max_tokens, &plan->n_section, &work->why);
    plan->n_join = n_whole < plan->n_section ? n_whole : plan->n_section;
    if (plan->section_tokens_asked == 0)
        plan->n_whole = n_whole + 2 * BORDER_TOKENS;
    else if (plan->section_tokens_asked < plan->n_section)
        plan->n_section = plan->section_tokens_asked;
}

/* --- cutting --- */

struct window {
    struct slice repaired;
    uint8_t *bytes;
    struct token_span *spans;
    size_t n;
};

static int read_window(struct summary_work *work, struct window *out)
{
    uint32_t *ids = NULL;
    out->bytes = malloc(3 * work->len + 1);
    if (out->bytes == NULL)
        return refuse(&work->why, STATUS_NO_MEMORY, "no memory to cut %zu bytes", work->len);
    out->repaired = slice_of(out->bytes, utf8_repair(work->text, work->len, out->bytes, NULL));
    int status = engine_tokenize(work->plan->engine, out->repaired, 0, false, out->repaired.len,
                                 &ids, &out->spans, &out->n, &work->why);
    free(ids);
    return status;
}

/* The first byte that no token says, or len. */
static size_t find_unsayable(const struct summary_work *work)
{
    size_t at = 0;
    while (at < work->len && engine_says_byte(work->plan->engine, work->text[at]))
        at++;
    return at;
}

/* Bytes that no token says become bytes that are no UTF-8, and are read as those are. */
static void spoil_unsayable(struct summary_work *work)
{
    for (size_t at = 0; at < work->len; at++)
        if (!engine_says_byte(work->plan->engine, work->text[at]))
            work->text[at] = NO_UTF8_BYTE;
}

/* A window may end inside a character, the document may not. */
static int check_window(struct summary_work *work)
{
    size_t len = work->at_end ? work->len : utf8_complete_len(work->text, work->len);
    size_t at;
    if (work->plan->replaces_invalid) {
        spoil_unsayable(work);
        return STATUS_OK;
    }
    if (utf8_is_valid(work->text, len, &at)) {
        at = find_unsayable(work);
        if (at == work->len)
            return STATUS_OK;
        return refuse(&work->why, STATUS_INVALID,
                      "the document holds the byte 0x%02X at byte %llu, which no token of this "
                      "model says: leave its character out, or set replace_invalid to read it as "
                      "U+FFFD",
                      work->text[at], (unsigned long long)work->begin + at);
    }
    return refuse(&work->why, STATUS_INVALID,
                  "the document is not UTF-8 at byte %llu: convert it, or set replace_invalid to "
                  "read such bytes as U+FFFD",
                  (unsigned long long)work->begin + at);
}

/* The prompt of the first n_cut bytes; *n_excess: tokens that it takes from the answer's room. */
static int render_cut(struct summary_work *work, const struct window *window, uint32_t n_answer,
                      size_t *n_excess)
{
    uint8_t *text = malloc(3 * work->n_cut + 1);
    if (text == NULL)
        return refuse(&work->why, STATUS_NO_MEMORY, "no memory for a section of %zu bytes",
                      work->n_cut);
    size_t len = utf8_repair(work->text, work->n_cut, text, &work->n_replaced);
    free(work->ids);
    work->ids = NULL;
    int status = render(work->plan, slice_of(text, len), (size_t)work->plan->n_context + window->n,
                        &work->ids, &work->n_ids, &work->why);
    free(text);
    work->n_tokens = 0;
    while (work->n_tokens < window->n && window->spans[work->n_tokens].begin < len)
        work->n_tokens++;
    *n_excess = 0;
    if (status == STATUS_OK && work->n_ids + n_answer > work->plan->n_context)
        *n_excess = work->n_ids + n_answer - work->plan->n_context;
    return status;
}

/* The largest section that fits, at the best place to cut. */
static int cut_section(struct summary_work *work, const struct window *window)
{
    const struct summary_plan *plan = work->plan;
    struct slice text = slice_of(work->text, work->len);
    size_t n_limit = plan->n_section;
    size_t n_excess = 0;

    work->kind = SUMMARY_SECTION;
    if (window->n > n_limit && work->at_end && is_stumpy(window->n, n_limit))
        n_limit = window->n * 5 / 8;
    for (;;) {
        work->n_cut = window->n <= n_limit
                          ? work->len
                          : sections_cut(text, sections_unrepaired(text,
                                                                   window->spans[n_limit].begin));
        int status = render_cut(work, window, plan->section_max_tokens, &n_excess);
        if (status < 0 || n_excess == 0)
            return status;
        if (n_limit > window->n)
            n_limit = window->n;
        if (n_limit <= n_excess)
            return refuse(&work->why, STATUS_OUT_OF_RANGE,
                          "a section of %zu tokens does not fit the context of %u tokens",
                          n_limit, plan->n_context);
        n_limit -= n_excess;
    }
}

static void run_cut(struct summary_work *work)
{
    const struct summary_plan *plan = work->plan;
    struct window window = {.bytes = NULL};
    bool may_be_whole = work->begin == 0 && plan->n_whole > 0;
    size_t n_enough =
        may_be_whole && plan->n_whole > plan->n_section ? plan->n_whole : plan->n_section;
    size_t n_excess = 1;

    work->status = check_window(work);
    if (work->status < 0)
        return;
    work->status = read_window(work, &window);
    if (work->status == STATUS_OK && window.n <= n_enough && !work->at_end) {
        work->outcome = SUMMARY_MORE;
    } else if (work->status == STATUS_OK) {
        if (may_be_whole && window.n <= plan->n_whole) {
            work->kind = SUMMARY_WHOLE;
            work->n_cut = work->len;
            work->status = render_cut(work, &window, plan->n_reserve, &n_excess);
        }
        if (work->status == STATUS_OK && n_excess > 0)
            work->status = cut_section(work, &window);
    }
    if (work->status < 0)
        refuse_prefix(&work->why, work->status, "in the document from byte %llu",
                      (unsigned long long)work->begin);
    free(window.bytes);
    free(window.spans);
}

/* --- joining --- */

static void run_join(struct summary_work *work)
{
    const struct summary_plan *plan = work->plan;
    uint32_t n_answer = work->kind == SUMMARY_FINAL ? plan->max_tokens : plan->section_max_tokens;

    work->status = render(plan, slice_of(work->text, work->len), plan->n_context, &work->ids,
                          &work->n_ids, &work->why);
    if (work->status == STATUS_TOO_LARGE ||
        (work->status == STATUS_OK && work->n_ids + n_answer > plan->n_context)) {
        work->is_beyond = work->status == STATUS_TOO_LARGE;
        work->status = STATUS_OK;
        work->outcome = SUMMARY_TOO_LONG;
    }
}

/* The prompt under its names: where nobody waits for the thread that makes them. */
static void name_prompt(struct summary_work *work)
{
    if (work->status < 0 || work->outcome != SUMMARY_DONE || work->ids == NULL)
        return;
    work->submit = submit_create((uint32_t)work->n_ids);
    if (work->submit == NULL)
        return;
    memcpy(work->submit->ids, work->ids, work->n_ids * sizeof *work->ids);
    work->submit->salt = work->plan->salt;
    engine_name_prompt(work->plan->engine, work->submit);
}

/* --- life --- */

struct summary_work *summary_work_create(struct call *call, enum summary_task task,
                                         struct summary_plan *plan)
{
    struct summary_work *work = calloc(1, sizeof *work);
    if (work == NULL)
        return NULL;
    work->calls = server_calls(call->service->server);
    work->call_id = call->id;
    work->task = task;
    work->plan = plan;
    plan->n_owners++;
    return work;
}

void summary_work_run(void *arg)
{
    struct summary_work *work = arg;
    if (work->task == SUMMARY_PLAN)
        run_plan(work);
    else if (work->task == SUMMARY_CUT)
        run_cut(work);
    else
        run_join(work);
    name_prompt(work);
}

void summary_work_free(struct summary_work *work)
{
    summary_plan_drop(work->plan);
    free(work->text);
    free(work->ids);
    submit_free(work->submit);
    free(work);
}
