#include "model/chat_template.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/status.h"
#include "base/utf8.h"
#include "limits.h"
#include "model/chat_literal.h"
#include "model/chat_render.h"
#include "model/chat_tools.h"
#include "model/token_buffer.h"
#include "model/vocabulary.h"

#define RENDERED_BYTES_MAX (64u << 20) /* of one body; a request is smaller by far */

/* --- recognising --- */

static struct slice first_line(struct slice text)
{
    while (text.len > 0 && (*text.bytes == '\n' || *text.bytes == '\r'))
        text = slice_of(text.bytes + 1, text.len - 1);
    size_t len = 0;
    while (len < text.len && text.bytes[len] != '\n' && text.bytes[len] != '\r')
        len++;
    return slice_of(text.bytes, len);
}

#define WHAT_HELPS "send the prompt as raw text, or serve with --chat-format NAME, such as chatml"

static int refuse_template(struct slice text, struct why *why)
{
    char quoted[160];
    if (text.len == 0)
        return refuse(why, STATUS_UNSUPPORTED,
                      "the model's file has no tokenizer.chat_template, so chat messages cannot be "
                      "rendered; " WHAT_HELPS);
    struct slice line = first_line(text);
    log_quote(quoted, sizeof quoted, (const char *)line.bytes, line.len);
    return refuse(why, STATUS_UNSUPPORTED,
                  "the model's chat template is of no known family (it begins %s); " WHAT_HELPS,
                  quoted);
}

static int find_family(const struct chat_source *source, const struct vocabulary *vocabulary,
                       enum chat_family *out, struct why *why)
{
    int status = STATUS_OK;
    *out = chat_family_of(source->text, slice_equal(source->pre, slice_from("tekken")));
    if (source->format.len > 0)
        status = chat_family_named(source->format, out, why);
    if (status == STATUS_OK && *out == CHAT_N_FAMILIES)
        status = refuse_template(source->text, why);
    return status == STATUS_OK ? chat_family_check(*out, vocabulary, why) : status;
}

/* Llama 3 trims always, Llama 4 never, Mistral only answers; of the others the text says it. */
static void set_trims(struct chat_template *out)
{
    enum chat_trim said = chat_literal_trims(out->text);
    bool is_mistral = out->shape->tools == CHAT_TOOLS_MISTRAL;
    out->trims_answers = is_mistral && said != CHAT_TRIM_NONE;
    if (out->family == CHAT_LLAMA2)
        out->trims = said != CHAT_TRIM_NONE;
    else
        out->trims = out->family == CHAT_LLAMA3 ||
                     (out->family != CHAT_LLAMA4 && !is_mistral && said == CHAT_TRIM_ALL);
}

int chat_template_create(const struct chat_source *source, const struct vocabulary *vocabulary,
                         struct chat_template **out, struct why *why)
{
    enum chat_family family;
    int status = find_family(source, vocabulary, &family, why);
    if (status < 0)
        return status;

    struct slice text = source->text;
    if (source->format.len > 0 &&
        family != chat_family_of(text, slice_equal(source->pre, slice_from("tekken"))))
        text = slice_of(NULL, 0); /* of another family: it says nothing about this one */
    size_t bad;
    if (text.len > 0 && !utf8_is_valid(text.bytes, text.len, &bad))
        return refuse(why, STATUS_UNSUPPORTED,
                      "the model's chat template is not UTF-8 at byte %zu of %zu; " WHAT_HELPS,
                      bad, text.len);
    struct chat_template *chat_template = calloc(1, sizeof *chat_template + 2 * text.len);
    if (chat_template == NULL)
        return refuse(why, STATUS_NO_MEMORY, "no memory for a chat template of %zu bytes",
                      text.len);
    if (text.len > 0)
        memcpy(chat_template->bytes, text.bytes, text.len);
    const struct chat_shape *shape = chat_family_shape(family);
    uint8_t *system = chat_template->bytes + text.len;
    chat_template->family = family;
    chat_template->shape = shape;
    chat_template->text = slice_of(chat_template->bytes, text.len);
    if (family == CHAT_CHATML)
        chat_template->system = slice_of(system, chat_literal_default_system(text, system));
    set_trims(chat_template);
    chat_template->begins_with_bos =
        vocabulary_bos_id(vocabulary) >= 0 &&
        (vocabulary_adds_bos(vocabulary) || shape->begins_with_bos ||
         chat_text_contains(text, "bos_token"));
    chat_template->takes_tools = shape->tools != CHAT_TOOLS_NONE &&
                                 (text.len == 0 || chat_text_contains(text, shape->tools_mark));
    *out = chat_template;
    return STATUS_OK;
}

void chat_template_free(struct chat_template *chat_template)
{
    free(chat_template);
}

const char *chat_template_family(const struct chat_template *chat_template)
{
    return chat_template->shape->name;
}

struct slice chat_template_default_system(const struct chat_template *chat_template)
{
    return chat_template->system;
}

enum chat_tool_style chat_template_tools(const struct chat_template *chat_template)
{
    return chat_template->takes_tools ? chat_template->shape->tools : CHAT_TOOLS_NONE;
}

/* --- checks --- */

