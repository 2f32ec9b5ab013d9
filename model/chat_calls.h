/* model/chat_calls.h: the calls that an answer asks for, in the forms that families write them
 * (models.md 7).
 *
 *   <tool_call>\n{"name": N, "arguments": A}\n</tool_call> ...      Qwen
 *   [TOOL_CALLS][{"name": N, "arguments": A, "id": I}, ...]         Mistral
 *   [TOOL_CALLS]N[CALL_ID]I[ARGS]A ...                              Mistral, newer
 *   <|python_tag|>{"name": N, "parameters": A}; ...                 Llama 3, 4
 *
 * An answer that is not wholly calls is none: the caller shows it as text. Thread: any.
 */
#ifndef QUIRE_MODEL_CHAT_CALLS_H
#define QUIRE_MODEL_CHAT_CALLS_H

#include "base/text_parts.h"

/* Returns how many calls, borrowed from text, special tokens of which are there as text; 0 where it
 * is anything else, or holds more than max. Names are not unescaped: one with an escape is none. */
size_t chat_calls_read(enum chat_tool_style style, struct slice text, struct chat_call *calls,
                       size_t max);

#endif
