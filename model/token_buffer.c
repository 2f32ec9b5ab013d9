#include "model/token_buffer.h"

#include <stdlib.h>

#include "base/status.h"
#include "base/text.h"

void token_buffer_init(struct token_buffer *buffer, size_t n_max, bool with_spans)
{
    *buffer = (struct token_buffer){.n_max = n_max, .with_spans = with_spans};
}

void token_buffer_release(struct token_buffer *buffer)
{
    free(buffer->ids);
    free(buffer->spans);
    token_buffer_init(buffer, buffer->n_max, buffer->with_spans);
}

static int grow(struct token_buffer *buffer, struct why *why)
{
    size_t element = sizeof *buffer->ids + (buffer->with_spans ? sizeof *buffer->spans : 0);
    size_t capacity = buffer->capacity == 0 ? 256 : buffer->capacity;
    if (capacity <= SIZE_MAX / 2 / element)
        capacity *= 2;
    if (capacity > buffer->n_max)
        capacity = buffer->n_max;
    if (capacity > SIZE_MAX / element)
        return refuse(why, STATUS_NO_MEMORY, "no memory for %zu tokens", capacity);

    uint32_t *ids = realloc(buffer->ids, capacity * sizeof *ids);
    if (ids != NULL)
        buffer->ids = ids;
    struct token_span *spans = NULL;
    if (ids != NULL && buffer->with_spans) {
        spans = realloc(buffer->spans, capacity * sizeof *spans);
        if (spans != NULL)
            buffer->spans = spans;
    }
    if (ids == NULL || (buffer->with_spans && spans == NULL))
        return refuse(why, STATUS_NO_MEMORY, "no memory for %zu tokens", capacity);
    buffer->capacity = capacity;
    return STATUS_OK;
}

int token_buffer_push(struct token_buffer *buffer, uint32_t id, struct token_span span,
                      struct why *why)
{
    if (buffer->n >= buffer->n_max) {
        char most[TEXT_NUMBER_BYTES];
        return refuse(why, STATUS_TOO_LARGE, "the text takes more than the %s tokens allowed here",
                      text_count(most, buffer->n_max));
    }
    if (buffer->n == buffer->capacity) {
        int status = grow(buffer, why);
        if (status < 0)
            return status;
    }
    buffer->ids[buffer->n] = id;
    if (buffer->with_spans)
        buffer->spans[buffer->n] = span;
    buffer->n++;
    return STATUS_OK;
}
