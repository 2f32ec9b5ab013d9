#include "tests/cuda_on_cpu/emu_chip.h"

int emu_chip_sm(void)
{
    return QUIRE_SM;
}
