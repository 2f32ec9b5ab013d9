#include "service/summary_prompt.h"

#include <stdlib.h>
#include <string.h>

struct words {
    const char *before, *after;
};

static const struct words words[] = {
    [SUMMARY_WHOLE] = {"", "\n\nSummarize the text above in a few sentences."},
    [SUMMARY_SECTION] = {"", "\n\nSummarize the text above in a few sentences."},
    [SUMMARY_MERGE] = {"", "\n\nSummarize the text above in a few sentences."},
    [SUMMARY_FINAL] = {"", "\n\nSummarize the text above in a few sentences."},
};
static const char raw_answer[] = "\n\nSummary:";

static size_t put(uint8_t *out, size_t at, const void *bytes, size_t len)
{
    if (len > 0)
        memcpy(out + at, bytes, len);
    return at + len;
}

int summary_prompt_render(const struct engine *engine, bool has_chat, enum summary_prompt kind,
                          struct slice instruction, struct slice text, size_t n_max,
                          uint32_t **ids, size_t *n, struct why *why)
{
    const struct words *around = &words[kind];
    size_t cap = strlen(around->before) + text.len + strlen(around->after) + 1 + instruction.len +
                 sizeof raw_answer;
    uint8_t *content = malloc(cap);
    if (content == NULL)
        return refuse(why, STATUS_NO_MEMORY, "no memory for a prompt of %zu bytes", cap);

    size_t len = put(content, 0, around->before, strlen(around->before));
    len = put(content, len, text.bytes, text.len);
    len = put(content, len, around->after, strlen(around->after));
    if (instruction.len > 0) {
        len = put(content, len, " ", 1);
        len = put(content, len, instruction.bytes, instruction.len);
    }
    int status;
    if (has_chat) {
        struct chat_message message = {.role = slice_from("user"),
                                       .content = slice_of(content, len)};
        status = engine_render_chat(engine, &message, 1, n_max, ids, n, why);
    } else {
        len = put(content, len, raw_answer, sizeof raw_answer - 1);
        status = engine_tokenize(engine, slice_of(content, len), -1, false, n_max, ids, NULL, n,
                                 why);
    }
    free(content);
    return status;
}
