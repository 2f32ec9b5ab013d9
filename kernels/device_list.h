/* kernels/device_list.h: what devices there are, asked without opening one. Host, may be slow. */
#ifndef QUIRE_KERNELS_DEVICE_LIST_H
#define QUIRE_KERNELS_DEVICE_LIST_H

#include "kernels/device.h"

#define DEVICE_NAME_BYTES 256

struct device_facts {
    uint32_t index;               /* among those of its backend */
    char name[DEVICE_NAME_BYTES]; /* "AMD EPYC 9554", "NVIDIA H100 80GB HBM3" */
    uint32_t n_cores;             /* that this process may use; of a GPU its multiprocessors */
    uint64_t memory_bytes;        /* of a CPU what this process may use */
    uint64_t memory_free;         /* 0: not known */
    /* of a GPU */
    uint32_t major, minor;        /* compute capability */
    uint64_t shared_bytes;        /* of one block at most */
    uint64_t l2_bytes;
    bool is_usable;               /* this build has code for it */
};

/* *n gets 0 where there are none, and *why the sentence that says why: STATUS_UNSUPPORTED, built
 * without that backend; STATUS_UNAVAILABLE, no driver, one too old, or no device. */
int device_list(enum backend backend, struct device_facts out[DEVICES_MAX], uint32_t *n,
                struct why *why);

#endif
