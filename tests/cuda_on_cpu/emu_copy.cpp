#include "tests/cuda_on_cpu/emu_copy.h"

#include <string.h>

#include "tests/cuda_on_cpu/emu_mbarrier.h"
#include "tests/cuda_on_cpu/emu_sanitizer.h"

static void check_aligned(const void *to, const void *from, struct emu_site site)
{
    if ((uintptr_t)to % 16 != 0 || (uintptr_t)from % 16 != 0)
        emu_fault(site, "misaligned address: an asynchronous copy from %p to %p, not multiples of 16",
                  from, to);
}

/* --- cp.async --- */

static void perform(const struct emu_copy *copy)
{
    emu_note_read(copy->from, copy->bytes);
    emu_note_write(copy->to, copy->bytes + copy->zeros);
    emu_ignore_begin();
    memcpy(copy->to, copy->from, copy->bytes);
    memset((char *)copy->to + copy->bytes, 0, copy->zeros);
    emu_ignore_end();
}

void emu_cp_async(void *to, const void *from, uint32_t bytes, uint32_t zeros, struct emu_site site)
{
    struct emu_thread *self = emu_current;
    check_aligned(to, from, site);
    if (self->n_copies == EMU_COPIES_MAX)
        emu_fault(site, "more than %d cp.async of one thread under way", EMU_COPIES_MAX);
    struct emu_copy *copy = &self->copies[self->n_copies++];
    *copy = {to, from, bytes, zeros, self->copy_group};
    if (self->block->eager)
        perform(copy);
}

void emu_cp_async_commit(void)
{
    emu_current->copy_group++;
}

/* Groups complete in the order of their commits; copies that no commit follows stay under way. */
void emu_cp_async_wait(uint32_t groups_left)
{
    struct emu_thread *self = emu_current;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < self->n_copies; i++) {
        struct emu_copy copy = self->copies[i];
        if (copy.group + groups_left >= self->copy_group)
            self->copies[kept++] = copy;
        else if (!self->block->eager)
            perform(&copy);
    }
    self->n_copies = kept;
}

/* --- cp.async.bulk --- */

/* The copying unit is a party of its own: ordered after the issue, and before whoever the mbarrier
 * lets pass. */
static void land(struct emu_block *block, const struct emu_bulk *copy)
{
#if defined(EMU_TSAN)
    struct emu_fiber *self = emu_current->fiber;
    __tsan_switch_to_fiber(block->worker->async_proxy.tsan, EMU_TSAN_NO_SYNC);
    emu_note_acquire(copy->order_tag);
    emu_note_read(copy->from, copy->bytes);
    emu_note_write(copy->to, copy->bytes);
#endif
    emu_ignore_begin();
    memcpy(copy->to, copy->from, copy->bytes);
    emu_ignore_end();
    emu_mbarrier_note_bytes(copy->mbarrier);
#if defined(EMU_TSAN)
    __tsan_switch_to_fiber(self->tsan, EMU_TSAN_NO_SYNC);
#endif
    emu_mbarrier_complete_bytes(block, copy->mbarrier, copy->bytes, copy->site);
}

void emu_bulk_copy(void *to, const void *from, uint32_t bytes, uint64_t *mbarrier,
                   struct emu_site site)
{
    struct emu_block *block = emu_current->block;
    check_aligned(to, from, site);
    if (bytes == 0 || bytes % 16 != 0)
        emu_fault(site, "cp.async.bulk of %u bytes; a multiple of 16 is wanted", bytes);
    if (block->n_unfenced > 0)
        emu_fault(site, "cp.async.bulk while %u mbarriers are initialised and not fenced",
                  block->n_unfenced);
    if (block->n_bulk_copies == EMU_BULK_COPIES_MAX)
        emu_fault(site, "more than %d cp.async.bulk under way", EMU_BULK_COPIES_MAX);
    struct emu_bulk *copy = &block->bulk_copies[block->n_bulk_copies];
    const char *tag = &block->bulk_tags[block->next_bulk_tag++ % EMU_BULK_COPIES_MAX];
    *copy = {to, from, bytes, mbarrier, site, tag};
    emu_note_release(tag);
    if (block->eager)
        land(block, copy);
    else
        block->n_bulk_copies++;
}

bool emu_bulk_copies_land(struct emu_block *block)
{
    uint32_t n = block->n_bulk_copies;
    block->n_bulk_copies = 0;
    for (uint32_t i = 0; i < n; i++)
        land(block, &block->bulk_copies[i]);
    return n > 0;
}
