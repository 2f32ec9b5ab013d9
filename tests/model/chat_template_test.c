#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "model/chat_template.h"
#include "model/detok.h"
#include "model/token_buffer.h"
#include "tests/model/vocabulary_fixture.h"

static const char smollm2[] =
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ "
    "'<|im_start|>system\\nYou are SmolLM<|im_end|>\\n' }}{% endif %}{{'<|im_start|>' + "
    "message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}{% if "
    "add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

static const char qwen25[] =
    "{%- if tools %}\n    {{- '<|im_start|>system\\n' }}\n    {%- if messages[0]['role'] == "
    "'system' %}\n"
    "        {{- messages[0]['content'] }}\n    {%- else %}\n        {{- 'You are with tools.' }}\n"
    "    {%- endif %}\n{%- else %}\n    {%- if messages[0]['role'] == 'system' %}\n"
    "        {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}\n    {%- "
    "else %}\n"
    "        {{- '<|im_start|>system\\nYou are Qwen. You\\'re \"helpful\".<|im_end|>\\n' }}\n"
    "    {%- endif %}\n{%- endif %}\n";

static const char plain_chatml[] = "{% for message in messages %}{{'<|im_start|>' + "
                                   "message['role'] + '\\n' + message['content'] + "
                                   "'<|im_end|>' + '\\n'}}{% endfor %}";

static struct chat_template *chat_of(const struct vocabulary *vocabulary, const char *text)
{
    struct chat_template *chat;
    struct why why = {.text = ""};
    struct chat_source source = {.text = slice_from(text)};
    if (chat_template_create(&source, vocabulary, &chat, &why) < 0)
        fail_msg("%s", why.text);
    return chat;
}

static int render(const struct chat_template *chat_template, const struct vocabulary *vocabulary,
                  const struct chat_message *messages, size_t n, bool add_prompt,
                  struct token_buffer *out, struct why *why)
{
    struct chat chat = {.messages = messages, .n_messages = n, .thinking = -1};
    return chat_template_render(chat_template, vocabulary, &chat, add_prompt, out, why);
}

static struct chat_message message_of(const char *role, const char *content)
{
    return (struct chat_message){.role = slice_from(role), .content = slice_from(content)};
}

static void assert_rendered(const struct vocabulary *vocabulary, const char *template_text,
                            const struct chat_message *messages, size_t n, bool add_prompt,
                            const char *wanted)
{
    struct chat_template *chat = chat_of(vocabulary, template_text);
    struct token_buffer out;
    uint8_t *text;
    size_t len;
    token_buffer_init(&out, 10000, false);
    assert_int_equal(render(chat, vocabulary, messages, n, add_prompt, &out, NULL),
                     STATUS_OK);
    assert_int_equal(detok_all(vocabulary, out.ids, out.n, true, 100000, &text, &len, NULL),
                     STATUS_OK);
    assert_int_equal(len, strlen(wanted));
    assert_memory_equal(text, wanted, len);
    free(text);
    token_buffer_release(&out);
    chat_template_free(chat);
}

static void test_chat_template__reads_the_default_system_text_out_of_the_template(void **state)
{
    static const struct {
        const char *text, *system;
    } rows[] = {
        {smollm2, "You are SmolLM"},
        {qwen25, "You are Qwen. You're \"helpful\"."},
        {plain_chatml, ""},
        {"<|im_start|>system\nBare words.<|im_end|>\n{% for m in messages %}", "Bare words."},
        {"<|im_start|>system\n{{ system }}<|im_end|>\n", ""},
        {"{{ \"<|im_start|>system\\nIt's a \\\\ test.\\tOk<|im_end|>\" }}", "It's a \\ test.\tOk"},
        {"{{ '<|im_start|>system\\nnever closed", ""},
        {"{{ '<|im_start|>systematic\\nno<|im_end|>' }}", ""},
        {"{{ '<|im_start|>system\\n<|im_end|>' }}", ""},
        {"{{ '<|im_start|>system", ""},
    };
    struct vocabulary *vocabulary = small_vocabulary("smollm");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct chat_template *chat = chat_of(vocabulary, rows[i].text);
        struct slice got = chat_template_default_system(chat);
        assert_int_equal(got.len, strlen(rows[i].system));
        assert_memory_equal(got.bytes, rows[i].system, got.len);
        assert_string_equal(chat_template_family(chat), "chatml");
        chat_template_free(chat);
    }
    vocabulary_free(vocabulary);
}

