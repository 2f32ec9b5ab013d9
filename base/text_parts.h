/* base/text_parts.h: PODs of which rooms that may not see each other both speak: spans of tokens,
 * and a conversation. Header only. All bytes are borrowed; texts are UTF-8. */
#ifndef QUIRE_BASE_TEXT_PARTS_H
#define QUIRE_BASE_TEXT_PARTS_H

#include "base/slice.h"

struct token_span {
    uint64_t begin, end; /* bytes [begin, end) of the text; may lie inside a character */
};

/* A function that the model wants to be called. */
struct chat_call {
    struct slice id;        /* empty: none */
    struct slice name;
    struct slice arguments; /* a JSON object */
};

struct chat_message {
    struct slice role;    /* "system", "user", "assistant" or "tool" */
    struct slice content;
    const struct chat_call *calls; /* [n_calls] of the assistant */
    size_t n_calls;
    struct slice call_id; /* of a tool: the call that it answers */
};

/* A function that the model may ask for. */
struct chat_tool {
    struct slice name, description; /* description: empty: none */
    struct slice parameters;        /* a JSON object, its schema; empty: none */
};

struct chat {
    const struct chat_message *messages; /* [n_messages] */
    size_t n_messages;
    const struct chat_tool *tools; /* [n_tools] */
    size_t n_tools;
    int thinking; /* -1: as the template does, 0, 1 */
};

/* How a family writes tools and calls. */
enum chat_tool_style {
    CHAT_TOOLS_NONE,
    CHAT_TOOLS_LLAMA,   /* {"name": ..., "parameters": ...} */
    CHAT_TOOLS_QWEN,    /* <tool_call>{"name": ..., "arguments": ...}</tool_call> */
    CHAT_TOOLS_MISTRAL, /* [TOOL_CALLS][{"name": ..., "arguments": ..., "id": ...}] */
};

#endif
