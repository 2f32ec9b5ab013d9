/* service/summary_prompt.h: the words around what is to be summarized.
 *
 *   chat:  <user>  before  text  after [instruction]  <assistant>
 *   raw:           before  text  after [instruction]  "Summary:"      for models without a template
 *
 * Short and plain, so that a model of 135M parameters follows them. Thread: any (workers).
 */
#ifndef QUIRE_SERVICE_SUMMARY_PROMPT_H
#define QUIRE_SERVICE_SUMMARY_PROMPT_H

#include "engine/engine.h"

enum summary_prompt {
    SUMMARY_WHOLE,   /* the document in one piece */
    SUMMARY_SECTION, /* a section of it */
    SUMMARY_MERGE,   /* summaries of neighbouring parts, to one */
    SUMMARY_FINAL,   /* summaries of all parts, to the last one */
};

/* Tokens of the prompt, malloc'ed for the caller. text is valid UTF-8; instruction may be empty.
 * STATUS_TOO_LARGE beyond n_max tokens, STATUS_NO_MEMORY, STATUS_INVALID (text that this vocabulary
 * cannot write). */
int summary_prompt_render(const struct engine *engine, bool has_chat, enum summary_prompt kind,
                          struct slice instruction, struct slice text, size_t n_max,
                          uint32_t **ids, size_t *n, struct why *why);

#endif