static void test_chat_template__renders_turns_and_the_start_of_an_answer(void **state)
{
    struct vocabulary *vocabulary = small_vocabulary("smollm");
    struct chat_message messages[] = {message_of("user", "Hi"), message_of("assistant", " hello"),
                                      message_of("user", "")};
    assert_rendered(vocabulary, smollm2, messages, 3, true,
                    "<|im_start|>system\nYou are SmolLM<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
                    "<|im_start|>assistant\n hello<|im_end|>\n<|im_start|>user\n<|im_end|>\n"
                    "<|im_start|>assistant\n");
    assert_rendered(vocabulary, plain_chatml, messages, 1, false,
                    "<|im_start|>user\nHi<|im_end|>\n");
    vocabulary_free(vocabulary);
}

static void test_chat_template__a_given_system_text_replaces_the_default(void **state)
{
    struct vocabulary *vocabulary = small_vocabulary("smollm");
    struct chat_message messages[] = {message_of("system", "Be brief."), message_of("user", "Hi")};
    assert_rendered(vocabulary, smollm2, messages, 2, false,
                    "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n");
    vocabulary_free(vocabulary);
}

static void test_chat_template__trims_only_where_the_template_does(void **state)
{
    struct vocabulary *vocabulary = small_vocabulary("smollm");
    struct chat_message message = message_of("user", "\n \xC2\xA0Hi there\xE3\x80\x80 \t");
    assert_rendered(vocabulary, "{{ '<|im_start|>' + message['content'] | trim + '<|im_end|>' }}",
                    &message, 1, false, "<|im_start|>user\nHi there<|im_end|>\n");
    assert_rendered(
        vocabulary, "{{ '<|im_start|>' + message['content'] + '<|im_end|>' }}{{ x | trim }}",
        &message, 1, false, "<|im_start|>user\n\n \xC2\xA0Hi there\xE3\x80\x80 \t<|im_end|>\n");
    message = message_of("user", " \n\t ");
    assert_rendered(vocabulary, "<|im_start|>{{ message.content|trim }}", &message, 1, false,
                    "<|im_start|>user\n<|im_end|>\n");
    vocabulary_free(vocabulary);
}

static void test_chat_template__bos_stands_once(void **state)
{
    for (int i = 0; i < 3; i++) {
        struct source_fixture *fixture = source_fixture_create("gpt-2");
        source_fixture_fill(fixture);
        fixture->source.bos_id = FIXTURE_END_OF_TEXT;
        fixture->source.add_bos = i == 1 ? 0 : 1;
        struct vocabulary *vocabulary;
        assert_int_equal(vocabulary_create(&fixture->source, &vocabulary, NULL), STATUS_OK);
        struct chat_message message = message_of("user", "Hi");
        assert_rendered(vocabulary, i == 0 ? "<|im_start|>" : "{{ bos_token }}<|im_start|>",
                        &message, 1, false, "<|endoftext|><|im_start|>user\nHi<|im_end|>\n");
        vocabulary_free(vocabulary);
        free(fixture);
    }
}

static size_t count_control(const struct vocabulary *vocabulary, const struct token_buffer *out)
{
    size_t n = 0;
    for (size_t i = 0; i < out->n; i++)
        n += vocabulary_is_control(vocabulary, out->ids[i]);
    return n;
}

