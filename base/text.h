/* base/text.h: numbers and byte sizes as people write and read them. */
#ifndef QUIRE_BASE_TEXT_H
#define QUIRE_BASE_TEXT_H

#include <stddef.h>
#include <stdint.h>

struct why;

/* Whole text must be a number in range; else STATUS_INVALID with the text and the range in why. */
int text_parse_i64(const char *text, int64_t min, int64_t max, int64_t *out, struct why *why);
int text_parse_f64(const char *text, double min, double max, double *out, struct why *why);
/* "4096", "512K", "8GiB", "1.5g": powers of 1024; letters in any case. STATUS_INVALID. */
int text_parse_bytes(const char *text, uint64_t *out, struct why *why);
/* "1,2,3" or "1 2 3": appends to a grown array that the caller frees with free(); on failure *n
 * stays. STATUS_INVALID, STATUS_NO_MEMORY. */
int text_parse_ids(const char *text, size_t len, uint32_t **out, size_t *n, struct why *why);

#define TEXT_NUMBER_BYTES 32
const char *text_bytes(char out[TEXT_NUMBER_BYTES], uint64_t bytes);    /* "8.0 GiB", "512 B" */
const char *text_count(char out[TEXT_NUMBER_BYTES], uint64_t n);        /* "129,410" */
const char *text_duration(char out[TEXT_NUMBER_BYTES], double seconds); /* "0:07", "1:02:03" */

#endif
