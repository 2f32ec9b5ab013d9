/* base/slice.h: a borrowed run of bytes, not NUL-terminated. NUL is a byte like any other. Header
 * only. */
#ifndef QUIRE_BASE_SLICE_H
#define QUIRE_BASE_SLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct slice {
    const uint8_t *bytes; /* may be NULL when len is 0 */
    size_t len;
};

static inline struct slice slice_of(const void *bytes, size_t len)
{
    return (struct slice){.bytes = bytes, .len = len};
}

static inline struct slice slice_from(const char *text)
{
    return slice_of(text, strlen(text));
}

static inline bool slice_equal(struct slice a, struct slice b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.bytes, b.bytes, a.len) == 0);
}

#endif
