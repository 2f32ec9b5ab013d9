/* model/chat_render.h: the turns of a conversation as token ids; what chat_template.c is made of.
 *
 * A prompt is a row of pieces. Tokens of the format are found by their text; what people and tools
 * wrote is text whatever it says:
 *
 *   mark "<|im_start|>"  words "user\n"  body "Hello"  mark "<|im_end|>"  words "\n"
 *
 * Thread: any number at once.
 */
#ifndef QUIRE_MODEL_CHAT_RENDER_H
#define QUIRE_MODEL_CHAT_RENDER_H

#include "model/chat_family.h"
#include "model/text_builder.h"
#include "model/tokenizer.h"

struct chat_template {
    enum chat_family family;
    const struct chat_shape *shape;
    struct slice text;   /* the file's template, within bytes; may be empty */
    struct slice system; /* added where no system message stands first, within bytes */
    bool trims;          /* contents lose the white space around them */
    bool trims_answers;  /* those of the assistant do */
    bool begins_with_bos;
    bool takes_tools;
    uint8_t bytes[];
};

struct chat_rendering {
    const struct chat_template *chat_template;
    const struct vocabulary *vocabulary;
    const struct chat *chat;
    struct text_encoder encoder;
    struct token_buffer *out;
    struct text_builder pending; /* not yet in tokens */
    bool is_body;                /* what is pending: contents, or words of the format */
    uint64_t n_bytes;            /* of the rendered text that is in tokens */
    int status;                  /* the first failure: nothing is added after it */
    struct why *why;
};

void chat_render_bos(struct chat_rendering *rendering);
void chat_render_eos(struct chat_rendering *rendering);
/* A token of that text; words where the vocabulary has none. */
void chat_render_mark(struct chat_rendering *rendering, const char *mark);
/* Text of the format; tokens that stand in it are tokens, unless the family joins. */
void chat_render_words(struct chat_rendering *rendering, const char *words);
void chat_render_body(struct chat_rendering *rendering, struct slice text);
void chat_render_flush(struct chat_rendering *rendering);
/* Takes the text out of body and releases it. */
void chat_render_built(struct chat_rendering *rendering, struct text_builder *body);
int chat_render_refuse(struct chat_rendering *rendering, int status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* What a family does with a content: trimmed where it trims. */
struct slice chat_render_content(const struct chat_rendering *rendering,
                                 const struct chat_message *message);
bool chat_render_is(const struct chat_message *message, const char *role);
/* Text without the white space around it, as Python's str.strip sees it. */
struct slice chat_render_trimmed(struct slice text);
/* Today as people write it, "27 Nov 2026", or 2026-11-27. */
#define CHAT_DATE_BYTES 64
struct slice chat_render_today(bool is_iso, char out[CHAT_DATE_BYTES]);

/* The whole conversation and the start of the answer; chat was checked. */
void chat_render_tagged(struct chat_rendering *rendering, bool add_generation_prompt);
void chat_render_bracketed(struct chat_rendering *rendering);
void chat_render_deepseek(struct chat_rendering *rendering, bool add_generation_prompt);

#endif
