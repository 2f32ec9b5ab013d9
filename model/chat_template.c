#include "model/chat_template.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/status.h"
#include "base/utf8.h"
#include "model/token_buffer.h"
#include "model/tokenizer.h"
#include "model/vocabulary.h"

struct chat_template {
    bool trims; /* contents lose the white space around them */
    bool begins_with_bos;
    size_t n_system;
    uint8_t system[]; /* [n_system] added when the first message is not the system's */
};

/* --- recognising --- */

static bool contains(struct slice text, const char *part)
{
    return text.len > 0 && memmem(text.bytes, text.len, part, strlen(part)) != NULL;
}

static const char *mistral_family(struct slice text)
{
    if (contains(text, "[SYSTEM_PROMPT]"))
        return "Mistral v7";
    if (!contains(text, "[AVAILABLE_TOOLS]") && !contains(text, "' [INST] ' + system_message"))
        return "Llama 2";
    if (contains(text, " [INST]"))
        return "Mistral v1";
    return contains(text, "\"[INST]\"") ? "Mistral v3-tekken" : "Mistral v3";
}

/* The order matters: later marks also occur in templates of earlier families. NULL: none is known.
 */
static const char *family_of(struct slice text)
{
    if (contains(text, "<|im_start|>")) {
        if (contains(text, "<|im_sep|>"))
            return "Phi-4";
        if (contains(text, "<think>") && contains(text, "enable_thinking"))
            return "Qwen3";
        return "ChatML";
    }
    if (contains(text, "[INST]"))
        return mistral_family(text);
    if (contains(text, "<|start_header_id|>") && contains(text, "<|end_header_id|>"))
        return "Llama 3";
    if (contains(text, "'Assistant: ' + message['content'] + eos_token"))
        return "DeepSeek V2";
    if (contains(text, "<\xEF\xBD\x9C"
                       "Assistant\xEF\xBD\x9C>") &&
        contains(text, "<\xEF\xBD\x9C"
                       "User\xEF\xBD\x9C>"))
        return "DeepSeek V3";
    if (contains(text, "<|header_start|>") && contains(text, "<|header_end|>"))
        return "Llama 4";
    return NULL;
}

static struct slice first_line(struct slice text)
{
    while (text.len > 0 && (*text.bytes == '\n' || *text.bytes == '\r'))
        text = slice_of(text.bytes + 1, text.len - 1);
    size_t len = 0;
    while (len < text.len && text.bytes[len] != '\n' && text.bytes[len] != '\r')
        len++;
    return slice_of(text.bytes, len);
}

#define RAW_TEXT_WORKS "send the prompt as raw text, or load a ChatML model (SmolLM2, Qwen2.5)"

static int refuse_template(struct slice text, const char *family, struct why *why)
{
    char quoted[160];
    if (text.len == 0)
        return refuse(why, STATUS_UNSUPPORTED,
                      "the model's file has no tokenizer.chat_template, so "
                      "chat messages cannot be rendered; " RAW_TEXT_WORKS);
    struct slice line = first_line(text);
    log_quote(quoted, sizeof quoted, (const char *)line.bytes, line.len);
    if (family == NULL)
        return refuse(why, STATUS_UNSUPPORTED,
                      "the model's chat template is of no known family (it "
                      "begins %s); " RAW_TEXT_WORKS,
                      quoted);
    return refuse(why, STATUS_UNSUPPORTED,
                  "the model's chat template is of the family %s (it begins "
                  "%s), and this build renders ChatML; " RAW_TEXT_WORKS,
                  family, quoted);
}

/* --- reading the default system text --- */

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
static size_t find_default_system(struct slice text, uint8_t *out)
{
    static const char opening[] = "<|im_start|>system";
    const uint8_t *begin = text.bytes;
    for (;;) {
        const uint8_t *found = memmem(text.bytes, text.len, opening, strlen(opening));
        if (found == NULL)
            return 0;
        uint8_t quote = found > begin && (found[-1] == '\'' || found[-1] == '"') ? found[-1] : 0;
        text = after(text, (size_t)(found - text.bytes) + strlen(opening));
        size_t n;
        if (read_system(text, quote, out, &n))
            return n;
    }
}

