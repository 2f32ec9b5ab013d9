/* engine/choices.h: several answers to one prompt, from admission until they go their own ways.
 *
 *   admitted -> promised pages together -> the first reads the prompt but its last token
 *     -> they fork: the others share its pages, and what was counted of the prompt
 *     -> each reads the last token by itself, draws, and ends when it ends
 *
 * So every page that the prompt fills is there once; the last one, half full, is copied when it is
 * written. Choice 0 draws what it would alone: a row's value does not depend on whose pages it
 * reads. Until they fork they wait, start and end together. Thread: engine only; allocates nothing.
 */
#ifndef QUIRE_ENGINE_CHOICES_H
#define QUIRE_ENGINE_CHOICES_H

#include "engine/sequence.h"

struct engine;

/* What n_choices of n_output tokens each are to the cache. */
struct kv_family choices_family(const struct submit *first, uint32_t n_choices, uint32_t n_output);
/* Its pages, of one that could never be had too. */
uint64_t choices_pages(const struct engine *engine, const struct kv_family *family);

/* `other`, just admitted, is one more choice of the prompt of `first`. */
void choices_join(struct sequence *first, struct sequence *other);
uint32_t choices_count(const struct sequence *sequence); /* with it; 1 once they are forked */
/* Pages for all of them, or false: not now. Safe while a step runs: it takes free pages only. */
bool choices_open_pages(struct engine *engine, struct sequence *first);
void choices_set_state(struct engine *engine, struct sequence *first, enum sequence_state next,
                       int64_t now_ns);
/* Forks them when nothing but the prompt's last token is left to read; no step under way has rows
 * of them then. */
void choices_try_fork(struct engine *engine, struct sequence *first);

#endif
