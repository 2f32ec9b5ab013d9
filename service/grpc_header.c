#include "service/grpc_header.h"

#include "base/clock.h"
#include "base/utf8.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIELD_OVERHEAD 32
#define TIMEOUT_DIGITS_MAX 8

int grpc_timeout_parse(struct slice value, int64_t *ns)
{
    if (value.len < 2 || value.len > TIMEOUT_DIGITS_MAX + 1)
        return STATUS_INVALID;
    int64_t amount = 0;
    for (size_t i = 0; i + 1 < value.len; i++) {
        if (value.bytes[i] < '0' || value.bytes[i] > '9')
            return STATUS_INVALID;
        amount = amount * 10 + (value.bytes[i] - '0');
    }
    int64_t unit_ns;
    switch (value.bytes[value.len - 1]) {
    case 'H':
        unit_ns = 3600 * NS_PER_S;
        break;
    case 'M':
        unit_ns = 60 * NS_PER_S;
        break;
    case 'S':
        unit_ns = NS_PER_S;
        break;
    case 'm':
        unit_ns = NS_PER_MS;
        break;
    case 'u':
        unit_ns = 1000;
        break;
    case 'n':
        unit_ns = 1;
        break;
    default:
        return STATUS_INVALID;
    }
    *ns = amount > INT64_MAX / unit_ns ? INT64_MAX : amount * unit_ns;
    return STATUS_OK;
}

static bool starts_with(struct slice value, const char *prefix)
{
    size_t n = strlen(prefix);
    return value.len >= n && memcmp(value.bytes, prefix, n) == 0;
}

enum grpc_content grpc_content_of(struct slice content_type)
{
    static const char base[] = "application/grpc";
    const size_t n = sizeof(base) - 1;
    if (!starts_with(content_type, base))
        return GRPC_CONTENT_OTHER;
    struct slice rest = slice_of(content_type.bytes + n, content_type.len - n);
    if (rest.len == 0 || rest.bytes[0] == ';')
        return GRPC_CONTENT_PROTO;
    if (rest.bytes[0] != '+')
        return GRPC_CONTENT_OTHER; /* application/grpc-web shares the prefix */
    if (starts_with(rest, "+proto") && (rest.len == 6 || rest.bytes[6] == ';'))
        return GRPC_CONTENT_PROTO;
    return GRPC_CONTENT_UNKNOWN_CODEC;
}

static size_t percent_len(uint8_t byte)
{
    return byte < 0x20 || byte > 0x7E || byte == '%' ? 3 : 1;
}

/* Bytes of the UTF-8 character that begins text; 1 for a stray byte. */
static size_t character_len(struct slice text)
{
    uint8_t lead = text.bytes[0];
    size_t n = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC0 ? 2 : 1;
    return n <= text.len && utf8_is_valid(text.bytes, n, NULL) ? n : 1;
}

size_t grpc_percent_encode(struct slice text, char *out, size_t cap, size_t *n_read)
{
    static const char hex[] = "0123456789ABCDEF";
    size_t n = 0, i = 0;
    while (i < text.len) {
        size_t n_bytes = character_len(slice_of(text.bytes + i, text.len - i));
        size_t needed = 0;
        for (size_t k = 0; k < n_bytes; k++)
            needed += percent_len(text.bytes[i + k]);
        if (n + needed > cap)
            break;
        for (size_t k = 0; k < n_bytes; k++, i++) {
            uint8_t byte = text.bytes[i];
            if (percent_len(byte) == 1) {
                out[n++] = (char)byte;
                continue;
            }
            out[n++] = '%';
            out[n++] = hex[byte >> 4];
            out[n++] = hex[byte & 15];
        }
    }
    if (n_read != NULL)
        *n_read = i;
    return n;
}

size_t grpc_base64_bound(size_t n)
{
    return n / 3 * 4 + (n % 3 == 0 ? 0 : n % 3 + 1);
}

size_t grpc_base64_encode(struct slice bytes, char *out)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t n = 0;
    for (size_t i = 0; i < bytes.len; i += 3) {
        size_t left = bytes.len - i;
        uint32_t bits = (uint32_t)bytes.bytes[i] << 16;
        if (left > 1)
            bits |= (uint32_t)bytes.bytes[i + 1] << 8;
        if (left > 2)
            bits |= bytes.bytes[i + 2];
        out[n++] = digits[bits >> 18];
        out[n++] = digits[bits >> 12 & 63];
        if (left > 1)
            out[n++] = digits[bits >> 6 & 63];
        if (left > 2)
            out[n++] = digits[bits & 63];
    }
    assert(n == grpc_base64_bound(bytes.len));
    return n;
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

