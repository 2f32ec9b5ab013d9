/* model/chat_template.h: a conversation to the token ids that a model was trained on.
 *
 *   <|im_start|>system\n{...}<|im_end|>\n<|im_start|>user\n{...}<|im_end|>\n<|im_start|>assistant\n
 *   '---- template ---'  ^ content, as text: what it says of <|im_end|> stays text
 *
 * The file's template is a Jinja program and never run: it is matched against known families
 * (chat_family.h), and its constants are read out of its string literals (chat_literal.h). The
 * tokens of a format are written by it alone, so no content can close its turn.
 *
 * Thread: read-only after create, any thread.
 */
#ifndef QUIRE_MODEL_CHAT_TEMPLATE_H
#define QUIRE_MODEL_CHAT_TEMPLATE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/text_parts.h"

struct chat_template;
struct token_buffer;
struct vocabulary;
struct why;

struct chat_source {     /* borrowed during create */
    struct slice text;   /* tokenizer.chat_template, may be empty */
    struct slice pre;    /* tokenizer.ggml.pre, may be empty */
    struct slice format; /* a family's name: taken whatever the text is; empty: none */
};

/* STATUS_UNSUPPORTED when the text is of no family that is known (the sentence shows its first
 * line), or the vocabulary lacks a token of the family; raw text still works. STATUS_INVALID:
 * format names none. STATUS_NO_MEMORY. Copies what it needs. */
int chat_template_create(const struct chat_source *source, const struct vocabulary *vocabulary,
                         struct chat_template **out, struct why *why);
void chat_template_free(struct chat_template *chat_template);
const char *chat_template_family(const struct chat_template *chat_template); /* "chatml" */
/* empty: none is added, or it has a date and is made anew each time */
struct slice chat_template_default_system(const struct chat_template *chat_template);
/* CHAT_TOOLS_NONE: conversations with tools are refused */
enum chat_tool_style chat_template_tools(const struct chat_template *chat_template);

/* Appends the ids of the conversation; with add_generation_prompt also the start of the
 * assistant's answer. Spans, if out has them, are bytes of the rendered text. STATUS_INVALID (no
 * message, unknown role: named, turns out of order, bad JSON of a tool, content not UTF-8),
 * STATUS_UNSUPPORTED (tools, thinking), STATUS_TOO_LARGE, STATUS_NO_MEMORY: out is then as
 * before. */
int chat_template_render(const struct chat_template *chat_template,
                         const struct vocabulary *vocabulary, const struct chat *chat,
                         bool add_generation_prompt, struct token_buffer *out, struct why *why);

#endif
