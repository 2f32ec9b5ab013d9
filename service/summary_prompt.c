#include "service/summary_prompt.h"

#include <stdlib.h>
#include <string.h>

static const char request[] = "\n\nSummarize the text above in a few sentences.";
static const char raw_answer[] = "\n\nSummary:";

static size_t put(uint8_t *out, size_t at, const void *bytes, size_t len)
{
    if (len > 0)
        memcpy(out + at, bytes, len);
    return at + len;
}

int summary_prompt_render(const struct engine *engine, bool has_chat, struct slice instruction,
                          struct slice text, size_t n_max, uint32_t **ids, size_t *n,
                          struct why *why)
{
    size_t cap = text.len + sizeof request + 1 + instruction.len + sizeof raw_answer;
    uint8_t *content = malloc(cap);
    if (content == NULL)
        return refuse(why, STATUS_NO_MEMORY, "no memory for a prompt of %zu bytes", cap);

    size_t len = put(content, 0, text.bytes, text.len);
    len = put(content, len, request, sizeof request - 1);
    if (instruction.len > 0) {
        len = put(content, len, " ", 1);
        len = put(content, len, instruction.bytes, instruction.len);
    }
    int status;
    if (has_chat) {
        struct chat_message message = {.role = slice_from("user"),
                                       .content = slice_of(content, len)};
        struct chat chat = {.messages = &message, .n_messages = 1, .thinking = 0};
        status = engine_render_chat(engine, &chat, n_max, ids, n, why);
        chat.thinking = -1;
        if (status == STATUS_UNSUPPORTED) /* a format that cannot turn thoughts off */
            status = engine_render_chat(engine, &chat, n_max, ids, n, why);
    } else {
        len = put(content, len, raw_answer, sizeof raw_answer - 1);
        status = engine_tokenize(engine, slice_of(content, len), -1, false, n_max, ids, NULL, n,
                                 why);
    }
    free(content);
    return status;
}
