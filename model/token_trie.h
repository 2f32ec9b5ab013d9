/* model/token_trie.h: the bytes of all tokens that show as text, as one tree: a grammar follows its
 * branches instead of trying token after token.
 *
 *   tokens   "a" "ab" "ac" "b"           nodes   a  [1] ab  [1] ac  b
 *                                        end     3      2       3  4      behind the node's subtree
 *
 * Nodes stand in preorder, children by byte; those of tokens with the same bytes share a node.
 * Control tokens, ends of generation, and tokens without bytes are not in it. Read-only after
 * create; any thread.
 */
#ifndef QUIRE_MODEL_TOKEN_TRIE_H
#define QUIRE_MODEL_TOKEN_TRIE_H

#include <stddef.h>
#include <stdint.h>

struct vocabulary;
struct why;

struct trie_node {
    uint32_t end;         /* the next node that is not below this one */
    uint32_t first_token; /* into ids; its own tokens end where the next node's begin */
    uint16_t depth;       /* bytes from the root to here, 1 at least */
    uint8_t byte;
};

struct token_trie {
    uint32_t n_nodes, n_ids, max_depth;
    uint32_t n_tokens;       /* of the vocabulary */
    struct trie_node *nodes; /* [n_nodes + 1]; the last one ends the ids of the one before */
    uint32_t *ids;           /* [n_ids] by bytes, then by id */
    uint32_t n_ends;
    uint32_t *ends;          /* [n_ends] ends of generation */
};

/* STATUS_NO_MEMORY; STATUS_CORRUPT, with numbers: more than TOKEN_TRIE_NODES_MAX. The caller frees
 * *out with token_trie_free. */
int token_trie_create(const struct vocabulary *vocabulary, struct token_trie **out,
                      struct why *why);
void token_trie_free(struct token_trie *trie);

#endif
