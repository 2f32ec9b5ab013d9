#include "model/json_text.h"

#include "base/status.h"
#include "base/utf8.h"
#include "limits.h"
#include "model/text_builder.h"

#include <stdio.h>

struct reader {
    struct slice text;
    size_t at;
    unsigned indent, depth, depth_max;
    struct text_builder *out;
    const char *wrong; /* what was expected at `at`; NULL: nothing is wrong */
};

static bool fail(struct reader *reader, const char *wanted)
{
    if (reader->wrong == NULL)
        reader->wrong = wanted;
    return false;
}

/* The byte at hand, or -1 at the end. */
static int peek(const struct reader *reader)
{
    return reader->at < reader->text.len ? reader->text.bytes[reader->at] : -1;
}

static int peek_behind_space(struct reader *reader)
{
    while (peek(reader) == ' ' || peek(reader) == '\n' || peek(reader) == '\r' ||
           peek(reader) == '\t')
        reader->at++;
    return peek(reader);
}

static void copy_from(struct reader *reader, size_t begin)
{
    text_builder_add(reader->out, slice_of(reader->text.bytes + begin, reader->at - begin));
}

/* Text as it stands between the quotes of a string. */
static void quote_inner(struct slice text, struct text_builder *out)
{
    static const char named[] = "\"\"\\\\\bb\ff\nn\rr\tt";
    for (size_t i = 0; i < text.len; i++) {
        uint8_t byte = text.bytes[i];
        const char *at = byte == 0 ? NULL : strchr(named, byte);
        if (byte >= ' ' && byte != '"' && byte != '\\') {
            text_builder_add(out, slice_of(&text.bytes[i], 1));
        } else if (at != NULL) {
            text_builder_add(out, slice_of((char[]){'\\', at[1]}, 2));
        } else {
            char escape[8];
            snprintf(escape, sizeof escape, "\\u%04x", byte);
            text_builder_say(out, escape);
        }
    }
}

static bool is_digit(int byte)
{
    return byte >= '0' && byte <= '9';
}

static bool is_hex(int byte)
{
    return is_digit(byte) || (byte >= 'a' && byte <= 'f') || (byte >= 'A' && byte <= 'F');
}

/* The digits behind \u. */
static bool read_hex(struct reader *reader, uint32_t *unit)
{
    *unit = 0;
    for (int i = 0; i < 4; i++, reader->at++) {
        int byte = peek(reader);
        if (!is_hex(byte))
            return fail(reader, "four hex digits behind \\u");
        *unit = *unit * 16 + (uint32_t)(is_digit(byte) ? byte - '0' : (byte | 0x20) - 'a' + 10);
    }
    return true;
}

/* A low half behind the high one that was read, which with it is a character. */
static bool take_low_half(struct reader *reader, uint32_t *code)
{
    uint32_t low;
    struct reader ahead = *reader;
    if (ahead.text.len - ahead.at < 2 || memcmp(ahead.text.bytes + ahead.at, "\\u", 2) != 0)
        return false;
    ahead.at += 2;
    if (!read_hex(&ahead, &low) || low < 0xDC00 || low > 0xDFFF)
        return false;
    *code = 0x10000 + ((*code - 0xD800) << 10) + (low - 0xDC00);
    reader->at = ahead.at;
    return true;
}

/* Behind the backslash: appends what the escape means, escaped again where it has to be. */
static bool read_escape(struct reader *reader)
{
    static const char named[] = "\"\"\\\\//b\bf\fn\nr\rt\t";
    int byte = peek(reader);
    const char *found = byte <= 0 || byte == 'u' ? NULL : strchr(named, byte);
    size_t begin = reader->at - 1;
    uint32_t code;
    uint8_t out[4];

    if (byte != 'u' && (found == NULL || (found - named) % 2 != 0))
        return fail(reader, "an escape such as \\n");
    reader->at++;
    if (byte != 'u')
        code = (uint8_t)found[1];
    else if (!read_hex(reader, &code))
        return false;
    if (code >= 0xD800 && code <= 0xDFFF && (code >= 0xDC00 || !take_low_half(reader, &code)))
        copy_from(reader, begin); /* half a character stays as it is */
    else
        quote_inner(slice_of(out, utf8_encode(code, out)), reader->out);
    return true;
}

static bool read_string(struct reader *reader)
{
    size_t begin = reader->at;
    if (peek(reader) != '"')
        return fail(reader, "a string");
    reader->at++;
    for (;;) {
        int byte = peek(reader);
        if (byte < ' ')
            return fail(reader, "a closing quote");
        reader->at++;
        if (byte == '"')
            break;
        if (byte != '\\')
            continue;
        text_builder_add(reader->out, slice_of(reader->text.bytes + begin, reader->at - 1 - begin));
        if (!read_escape(reader))
            return false;
        begin = reader->at;
    }
    copy_from(reader, begin);
    return true;
}

static bool read_digits(struct reader *reader)
{
    if (!is_digit(peek(reader)))
        return fail(reader, "a digit");
    while (is_digit(peek(reader)))
        reader->at++;
    return true;
}

static bool read_number(struct reader *reader)
{
    size_t begin = reader->at;
    if (peek(reader) == '-')
        reader->at++;
    if (peek(reader) == '0')
        reader->at++;
    else if (!read_digits(reader))
        return false;
    if (peek(reader) == '.') {
        reader->at++;
        if (!read_digits(reader))
            return false;
    }
    if (peek(reader) == 'e' || peek(reader) == 'E') {
        reader->at++;
        if (peek(reader) == '+' || peek(reader) == '-')
            reader->at++;
        if (!read_digits(reader))
            return false;
    }
    copy_from(reader, begin);
    return true;
}