/* content | trim, message['content'] | trim, message["content"]|trim */
static bool trims_contents(struct slice text)
{
    static const char name[] = "content";
    for (;;) {
        const uint8_t *found = memmem(text.bytes, text.len, name, strlen(name));
        if (found == NULL)
            return false;
        text = after(text, (size_t)(found - text.bytes) + strlen(name));
        struct slice rest = text;
        if (starts_with(rest, "']") || starts_with(rest, "\"]"))
            rest = after(rest, 2);
        while (starts_with(rest, " "))
            rest = after(rest, 1);
        if (!starts_with(rest, "|"))
            continue;
        rest = after(rest, 1);
        while (starts_with(rest, " "))
            rest = after(rest, 1);
        if (starts_with(rest, "trim"))
            return true;
    }
}

int chat_template_create(struct slice text, const struct vocabulary *vocabulary,
                         struct chat_template **out, struct why *why)
{
    const char *family = family_of(text);
    if (family == NULL || strcmp(family, "ChatML") != 0)
        return refuse_template(text, family, why);
    uint32_t id;
    if (!vocabulary_find_special(vocabulary, slice_from("<|im_start|>"), &id) ||
        !vocabulary_find_special(vocabulary, slice_from("<|im_end|>"), &id))
        return refuse(
            why, STATUS_UNSUPPORTED,
            "the model's chat template is ChatML, but <|im_start|> "
            "and <|im_end|> are not tokens of its vocabulary; send the prompt as raw text");

    struct chat_template *chat = calloc(1, sizeof *chat + text.len);
    if (chat == NULL)
        return refuse(why, STATUS_NO_MEMORY, "no memory for a chat template of %zu bytes",
                      text.len);
    chat->trims = trims_contents(text);
    chat->begins_with_bos = vocabulary_bos_id(vocabulary) >= 0 &&
                            (vocabulary_adds_bos(vocabulary) || contains(text, "bos_token"));
    chat->n_system = find_default_system(text, chat->system);
    *out = chat;
    return STATUS_OK;
}

void chat_template_free(struct chat_template *chat)
{
    free(chat);
}

const char *chat_template_family(const struct chat_template *chat)
{
    (void)chat;
    return "ChatML";
}

struct slice chat_template_default_system(const struct chat_template *chat)
{
    return slice_of(chat->system, chat->n_system);
}

/* --- rendering --- */

struct rendering {
    struct text_encoder encoder;
    uint64_t n_bytes; /* of rendered text so far */
    struct token_buffer *out;
};

static int append(struct rendering *rendering, struct slice text, bool parse_special,
                  struct why *why)
{
    size_t n_done = 0;
    rendering->encoder.parse_special = parse_special;
    int status = text_encoder_advance(&rendering->encoder, text, true, rendering->n_bytes,
                                      rendering->out, &n_done, why);
    rendering->n_bytes += text.len;
    return status;
}

/* White space as Python's str.strip sees it: the length of the one at the start of text, or 0. */
static size_t white_space_len(struct slice text)
{
    static const char *const wide[] = {"\xC2\x85",     "\xC2\xA0",     "\xE1\x9A\x80",
                                       "\xE2\x80\xA8", "\xE2\x80\xA9", "\xE2\x80\xAF",
                                       "\xE2\x81\x9F", "\xE3\x80\x80"};
    if (text.len == 0)
        return 0;
    uint8_t byte = text.bytes[0];
    if ((byte >= 9 && byte <= 13) || (byte >= 28 && byte <= 32))
        return 1;
    if (text.len >= 3 && byte == 0xE2 && text.bytes[1] == 0x80 && text.bytes[2] <= 0x8A)
        return 3; /* U+2000 to U+200A */
    for (size_t i = 0; i < sizeof wide / sizeof wide[0]; i++)
        if (starts_with(text, wide[i]))
            return strlen(wide[i]);
    return 0;
}

