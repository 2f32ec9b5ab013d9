/* service/summary_prompt.h: the words around what is to be summarized, document or summaries.
 *
 *   chat:  <user>  text  "Summarize ..." [instruction]  <assistant>
 *   raw:           text  "Summarize ..." [instruction]  "Summary:"     models without a template
 *
 * Behind the text, short and plain: a model of 135M parameters follows that best. Thoughts are
 * turned off where the format can do that: they would take the few tokens of an answer. Thread: any
 * (workers).
 */
#ifndef QUIRE_SERVICE_SUMMARY_PROMPT_H
#define QUIRE_SERVICE_SUMMARY_PROMPT_H

#include "engine/engine.h"

/* Tokens of the prompt, malloc'ed for the caller. text is valid UTF-8; instruction may be empty.
 * STATUS_TOO_LARGE beyond n_max tokens, STATUS_NO_MEMORY, STATUS_INVALID (text that this vocabulary
 * cannot write). */
int summary_prompt_render(const struct engine *engine, bool has_chat, struct slice instruction,
                          struct slice text, size_t n_max, uint32_t **ids, size_t *n,
                          struct why *why);

#endif
