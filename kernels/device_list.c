#include "kernels/device_list.h"

#include "base/status.h"
#include "kernels/cpu/cpu_device_list.h"
#include "kernels/cuda/cuda_device.h"

int device_list(enum backend backend, struct device_facts out[DEVICES_MAX], uint32_t *n,
                struct why *why)
{
    *n = 0;
    if (backend == BACKEND_CPU) {
        *n = 1;
        cpu_device_facts(&out[0]);
        return STATUS_OK;
    }
    if (cuda_device_list == NULL)
        return refuse(why, STATUS_UNSUPPORTED, "%s", CUDA_ABSENT);
    return cuda_device_list(out, n, why);
}
