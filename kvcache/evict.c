#include "kvcache/evict.h"

#include "base/status.h"

#include <assert.h>
#include <stdlib.h>

struct evict {
    uint32_t n, capacity;
    uint32_t *heap;   /* [n] */
    uint32_t *at;     /* [capacity]: place in the heap + 1; 0: not in it */
    uint64_t *scores; /* [capacity], of those in it */
};

int evict_create(uint32_t n, struct evict **out, struct why *why)
{
    struct evict *evict = calloc(1, sizeof *evict);
    if (evict != NULL) {
        evict->capacity = n;
        evict->heap = calloc(n, sizeof *evict->heap);
        evict->at = calloc(n, sizeof *evict->at);
        evict->scores = calloc(n, sizeof *evict->scores);
    }
    if (evict == NULL || evict->heap == NULL || evict->at == NULL || evict->scores == NULL) {
        evict_free(evict);
        return refuse(why, STATUS_NO_MEMORY, "no memory to keep %u pages in order", n);
    }
    *out = evict;
    return STATUS_OK;
}

void evict_free(struct evict *evict)
{
    if (evict == NULL)
        return;
    free(evict->heap);
    free(evict->at);
    free(evict->scores);
    free(evict);
}

static uint64_t score_at(const struct evict *evict, uint32_t place)
{
    return evict->scores[evict->heap[place]];
}

static void put(struct evict *evict, uint32_t place, uint32_t thing)
{
    evict->heap[place] = thing;
    evict->at[thing] = place + 1;
}

static void swap(struct evict *evict, uint32_t a, uint32_t b)
{
    uint32_t thing = evict->heap[a];
    put(evict, a, evict->heap[b]);
    put(evict, b, thing);
}

static void rise(struct evict *evict, uint32_t place)
{
    for (; place > 0 && score_at(evict, place) < score_at(evict, (place - 1) / 2);
         place = (place - 1) / 2)
        swap(evict, place, (place - 1) / 2);
}

static void sink(struct evict *evict, uint32_t place)
{
    for (;;) {
        uint32_t least = place;
        for (uint32_t child = 2 * place + 1; child <= 2 * place + 2; child++)
            if (child < evict->n && score_at(evict, child) < score_at(evict, least))
                least = child;
        if (least == place)
            return;
        swap(evict, place, least);
        place = least;
    }
}

void evict_push(struct evict *evict, uint32_t thing, uint64_t score)
{
    assert(thing < evict->capacity && evict->at[thing] == 0);
    evict->scores[thing] = score;
    put(evict, evict->n++, thing);
    rise(evict, evict->n - 1);
}

void evict_remove(struct evict *evict, uint32_t thing)
{
    assert(thing < evict->capacity);
    if (evict->at[thing] == 0)
        return;
    uint32_t place = evict->at[thing] - 1, last = evict->heap[--evict->n];
    evict->at[thing] = 0;
    if (last == thing)
        return;
    put(evict, place, last);
    rise(evict, place);
    sink(evict, evict->at[last] - 1);
}

bool evict_has(const struct evict *evict, uint32_t thing)
{
    return evict->at[thing] != 0;
}

uint32_t evict_pop(struct evict *evict)
{
    if (evict->n == 0)
        return EVICT_NONE;
    uint32_t thing = evict->heap[0];
    evict_remove(evict, thing);
    return thing;
}

int evict_check(const struct evict *evict, struct why *why)
{
    for (uint32_t i = 0; i < evict->n; i++) {
        if (evict->heap[i] >= evict->capacity || evict->at[evict->heap[i]] != i + 1)
            return refuse(why, STATUS_INTERNAL, "place %u of %u to evict is not its own", i,
                          evict->n);
        if (i > 0 && score_at(evict, i) < score_at(evict, (i - 1) / 2))
            return refuse(why, STATUS_INTERNAL, "place %u of %u to evict is out of order", i,
                          evict->n);
    }
    return STATUS_OK;
}
