/* model/grammar_states.h: the states of a grammar's automaton, made as texts lead to them.
 *
 *   parse    (node, frame)            at a NODE_BYTES; the frame says where its rule returns to
 *   frame    (return node, parent)    interned: stacks share their tails; frame 0 is the bottom
 *   state    a set of parses          interned: the text so far may be any of them
 *   table    [state][class of byte]   the next state; 0 not worked out yet
 *
 * A call whose next node returns pushes no frame, so repetition by recursion at the end costs no
 * depth. What would take more than GRAMMAR_PARSES_MAX parses or FRAME_DEPTH_MAX frames is taken for
 * dead: the automaton then accepts less, never what the grammar does not.
 *
 * Everything is allocated by create; next() allocates nothing. When a pool is full, next() gives
 * STATE_FULL, and grammar_states_keep forgets all states but one. One thread at a time.
 */
#ifndef QUIRE_MODEL_GRAMMAR_STATES_H
#define QUIRE_MODEL_GRAMMAR_STATES_H

#include <stdbool.h>
#include <stddef.h>
#include <stddef.h>
#include <stdint.h>

#include "model/grammar_program.h"

#define STATE_UNKNOWN 0u
#define STATE_DEAD 1u
#define STATE_FIRST 2u /* of the others */
#define STATE_FULL UINT32_MAX

struct parse {
    uint32_t node, frame;
};

struct grammar_state {
    uint32_t first_parse, n_parses;
    uint32_t next_in_bucket;
    bool may_end;
};

struct grammar_frame {
    uint32_t node, parent, next_in_bucket;
    uint32_t depth;
};

struct parse_set; /* under way, in next() */
struct why;

struct grammar_states {
    const struct grammar_program *program;
    uint32_t *table;               /* [n_states_max, n_classes] */
    struct grammar_state *states;  /* [n_states_max] */
    struct parse *parses;          /* of all states */
    struct grammar_frame *frames;
    uint32_t *state_buckets, *frame_buckets;
    struct parse_set *set;
    uint32_t n_states, n_states_max, n_parses, n_frames;
    uint64_t n_work;   /* nodes that next() went through, ever: what it costs */
    bool was_cut;      /* something was taken for dead */
};

/* What create allocates, at most. */
size_t grammar_states_bytes_max(void);
/* The program must outlive it. STATUS_NO_MEMORY. Release takes a zeroed one too. */
int grammar_states_create(const struct grammar_program *program, struct grammar_states *out,
                          struct why *why);
void grammar_states_release(struct grammar_states *states);
/* Of the empty text; the pools are as after create. */
uint32_t grammar_states_start(struct grammar_states *states);
/* STATE_DEAD: no text of the grammar goes on so; STATE_FULL. */
uint32_t grammar_states_move(struct grammar_states *states, uint32_t state, uint8_t byte);
/* Forgets all but this state; its new id. */
uint32_t grammar_states_keep(struct grammar_states *states, uint32_t state);

static inline uint32_t grammar_states_next(struct grammar_states *states, uint32_t state,
                                           uint8_t byte)
{
    const struct grammar_program *program = states->program;
    uint32_t next =
        states->table[(size_t)state * program->n_classes + program->class_of[byte]];
    return next != STATE_UNKNOWN ? next : grammar_states_move(states, state, byte);
}

static inline bool grammar_states_may_end(const struct grammar_states *states, uint32_t state)
{
    return state >= STATE_FIRST && states->states[state].may_end;
}

#endif
