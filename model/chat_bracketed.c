/* Families whose user's turns stand in [INST] brackets: Llama 2 and Mistral; and DeepSeek's. */
#include "model/chat_literal.h"
#include "model/chat_render.h"
#include "model/chat_tools.h"
#include "model/json_text.h"

#include "base/status.h"
#include "limits.h"

/* --- Llama 2, Mistral --- */

static bool has_system_turn(const struct chat_rendering *r)
{
    return r->chat_template->family == CHAT_MISTRAL_V7 ||
           r->chat_template->family == CHAT_MISTRAL_V7_TEKKEN;
}

/* Devstral's and Ministral 3's: results without the ids of their calls, and the tools first. */
static bool writes_results_alone(const struct chat_rendering *r)
{
    struct slice text = r->chat_template->text;
    return chat_text_contains(text, "[TOOL_RESULTS]") &&
           !chat_text_contains(text, "[TOOL_CONTENT]");
}

static void add_default_system(struct chat_rendering *r)
{
    char today[CHAT_DATE_BYTES];
    struct text_builder system;

    text_builder_init(&system, r->pending.max);
    if (chat_literal_assigned(r->chat_template->text, "set default_system_message",
                              chat_render_today(true, today), &system)) {
        chat_render_mark(r, "[SYSTEM_PROMPT]");
        chat_render_words(r, r->chat_template->shape->behind_inst);
        chat_render_built(r, &system);
        chat_render_mark(r, "[/SYSTEM_PROMPT]");
    } else {
        text_builder_release(&system);
    }
}

static void add_system_turn(struct chat_rendering *r, struct slice system)
{
    chat_render_mark(r, "[SYSTEM_PROMPT]");
    chat_render_words(r, r->chat_template->shape->behind_inst);
    chat_render_body(r, system);
    chat_render_mark(r, "[/SYSTEM_PROMPT]");
}

static void add_tools(struct chat_rendering *r)
{
    struct text_builder list;
    text_builder_init(&list, CHAT_TOOLS_BYTES_MAX);
    chat_tools_list(r->chat, &list);
    chat_render_mark(r, "[AVAILABLE_TOOLS]");
    chat_render_words(r, r->chat_template->shape->behind_inst);
    chat_render_built(r, &list);
    chat_render_mark(r, "[/AVAILABLE_TOOLS]");
}

/* Llama 2 trims the two as one text. */
static void add_llama_system(struct chat_rendering *r, struct slice system, struct slice content)
{
    struct text_builder body;
    text_builder_init(&body, r->pending.max);
    text_builder_say(&body, "<<SYS>>\n");
    text_builder_add(&body, system);
    text_builder_say(&body, "\n<</SYS>>\n\n");
    text_builder_add(&body, content);
    if (r->chat_template->trims)
        body.len = chat_render_trimmed(text_builder_text(&body)).len; /* it begins with < */
    chat_render_built(r, &body);
}

/* system: NULL where none stands in this turn. */
static void add_user(struct chat_rendering *r, const struct chat_message *message,
                     const struct chat_message *system)
{
    const struct chat_shape *shape = r->chat_template->shape;
    bool is_llama = r->chat_template->family == CHAT_LLAMA2;

    if (is_llama)
        chat_render_bos(r); /* of each turn */
    chat_render_words(r, shape->before_user);
    chat_render_mark(r, "[INST]");
    chat_render_words(r, shape->behind_inst);
    if (system != NULL && is_llama) {
        add_llama_system(r, system->content, message->content);
    } else {
        if (system != NULL && system->content.len > 0) {
            chat_render_body(r, chat_render_content(r, system));
            chat_render_words(r, "\n\n");
        }
        chat_render_body(r, chat_render_content(r, message));
    }
    chat_render_words(r, shape->before_end);
    chat_render_mark(r, "[/INST]");
}

