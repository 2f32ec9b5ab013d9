/* tools/token_file.h: token ids as users give them: "1,2,3" or @FILE. */
#ifndef QUIRE_TOOLS_TOKEN_FILE_H
#define QUIRE_TOOLS_TOKEN_FILE_H

#include <stddef.h>
#include <stdint.h>

struct why;

struct token_list {
    uint32_t *ids; /* owned */
    size_t n;      /* at least 1 */
};

/* STATUS_INVALID when the text itself is wrong; a file's faults are STATUS_IO, STATUS_NOT_FOUND,
 * STATUS_CORRUPT or STATUS_TOO_LARGE. Nothing to release then. */
int token_list_read(const char *text, struct token_list *out, struct why *why);
void token_list_release(struct token_list *list);

#endif
