#include "model/pretokenizer.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "base/log.h"
#include "base/status.h"
#include "model/pretokenizer_family.h"

/* Limits of one match: far above what a window can ask for, far below what hurts. */
enum {
    MATCH_STEPS_MAX = 10000000,
    MATCH_HEAP_KIB_MAX = 20480,
    JIT_STACK_BYTES_MIN = 32 << 10,
    JIT_STACK_BYTES_MAX = 512 << 10,
    NAMES_BYTES = 512, /* of all names in a refusal */
};

struct pretokenizer {
    const struct pretokenizer_family *family;
    pcre2_code *code;
};

struct piece_matcher {
    pcre2_match_data *found;
    pcre2_match_context *limits;
    pcre2_jit_stack *stack; /* NULL: PCRE2 uses 32 KiB of the thread's own */
};

static int refuse_unknown(struct slice name, struct why *why)
{
    char known[NAMES_BYTES] = "", quoted[80];
    size_t used = 0;
    for (size_t i = 0; pretokenizer_family_at(i) != NULL; i++)
        for (const char *const *at = pretokenizer_family_at(i)->names; *at != NULL; at++)
            used += (size_t)snprintf(known + used, sizeof known - used, "%s%s",
                                     used > 0 ? ", " : "", *at);
    assert(used < sizeof known);
    return refuse(why, STATUS_UNSUPPORTED,
                  "tokenizer.ggml.pre is %s, and a guess would change every answer; this build "
                  "reads %s: take a file that has one of these",
                  log_quote(quoted, sizeof quoted, (const char *)name.bytes, name.len), known);
}

int pretokenizer_create(struct slice name, struct pretokenizer **out, struct why *why)
{
    const struct pretokenizer_family *family = pretokenizer_family_find(name);
    if (family == NULL)
        return refuse_unknown(name, why);

    struct pretokenizer *pretokenizer = calloc(1, sizeof *pretokenizer);
    if (pretokenizer == NULL)
        return refuse(why, STATUS_NO_MEMORY, "no memory for a pre-tokenizer");
    pretokenizer->family = family;

    int error = 0;
    PCRE2_SIZE offset = 0;
    uint32_t options = PCRE2_UTF | PCRE2_UCP | PCRE2_ANCHORED;
    pretokenizer->code = pcre2_compile((PCRE2_SPTR)family->pattern, PCRE2_ZERO_TERMINATED, options,
                                       &error, &offset, NULL);
    if (pretokenizer->code == NULL) {
        pretokenizer_free(pretokenizer);
        return refuse(why, STATUS_INTERNAL, "PCRE2 refuses the pattern of %s: error %d at %zu",
                      family->names[0], error, offset);
    }
    /* Without JIT (a hardened kernel may forbid it) matching is slower and the same. */
    (void)pcre2_jit_compile(pretokenizer->code, PCRE2_JIT_COMPLETE | PCRE2_JIT_PARTIAL_HARD);
    *out = pretokenizer;
    return STATUS_OK;
}

void pretokenizer_free(struct pretokenizer *pretokenizer)
{
    if (pretokenizer == NULL)
        return;
    pcre2_code_free(pretokenizer->code);
    free(pretokenizer);
}

bool pretokenizer_ignores_merges(const struct pretokenizer *pretokenizer)
{
    return pretokenizer->family->ignores_merges;
}

bool pretokenizer_adds_bos(const struct pretokenizer *pretokenizer)
{
    return pretokenizer->family->adds_bos;
}

int piece_matcher_create(const struct pretokenizer *pretokenizer, struct piece_matcher **out,
                         struct why *why)
{
    struct piece_matcher *matcher = calloc(1, sizeof *matcher);
    if (matcher != NULL) {
        matcher->found = pcre2_match_data_create_from_pattern(pretokenizer->code, NULL);
        matcher->limits = pcre2_match_context_create(NULL);
        matcher->stack = pcre2_jit_stack_create(JIT_STACK_BYTES_MIN, JIT_STACK_BYTES_MAX, NULL);
    }
    if (matcher == NULL || matcher->found == NULL || matcher->limits == NULL) {
        piece_matcher_free(matcher);
        return refuse(why, STATUS_NO_MEMORY, "no memory for matching a pattern");
    }
    pcre2_set_match_limit(matcher->limits, MATCH_STEPS_MAX);
    pcre2_set_heap_limit(matcher->limits, MATCH_HEAP_KIB_MAX);
    if (matcher->stack != NULL)
        pcre2_jit_stack_assign(matcher->limits, NULL, matcher->stack);
    *out = matcher;
    return STATUS_OK;
}

void piece_matcher_free(struct piece_matcher *matcher)
{
    if (matcher == NULL)
        return;
    pcre2_match_data_free(matcher->found);
    pcre2_match_context_free(matcher->limits);
    pcre2_jit_stack_free(matcher->stack);
    free(matcher);
}

/* How much of `rest` a match may see. */
static size_t window_of(struct slice rest)
{
    if (rest.len <= PIECE_WINDOW_BYTES)
        return rest.len;
    size_t len = PIECE_WINDOW_BYTES;
    while ((rest.bytes[len] & 0xC0) == 0x80)
        len--;
    return len;
}

int pretokenizer_next(const struct pretokenizer *pretokenizer, struct piece_matcher *matcher,
                      struct slice rest, bool at_end, size_t *len, struct why *why)
{
    assert(rest.len > 0);
    size_t window = window_of(rest);
    uint32_t options = PCRE2_NO_UTF_CHECK; /* the caller has checked the whole text once */
    if (!at_end && rest.len < PIECE_WINDOW_BYTES)
        options |= PCRE2_PARTIAL_HARD;

    int found = pcre2_match(pretokenizer->code, rest.bytes, window, 0, options, matcher->found,
                            matcher->limits);
    if (found == PCRE2_ERROR_PARTIAL)
        return STATUS_AGAIN;
    if (found < 0) {
        PCRE2_UCHAR text[128] = "";
        pcre2_get_error_message(found, text, sizeof text);
        return refuse(why, STATUS_INVALID, "the text cannot be split into words: %s (PCRE2 %d)",
                      (const char *)text, found);
    }
    *len = pcre2_get_ovector_pointer(matcher->found)[1];
    assert(*len > 0 && *len <= window);
    return STATUS_OK;
}
