#include "clients/c/quire_status.h"

#include "base/arena.h"
#include "base/utf8.h"
#include "clients/c/message_codec.h"
#include "google/rpc/details.pb-c.h"

#include <nghttp2/nghttp2.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DETAILS_TEXT_BYTES_MAX 16384

const char *quire_status_name(int code)
{
    static const char *const names[] = {
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    };
    bool known = code >= 0 && code < (int)(sizeof names / sizeof names[0]);
    return names[known ? code : QUIRE_UNKNOWN];
}

/* Copies text of a peer as valid UTF-8, cut at cap - 1 bytes on the border of a character. */
static void copy_text(char *out, size_t cap, const uint8_t *bytes, size_t len)
{
    uint8_t repaired[3 * QUIRE_MESSAGE_BYTES];
    if (len > QUIRE_MESSAGE_BYTES)
        len = utf8_complete_len(bytes, QUIRE_MESSAGE_BYTES);
    size_t n = utf8_repair(bytes, len, repaired, NULL);
    if (n > cap - 1)
        n = utf8_complete_len(repaired, cap - 1);
    memcpy(out, repaired, n);
    out[n] = 0;
    for (size_t i = 0; i < n; i++)
        if (out[i] == 0)
            out[i] = ' ';
}

void quire_status_set(struct quire_status *status, int code, const char *format, ...)
{
    char text[QUIRE_MESSAGE_BYTES];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    size_t len = n < 0 ? 0 : (size_t)n < sizeof text ? (size_t)n : sizeof text - 1;

    memset(status, 0, sizeof *status);
    status->code = code;
    status->is_local = true;
    copy_text(status->message, sizeof status->message, (const uint8_t *)text, len);
}

int quire_status_parse_code(const void *text, size_t len)
{
    const uint8_t *at = text;
    int code = 0;
    if (len < 1 || len > 2)
        return QUIRE_UNKNOWN;
    for (size_t i = 0; i < len; i++) {
        if (at[i] < '0' || at[i] > '9')
            return QUIRE_UNKNOWN;
        code = code * 10 + (at[i] - '0');
    }
    return code <= 16 ? code : QUIRE_UNKNOWN;
}

static int hex_digit(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

void quire_status_take_message(struct quire_status *status, const void *text, size_t len)
{
    uint8_t decoded[QUIRE_MESSAGE_BYTES];
    const uint8_t *at = text;
    size_t n = 0;
    for (size_t i = 0; i < len && n < sizeof decoded; n++) {
        bool is_escape =
            at[i] == '%' && len - i > 2 && hex_digit(at[i + 1]) >= 0 && hex_digit(at[i + 2]) >= 0;
        decoded[n] =
            is_escape ? (uint8_t)(hex_digit(at[i + 1]) << 4 | hex_digit(at[i + 2])) : at[i];
        i += is_escape ? 3 : 1;
    }
    if (n == sizeof decoded)
        n = utf8_complete_len(decoded, n);
    copy_text(status->message, sizeof status->message, decoded, n);
}

static int base64_digit(uint8_t c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* out holds 3 * len / 4 bytes. */
static bool base64_decode(const uint8_t *text, size_t len, uint8_t *out, size_t *n_out)
{
    uint32_t bits = 0;
    int n_bits = 0;
    if (len > 0 && len % 4 == 0)
        for (int pad = 0; pad < 2 && text[len - 1] == '='; pad++)
            len--;
    *n_out = 0;
    for (size_t i = 0; i < len; i++) {
        int digit = base64_digit(text[i]);
        if (digit < 0)
            return false;
        bits = bits << 6 | (uint32_t)digit;
        n_bits += 6;
        if (n_bits >= 8) {
            n_bits -= 8;
            out[(*n_out)++] = (uint8_t)(bits >> n_bits);
        }
    }
    return len % 4 != 1;
}

static bool take_info(struct quire_status *status, const Google__Rpc__AnyDetail *any,
                      struct arena *arena)
{
    static const char type_url[] = "type.googleapis.com/google.rpc.ErrorInfo";
    if (any->type_url.len != sizeof type_url - 1 ||
        memcmp(any->type_url.data, type_url, any->type_url.len) != 0)
        return false;
    const Google__Rpc__ErrorInfo *info = message_codec_unpack(
        arena, &google__rpc__error_info__descriptor, any->value.data, any->value.len);
    if (info == NULL)
        return false;
    copy_text(status->reason, sizeof status->reason, info->reason.data, info->reason.len);
    status->n_details = 0;
    for (size_t i = 0; i < info->n_metadata && i < QUIRE_DETAILS_MAX; i++) {
        struct quire_detail *detail = &status->details[status->n_details++];
        const Google__Rpc__MetadataEntry *entry = info->metadata[i];
        copy_text(detail->key, sizeof detail->key, entry->key.data, entry->key.len);
        copy_text(detail->value, sizeof detail->value, entry->value.data, entry->value.len);
    }
    return true;
}

bool quire_status_take_details(struct quire_status *status, const void *text, size_t len)
{
    struct arena arena;
    bool taken = false;
    size_t n = 0;
    uint8_t *bytes = len <= DETAILS_TEXT_BYTES_MAX ? malloc(len + 1) : NULL;
    if (bytes == NULL)
        return false;
    arena_init(&arena, message_codec_cap(len));
    if (base64_decode(text, len, bytes, &n)) {
        const Google__Rpc__Status *rich =
            message_codec_unpack(&arena, &google__rpc__status__descriptor, bytes, n);
        for (size_t i = 0; rich != NULL && i < rich->n_details && !taken; i++)
            taken = take_info(status, rich->details[i], &arena);
    }
    arena_release(&arena);
    free(bytes);
    return taken;
}

int quire_status_of_http(int http_status)
{
    switch (http_status) {
    case 400:
    case 431:
        return QUIRE_INTERNAL;
    case 401:
        return QUIRE_UNAUTHENTICATED;
    case 403:
        return QUIRE_PERMISSION_DENIED;
    case 404:
        return QUIRE_UNIMPLEMENTED;
    case 429:
    case 502:
    case 503:
    case 504:
        return QUIRE_UNAVAILABLE;
    default:
        return QUIRE_UNKNOWN;
    }
}

int quire_status_of_reset(uint32_t h2_error)
{
    switch (h2_error) {
    case NGHTTP2_REFUSED_STREAM:
        return QUIRE_UNAVAILABLE;
    case NGHTTP2_CANCEL:
        return QUIRE_CANCELLED;
    case NGHTTP2_ENHANCE_YOUR_CALM:
        return QUIRE_RESOURCE_EXHAUSTED;
    case NGHTTP2_INADEQUATE_SECURITY:
        return QUIRE_PERMISSION_DENIED;
    default:
        return QUIRE_INTERNAL;
    }
}
