/* kernels/device_backend.h: what a backend fills in so that device.h works on it; for device.c and
 * the backends. Each function is the one of device.h with the same last name.
 *
 *   device.c ---> struct device_backend <--- kernels/cpu/cpu_device.c, cpu_stream.c
 *                                       <--- kernels/cuda/cuda_{device,stream,graph}.cu
 *
 * A backend's own device, stream and graph begin with the structs below. device.c counts lists: a
 * backend is asked to submit with fewer than `depth` under way.
 */
#ifndef QUIRE_KERNELS_DEVICE_BACKEND_H
#define QUIRE_KERNELS_DEVICE_BACKEND_H

#include "kernels/device.h"

struct device_backend {
    const struct ops *ops;
    bool is_gpu;
    uint32_t depth; /* 1..DEVICE_DEPTH_MAX */
    void (*close)(struct device *device);
    const char *(*name)(const struct device *device);
    int (*n_threads)(const struct device *device);

    int (*alloc)(struct device *device, size_t bytes, void **out, struct why *why);
    void (*free)(struct device *device, void *memory);
    int (*alloc_host)(struct device *device, size_t bytes, void **out, struct why *why);
    void (*free_host)(struct device *device, void *memory);
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
    bool (*is_done)(const struct stream *stream); /* a list is under way */
    void (*start)(struct stream *stream);
    void (*follow)(struct stream *stream, const struct stream *first);

    /* all NULL where there are no graphs */
    int (*graph_begin)(struct stream *stream, struct why *why);
    int (*graph_end)(struct stream *stream, struct graph **out, struct why *why);
    void (*graph_run)(struct stream *stream, const struct graph *graph);
    void (*graph_free)(struct graph *graph);
};

struct device {
    const struct device_backend *backend;
    uint32_t n_streams, n_graphs, n_host_blocks; /* to come home before the close */
};

struct stream {
    struct device *device;
    uint64_t n_enqueued;
    uint32_t n_under_way; /* lists submitted and not yet waited for */
    bool is_in_graph;     /* between graph_begin and graph_end */
};

struct graph {
    struct device *device;
    struct stream *stream; /* that it was made with */
};

#endif
