#include "tools/output.h"

#include "base/utf8.h"

#include <stdint.h>

#define PIECE_BYTES 256

static void put_clean(FILE *to, const uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        bool is_c1 = i + 1 < len && bytes[i] == 0xc2 && bytes[i + 1] < 0xa0; /* U+0080 to U+009F */
        if (is_c1)
            i++;
        putc(is_c1 || bytes[i] < 0x20 || bytes[i] == 0x7f ? ' ' : bytes[i], to);
    }
}

void output_text(FILE *to, struct slice text, size_t max_bytes)
{
    bool is_cut = max_bytes > 0 && text.len > max_bytes;
    if (is_cut)
        text.len = utf8_complete_len(text.bytes, max_bytes);
    for (size_t at = 0; at < text.len;) {
        uint8_t clean[3 * PIECE_BYTES];
        size_t n = text.len - at;
        if (n > PIECE_BYTES)
            n = utf8_complete_len(text.bytes + at, PIECE_BYTES);
        put_clean(to, clean, utf8_repair(text.bytes + at, n, clean, NULL));
        at += n;
    }
    if (is_cut)
        fputs("...", to);
}

int output_refusal(const struct why *why, int status, int exit_status)
{
    fputs("quire: ", stderr);
    output_text(stderr, slice_from(why->text[0] != '\0' ? why->text : status_text(status)), 0);
    putc('\n', stderr);
    return exit_status;
}
