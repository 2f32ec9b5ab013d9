/* Renderings of each family against the strings that models.md 7 has, tools and calls among them;
 * and which template is of which family. chat_peer_test.py holds the same against Jinja. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "limits.h"
#include "model/chat_calls.h"
#include "model/chat_family.h"
#include "model/chat_template.h"
#include "model/detok.h"
#include "model/special_table.h"
#include "model/token_buffer.h"
#include "tests/model/chat_vocabulary.h"

#define BAR "\xEF\xBD\x9C"

static void test_chat_family__templates_are_told_apart_by_their_marks(void **state)
{
    static const struct {
        const char *text;
        bool tekken;
        enum chat_family family;
    } rows[] = {
        {"<|im_start|>", false, CHAT_CHATML},
        {"<|im_start|><|im_sep|>", false, CHAT_PHI4},
        {"<|im_start|><think>enable_thinking", false, CHAT_QWEN3},
        {"<|im_start|><think>", false, CHAT_CHATML},
        {"'<|im_start|>assistant\\n<think>\\n'", false, CHAT_QWEN3},
        {"[SYSTEM_PROMPT][INST]", false, CHAT_MISTRAL_V7},
        {"[SYSTEM_PROMPT][INST]", true, CHAT_MISTRAL_V7_TEKKEN},
        {"[AVAILABLE_TOOLS] [INST]", false, CHAT_MISTRAL_V1},
        {"' [INST] ' + system_message", false, CHAT_MISTRAL_V1},
        {"[AVAILABLE_TOOLS]\"[INST]\"", false, CHAT_MISTRAL_V3_TEKKEN},
        {"[AVAILABLE_TOOLS][INST]", false, CHAT_MISTRAL_V3},
        {"[INST] <<SYS>>", false, CHAT_LLAMA2},
        {"bos_token + '[INST] '", false, CHAT_LLAMA2},
        {"{{ '[INST] ' + message['content'] + '[/INST]' }}", false, CHAT_MISTRAL_V3},
        {"{{ '[INST]' + message['content'] + '[/INST]' }}", false, CHAT_MISTRAL_V3_TEKKEN},
        {"bos_token }}{{ '[INST] ' + message['content'] + ' [/INST]' }}", false, CHAT_MISTRAL_V1},
        {"{% x %}<|start_header_id|><|end_header_id|>", false, CHAT_LLAMA3},
        {"'Assistant: ' + message['content'] + eos_token", false, CHAT_DEEPSEEK2},
        {"<" BAR "User" BAR "><" BAR "Assistant" BAR "><" BAR "end▁of▁sentence" BAR ">", false,
         CHAT_DEEPSEEK3},
        {"<|header_start|><|header_end|>", false, CHAT_LLAMA4},
        {"'<|start_header_id|>assistant<|end_header_id|>\n\n>>>all\n'", false, CHAT_N_FAMILIES},
        {"<|start_header_id|><|end_header_id|><function={{ name }}>", false, CHAT_N_FAMILIES},
        {"<|im_start|>system\n## Metadata\n", false, CHAT_N_FAMILIES},
        {"<|im_start|><function={{ name }}>", false, CHAT_CHATML},
        {"", false, CHAT_N_FAMILIES},
        {"{{ anything }}", true, CHAT_N_FAMILIES},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (chat_family_of(slice_from(rows[i].text), rows[i].tekken) != rows[i].family)
            fail_msg("\"%s\" is of another family", rows[i].text);
}

/* --- renderings --- */

static struct chat_message says(const char *role, const char *content)
{
    return (struct chat_message){.role = slice_from(role), .content = slice_from(content)};
}

static const struct vocabulary *all_marks;

