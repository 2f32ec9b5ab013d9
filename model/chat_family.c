#include "model/chat_family.h"

#include "base/log.h"
#include "base/status.h"
#include "model/vocabulary.h"

#include <assert.h>
#include <stdio.h>

/* U+FF5C around a word, as DeepSeek writes its marks. */
#define BAR "\xEF\xBD\x9C"
#define DEEPSEEK_USER "<" BAR "User" BAR ">"
#define DEEPSEEK_ASSISTANT "<" BAR "Assistant" BAR ">"
#define DEEPSEEK_END "<" BAR "end\xE2\x96\x81of\xE2\x96\x81sentence" BAR ">"

#define CHATML_TURN .opening = "<|im_start|>", .behind_role = "\n", .closing = "<|im_end|>\n"
#define MISTRAL                                                                                    \
    .begins_with_bos = true, .alternates = true, .joins = true, .tools = CHAT_TOOLS_MISTRAL,       \
    .tools_mark = "[AVAILABLE_TOOLS]"
#define QWEN_TOOLS                                                                                 \
    .tools = CHAT_TOOLS_QWEN,                                                                      \
    .tools_mark = "return a json object with function name and arguments within "                  \
                  "<tool_call></tool_call> XML tags"
#define LLAMA_TOOLS                                                                                \
    .tool_role = "ipython", .tools = CHAT_TOOLS_LLAMA,                                             \
    .tools_mark = "Given the following functions, please respond with a JSON for a function call"
#define INST_MARKS .marks = {"[INST]", "[/INST]"}
#define SYSTEM_MARKS .marks = {"[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"}

static const struct chat_shape shapes[CHAT_N_FAMILIES] = {
    [CHAT_CHATML] = {"chatml", CHATML_TURN, QWEN_TOOLS,
                     .marks = {"<|im_start|>", "<|im_end|>"}},
    [CHAT_QWEN3] = {"qwen3", CHATML_TURN, QWEN_TOOLS,
                    .marks = {"<|im_start|>", "<|im_end|>"}},
    [CHAT_PHI4] = {"phi-4", .opening = "<|im_start|>", .behind_role = "<|im_sep|>",
                   .closing = "<|im_end|>", .marks = {"<|im_start|>", "<|im_sep|>", "<|im_end|>"}},
    [CHAT_LLAMA2] = {"llama-2", .before_user = "", .behind_inst = " ", .before_end = " ",
                     .before_answer = " ", .begins_with_bos = true, .alternates = true,
                     .joins = true},
    [CHAT_LLAMA3] = {"llama-3", .opening = "<|start_header_id|>",
                     .behind_role = "<|end_header_id|>\n\n", .closing = "<|eot_id|>",
                     LLAMA_TOOLS, .begins_with_bos = true,
                     .marks = {"<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"}},
    [CHAT_LLAMA4] = {"llama-4", .opening = "<|header_start|>",
                     .behind_role = "<|header_end|>\n\n", .closing = "<|eot|>",
                     LLAMA_TOOLS, .begins_with_bos = true,
                     .marks = {"<|header_start|>", "<|header_end|>", "<|eot|>"}},
    [CHAT_MISTRAL_V1] = {"mistral-v1", .before_user = " ", .behind_inst = " ", .before_end = " ",
                         .before_answer = " ", .begins_with_bos = true, .alternates = true,
                         .joins = true},
    [CHAT_MISTRAL_V3] = {"mistral-v3", .before_user = "", .behind_inst = " ", .before_end = "",
                         .before_answer = " ", MISTRAL, INST_MARKS},
    [CHAT_MISTRAL_V3_TEKKEN] = {"mistral-v3-tekken", .before_user = "", .behind_inst = "",
                                .before_end = "", .before_answer = "", MISTRAL, INST_MARKS},
    [CHAT_MISTRAL_V7] = {"mistral-v7", .before_user = "", .behind_inst = " ", .before_end = "",
                         .before_answer = " ", MISTRAL, SYSTEM_MARKS},
    [CHAT_MISTRAL_V7_TEKKEN] = {"mistral-v7-tekken", .before_user = "", .behind_inst = "",
                                .before_end = "", .before_answer = "", MISTRAL, SYSTEM_MARKS},
    [CHAT_DEEPSEEK2] = {"deepseek-v2", .begins_with_bos = true, .joins = true},
    [CHAT_DEEPSEEK3] = {"deepseek-v3", .begins_with_bos = true,
                        .marks = {DEEPSEEK_USER, DEEPSEEK_ASSISTANT}},
};

const struct chat_shape *chat_family_shape(enum chat_family family)
{
    assert(family < CHAT_N_FAMILIES);
    return &shapes[family];
}

bool chat_text_contains(struct slice text, const char *part)
{
    return text.len > 0 && memmem(text.bytes, text.len, part, strlen(part)) != NULL;
}

