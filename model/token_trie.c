#include "model/token_trie.h"

#include <stdlib.h>
#include <string.h>

#include "base/slice.h"
#include "base/status.h"
#include "limits.h"
#include "model/vocabulary.h"

_Static_assert(TOKEN_BYTES_MAX <= UINT16_MAX, "a depth fits its field");

struct entry {
    struct slice bytes;
    uint32_t id;
};

static int by_bytes(const void *left, const void *right)
{
    const struct entry *a = left, *b = right;
    size_t n = a->bytes.len < b->bytes.len ? a->bytes.len : b->bytes.len;
    int order = memcmp(a->bytes.bytes, b->bytes.bytes, n);
    if (order != 0)
        return order;
    if (a->bytes.len != b->bytes.len)
        return a->bytes.len < b->bytes.len ? -1 : 1;
    return a->id < b->id ? -1 : 1;
}

/* Bytes that a and b begin with alike. */
static size_t shared_prefix(struct slice a, struct slice b)
{
    size_t n = 0;
    while (n < a.len && n < b.len && a.bytes[n] == b.bytes[n])
        n++;
    return n;
}

static uint32_t list_entries(struct token_trie *trie, const struct vocabulary *vocabulary,
                             struct entry *entries)
{
    uint32_t n = 0;
    for (uint32_t id = 0; id < trie->n_tokens; id++) {
        struct slice bytes = vocabulary_bytes(vocabulary, id);
        if (vocabulary_is_end_of_generation(vocabulary, id))
            trie->ends[trie->n_ends++] = id;
        else if (bytes.len > 0 && !vocabulary_is_control(vocabulary, id))
            entries[n++] = (struct entry){bytes, id};
    }
    qsort(entries, n, sizeof *entries, by_bytes);
    return n;
}

static size_t count_nodes(const struct entry *entries, uint32_t n)
{
    size_t n_nodes = 0;
    for (uint32_t i = 0; i < n; i++)
        n_nodes += entries[i].bytes.len -
                   (i > 0 ? shared_prefix(entries[i - 1].bytes, entries[i].bytes) : 0);
    return n_nodes;
}

/* open[d] is the node of depth d + 1 on the way to the last entry. */
static void fill(struct token_trie *trie, const struct entry *entries, uint32_t *open)
{
    uint32_t n_open = 0;
    for (uint32_t i = 0; i < trie->n_ids; i++) {
        struct slice bytes = entries[i].bytes;
        uint32_t n_shared = i > 0 ? (uint32_t)shared_prefix(entries[i - 1].bytes, bytes) : 0;
        while (n_open > n_shared)
            trie->nodes[open[--n_open]].end = trie->n_nodes;
        while (n_open < bytes.len) {
            trie->nodes[trie->n_nodes] = (struct trie_node){
                .first_token = i, .depth = (uint16_t)(n_open + 1), .byte = bytes.bytes[n_open]};
            open[n_open++] = trie->n_nodes++;
        }
        if (bytes.len > trie->max_depth)
            trie->max_depth = (uint32_t)bytes.len;
        trie->ids[i] = entries[i].id;
    }
    while (n_open > 0)
        trie->nodes[open[--n_open]].end = trie->n_nodes;
    trie->nodes[trie->n_nodes] = (struct trie_node){.first_token = trie->n_ids};
}

static int build(const struct vocabulary *vocabulary, struct token_trie *trie,
                 struct entry *entries, uint32_t *open, struct why *why)
{
    trie->ends = malloc((trie->n_tokens + 1) * sizeof *trie->ends);
    if (trie->ends == NULL)
        return STATUS_NO_MEMORY;
    trie->n_ids = list_entries(trie, vocabulary, entries);
    size_t n_nodes = count_nodes(entries, trie->n_ids);
    if (n_nodes > TOKEN_TRIE_NODES_MAX)
        return refuse_numbers(
            why, STATUS_CORRUPT,
            (struct why_numbers){(double)n_nodes, TOKEN_TRIE_NODES_MAX, "nodes", NULL},
            "the texts of the %u tokens of tokenizer.ggml.tokens make a tree of %zu bytes; at most "
            "%u are taken: no vocabulary of a language model is that large",
            trie->n_tokens, n_nodes, TOKEN_TRIE_NODES_MAX);
    trie->nodes = malloc((n_nodes + 1) * sizeof *trie->nodes);
    trie->ids = malloc((trie->n_ids + 1) * sizeof *trie->ids);
    if (trie->nodes == NULL || trie->ids == NULL)
        return STATUS_NO_MEMORY;
    fill(trie, entries, open);
    return STATUS_OK;
}

int token_trie_create(const struct vocabulary *vocabulary, struct token_trie **out,
                      struct why *why)
{
    uint32_t n_tokens = vocabulary_n_tokens(vocabulary);
    struct token_trie *trie = calloc(1, sizeof *trie);
    struct entry *entries = malloc((n_tokens + 1) * sizeof *entries);
    uint32_t *open = malloc((vocabulary_longest(vocabulary) + 1) * sizeof *open);
    int status = STATUS_NO_MEMORY;

    if (trie != NULL && entries != NULL && open != NULL) {
        trie->n_tokens = n_tokens;
        status = build(vocabulary, trie, entries, open, why);
    }
    free(entries);
    free(open);
    if (status == STATUS_OK) {
        *out = trie;
        return STATUS_OK;
    }
    token_trie_free(trie);
    if (status == STATUS_NO_MEMORY)
        refuse(why, status, "no memory for a tree of %u tokens", n_tokens);
    return status;
}

void token_trie_free(struct token_trie *trie)
{
    if (trie == NULL)
        return;
    free(trie->nodes);
    free(trie->ids);
    free(trie->ends);
    free(trie);
}
