#include "tests/cuda_on_cpu/emu_shared.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "tests/cuda_on_cpu/emu_chip.h"
#include "tests/cuda_on_cpu/emu_sanitizer.h"

#if defined(EMU_TSAN)

#define ARENA_BYTES (64u << 20)
#define MAPPINGS_MAX 1024

static __thread struct {
    uint32_t n;
    void *mappings[MAPPINGS_MAX];
} arenas;

/* Called by the scheduler, not on a fiber: a mapping counts as a write of whoever makes it. */
static void reserve(struct emu_block *block)
{
    struct emu_worker *worker = block->worker;
    size_t most = 2 * block->grid->shared_bytes_max + EMU_SHARED_VARIABLES_MAX * 256;
    if ((size_t)(worker->arena_end - worker->arena) < most) {
        void *mapping = mmap(NULL, ARENA_BYTES, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (mapping == MAP_FAILED || arenas.n == MAPPINGS_MAX) {
            fputs("cuda_on_cpu: no memory for shared variables\n", stderr);
            abort();
        }
        arenas.mappings[arenas.n++] = mapping;
        worker->arena = (char *)mapping;
        worker->arena_end = worker->arena + ARENA_BYTES;
    }
    emu_note_release(&block->grid->begin_tag);
}

static void *take(struct emu_block *block, size_t bytes, size_t alignment)
{
    struct emu_worker *worker = block->worker;
    char *memory = worker->arena + (0 - (uintptr_t)worker->arena) % alignment;
    worker->arena = memory + bytes + 16; /* 16: neighbours do not share a shadow cell */
    return memory;
}

static void give_back(void *)
{
}

void emu_shared_release(struct emu_worker *worker)
{
    for (uint32_t i = 0; i < arenas.n; i++)
        munmap(arenas.mappings[i], ARENA_BYTES);
    arenas.n = 0;
    worker->arena = worker->arena_end = NULL;
}

#else

static void reserve(struct emu_block *)
{
}

static void *take(struct emu_block *, size_t bytes, size_t alignment)
{
    void *memory = NULL;
    if (posix_memalign(&memory, alignment, bytes) != 0) {
        fputs("cuda_on_cpu: no memory for shared variables\n", stderr);
        abort();
    }
    return memory;
}

static void give_back(void *memory)
{
    free(memory);
}

void emu_shared_release(struct emu_worker *)
{
}

#endif

static void *take_poisoned(struct emu_block *block, size_t bytes, size_t alignment)
{
    void *memory = take(block, bytes, alignment < 16 ? 16 : alignment);
    emu_ignore_begin();
    memset(memory, EMU_POISON, bytes);
    emu_ignore_end();
    return memory;
}

void emu_shared_begin(struct emu_block *block)
{
    reserve(block);
    block->n_shared = 0;
    block->static_bytes = 0;
    block->dynamic_shared = NULL;
    if (block->grid->dynamic_bytes > 0)
        block->dynamic_shared =
            take_poisoned(block, block->grid->dynamic_bytes, EMU_SHARED_ALIGNMENT);
}

void emu_shared_end(struct emu_block *block)
{
    for (uint32_t i = 0; i < block->n_shared; i++)
        give_back(block->shared[i].memory);
    if (block->dynamic_shared != NULL)
        give_back(block->dynamic_shared);
}

void *emu_shared(const void *key, size_t bytes, size_t alignment, struct emu_site site)
{
    struct emu_block *block = emu_current->block;
    for (uint32_t i = 0; i < block->n_shared; i++)
        if (block->shared[i].key == key)
            return block->shared[i].memory;

    block->static_bytes += bytes;
    if (block->n_shared == EMU_SHARED_VARIABLES_MAX)
        emu_fault(site, "more than %d shared variables", EMU_SHARED_VARIABLES_MAX);
    if (block->static_bytes > EMU_STATIC_SHARED_BYTES_MAX)
        emu_fault(site, "%zu bytes of static shared memory; %u is the most", block->static_bytes,
                  EMU_STATIC_SHARED_BYTES_MAX);
    if (block->static_bytes + block->grid->dynamic_bytes > block->grid->shared_bytes_max)
        emu_fault(site, "%zu bytes of shared memory with the dynamic part; this launch may have %zu",
                  block->static_bytes + block->grid->dynamic_bytes, block->grid->shared_bytes_max);
    struct emu_shared_variable *variable = &block->shared[block->n_shared++];
    variable->key = key;
    variable->bytes = bytes;
    variable->memory = take_poisoned(block, bytes, alignment);
    return variable->memory;
}

void *emu_dynamic_shared(size_t bytes_at_least, struct emu_site site)
{
    struct emu_block *block = emu_current->block;
    if (block->grid->dynamic_bytes < bytes_at_least)
        emu_fault(site, "the kernel wants %zu bytes of dynamic shared memory; the launch gave %zu",
                  bytes_at_least, block->grid->dynamic_bytes);
    return block->dynamic_shared;
}
