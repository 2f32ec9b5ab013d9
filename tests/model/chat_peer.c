/* Renders conversations for chat_peer_test.py, which renders the same by Jinja.
 *
 *   chat_peer TEMPLATE-FILE PRE < conversations > renderings
 *
 *   conversation: "N-MESSAGES N-TOOLS THINKING\n", messages, tools
 *   message:      "ROLE-BYTES CONTENT-BYTES ID-BYTES N-CALLS\n" and these bytes, then calls
 *   call, tool:   three sizes and their bytes
 *   rendering:    "STATUS BYTES\n" and these bytes, or the sentence
 */
#include "base/arena.h"
#include "base/status.h"
#include "model/chat_template.h"
#include "model/detok.h"
#include "model/token_buffer.h"
#include "tests/model/chat_vocabulary.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PARTS_MAX 64

static struct arena arena; /* of one conversation */

static void *need(void *memory)
{
    if (memory == NULL)
        exit(3);
    return memory;
}

static struct slice read_bytes(size_t len)
{
    uint8_t *bytes = need(arena_alloc(&arena, len + 1));
    if (fread(bytes, 1, len, stdin) != len)
        exit(4);
    return slice_of(bytes, len);
}

/* A line of n numbers; false at the end. */
static bool read_numbers(long *out, int n)
{
    char line[256];
    if (fgets(line, sizeof line, stdin) == NULL)
        return false;
    char *at = line;
    for (int i = 0; i < n; i++)
        out[i] = strtol(at, &at, 10);
    return true;
}

static void read_three(struct slice *a, struct slice *b, struct slice *c)
{
    long n[3];
    if (!read_numbers(n, 3))
        exit(4);
    *a = read_bytes((size_t)n[0]);
    *b = read_bytes((size_t)n[1]);
    *c = read_bytes((size_t)n[2]);
}

static bool read_chat(struct chat *chat)
{
    static struct chat_message messages[PARTS_MAX];
    static struct chat_call calls[PARTS_MAX][PARTS_MAX];
    static struct chat_tool tools[PARTS_MAX];
    long n[4];
    if (!read_numbers(n, 3) || n[0] > PARTS_MAX || n[1] > PARTS_MAX)
        return false;
    *chat = (struct chat){.messages = messages, .n_messages = (size_t)n[0], .tools = tools,
                          .n_tools = (size_t)n[1], .thinking = (int)n[2]};
    for (size_t i = 0; i < chat->n_messages; i++) {
        if (!read_numbers(n, 4) || n[3] > PARTS_MAX)
            return false;
        messages[i] = (struct chat_message){.calls = calls[i], .n_calls = (size_t)n[3]};
        messages[i].role = read_bytes((size_t)n[0]);
        messages[i].content = read_bytes((size_t)n[1]);
        messages[i].call_id = read_bytes((size_t)n[2]);
        for (long k = 0; k < n[3]; k++)
            read_three(&calls[i][k].id, &calls[i][k].name, &calls[i][k].arguments);
    }
    for (size_t i = 0; i < chat->n_tools; i++)
        read_three(&tools[i].name, &tools[i].description, &tools[i].parameters);
    return true;
}

static void answer(const struct chat_template *chat_template, const struct vocabulary *vocabulary,
                   const struct chat *chat)
{
    struct token_buffer ids;
    struct why why = {.text = ""};
    uint8_t *text = NULL;
    size_t len = 0;
    token_buffer_init(&ids, 1 << 20, false);
    int status = chat_template_render(chat_template, vocabulary, chat, true, &ids, &why);
    if (status == STATUS_OK)
        status = detok_all(vocabulary, ids.ids, ids.n, true, 1 << 22, &text, &len, &why);
    if (status < 0)
        printf("%d %zu\n%s", status, strlen(why.text), why.text);
    else
        printf("0 %zu\n", len);
    fwrite(text, 1, len, stdout);
    free(text);
    token_buffer_release(&ids);
}

int main(int argc, char **argv)
{
    static uint8_t text[1 << 20];
    struct vocabulary *vocabulary = need(chat_vocabulary());
    struct chat_template *chat_template;
    struct chat chat;
    struct why why = {.text = ""};
    FILE *file = argc == 3 ? fopen(argv[1], "rb") : NULL;
    if (file == NULL)
        return 2;
    struct chat_source source = {.text = slice_of(text, fread(text, 1, sizeof text, file)),
                                 .pre = slice_from(argv[2])};
    fclose(file);
    if (chat_template_create(&source, vocabulary, &chat_template, &why) < 0) {
        fprintf(stderr, "%s\n", why.text);
        return 2;
    }
    arena_init(&arena, 1 << 26);
    while (read_chat(&chat)) {
        answer(chat_template, vocabulary, &chat);
        arena_clear(&arena);
    }
    arena_release(&arena);
    chat_template_free(chat_template);
    vocabulary_free(vocabulary);
    return 0;
}
