/* tests/cuda_on_cpu/emu_shared.h: shared memory of a block.
 *
 * Each variable is a block of memory of its own, filled with 0xFF before it is first seen: NaN as a
 * float of any width, -1 as an index. Under AddressSanitizer an access beside one is reported.
 * Under ThreadSanitizer memory comes from an arena that no other block of the launch gets, since
 * the shadow of an earlier block would look like a race.
 */
#ifndef QUIRE_EMU_SHARED_H
#define QUIRE_EMU_SHARED_H

#include <stddef.h>

#include "tests/cuda_on_cpu/emu_block.h"

#define EMU_SHARED_ALIGNMENT 128 /* of dynamic memory; round up in the kernel for more */
#define EMU_POISON 0xff

void emu_shared_begin(struct emu_block *block);
void emu_shared_end(struct emu_block *block);
/* After a launch: what the worker kept. */
void emu_shared_release(struct emu_worker *worker);

/* The variable of this block that `key` names; made by the first thread that asks. */
void *emu_shared(const void *key, size_t bytes, size_t alignment, struct emu_site site);
void *emu_dynamic_shared(size_t bytes_at_least, struct emu_site site);

#endif
