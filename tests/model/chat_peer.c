/* Renders conversations for chat_peer_test.py, which renders the same by Jinja, and for
 * e2e/chat_ids_test.py, which has the publishers' ids.
 *
 *   chat_peer TEMPLATE-FILE PRE < conversations > renderings     by a small vocabulary; texts
 *   chat_peer --ids GGUF-FILE FAMILY < conversations             by that file's; ids in decimal
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
#include "model/gguf.h"
#include "model/token_buffer.h"
#include "model/vocabulary_gguf.h"
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

/* Ids in decimal, parted by blanks. */
static uint8_t *spell(const struct token_buffer *ids, size_t *len)
{
    char *text = need(malloc(ids->n * 11 + 1));
    *len = 0;
    for (size_t i = 0; i < ids->n; i++)
        *len += (size_t)sprintf(text + *len, i == 0 ? "%u" : " %u", ids->ids[i]);
    return (uint8_t *)text;
}

static void answer(const struct chat_template *chat_template, const struct vocabulary *vocabulary,
                   const struct chat *chat, bool wants_ids)
{
    struct token_buffer ids;
    struct why why = {.text = ""};
    uint8_t *text = NULL;
    size_t len = 0;
    token_buffer_init(&ids, 1 << 20, false);
    int status = chat_template_render(chat_template, vocabulary, chat, true, &ids, &why);
    if (status == STATUS_OK && wants_ids)
        text = spell(&ids, &len);
    else if (status == STATUS_OK)
        status = detok_all(vocabulary, ids.ids, ids.n, true, 1 << 22, &text, &len, &why);
    if (status < 0)
        printf("%d %zu\n%s", status, strlen(why.text), why.text);
    else
        printf("0 %zu\n", len);
    fwrite(text, 1, len, stdout);
    free(text);
    token_buffer_release(&ids);
}

static struct vocabulary *vocabulary_of(const char *path, struct why *why)
{
    struct vocabulary *vocabulary = NULL;
    struct gguf *file;
    if (gguf_open(path, &file, why) < 0)
        return NULL;
    if (vocabulary_gguf_read(file, &vocabulary, why) < 0)
        vocabulary = NULL;
    gguf_close(file);
    return vocabulary;
}

static bool read_template(const char *path, struct slice *out)
{
    static uint8_t text[1 << 20];
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        return false;
    *out = slice_of(text, fread(text, 1, sizeof text, file));
    fclose(file);
    return true;
}

int main(int argc, char **argv)
{
    bool wants_ids = argc == 4 && strcmp(argv[1], "--ids") == 0;
    struct chat_source source = {.format = slice_from(wants_ids ? argv[3] : "")};
    struct vocabulary *vocabulary;
    struct chat_template *chat_template;
    struct chat chat;
    struct why why = {.text = ""};

    if (!wants_ids && (argc != 3 || !read_template(argv[1], &source.text)))
        return 2;
    source.pre = slice_from(wants_ids ? "" : argv[2]);
    vocabulary = wants_ids ? vocabulary_of(argv[2], &why) : need(chat_vocabulary());
    if (vocabulary == NULL ||
        chat_template_create(&source, vocabulary, &chat_template, &why) < 0) {
        fprintf(stderr, "%s\n", why.text);
        return 2;
    }
    arena_init(&arena, 1 << 26);
    while (read_chat(&chat)) {
        answer(chat_template, vocabulary, &chat, wants_ids);
        arena_clear(&arena);
    }
    arena_release(&arena);
    chat_template_free(chat_template);
    vocabulary_free(vocabulary);
    return 0;
}
