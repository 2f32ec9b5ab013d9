/* model/chat_literal.h: constants of a chat template, read out of its text without running it: the
 * string literals of a Jinja program, where they stand as published templates have them.
 *
 *   {{- '<|im_start|>system\nYou are ...<|im_end|>\n' }}              the default of ChatML
 *   {%- set default_system_message = "You are ... " + today + "." %}  an assigned text
 *   {{- "Cutting Knowledge Date: December 2023\n" }}                  the rest of a literal
 *
 * Escapes are undone. What is written in another way is not found, and then nothing is added.
 * Thread: any.
 */
#ifndef QUIRE_MODEL_CHAT_LITERAL_H
#define QUIRE_MODEL_CHAT_LITERAL_H

#include "base/slice.h"

#include <stdbool.h>

struct text_builder;

/* What stands between "<|im_start|>system" and "<|im_end|>", a constant in one literal or in bare
 * text; out holds text.len bytes. Returns its bytes, 0: there is none. */
size_t chat_literal_default_system(struct slice text, uint8_t *out);
/* The value of the first `set NAME = ...` that is literals joined by + or ~, with `today` or
 * strftime_now(...) for today. False (nothing is appended): there is none. */
bool chat_literal_assigned(struct slice text, const char *name, struct slice today,
                           struct text_builder *out);
/* From `begin` inside a literal to that literal's end. False: there is none. */
bool chat_literal_rest(struct slice text, const char *begin, struct text_builder *out);
/* Whether contents lose the white space around them: content | trim, content.strip(). SOME: others
 * are written as they are, content + '...'. */
enum chat_trim { CHAT_TRIM_NONE, CHAT_TRIM_SOME, CHAT_TRIM_ALL };
enum chat_trim chat_literal_trims(struct slice text);

#endif
