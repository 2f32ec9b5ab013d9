/* model/chat_family.h: the families of chat templates that are rendered, and how to tell them apart
 * by marks in the template's text (models.md 7).
 *
 * A template is a Jinja program and never run. Thread: any.
 */
#ifndef QUIRE_MODEL_CHAT_FAMILY_H
#define QUIRE_MODEL_CHAT_FAMILY_H

#include "base/text_parts.h"

#include <stdbool.h>

struct vocabulary;
struct why;

enum chat_family {
    CHAT_CHATML,
    CHAT_QWEN3,
    CHAT_PHI4,
    CHAT_LLAMA2,
    CHAT_LLAMA3,
    CHAT_LLAMA4,
    CHAT_MISTRAL_V1,
    CHAT_MISTRAL_V3,
    CHAT_MISTRAL_V3_TEKKEN,
    CHAT_MISTRAL_V7,
    CHAT_MISTRAL_V7_TEKKEN,
    CHAT_DEEPSEEK2,
    CHAT_DEEPSEEK3,
    CHAT_N_FAMILIES,
};

/* How turns are written. Of a tagged family
 *
 *   opening role behind_role content closing
 *
 * Of a bracketed one
 *
 *   before_user [INST] behind_inst content before_end [/INST] before_answer content EOS
 */
struct chat_shape {
    const char *name;                          /* "llama-3": of --chat-format and GetModel */
    const char *opening, *behind_role, *closing; /* NULL: not tagged */
    const char *before_user, *behind_inst, *before_end, *before_answer; /* NULL: not bracketed */
    const char *tool_role;                     /* of a tool's turn; NULL: it is the user's */
    enum chat_tool_style tools;
    const char *tools_mark; /* stands in templates that write tools as this family does */
    bool begins_with_bos, alternates;
    /* Bytes of the template and of contents next to them are tokenized as one text, as the
     * publisher does; else each on its own. */
    bool joins;
    const char *marks[4]; /* tokens that the vocabulary must have; up to NULL */
};

const struct chat_shape *chat_family_shape(enum chat_family family);
/* CHAT_N_FAMILIES: of none that is known. tekken: the file's tokenizer.ggml.pre is tekken. */
enum chat_family chat_family_of(struct slice text, bool tekken);
/* By its name; STATUS_INVALID lists the names. */
int chat_family_named(struct slice name, enum chat_family *out, struct why *why);
/* STATUS_UNSUPPORTED names a mark that is no token of the vocabulary. */
int chat_family_check(enum chat_family family, const struct vocabulary *vocabulary,
                      struct why *why);
bool chat_text_contains(struct slice text, const char *part);
/* A template of Qwen's that begins each answer with <think>: QwQ, and Qwen3's that only thinks. */
bool chat_family_always_thinks(struct slice text);

#endif
