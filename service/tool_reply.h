/* service/tool_reply.h: an answer of a chat with tools, parted into text and calls while it comes.
 *
 *   "Let me see. <tool_call>{...}</tool_call>"
 *    '-- text --'|'------- held -------------'   --end--> calls; or text, when it is none
 *                ^ a mark of the style, or (Llama) a brace at the very beginning
 *
 * What may begin a mark is held back. A held part beyond TOOL_REPLY_BYTES_MAX is text after all,
 * and so is what follows; a held part of Qwen's up to </think> is text, since thoughts may name the
 * mark. Thread: the loop.
 */
#ifndef QUIRE_SERVICE_TOOL_REPLY_H
#define QUIRE_SERVICE_TOOL_REPLY_H

#include "base/text_parts.h"

#include <stdbool.h>

struct tool_reply {
    enum chat_tool_style style; /* CHAT_TOOLS_NONE: everything is text */
    bool has_text;              /* some was shown */
    bool is_held;               /* a mark came: all is kept */
    bool is_off;
    char *bytes; /* [len], malloc'ed */
    size_t len, cap, n_shown; /* n_shown: of bytes, given out by the last feed */
};

void tool_reply_init(struct tool_reply *reply, enum chat_tool_style style);
void tool_reply_release(struct tool_reply *reply);
/* Takes the next piece; *text is what may be shown, valid until the next use. STATUS_NO_MEMORY. */
int tool_reply_feed(struct tool_reply *reply, struct slice piece, struct slice *text);
/* What is held at the end. */
struct slice tool_reply_held(const struct tool_reply *reply);

#endif
