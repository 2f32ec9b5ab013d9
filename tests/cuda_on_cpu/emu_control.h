/* tests/cuda_on_cpu/emu_control.h: what tests may ask of the emulation, in plain C too.
 *
 * EMU_DEVICES        devices that there are (default 1)
 * EMU_DEVICE_MBYTES  memory of the device in MiB (default 8192)
 * EMU_DRIVER         the driver's version as CUDA counts, 12080 for 12.8; 0: there is none
 * EMU_CAPABILITY     compute capability as the device says it, 86 for 8.6 (default: the chip's);
 *                    kernels run all the same
 * EMU_LOSE_WHEN      a path: the device is lost at the first kernel that runs while something is
 *                    there
 */
#ifndef QUIRE_EMU_CONTROL_H
#define QUIRE_EMU_CONTROL_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Overrules EMU_SEED from now on. */
void emu_set_seed(uint64_t seed);
uint64_t emu_seed(void);

enum emu_counter {
    EMU_LAUNCHES,         /* of kernels, by call; those inside of graphs are not counted again */
    EMU_GRAPH_LAUNCHES,
    EMU_ALLOCATIONS,      /* device and pinned memory, taken or given back */
    EMU_SYNCHRONISATIONS, /* calls that wait for the device, or may: copies of pageable memory */
    EMU_EVENTS,           /* recorded; those inside of graphs are not counted */
    EMU_EVENTS_AHEAD,     /* that a query found passed while work stood behind them in the stream */
    EMU_COUNTERS
};
/* How often since the program began. */
uint64_t emu_counted(enum emu_counter counter);

#ifdef __cplusplus
}
#endif

#endif
