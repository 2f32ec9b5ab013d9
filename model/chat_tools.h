/* model/chat_tools.h: tools and calls of a conversation as the texts that families put into their
 * turns (models.md 7). The JSON of others is checked and spaced, never changed: json_text.h.
 *
 * What does not fit the builder stays in its status. Thread: any.
 */
#ifndef QUIRE_MODEL_CHAT_TOOLS_H
#define QUIRE_MODEL_CHAT_TOOLS_H

#include "base/text_parts.h"

struct text_builder;
struct why;

/* Names, schemas, calls and their ids; STATUS_INVALID names which. */
int chat_tools_check(const struct chat *chat, enum chat_tool_style style, struct why *why);

/* Of what chat_tools_check took. */
/* {"type": "function", "function": {"name": ..., "description": ..., "parameters": ...}} */
void chat_tools_definition(const struct chat_tool *tool, unsigned indent, struct text_builder *out);
/* All of them: indented, each with an empty line behind (Llama). */
void chat_tools_paragraphs(const struct chat *chat, struct text_builder *out);
/* What stands in the system's turn of Qwen. */
void chat_tools_section(const struct chat *chat, struct text_builder *out);
/* [definition, definition] (Mistral) */
void chat_tools_list(const struct chat *chat, struct text_builder *out);
/* {"name": ..., key: ...} with the arguments under that key; id (if any) behind. */
void chat_tools_call(const struct chat_call *call, const char *key, struct slice id,
                     struct text_builder *out);
/* A tool's result within JSON: as it is when it is JSON itself, else as a string. */
void chat_tools_result(struct slice content, struct text_builder *out);

#endif
