#include "service/summary_tree.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static const char parting[] = "\n\n";

void summary_tree_init(struct summary_tree *tree, uint32_t n_prompt_max)
{
    *tree = (struct summary_tree){.n_prompt_max = n_prompt_max};
}

void summary_tree_release(struct summary_tree *tree)
{
    for (uint32_t level = 0; level < SUMMARY_LEVELS_MAX; level++) {
        struct summary_node *node = tree->levels[level].first;
        while (node != NULL) {
            struct summary_node *next = node->next;
            free(node);
            node = next;
        }
    }
    summary_tree_init(tree, tree->n_prompt_max);
}

int summary_tree_add(struct summary_tree *tree, uint32_t level, uint32_t index, uint64_t begin,
                     uint64_t end, struct slice text, uint32_t n_tokens)
{
    assert(level < SUMMARY_LEVELS_MAX && index >= tree->levels[level].n_taken);
    struct summary_node *node = malloc(sizeof *node + text.len);
    if (node == NULL)
        return STATUS_NO_MEMORY;
    *node = (struct summary_node){
        .index = index, .begin = begin, .end = end, .n_tokens = n_tokens, .len = text.len};
    if (text.len > 0)
        memcpy(node->text, text.bytes, text.len);

    struct summary_node **at = &tree->levels[level].first;
    while (*at != NULL && (*at)->index < index)
        at = &(*at)->next;
    node->next = *at;
    *at = node;
    return STATUS_OK;
}

/* The nodes of a level up to the first that is still missing. */
static const struct summary_node *front_after(const struct summary_level *level,
                                              const struct summary_node *node)
{
    uint32_t wanted = node == NULL ? level->n_taken : node->index + 1;
    const struct summary_node *next = node == NULL ? level->first : node->next;
    return next != NULL && next->index == wanted ? next : NULL;
}

bool summary_tree_is_full(const struct summary_tree *tree, uint32_t *out)
{
    for (uint32_t i = 0; i < SUMMARY_LEVELS_MAX; i++) {
        const struct summary_level *level = &tree->levels[i];
        uint64_t n_tokens = 0;
        const struct summary_node *node = NULL;
        while ((node = front_after(level, node)) != NULL)
            n_tokens += node->n_tokens;
        if (n_tokens > tree->n_prompt_max) {
            *out = i;
            return true;
        }
    }
    return false;
}

bool summary_tree_lowest(const struct summary_tree *tree, uint32_t *out)
{
    for (uint32_t i = 0; i < SUMMARY_LEVELS_MAX; i++)
        if (tree->levels[i].first != NULL) {
            *out = i;
            return true;
        }
    return false;
}

bool summary_tree_fits(const struct summary_tree *tree)
{
    uint64_t n_tokens = 0;
    for (uint32_t i = 0; i < SUMMARY_LEVELS_MAX; i++)
        for (const struct summary_node *node = tree->levels[i].first; node; node = node->next)
            n_tokens += node->n_tokens;
    return n_tokens <= tree->n_prompt_max;
}

uint32_t summary_tree_count(const struct summary_tree *tree)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < SUMMARY_LEVELS_MAX; i++)
        for (const struct summary_node *node = tree->levels[i].first; node; node = node->next)
            n++;
    return n;
}

static size_t append(uint8_t *out, size_t at, const struct summary_node *node)
{
    if (at > 0) {
        memcpy(out + at, parting, sizeof parting - 1);
        at += sizeof parting - 1;
    }
    memcpy(out + at, node->text, node->len);
    return at + node->len;
}

int summary_tree_group(const struct summary_tree *tree, uint32_t level, uint32_t n_max,
                       struct summary_group *out)
{
    const struct summary_level *from = &tree->levels[level];
    uint64_t n_tokens = 0;
    size_t cap = 1;

    *out = (struct summary_group){
        .level = level, .index = from->n_groups, .begin = from->first->begin};
    const struct summary_node *node = NULL;
    while (out->n_nodes < n_max && (node = front_after(from, node)) != NULL) {
        n_tokens += node->n_tokens;
        if (out->n_nodes > 0 && n_tokens > tree->n_prompt_max)
            break;
        cap += node->len + sizeof parting;
        out->end = node->end;
        out->n_nodes++;
    }
    assert(out->n_nodes > 0);
    out->text = malloc(cap);
    if (out->text == NULL)
        return STATUS_NO_MEMORY;
    node = from->first;
    for (uint32_t i = 0; i < out->n_nodes; i++, node = node->next)
        out->len = append(out->text, out->len, node);
    return STATUS_OK;
}

void summary_tree_take(struct summary_tree *tree, const struct summary_group *group)
{
    struct summary_level *level = &tree->levels[group->level];
    for (uint32_t i = 0; i < group->n_nodes; i++) {
        struct summary_node *node = level->first;
        level->first = node->next;
        free(node);
    }
    level->n_taken += group->n_nodes;
    level->n_groups++;
}

int summary_tree_all(const struct summary_tree *tree, uint8_t **text, size_t *len)
{
    size_t cap = 1;
    for (uint32_t i = 0; i < SUMMARY_LEVELS_MAX; i++)
        for (const struct summary_node *node = tree->levels[i].first; node; node = node->next)
            cap += node->len + sizeof parting;
    *len = 0;
    *text = malloc(cap);
    if (*text == NULL)
        return STATUS_NO_MEMORY;
    for (uint32_t i = SUMMARY_LEVELS_MAX; i-- > 0;)
        for (const struct summary_node *node = tree->levels[i].first; node; node = node->next)
            *len = append(*text, *len, node);
    return STATUS_OK;
}