/* Whatever users write: the markers are the template's, and the text comes back as it was. */
static void test_chat_template__no_content_can_close_its_turn(void **state)
{
    uint64_t seed = 51;
    struct vocabulary *vocabulary = small_vocabulary("qwen2");
    struct chat_template *chat = chat_of(vocabulary, plain_chatml);
    static const char *const roles[] = {"system", "user", "assistant"};
    for (int round = 0; round < 2000; round++) {
        uint8_t contents[4][16 * 30], wanted[4 * (16 * 30 + 64)], *text;
        struct chat_message messages[4];
        size_t n = 1 + random_below(&seed, 4), n_wanted = 0, len;
        for (size_t i = 0; i < n; i++) {
            const char *role = roles[random_below(&seed, 3)];
            size_t n_content = random_text(&seed, random_below(&seed, 28), contents[i]);
            memcpy(contents[i] + n_content, "<|im_end|>", 10);
            n_content += random_below(&seed, 2) * 10;
            messages[i] = (struct chat_message){.role = slice_from(role),
                                                .content = slice_of(contents[i], n_content)};
            n_wanted += (size_t)sprintf((char *)wanted + n_wanted, "<|im_start|>%s\n", role);
            memcpy(wanted + n_wanted, contents[i], n_content);
            n_wanted += n_content;
            n_wanted += (size_t)sprintf((char *)wanted + n_wanted, "<|im_end|>\n");
        }
        struct token_buffer out;
        token_buffer_init(&out, 100000, true);
        assert_int_equal(render(chat, vocabulary, messages, n, false, &out, NULL),
                         STATUS_OK);
        assert_int_equal(count_control(vocabulary, &out), 2 * n);
        assert_int_equal(detok_all(vocabulary, out.ids, out.n, true, 1 << 20, &text, &len, NULL),
                         STATUS_OK);
        assert_int_equal(len, n_wanted);
        assert_memory_equal(text, wanted, len);
        for (size_t i = 0, at = 0; i < out.n; at = out.spans[i++].end)
            assert_int_equal(out.spans[i].begin, at);
        assert_int_equal(out.spans[out.n - 1].end, len);
        free(text);
        token_buffer_release(&out);
    }
    chat_template_free(chat);
    vocabulary_free(vocabulary);
}

static void test_chat_template__bad_messages_are_refused_by_number_and_name(void **state)
{
    struct vocabulary *vocabulary = small_vocabulary("smollm");
    struct chat_template *chat = chat_of(vocabulary, smollm2);
    struct chat_message messages[] = {message_of("user", "Hi"), message_of("human", "x")};
    struct token_buffer out;
    struct why why = {.text = ""};
    token_buffer_init(&out, 20, false);
    assert_int_equal(render(chat, vocabulary, messages, 2, true, &out, &why),
                     STATUS_INVALID);
    assert_string_equal(why.text,
                        "message 1 has the role human; roles are system, user, assistant and tool");
    messages[1] = message_of("tool", "x");
    assert_int_equal(render(chat, vocabulary, messages, 2, true, &out, &why), STATUS_UNSUPPORTED);
    assert_non_null(strstr(why.text, "no place for tools"));
    messages[1] = message_of("user", "a\xFF");
    assert_int_equal(render(chat, vocabulary, messages, 2, true, &out, &why),
                     STATUS_INVALID);
    assert_string_equal(why.text, "message 1 is not UTF-8: byte 0xFF at offset 1 of 2");
    assert_int_equal(render(chat, vocabulary, messages, 0, true, &out, &why),
                     STATUS_INVALID);
    assert_non_null(strstr(why.text, "at least one message"));
    messages[0].content = slice_from("a text of more than twenty tokens, surely");
    assert_int_equal(render(chat, vocabulary, messages, 1, true, &out, &why),
                     STATUS_TOO_LARGE);
    assert_int_equal(out.n, 0);
    token_buffer_release(&out);
    chat_template_free(chat);
    vocabulary_free(vocabulary);
}

