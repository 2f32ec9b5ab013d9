#include "model/grammar_states.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "limits.h"

#define STATES_MAX 4096
#define TABLE_ENTRIES_MAX (1u << 18) /* of states and classes of bytes together */
#define PARSES_POOL (1u << 16)
#define FRAMES_POOL (1u << 14)
#define FRAME_DEPTH_MAX 4096
#define BUCKETS 8192 /* of states, and of frames; a power of two */
#define SEEN_SLOTS 16384 /* of one move; a power of two */
#define SEEN_MAX (SEEN_SLOTS / 2)
#define BOTTOM 0u
#define NONE UINT32_MAX

struct parse_set {
    struct parse found[GRAMMAR_PARSES_MAX];
    struct parse todo[2 * SEEN_MAX + 2];
    struct parse seen[SEEN_SLOTS];
    uint32_t seen_in[SEEN_SLOTS]; /* the move that wrote the slot */
    uint32_t move;
    uint32_t n_found, n_todo, n_seen;
    bool may_end, is_full, is_cut;
};

_Static_assert(PARSES_POOL >= 8 * GRAMMAR_PARSES_MAX, "a walk has room for a few large states");

/* --- life --- */

size_t grammar_states_bytes_max(void)
{
    return TABLE_ENTRIES_MAX * sizeof(uint32_t) + STATES_MAX * sizeof(struct grammar_state) +
           PARSES_POOL * sizeof(struct parse) + FRAMES_POOL * sizeof(struct grammar_frame) +
           2 * BUCKETS * sizeof(uint32_t) + sizeof(struct parse_set);
}

int grammar_states_create(const struct grammar_program *program, struct grammar_states *out,
                          struct why *why)
{
    uint32_t n_states = TABLE_ENTRIES_MAX / program->n_classes;
    n_states = n_states < STATES_MAX ? n_states : STATES_MAX;
    *out = (struct grammar_states){.program = program, .n_states_max = n_states,
                                  .n_states = STATE_FIRST};
    out->table = calloc((size_t)n_states * program->n_classes, sizeof *out->table);
    out->states = malloc(n_states * sizeof *out->states);
    out->parses = malloc(PARSES_POOL * sizeof *out->parses);
    out->frames = malloc(FRAMES_POOL * sizeof *out->frames);
    out->state_buckets = malloc(BUCKETS * sizeof *out->state_buckets);
    out->frame_buckets = malloc(BUCKETS * sizeof *out->frame_buckets);
    out->set = calloc(1, sizeof *out->set);
    if (out->table != NULL && out->states != NULL && out->parses != NULL && out->frames != NULL &&
        out->state_buckets != NULL && out->frame_buckets != NULL && out->set != NULL)
        return STATUS_OK;
    grammar_states_release(out);
    return refuse(why, STATUS_NO_MEMORY, "no memory for the states of a grammar");
}

void grammar_states_release(struct grammar_states *states)
{
    free(states->table);
    free(states->states);
    free(states->parses);
    free(states->frames);
    free(states->state_buckets);
    free(states->frame_buckets);
    free(states->set);
    *states = (struct grammar_states){.program = NULL};
}

/* --- frames --- */

static uint32_t bucket_of(uint32_t a, uint32_t b, uint32_t n)
{
    uint64_t mixed = ((uint64_t)a << 32 | b) * UINT64_C(0x9e3779b97f4a7c15);
    return (uint32_t)(mixed >> 32) & (n - 1);
}

static void link_frame(struct grammar_states *states, uint32_t frame)
{
    struct grammar_frame *f = &states->frames[frame];
    uint32_t *bucket = &states->frame_buckets[bucket_of(f->node, f->parent, BUCKETS)];
    f->next_in_bucket = *bucket;
    *bucket = frame;
}