static bool read_word(struct reader *reader)
{
    static const char *const words[] = {"true", "false", "null"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        size_t len = strlen(words[i]);
        if (reader->text.len - reader->at < len ||
            memcmp(reader->text.bytes + reader->at, words[i], len) != 0)
            continue;
        size_t begin = reader->at;
        reader->at += len;
        copy_from(reader, begin);
        return true;
    }
    return fail(reader, "a value");
}

static void new_line(struct reader *reader)
{
    text_builder_say(reader->out, "\n");
    text_builder_repeat(reader->out, ' ', (size_t)reader->indent * reader->depth);
}

static bool read_value(struct reader *reader);

static bool read_member(struct reader *reader)
{
    peek_behind_space(reader);
    if (!read_string(reader))
        return false;
    if (peek_behind_space(reader) != ':')
        return fail(reader, "a colon");
    reader->at++;
    text_builder_say(reader->out, ": ");
    return read_value(reader);
}

/* An object or an array; at the opening bracket. */
static bool read_container(struct reader *reader, char opening, char closing)
{
    text_builder_add(reader->out, slice_of(&opening, 1));
    reader->at++;
    if (++reader->depth > reader->depth_max)
        return fail(reader, "less nesting");
    bool is_empty = peek_behind_space(reader) == closing;
    while (!is_empty) {
        if (reader->indent > 0)
            new_line(reader);
        if (!(opening == '{' ? read_member(reader) : read_value(reader)))
            return false;
        int byte = peek_behind_space(reader);
        if (byte == closing)
            break;
        if (byte != ',')
            return fail(reader, opening == '{' ? "a comma or }" : "a comma or ]");
        reader->at++;
        text_builder_say(reader->out, reader->indent > 0 ? "," : ", ");
    }
    reader->depth--;
    if (!is_empty && reader->indent > 0)
        new_line(reader);
    text_builder_add(reader->out, slice_of(&closing, 1));
    reader->at++;
    return true;
}

static bool read_value(struct reader *reader)
{
    int byte = peek_behind_space(reader);
    if (byte == '{')
        return read_container(reader, '{', '}');
    if (byte == '[')
        return read_container(reader, '[', ']');
    if (byte == '"')
        return read_string(reader);
    if (byte == '-' || is_digit(byte))
        return read_number(reader);
    return read_word(reader);
}

/* A tool's definition puts two objects around what others nested. */
#define WRAPPERS 2

static int format(struct slice text, unsigned indent, unsigned depth_max,
                  struct text_builder *out, struct why *why)
{
    struct reader reader = {.text = text, .indent = indent, .depth_max = depth_max, .out = out};

    if (read_value(&reader) && peek_behind_space(&reader) >= 0)
        fail(&reader, "the end");
    if (reader.wrong != NULL)
        return refuse(why, STATUS_INVALID,
                      "not JSON at byte %zu of %zu: %s was expected (nesting goes to %d)",
                      reader.at, text.len, reader.wrong, CHAT_JSON_DEPTH_MAX);
    return STATUS_OK;
}

int json_text_format(struct slice text, unsigned indent, struct text_builder *out, struct why *why)
{
    return format(text, indent, CHAT_JSON_DEPTH_MAX + WRAPPERS, out, why);
}

int json_text_format_object(struct slice text, unsigned indent, struct text_builder *out,
                            struct why *why)
{
    struct reader reader = {.text = text};
    if (peek_behind_space(&reader) != '{')
        return refuse(why, STATUS_INVALID, "not a JSON object: { was expected at byte %zu of %zu",
                      reader.at, text.len);
    return format(text, indent, CHAT_JSON_DEPTH_MAX, out, why);
}

size_t json_text_measure(struct slice text)
{
    struct text_builder nothing; /* takes no byte, and says so to nobody */
    struct reader reader = {
        .text = text, .depth_max = CHAT_JSON_DEPTH_MAX + WRAPPERS, .out = &nothing};
    text_builder_init(&nothing, 0);
    return read_value(&reader) ? reader.at : 0;
}

/* What follows the first n bytes, without white space before it. */
static struct slice behind(struct slice text, size_t n)
{
    struct reader reader = {.text = text, .at = n};
    peek_behind_space(&reader);
    return slice_of(text.bytes + reader.at, text.len - reader.at);
}

bool json_text_member(struct slice object, const char *key, struct slice *value)
{
    struct slice rest = object.len > 0 ? behind(object, 0) : object;

    while (rest.len > 0 && (rest.bytes[0] == '{' || rest.bytes[0] == ',')) {
        rest = behind(rest, 1);
        size_t n_key = json_text_measure(rest);
        if (n_key < 2 || rest.bytes[0] != '"')
            return false;
        struct slice name = slice_of(rest.bytes + 1, n_key - 2);
        rest = behind(rest, n_key);
        if (rest.len == 0 || rest.bytes[0] != ':')
            return false;
        rest = behind(rest, 1);
        size_t n_value = json_text_measure(rest);
        if (n_value == 0)
            return false;
        if (slice_equal(name, slice_from(key))) {
            *value = slice_of(rest.bytes, n_value);
            return true;
        }
        rest = behind(rest, n_value);
    }
    return false;
}

void json_text_quote(struct slice text, struct text_builder *out)
{
    text_builder_say(out, "\"");
    quote_inner(text, out);
    text_builder_say(out, "\"");
}