/* Newer ones write [TOOL_CALLS]name[CALL_ID]id[ARGS]{...}. */
static void add_calls(struct chat_rendering *r, const struct chat_message *message)
{
    bool is_list = !chat_text_contains(r->chat_template->text, "[ARGS]");
    struct text_builder body;

    for (size_t k = 0; !is_list && k < message->n_calls; k++) {
        const struct chat_call *call = &message->calls[k];
        chat_render_mark(r, "[TOOL_CALLS]");
        chat_render_body(r, call->name);
        if (chat_text_contains(r->chat_template->text, "[CALL_ID]")) {
            chat_render_mark(r, "[CALL_ID]");
            chat_render_body(r, call->id);
        }
        chat_render_mark(r, "[ARGS]");
        text_builder_init(&body, CHAT_TOOLS_BYTES_MAX);
        json_text_format(call->arguments, 0, &body, NULL);
        chat_render_built(r, &body);
    }
    if (is_list) {
        text_builder_init(&body, CHAT_TOOLS_BYTES_MAX);
        for (size_t k = 0; k < message->n_calls; k++) {
            text_builder_say(&body, k == 0 ? "[" : ", ");
            chat_tools_call(&message->calls[k], "arguments", message->calls[k].id, &body);
        }
        text_builder_say(&body, "]");
        chat_render_mark(r, "[TOOL_CALLS]");
        chat_render_words(r, r->chat_template->shape->behind_inst);
        chat_render_built(r, &body);
    }
}

/* Only newer ones write an answer and calls behind it. */
static void add_answer(struct chat_rendering *r, const struct chat_message *message, size_t i)
{
    bool is_llama = r->chat_template->family == CHAT_LLAMA2;

    if (message->n_calls > 0 && message->content.len > 0 && !has_system_turn(r))
        chat_render_refuse(r, STATUS_INVALID,
                           "message %zu has %zu calls and %zu bytes of content; %s writes calls "
                           "and nothing beside them",
                           i, message->n_calls, message->content.len,
                           r->chat_template->shape->name);
    if (message->n_calls == 0 || message->content.len > 0) {
        chat_render_words(r, r->chat_template->shape->before_answer);
        chat_render_body(r, chat_render_content(r, message));
        chat_render_words(r, is_llama ? " " : "");
    }
    if (message->n_calls > 0)
        add_calls(r, message);
    chat_render_eos(r);
}

static void add_result(struct chat_rendering *r, const struct chat_message *message)
{
    const char *space = r->chat_template->shape->behind_inst;
    struct text_builder body;

    chat_render_mark(r, "[TOOL_RESULTS]");
    chat_render_words(r, space);
    if (has_system_turn(r) && !writes_results_alone(r)) {
        chat_render_body(r, message->call_id);
        chat_render_mark(r, "[TOOL_CONTENT]");
        chat_render_words(r, space);
        chat_render_body(r, message->content);
    } else if (has_system_turn(r)) {
        chat_render_body(r, message->content);
    } else {
        text_builder_init(&body, r->pending.max);
        text_builder_say(&body, "{\"content\": ");
        chat_tools_result(message->content, &body);
        text_builder_say(&body, ", \"call_id\": \"");
        text_builder_add(&body, message->call_id);
        text_builder_say(&body, "\"}");
        chat_render_built(r, &body);
    }
    chat_render_mark(r, "[/TOOL_RESULTS]");
}

/* Which user's turn gets the system's text: the first one of the older formats, else the last. */
static size_t turn_of_system(const struct chat_rendering *r, size_t first)
{
    const struct chat *chat = r->chat;
    bool wants_first = r->chat_template->family == CHAT_LLAMA2 ||
                       r->chat_template->family == CHAT_MISTRAL_V1;
    size_t found = chat->n_messages;
    for (size_t i = first; i < chat->n_messages; i++)
        if (chat_render_is(&chat->messages[i], "user")) {
            found = i;
            if (wants_first)
                break;
        }
    return found;
}

static size_t last_user(const struct chat *chat)
{
    size_t i = chat->n_messages;
    while (i > 0 && !chat_render_is(&chat->messages[i - 1], "user"))
        i--;
    return i - 1; /* SIZE_MAX: there is none */
}

void chat_render_bracketed(struct chat_rendering *r)
{
    const struct chat *chat = r->chat;
    bool is_llama = r->chat_template->family == CHAT_LLAMA2;
    bool is_given = chat_render_is(&chat->messages[0], "system");
    const struct chat_message *system = is_given ? &chat->messages[0] : NULL;
    size_t with_system = turn_of_system(r, is_given), with_tools = last_user(chat);

    if (!is_llama)
        chat_render_bos(r);
    if (has_system_turn(r) && is_given)
        add_system_turn(r, system->content);
    else if (has_system_turn(r))
        add_default_system(r);
    if (has_system_turn(r))
        with_system = chat->n_messages;
    if (has_system_turn(r) && writes_results_alone(r)) {
        with_tools = chat->n_messages;
        if (chat->n_tools > 0)
            add_tools(r);
    }
    for (size_t i = is_given; i < chat->n_messages && r->status == STATUS_OK; i++) {
        const struct chat_message *message = &chat->messages[i];
        if (chat_render_is(message, "user")) {
            if (chat->n_tools > 0 && i == with_tools)
                add_tools(r);
            add_user(r, message, i == with_system ? system : NULL);
        } else if (chat_render_is(message, "tool")) {
            add_result(r, message);
        } else {
            add_answer(r, message, i);
        }
    }
}