/* By the format's name, or by a template's text. */
static int try_render(const char *format, const char *text, const struct chat *chat,
                      struct why *why, char *out, size_t cap)
{
    struct chat_source source = {.text = slice_from(text), .format = slice_from(format)};
    struct chat_template *chat_template;
    struct token_buffer ids;
    uint8_t *rendered;
    size_t len;
    int status = chat_template_create(&source, all_marks, &chat_template, why);
    assert_int_equal(status, STATUS_OK);
    token_buffer_init(&ids, 2 * CHAT_TOOLS_BYTES_MAX, false);
    status = chat_template_render(chat_template, all_marks, chat, true, &ids, why);
    if (status == STATUS_OK) {
        assert_int_equal(detok_all(all_marks, ids.ids, ids.n, true, cap - 1, &rendered, &len, NULL),
                         STATUS_OK);
        memcpy(out, rendered, len);
        out[len] = '\0';
        free(rendered);
    }
    token_buffer_release(&ids);
    chat_template_free(chat_template);
    return status;
}

static void assert_renders(const char *format, const char *text, const struct chat *chat,
                           const char *wanted)
{
    static char got[1 << 16];
    struct why why = {.text = ""};
    if (try_render(format, text, chat, &why, got, sizeof got) < 0)
        fail_msg("%s: %s", format, why.text);
    if (strcmp(got, wanted) != 0)
        fail_msg("%s renders\n%s\nand not\n%s", format, got, wanted);
}

static void test_chat_family__each_renders_a_conversation_as_published(void **state)
{
    static const struct {
        const char *format, *wanted;
    } rows[] = {
        {"chatml", "<|im_start|>system\nS <|im_end|>\n<|im_start|>user\nU1<|im_end|>\n"
                   "<|im_start|>assistant\nA<|im_end|>\n<|im_start|>user\n U2<|im_end|>\n"
                   "<|im_start|>assistant\n"},
        {"qwen3", "<|im_start|>system\nS <|im_end|>\n<|im_start|>user\nU1<|im_end|>\n"
                  "<|im_start|>assistant\nA<|im_end|>\n<|im_start|>user\n U2<|im_end|>\n"
                  "<|im_start|>assistant\n"},
        {"phi-4", "<|im_start|>system<|im_sep|>S <|im_end|><|im_start|>user<|im_sep|>U1<|im_end|>"
                  "<|im_start|>assistant<|im_sep|>A<|im_end|><|im_start|>user<|im_sep|> U2"
                  "<|im_end|><|im_start|>assistant<|im_sep|>"},
        {"llama-2", "<s>[INST] <<SYS>>\nS \n<</SYS>>\n\nU1 [/INST] A </s><s>[INST]  U2 [/INST]"},
        {"llama-3", "<s><|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|>"
                    "<|start_header_id|>user<|end_header_id|>\n\nU1<|eot_id|>"
                    "<|start_header_id|>assistant<|end_header_id|>\n\nA<|eot_id|>"
                    "<|start_header_id|>user<|end_header_id|>\n\nU2<|eot_id|>"
                    "<|start_header_id|>assistant<|end_header_id|>\n\n"},
        {"llama-4", "<s><|header_start|>system<|header_end|>\n\nS<|eot|>"
                    "<|header_start|>user<|header_end|>\n\nU1<|eot|>"
                    "<|header_start|>assistant<|header_end|>\n\nA<|eot|>"
                    "<|header_start|>user<|header_end|>\n\n U2<|eot|>"
                    "<|header_start|>assistant<|header_end|>\n\n"},
        {"mistral-v1", "<s> [INST] S \n\nU1 [/INST] A</s> [INST]  U2 [/INST]"},
        {"mistral-v3", "<s>[INST] U1[/INST] A</s>[INST] S \n\n U2[/INST]"},
        {"mistral-v3-tekken", "<s>[INST]U1[/INST]A</s>[INST]S \n\n U2[/INST]"},
        {"mistral-v7", "<s>[SYSTEM_PROMPT] S [/SYSTEM_PROMPT][INST] U1[/INST] A</s>"
                       "[INST]  U2[/INST]"},
        {"mistral-v7-tekken", "<s>[SYSTEM_PROMPT]S [/SYSTEM_PROMPT][INST]U1[/INST]A</s>"
                              "[INST] U2[/INST]"},
        {"deepseek-v2", "<s>S \n\nUser: U1\n\nAssistant: A</s>User:  U2\n\nAssistant:"},
        {"deepseek-v3", "<s>S <" BAR "User" BAR ">U1<" BAR "Assistant" BAR ">A</s><" BAR "User" BAR
                        "> U2<" BAR "Assistant" BAR ">"},
    };
    struct chat_message messages[] = {says("system", "S "), says("user", "U1"),
                                      says("assistant", "A"), says("user", " U2")};
    struct chat chat = {.messages = messages, .n_messages = 4, .thinking = -1};
    assert_int_equal(sizeof rows / sizeof *rows, CHAT_N_FAMILIES);
    for (size_t i = 0; i < CHAT_N_FAMILIES; i++)
        assert_renders(rows[i].format, "", &chat, rows[i].wanted);
}

