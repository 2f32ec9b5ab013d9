/* Families whose turns begin with a tag and a role: ChatML, Qwen3, Phi-4, Llama 3 and 4. */
#include "model/chat_literal.h"
#include "model/chat_render.h"
#include "model/chat_tools.h"
#include "model/json_text.h"

#include "base/status.h"
#include "limits.h"

#define THINK_OPENING "<think>"
#define THINK_CLOSING "</think>"

static void open_turn(struct chat_rendering *r, const char *role)
{
    const struct chat_shape *shape = r->chat_template->shape;
    chat_render_words(r, shape->opening);
    chat_render_words(r, role);
    chat_render_words(r, shape->behind_role);
}

static void close_turn(struct chat_rendering *r)
{
    chat_render_words(r, r->chat_template->shape->closing);
}

static void add_turn(struct chat_rendering *r, const char *role, struct slice content)
{
    open_turn(r, role);
    chat_render_body(r, content);
    close_turn(r);
}

static void add_built(struct chat_rendering *r, const char *role, struct text_builder *body)
{
    open_turn(r, role);
    chat_render_built(r, body);
    close_turn(r);
}

/* --- thinking (Qwen3) --- */

/* Position of `part` in text, or text.len. */
static size_t find_first(struct slice text, const char *part)
{
    const uint8_t *found =
        text.len > 0 ? memmem(text.bytes, text.len, part, strlen(part)) : NULL;
    return found != NULL ? (size_t)(found - text.bytes) : text.len;
}

/* Position of the last one. */
static size_t find_last(struct slice text, const char *part)
{
    size_t len = strlen(part), at = text.len;
    for (struct slice rest = text; rest.len > 0;) {
        const uint8_t *found = memmem(rest.bytes, rest.len, part, len);
        if (found == NULL)
            break;
        at = (size_t)(found - text.bytes);
        rest = slice_of(found + len, text.len - at - len);
    }
    return at;
}

static struct slice without_lines(struct slice text, bool at_the_end)
{
    while (text.len > 0 && text.bytes[0] == '\n')
        text = slice_of(text.bytes + 1, text.len - 1);
    while (at_the_end && text.len > 0 && text.bytes[text.len - 1] == '\n')
        text.len--;
    return text;
}

/* An answer as its turn has it. Thoughts of earlier answers are left out, as the model was trained;
 * QwQ, whose template knows no reasoning_content, writes none anew. Returns the bytes behind
 * them. */
static size_t say_thoughtful(const struct chat_rendering *r, struct slice content, bool is_current,
                             bool is_last, struct text_builder *body)
{
    struct slice thoughts = slice_of(NULL, 0), answer = content, text = r->chat_template->text;
    bool writes_thoughts = text.len == 0 || chat_text_contains(text, "reasoning_content") ||
                           !chat_family_always_thinks(text);
    size_t end = find_last(content, THINK_CLOSING);

    if (end < content.len) {
        size_t first = find_first(content, THINK_CLOSING);
        size_t begin = find_last(slice_of(content.bytes, first), THINK_OPENING);
        begin = begin < first ? begin + strlen(THINK_OPENING) : 0;
        thoughts = without_lines(slice_of(content.bytes + begin, first - begin), true);
        end += strlen(THINK_CLOSING);
        answer = without_lines(slice_of(content.bytes + end, content.len - end), false);
    }
    if (!writes_thoughts) {
        answer = is_last ? content : without_lines(answer, false);
    } else if (is_current && (is_last || thoughts.len > 0)) {
        text_builder_say(body, THINK_OPENING "\n");
        text_builder_add(body, thoughts);
        text_builder_say(body, "\n" THINK_CLOSING "\n\n");
        answer = without_lines(answer, false);
    }
    text_builder_add(body, answer);
    return answer.len;
}

/* The last thing that a person said; n_messages: nobody did. */
static size_t last_question(const struct chat *chat)
{
    for (size_t i = chat->n_messages; i-- > 0;)
        if (chat_render_is(&chat->messages[i], "user"))
            return i;
    return chat->n_messages;
}

/* --- the system's turn --- */

