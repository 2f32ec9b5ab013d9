#include "tests/cuda_on_cpu/emu_block.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/cuda_on_cpu/emu_chip.h"
#include "tests/cuda_on_cpu/emu_copy.h"
#include "tests/cuda_on_cpu/emu_sanitizer.h"
#include "tests/cuda_on_cpu/emu_shared.h"

__thread struct emu_thread *emu_current;

const char *emu_site_file(struct emu_site site)
{
    const char *slash = strrchr(site.file, '/');
    return slash != NULL ? slash + 1 : site.file;
}

/* --- choosing who runs --- */

static uint64_t draw(struct emu_block *block)
{
    block->random ^= block->random << 13;
    block->random ^= block->random >> 7;
    block->random ^= block->random << 17;
    return block->random * 0x2545f4914f6cdd1dull >> 32;
}

/* The first set bit at or after `from`, going around. mask is not 0. */
static uint32_t bit_from(uint32_t mask, uint32_t from)
{
    uint32_t above = mask & ~0u << from;
    return (uint32_t)__builtin_ctz(above != 0 ? above : mask);
}

static struct emu_thread *next_in_order(struct emu_block *block)
{
    uint32_t last_warp = block->last / EMU_WARP_LANES, last_lane = block->last % EMU_WARP_LANES;
    uint32_t rest = last_lane == EMU_WARP_LANES - 1 ? 0 : ~0u << (last_lane + 1);
    uint32_t lanes = block->warps[last_warp].ready & rest;
    if (lanes != 0)
        return &block->threads[last_warp * EMU_WARP_LANES + (uint32_t)__builtin_ctz(lanes)];
    uint32_t warp = bit_from(block->ready_warps, (last_warp + 1) % EMU_WARPS_MAX);
    lanes = block->warps[warp].ready;
    return &block->threads[warp * EMU_WARP_LANES + (uint32_t)__builtin_ctz(lanes)];
}

/* The thread to run next, no longer ready; NULL when nothing can run. */
static struct emu_thread *choose(struct emu_block *block)
{
    if (block->ready_warps == 0)
        return NULL;
    struct emu_thread *thread;
    if (block->random == 0) {
        thread = next_in_order(block);
    } else {
        uint32_t warp = bit_from(block->ready_warps, draw(block) % EMU_WARPS_MAX);
        uint32_t lane = bit_from(block->warps[warp].ready, draw(block) % EMU_WARP_LANES);
        thread = &block->threads[warp * EMU_WARP_LANES + lane];
    }
    struct emu_warp *warp = thread->warp;
    warp->ready &= ~(1u << thread->lane);
    if (warp->ready == 0)
        block->ready_warps &= ~(1u << warp->idx);
    block->last = thread->idx;
    return thread;
}

void emu_wake(struct emu_warp *warp, uint32_t lanes)
{
    if (lanes == 0)
        return;
    warp->ready |= lanes;
    emu_current->block->ready_warps |= 1u << warp->idx;
}

/* Leaves the current thread for the next one, or for the scheduler when there is none. Bulk copies
 * land at the latest when nothing else can go on. */
static void leave(struct emu_fiber *from, struct emu_block *block)
{
    struct emu_thread *next = choose(block);
    if (next == NULL && emu_bulk_copies_land(block))
        next = choose(block);
    struct emu_fiber *to = next != NULL ? next->fiber : &block->worker->scheduler;
    emu_current = next;
    if (to != from)
        emu_fiber_switch(from, to);
}

void emu_park(const char *what, struct emu_site site)
{
    struct emu_thread *self = emu_current;
    self->parked_at = what;
    self->site = site;
    leave(self->fiber, self->block);
    self->parked_at = NULL;
}

void emu_yield(void)
{
    struct emu_thread *self = emu_current;
    emu_wake(self->warp, 1u << self->lane);
    leave(self->fiber, self->block);
}

/* --- faults --- */

static void end_launch(struct emu_block *block)
{
    block->grid->failed = true;
}