static void test_chat_family__defaults_and_dates_are_read_out_of_the_template(void **state)
{
    static const char llama31[] =
        "<|start_header_id|><|end_header_id|>{%- set date_string = \"26 Jul 2024\" %}"
        "{{- \"Cutting Knowledge Date: December 2023\\n\" }}";
    static const char small[] =
        "[SYSTEM_PROMPT][INST]{%- set default_system_message = 'You are \\'M\\'.' + \"\\nBye\" %}";
    static const char r1[] = "<" BAR "User" BAR "><" BAR "end▁of▁sentence" BAR
                             ">content.split('</think>'){{'<" BAR "Assistant" BAR
                             "><think>\\n'}}";
    struct chat_message message = says("user", "Hi");
    struct chat chat = {.messages = &message, .n_messages = 1, .thinking = -1};
    assert_renders("", llama31, &chat,
                   "<s><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: "
                   "December 2023\nToday Date: 26 Jul 2024\n\n<|eot_id|>"
                   "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
                   "<|start_header_id|>assistant<|end_header_id|>\n\n");
    assert_renders("", small, &chat,
                   "<s>[SYSTEM_PROMPT] You are 'M'.\nBye[/SYSTEM_PROMPT][INST] Hi[/INST]");
    struct chat_message messages[] = {message, says("assistant", "<think>hm</think>Yes"), message};
    struct chat longer = {.messages = messages, .n_messages = 3, .thinking = -1};
    assert_renders("", r1, &longer,
                   "<s><" BAR "User" BAR ">Hi<" BAR "Assistant" BAR ">Yes</s><" BAR "User" BAR
                   ">Hi<" BAR "Assistant" BAR "><think>\n");
}

static void test_chat_family__thoughts_of_earlier_answers_are_left_out(void **state)
{
    struct chat_message messages[] = {says("user", "Q"),
                                      says("assistant", "<think>\nhm\n</think>\n\nYes"),
                                      says("user", "R")};
    struct chat chat = {.messages = messages, .n_messages = 3, .thinking = 0};
    assert_renders("qwen3", "", &chat,
                   "<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\nYes<|im_end|>\n"
                   "<|im_start|>user\nR<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n");
    chat.n_messages = 2;
    chat.thinking = 1;
    assert_renders("qwen3", "", &chat,
                   "<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\n<think>\nhm\n</think>\n\n"
                   "Yes<|im_end|>\n<|im_start|>assistant\n");
}

/* --- tools --- */

#define SCHEMA "{ \"type\":\"object\" ,\"properties\":{\"n\":{\"type\":\"integer\"}} }"
#define SPACED                                                                                     \
    "{\"type\": \"function\", \"function\": {\"name\": \"add\", \"description\": \"Adds.\", "     \
    "\"parameters\": {\"type\": \"object\", \"properties\": {\"n\": {\"type\": \"integer\"}}}}}"
#define INDENTED                                                                                   \
    "{\n    \"type\": \"function\",\n    \"function\": {\n        \"name\": \"add\",\n"            \
    "        \"description\": \"Adds.\",\n        \"parameters\": {\n"                             \
    "            \"type\": \"object\",\n            \"properties\": {\n"                           \
    "                \"n\": {\n                    \"type\": \"integer\"\n                }\n"     \
    "            }\n        }\n    }\n}"