/* --- DeepSeek --- */

#define BAR "\xEF\xBD\x9C"
#define USER "<" BAR "User" BAR ">"
#define ASSISTANT "<" BAR "Assistant" BAR ">"

static void add_deepseek2(struct chat_rendering *r, bool add_generation_prompt)
{
    for (size_t i = 0; i < r->chat->n_messages; i++) {
        const struct chat_message *message = &r->chat->messages[i];
        bool is_answer = chat_render_is(message, "assistant");
        if (is_answer)
            chat_render_words(r, "Assistant: ");
        else if (chat_render_is(message, "user"))
            chat_render_words(r, "User: ");
        chat_render_body(r, chat_render_content(r, message));
        if (is_answer)
            chat_render_eos(r);
        else
            chat_render_words(r, "\n\n");
    }
    if (add_generation_prompt)
        chat_render_words(r, "Assistant:");
}

/* Before an answer that was not thought about, of releases that can do both. */
static const char *deepseek_unthought(struct slice text)
{
    return chat_text_contains(text, "<think></think>") ? "<think></think>" : "</think>";
}

/* What an answer begins with; the template's text tells the release. */
static const char *deepseek_answer(const struct chat_rendering *r)
{
    struct slice text = r->chat_template->text;
    if (chat_text_contains(text, ASSISTANT "<think>\\n"))
        return "<think>\n"; /* R1 */
    if (!chat_text_contains(text, "thinking"))
        return "";
    return r->chat->thinking == 1 ? "<think>" : deepseek_unthought(text);
}

/* Behind the last </think>, or the first where that is all. */
static struct slice without_thoughts(struct slice text, bool is_first)
{
    static const char closing[] = "</think>";
    for (;;) {
        const uint8_t *found =
            text.len > 0 ? memmem(text.bytes, text.len, closing, strlen(closing)) : NULL;
        if (found == NULL)
            return text;
        found += strlen(closing);
        text = slice_of(found, text.len - (size_t)(found - text.bytes));
        if (is_first)
            return text;
    }
}

static void add_deepseek3(struct chat_rendering *r, bool add_generation_prompt)
{
    struct slice text = r->chat_template->text;
    bool is_hybrid = chat_text_contains(text, "thinking");
    bool has_system = false;

    for (size_t i = 0; i < r->chat->n_messages; i++) /* they stand first, whatever their place */
        if (chat_render_is(&r->chat->messages[i], "system")) {
            chat_render_words(r, has_system ? "\n\n" : "");
            chat_render_body(r, r->chat->messages[i].content);
            has_system = true;
        }
    for (size_t i = 0; i < r->chat->n_messages; i++) {
        const struct chat_message *message = &r->chat->messages[i];
        struct slice content = chat_render_content(r, message);
        if (chat_render_is(message, "user")) {
            chat_render_mark(r, USER);
            chat_render_body(r, content);
        } else if (chat_render_is(message, "assistant")) {
            chat_render_mark(r, ASSISTANT);
            chat_render_words(r, is_hybrid ? deepseek_unthought(text) : "");
            if (chat_text_contains(text, "</think>"))
                content = without_thoughts(content, is_hybrid);
            chat_render_body(r, content);
            chat_render_eos(r);
        }
    }
    if (!add_generation_prompt)
        return;
    chat_render_mark(r, ASSISTANT);
    chat_render_words(r, deepseek_answer(r));
}

void chat_render_deepseek(struct chat_rendering *r, bool add_generation_prompt)
{
    chat_render_bos(r);
    if (r->chat_template->family == CHAT_DEEPSEEK2)
        add_deepseek2(r, add_generation_prompt);
    else
        add_deepseek3(r, add_generation_prompt);
}