static bool is_role(const struct chat_message *message)
{
    return chat_render_is(message, "system") || chat_render_is(message, "user") ||
           chat_render_is(message, "assistant") || chat_render_is(message, "tool");
}

static int check_message(const struct chat_template *chat_template,
                         const struct chat_message *message, size_t i, struct why *why)
{
    char quoted[64];
    struct slice role = message->role, content = message->content;
    bool has_tools = chat_template_tools(chat_template) != CHAT_TOOLS_NONE;
    size_t bad = 0;

    if (!is_role(message))
        return refuse(why, STATUS_INVALID,
                      "message %zu has the role %s; roles are system, user, assistant and tool", i,
                      log_quote(quoted, sizeof quoted, (const char *)role.bytes, role.len));
    if (!has_tools && (message->n_calls > 0 || chat_render_is(message, "tool")))
        return refuse(why, STATUS_UNSUPPORTED,
                      "message %zu is of a tool, and the model's chat template (%s) has no place "
                      "for tools that is known here",
                      i, chat_template->shape->name);
    if (message->n_calls > 0 && !chat_render_is(message, "assistant"))
        return refuse(why, STATUS_INVALID, "message %zu has %zu calls; only an assistant's may", i,
                      message->n_calls);
    if (content.len > 0 && !utf8_is_valid(content.bytes, content.len, &bad))
        return refuse(why, STATUS_INVALID,
                      "message %zu is not UTF-8: byte 0x%02X at offset %zu of %zu", i,
                      content.bytes[bad], bad, content.len);
    return STATUS_OK;
}

/* The user and the assistant in turns, the user first; calls and their results are between. */
static int check_order(const struct chat_template *chat_template, const struct chat *chat,
                       struct why *why)
{
    bool is_users_turn = true;
    for (size_t i = 0; i < chat->n_messages; i++) {
        const struct chat_message *message = &chat->messages[i];
        if ((i == 0 && chat_render_is(message, "system")) || message->n_calls > 0 ||
            chat_render_is(message, "tool"))
            continue;
        if (chat_render_is(message, "user") != is_users_turn || chat_render_is(message, "system"))
            return refuse(why, STATUS_INVALID,
                          "message %zu is the %.*s's; in the format %s the user and the assistant "
                          "take turns, the user first, behind at most one system message",
                          i, (int)message->role.len, (const char *)message->role.bytes,
                          chat_template->shape->name);
        is_users_turn = !is_users_turn;
    }
    return STATUS_OK;
}

static bool may_think(const struct chat_template *chat_template)
{
    return (chat_template->family == CHAT_QWEN3 &&
            !chat_family_always_thinks(chat_template->text)) ||
           (chat_template->family == CHAT_DEEPSEEK3 &&
            chat_text_contains(chat_template->text, "thinking"));
}

static int check_chat(const struct chat_template *chat_template, const struct chat *chat,
                      struct why *why)
{
    int status = STATUS_OK;
    if (chat->n_messages == 0)
        return refuse(why, STATUS_INVALID, "a chat needs at least one message");
    for (size_t i = 0; i < chat->n_messages && status == STATUS_OK; i++)
        status = check_message(chat_template, &chat->messages[i], i, why);
    if (status == STATUS_OK && chat->n_tools > 0 &&
        chat_template_tools(chat_template) == CHAT_TOOLS_NONE)
        status = refuse(why, STATUS_UNSUPPORTED,
                        "%zu tools were given, and the model's chat template (%s) has no place for "
                        "tools that is known here; send them as text",
                        chat->n_tools, chat_template->shape->name);
    if (status == STATUS_OK && chat->thinking >= 0 && !may_think(chat_template))
        status = refuse(why, STATUS_UNSUPPORTED,
                        "the model's chat format (%s) cannot turn thinking on or off; leave "
                        "`thinking` out",
                        chat_template->shape->name);
    if (status == STATUS_OK && chat_template->shape->alternates)
        status = check_order(chat_template, chat, why);
    return status == STATUS_OK ? chat_tools_check(chat, chat_template->shape->tools, why) : status;
}

/* --- rendering --- */

int chat_template_render(const struct chat_template *chat_template,
                         const struct vocabulary *vocabulary, const struct chat *chat,
                         bool add_generation_prompt, struct token_buffer *out, struct why *why)
{
    struct chat_rendering rendering = {.chat_template = chat_template, .vocabulary = vocabulary,
                                       .chat = chat, .out = out, .why = why};
    size_t n_before = out->n;
    int status = check_chat(chat_template, chat, why);
    if (status < 0)
        return status;

    text_builder_init(&rendering.pending, RENDERED_BYTES_MAX);
    rendering.status = text_encoder_init(&rendering.encoder, vocabulary, true, why);
    if (chat_template->shape->opening != NULL)
        chat_render_tagged(&rendering, add_generation_prompt);
    else if (chat_template->shape->behind_inst != NULL)
        chat_render_bracketed(&rendering); /* an answer follows [/INST] at once */
    else
        chat_render_deepseek(&rendering, add_generation_prompt);
    chat_render_flush(&rendering);
    text_builder_release(&rendering.pending);
    text_encoder_release(&rendering.encoder);
    if (rendering.status < 0)
        out->n = n_before;
    return rendering.status;
}
