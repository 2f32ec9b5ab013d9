#include "engine/message.h"

#include "kvcache/page_key.h"
#include "model/grammar.h"

#include <stdlib.h>

struct submit *submit_create_of(uint32_t *ids, uint32_t n_ids, struct arena *memory)
{
    uint32_t n_whole_pages = n_ids > 0 ? (n_ids - 1) / PAGE_TOKENS : 0;
    struct submit *submit = calloc(1, sizeof *submit);
    struct page_key *keys = malloc((1 + (size_t)n_whole_pages) * sizeof *keys);

    if (submit == NULL || keys == NULL) {
        free(submit);
        free(keys);
        return NULL;
    }
    submit->ids = ids;
    submit->n_ids = n_ids;
    if (memory != NULL) {
        submit->memory = *memory;
        arena_init(memory, memory->cap);
    }
    submit->page_keys = keys;
    submit->n_whole_pages = n_whole_pages;
    submit->sampling = SAMPLING_DEFAULT;
    submit->want_text = submit->want_ids = true;
    return submit;
}

struct submit *submit_create(uint32_t n_ids)
{
    uint32_t *ids = malloc(n_ids > 0 ? n_ids * sizeof *ids : 1);
    struct submit *submit = ids != NULL ? submit_create_of(ids, n_ids, NULL) : NULL;
    if (submit == NULL)
        free(ids);
    return submit;
}

struct submit *submit_add_choice(struct submit *first)
{
    struct submit *last = first, *choice = malloc(sizeof *choice);

    if (first->n_sharing == NULL) {
        first->n_sharing = malloc(sizeof *first->n_sharing);
        if (first->n_sharing != NULL)
            *first->n_sharing = 1;
    }
    if (choice == NULL || first->n_sharing == NULL) {
        free(choice);
        return NULL;
    }
    while (last->next_choice != NULL)
        last = last->next_choice;
    *choice = *first;
    choice->grammar = NULL;
    choice->text = choice->answer = NULL;
    choice->text_keys = NULL;
    choice->next_choice = NULL;
    choice->tag = last->tag + 1;
    choice->choice_idx = last->choice_idx + 1;
    ++*first->n_sharing;
    return last->next_choice = choice;
}

uint32_t submit_n_choices(const struct submit *first)
{
    uint32_t n = 1;
    while ((first = first->next_choice) != NULL)
        n++;
    return n;
}

uint32_t submit_credit(uint32_t n_choices)
{
    uint32_t part = CALL_CREDIT_EVENTS / n_choices;
    return part > CHOICE_CREDIT_EVENTS ? part : CHOICE_CREDIT_EVENTS;
}

static void free_ids(struct submit *submit)
{
    if (submit->n_sharing != NULL && --*submit->n_sharing > 0)
        return;
    free(submit->n_sharing);
    free(submit->page_keys);
    if (submit->memory.first == NULL)
        free(submit->ids);
    arena_release(&submit->memory);
}

void submit_free(struct submit *submit)
{
    while (submit != NULL) {
        struct submit *next = submit->next_choice;
        grammar_free(submit->grammar);
        free(submit->text);
        free(submit->text_keys);
        free_ids(submit);
        free(submit);
        submit = next;
    }
}
