#include "service/tool_reply.h"

#include "base/status.h"
#include "limits.h"

#include <stdlib.h>
#include <string.h>

#define CLOSING_BYTES 8 /* of </think> */

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

/* Where the first mark from there on stands, or may begin at the end (*is_whole false); len:
 * nowhere. */
static size_t find_mark(const struct tool_reply *reply, size_t from, bool *is_whole)
{
    const char *const *marks = marks_of(reply->style);
    for (size_t at = from; at < reply->len; at++)
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

/* Qwen3 thinks before it answers, about calls too: a mark before </think> began none. Returns where
 * the answer begins when that stands in the bytes from there on, else 0. */
static size_t end_of_thoughts(const struct tool_reply *reply, size_t from)
{
    static const char closing[CLOSING_BYTES + 1] = "</think>";
    if (reply->style != CHAT_TOOLS_QWEN || reply->len <= from)
        return 0;
    const char *found = memmem(reply->bytes + from, reply->len - from, closing, CLOSING_BYTES);
    return found == NULL ? 0 : (size_t)(found - reply->bytes) + CLOSING_BYTES;
}

/* Shows what is behind `from` up to a mark that begins calls. */
static void look_for_mark(struct tool_reply *reply, size_t from)
{
    do {
        reply->n_shown = find_mark(reply, from, &reply->is_held);
        from = reply->is_held ? end_of_thoughts(reply, reply->n_shown) : 0;
    } while (from > 0);
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
    bool is_open;

    *text = piece;
    if (reply->is_off)
        return STATUS_OK;
    *text = slice_of(NULL, 0);
    drop_shown(reply);
    int status = append(reply, piece);
    if (status < 0)
        return status;
    size_t n_seen = reply->len - piece.len, answer = 0;
    if (reply->is_held)
        answer = end_of_thoughts(reply, n_seen > CLOSING_BYTES ? n_seen - CLOSING_BYTES : 0);
    if (reply->is_held && answer > 0)
        look_for_mark(reply, answer);
    else if (!reply->is_held && begins_with_brace(reply, &is_open))
        reply->is_held = true;
    else if (!reply->is_held && !is_open)
        look_for_mark(reply, 0);
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