/* NONE, with the set told: the pool is full, or the stack too deep. */
static uint32_t frame_of(struct grammar_states *states, uint32_t node, uint32_t parent)
{
    uint32_t frame = states->frame_buckets[bucket_of(node, parent, BUCKETS)];
    for (; frame != NONE; frame = states->frames[frame].next_in_bucket)
        if (states->frames[frame].node == node && states->frames[frame].parent == parent)
            return frame;
    uint32_t depth = states->frames[parent].depth + 1;
    if (depth > FRAME_DEPTH_MAX) {
        states->set->is_cut = true;
        return NONE;
    }
    if (states->n_frames == FRAMES_POOL) {
        states->set->is_full = true;
        return NONE;
    }
    frame = states->n_frames++;
    states->frames[frame] = (struct grammar_frame){.node = node, .parent = parent, .depth = depth};
    link_frame(states, frame);
    return frame;
}

/* --- the set of a move --- */

static void begin_set(struct parse_set *set)
{
    set->move++;
    if (set->move == 0) { /* it came round */
        memset(set->seen_in, 0, sizeof set->seen_in);
        set->move = 1;
    }
    set->n_found = set->n_todo = set->n_seen = 0;
    set->may_end = set->is_full = set->is_cut = false;
}

/* Once each. */
static void push(struct parse_set *set, uint32_t node, uint32_t frame)
{
    uint32_t slot = bucket_of(node, frame, SEEN_SLOTS);
    while (set->seen_in[slot] == set->move) {
        if (set->seen[slot].node == node && set->seen[slot].frame == frame)
            return;
        slot = (slot + 1) & (SEEN_SLOTS - 1);
    }
    if (set->n_seen == SEEN_MAX) {
        set->is_cut = true;
        return;
    }
    set->n_seen++;
    set->seen_in[slot] = set->move;
    set->seen[slot] = set->todo[set->n_todo++] = (struct parse){node, frame};
}

static void take_call(struct grammar_states *states, const struct grammar_node *node,
                      uint32_t frame)
{
    if (states->program->nodes[node->next].kind != NODE_RETURN)
        frame = frame_of(states, node->next, frame);
    if (frame != NONE)
        push(states->set, node->other, frame);
}

/* Follows what takes no byte, from all that was pushed. */
static void close_set(struct grammar_states *states)
{
    struct parse_set *set = states->set;
    while (set->n_todo > 0 && !set->is_full && !set->is_cut) {
        struct parse parse = set->todo[--set->n_todo];
        const struct grammar_node *node = &states->program->nodes[parse.node];
        states->n_work++;
        switch (node->kind) {
        case NODE_BYTES:
            if (set->n_found == GRAMMAR_PARSES_MAX)
                set->is_cut = true;
            else
                set->found[set->n_found++] = parse;
            break;
        case NODE_SPLIT:
            push(set, node->other, parse.frame);
            push(set, node->next, parse.frame);
            break;
        case NODE_CALL:
            take_call(states, node, parse.frame);
            break;
        case NODE_RETURN:
            if (parse.frame == BOTTOM)
                set->may_end = true;
            else
                push(set, states->frames[parse.frame].node, states->frames[parse.frame].parent);
            break;
        }
    }
}

/* --- states --- */

/* Equal sets mostly come in one order; where they do not there are two states for one. */
static uint32_t hash_set(const struct parse_set *set)
{
    uint64_t hash = set->may_end;
    for (uint32_t i = 0; i < set->n_found; i++)
        hash = (hash ^ ((uint64_t)set->found[i].node << 32 | set->found[i].frame)) *
               UINT64_C(0x9e3779b97f4a7c15);
    return (uint32_t)(hash >> 40) & (BUCKETS - 1);
}

static bool is_state(const struct grammar_states *states, uint32_t state)
{
    const struct grammar_state *s = &states->states[state];
    const struct parse_set *set = states->set;
    return s->may_end == set->may_end && s->n_parses == set->n_found &&
           memcmp(states->parses + s->first_parse, set->found,
                  set->n_found * sizeof *set->found) == 0;
}

