/* clients/c/line_input.h: lines that a person types, with editing and history on a terminal
 * (libedit), or lines of a pipe.
 *
 * On a terminal Ctrl-C drops the line that is being typed and begins another; Ctrl-D on an empty
 * line, or the end of the pipe, is the end. Thread: one; one at a time.
 */
#ifndef QUIRE_CLIENTS_C_LINE_INPUT_H
#define QUIRE_CLIENTS_C_LINE_INPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

struct line_input;
struct why;

/* prompt is borrowed, and shown on a terminal only. STATUS_NO_MEMORY. */
int line_input_open(const char *prompt, struct line_input **out, struct why *why);
void line_input_close(struct line_input *input);
bool line_input_is_terminal(const struct line_input *input);

/* Before line_input_next: Ctrl-C is a key of the terminal from here on. A pipe: nothing. */
void line_input_prepare(struct line_input *input);

/* The next line without its newline, valid until the next call; NULL at the end, or when reading
 * failed. A dropped line is "". */
const char *line_input_next(struct line_input *input, size_t *len);

#endif
