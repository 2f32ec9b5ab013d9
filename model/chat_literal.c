#include "model/chat_literal.h"

#include "base/utf8.h"
#include "model/text_builder.h"

static bool starts_with(struct slice text, const char *part)
{
    size_t len = strlen(part);
    return text.len >= len && memcmp(text.bytes, part, len) == 0;
}

static struct slice after(struct slice text, size_t n)
{
    return slice_of(text.bytes + n, text.len - n);
}

/* One character of a string literal (quote is its delimiter) or of bare template text (quote is 0):
 * writes it and returns how much of `text` it took, or 0 where the literal ends. */
static size_t read_literal_byte(struct slice text, uint8_t quote, uint8_t *out)
{
    static const char escapes[] = "n\nt\tr\r'\'\"\"\\\\";
    *out = text.bytes[0];
    if (quote == 0)
        return starts_with(text, "{{") || starts_with(text, "{%") || starts_with(text, "{#") ? 0
                                                                                             : 1;
    if (*out == quote)
        return 0;
    if (*out != '\\' || text.len < 2)
        return 1;
    for (const char *escape = escapes; *escape != '\0'; escape += 2)
        if (text.bytes[1] == (uint8_t)escape[0]) {
            *out = (uint8_t)escape[1];
            return 2;
        }
    return 1;
}

/* `text` follows "<|im_start|>system": a newline and a constant up to <|im_end|>, all in one
 * literal. out holds text.len. */
static bool read_system(struct slice text, uint8_t quote, uint8_t *out, size_t *n)
{
    bool has_newline = false;
    *n = 0;
    while (text.len > 0 && !starts_with(text, "<|im_end|>")) {
        uint8_t byte;
        if (starts_with(text, "<|im_start|>")) /* the next search begins there */
            return false;
        size_t taken = read_literal_byte(text, quote, &byte);
        if (taken == 0 || (!has_newline && byte != '\n'))
            return false;
        if (has_newline)
            out[(*n)++] = byte;
        has_newline = true;
        text = after(text, taken);
    }
    return text.len > 0 && *n > 0 && utf8_is_valid(out, *n, NULL);
}

/* SmolLM2 and Qwen2.5 both write '<|im_start|>system\nYou are ...<|im_end|>\n' in one literal for
 * the default alone. */
size_t chat_literal_default_system(struct slice text, uint8_t *out)
{
    static const char opening[] = "<|im_start|>system";
    const uint8_t *begin = text.bytes;
    while (text.len > 0) {
        const uint8_t *found = memmem(text.bytes, text.len, opening, strlen(opening));
        if (found == NULL)
            return 0;
        uint8_t quote = found > begin && (found[-1] == '\'' || found[-1] == '"') ? found[-1] : 0;
        text = after(text, (size_t)(found - text.bytes) + strlen(opening));
        size_t n;
        if (read_system(text, quote, out, &n))
            return n;
    }
    return 0;
}

static struct slice without_blanks(struct slice text)
{
    while (starts_with(text, " "))
        text = after(text, 1);
    return text;
}

/* What follows a mention of a content: content | trim, message['content'] | trim, content.strip(),
 * or content + '...'. */
static void look_at_content(struct slice rest, bool *is_trimmed, bool *is_joined)
{
    if (starts_with(rest, "']") || starts_with(rest, "\"]"))
        rest = after(rest, 2);
    *is_trimmed = starts_with(rest, ".strip()");
    rest = without_blanks(rest);
    *is_joined = starts_with(rest, "+");
    if (starts_with(rest, "|"))
        *is_trimmed = starts_with(without_blanks(after(rest, 1)), "trim");
}

enum chat_trim chat_literal_trims(struct slice text)
{
    static const char name[] = "content";
    bool has_trimmed = false, has_joined = false;

    while (text.len > 0) {
        const uint8_t *found = memmem(text.bytes, text.len, name, strlen(name));
        if (found == NULL)
            break;
        bool is_trimmed, is_joined;
        text = after(text, (size_t)(found - text.bytes) + strlen(name));
        look_at_content(text, &is_trimmed, &is_joined);
        has_trimmed = has_trimmed || is_trimmed;
        has_joined = has_joined || is_joined;
    }
    return !has_trimmed ? CHAT_TRIM_NONE : has_joined ? CHAT_TRIM_SOME : CHAT_TRIM_ALL;
}

/* --- literals and what is assigned --- */

static struct slice without_space(struct slice text)
{
    while (text.len > 0 && strchr(" \t\r\n", text.bytes[0]) != NULL && text.bytes[0] != 0)
        text = after(text, 1);
    return text;
}

/* Appends up to the literal's end; *text is then behind its closing quote. */
static bool read_quoted(struct slice *text, uint8_t quote, struct text_builder *out)
{
    while (text->len > 0) {
        uint8_t byte;
        size_t taken = read_literal_byte(*text, quote, &byte);
        if (taken == 0) {
            *text = after(*text, 1);
            return true;
        }
        text_builder_add(out, slice_of(&byte, 1));
        *text = after(*text, taken);
    }
    return false;
}

/* A literal, `today`, or strftime_now(...). */
static bool read_operand(struct slice *text, struct slice today, struct text_builder *out)
{
    static const char now[] = "strftime_now(";
    if (text->len > 0 && (text->bytes[0] == '"' || text->bytes[0] == '\'')) {
        uint8_t quote = text->bytes[0];
        *text = after(*text, 1);
        return read_quoted(text, quote, out);
    }
    if (starts_with(*text, "today")) {
        *text = after(*text, strlen("today"));
    } else if (starts_with(*text, now)) {
        const uint8_t *end = memchr(text->bytes, ')', text->len);
        if (end == NULL)
            return false;
        *text = after(*text, (size_t)(end - text->bytes) + 1);
    } else {
        return false;
    }
    text_builder_add(out, today);
    return true;
}

bool chat_literal_assigned(struct slice text, const char *name, struct slice today,
                           struct text_builder *out)
{
    size_t n_before = out->len;
    const uint8_t *found = text.len > 0 ? memmem(text.bytes, text.len, name, strlen(name)) : NULL;

    while (found != NULL) { /* of all places that name it, the first that assigns */
        struct slice rest = after(text, (size_t)(found - text.bytes) + strlen(name));
        text = rest;
        rest = without_space(rest);
        if (starts_with(rest, "=") && !starts_with(rest, "==")) {
            do {
                rest = without_space(after(rest, 1));
                if (!read_operand(&rest, today, out)) {
                    out->len = n_before;
                    return false;
                }
                rest = without_space(rest);
            } while (starts_with(rest, "+") || starts_with(rest, "~"));
            return out->len > n_before;
        }
        found = text.len > 0 ? memmem(text.bytes, text.len, name, strlen(name)) : NULL;
    }
    return false;
}

bool chat_literal_rest(struct slice text, const char *begin, struct text_builder *out)
{
    const uint8_t *found = text.len > 0 ? memmem(text.bytes, text.len, begin, strlen(begin)) : NULL;
    size_t n_before = out->len;

    if (found == NULL || found == text.bytes || (found[-1] != '"' && found[-1] != '\''))
        return false;
    struct slice rest = after(text, (size_t)(found - text.bytes));
    if (read_quoted(&rest, found[-1], out))
        return true;
    out->len = n_before;
    return false;
}