static struct slice trimmed(struct slice text)
{
    for (size_t n = white_space_len(text); n > 0; n = white_space_len(text))
        text = after(text, n);
    while (text.len > 0) {
        size_t n = 1;
        while (n < text.len && (text.bytes[text.len - n] & 0xC0) == 0x80)
            n++;
        if (white_space_len(after(text, text.len - n)) != n)
            break;
        text.len -= n;
    }
    return text;
}

static int append_turn(struct rendering *rendering, const char *opening, struct slice content,
                       struct why *why)
{
    int status = append(rendering, slice_from(opening), true, why);
    if (status == STATUS_OK)
        status = append(rendering, content, false, why);
    if (status == STATUS_OK)
        status = append(rendering, slice_from("<|im_end|>\n"), true, why);
    return status;
}

static const char *opening_of(struct slice role)
{
    if (slice_equal(role, slice_from("system")))
        return "<|im_start|>system\n";
    if (slice_equal(role, slice_from("user")))
        return "<|im_start|>user\n";
    if (slice_equal(role, slice_from("assistant")))
        return "<|im_start|>assistant\n";
    return NULL;
}

static int check_messages(const struct chat_message *messages, size_t n, struct why *why)
{
    if (n == 0)
        return refuse(why, STATUS_INVALID, "a chat needs at least one message");
    for (size_t i = 0; i < n; i++) {
        char quoted[64];
        struct slice role = messages[i].role, content = messages[i].content;
        size_t bad = 0;
        if (opening_of(role) == NULL)
            return refuse(why, STATUS_INVALID,
                          "message %zu has the role %s; roles are system, user "
                          "and assistant",
                          i, log_quote(quoted, sizeof quoted, (const char *)role.bytes, role.len));
        if (content.len > 0 && !utf8_is_valid(content.bytes, content.len, &bad))
            return refuse(why, STATUS_INVALID,
                          "message %zu is not UTF-8: byte 0x%02X at offset %zu of "
                          "%zu",
                          i, content.bytes[bad], bad, content.len);
    }
    return STATUS_OK;
}

static int append_messages(const struct chat_template *chat, struct rendering *rendering,
                           const struct chat_message *messages, size_t n, struct why *why)
{
    int status = STATUS_OK;
    if (chat->n_system > 0 && !slice_equal(messages[0].role, slice_from("system")))
        status =
            append_turn(rendering, "<|im_start|>system\n", chat_template_default_system(chat), why);
    for (size_t i = 0; i < n && status == STATUS_OK; i++) {
        struct slice content = messages[i].content;
        if (chat->trims)
            content = trimmed(content);
        status = append_turn(rendering, opening_of(messages[i].role), content, why);
        if (status < 0)
            refuse_prefix(why, status, "message %zu, in the rendered text", i);
    }
    return status;
}

int chat_template_render(const struct chat_template *chat, const struct vocabulary *vocabulary,
                         const struct chat_message *messages, size_t n, bool add_generation_prompt,
                         struct token_buffer *out, struct why *why)
{
    int status = check_messages(messages, n, why);
    if (status < 0)
        return status;
    struct rendering rendering = {.out = out};
    size_t n_before = out->n;
    status = text_encoder_init(&rendering.encoder, vocabulary, true, why);
    if (status == STATUS_OK && chat->begins_with_bos)
        status = token_buffer_push(out, (uint32_t)vocabulary_bos_id(vocabulary),
                                   (struct token_span){0}, why);
    if (status == STATUS_OK)
        status = append_messages(chat, &rendering, messages, n, why);
    if (status == STATUS_OK && add_generation_prompt)
        status = append(&rendering, slice_from("<|im_start|>assistant\n"), true, why);
    text_encoder_release(&rendering.encoder);
    if (status < 0)
        out->n = n_before;
    return status;
}
