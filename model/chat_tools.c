#include "model/chat_tools.h"

#include "base/log.h"
#include "base/status.h"
#include "limits.h"
#include "model/json_text.h"
#include "model/text_builder.h"

#define MISTRAL_ID_BYTES 9

/* --- checks --- */

static bool is_name(struct slice name)
{
    for (size_t i = 0; i < name.len; i++) {
        uint8_t byte = name.bytes[i];
        bool is_letter = (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z');
        if (!is_letter && !(byte >= '0' && byte <= '9') && strchr("_-.", byte) == NULL)
            return false;
    }
    return name.len > 0 && name.len <= CHAT_NAME_BYTES_MAX &&
           memchr(name.bytes, 0, name.len) == NULL; /* strchr finds its end too */
}

static int check_name(struct slice name, struct why *why)
{
    char quoted[100];
    if (is_name(name))
        return STATUS_OK;
    return refuse(why, STATUS_INVALID,
                  "the name %s of %zu bytes; names have 1 to %d letters, digits, _, - and .",
                  log_quote(quoted, sizeof quoted, (const char *)name.bytes, name.len), name.len,
                  CHAT_NAME_BYTES_MAX);
}

static int check_object(struct slice text, struct why *why)
{
    struct text_builder scratch;
    text_builder_init(&scratch, CHAT_TOOLS_BYTES_MAX);
    int status = json_text_format_object(text, 0, &scratch, why);
    if (status == STATUS_OK && scratch.status < 0)
        status = refuse(why, scratch.status, "%zu bytes of JSON; at most %d are taken", text.len,
                        CHAT_TOOLS_BYTES_MAX);
    text_builder_release(&scratch);
    return status;
}

static int check_call(const struct chat_call *call, enum chat_tool_style style, struct why *why)
{
    int status = check_name(call->name, why);
    if (status == STATUS_OK)
        status = check_object(call->arguments, why);
    if (status == STATUS_OK && style == CHAT_TOOLS_MISTRAL && call->id.len != MISTRAL_ID_BYTES)
        status = refuse(why, STATUS_INVALID,
                        "an id of %zu bytes; this format has ids of %d letters and digits",
                        call->id.len, MISTRAL_ID_BYTES);
    return status;
}

int chat_tools_check(const struct chat *chat, enum chat_tool_style style, struct why *why)
{
    for (size_t i = 0; i < chat->n_tools; i++) {
        const struct chat_tool *tool = &chat->tools[i];
        int status = check_name(tool->name, why);
        if (status == STATUS_OK && tool->parameters.len > 0)
            status = check_object(tool->parameters, why);
        if (status < 0)
            return refuse_prefix(why, status, "tool %zu", i);
    }
    for (size_t i = 0; i < chat->n_messages; i++)
        for (size_t k = 0; k < chat->messages[i].n_calls; k++) {
            int status = check_call(&chat->messages[i].calls[k], style, why);
            if (status < 0)
                return refuse_prefix(why, status, "message %zu, call %zu", i, k);
        }
    return STATUS_OK;
}

/* --- texts --- */

static void say_member(struct text_builder *out, const char *key, struct slice value)
{
    text_builder_say(out, key);
    json_text_quote(value, out);
}

void chat_tools_definition(const struct chat_tool *tool, unsigned indent, struct text_builder *out)
{
    struct text_builder compact;

    text_builder_init(&compact, CHAT_TOOLS_BYTES_MAX);
    say_member(&compact, "{\"type\":\"function\",\"function\":{\"name\":", tool->name);
    if (tool->description.len > 0)
        say_member(&compact, ",\"description\":", tool->description);
    if (tool->parameters.len > 0) {
        text_builder_say(&compact, ",\"parameters\":");
        text_builder_add(&compact, tool->parameters);
    }
    text_builder_say(&compact, "}}");
    if (compact.status == STATUS_OK)
        json_text_format(text_builder_text(&compact), indent, out, NULL);
    else if (out->status == STATUS_OK)
        out->status = compact.status;
    text_builder_release(&compact);
}

void chat_tools_paragraphs(const struct chat *chat, struct text_builder *out)
{
    for (size_t i = 0; i < chat->n_tools; i++) {
        chat_tools_definition(&chat->tools[i], 4, out);
        text_builder_say(out, "\n\n");
    }
}

void chat_tools_section(const struct chat *chat, struct text_builder *out)
{
    text_builder_say(out, "# Tools\n\n"
                          "You may call one or more functions to assist with the user query.\n\n"
                          "You are provided with function signatures within <tools></tools> XML "
                          "tags:\n<tools>");
    for (size_t i = 0; i < chat->n_tools; i++) {
        text_builder_say(out, "\n");
        chat_tools_definition(&chat->tools[i], 0, out);
    }
    text_builder_say(out, "\n</tools>\n\n"
                          "For each function call, return a json object with function name and "
                          "arguments within <tool_call></tool_call> XML tags:\n<tool_call>\n"
                          "{\"name\": <function-name>, \"arguments\": <args-json-object>}\n"
                          "</tool_call>");
}

void chat_tools_list(const struct chat *chat, struct text_builder *out)
{
    text_builder_say(out, "[");
    for (size_t i = 0; i < chat->n_tools; i++) {
        text_builder_say(out, i == 0 ? "" : ", ");
        chat_tools_definition(&chat->tools[i], 0, out);
    }
    text_builder_say(out, "]");
}

void chat_tools_call(const struct chat_call *call, const char *key, struct slice id,
                     struct text_builder *out)
{
    say_member(out, "{\"name\": ", call->name);
    text_builder_say(out, ", \"");
    text_builder_say(out, key);
    text_builder_say(out, "\": ");
    json_text_format(call->arguments, 0, out, NULL);
    if (id.len > 0)
        say_member(out, ", \"id\": ", id);
    text_builder_say(out, "}");
}

void chat_tools_result(struct slice content, struct text_builder *out)
{
    struct text_builder scratch;
    text_builder_init(&scratch, out->max);
    if (json_text_format(content, 0, &scratch, NULL) == STATUS_OK && scratch.status == STATUS_OK)
        text_builder_add(out, text_builder_text(&scratch));
    else
        json_text_quote(content, out);
    text_builder_release(&scratch);
}