void emu_fault(struct emu_site site, const char *format, ...)
{
    struct emu_thread *self = emu_current;
    struct emu_block *block = self->block;
    emu_ignore_begin();
    va_list arguments;
    va_start(arguments, format);
    char text[400];
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    fprintf(stderr, "cuda_on_cpu: %s:%d: block (%u,%u,%u) thread (%u,%u,%u): %s\n",
            emu_site_file(site), site.line, block->block_idx.x, block->block_idx.y,
            block->block_idx.z, self->thread_idx.x, self->thread_idx.y, self->thread_idx.z, text);
    emu_ignore_end();
    end_launch(block);
    struct emu_fiber *fiber = self->fiber;
    emu_current = NULL;
    emu_fiber_switch(fiber, &block->worker->scheduler);
    abort(); /* nobody switches back: the fiber is reset */
}

void emu_require_sm(int needed, const char *what, struct emu_site site)
{
    if (emu_chip_sm() < needed)
        emu_fault(site, "%s needs sm_%d; this build emulates sm_%d", what, needed, emu_chip_sm());
}

/* Lines of the report: threads of one warp that wait for one thing at one place. */
static void report_deadlock(const struct emu_block *block)
{
    fprintf(stderr, "cuda_on_cpu: deadlock in block (%u,%u,%u): %u of %u threads have returned\n",
            block->block_idx.x, block->block_idx.y, block->block_idx.z, block->n_returned,
            block->n_threads);
    for (uint32_t w = 0; w < block->n_warps; w++) {
        const struct emu_thread *lanes = &block->threads[w * EMU_WARP_LANES];
        uint32_t told = 0;
        for (uint32_t i = 0; i < EMU_WARP_LANES; i++) {
            if (lanes[i].returned || (told >> i & 1) != 0)
                continue;
            uint32_t alike = 0;
            for (uint32_t j = i; j < EMU_WARP_LANES; j++)
                if (!lanes[j].returned && lanes[j].parked_at == lanes[i].parked_at &&
                    lanes[j].site.line == lanes[i].site.line)
                    alike |= 1u << j;
            told |= alike;
            fprintf(stderr, "cuda_on_cpu:   warp %u: %d lanes (%08x) wait at %s, %s:%d\n", w,
                    __builtin_popcount(alike), alike, lanes[i].parked_at,
                    emu_site_file(lanes[i].site), lanes[i].site.line);
        }
    }
}

/* --- the life of a thread --- */

static void thread_returned(struct emu_thread *self)
{
    struct emu_warp *warp = self->warp;
    struct emu_site nowhere = {"end of the kernel", 0};
    if (self->n_copies > 0)
        emu_fault(nowhere, "the thread returned with %u cp.async not waited for", self->n_copies);
    for (uint32_t i = 0; i < warp->n_meetings; i++)
        if ((warp->meetings[i].mask >> self->lane & 1) != 0)
            emu_fault(nowhere, "lane %u returned while others wait for it at %s:%d", self->lane,
                      emu_site_file(warp->meetings[i].site), warp->meetings[i].site.line);
    emu_note_release(&self->block->grid->end_tag);
    warp->live &= ~(1u << self->lane);
    self->returned = true;
    self->block->n_returned++;
}

/* What each fiber executes, block after block. Never left by return, so AddressSanitizer must not
 * put redzones into its frame: they would stay when the fiber is reset. */
__attribute__((no_sanitize("address"))) static void fiber_main(void)
{
    emu_fiber_entered();
    for (;;) {
        struct emu_thread *self = emu_current;
        emu_note_acquire(&self->block->grid->begin_tag);
        self->block->grid->body();
        thread_returned(self);
        leave(self->fiber, self->block);
    }
}

/* --- the life of a block --- */

static void block_idx_of(struct emu_block *block, uint64_t number)
{
    dim3 grid = block->grid->grid_dim;
    block->block_idx.x = (unsigned)(number % grid.x);
    block->block_idx.y = (unsigned)(number / grid.x % grid.y);
    block->block_idx.z = (unsigned)(number / grid.x / grid.y);
}

/* Same-numbered threads of neighbouring blocks get different fibers: on one TSan fiber their
 * accesses would look ordered. */
static struct emu_fiber *fiber_of(struct emu_worker *worker, uint32_t thread, uint64_t number)
{
    return &worker->fibers[(thread + number) % worker->block.n_threads];
}

