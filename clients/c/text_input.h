/* clients/c/text_input.h: what users hand to a subcommand: text, files, pipes, token ids. */
#ifndef QUIRE_CLIENTS_C_TEXT_INPUT_H
#define QUIRE_CLIENTS_C_TEXT_INPUT_H

#include <stddef.h>
#include <stdint.h>

struct why;

struct text_input {
    uint8_t *bytes; /* owned; NULL before it was read */
    size_t len;
};

/* All of a file, or of standard input for "-". NUL is a byte like any other. STATUS_NOT_FOUND,
 * STATUS_IO, STATUS_TOO_LARGE beyond bytes_max, STATUS_NO_MEMORY. */
int text_input_file(const char *path, size_t bytes_max, struct text_input *out, struct why *why);
/* "-": standard input; "@FILE": that file; anything else is the text itself. The same errors. */
int text_input_argument(const char *argument, size_t bytes_max, struct text_input *out,
                        struct why *why);
void text_input_release(struct text_input *input);

/* STATUS_INVALID with the byte offset where `what` ("the prompt") is no UTF-8. */
int text_input_check(const struct text_input *input, const char *what, struct why *why);

/* Token ids, "1,2,3" or "1 2 3". *ids is the caller's to free with free(). STATUS_INVALID. */
int text_input_ids(const struct text_input *input, uint32_t **ids, size_t *n, struct why *why);

#endif
