/* model/text_builder.h: a text that grows up to a bound. The first failure sticks, so that a whole
 * text is written first and asked about once.
 *
 * Owner: the caller, who releases it. Not thread-safe.
 */
#ifndef QUIRE_MODEL_TEXT_BUILDER_H
#define QUIRE_MODEL_TEXT_BUILDER_H

#include "base/slice.h"

struct text_builder {
    uint8_t *bytes; /* [len] */
    size_t len, cap, max;
    int status; /* STATUS_OK, STATUS_TOO_LARGE (beyond max), STATUS_NO_MEMORY */
};

void text_builder_init(struct text_builder *builder, size_t max);
void text_builder_release(struct text_builder *builder);
void text_builder_add(struct text_builder *builder, struct slice text);
void text_builder_say(struct text_builder *builder, const char *text);
void text_builder_repeat(struct text_builder *builder, char byte, size_t n);
/* empty after a failure */
struct slice text_builder_text(const struct text_builder *builder);

#endif