/* The state of the closed set. */
static uint32_t state_of_set(struct grammar_states *states)
{
    struct parse_set *set = states->set;
    if (set->is_full)
        return STATE_FULL;
    states->was_cut |= set->is_cut;
    if (set->is_cut || (set->n_found == 0 && !set->may_end))
        return STATE_DEAD;
    uint32_t *bucket = &states->state_buckets[hash_set(set)];
    for (uint32_t state = *bucket; state != NONE; state = states->states[state].next_in_bucket)
        if (is_state(states, state))
            return state;
    if (states->n_states == states->n_states_max || set->n_found > PARSES_POOL - states->n_parses)
        return STATE_FULL;
    uint32_t state = states->n_states++;
    memcpy(states->parses + states->n_parses, set->found, set->n_found * sizeof *set->found);
    states->states[state] = (struct grammar_state){.first_parse = states->n_parses,
                                                   .n_parses = set->n_found,
                                                   .next_in_bucket = *bucket,
                                                   .may_end = set->may_end};
    states->n_parses += set->n_found;
    *bucket = state;
    return state;
}

static void forget(struct grammar_states *states)
{
    memset(states->state_buckets, 0xff, BUCKETS * sizeof *states->state_buckets);
    memset(states->table, 0,
           (size_t)states->n_states * states->program->n_classes * sizeof *states->table);
    states->n_states = STATE_FIRST;
    states->n_parses = 0;
}

uint32_t grammar_states_start(struct grammar_states *states)
{
    forget(states);
    memset(states->frame_buckets, 0xff, BUCKETS * sizeof *states->frame_buckets);
    states->n_frames = 1;
    states->frames[BOTTOM] = (struct grammar_frame){.next_in_bucket = NONE};
    begin_set(states->set);
    push(states->set, states->program->start, BOTTOM);
    close_set(states);
    return state_of_set(states);
}

uint32_t grammar_states_move(struct grammar_states *states, uint32_t state, uint8_t byte)
{
    const struct grammar_program *program = states->program;
    const struct grammar_state *from = &states->states[state];

    assert(state >= STATE_FIRST && state < states->n_states);
    begin_set(states->set);
    states->n_work += from->n_parses;
    for (uint32_t i = 0; i < from->n_parses; i++) {
        const struct parse *parse = &states->parses[from->first_parse + i];
        const struct grammar_node *node = &program->nodes[parse->node];
        if (byte >= node->low && byte <= node->high)
            push(states->set, node->next, parse->frame);
    }
    close_set(states);
    uint32_t next = state_of_set(states);
    if (next != STATE_FULL)
        states->table[(size_t)state * program->n_classes + program->class_of[byte]] = next;
    return next;
}

/* Frames that the set's parses stand on move down, in order; a parent stands below its children.
 * Their new places are in the set's seen_in meanwhile. */
static void keep_frames(struct grammar_states *states)
{
    struct parse_set *set = states->set;
    uint32_t *moved = set->seen_in;
    _Static_assert(SEEN_SLOTS >= FRAMES_POOL, "a place for each frame");

    memset(moved, 0, sizeof set->seen_in);
    for (uint32_t i = 0; i < set->n_found; i++)
        for (uint32_t f = set->found[i].frame; f != BOTTOM && moved[f] == 0;
             f = states->frames[f].parent)
            moved[f] = 1;
    memset(states->frame_buckets, 0xff, BUCKETS * sizeof *states->frame_buckets);
    uint32_t n_old = states->n_frames;
    states->n_frames = 1;
    for (uint32_t f = 1; f < n_old; f++) {
        if (moved[f] == 0)
            continue;
        struct grammar_frame frame = states->frames[f];
        frame.parent = frame.parent == BOTTOM ? BOTTOM : moved[frame.parent];
        moved[f] = states->n_frames++;
        states->frames[moved[f]] = frame;
        link_frame(states, moved[f]);
    }
    for (uint32_t i = 0; i < set->n_found; i++)
        if (set->found[i].frame != BOTTOM)
            set->found[i].frame = moved[set->found[i].frame];
    memset(moved, 0, sizeof set->seen_in);
    set->move = 0;
}

uint32_t grammar_states_keep(struct grammar_states *states, uint32_t state)
{
    struct parse_set *set = states->set;
    const struct grammar_state kept = states->states[state];

    begin_set(set);
    memcpy(set->found, states->parses + kept.first_parse, kept.n_parses * sizeof *set->found);
    set->n_found = kept.n_parses;
    set->may_end = kept.may_end;
    forget(states);
    keep_frames(states);
    return state_of_set(states);
}
