/* kernels/cuda/cuda_device.h: the CUDA device and its streams, as C sees them: no CUDA type.
 *
 * A program has CUDA when it is linked with kernels/cuda; device.c asks whether cuda_device_open is
 * there. Errors of calls and of kernels stick to the stream: a kernel puts a status into the
 * stream's error word, which comes to the host behind each list.
 */
#ifndef QUIRE_KERNELS_CUDA_DEVICE_H
#define QUIRE_KERNELS_CUDA_DEVICE_H

#include "kernels/device_backend.h"
#include "kernels/device_list.h"
#include "kernels/ops.h"

/* what a program says that has none */
#define CUDA_ABSENT                                                                                \
    "this program was built without CUDA; scripts/setup --cuda and cmake --preset cuda make one "  \
    "with it"

extern const struct ops cuda_ops;
extern const struct device_backend cuda_backend;

/* Device options->index. STATUS_UNAVAILABLE: no driver, no device, or a chip that this program
 * has no code for; the sentence says which. STATUS_OUT_OF_RANGE: fewer devices. */
__attribute__((weak)) int cuda_device_open(const struct device_options *options,
                                           struct device **out, struct why *why);
/* At most DEVICES_MAX, those that cannot be used too. STATUS_UNAVAILABLE as above. */
__attribute__((weak)) int cuda_device_list(struct device_facts *out, uint32_t *n, struct why *why);

/* --- what cuda_backend is made of --- */

/* For the calling thread. False: CUDA refuses, and calls behind it would be to another device. */
bool cuda_device_make_current(const struct device *device);
void cuda_device_close(struct device *device);
const char *cuda_device_name(const struct device *device);
int cuda_device_n_threads(const struct device *device);
int cuda_device_alloc(struct device *device, size_t bytes, void **out, struct why *why);
void cuda_device_free(struct device *device, void *memory);
int cuda_device_alloc_host(struct device *device, size_t bytes, void **out, struct why *why);
void cuda_device_free_host(struct device *device, void *memory);
uint64_t cuda_device_memory_free(const struct device *device);
int cuda_device_upload(struct device *device, void *device_to, const void *host_from, size_t bytes);
int cuda_device_download(struct device *device, void *host_to, const void *device_from,
                         size_t bytes);

int cuda_stream_create(struct device *device, uint32_t n_ops, struct stream **out, struct why *why);
void cuda_stream_free(struct stream *stream);
int cuda_stream_status(const struct stream *stream);
void cuda_stream_write(struct stream *stream, void *device_to, const void *host_from, size_t bytes);
void cuda_stream_read(struct stream *stream, void *host_to, const void *device_from, size_t bytes);
void cuda_stream_submit(struct stream *stream);
int cuda_stream_wait(struct stream *stream, void (*poll)(void *arg), void *arg);
bool cuda_stream_is_done(const struct stream *stream);
void cuda_stream_start(struct stream *stream);
void cuda_stream_follow(struct stream *stream, const struct stream *first);

int cuda_graph_begin(struct stream *stream, struct why *why);
int cuda_graph_end(struct stream *stream, struct graph **out, struct why *why);
void cuda_graph_run(struct stream *stream, const struct graph *graph);
void cuda_graph_free(struct graph *graph);

#endif
