#include "base/log_json.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

struct writer {
    char *out;
    size_t n;
};

static void put(struct writer *to, const char *bytes, size_t len)
{
    memcpy(to->out + to->n, bytes, len);
    to->n += len;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* As JSON has numbers: -?(0|[1-9][0-9]*)([.][0-9]+)? and no exponent, which no record has. */
static bool is_number(const char *text, size_t len)
{
    size_t at = len > 0 && text[0] == '-' ? 1 : 0, begin = at;
    while (at < len && is_digit(text[at]))
        at++;
    if (at == begin || (text[begin] == '0' && at - begin > 1) || len > 17)
        return false; /* longer ones lose digits in readers that take doubles */
    if (at == len)
        return true;
    size_t point = at++;
    while (at < len && is_digit(text[at]))
        at++;
    return text[point] == '.' && at == len && at > point + 1;
}

/* \xNN of the log is not JSON's; quotes and backslashes are. */
static void put_string(struct writer *to, const char *text, size_t len)
{
    put(to, "\"", 1);
    for (size_t i = 0; i < len; i++) {
        if (text[i] == '\\' && i + 3 < len && text[i + 1] == 'x') {
            put(to, "\\u00", 4);
            put(to, text + i + 2, 2);
            i += 3;
        } else if (text[i] == '\\' && i + 1 < len && strchr("\"\\nrt", text[i + 1]) != NULL) {
            put(to, text + i, 2);
            i++;
        } else if (text[i] == '"' || text[i] == '\\') {
            put(to, "\\", 1);
            put(to, text + i, 1);
        } else {
            put(to, text + i, 1);
        }
    }
    put(to, "\"", 1);
}

/* The value at text: its length with quotes; *inner is what is between them. */
static size_t value_len(const char *text, size_t len, bool *is_quoted)
{
    size_t at = 0;
    *is_quoted = len > 0 && text[0] == '"';
    if (!*is_quoted) {
        while (at < len && text[at] != ' ')
            at++;
        return at;
    }
    for (at = 1; at < len && text[at] != '"'; at++)
        if (text[at] == '\\' && at + 1 < len)
            at++;
    return at < len ? at + 1 : len;
}

size_t log_json_line(const char *line, size_t len, char *out)
{
    struct writer to = {.out = out};
    put(&to, "{", 1);
    for (size_t at = 0; at < len;) {
        const char *equals = memchr(line + at, '=', len - at);
        size_t n_key = equals != NULL ? (size_t)(equals - line) - at : len - at;
        bool is_quoted;
        put(&to, ",", to.n > 1 ? 1 : 0);
        put_string(&to, line + at, n_key);
        put(&to, ":", 1);
        at += n_key + (equals != NULL ? 1 : 0);
        size_t n = value_len(line + at, len - at, &is_quoted);
        bool is_closed = is_quoted && n > 1 && line[at + n - 1] == '"';
        if (is_quoted)
            put_string(&to, line + at + 1, n - 1 - (is_closed ? 1 : 0));
        else if (is_number(line + at, n))
            put(&to, line + at, n);
        else
            put_string(&to, line + at, n);
        at += n;
        while (at < len && line[at] == ' ')
            at++;
    }
    put(&to, "}\n", 2);
    return to.n;
}