static void test_chat_family__tools_calls_and_results_are_rendered(void **state)
{
    struct chat_tool tool = {slice_from("add"), slice_from("Adds."), slice_from(SCHEMA)};
    struct chat_call call = {slice_from("abcdefghi"), slice_from("add"), slice_from("{\"n\":1}")};
    struct chat_message messages[] = {says("user", "Q"), says("assistant", ""),
                                      says("tool", "{\"r\":2}")};
    messages[1].calls = &call;
    messages[1].n_calls = 1;
    messages[2].call_id = call.id;
    struct chat chat = {.messages = messages, .n_messages = 3, .tools = &tool, .n_tools = 1,
                        .thinking = -1};
    assert_renders("chatml", "", &chat,
                   "<|im_start|>system\n# Tools\n\nYou may call one or more functions to assist "
                   "with the user query.\n\nYou are provided with function signatures within "
                   "<tools></tools> XML tags:\n<tools>\n" SPACED "\n</tools>\n\nFor each function "
                   "call, return a json object with function name and arguments within "
                   "<tool_call></tool_call> XML tags:\n<tool_call>\n{\"name\": <function-name>, "
                   "\"arguments\": <args-json-object>}\n</tool_call><|im_end|>\n"
                   "<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\n<tool_call>\n"
                   "{\"name\": \"add\", \"arguments\": {\"n\": 1}}\n</tool_call><|im_end|>\n"
                   "<|im_start|>user\n<tool_response>\n{\"r\":2}\n</tool_response><|im_end|>\n"
                   "<|im_start|>assistant\n");
    assert_renders("llama-3", "", &chat,
                   "<s><|start_header_id|>user<|end_header_id|>\n\nGiven the following functions, "
                   "please respond with a JSON for a function call with its proper arguments that "
                   "best answers the given prompt.\n\nRespond in the format {\"name\": function "
                   "name, \"parameters\": dictionary of argument name and its value}.Do not use "
                   "variables.\n\n" INDENTED "\n\nQ<|eot_id|>"
                   "<|start_header_id|>assistant<|end_header_id|>\n\n{\"name\": \"add\", "
                   "\"parameters\": {\"n\": 1}}<|eot_id|>"
                   "<|start_header_id|>ipython<|end_header_id|>\n\n{\"r\":2}<|eot_id|>"
                   "<|start_header_id|>assistant<|end_header_id|>\n\n");
    assert_renders("mistral-v3", "", &chat,
                   "<s>[AVAILABLE_TOOLS] [" SPACED "][/AVAILABLE_TOOLS][INST] Q[/INST]"
                   "[TOOL_CALLS] [{\"name\": \"add\", \"arguments\": {\"n\": 1}, "
                   "\"id\": \"abcdefghi\"}]</s>"
                   "[TOOL_RESULTS] {\"content\": {\"r\": 2}, \"call_id\": \"abcdefghi\"}"
                   "[/TOOL_RESULTS]");
    assert_renders("mistral-v7-tekken", "", &chat,
                   "<s>[AVAILABLE_TOOLS][" SPACED "][/AVAILABLE_TOOLS][INST]Q[/INST]"
                   "[TOOL_CALLS][{\"name\": \"add\", \"arguments\": {\"n\": 1}, "
                   "\"id\": \"abcdefghi\"}]</s>"
                   "[TOOL_RESULTS]abcdefghi[TOOL_CONTENT]{\"r\":2}[/TOOL_RESULTS]");
}

static void test_chat_family__escapes_of_arguments_are_the_characters_that_they_mean(void **state)
{
    struct chat_call call = {.name = slice_from("f"),
                             .arguments = slice_from("{\"\\u006b\":\"\\u00E9\\/\\ud83d\\uDE00 "
                                                     "\\ud800 \\uDE00\\u0022\\u000a\\u001F\"}")};
    struct chat_message message = says("assistant", "");
    message.calls = &call;
    message.n_calls = 1;
    struct chat chat = {.messages = &message, .n_messages = 1, .thinking = -1};
    assert_renders("chatml", "", &chat,
                   "<|im_start|>assistant\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"k\": "
                   "\"é/😀 \\ud800 \\uDE00\\\"\\n\\u001f\"}}\n</tool_call><|im_end|>\n"
                   "<|im_start|>assistant\n");
}

