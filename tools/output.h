/* tools/output.h: what the tools say: refusals, and text of files that may hold anything.
 *
 * Bytes of a file are shown as valid UTF-8 without control characters: a model's name must not
 * steer a terminal.
 */
#ifndef QUIRE_TOOLS_OUTPUT_H
#define QUIRE_TOOLS_OUTPUT_H

#include "base/slice.h"
#include "base/status.h"

#include <stdio.h>

#define EXIT_FAILED 1
#define EXIT_USAGE 2

/* At most max_bytes of the text (0: all), "..." behind what was cut; bad UTF-8 becomes U+FFFD,
 * controls become spaces. */
void output_text(FILE *to, struct slice text, size_t max_bytes);

/* "quire: sentence" on standard error; returns exit_status. */
int output_refusal(const struct why *why, int status, int exit_status);

#endif
