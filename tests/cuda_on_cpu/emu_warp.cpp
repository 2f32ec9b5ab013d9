#include "tests/cuda_on_cpu/emu_warp.h"

#include "tests/cuda_on_cpu/emu_sanitizer.h"

/* --- meeting --- */

/* The meeting that lanes of this mask already wait at, or a new one. */
static struct emu_meeting *meeting_of(struct emu_warp *warp, const struct emu_warp_kind *kind,
                                      uint32_t mask, struct emu_site site)
{
    for (uint32_t i = 0; i < warp->n_meetings; i++) {
        struct emu_meeting *meeting = &warp->meetings[i];
        if ((meeting->mask & mask) == 0)
            continue;
        if (meeting->kind != kind || meeting->mask != mask || meeting->site.line != site.line)
            emu_fault(site, "%s of lanes %08x while lanes %08x wait at %s of %08x, %s:%d",
                      kind->name, mask, meeting->arrived, meeting->kind->name, meeting->mask,
                      emu_site_file(meeting->site), meeting->site.line);
        return meeting;
    }
    struct emu_meeting *meeting = &warp->meetings[warp->n_meetings++];
    *meeting = {mask, 0, kind, site};
    return meeting;
}

static void perform(struct emu_warp *warp, struct emu_meeting *meeting, uint32_t self)
{
    struct emu_meeting done = *meeting;
    *meeting = warp->meetings[--warp->n_meetings];
    if (done.kind->orders_memory)
        warp->phase ^= 1;
    if (done.kind->perform != NULL) {
        emu_ignore_begin();
        done.kind->perform(warp->records, done.mask);
        emu_ignore_end();
    }
    emu_wake(warp, done.mask & ~self);
}

void emu_warp_meet(const struct emu_warp_kind *kind, uint32_t mask, void *record,
                   struct emu_site site)
{
    struct emu_thread *self = emu_current;
    struct emu_warp *warp = self->warp;
    uint32_t bit = 1u << self->lane;
    if ((mask & bit) == 0)
        emu_fault(site, "%s: lane %u is not in its own mask %08x", kind->name, self->lane, mask);
    if ((mask & ~warp->live) != 0)
        emu_fault(site, "%s: mask %08x names lanes that have returned: %08x", kind->name, mask,
                  mask & ~warp->live);
    char *tag = &warp->order_tags[warp->phase];
    if (kind->orders_memory)
        emu_note_release(tag);

    struct emu_meeting *meeting = meeting_of(warp, kind, mask, site);
    meeting->arrived |= bit;
    warp->records[self->lane] = record;
    if (meeting->arrived == mask)
        perform(warp, meeting, bit);
    else
        emu_park(kind->name, site);

    if (kind->orders_memory)
        emu_note_acquire(tag);
}

/* --- shuffles --- */

/* The lane that this one reads from, as the PTX manual's shfl has it. */
typedef int source_of(int lane, int operand, int width);

static int source_idx(int lane, int operand, int width)
{
    return (lane & ~(width - 1)) | (operand & (width - 1));
}

static int source_up(int lane, int operand, int width)
{
    return lane - operand < (lane & ~(width - 1)) ? lane : lane - operand;
}

static int source_down(int lane, int operand, int width)
{
    return lane + operand > (lane | (width - 1)) ? lane : lane + operand;
}

static int source_xor(int lane, int operand, int width)
{
    return (lane ^ operand) > (lane | (width - 1)) ? lane : lane ^ operand;
}

/* A lane outside of the mask gives poison: its value is undefined on the device. */
static void shuffle(void *const *records, uint32_t mask, source_of *source)
{
    uint64_t before[EMU_WARP_LANES];
    for (int lane = 0; lane < EMU_WARP_LANES; lane++)
        before[lane] =
            (mask >> lane & 1) != 0 ? ((const struct emu_exchange *)records[lane])->value : ~0ull;
    for (int lane = 0; lane < EMU_WARP_LANES; lane++) {
        if ((mask >> lane & 1) == 0)
            continue;
        struct emu_exchange *record = (struct emu_exchange *)records[lane];
        record->value = before[source(lane, record->operand, record->width) % EMU_WARP_LANES];
    }
}

