/* tests/cuda_on_cpu/emu_mbarrier.h: the 64-bit barrier in shared memory that counts threads and
 * bytes.
 *
 *   bit 63      62..32                 31..16            15..0
 *      phase    bytes still to come    arrivals to come  arrivals a phase
 *
 * A phase ends when arrivals and bytes to come are both 0; arrivals are then reset. wait(parity)
 * passes once the phase of that parity has ended. The layout is ours: kernels must not look inside.
 */
#ifndef QUIRE_EMU_MBARRIER_H
#define QUIRE_EMU_MBARRIER_H

#include "tests/cuda_on_cpu/emu_block.h"

void emu_mbarrier_init(uint64_t *mbarrier, uint32_t count, struct emu_site site);
void emu_fence_mbarrier_init(void);
void emu_mbarrier_arrive(uint64_t *mbarrier, uint32_t bytes, struct emu_site site);
void emu_mbarrier_wait(uint64_t *mbarrier, uint32_t parity, struct emu_site site);

/* A bulk copy ends: what it wrote comes before what those do who pass; its bytes have come. */
void emu_mbarrier_note_bytes(const uint64_t *mbarrier);
void emu_mbarrier_complete_bytes(struct emu_block *block, uint64_t *mbarrier, uint32_t bytes,
                                 struct emu_site site);

static inline void mbarrier_init(uint64_t *mbarrier, uint32_t count, EMU_SITE_PARAMETERS)
{
    emu_mbarrier_init(mbarrier, count, EMU_SITE);
}

static inline void mbarrier_arrive(uint64_t *mbarrier, EMU_SITE_PARAMETERS)
{
    emu_mbarrier_arrive(mbarrier, 0, EMU_SITE);
}

static inline void mbarrier_arrive_expect_bytes(uint64_t *mbarrier, uint32_t bytes,
                                                EMU_SITE_PARAMETERS)
{
    emu_require_sm(90, "mbarrier.arrive.expect_tx", EMU_SITE);
    emu_mbarrier_arrive(mbarrier, bytes, EMU_SITE);
}

static inline void mbarrier_wait(uint64_t *mbarrier, uint32_t parity, EMU_SITE_PARAMETERS)
{
    emu_mbarrier_wait(mbarrier, parity, EMU_SITE);
}

/* No bulk copy may be issued while an mbarrier of the block waits for this. */
static inline void fence_mbarrier_init(EMU_SITE_PARAMETERS)
{
    emu_require_sm(90, "fence.mbarrier_init", EMU_SITE);
    emu_fence_mbarrier_init();
}

/* The accesses that it orders are of one kind on a CPU. */
static inline void fence_async_proxy(EMU_SITE_PARAMETERS)
{
    emu_require_sm(90, "fence.proxy.async", EMU_SITE);
}

#endif