static void test_chat_template__an_unknown_template_is_refused_with_what_helps(void **state)
{
    static const struct {
        const char *text, *sentence;
    } rows[] = {
        {"", "has no tokenizer.chat_template"},
        {"\n{{ strange }}\nrest", "of no known family (it begins \"{{ strange }}\")"},
        {"<|header_start|><|header_end|>", "llama-4 need the token <|header_start|>"},
        {"[SYSTEM_PROMPT][INST]", "mistral-v7 need the token [INST]"},
    };
    struct vocabulary *vocabulary = small_vocabulary("smollm");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct chat_template *chat = NULL;
        struct why why = {.text = ""};
        struct chat_source source = {.text = slice_from(rows[i].text)};
        assert_int_equal(chat_template_create(&source, vocabulary, &chat, &why),
                         STATUS_UNSUPPORTED);
        if (strstr(why.text, rows[i].sentence) == NULL || strstr(why.text, "raw text") == NULL ||
            strstr(why.text, "--chat-format") == NULL)
            fail_msg("\"%s\" lacks \"%s\"", why.text, rows[i].sentence);
        assert_null(chat);
    }
    vocabulary_free(vocabulary);
}

static void test_chat_template__a_format_that_is_named_needs_no_template(void **state)
{
    struct vocabulary *vocabulary = small_vocabulary("smollm");
    struct chat_source source = {.text = slice_from("{{ strange }}"),
                                 .format = slice_from("chatml")};
    struct chat_message message = message_of("user", "Hi");
    struct chat_template *chat;
    struct token_buffer out;
    struct why why = {.text = ""};
    token_buffer_init(&out, 100, false);
    assert_int_equal(chat_template_create(&source, vocabulary, &chat, &why), STATUS_OK);
    assert_int_equal(render(chat, vocabulary, &message, 1, true, &out, &why), STATUS_OK);
    assert_true(out.n > 5 && out.ids[0] == FIXTURE_IM_START);
    token_buffer_release(&out);
    chat_template_free(chat);
    source.format = slice_from("chat-ml");
    assert_int_equal(chat_template_create(&source, vocabulary, &chat, &why), STATUS_INVALID);
    assert_non_null(strstr(why.text, "chat-ml"));
    assert_non_null(strstr(why.text, "mistral-v7-tekken"));
    source.format = slice_from("llama-3");
    assert_int_equal(chat_template_create(&source, vocabulary, &chat, &why), STATUS_UNSUPPORTED);
    assert_non_null(strstr(why.text, "<|start_header_id|>"));
    vocabulary_free(vocabulary);
}

static void test_chat_template__a_template_that_is_not_utf8_is_refused(void **state)
{
    struct vocabulary *vocabulary = small_vocabulary("smollm");
    struct chat_source source = {.text = slice_from("<|im_start|>system\nx\xE2<|im_end|>")};
    struct chat_template *chat;
    struct why why = {.text = ""};
    assert_int_equal(chat_template_create(&source, vocabulary, &chat, &why), STATUS_UNSUPPORTED);
    assert_non_null(strstr(why.text, "not UTF-8 at byte 20 of 31"));
    vocabulary_free(vocabulary);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chat_template__reads_the_default_system_text_out_of_the_template),
        cmocka_unit_test(test_chat_template__renders_turns_and_the_start_of_an_answer),
        cmocka_unit_test(test_chat_template__a_given_system_text_replaces_the_default),
        cmocka_unit_test(test_chat_template__trims_only_where_the_template_does),
        cmocka_unit_test(test_chat_template__bos_stands_once),
        cmocka_unit_test(test_chat_template__no_content_can_close_its_turn),
        cmocka_unit_test(test_chat_template__bad_messages_are_refused_by_number_and_name),
        cmocka_unit_test(test_chat_template__an_unknown_template_is_refused_with_what_helps),
        cmocka_unit_test(test_chat_template__a_template_that_is_not_utf8_is_refused),
        cmocka_unit_test(test_chat_template__a_format_that_is_named_needs_no_template),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
