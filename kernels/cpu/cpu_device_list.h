/* kernels/cpu/cpu_device_list.h: the CPU as device_list tells it. */
#ifndef QUIRE_KERNELS_CPU_DEVICE_LIST_H
#define QUIRE_KERNELS_CPU_DEVICE_LIST_H

#include "kernels/device_list.h"

void cpu_device_facts(struct device_facts *out);

#endif