static enum chat_family bracketed(struct slice text, bool tekken)
{
    if (chat_text_contains(text, "[SYSTEM_PROMPT]"))
        return tekken ? CHAT_MISTRAL_V7_TEKKEN : CHAT_MISTRAL_V7;
    if (chat_text_contains(text, "<<SYS>>") || chat_text_contains(text, "bos_token + '[INST]"))
        return CHAT_LLAMA2;
    /* Mistral's first template has no blank before [INST]; its own code always wrote one. Where the
     * marks are tokens, [/INST] has none either. */
    bool has_tools = chat_text_contains(text, "[AVAILABLE_TOOLS]");
    if (chat_text_contains(text, " [INST]") || (!has_tools && chat_text_contains(text, " [/INST]")))
        return CHAT_MISTRAL_V1;
    return chat_text_contains(text, "\"[INST]\"") ||
                   (!has_tools && chat_text_contains(text, "'[INST]'"))
               ? CHAT_MISTRAL_V3_TEKKEN
               : CHAT_MISTRAL_V3;
}

bool chat_family_always_thinks(struct slice text)
{
    return chat_text_contains(text, "<|im_start|>assistant\\n<think>\\n") ||
           chat_text_contains(text, "<|im_start|>assistant\n<think>\n");
}

/* It has the marks of a family whose turns it writes otherwise: Functionary's templates, with a
 * system turn or recipients of their own, and SmolLM3's, with a page of metadata. */
static bool is_stranger(struct slice text)
{
    static const struct {
        const char *family, *own;
    } marks[] = {
        {"<|start_header_id|>", "<function="},
        {"<|start_header_id|>", ">>>"},
        {"<|im_start|>", "## Metadata"},
    };
    for (size_t i = 0; i < sizeof marks / sizeof *marks; i++)
        if (chat_text_contains(text, marks[i].family) && chat_text_contains(text, marks[i].own))
            return true;
    return false;
}

/* The order matters: later marks also occur in templates of earlier families. */
enum chat_family chat_family_of(struct slice text, bool tekken)
{
    if (is_stranger(text))
        return CHAT_N_FAMILIES;
    if (chat_text_contains(text, "<|im_start|>")) {
        if (chat_text_contains(text, "<|im_sep|>"))
            return CHAT_PHI4;
        if (chat_text_contains(text, "<think>") &&
            (chat_text_contains(text, "enable_thinking") || chat_family_always_thinks(text)))
            return CHAT_QWEN3;
        return CHAT_CHATML;
    }
    if (chat_text_contains(text, "[INST]"))
        return bracketed(text, tekken);
    if (chat_text_contains(text, "<|start_header_id|>") &&
        chat_text_contains(text, "<|end_header_id|>"))
        return CHAT_LLAMA3;
    if (chat_text_contains(text, "'Assistant: ' + message['content'] + eos_token"))
        return CHAT_DEEPSEEK2;
    if (chat_text_contains(text, DEEPSEEK_ASSISTANT) && chat_text_contains(text, DEEPSEEK_USER) &&
        chat_text_contains(text, DEEPSEEK_END))
        return CHAT_DEEPSEEK3;
    if (chat_text_contains(text, "<|header_start|>") && chat_text_contains(text, "<|header_end|>"))
        return CHAT_LLAMA4;
    return CHAT_N_FAMILIES;
}

int chat_family_named(struct slice name, enum chat_family *out, struct why *why)
{
    char quoted[64], names[256];
    size_t n = 0;
    for (int i = 0; i < CHAT_N_FAMILIES; i++) {
        if (slice_equal(name, slice_from(shapes[i].name))) {
            *out = (enum chat_family)i;
            return STATUS_OK;
        }
        n += (size_t)snprintf(names + n, sizeof names - n, "%s%s", i == 0 ? "" : ", ",
                              shapes[i].name);
    }
    return refuse(why, STATUS_INVALID, "--chat-format %s names no format; there are %s",
                  log_quote(quoted, sizeof quoted, (const char *)name.bytes, name.len), names);
}

int chat_family_check(enum chat_family family, const struct vocabulary *vocabulary,
                      struct why *why)
{
    const struct chat_shape *shape = chat_family_shape(family);
    uint32_t id;
    for (size_t i = 0; i < sizeof shape->marks / sizeof *shape->marks && shape->marks[i]; i++)
        if (!vocabulary_find_special(vocabulary, slice_from(shape->marks[i]), &id))
            return refuse(why, STATUS_UNSUPPORTED,
                          "chats of the format %s need the token %s, and the model's vocabulary "
                          "has none; send the prompt as raw text, or serve with --chat-format of "
                          "another",
                          shape->name, shape->marks[i]);
    return STATUS_OK;
}