int grpc_base64_decode(struct slice text, uint8_t *out, size_t *n)
{
    size_t len = text.len;
    if (len != 0 && len % 4 == 0)
        for (int pad = 0; pad < 2 && text.bytes[len - 1] == '='; pad++)
            len--;
    if (len % 4 == 1)
        return STATUS_INVALID;
    uint32_t bits = 0;
    int n_bits = 0;
    size_t written = 0;
    for (size_t i = 0; i < len; i++) {
        int digit = base64_digit(text.bytes[i]);
        if (digit < 0)
            return STATUS_INVALID;
        bits = bits << 6 | (uint32_t)digit;
        n_bits += 6;
        if (n_bits < 8)
            continue;
        n_bits -= 8;
        if (out != NULL)
            out[written] = (uint8_t)(bits >> n_bits);
        written++;
    }
    if (n != NULL)
        *n = written;
    return STATUS_OK;
}

bool grpc_bin_is_valid(struct slice value)
{
    size_t start = 0;
    for (size_t i = 0; i <= value.len; i++) {
        if (i < value.len && value.bytes[i] != ',')
            continue;
        size_t from = start, to = i;
        while (from < to && value.bytes[from] == ' ')
            from++;
        while (to > from && value.bytes[to - 1] == ' ')
            to--;
        if (grpc_base64_decode(slice_of(value.bytes + from, to - from), NULL, NULL) < 0)
            return false;
        start = i + 1;
    }
    return true;
}

bool grpc_text_copy(struct slice value, char *out, size_t cap)
{
    while (value.len > 0 && (value.bytes[0] == ' ' || value.bytes[0] == '\t'))
        value = slice_of(value.bytes + 1, value.len - 1);
    while (value.len > 0 &&
           (value.bytes[value.len - 1] == ' ' || value.bytes[value.len - 1] == '\t'))
        value.len--;
    if (value.len >= cap)
        return false;
    for (size_t i = 0; i < value.len; i++)
        if (value.bytes[i] < 0x20 || value.bytes[i] > 0x7E)
            return false;
    if (value.len != 0)
        memcpy(out, value.bytes, value.len);
    out[value.len] = '\0';
    return true;
}

bool grpc_traceparent_is_valid(const char *text)
{
    static const char form[] = "xx-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx-xxxxxxxxxxxxxxxx-xx";
    for (size_t i = 0; form[i] != '\0'; i++) /* the text's end is of no form */
        if (form[i] == 'x' ? text[i] == '\0' || strchr("0123456789abcdef", text[i]) == NULL
                           : text[i] != form[i])
            return false;
    const char *trace = text + 3, *parent = trace + 33, *rest = text + sizeof form - 1;
    if (strncmp(text, "ff", 2) == 0 || strspn(trace, "0") == 32 || strspn(parent, "0") == 16)
        return false;
    return *rest == '\0' || (*rest == '-' && strncmp(text, "00", 2) != 0);
}

static const char status_name_text[] = "grpc-status";
static const char message_name_text[] = "grpc-message";
static const char details_name_text[] = "grpc-status-details-bin";

static size_t field_bytes(const char *name, size_t value_len)
{
    return value_len == 0 ? 0 : strlen(name) + value_len + FIELD_OVERHEAD;
}

static char *add_field(struct grpc_trailers *trailers, const char *name, char *value, size_t len)
{
    if (len == 0)
        return value;
    trailers->fields[trailers->n_fields].name = slice_from(name);
    trailers->fields[trailers->n_fields].value = slice_of(value, len);
    trailers->n_fields++;
    return value + len;
}

struct grpc_trailers *grpc_trailers_create(int grpc_code, struct slice message,
                                           struct slice details, size_t bytes_max)
{
    size_t message_max = message.len * 3;
    struct grpc_trailers *trailers =
        malloc(sizeof(*trailers) + 12 + message_max + 3 + grpc_base64_bound(details.len));
    if (trailers == NULL)
        return NULL;
    trailers->n_fields = 0;
    trailers->details_dropped = false;
    char *at = trailers->bytes;
    size_t n = (size_t)snprintf(at, 12, "%d", grpc_code);
    size_t left = bytes_max - field_bytes(status_name_text, n);
    at = add_field(trailers, status_name_text, at, n);

    n = grpc_percent_encode(message, at, message_max, NULL);
    size_t n_details = grpc_base64_bound(details.len);
    if (field_bytes(message_name_text, n) + field_bytes(details_name_text, n_details) > left) {
        trailers->details_dropped = details.len != 0;
        n_details = 0;
    }
    if (field_bytes(message_name_text, n) > left) {
        size_t room = left - strlen(message_name_text) - FIELD_OVERHEAD - 3;
        n = grpc_percent_encode(message, at, room, NULL);
        memcpy(at + n, "...", 3);
        n += 3;
    }
    at = add_field(trailers, message_name_text, at, n);
    if (n_details != 0)
        grpc_base64_encode(details, at);
    add_field(trailers, details_name_text, at, n_details);
    return trailers;
}
