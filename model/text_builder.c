#include "model/text_builder.h"

#include "base/status.h"

#include <stdlib.h>

#define TEXT_BUILDER_FIRST 1024

void text_builder_init(struct text_builder *builder, size_t max)
{
    *builder = (struct text_builder){.max = max};
}

void text_builder_release(struct text_builder *builder)
{
    free(builder->bytes);
    *builder = (struct text_builder){.max = builder->max};
}

/* Room for n more, or the failure is kept. */
static bool reserve(struct text_builder *builder, size_t n)
{
    if (builder->status < 0)
        return false;
    if (n > builder->max - builder->len) {
        builder->status = STATUS_TOO_LARGE;
        return false;
    }
    size_t wanted = builder->len + n, cap = builder->cap;
    if (wanted <= cap)
        return true;
    if (cap == 0)
        cap = TEXT_BUILDER_FIRST;
    while (cap < wanted)
        cap *= 2;
    uint8_t *bytes = realloc(builder->bytes, cap);
    if (bytes == NULL) {
        builder->status = STATUS_NO_MEMORY;
        return false;
    }
    builder->bytes = bytes;
    builder->cap = cap;
    return true;
}

void text_builder_add(struct text_builder *builder, struct slice text)
{
    if (text.len == 0 || !reserve(builder, text.len))
        return;
    memcpy(builder->bytes + builder->len, text.bytes, text.len);
    builder->len += text.len;
}

void text_builder_say(struct text_builder *builder, const char *text)
{
    text_builder_add(builder, slice_from(text));
}

void text_builder_repeat(struct text_builder *builder, char byte, size_t n)
{
    if (n == 0 || !reserve(builder, n))
        return;
    memset(builder->bytes + builder->len, byte, n);
    builder->len += n;
}

struct slice text_builder_text(const struct text_builder *builder)
{
    return slice_of(builder->bytes, builder->status < 0 ? 0 : builder->len);
}
