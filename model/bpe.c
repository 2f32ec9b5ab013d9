#include "model/bpe.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "model/character.h"
#include "model/merge_table.h"
#include "model/pretokenizer.h"
#include "model/token_buffer.h"
#include "model/vocabulary.h"

#define SCAN_BYTES_MAX 32 /* up to here a scan beats a heap */
#define NO_SYMBOL UINT32_MAX

struct bpe_symbol {
    uint32_t id;
    uint32_t next, previous; /* NO_SYMBOL at the ends; a symbol's index is its first byte */
    uint32_t rank, merged;   /* of the pair with `next`; MERGE_NONE when there is none */
};

void bpe_init(struct bpe *bpe, const struct vocabulary *vocabulary)
{
    *bpe = (struct bpe){.vocabulary = vocabulary};
}

void bpe_release(struct bpe *bpe)
{
    free(bpe->symbols);
    free(bpe->heap);
    bpe_init(bpe, bpe->vocabulary);
}

static int push_token(struct token_buffer *out, uint32_t id, uint64_t begin, uint64_t end,
                      struct why *why)
{
    return token_buffer_push(out, id, (struct token_span){.begin = begin, .end = end}, why);
}

/* --- what a piece is made of --- */

/* The symbol at the start of `rest`: a byte, or of SentencePiece a character, which may be no
 * token. Returns its bytes. */
static size_t first_symbol(const struct vocabulary *vocabulary, struct slice rest, uint32_t *id)
{
    size_t n = 1;
    if (vocabulary_neighbours(vocabulary) == NULL) {
        *id = vocabulary_byte_ids(vocabulary)[rest.bytes[0]];
        return n;
    }
    bool is_blank = character_at(rest.bytes, &n) == ' ';
    if (!vocabulary_find_plain(vocabulary, is_blank ? slice_from(" ") : slice_of(rest.bytes, n),
                               id))
        *id = VOCABULARY_NO_TOKEN;
    return n;
}

/* A character that is no token, byte by byte, or as the unknown token. */
static int push_bytes(const struct bpe *bpe, struct slice character, uint64_t begin,
                      struct token_buffer *out, struct why *why)
{
    const uint32_t *byte_ids = vocabulary_byte_ids(bpe->vocabulary);
    int status = STATUS_OK;
    for (size_t i = 0; i < character.len; i++)
        if (byte_ids[character.bytes[i]] == VOCABULARY_NO_TOKEN)
            return push_token(out, (uint32_t)vocabulary_unknown_id(bpe->vocabulary), begin,
                              begin + character.len, why);
    for (size_t i = 0; i < character.len && status == STATUS_OK; i++)
        status = push_token(out, byte_ids[character.bytes[i]], begin + i, begin + i + 1, why);
    return status;
}

/* What bytes [from, to) of the piece have become. */
static int push_symbol(const struct bpe *bpe, uint32_t id, struct slice piece, size_t from,
                       size_t to, uint64_t begin, struct token_buffer *out, struct why *why)
{
    if (id == VOCABULARY_NO_TOKEN)
        return push_bytes(bpe, slice_of(piece.bytes + from, to - from), begin + from, out, why);
    return push_token(out, id, begin + from, begin + to, why);
}

/* --- short pieces --- */

static int encode_by_scan(struct bpe *bpe, struct slice piece, uint64_t begin,
                          struct token_buffer *out, struct why *why)
{
    const struct merge_table *merges = vocabulary_merges(bpe->vocabulary);
    uint32_t ids[SCAN_BYTES_MAX], ranks[SCAN_BYTES_MAX], merged[SCAN_BYTES_MAX];
    uint32_t starts[SCAN_BYTES_MAX + 1];
    size_t n = 0;
    for (size_t at = 0; at < piece.len; n++) {
        starts[n] = (uint32_t)at;
        at += first_symbol(bpe->vocabulary, slice_of(piece.bytes + at, piece.len - at), &ids[n]);
    }
    starts[n] = (uint32_t)piece.len;
    for (size_t i = 0; i + 1 < n; i++)
        ranks[i] = merge_table_find(merges, ids[i], ids[i + 1], &merged[i]);

    while (n > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; i++)
            if (ranks[i] < ranks[best])
                best = i;
        bpe->n_steps += n;
        if (ranks[best] == MERGE_NONE)
            break;

        ids[best] = merged[best];
        size_t n_after = n - best - 2;
        memmove(&ids[best + 1], &ids[best + 2], n_after * sizeof *ids);
        memmove(&starts[best + 1], &starts[best + 2], (n_after + 1) * sizeof *starts);
        if (n_after > 0) {
            memmove(&ranks[best + 1], &ranks[best + 2], (n_after - 1) * sizeof *ranks);
            memmove(&merged[best + 1], &merged[best + 2], (n_after - 1) * sizeof *merged);
            ranks[best] = merge_table_find(merges, ids[best], ids[best + 1], &merged[best]);
        }
        if (best > 0)
            ranks[best - 1] = merge_table_find(merges, ids[best - 1], ids[best], &merged[best - 1]);
        n--;
    }

    int status = STATUS_OK;
    for (size_t i = 0; i < n && status == STATUS_OK; i++)
        status = push_symbol(bpe, ids[i], piece, starts[i], starts[i + 1], begin, out, why);
    return status;
}

/* --- long pieces --- */

