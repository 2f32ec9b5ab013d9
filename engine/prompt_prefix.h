/* engine/prompt_prefix.h: what prompts have in common with what is in the cache, or will be.
 *
 *   admitted -> keys of its whole pages -> match: pages that are there -> the rest is computed
 *                                            '-> another prompt is being read that begins like it:
 *                                                wait until it has read that, and match again
 *
 * A run that gave up its pages takes what is left of its prompt and of its own answer.
 *
 * Keys need the digest of the weights: prompts that came before it is known are named when it is,
 * and what they have computed until then is remembered all the same. Thread: engine only; allocates
 * nothing.
 */
#ifndef QUIRE_ENGINE_PROMPT_PREFIX_H
#define QUIRE_ENGINE_PROMPT_PREFIX_H

#include "engine/sequence.h"

struct engine;

/* Keys of the prompt's pages, once; nothing while the digest is not known. */
void prompt_prefix_name(struct engine *engine, struct submit *submit);
/* And of what it generated and is to read again, so far as that was not named before. */
void prompt_prefix_name_text(struct engine *engine, struct sequence *sequence);
/* The longest match with which the family fits now: of a prompt; of all that it reads. */
void prompt_prefix_match(const struct engine *engine, const struct submit *submit,
                         struct kv_family *family);
void prompt_prefix_match_text(const struct engine *engine, const struct sequence *sequence,
                              struct kv_family *family);
/* A match whose ids are not those of the text is none: two texts of one digest. */
void prompt_prefix_verify(const struct engine *engine, const struct sequence *sequence,
                          struct kv_family *family);
/* The sequence was opened with this match: it begins behind it. */
void prompt_prefix_begin(struct engine *engine, struct sequence *sequence,
                         const struct kv_match *match);
/* Who is reading what the prompt begins with, beyond its first n_known tokens, and has the most of
 * that left; *end: where they part. NULL: nobody. */
const struct sequence *prompt_prefix_leader(const struct engine *engine,
                                            const struct submit *submit, uint32_t n_known,
                                            uint32_t *end);
/* It has pages and has read nothing: whether another is about to compute more of its prompt. */
bool prompt_prefix_waits(const struct engine *engine, const struct sequence *sequence);
/* It has pages and has read nothing: what came since it got them is its own too, and what the host
 * pool has. True: more of that is left, or on its way: call again, and it reads nothing before. */
bool prompt_prefix_match_again(struct engine *engine, struct sequence *first);
/* The digest is known: all that runs is named, and shared from here on. */
void prompt_prefix_identify(struct engine *engine, const char *digest_hex);

#endif
