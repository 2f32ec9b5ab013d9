#include "service/tool_reply.h"

#include "base/status.h"
#include "limits.h"

#include <stdlib.h>
#include <string.h>

void tool_reply_init(struct tool_reply *reply, enum chat_tool_style style)
{
    *reply = (struct tool_reply){.style = style, .is_off = style == CHAT_TOOLS_NONE};
}

void tool_reply_release(struct tool_reply *reply)
{
    free(reply->bytes);
    *reply = (struct tool_reply){.is_off = true};
}

/* The marks that calls begin with, up to NULL. */
static const char *const *marks_of(enum chat_tool_style style)
{
    static const char *const qwen[] = {"<tool_call>", NULL};
    static const char *const mistral[] = {"[TOOL_CALLS]", NULL};
    static const char *const llama[] = {"<|python_tag|>", "<|python_start|>", NULL};
    return style == CHAT_TOOLS_QWEN ? qwen : style == CHAT_TOOLS_MISTRAL ? mistral : llama;
}

/* Where the first mark stands, or may begin at the end (*is_whole false); len: nowhere. */
static size_t find_mark(const struct tool_reply *reply, bool *is_whole)
{
    const char *const *marks = marks_of(reply->style);
    for (size_t at = 0; at < reply->len; at++)
        for (size_t m = 0; marks[m] != NULL; m++) {
            size_t len = strlen(marks[m]), left = reply->len - at;
            if (memcmp(reply->bytes + at, marks[m], len < left ? len : left) != 0)
                continue;
            *is_whole = left >= len;
            return at;
        }
    *is_whole = false;
    return reply->len;
}

/* Llama's calls may be bare objects. White space before one is held for as long. */
static bool begins_with_brace(const struct tool_reply *reply, bool *is_open)
{
    size_t at = 0;
    *is_open = false;
    if (reply->style != CHAT_TOOLS_LLAMA || reply->has_text)
        return false;
    while (at < reply->len && at < 64 && strchr(" \n\r\t", reply->bytes[at]) != NULL &&
           reply->bytes[at] != 0)
        at++;
    *is_open = at == reply->len;
    return at < reply->len && reply->bytes[at] == '{';
}

static int append(struct tool_reply *reply, struct slice piece)
{
    size_t wanted = reply->len + piece.len, cap = reply->cap;

    if (piece.len == 0)
        return STATUS_OK;
    while (cap < wanted)
        cap = cap == 0 ? 256 : 2 * cap;
    if (cap > reply->cap) {
        char *bytes = realloc(reply->bytes, cap);
        if (bytes == NULL)
            return STATUS_NO_MEMORY;
        reply->bytes = bytes;
        reply->cap = cap;
    }
    memcpy(reply->bytes + reply->len, piece.bytes, piece.len);
    reply->len = wanted;
    return STATUS_OK;
}

static void drop_shown(struct tool_reply *reply)
{
    if (reply->n_shown == 0)
        return;
    reply->len -= reply->n_shown;
    memmove(reply->bytes, reply->bytes + reply->n_shown, reply->len);
    reply->n_shown = 0;
}

int tool_reply_feed(struct tool_reply *reply, struct slice piece, struct slice *text)
{
    bool is_whole = false, is_open;

    *text = piece;
    if (reply->is_off)
        return STATUS_OK;
    *text = slice_of(NULL, 0);
    drop_shown(reply);
    int status = append(reply, piece);
    if (status < 0)
        return status;
    if (!reply->is_held && begins_with_brace(reply, &is_open))
        reply->is_held = true;
    else if (!reply->is_held && !is_open)
        reply->n_shown = find_mark(reply, &is_whole);
    reply->is_held |= is_whole;
    if (reply->len - reply->n_shown > TOOL_REPLY_BYTES_MAX) {
        reply->n_shown = reply->len;
        reply->is_off = true;
    }
    reply->has_text |= reply->n_shown > 0;
    *text = slice_of(reply->bytes, reply->n_shown);
    return STATUS_OK;
}

struct slice tool_reply_held(const struct tool_reply *reply)
{
    return slice_of(reply->bytes == NULL ? NULL : reply->bytes + reply->n_shown,
                    reply->len - reply->n_shown);
}
