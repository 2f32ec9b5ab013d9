#include "model/grammar.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "limits.h"
#include "model/gbnf.h"
#include "model/grammar_program.h"
#include "model/grammar_rules.h"
#include "model/grammar_states.h"
#include "model/json_schema.h"
#include "model/token_trie.h"
#include "model/vocabulary.h"

#define MASKS 16 /* that are kept */

struct kept_mask {
    uint32_t state;  /* STATE_DEAD: none */
    uint32_t n_allowed; /* without ends of generation */
    uint64_t used;   /* when, in accepted tokens */
    uint32_t *words;
};

struct grammar {
    const struct vocabulary *vocabulary;
    const struct token_trie *trie;
    struct grammar_program program;
    struct grammar_states states;
    uint32_t *path; /* [trie's max_depth + 1] states on the way to a node */
    struct kept_mask masks[MASKS];
    uint32_t *words; /* of all masks */
    size_t n_words;  /* of one */
    struct kept_mask *now;
    uint32_t state;
    uint64_t n_accepted;
};

size_t grammar_mask_words(uint32_t n_tokens)
{
    return ((size_t)n_tokens + 31) / 32;
}

size_t grammar_bytes_max(uint32_t n_tokens)
{
    return sizeof(struct grammar) + grammar_states_bytes_max() +
           GRAMMAR_NODES_MAX * sizeof(struct grammar_node) +
           MASKS * grammar_mask_words(n_tokens) * sizeof(uint32_t) +
           (TOKEN_BYTES_MAX + 1) * sizeof(uint32_t);
}

/* --- masks --- */

static void forget_masks(struct grammar *grammar)
{
    for (int i = 0; i < MASKS; i++)
        grammar->masks[i].state = STATE_DEAD;
}

/* The tokens that lead from `state` somewhere. STATUS_AGAIN: a pool of states is full. */
static int walk(struct grammar *grammar, uint32_t state, struct kept_mask *mask)
{
    const struct token_trie *trie = grammar->trie;
    struct grammar_states *states = &grammar->states;
    uint64_t work_end = states->n_work + GRAMMAR_WORK_MAX;

    mask->n_allowed = 0;
    memset(mask->words, 0, grammar->n_words * sizeof *mask->words);
    grammar->path[0] = state;
    for (uint32_t i = 0; i < trie->n_nodes;) {
        const struct trie_node *node = &trie->nodes[i];
        uint32_t next = grammar_states_next(states, grammar->path[node->depth - 1], node->byte);
        if (next == STATE_FULL)
            return STATUS_AGAIN;
        if (states->n_work > work_end)
            return STATUS_EXHAUSTED;
        if (next == STATE_DEAD) {
            i = node->end;
            continue;
        }
        grammar->path[node->depth] = next;
        for (uint32_t t = node->first_token; t < node[1].first_token; t++)
            mask->words[trie->ids[t] / 32] |= 1u << trie->ids[t] % 32;
        mask->n_allowed += node[1].first_token - node->first_token;
        i++;
    }
    return STATUS_OK;
}

static void allow_ends(const struct grammar *grammar, struct kept_mask *mask)
{
    for (uint32_t i = 0; i < grammar->trie->n_ends; i++) {
        uint32_t id = grammar->trie->ends[i];
        mask->words[id / 32] |= 1u << id % 32;
    }
}

static struct kept_mask *oldest(struct grammar *grammar)
{
    struct kept_mask *mask = &grammar->masks[0];
    for (int i = 0; i < MASKS; i++) {
        if (grammar->masks[i].state == STATE_DEAD)
            return &grammar->masks[i];
        if (grammar->masks[i].used < mask->used)
            mask = &grammar->masks[i];
    }
    return mask;
}

static int refuse_work(struct grammar *grammar, struct why *why)
{
    memset(grammar->now->words, 0, grammar->n_words * sizeof *grammar->now->words);
    grammar->now->n_allowed = 0;
    return refuse_numbers(
        why, STATUS_EXHAUSTED,
        (struct why_numbers){GRAMMAR_WORK_MAX + 1, GRAMMAR_WORK_MAX, "steps", NULL},
        "after %llu tokens the grammar takes more than %u steps to tell which may come next: it "
        "can read the text in too many ways; let its alternatives begin with different characters",
        (unsigned long long)grammar->n_accepted, GRAMMAR_WORK_MAX);
}

/* now is the mask of the state. */
static int find_mask(struct grammar *grammar, struct why *why)
{
    grammar->now = NULL;
    for (int i = 0; i < MASKS && grammar->now == NULL; i++)
        if (grammar->masks[i].state == grammar->state)
            grammar->now = &grammar->masks[i];
    if (grammar->now == NULL) {
        struct kept_mask *mask = grammar->now = oldest(grammar);
        mask->state = STATE_DEAD;
        int status = walk(grammar, grammar->state, mask);
        if (status == STATUS_AGAIN) {
            grammar->state = grammar_states_keep(&grammar->states, grammar->state);
            forget_masks(grammar);
            status = walk(grammar, grammar->state, mask);
        }
        if (status < 0) /* one walk alone fills the pools, or takes too long */
            return refuse_work(grammar, why);
        if (grammar_states_may_end(&grammar->states, grammar->state))
            allow_ends(grammar, mask);
        mask->state = grammar->state;
    }
    grammar->now->used = grammar->n_accepted;
    if (grammar->now->n_allowed > 0 || grammar_may_end(grammar))
        return STATUS_OK;
    return refuse(why, STATUS_PRECONDITION,
                  "after %llu tokens no token of this model goes on as the grammar wants%s",
                  (unsigned long long)grammar->n_accepted,
                  grammar->states.was_cut ? ", or only in more ways than are followed at once"
                                          : ": it lacks the bytes");
}