static void say_date(struct chat_rendering *r, struct text_builder *body)
{
    struct slice text = r->chat_template->text;
    char date[CHAT_DATE_BYTES];

    chat_literal_rest(text, "Cutting Knowledge Date:", body);
    text_builder_say(body, "Today Date: ");
    if (!chat_literal_assigned(text, "set date_string", chat_render_today(false, date), body))
        text_builder_add(body, slice_from(date));
    text_builder_say(body, "\n\n");
}

/* Llama 3.1 and later always have it, for its dates. */
static void add_llama_system(struct chat_rendering *r, struct slice system, bool is_given)
{
    bool has_date = r->chat_template->family == CHAT_LLAMA3 &&
                    chat_text_contains(r->chat_template->text, "Cutting Knowledge Date");
    struct text_builder body;

    if (!is_given && !has_date)
        return;
    text_builder_init(&body, system.len + CHAT_TOOLS_BYTES_MAX);
    if (r->chat->n_tools > 0 && r->chat_template->text.len > 0)
        text_builder_say(&body, "Environment: ipython\n");
    if (has_date)
        say_date(r, &body);
    text_builder_add(&body, system);
    add_built(r, "system", &body);
}

static void add_qwen_system(struct chat_rendering *r, struct slice system, bool is_given)
{
    struct text_builder body;

    if (r->chat->n_tools == 0) {
        if (is_given || system.len > 0)
            add_turn(r, "system", system);
        return;
    }
    text_builder_init(&body, system.len + CHAT_TOOLS_BYTES_MAX);
    text_builder_add(&body, system);
    if (system.len > 0 || is_given || chat_text_contains(r->chat_template->text, "\\n\\n# Tools"))
        text_builder_say(&body, "\n\n");
    chat_tools_section(r->chat, &body);
    add_built(r, "system", &body);
}

/* --- turns --- */

/* Llama: the tools stand before what the user says first. */
static void add_tools_and_question(struct chat_rendering *r, struct slice question)
{
    struct text_builder body;
    text_builder_init(&body, question.len + CHAT_TOOLS_BYTES_MAX);
    text_builder_say(&body,
                     "Given the following functions, please respond with a JSON for a function "
                     "call with its proper arguments that best answers the given prompt.\n\n"
                     "Respond in the format {\"name\": function name, \"parameters\": dictionary "
                     "of argument name and its value}.Do not use variables.\n\n");
    chat_tools_paragraphs(r->chat, &body);
    text_builder_add(&body, question);
    add_built(r, "user", &body);
}

static void add_llama_calls(struct chat_rendering *r, const struct chat_message *message, size_t i)
{
    bool is_llama4 = r->chat_template->family == CHAT_LLAMA4;
    struct text_builder body;

    if (!is_llama4 && (message->n_calls > 1 || message->content.len > 0)) {
        chat_render_refuse(r, STATUS_INVALID,
                           "message %zu has %zu calls and %zu bytes of content; llama-3 writes one "
                           "call and nothing beside it",
                           i, message->n_calls, message->content.len);
        return;
    }
    open_turn(r, "assistant");
    if (is_llama4) {
        chat_render_words(r, "<|python_start|>");
        chat_render_body(r, message->content);
        chat_render_words(r, "<|python_end|>");
    }
    text_builder_init(&body, CHAT_TOOLS_BYTES_MAX);
    for (size_t k = 0; k < message->n_calls; k++)
        chat_tools_call(&message->calls[k], "parameters", slice_of(NULL, 0), &body);
    chat_render_built(r, &body);
    close_turn(r);
}

/* An answer of Qwen's, and the calls behind it. */
static void add_qwen_answer(struct chat_rendering *r, size_t i, size_t question)
{
    const struct chat_message *message = &r->chat->messages[i];
    struct slice content = chat_render_content(r, message);
    bool is_current = question < r->chat->n_messages && i > question;
    size_t n_answer = content.len;
    struct text_builder body;

    text_builder_init(&body, content.len + CHAT_TOOLS_BYTES_MAX);
    if (r->chat_template->family == CHAT_QWEN3)
        n_answer =
            say_thoughtful(r, content, is_current, i + 1 == r->chat->n_messages, &body);
    else
        text_builder_add(&body, content);
    for (size_t k = 0; k < message->n_calls; k++) {
        text_builder_say(&body, k > 0 || n_answer > 0 ? "\n<tool_call>\n" : "<tool_call>\n");
        chat_tools_call(&message->calls[k], "arguments", slice_of(NULL, 0), &body);
        text_builder_say(&body, "\n</tool_call>");
    }
    add_built(r, "assistant", &body);
}