/* Of Hermes and Qwen3-Coder, whose turns are ChatML's: their tools are not written as Qwen's. */
static void test_chat_family__tools_that_a_template_writes_otherwise_are_refused(void **state)
{
    static const char *const texts[] = {
        "<|im_start|>{% if tools %}You are a function calling AI model.{% endif %}",
        "<|start_header_id|><|end_header_id|>{% if tools %}Use these functions{% endif %}",
        "[SYSTEM_PROMPT][INST]{{ tools }}",
    };
    struct chat_tool tool = {.name = slice_from("add")};
    struct chat_message message = says("user", "Q");
    struct chat chat = {.messages = &message, .n_messages = 1, .thinking = -1};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        char out[4096];
        struct why why = {.text = ""};
        chat.n_tools = 0;
        assert_int_equal(try_render("", texts[i], &chat, &why, out, sizeof out), STATUS_OK);
        chat.tools = &tool;
        chat.n_tools = 1;
        assert_int_equal(try_render("", texts[i], &chat, &why, out, sizeof out),
                         STATUS_UNSUPPORTED);
        assert_non_null(strstr(why.text, "no place for tools that is known here"));
    }
}

static void test_chat_family__bad_conversations_are_refused_by_number(void **state)
{
    struct chat_tool tool = {.name = slice_from("add")}, bad = {.name = slice_from("a b")};
    struct chat_tool broken = {.name = slice_from("f"), .parameters = slice_from("{\"a\":01}")};
    struct chat_call call = {slice_from("short"), slice_from("add"), slice_from("{}")};
    struct chat_call list = {slice_from("abcdefghi"), slice_from("add"), slice_from("[]")};
    struct chat_message twice[] = {says("user", "a"), says("user", "b")};
    struct chat_message calls[] = {says("user", "a"), says("assistant", "")};
    struct chat_message with_list[] = {says("user", "a"), says("assistant", "")};
    struct chat_call sound = {slice_from("abcdefghi"), slice_from("add"), slice_from("{}")};
    struct chat_message both[] = {says("user", "a"), says("assistant", "hm")};
    calls[1].calls = &call;
    calls[1].n_calls = with_list[1].n_calls = 1;
    with_list[1].calls = &list;
    both[1].calls = &sound;
    both[1].n_calls = 1;
    const struct {
        const char *format;
        struct chat chat;
        const char *sentence;
    } rows[] = {
        {"mistral-v3", {.messages = twice, .n_messages = 2, .thinking = -1}, "message 1 is the us"},
        {"llama-2", {.messages = twice, .n_messages = 2, .thinking = -1}, "take turns"},
        {"mistral-v3", {.messages = calls, .n_messages = 2, .thinking = -1}, "an id of 5 bytes"},
        {"mistral-v3", {.messages = both, .n_messages = 2, .thinking = -1}, "2 bytes of content"},
        {"llama-3", {.messages = both, .n_messages = 2, .thinking = -1}, "2 bytes of content"},
        {"chatml", {.messages = with_list, .n_messages = 2, .thinking = -1}, "call 0: not a JSON"},
        {"chatml", {.messages = twice, .n_messages = 2, .thinking = 0}, "cannot turn thinking"},
        {"phi-4",
         {.messages = twice, .n_messages = 1, .tools = &tool, .n_tools = 1, .thinking = -1},
         "1 tools were given"},
        {"chatml",
         {.messages = twice, .n_messages = 1, .tools = &bad, .n_tools = 1, .thinking = -1},
         "tool 0: the name"},
        {"chatml",
         {.messages = twice, .n_messages = 1, .tools = &broken, .n_tools = 1, .thinking = -1},
         "tool 0: not JSON at byte 6"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char out[4096];
        struct why why = {.text = ""};
        assert_true(try_render(rows[i].format, "", &rows[i].chat, &why, out, sizeof out) < 0);
        if (strstr(why.text, rows[i].sentence) == NULL)
            fail_msg("\"%s\" lacks \"%s\"", why.text, rows[i].sentence);
    }
}

static void test_chat_family__names_nesting_and_bytes_at_their_limits_and_one_beyond(void **state)
{
    static char name[CHAT_NAME_BYTES_MAX + 1], nested[2 * CHAT_JSON_DEPTH_MAX + 16];
    static char wide[CHAT_TOOLS_BYTES_MAX + 1], out[4 << 20];
    struct chat_message message = says("user", "Q");
    for (size_t over = 0; over < 2; over++) {
        size_t depth = CHAT_JSON_DEPTH_MAX + over;
        memset(name, 'n', sizeof name);
        struct chat_tool named = {.name = slice_of(name, CHAT_NAME_BYTES_MAX + over)};
        struct chat chat = {.messages = &message, .n_messages = 1, .tools = &named, .n_tools = 1,
                            .thinking = -1};
        int wanted = over ? STATUS_INVALID : STATUS_OK;
        assert_int_equal(try_render("chatml", "", &chat, NULL, out, sizeof out), wanted);
        memcpy(nested, "{\"a\":", 5);
        memset(nested + 5, '[', depth - 1);
        memset(nested + 4 + depth, ']', depth - 1);
        nested[3 + 2 * depth] = '}';
        struct chat_tool deep = {.name = slice_from("f"),
                                 .parameters = slice_of(nested, 4 + 2 * depth)};
        chat.tools = &deep;
        assert_int_equal(try_render("chatml", "", &chat, NULL, out, sizeof out), wanted);
    }
    static const char around[] = "<tool_call>\n{\"name\": \"f\", \"arguments\": }\n</tool_call>";
    struct chat_call call = {.name = slice_from("f")};
    struct chat_message messages[] = {message, {.role = slice_from("assistant"), .calls = &call,
                                                .n_calls = 1}};
    struct chat chat = {.messages = messages, .n_messages = 2, .thinking = -1};
    for (size_t over = 0; over < 2; over++) { /* bytes, as rendered */
        struct why why = {.text = ""};
        size_t len = CHAT_TOOLS_BYTES_MAX - strlen(around) + over;
        memset(wide, 'x', len);
        memcpy(wide, "{\"a\": \"", 7);
        memcpy(wide + len - 2, "\"}", 2);
        call.arguments = slice_of(wide, len);
        assert_int_equal(try_render("chatml", "", &chat, &why, out, sizeof out),
                         over ? STATUS_TOO_LARGE : STATUS_OK);
        assert_true(!over || strstr(why.text, "1048576") != NULL);
    }
}

/* --- calls in answers --- */

static void test_chat_family__calls_are_read_out_of_answers(void **state)
{
    static const struct {
        enum chat_tool_style style;
        const char *text;
        size_t n;
    } rows[] = {
        {CHAT_TOOLS_QWEN, "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": [1, \"}\"]}}\n"
                          "</tool_call>", 1},
        {CHAT_TOOLS_QWEN, "<tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call>\n<tool_call>"
                          "{\"arguments\":{},\"name\":\"f\"}</tool_call>\n", 2},
        {CHAT_TOOLS_QWEN, "<tool_call>{\"name\":\"f\",\"arguments\":{}}", 0},
        {CHAT_TOOLS_QWEN, "<tool_call>{\"name\":\"f\"}</tool_call>", 0},
        {CHAT_TOOLS_QWEN, "<tool_call>{\"name\":\"f\",\"arguments\":[]}</tool_call>", 0},
        {CHAT_TOOLS_QWEN, "<tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call> and so on", 0},
        {CHAT_TOOLS_LLAMA, "{\"name\": \"f\", \"parameters\": {}}", 1},
        {CHAT_TOOLS_LLAMA, "<|python_tag|>{\"name\": \"f\", \"parameters\": {}}; "
                           "{\"name\": \"f\", \"parameters\": {}}", 2},
        {CHAT_TOOLS_LLAMA, "<|python_start|><|python_end|>{\"name\":\"f\",\"parameters\":{}}", 1},
        {CHAT_TOOLS_LLAMA, "{\"name\": \"\", \"parameters\": {}}", 0},
        {CHAT_TOOLS_LLAMA, "{ \"answer\": 42 }", 0},
        {CHAT_TOOLS_LLAMA, "{\"name\": \"a\\\"b\", \"parameters\": {}}", 0},
        {CHAT_TOOLS_MISTRAL, "[TOOL_CALLS] [{\"name\": \"f\", \"arguments\": {}, \"id\": "
                             "\"abcdefghi\"}, {\"name\": \"f\", \"arguments\": {}}]", 2},
        {CHAT_TOOLS_MISTRAL, "[TOOL_CALLS]f[CALL_ID]abcdefghi[ARGS]{}[TOOL_CALLS]f[ARGS]{}", 2},
        {CHAT_TOOLS_MISTRAL, "[TOOL_CALLS]", 0},
        {CHAT_TOOLS_MISTRAL, "[{\"name\": \"f\", \"arguments\": {}}]", 0},
        {CHAT_TOOLS_MISTRAL, "", 0},
        {CHAT_TOOLS_NONE, "{\"name\": \"f\", \"parameters\": {}}", 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct chat_call calls[4];
        size_t n = chat_calls_read(rows[i].style, slice_from(rows[i].text), calls, 4);
        if (n != rows[i].n)
            fail_msg("%zu calls in %s", n, rows[i].text);
        for (size_t k = 0; k < n; k++) {
            assert_true(slice_equal(calls[k].name, slice_from("f")));
            assert_true(calls[k].arguments.len >= 2 && calls[k].arguments.bytes[0] == '{');
            assert_true(k > 0 || rows[i].style != CHAT_TOOLS_MISTRAL ||
                        slice_equal(calls[k].id, slice_from("abcdefghi")));
        }
        assert_int_equal(chat_calls_read(rows[i].style, slice_from(rows[i].text), calls, 0), 0);
        for (size_t len = 0; len < strlen(rows[i].text); len++) { /* cut anywhere: no harm */
            uint8_t *cut = malloc(len + 1);
            memcpy(cut, rows[i].text, len);
            chat_calls_read(rows[i].style, slice_of(cut, len), calls, 4);
            free(cut);
        }
    }
}

static int make_vocabulary(void **state)
{
    all_marks = chat_vocabulary();
    return 0;
}

static int free_vocabulary(void **state)
{
    vocabulary_free((struct vocabulary *)all_marks);
    return 0;
}

/* Of a file that calls its marks user-defined: a message that holds them writes none of them. */
static void test_chat_family__contents_write_no_mark_that_is_user_defined(void **state)
{
    struct vocabulary *vocabulary = chat_vocabulary_of(TOKEN_USER_DEFINED);
    assert_non_null(vocabulary);
    for (int i = 0; i < CHAT_N_FAMILIES; i++) {
        const struct chat_shape *shape = chat_family_shape((enum chat_family)i);
        size_t n_max = sizeof shape->marks / sizeof *shape->marks;
        for (size_t m = 0; m < n_max && shape->marks[m] != NULL; m++) {
            struct slice mark = slice_from(shape->marks[m]);
            uint32_t id;
            assert_int_equal(
                special_table_search(vocabulary_specials(vocabulary, false), mark, true).outcome,
                SPECIAL_NONE);
            assert_true(vocabulary_find_special(vocabulary, mark, &id));
            assert_true(vocabulary_is_control(vocabulary, id));
        }
    }
    vocabulary_free(vocabulary);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chat_family__templates_are_told_apart_by_their_marks),
        cmocka_unit_test(test_chat_family__each_renders_a_conversation_as_published),
        cmocka_unit_test(test_chat_family__defaults_and_dates_are_read_out_of_the_template),
        cmocka_unit_test(test_chat_family__thoughts_of_earlier_answers_are_left_out),
        cmocka_unit_test(test_chat_family__tools_calls_and_results_are_rendered),
        cmocka_unit_test(test_chat_family__escapes_of_arguments_are_the_characters_that_they_mean),
        cmocka_unit_test(test_chat_family__tools_that_a_template_writes_otherwise_are_refused),
        cmocka_unit_test(test_chat_family__bad_conversations_are_refused_by_number),
        cmocka_unit_test(test_chat_family__names_nesting_and_bytes_at_their_limits_and_one_beyond),
        cmocka_unit_test(test_chat_family__contents_write_no_mark_that_is_user_defined),
        cmocka_unit_test(test_chat_family__calls_are_read_out_of_answers),
    };
    return cmocka_run_group_tests(tests, make_vocabulary, free_vocabulary);
}
