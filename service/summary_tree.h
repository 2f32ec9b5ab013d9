/* service/summary_tree.h: summaries that wait to be summarized, by level and in the order of the
 * document.
 *
 *   level 0   [s0][s1][s2][s3] .  [s5]        s4 is still being written: s5 waits for it
 *              '-----group----'         as many as fit one prompt, when more than fit are there
 *   level 1         [s0]  ...
 *
 * Groups depend on the texts alone, never on which run ended first: only the unbroken front of a
 * level counts. So few more than one prompt of summaries is held at each level, whatever the
 * document's size. Thread: the loop.
 */
#ifndef QUIRE_SERVICE_SUMMARY_TREE_H
#define QUIRE_SERVICE_SUMMARY_TREE_H

#include "base/slice.h"
#include "base/status.h"
#include "limits.h"

#include <stdbool.h>
#include <stdint.h>

struct summary_node {
    struct summary_node *next; /* higher index */
    uint32_t index;            /* in its level */
    uint64_t begin, end;       /* bytes of the document */
    uint32_t n_tokens;         /* in a prompt, with what parts it from the next */
    size_t len;
    uint8_t text[];            /* [len] */
};

struct summary_level {
    struct summary_node *first; /* by index; what was grouped is gone */
    uint32_t n_taken;           /* nodes that left for a group: index of the front */
    uint32_t n_groups;          /* of this level, made so far: the next index one level up */
};

struct summary_tree {
    struct summary_level levels[SUMMARY_LEVELS_MAX];
    uint32_t n_prompt_max; /* tokens of summaries that one prompt takes */
};

struct summary_group {
    uint32_t level;      /* of its parts */
    uint32_t index;      /* of what it becomes, one level up */
    uint32_t n_nodes;
    uint64_t begin, end;
    uint8_t *text;       /* malloc'ed: the parts' texts, a blank line between them */
    size_t len;
};

void summary_tree_init(struct summary_tree *tree, uint32_t n_prompt_max);
void summary_tree_release(struct summary_tree *tree);

/* Takes a copy of text. STATUS_NO_MEMORY. */
int summary_tree_add(struct summary_tree *tree, uint32_t level, uint32_t index, uint64_t begin,
                     uint64_t end, struct slice text, uint32_t n_tokens);

/* A level whose unbroken front is more than one prompt takes; false: none. */
bool summary_tree_is_full(const struct summary_tree *tree, uint32_t *level);
/* The lowest level that holds anything; false: none does. */
bool summary_tree_lowest(const struct summary_tree *tree, uint32_t *level);
/* Whether all summaries of all levels together fit one prompt. */
bool summary_tree_fits(const struct summary_tree *tree);
uint32_t summary_tree_count(const struct summary_tree *tree);

/* The first nodes of a level that fit one prompt, n_max of them at most and one at least. They stay
 * until summary_tree_take. STATUS_NO_MEMORY. */
int summary_tree_group(const struct summary_tree *tree, uint32_t level, uint32_t n_max,
                       struct summary_group *out);
void summary_tree_take(struct summary_tree *tree, const struct summary_group *group);
/* All summaries in the order of the document: higher levels stand for what came before. */
int summary_tree_all(const struct summary_tree *tree, uint8_t **text, size_t *len);

#endif
