/* tests/cuda_on_cpu/emu_block.h: one block of CUDA threads, run to its end on one OS thread.
 *
 *   thread    0  1  2 ... 31 | 32 ...            each a fiber; one runs at a time
 *   warp           0         |   1
 *   ready     a mask of lanes a warp, a mask of warps a block
 *
 * A thread runs until it parks (a barrier, a warp operation, an mbarrier) or returns; then the next
 * ready one is chosen: in order with seed 0, else at random. When nothing is ready and not all have
 * returned, the block is deadlocked: that is reported by warp and source line, as any other fault,
 * and ends the launch.
 *
 * Thread: a block belongs to one OS thread; what it shares with other blocks is its grid.
 */
#ifndef QUIRE_EMU_BLOCK_H
#define QUIRE_EMU_BLOCK_H

#include <atomic>
#include <functional>
#include <stdint.h>
#include <vector_types.h>

#include "tests/cuda_on_cpu/emu_fiber.h"

#define EMU_WARP_LANES 32
#define EMU_WARPS_MAX 32
#define EMU_THREADS_MAX (EMU_WARPS_MAX * EMU_WARP_LANES)
#define EMU_BARRIERS 16
#define EMU_SHARED_VARIABLES_MAX 32
#define EMU_COPIES_MAX 128         /* cp.async of one thread under way */
#define EMU_BULK_COPIES_MAX 256    /* of one block under way */
#define EMU_NOTED_ATOMICS 8

/* A place in a kernel; wrappers take it as their last parameters, by default the caller's. */
struct emu_site {
    const char *file;
    int line;
};
#define EMU_SITE_PARAMETERS                                                                        \
    const char *emu_file = __builtin_FILE(), int emu_line = __builtin_LINE()
#define EMU_SITE (emu_site{emu_file, emu_line})

struct emu_copy {
    void *to;
    const void *from;
    uint32_t bytes, zeros; /* zeros are written behind the bytes */
    uint32_t group;
};

/* kernels see it through threadIdx and the like */
struct emu_thread {
    struct uint3 thread_idx;
    uint32_t idx, lane;
    struct emu_warp *warp;
    struct emu_block *block;
    struct emu_fiber *fiber;
    bool returned;
    const char *parked_at;       /* what it waits for, or NULL */
    struct emu_site site;        /* where */
    const uint64_t *mbarrier;    /* that it waits on, or NULL */
    uint32_t parity;
    uint32_t n_copies, copy_group; /* cp.async: under way; the group that is being filled */
    struct emu_copy copies[EMU_COPIES_MAX];
    uint32_t n_unfenced;         /* mbarriers that it initialised since its last fence */
    bool fenced;                 /* __threadfence since the last atomic */
    uint32_t n_atomics;
    const void *atomics[EMU_NOTED_ATOMICS];
};

/* Lanes that have met at a warp operation and wait for the rest of their mask. */
struct emu_meeting {
    uint32_t mask, arrived;
    const struct emu_warp_kind *kind;
    struct emu_site site;
};

struct emu_warp {
    uint32_t idx;
    uint32_t ready, live;        /* masks of lanes */
    uint32_t n_meetings;
    struct emu_meeting meetings[EMU_WARP_LANES];
    void *records[EMU_WARP_LANES];
    uint32_t phase;              /* of order_tags: flips at each __syncwarp */
    char order_tags[2];
};

struct emu_barrier {
    uint32_t arrived, expected;
    struct emu_site site;        /* of the first to arrive */
    uint32_t waiting[EMU_WARPS_MAX];
    uint32_t phase;
    char order_tags[2];
};

struct emu_shared_variable {
    const void *key;
    void *memory;
    size_t bytes;
};

struct emu_bulk {
    void *to;
    const void *from;
    uint32_t bytes;
    uint64_t *mbarrier;
    struct emu_site site;
    const char *order_tag;
};

/* One launch. Blocks are taken from it by whichever worker is free. */
struct emu_grid {
    dim3 grid_dim, block_dim;
    size_t dynamic_bytes;
    size_t shared_bytes_max;     /* static and dynamic together */
    uint64_t seed;
    std::function<void()> body;  /* what a thread executes */
    uint64_t n_blocks;
    std::atomic<uint64_t> next_block;
    std::atomic<bool> failed;
    char begin_tag, end_tag;
};

struct emu_block {
    struct emu_grid *grid;
    struct uint3 block_idx;
    uint32_t n_threads, n_warps, n_returned;
    uint32_t ready_warps;        /* mask */
    uint32_t last;               /* thread that ran last */
    uint64_t random;             /* 0: in order */
    bool eager;                  /* asynchronous copies happen at issue */
    struct emu_worker *worker;
    struct emu_barrier barriers[EMU_BARRIERS];
    uint32_t n_shared;
    size_t static_bytes;
    struct emu_shared_variable shared[EMU_SHARED_VARIABLES_MAX];
    void *dynamic_shared;
    uint32_t n_unfenced;         /* of all threads */
    uint32_t n_bulk_copies;
    struct emu_bulk bulk_copies[EMU_BULK_COPIES_MAX];
    uint32_t next_bulk_tag;
    char bulk_tags[EMU_BULK_COPIES_MAX];
    struct emu_warp warps[EMU_WARPS_MAX];
    struct emu_thread threads[EMU_THREADS_MAX];
};

/* An OS thread's place to run blocks: stacks, and the arena for shared memory under TSan. */
struct emu_worker {
    struct emu_fiber scheduler;
    struct emu_fiber async_proxy; /* a TSan fiber alone: who performs bulk copies */
    uint32_t n_fibers;
    struct emu_fiber fibers[EMU_THREADS_MAX];
    struct emu_thread *of_fiber[EMU_THREADS_MAX];
    struct emu_block block;
    char *arena, *arena_end;
};

/* The CUDA thread that this OS thread executes; NULL on the host's side of things. */
extern __thread struct emu_thread *emu_current;

/* Takes blocks of the grid until none is left or one has failed; on the worker's OS thread. */
void emu_worker_run(struct emu_worker *worker, struct emu_grid *grid);
struct emu_worker *emu_worker_create(void);

/* --- what a thread can do; all on a fiber --- */

/* Leaves the thread until somebody wakes it. */
void emu_park(const char *what, struct emu_site site);
/* Lets others run; the thread stays ready. */
void emu_yield(void);
void emu_wake(struct emu_warp *warp, uint32_t lanes);
/* Reports what the kernel did wrong, ends the launch, and never comes back. */
[[noreturn]] void emu_fault(struct emu_site site, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* The file's last name. */
const char *emu_site_file(struct emu_site site);
/* A fault when the wrapper's instruction is newer than the chip that is emulated. */
void emu_require_sm(int needed, const char *what, struct emu_site site);

#endif
