/* tests/cuda_on_cpu/emu_chip.h: the chip that a program emulates, and its limits.
 *
 * The runtime is compiled once; a program says its chip by linking emu_chip.cpp compiled with
 * QUIRE_SM, as its kernels are.
 */
#ifndef QUIRE_EMU_CHIP_H
#define QUIRE_EMU_CHIP_H

#include <stddef.h>

#define EMU_STATIC_SHARED_BYTES_MAX (48u << 10)

int emu_chip_sm(void); /* 80, 90, 100, 120 */

/* Shared memory of a block when the kernel has opted in; the CUDA programming guide's table. */
static inline size_t emu_chip_shared_bytes_max(void)
{
    switch (emu_chip_sm()) {
    case 80:
        return 163u << 10;
    case 90:
    case 100:
        return 227u << 10;
    default: /* 86, 89, 120 */
        return 99u << 10;
    }
}

#endif
