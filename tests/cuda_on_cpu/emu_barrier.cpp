#include "tests/cuda_on_cpu/emu_barrier.h"

#include "tests/cuda_on_cpu/emu_sanitizer.h"

static const char barrier_name[] = "a barrier";
static const char syncthreads_name[] = "__syncthreads";

/* Counts the thread in; true if it is the last one, which opens the barrier. */
static bool arrive(struct emu_block *block, struct emu_barrier *barrier, unsigned n_threads,
                   struct emu_site site)
{
    bool whole = n_threads == 0;
    unsigned expected = whole ? block->n_threads : n_threads;
    if (expected % EMU_WARP_LANES != 0 || expected > block->n_threads)
        emu_fault(site, "a barrier of %u threads in a block of %u", expected, block->n_threads);
    if (barrier->arrived == 0) {
        barrier->expected = expected;
        barrier->site = site;
    } else if (barrier->expected != expected) {
        emu_fault(site, "a barrier of %u threads is waited at for %u, %s:%d", expected,
                  barrier->expected, emu_site_file(barrier->site), barrier->site.line);
    } else if (whole && barrier->site.line != site.line) {
        emu_fault(site, "divergent barrier: others wait at __syncthreads, %s:%d",
                  emu_site_file(barrier->site), barrier->site.line);
    }
    if (++barrier->arrived < expected)
        return false;
    barrier->arrived = 0;
    barrier->phase ^= 1;
    for (uint32_t w = 0; w < block->n_warps; w++) {
        emu_wake(&block->warps[w], barrier->waiting[w]);
        barrier->waiting[w] = 0;
    }
    return true;
}

static struct emu_barrier *barrier_of(struct emu_block *block, unsigned id, struct emu_site site)
{
    if (id >= EMU_BARRIERS)
        emu_fault(site, "barrier %u; there are %d", id, EMU_BARRIERS);
    return &block->barriers[id];
}

void emu_barrier_sync(unsigned id, unsigned n_threads, struct emu_site site)
{
    struct emu_thread *self = emu_current;
    struct emu_barrier *barrier = barrier_of(self->block, id, site);
    char *tag = &barrier->order_tags[barrier->phase];
    emu_note_release(tag);
    if (!arrive(self->block, barrier, n_threads, site)) {
        barrier->waiting[self->warp->idx] |= 1u << self->lane;
        emu_park(n_threads == 0 ? syncthreads_name : barrier_name, site);
    }
    emu_note_acquire(tag);
}

void emu_barrier_arrive(unsigned id, unsigned n_threads, struct emu_site site)
{
    struct emu_thread *self = emu_current;
    struct emu_barrier *barrier = barrier_of(self->block, id, site);
    emu_note_release(&barrier->order_tags[barrier->phase]);
    arrive(self->block, barrier, n_threads, site);
}

void emu_fence(void)
{
    struct emu_thread *self = emu_current;
    uint32_t n = self->n_atomics < EMU_NOTED_ATOMICS ? self->n_atomics : EMU_NOTED_ATOMICS;
    for (uint32_t i = 0; i < n; i++)
        emu_note_acquire(self->atomics[i]);
    self->n_atomics = 0;
    self->fenced = true;
}

void emu_atomic_begin(const void *address)
{
    if (emu_current->fenced)
        emu_note_release(address);
    emu_current->fenced = false;
}

void emu_atomic_end(const void *address)
{
    struct emu_thread *self = emu_current;
    self->atomics[self->n_atomics++ % EMU_NOTED_ATOMICS] = address;
}
