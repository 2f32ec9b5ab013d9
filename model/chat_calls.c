#include "model/chat_calls.h"

#include "model/json_text.h"

#include <stdbool.h>

static struct slice without_space(struct slice text)
{
    while (text.len > 0 && (text.bytes[0] == ' ' || text.bytes[0] == '\n' ||
                            text.bytes[0] == '\t' || text.bytes[0] == '\r'))
        text = slice_of(text.bytes + 1, text.len - 1);
    return text;
}

/* Takes `part` off the start of *text, behind white space. */
static bool take(struct slice *text, const char *part)
{
    struct slice rest = without_space(*text);
    size_t len = strlen(part);
    if (rest.len < len || memcmp(rest.bytes, part, len) != 0)
        return false;
    *text = slice_of(rest.bytes + len, rest.len - len);
    return true;
}

/* What stands before `part`, which must follow; both are taken. */
static bool take_until(struct slice *text, const char *part, struct slice *before)
{
    size_t len = strlen(part);
    const uint8_t *found = text->len > 0 ? memmem(text->bytes, text->len, part, len) : NULL;
    if (found == NULL)
        return false;
    size_t n = (size_t)(found - text->bytes);
    *before = slice_of(text->bytes, n);
    *text = slice_of(found + len, text->len - n - len);
    return true;
}

/* A member that is a string, without its quotes. */
static bool string_member(struct slice object, const char *key, struct slice *out)
{
    struct slice value;
    if (!json_text_member(object, key, &value) || value.len < 3 || value.bytes[0] != '"' ||
        memchr(value.bytes, '\\', value.len) != NULL)
        return false;
    *out = slice_of(value.bytes + 1, value.len - 2);
    return true;
}

static bool take_arguments(struct slice *text, struct slice *out)
{
    struct slice rest = without_space(*text);
    size_t n = json_text_measure(rest);
    if (n == 0 || rest.bytes[0] != '{')
        return false;
    *out = slice_of(rest.bytes, n);
    *text = slice_of(rest.bytes + n, rest.len - n);
    return true;
}

/* One object with name and arguments (or parameters). */
static bool take_object(struct slice *text, struct chat_call *call)
{
    struct slice object;
    if (!take_arguments(text, &object))
        return false;
    *call = (struct chat_call){.id = slice_of(NULL, 0)};
    string_member(object, "id", &call->id);
    return string_member(object, "name", &call->name) &&
           (json_text_member(object, "arguments", &call->arguments) ||
            json_text_member(object, "parameters", &call->arguments)) &&
           call->arguments.bytes[0] == '{';
}

static bool take_qwen(struct slice *text, struct chat_call *call)
{
    return take(text, "<tool_call>") && take_object(text, call) && take(text, "</tool_call>");
}

static bool take_named(struct slice *text, struct chat_call *call)
{
    struct slice before;
    *call = (struct chat_call){.id = slice_of(NULL, 0)};
    if (!take(text, "[TOOL_CALLS]") || !take_until(text, "[ARGS]", &before))
        return false;
    call->name = before;
    if (take_until(&before, "[CALL_ID]", &call->name))
        call->id = before;
    return call->name.len > 0 && take_arguments(text, &call->arguments);
}

static size_t read_list(struct slice text, struct chat_call *calls, size_t max)
{
    size_t n = 0;
    if (!take(&text, "[TOOL_CALLS]") || !take(&text, "["))
        return 0;
    do {
        if (n == max || !take_object(&text, &calls[n++]))
            return 0;
    } while (take(&text, ","));
    return take(&text, "]") && without_space(text).len == 0 ? n : 0;
}

static bool take_llama(struct slice *text, struct chat_call *call)
{
    take(text, "<|python_tag|>");
    if (take(text, "<|python_start|>"))
        take(text, "<|python_end|>");
    bool is_call = take_object(text, call);
    take(text, "<|python_end|>");
    take(text, ";");
    return is_call;
}

static size_t read_row(bool (*take_one)(struct slice *, struct chat_call *), struct slice text,
                       struct chat_call *calls, size_t max)
{
    size_t n = 0;
    while (without_space(text).len > 0)
        if (n == max || !take_one(&text, &calls[n++]))
            return 0;
    return n;
}

size_t chat_calls_read(enum chat_tool_style style, struct slice text, struct chat_call *calls,
                       size_t max)
{
    size_t n = 0;
    switch (style) {
    case CHAT_TOOLS_QWEN:
        return read_row(take_qwen, text, calls, max);
    case CHAT_TOOLS_LLAMA:
        return read_row(take_llama, text, calls, max);
    case CHAT_TOOLS_MISTRAL:
        n = read_list(text, calls, max);
        return n > 0 ? n : read_row(take_named, text, calls, max);
    default:
        return 0;
    }
}
