#include "model/token_trie.h"

#include <stdbool.h>
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

int token_trie_create(const struct vocabulary *vocabulary, struct token_trie **out,
                      struct why *why)
{
    uint32_t n_tokens = vocabulary_n_tokens(vocabulary);
    struct token_trie *trie = calloc(1, sizeof *trie);
    struct entry *entries = malloc((n_tokens + 1) * sizeof *entries);
    uint32_t *open = malloc((vocabulary_longest(vocabulary) + 1) * sizeof *open);
    bool ok = trie != NULL && entries != NULL && open != NULL;
    if (ok) {
        trie->n_tokens = n_tokens;
        trie->ends = malloc((n_tokens + 1) * sizeof *trie->ends);
        ok = trie->ends != NULL;
    }
    if (ok) {
        trie->n_ids = list_entries(trie, vocabulary, entries);
        size_t n_nodes = count_nodes(entries, trie->n_ids);
        trie->nodes = malloc((n_nodes + 1) * sizeof *trie->nodes);
        trie->ids = malloc((trie->n_ids + 1) * sizeof *trie->ids);
        ok = trie->nodes != NULL && trie->ids != NULL && n_nodes < UINT32_MAX;
    }
    if (ok)
        fill(trie, entries, open);
    free(entries);
    free(open);
    if (!ok) {
        token_trie_free(trie);
        return refuse(why, STATUS_NO_MEMORY, "no memory for a tree of %u tokens", n_tokens);
    }
    *out = trie;
    return STATUS_OK;
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
