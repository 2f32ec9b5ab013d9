/* tests/cuda_on_cpu/emu_warp.h: operations that the lanes of a warp perform together.
 *
 *   lane 0   record 0 --.
 *   lane 1   record 1 --+--> the last lane of the mask runs kind->perform(records, mask) once
 *   ...                 |
 *   lane 31  record 31 -'
 *
 * A lane leaves a pointer to its record and parks. The operation takes place only if kind, mask and
 * source line agree in all lanes of the mask; anything else is a fault. Shuffles, votes and
 * reductions order no memory; __syncwarp does.
 */
#ifndef QUIRE_EMU_WARP_H
#define QUIRE_EMU_WARP_H

#include <stdint.h>
#include <string.h>

#include "tests/cuda_on_cpu/emu_block.h"

struct emu_warp_kind {
    const char *name;
    void (*perform)(void *const *records, uint32_t mask); /* records of lanes in the mask */
    bool orders_memory;
};

void emu_warp_meet(const struct emu_warp_kind *kind, uint32_t mask, void *record,
                   struct emu_site site);

/* --- one value a lane --- */

struct emu_exchange {
    uint64_t value;   /* in and out */
    int operand;      /* source lane, offset or mask of lanes */
    int width;
};

extern const struct emu_warp_kind emu_shuffle_idx, emu_shuffle_up, emu_shuffle_down,
    emu_shuffle_xor, emu_ballot, emu_reduce_add, emu_reduce_min_u32, emu_reduce_max_u32,
    emu_reduce_min_s32, emu_reduce_max_s32, emu_syncwarp;

template <class T>
static inline T emu_shuffle(const struct emu_warp_kind *kind, uint32_t mask, T value, int operand,
                            int width, struct emu_site site)
{
    static_assert(sizeof(T) <= sizeof(uint64_t), "a shuffle moves at most 8 bytes");
    struct emu_exchange record = {0, operand, width};
    memcpy(&record.value, &value, sizeof value);
    emu_warp_meet(kind, mask, &record, site);
    memcpy(&value, &record.value, sizeof value);
    return value;
}

template <class T>
static inline T __shfl_sync(unsigned mask, T value, int source, int width = 32, EMU_SITE_PARAMETERS)
{
    return emu_shuffle(&emu_shuffle_idx, mask, value, source, width, EMU_SITE);
}

template <class T>
static inline T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32,
                               EMU_SITE_PARAMETERS)
{
    return emu_shuffle(&emu_shuffle_up, mask, value, (int)delta, width, EMU_SITE);
}

template <class T>
static inline T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32,
                                 EMU_SITE_PARAMETERS)
{
    return emu_shuffle(&emu_shuffle_down, mask, value, (int)delta, width, EMU_SITE);
}

template <class T>
static inline T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32,
                                EMU_SITE_PARAMETERS)
{
    return emu_shuffle(&emu_shuffle_xor, mask, value, lanes, width, EMU_SITE);
}

static inline unsigned __ballot_sync(unsigned mask, int predicate, EMU_SITE_PARAMETERS)
{
    struct emu_exchange record = {predicate != 0, 0, 32};
    emu_warp_meet(&emu_ballot, mask, &record, EMU_SITE);
    return (unsigned)record.value;
}

static inline int __any_sync(unsigned mask, int predicate, EMU_SITE_PARAMETERS)
{
    return __ballot_sync(mask, predicate, emu_file, emu_line) != 0;
}

static inline int __all_sync(unsigned mask, int predicate, EMU_SITE_PARAMETERS)
{
    return __ballot_sync(mask, predicate, emu_file, emu_line) == mask;
}

static inline uint32_t emu_reduce(const struct emu_warp_kind *kind, unsigned mask, uint32_t value,
                                  struct emu_site site)
{
    struct emu_exchange record = {value, 0, 32};
    emu_warp_meet(kind, mask, &record, site);
    return (uint32_t)record.value;
}

static inline unsigned __reduce_add_sync(unsigned mask, unsigned value, EMU_SITE_PARAMETERS)
{
    return emu_reduce(&emu_reduce_add, mask, value, EMU_SITE);
}

static inline int __reduce_add_sync(unsigned mask, int value, EMU_SITE_PARAMETERS)
{
    return (int)emu_reduce(&emu_reduce_add, mask, (uint32_t)value, EMU_SITE);
}

static inline unsigned __reduce_min_sync(unsigned mask, unsigned value, EMU_SITE_PARAMETERS)
{
    return emu_reduce(&emu_reduce_min_u32, mask, value, EMU_SITE);
}

static inline int __reduce_min_sync(unsigned mask, int value, EMU_SITE_PARAMETERS)
{
    return (int)emu_reduce(&emu_reduce_min_s32, mask, (uint32_t)value, EMU_SITE);
}

static inline unsigned __reduce_max_sync(unsigned mask, unsigned value, EMU_SITE_PARAMETERS)
{
    return emu_reduce(&emu_reduce_max_u32, mask, value, EMU_SITE);
}

static inline int __reduce_max_sync(unsigned mask, int value, EMU_SITE_PARAMETERS)
{
    return (int)emu_reduce(&emu_reduce_max_s32, mask, (uint32_t)value, EMU_SITE);
}

static inline void __syncwarp(unsigned mask = 0xffffffffu, EMU_SITE_PARAMETERS)
{
    emu_warp_meet(&emu_syncwarp, mask, NULL, EMU_SITE);
}

#endif