static int make_room(struct bpe *bpe, size_t n, struct why *why)
{
    if (n <= bpe->capacity)
        return STATUS_OK;
    size_t capacity = bpe->capacity == 0 ? 1024 : bpe->capacity;
    while (capacity < n)
        capacity *= 2;
    bpe_release(bpe);
    bpe->symbols = malloc(capacity * sizeof *bpe->symbols);
    bpe->heap = malloc(2 * capacity * sizeof *bpe->heap);
    if (bpe->symbols == NULL || bpe->heap == NULL) {
        bpe_release(bpe);
        return refuse(why, STATUS_NO_MEMORY, "no memory to tokenize a word of %zu bytes", n);
    }
    bpe->capacity = capacity;
    return STATUS_OK;
}

static void heap_push(struct bpe *bpe, uint64_t key)
{
    assert(bpe->n_heap < 2 * bpe->capacity);
    size_t i = bpe->n_heap++;
    while (i > 0 && bpe->heap[(i - 1) / 2] > key) {
        bpe->heap[i] = bpe->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    bpe->heap[i] = key;
}

static uint64_t heap_pop(struct bpe *bpe)
{
    uint64_t top = bpe->heap[0], key = bpe->heap[--bpe->n_heap];
    size_t i = 0;
    for (size_t child = 1; child < bpe->n_heap; child = 2 * i + 1) {
        if (child + 1 < bpe->n_heap && bpe->heap[child + 1] < bpe->heap[child])
            child++;
        if (bpe->heap[child] >= key)
            break;
        bpe->heap[i] = bpe->heap[child];
        i = child;
    }
    bpe->heap[i] = key;
    return top;
}

/* Looks up the pair that begins at symbol `left` and queues it. */
static void note_pair(struct bpe *bpe, const struct merge_table *merges, uint32_t left)
{
    struct bpe_symbol *symbol = &bpe->symbols[left];
    symbol->rank = MERGE_NONE;
    if (symbol->next == NO_SYMBOL)
        return;
    symbol->rank =
        merge_table_find(merges, symbol->id, bpe->symbols[symbol->next].id, &symbol->merged);
    if (symbol->rank != MERGE_NONE)
        heap_push(bpe, (uint64_t)symbol->rank << 32 | left);
}

/* Symbol `left` swallows the one after it. */
static void merge_pair(struct bpe *bpe, const struct merge_table *merges, uint32_t left)
{
    struct bpe_symbol *symbol = &bpe->symbols[left];
    struct bpe_symbol *eaten = &bpe->symbols[symbol->next];
    symbol->id = symbol->merged;
    symbol->next = eaten->next;
    eaten->rank = MERGE_NONE; /* what the heap still says of it is stale */
    if (symbol->next != NO_SYMBOL)
        bpe->symbols[symbol->next].previous = left;
    note_pair(bpe, merges, left);
    if (symbol->previous != NO_SYMBOL)
        note_pair(bpe, merges, symbol->previous);
}

static int encode_by_heap(struct bpe *bpe, struct slice piece, uint64_t begin,
                          struct token_buffer *out, struct why *why)
{
    int status = make_room(bpe, piece.len, why);
    if (status < 0)
        return status;
    const struct merge_table *merges = vocabulary_merges(bpe->vocabulary);
    uint32_t n = (uint32_t)piece.len, previous = NO_SYMBOL;
    for (uint32_t i = 0, next; i < n; previous = i, i = next) {
        struct bpe_symbol *symbol = &bpe->symbols[i];
        next = i + (uint32_t)first_symbol(bpe->vocabulary, slice_of(piece.bytes + i, n - i),
                                          &symbol->id);
        symbol->next = next < n ? next : NO_SYMBOL;
        symbol->previous = previous;
    }
    bpe->n_heap = 0;
    for (uint32_t i = 0; i != NO_SYMBOL; i = bpe->symbols[i].next)
        note_pair(bpe, merges, i);

    while (bpe->n_heap > 0) {
        uint64_t top = heap_pop(bpe);
        uint32_t left = (uint32_t)top;
        bpe->n_steps++;
        if (bpe->symbols[left].rank == (uint32_t)(top >> 32))
            merge_pair(bpe, merges, left);
    }

    for (uint32_t i = 0; i != NO_SYMBOL && status == STATUS_OK; i = bpe->symbols[i].next) {
        uint32_t end = bpe->symbols[i].next == NO_SYMBOL ? n : bpe->symbols[i].next;
        status = push_symbol(bpe, bpe->symbols[i].id, piece, i, end, begin, out, why);
    }
    return status;
}

static int check_bytes(const struct vocabulary *vocabulary, struct slice piece, uint64_t begin,
                       struct why *why)
{
    for (size_t i = 0; i < piece.len; i++)
        if (!vocabulary_says_byte(vocabulary, piece.bytes[i]))
            return refuse(why, STATUS_INVALID,
                          "byte 0x%02X at offset %llu has no token in this model's vocabulary; "
                          "leave its character out",
                          piece.bytes[i], (unsigned long long)(begin + i));
    return STATUS_OK;
}

int bpe_encode(struct bpe *bpe, struct slice piece, uint64_t begin, struct token_buffer *out,
               struct why *why)
{
    assert(piece.len > 0 && piece.len <= PIECE_WINDOW_BYTES);
    uint32_t whole;
    if (vocabulary_ignores_merges(bpe->vocabulary) &&
        vocabulary_find_plain(bpe->vocabulary, piece, &whole))
        return push_token(out, whole, begin, begin + piece.len, why);
    int status = check_bytes(bpe->vocabulary, piece, begin, why);
    if (status < 0)
        return status;
    if (piece.len <= SCAN_BYTES_MAX)
        return encode_by_scan(bpe, piece, begin, out, why);
    return encode_by_heap(bpe, piece, begin, out, why);
}
