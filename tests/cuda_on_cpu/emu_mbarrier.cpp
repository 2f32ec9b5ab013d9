#include "tests/cuda_on_cpu/emu_mbarrier.h"

#include <string.h>

#include "tests/cuda_on_cpu/emu_sanitizer.h"

#define COUNT_MAX EMU_THREADS_MAX
#define BYTES_MAX ((1u << 20) - 1) /* of one phase, as on the device */

struct state {
    uint32_t count, to_come, bytes, phase;
};

static struct state unpack(const uint64_t *mbarrier)
{
    uint64_t word = *mbarrier;
    return {(uint32_t)word & 0xffff, (uint32_t)(word >> 16) & 0xffff,
            (uint32_t)(word >> 32) & 0x7fffffff, (uint32_t)(word >> 63)};
}

static void pack(uint64_t *mbarrier, struct state state)
{
    *mbarrier = state.count | (uint64_t)state.to_come << 16 | (uint64_t)state.bytes << 32 |
                (uint64_t)state.phase << 63;
}

/* A tag for the order of memory, one for each parity; its address is all that is used of it. */
static const void *tag_of(const uint64_t *mbarrier, uint32_t phase)
{
    return (const char *)mbarrier + phase;
}

static struct state look(const uint64_t *mbarrier, struct emu_site site)
{
    if ((uintptr_t)mbarrier % 8 != 0)
        emu_fault(site, "misaligned address: an mbarrier at %p", (const void *)mbarrier);
    emu_note_read(mbarrier, sizeof *mbarrier); /* races with its init, not with other arrivals */
    struct state state = unpack(mbarrier);
    if (state.count == 0 || state.count > COUNT_MAX || state.to_come > state.count)
        emu_fault(site, "the mbarrier at %p is not initialised", (const void *)mbarrier);
    return state;
}

static void wake_waiters(struct emu_block *block, const uint64_t *mbarrier)
{
    for (uint32_t i = 0; i < block->n_threads; i++) {
        struct emu_thread *thread = &block->threads[i];
        if (thread->mbarrier != mbarrier)
            continue;
        thread->mbarrier = NULL;
        emu_wake(thread->warp, 1u << thread->lane);
    }
}

/* Stores the state; ends the phase if nothing more is to come. */
static void settle(struct emu_block *block, uint64_t *mbarrier, struct state state)
{
    bool ended = state.to_come == 0 && state.bytes == 0;
    if (ended) {
        state.to_come = state.count;
        state.phase ^= 1;
    }
    pack(mbarrier, state);
    if (ended)
        wake_waiters(block, mbarrier);
}

void emu_mbarrier_init(uint64_t *mbarrier, uint32_t count, struct emu_site site)
{
    if ((uintptr_t)mbarrier % 8 != 0)
        emu_fault(site, "misaligned address: an mbarrier at %p", (const void *)mbarrier);
    if (count == 0 || count > COUNT_MAX)
        emu_fault(site, "an mbarrier for %u arrivals", count);
    emu_note_write(mbarrier, sizeof *mbarrier);
    pack(mbarrier, {count, count, 0, 0});
    emu_current->n_unfenced++;
    emu_current->block->n_unfenced++;
}

void emu_fence_mbarrier_init(void)
{
    emu_current->block->n_unfenced -= emu_current->n_unfenced;
    emu_current->n_unfenced = 0;
}

void emu_mbarrier_arrive(uint64_t *mbarrier, uint32_t bytes, struct emu_site site)
{
    struct state state = look(mbarrier, site);
    if (state.to_come == 0)
        emu_fault(site, "more than %u arrivals at an mbarrier in one phase", state.count);
    if (state.bytes + bytes > BYTES_MAX)
        emu_fault(site, "an mbarrier that expects %u bytes; %u is the most", state.bytes + bytes,
                  BYTES_MAX);
    state.to_come--;
    state.bytes += bytes;
    emu_note_release(tag_of(mbarrier, state.phase));
    settle(emu_current->block, mbarrier, state);
}

void emu_mbarrier_note_bytes(const uint64_t *mbarrier)
{
    emu_note_release(tag_of(mbarrier, unpack(mbarrier).phase));
}

void emu_mbarrier_complete_bytes(struct emu_block *block, uint64_t *mbarrier, uint32_t bytes,
                                 struct emu_site site)
{
    struct state state = look(mbarrier, site);
    if (bytes > state.bytes)
        emu_fault(site, "%u bytes have come to an mbarrier that expects %u", bytes, state.bytes);
    state.bytes -= bytes;
    settle(block, mbarrier, state);
}

/* Parked on (mbarrier, parity) until the phase of that parity has ended. */
void emu_mbarrier_wait(uint64_t *mbarrier, uint32_t parity, struct emu_site site)
{
    struct emu_thread *self = emu_current;
    while (look(mbarrier, site).phase == (parity & 1)) {
        self->mbarrier = mbarrier;
        emu_park("an mbarrier", site);
    }
    emu_note_acquire(tag_of(mbarrier, parity & 1));
}