static void set_thread(struct emu_block *block, uint32_t idx, uint64_t number)
{
    struct emu_thread *thread = &block->threads[idx];
    dim3 dim = block->grid->block_dim;
    thread->thread_idx = {idx % dim.x, idx / dim.x % dim.y, idx / dim.x / dim.y};
    thread->idx = idx;
    thread->lane = idx % EMU_WARP_LANES;
    thread->warp = &block->warps[idx / EMU_WARP_LANES];
    thread->block = block;
    thread->fiber = fiber_of(block->worker, idx, number);
    thread->returned = false;
    thread->parked_at = NULL;
    thread->mbarrier = NULL;
    thread->n_copies = 0;
    thread->copy_group = 0;
    thread->n_unfenced = 0;
    thread->fenced = false;
    thread->n_atomics = 0;
}

static void block_begin(struct emu_worker *worker, struct emu_grid *grid, uint64_t number)
{
    struct emu_block *block = &worker->block;
    block->grid = grid;
    block->worker = worker;
    block_idx_of(block, number);
    block->n_threads = grid->block_dim.x * grid->block_dim.y * grid->block_dim.z;
    block->n_warps = block->n_threads / EMU_WARP_LANES;
    block->n_returned = 0;
    block->last = block->n_threads - 1;
    block->random = grid->seed == 0 ? 0 : (grid->seed * 0x9e3779b97f4a7c15ull ^ number << 20) | 1;
    block->eager = grid->seed % 2 == 1;
    memset(block->barriers, 0, sizeof block->barriers);
    memset(block->warps, 0, block->n_warps * sizeof block->warps[0]);
    block->n_unfenced = 0;
    block->n_bulk_copies = 0;
    for (; worker->n_fibers < block->n_threads; worker->n_fibers++)
        emu_fiber_create(&worker->fibers[worker->n_fibers], fiber_main);
    for (uint32_t i = 0; i < block->n_threads; i++)
        set_thread(block, i, number);
    for (uint32_t w = 0; w < block->n_warps; w++) {
        block->warps[w].idx = w;
        block->warps[w].ready = block->warps[w].live = ~0u;
    }
    block->ready_warps = block->n_warps == 32 ? ~0u : (1u << block->n_warps) - 1;
    emu_shared_begin(block);
}

/* Fibers that stand in the middle of a kernel forget it. */
static void block_abandon(struct emu_block *block)
{
    for (uint32_t i = 0; i < block->n_threads; i++)
        emu_fiber_reset(block->threads[i].fiber, fiber_main);
}

static void block_run(struct emu_worker *worker, struct emu_grid *grid, uint64_t number)
{
    struct emu_block *block = &worker->block;
    block_begin(worker, grid, number);
    emu_current = choose(block);
    emu_fiber_switch(&worker->scheduler, emu_current->fiber);
    emu_current = NULL;
    if (!grid->failed && block->n_returned < block->n_threads) {
        report_deadlock(block);
        end_launch(block);
    } else if (!grid->failed && block->n_bulk_copies > 0) {
        fprintf(stderr, "cuda_on_cpu: block (%u,%u,%u) ended with %u cp.async.bulk not waited for\n",
                block->block_idx.x, block->block_idx.y, block->block_idx.z, block->n_bulk_copies);
        end_launch(block);
    }
    if (block->n_returned < block->n_threads)
        block_abandon(block);
    emu_shared_end(block);
}

void emu_worker_run(struct emu_worker *worker, struct emu_grid *grid)
{
    emu_fiber_adopt(&worker->scheduler);
    while (!grid->failed) {
        uint64_t number = grid->next_block++;
        if (number >= grid->n_blocks)
            break;
        if (grid->seed != 0)
            number = grid->n_blocks - 1 - number;
        block_run(worker, grid, number);
    }
    emu_shared_release(worker);
}

struct emu_worker *emu_worker_create(void)
{
    struct emu_worker *worker = (struct emu_worker *)calloc(1, sizeof *worker);
    if (worker == NULL)
        abort();
#if defined(EMU_TSAN)
    worker->async_proxy.tsan = __tsan_create_fiber(0);
#endif
    return worker;
}
