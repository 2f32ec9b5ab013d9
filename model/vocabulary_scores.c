#include "model/vocabulary_state.h"

#include <math.h>
#include <stdlib.h>

#include "base/status.h"
#include "base/utf8.h"
#include "model/character.h"

/* Bytes that are hashed to find the parts of all tokens; real vocabularies take some millions. */
#define PARTS_BYTES_MAX (UINT64_C(1) << 31)

struct scored {
    double score;
    uint32_t id;
};

static int compare_scored(const void *left, const void *right)
{
    const struct scored *a = left, *b = right;
    if (a->score != b->score)
        return a->score < b->score ? 1 : -1;
    return (a->id > b->id) - (a->id < b->id);
}

/* True for tokens of two characters or more that text may become. */
static bool is_made(const struct vocabulary *v, uint32_t id)
{
    struct slice bytes = vocabulary_bytes(v, id);
    uint32_t found;
    return bytes.len > 1 && vocabulary_find_plain(v, bytes, &found) && found == id &&
           utf8_is_valid(bytes.bytes, bytes.len, NULL);
}

/* Each way to make token `id` of two others; adds them with this rank, or only counts them. */
static uint32_t join_parts(struct vocabulary *v, uint32_t id, uint32_t rank, bool adds)
{
    struct slice whole = vocabulary_bytes(v, id);
    uint32_t n_ways = 0, left, right;
    size_t n;
    character_at(whole.bytes, &n);
    for (size_t at = n; at < whole.len; at += n) {
        character_at(whole.bytes + at, &n);
        if (!vocabulary_find_plain(v, slice_of(whole.bytes, at), &left) ||
            !vocabulary_find_plain(v, slice_of(whole.bytes + at, whole.len - at), &right))
            continue;
        n_ways++;
        if (adds)
            merge_table_add(&v->merges, left, right, rank, id);
    }
    return n_ways;
}

/* The tokens that merging may make, highest score first. */
static int sort_tokens(struct vocabulary *v, const struct vocabulary_source *source,
                       struct scored *sorted, uint32_t *n_sorted, struct why *why)
{
    uint64_t n_bytes = 0, n_ways = 0;
    uint32_t n = 0;
    for (uint32_t id = 0; id < v->n_tokens; id++) {
        if (isnan(source->scores[id]))
            return refuse(why, STATUS_CORRUPT, "tokenizer.ggml.scores of token %u is not a number",
                          id);
        if (!is_made(v, id))
            continue;
        uint64_t len = vocabulary_bytes(v, id).len;
        n_bytes += len * len;
        if (n_bytes > PARTS_BYTES_MAX)
            return refuse(why, STATUS_CORRUPT,
                          "the tokens up to %u of %u are too long together to find their parts: "
                          "this one has %llu bytes",
                          id, v->n_tokens, (unsigned long long)len);
        n_ways += join_parts(v, id, 0, false);
        sorted[n++] = (struct scored){.score = source->scores[id], .id = id};
        int status = neighbours_add(&v->neighbours, vocabulary_bytes(v, id), why);
        if (status < 0)
            return status;
    }
    if (n_ways > VOCABULARY_MERGES_MAX)
        return refuse(why, STATUS_CORRUPT,
                      "tokenizer.ggml.tokens can be made of others in %llu ways, over %u",
                      (unsigned long long)n_ways, VOCABULARY_MERGES_MAX);
    qsort(sorted, n, sizeof *sorted, compare_scored);
    *n_sorted = n;
    return merge_table_init(&v->merges, (uint32_t)n_ways, why);
}

int vocabulary_scores_read(struct vocabulary *v, const struct vocabulary_source *source,
                           struct why *why)
{
    struct scored *sorted = malloc(v->n_tokens * sizeof *sorted);
    uint32_t n = 0, rank = 0;
    if (sorted == NULL)
        return refuse(why, STATUS_NO_MEMORY, "no memory to sort %u tokens", v->n_tokens);
    int status = neighbours_init(&v->neighbours, why);
    if (status == STATUS_OK)
        status = sort_tokens(v, source, sorted, &n, why);
    for (uint32_t i = 0; status == STATUS_OK && i < n; i++) {
        /* Tokens of one score have one rank: of these the leftmost is merged first. */
        if (i > 0 && sorted[i].score != sorted[i - 1].score)
            rank++;
        join_parts(v, sorted[i].id, rank, true);
    }
    free(sorted);
    return status;
}
