/* model/chat_template.h: chat messages to the token ids that a model was trained on.
 *
 *   <|im_start|>system\n{...}<|im_end|>\n<|im_start|>user\n{...}<|im_end|>\n<|im_start|>assistant\n
 *   '---- template ---'  ^ content, as text: what it says of <|im_end|> stays text
 *
 * The file's template is a Jinja program and never run: it is matched against known families
 * (models.md 7), and its default system text is read out of its string literals. Template parts
 * are encoded with special tokens, contents without, each on its own, so no content can close
 * its turn and a stored prefix always ends at the same border.
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

/* text: tokenizer.chat_template, may be empty. STATUS_UNSUPPORTED when it is of no family that
 * this build renders (the sentence names the family or shows the first line; raw text still
 * works), STATUS_NO_MEMORY. Copies what it needs. */
int chat_template_create(struct slice text, const struct vocabulary *vocabulary,
                         struct chat_template **out, struct why *why);
void chat_template_free(struct chat_template *chat);
const char *chat_template_family(const struct chat_template *chat);  /* "ChatML" */
/* empty: none is added */
struct slice chat_template_default_system(const struct chat_template *chat);

/* Appends the ids of the conversation; with add_generation_prompt also the start of the
 * assistant's answer. Spans, if out has them, are bytes of the rendered text. STATUS_INVALID (no
 * message, unknown role: named, content not UTF-8), STATUS_TOO_LARGE, STATUS_NO_MEMORY: out is
 * then as before. */
int chat_template_render(const struct chat_template *chat, const struct vocabulary *vocabulary,
                         const struct chat_message *messages, size_t n, bool add_generation_prompt,
                         struct token_buffer *out, struct why *why);

#endif
