/* tests/model/chat_vocabulary.h: a small vocabulary with the marks of every chat family. Header
 * only. */
#ifndef QUIRE_TESTS_CHAT_VOCABULARY_H
#define QUIRE_TESTS_CHAT_VOCABULARY_H

#include "tests/model/vocabulary_fixture.h"

#include <stdlib.h>

/* BOS is <s> and added by no rule of the vocabulary, EOS </s>; free with vocabulary_free. NULL: it
 * could not be made. marked: how the file says what the marks are. */
static inline struct vocabulary *chat_vocabulary_of(enum token_kind marked)
{
    static const char *const marks[] = {
        "<|im_sep|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|python_tag|>",
        "<|header_start|>", "<|header_end|>", "<|eot|>", "<|python_start|>", "<|python_end|>",
        "[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[AVAILABLE_TOOLS]",
        "[/AVAILABLE_TOOLS]", "[TOOL_CALLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]",
        "[TOOL_CONTENT]", "[CALL_ID]", "[ARGS]", "<｜User｜>", "<｜Assistant｜>",
    };
    struct source_fixture *fixture = source_fixture_create("qwen2");
    struct vocabulary *vocabulary = NULL;

    source_fixture_fill(fixture);
    for (size_t i = 0; i < sizeof marks / sizeof *marks; i++)
        source_fixture_token(fixture, marks[i], marked);
    fixture->source.bos_id = source_fixture_token(fixture, "<s>", TOKEN_CONTROL);
    fixture->source.eos_id = source_fixture_token(fixture, "</s>", TOKEN_CONTROL);
    source_fixture_token(fixture, "<tool_call>", TOKEN_USER_DEFINED);
    source_fixture_token(fixture, "<think>", TOKEN_USER_DEFINED);
    fixture->source.add_bos = 0;
    if (vocabulary_create(&fixture->source, &vocabulary, NULL) < 0)
        vocabulary = NULL;
    free(fixture);
    return vocabulary;
}

static inline struct vocabulary *chat_vocabulary(void)
{
    return chat_vocabulary_of(TOKEN_CONTROL);
}

#endif
