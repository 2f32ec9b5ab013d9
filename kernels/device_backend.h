/* kernels/device_backend.h: what a backend fills in so that device.h works on it; for device.c and
 * the backends. Each function is the one of device.h with the same last name.
 *
 *   device.c ---> struct device_backend <--- kernels/cpu/cpu_device.c, cpu_stream.c
 *                                       <--- kernels/cuda/cuda_device.cu
 *
 * A backend's own device and stream begin with the structs below.
 */
#ifndef QUIRE_KERNELS_DEVICE_BACKEND_H
#define QUIRE_KERNELS_DEVICE_BACKEND_H

#include "kernels/device.h"

struct device_backend {
    const struct ops *ops;
    bool is_gpu;
    void (*close)(struct device *device);
    const char *(*name)(const struct device *device);
    int (*n_threads)(const struct device *device);

    int (*alloc)(struct device *device, size_t bytes, void **out, struct why *why);
    void (*free)(struct device *device, void *memory);
    uint64_t (*memory_free)(const struct device *device);
    int (*upload)(struct device *device, void *device_to, const void *host_from, size_t bytes);
    int (*download)(struct device *device, void *host_to, const void *device_from, size_t bytes);

    int (*stream_create)(struct device *device, uint32_t n_ops, struct stream **out,
                         struct why *why);
    void (*stream_free)(struct stream *stream);
    int (*stream_status)(const struct stream *stream);
    void (*write)(struct stream *stream, void *device_to, const void *host_from, size_t bytes);
    void (*read)(struct stream *stream, void *host_to, const void *device_from, size_t bytes);
    void (*submit)(struct stream *stream);
    int (*wait)(struct stream *stream, void (*poll)(void *arg), void *arg);
};

struct device {
    const struct device_backend *backend;
    uint32_t n_streams;
};

struct stream {
    struct device *device;
    uint64_t n_enqueued;
};

#endif
