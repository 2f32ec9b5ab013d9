#include "model/neighbours.h"

#include <assert.h>
#include <stdlib.h>

#include "base/status.h"
#include "model/character.h"
#include "model/pretokenizer.h"

#define FIRST_SLOTS 4096

int neighbours_init(struct neighbours *neighbours, struct why *why)
{
    *neighbours = (struct neighbours){.mask = FIRST_SLOTS - 1};
    neighbours->pairs = calloc(FIRST_SLOTS, sizeof *neighbours->pairs);
    if (neighbours->pairs == NULL)
        return refuse(why, STATUS_NO_MEMORY, "no memory for the pairs of characters");
    return STATUS_OK;
}

void neighbours_release(struct neighbours *neighbours)
{
    free(neighbours->pairs);
    *neighbours = (struct neighbours){0};
}

/* The slot of this pair, or the empty slot where it belongs. */
static uint64_t *slot_of(const struct neighbours *neighbours, uint64_t pair)
{
    uint64_t mixed = pair * UINT64_C(0x9E3779B97F4A7C15);
    uint64_t i = (mixed ^ mixed >> 32) & neighbours->mask;
    while (neighbours->pairs[i] != 0 && neighbours->pairs[i] != pair)
        i = (i + 1) & neighbours->mask;
    return &neighbours->pairs[i];
}

static int grow(struct neighbours *neighbours, struct why *why)
{
    struct neighbours grown = {
        .mask = 2 * neighbours->mask + 1, .n = neighbours->n, .has_none = neighbours->has_none};
    grown.pairs = calloc(grown.mask + 1, sizeof *grown.pairs);
    if (grown.pairs == NULL)
        return refuse(why, STATUS_NO_MEMORY, "no memory for %llu pairs of characters",
                      (unsigned long long)neighbours->n);
    for (uint64_t i = 0; i <= neighbours->mask; i++)
        if (neighbours->pairs[i] != 0)
            *slot_of(&grown, neighbours->pairs[i]) = neighbours->pairs[i];
    free(neighbours->pairs);
    *neighbours = grown;
    return STATUS_OK;
}

static int add_pair(struct neighbours *neighbours, uint64_t pair, struct why *why)
{
    if (pair == 0) {
        neighbours->has_none = true;
        return STATUS_OK;
    }
    uint64_t *slot = slot_of(neighbours, pair);
    if (*slot == pair)
        return STATUS_OK;
    *slot = pair;
    neighbours->n++;
    return 2 * neighbours->n > neighbours->mask ? grow(neighbours, why) : STATUS_OK;
}

static bool has_pair(const struct neighbours *neighbours, uint64_t pair)
{
    return pair == 0 ? neighbours->has_none : *slot_of(neighbours, pair) == pair;
}

int neighbours_add(struct neighbours *neighbours, struct slice token, struct why *why)
{
    size_t n = 0;
    uint32_t left = token.len > 0 ? character_at(token.bytes, &n) : 0;
    for (size_t at = n; at < token.len; at += n) {
        uint32_t right = character_at(token.bytes + at, &n);
        int status = add_pair(neighbours, (uint64_t)left << 32 | right, why);
        if (status < 0)
            return status;
        left = right;
    }
    return STATUS_OK;
}

int neighbours_next(const struct neighbours *neighbours, struct slice rest, bool at_end,
                    size_t *len)
{
    assert(rest.len > 0);
    size_t n;
    uint32_t left = character_at(rest.bytes, &n);
    for (size_t at = n; at < rest.len; at += n) {
        uint32_t right = character_at(rest.bytes + at, &n);
        if (at + n > PIECE_WINDOW_BYTES || !has_pair(neighbours, (uint64_t)left << 32 | right)) {
            *len = at;
            return STATUS_OK;
        }
        left = right;
    }
    if (!at_end && rest.len < PIECE_WINDOW_BYTES)
        return STATUS_AGAIN;
    *len = rest.len;
    return STATUS_OK;
}
