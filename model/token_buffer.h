/* model/token_buffer.h: token ids that grow up to a cap of their owner, with byte spans if asked
 * for.
 *
 * Invariant: n <= capacity <= n_max; spans is NULL or parallel to ids. Not thread-safe.
 */
#ifndef QUIRE_MODEL_TOKEN_BUFFER_H
#define QUIRE_MODEL_TOKEN_BUFFER_H

#include "base/text_parts.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct token_buffer {
    uint32_t *ids;            /* [n] */
    struct token_span *spans; /* [n] when with_spans, else NULL */
    size_t n, capacity;
    size_t n_max;             /* push refuses beyond this */
    bool with_spans;
};

struct why;

void token_buffer_init(struct token_buffer *buffer, size_t n_max, bool with_spans);
/* keeps n_max and with_spans: may be used again */
void token_buffer_release(struct token_buffer *buffer);
/* STATUS_TOO_LARGE beyond n_max, STATUS_NO_MEMORY; the buffer is then as before. */
int token_buffer_push(struct token_buffer *buffer, uint32_t id, struct token_span span,
                      struct why *why);

#endif
