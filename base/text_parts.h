/* base/text_parts.h: two PODs of which rooms that may not see each other both speak. Header
 * only. */
#ifndef QUIRE_BASE_TEXT_PARTS_H
#define QUIRE_BASE_TEXT_PARTS_H

#include "base/slice.h"

struct token_span {
    uint64_t begin, end; /* bytes [begin, end) of the text; may lie inside a character */
};

struct chat_message {
    struct slice role;    /* "system", "user" or "assistant" */
    struct slice content; /* UTF-8 */
};

#endif