const uint32_t *grammar_mask(const struct grammar *grammar)
{
    return grammar->now->words;
}

bool grammar_may_end(const struct grammar *grammar)
{
    return grammar_states_may_end(&grammar->states, grammar->state);
}

bool grammar_may_go_on(const struct grammar *grammar)
{
    return grammar->now->n_allowed > 0;
}

int grammar_accept(struct grammar *grammar, uint32_t id, struct why *why)
{
    struct slice bytes = vocabulary_bytes(grammar->vocabulary, id);
    uint32_t state = grammar->state;

    assert((grammar->now->words[id / 32] >> id % 32 & 1) != 0);
    for (size_t i = 0; i < bytes.len; i++) {
        uint32_t next = grammar_states_next(&grammar->states, state, bytes.bytes[i]);
        if (next == STATE_FULL) {
            state = grammar_states_keep(&grammar->states, state);
            forget_masks(grammar);
            next = grammar_states_next(&grammar->states, state, bytes.bytes[i]);
        }
        state = next;
    }
    assert(state >= STATE_FIRST && state != STATE_FULL);
    grammar->state = state;
    grammar->n_accepted++;
    return find_mask(grammar, why);
}

/* --- life --- */

/* Editors of some systems begin a file with the mark of byte order. */
static struct slice without_mark(struct slice text)
{
    static const char mark[] = "\xef\xbb\xbf";
    bool has_mark = text.len >= 3 && memcmp(text.bytes, mark, 3) == 0;
    return has_mark ? slice_of(text.bytes + 3, text.len - 3) : text;
}

static int read_rules(enum grammar_form form, struct slice text, struct grammar_program *out,
                      struct why *why)
{
    struct grammar_rules rules;

    if (text.len > GRAMMAR_BYTES_MAX)
        return refuse_numbers(
            why, STATUS_INVALID,
            (struct why_numbers){(double)text.len, GRAMMAR_BYTES_MAX, "bytes", NULL},
            "it has %zu bytes; at most %u are taken", text.len, GRAMMAR_BYTES_MAX);
    text = without_mark(text);
    grammar_rules_init(&rules);
    int status = form == GRAMMAR_GBNF ? gbnf_parse(text, &rules, why)
                                      : json_schema_compile(text, &rules, why);
    if (status == STATUS_OK)
        status = grammar_program_create(&rules, out, why);
    grammar_rules_release(&rules);
    return status;
}

static int make_masks(struct grammar *grammar, struct why *why)
{
    grammar->n_words = grammar_mask_words(grammar->trie->n_tokens);
    grammar->words = malloc(MASKS * grammar->n_words * sizeof *grammar->words);
    grammar->path = malloc((grammar->trie->max_depth + 1) * sizeof *grammar->path);
    if (grammar->words == NULL || grammar->path == NULL)
        return refuse(why, STATUS_NO_MEMORY, "no memory for masks of %u tokens",
                      grammar->trie->n_tokens);
    for (int i = 0; i < MASKS; i++)
        grammar->masks[i].words = grammar->words + (size_t)i * grammar->n_words;
    forget_masks(grammar);
    grammar->state = grammar_states_start(&grammar->states);
    if (grammar->state < STATE_FIRST || grammar->state == STATE_FULL)
        return refuse(why, STATUS_INVALID,
                      "the grammar can begin in more than %d ways at once: let its alternatives "
                      "begin with different characters",
                      GRAMMAR_PARSES_MAX);
    int status = find_mask(grammar, why);
    return status == STATUS_EXHAUSTED || status == STATUS_PRECONDITION ? STATUS_INVALID : status;
}

int grammar_create(const struct vocabulary *vocabulary, const struct token_trie *trie,
                   enum grammar_form form, struct slice text, struct grammar **out,
                   struct why *why)
{
    struct grammar *grammar = calloc(1, sizeof *grammar);
    if (grammar == NULL)
        return refuse(why, STATUS_NO_MEMORY, "no memory for a grammar");
    grammar->vocabulary = vocabulary;
    grammar->trie = trie;
    int status = read_rules(form, text, &grammar->program, why);
    if (status == STATUS_OK)
        status = grammar_states_create(&grammar->program, &grammar->states, why);
    if (status == STATUS_OK)
        status = make_masks(grammar, why);
    if (status < 0) {
        grammar_free(grammar);
        return status;
    }
    *out = grammar;
    return STATUS_OK;
}

void grammar_free(struct grammar *grammar)
{
    if (grammar == NULL)
        return;
    grammar_states_release(&grammar->states);
    grammar_program_release(&grammar->program);
    free(grammar->words);
    free(grammar->path);
    free(grammar);
}
