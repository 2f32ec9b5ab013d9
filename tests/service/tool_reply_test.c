/* An answer parted into text and held calls, however its pieces are cut. */
#include "service/tool_reply.h"

#include "base/status.h"
#include "limits.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Feeds the text in pieces of so many bytes; what was shown and what is held at the end. */
static void part(enum chat_tool_style style, const char *text, size_t piece, char *shown,
                 char *held)
{
    struct tool_reply reply;
    size_t n = 0, len = strlen(text);
    tool_reply_init(&reply, style);
    for (size_t at = 0; at < len; at += piece) {
        struct slice out;
        size_t n_now = len - at < piece ? len - at : piece;
        assert_int_equal(tool_reply_feed(&reply, slice_of(text + at, n_now), &out), STATUS_OK);
        if (out.len > 0)
            memcpy(shown + n, out.bytes, out.len);
        n += out.len;
    }
    struct slice rest = tool_reply_held(&reply);
    shown[n] = '\0';
    if (rest.len > 0)
        memcpy(held, rest.bytes, rest.len);
    held[rest.len] = '\0';
    tool_reply_release(&reply);
}

static void test_tool_reply__text_is_shown_and_calls_are_held_whatever_the_pieces(void **state)
{
    static const struct {
        enum chat_tool_style style;
        const char *text, *shown, *held;
    } rows[] = {
        {CHAT_TOOLS_QWEN, "Hm <tool> x<tool_call>{}", "Hm <tool> x", "<tool_call>{}"},
        {CHAT_TOOLS_QWEN, "a < b, <tool_ca", "a < b, ", "<tool_ca"},
        {CHAT_TOOLS_QWEN, "A <tool_call>?</think>Hm", "A <tool_call>?</think>Hm", ""},
        {CHAT_TOOLS_QWEN, "A <tool_call>?</think>\n<tool_call>{}", "A <tool_call>?</think>\n",
         "<tool_call>{}"},
        {CHAT_TOOLS_MISTRAL, "[TOOL_CALLS]</think>", "", "[TOOL_CALLS]</think>"},
        {CHAT_TOOLS_QWEN, "{\"a\": 1}", "{\"a\": 1}", ""},
        {CHAT_TOOLS_MISTRAL, "[1][TOOL_CALLS][{}]", "[1]", "[TOOL_CALLS][{}]"},
        {CHAT_TOOLS_LLAMA, " \n{\"name\": 1} and", "", " \n{\"name\": 1} and"},
        {CHAT_TOOLS_LLAMA, "So {\"name\": 1}", "So {\"name\": 1}", ""},
        {CHAT_TOOLS_LLAMA, "So <|python_tag|>{}", "So ", "<|python_tag|>{}"},
        {CHAT_TOOLS_LLAMA, "  ", "", "  "},
        {CHAT_TOOLS_NONE, "<tool_call>{}", "<tool_call>{}", ""},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (size_t piece = 1; piece < 30; piece++) {
            char shown[256], held[256];
            part(rows[i].style, rows[i].text, piece, shown, held);
            assert_string_equal(shown, rows[i].shown);
            assert_string_equal(held, rows[i].held);
        }
}

static void test_tool_reply__what_is_held_has_a_limit_and_is_text_beyond_it(void **state)
{
    static const char mark[] = "<tool_call>";
    for (size_t over = 0; over < 2; over++) {
        size_t len = TOOL_REPLY_BYTES_MAX + over;
        char *text = malloc(len + 1), *shown = malloc(len + 4), *held = malloc(len + 4);
        memset(text, 'x', len);
        memcpy(text, mark, strlen(mark));
        text[len] = '\0';
        part(CHAT_TOOLS_QWEN, text, 1000, shown, held);
        assert_int_equal(strlen(held), over ? 0 : len);
        assert_int_equal(strlen(shown), over ? len : 0);
        free(text);
        free(shown);
        free(held);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tool_reply__text_is_shown_and_calls_are_held_whatever_the_pieces),
        cmocka_unit_test(test_tool_reply__what_is_held_has_a_limit_and_is_text_beyond_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