static void shuffle_idx(void *const *records, uint32_t mask)
{
    shuffle(records, mask, source_idx);
}

static void shuffle_up(void *const *records, uint32_t mask)
{
    shuffle(records, mask, source_up);
}

static void shuffle_down(void *const *records, uint32_t mask)
{
    shuffle(records, mask, source_down);
}

static void shuffle_xor(void *const *records, uint32_t mask)
{
    shuffle(records, mask, source_xor);
}

/* --- votes and reductions --- */

typedef uint32_t fold_two(uint32_t sum, uint32_t value);

static void reduce(void *const *records, uint32_t mask, fold_two *fold)
{
    int first = __builtin_ctz(mask);
    uint32_t sum = (uint32_t)((const struct emu_exchange *)records[first])->value;
    for (int lane = first + 1; lane < EMU_WARP_LANES; lane++)
        if ((mask >> lane & 1) != 0)
            sum = fold(sum, (uint32_t)((const struct emu_exchange *)records[lane])->value);
    for (int lane = first; lane < EMU_WARP_LANES; lane++)
        if ((mask >> lane & 1) != 0)
            ((struct emu_exchange *)records[lane])->value = sum;
}

static uint32_t fold_add(uint32_t sum, uint32_t value)
{
    return sum + value;
}

static uint32_t fold_min_u32(uint32_t sum, uint32_t value)
{
    return value < sum ? value : sum;
}

static uint32_t fold_max_u32(uint32_t sum, uint32_t value)
{
    return value > sum ? value : sum;
}

static uint32_t fold_min_s32(uint32_t sum, uint32_t value)
{
    return (int32_t)value < (int32_t)sum ? value : sum;
}

static uint32_t fold_max_s32(uint32_t sum, uint32_t value)
{
    return (int32_t)value > (int32_t)sum ? value : sum;
}

static void ballot(void *const *records, uint32_t mask)
{
    uint32_t votes = 0;
    for (int lane = 0; lane < EMU_WARP_LANES; lane++)
        if ((mask >> lane & 1) != 0 && ((const struct emu_exchange *)records[lane])->value != 0)
            votes |= 1u << lane;
    for (int lane = 0; lane < EMU_WARP_LANES; lane++)
        if ((mask >> lane & 1) != 0)
            ((struct emu_exchange *)records[lane])->value = votes;
}

static void reduce_add(void *const *records, uint32_t mask)
{
    reduce(records, mask, fold_add);
}

static void reduce_min_u32(void *const *records, uint32_t mask)
{
    reduce(records, mask, fold_min_u32);
}

static void reduce_max_u32(void *const *records, uint32_t mask)
{
    reduce(records, mask, fold_max_u32);
}

static void reduce_min_s32(void *const *records, uint32_t mask)
{
    reduce(records, mask, fold_min_s32);
}

static void reduce_max_s32(void *const *records, uint32_t mask)
{
    reduce(records, mask, fold_max_s32);
}

const struct emu_warp_kind emu_shuffle_idx = {"__shfl_sync", shuffle_idx, false};
const struct emu_warp_kind emu_shuffle_up = {"__shfl_up_sync", shuffle_up, false};
const struct emu_warp_kind emu_shuffle_down = {"__shfl_down_sync", shuffle_down, false};
const struct emu_warp_kind emu_shuffle_xor = {"__shfl_xor_sync", shuffle_xor, false};
const struct emu_warp_kind emu_ballot = {"a vote", ballot, false};
const struct emu_warp_kind emu_reduce_add = {"__reduce_add_sync", reduce_add, false};
const struct emu_warp_kind emu_reduce_min_u32 = {"__reduce_min_sync", reduce_min_u32, false};
const struct emu_warp_kind emu_reduce_max_u32 = {"__reduce_max_sync", reduce_max_u32, false};
const struct emu_warp_kind emu_reduce_min_s32 = {"__reduce_min_sync", reduce_min_s32, false};
const struct emu_warp_kind emu_reduce_max_s32 = {"__reduce_max_sync", reduce_max_s32, false};
const struct emu_warp_kind emu_syncwarp = {"__syncwarp", NULL, true};