/* Results of tools that follow each other are one turn of Qwen's user. Returns how many. */
static size_t add_qwen_results(struct chat_rendering *r, const struct chat_message *messages,
                               size_t n)
{
    struct text_builder body;
    size_t n_results = 0;

    text_builder_init(&body, r->pending.max);
    while (n_results < n && chat_render_is(&messages[n_results], "tool")) {
        text_builder_say(&body, n_results > 0 ? "\n<tool_response>\n" : "<tool_response>\n");
        text_builder_add(&body, messages[n_results++].content);
        text_builder_say(&body, "\n</tool_response>");
    }
    add_built(r, "user", &body);
    return n_results;
}

static void add_assistant(struct chat_rendering *r, size_t i, size_t question)
{
    const struct chat_message *message = &r->chat->messages[i];

    if (message->n_calls > 0 && r->chat_template->shape->tools == CHAT_TOOLS_LLAMA)
        add_llama_calls(r, message, i);
    else if (r->chat_template->shape->tools == CHAT_TOOLS_QWEN)
        add_qwen_answer(r, i, question);
    else
        add_turn(r, "assistant", chat_render_content(r, message));
}

/* Llama's templates ask whether a result can be iterated, which text can be: they write it as a
 * string of JSON. */
static void add_llama_result(struct chat_rendering *r, const struct chat_message *message)
{
    struct text_builder body;
    text_builder_init(&body, r->pending.max);
    if (chat_text_contains(r->chat_template->text, "content is iterable"))
        json_text_quote(message->content, &body);
    else
        text_builder_add(&body, message->content);
    add_built(r, r->chat_template->shape->tool_role, &body);
}

static size_t add_beginning(struct chat_rendering *r)
{
    const struct chat_message *messages = r->chat->messages;
    const struct chat_template *of = r->chat_template;
    bool is_llama = of->shape->tools == CHAT_TOOLS_LLAMA;
    bool is_given = chat_render_is(&messages[0], "system");
    struct slice system = of->system;
    size_t i = 0;

    if (is_given) {
        system = chat_render_content(r, &messages[0]);
        if (of->family == CHAT_LLAMA4)
            system = chat_render_trimmed(system);
        i = 1;
    }
    if (!is_llama) {
        add_qwen_system(r, system, is_given);
        return i;
    }
    add_llama_system(r, system, is_given);
    if (r->chat->n_tools == 0)
        return i;
    if (i == r->chat->n_messages || !chat_render_is(&messages[i], "user")) {
        chat_render_refuse(r, STATUS_INVALID,
                           "the tools of this format stand in the first turn of the user, and "
                           "message %zu is not the user's", i);
        return i;
    }
    add_tools_and_question(r, chat_render_trimmed(messages[i].content));
    return i + 1;
}

void chat_render_tagged(struct chat_rendering *r, bool add_generation_prompt)
{
    const struct chat *chat = r->chat;
    size_t question = last_question(chat);

    chat_render_bos(r);
    for (size_t i = add_beginning(r); i < chat->n_messages && r->status == STATUS_OK; i++) {
        const struct chat_message *message = &chat->messages[i];
        if (chat_render_is(message, "assistant"))
            add_assistant(r, i, question);
        else if (!chat_render_is(message, "tool"))
            add_turn(r, chat_render_is(message, "user") ? "user" : "system",
                     chat_render_content(r, message));
        else if (r->chat_template->shape->tool_role != NULL)
            add_llama_result(r, message);
        else
            i += add_qwen_results(r, message, chat->n_messages - i) - 1;
    }
    if (!add_generation_prompt)
        return;
    open_turn(r, "assistant");
    if (chat_family_always_thinks(r->chat_template->text))
        chat_render_words(r, THINK_OPENING "\n");
    else if (r->chat_template->family == CHAT_QWEN3 && chat->thinking == 0)
        chat_render_words(r, THINK_OPENING "\n\n" THINK_CLOSING "\n\n");
}
