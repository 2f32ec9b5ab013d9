/* tests/cuda_on_cpu/emu_copy.h: copies from global to shared memory while threads go on.
 *
 *   cp.async        of a thread: issue ... commit (closes a group) ... wait until n groups are left
 *   cp.async.bulk   of a block: issue; its end is bytes told to an mbarrier
 *
 * With an odd seed a copy happens when it is issued, which shows buffers that are overwritten while
 * they are read; with an even one when it is waited for (a bulk copy: when nothing else can run),
 * which shows reads that do not wait.
 */
#ifndef QUIRE_EMU_COPY_H
#define QUIRE_EMU_COPY_H

#include "tests/cuda_on_cpu/emu_block.h"

void emu_cp_async(void *to, const void *from, uint32_t bytes, uint32_t zeros, struct emu_site site);
void emu_cp_async_commit(void);
void emu_cp_async_wait(uint32_t groups_left);

void emu_bulk_copy(void *to, const void *from, uint32_t bytes, uint64_t *mbarrier,
                   struct emu_site site);
/* Performs what is under way. True if there was anything. */
bool emu_bulk_copies_land(struct emu_block *block);

/* 16 bytes, or nothing and zeros; both addresses at multiples of 16. */
static inline void cp_async_16(void *shared_to, const void *global_from, bool valid = true,
                               EMU_SITE_PARAMETERS)
{
    emu_cp_async(shared_to, global_from, valid ? 16 : 0, valid ? 0 : 16, EMU_SITE);
}

static inline void cp_async_commit(void)
{
    emu_cp_async_commit();
}

template <int groups_left> static inline void cp_async_wait(void)
{
    emu_cp_async_wait(groups_left);
}

static inline void bulk_copy(void *shared_to, const void *global_from, uint32_t bytes,
                             uint64_t *mbarrier, EMU_SITE_PARAMETERS)
{
    emu_require_sm(90, "cp.async.bulk", EMU_SITE);
    emu_bulk_copy(shared_to, global_from, bytes, mbarrier, EMU_SITE);
}

#endif
