#include "model/vocabulary_state.h"

#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "limits.h"
#include "model/byte_alphabet.h"

/* The plain token of some bytes of merge `rank`. 1 found; 0 it is a special token, which merging
 * must not make. */
static int side_of_merge(const struct vocabulary *v, uint32_t rank, struct slice merge,
                         struct slice side, uint32_t *id, struct why *why)
{
    char quoted[VOCABULARY_QUOTED_BYTES], whole[VOCABULARY_QUOTED_BYTES];
    if (vocabulary_find_plain(v, side, id))
        return 1;
    uint32_t special;
    if (vocabulary_find_special(v, side, &special))
        return 0;
    return refuse(why, STATUS_CORRUPT,
                  "merge %u of tokenizer.ggml.merges, %s, needs %s, which is no token", rank,
                  vocabulary_quote(whole, merge), vocabulary_quote(quoted, side));
}

/* raw: room for both sides of any merge. */
static int read_merge(struct vocabulary *v, uint32_t rank, struct slice text, uint8_t *raw,
                      struct why *why)
{
    char quoted[VOCABULARY_QUOTED_BYTES];
    const uint8_t *blank = text.len > 1 ? memchr(text.bytes + 1, ' ', text.len - 1) : NULL;
    if (blank == NULL)
        return refuse(why, STATUS_CORRUPT,
                      "merge %u of tokenizer.ggml.merges, %s, has no space between two tokens",
                      rank, vocabulary_quote(quoted, text));
    if (text.len > 2 * (size_t)TOKEN_BYTES_MAX + 1)
        return refuse(why, STATUS_CORRUPT,
                      "merge %u of tokenizer.ggml.merges has %zu bytes, over %d", rank, text.len,
                      2 * TOKEN_BYTES_MAX + 1);

    size_t at = (size_t)(blank - text.bytes), n_left, n_right;
    if (!byte_alphabet_decode(slice_of(text.bytes, at), raw, &n_left) ||
        !byte_alphabet_decode(slice_of(blank + 1, text.len - at - 1), raw + n_left, &n_right))
        return refuse(
            why, STATUS_CORRUPT,
            "merge %u of tokenizer.ggml.merges, %s, has a character outside the byte alphabet",
            rank, vocabulary_quote(quoted, text));

    uint32_t left, right, merged;
    int found = side_of_merge(v, rank, text, slice_of(raw, n_left), &left, why);
    if (found == 1)
        found = side_of_merge(v, rank, text, slice_of(raw + n_left, n_right), &right, why);
    if (found == 1)
        found = side_of_merge(v, rank, text, slice_of(raw, n_left + n_right), &merged, why);
    if (found == 1)
        merge_table_add(&v->merges, left, right, rank, merged);
    return found < 0 ? found : STATUS_OK;
}

int vocabulary_merges_read(struct vocabulary *v, const struct vocabulary_source *source,
                           struct why *why)
{
    int status = merge_table_init(&v->merges, source->n_merges, why);
    if (status < 0)
        return status;
    uint8_t *raw = malloc(2 * (size_t)TOKEN_BYTES_MAX + 1);
    if (raw == NULL)
        return refuse(why, STATUS_NO_MEMORY, "no memory to read merges");
    for (uint32_t rank = 0; rank < source->n_merges && status == STATUS_OK; rank++)
        status = read_merge(v, rank, source->merges[rank], raw, why);
    free(raw);
    return status;
}
