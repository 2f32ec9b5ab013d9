/* engine/preempt.h: runs that give up their pages to others, and get them back.
 *
 *   PAUSED, for options.preempt_ns -- another waits for pages, and gets them by this --> SPILLED:
 *     its pages are the cache's, and give way when they are wanted; it goes to the end of the line
 *   SPILLED -- its reader takes again, and pages are free --> PREFILL: it reads its prompt and
 *     what it had generated, or takes of both what is still there, and goes on where it was
 *
 * Since every run was promised all of its pages before it began, a run that its reader takes is
 * never in need of another's. By reading again, or with a host pool by what went there
 * (kvcache/kv_host.h). Thread: engine only; allocates nothing.
 */
#ifndef QUIRE_ENGINE_PREEMPT_H
#define QUIRE_ENGINE_PREEMPT_H

#include "engine/sequence.h"

struct engine;

/* Of the runs that have been paused for options.preempt_ns or longer, as few as will do give up
 * their pages, so that `first` and its choices get theirs: of those that would do alone the one
 * with the least to read again. False: all of them together would not do, and keep theirs. */
bool preempt_for(struct engine *engine, const struct sequence *first, int64_t now_ns);
/* Whether that would do for a family; they keep their pages. */
bool preempt_would_do(struct engine *engine, struct kv_family family, int64_t now_ns);
/* It gave up its pages, and nobody reads what it would write. */
bool preempt_is_away(const struct sequence *sequence);
/* It gave up its pages, and there is somebody again to read what it would write. */
bool preempt_may_return(const struct sequence *sequence);

#endif
