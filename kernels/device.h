/* kernels/device.h: a device (the CPU, or a GPU), its memory, and streams of work.
 *
 *   enqueue  ops->embed, ..., device_write, device_read         nothing runs, nothing allocates
 *   submit   device_submit(stream)                              ends a list: it may start
 *   wait     device_wait(stream, poll, arg)                     the oldest list has passed
 *
 *   lists    submit n, submit n+1, wait n, submit n+2, wait n+1 ... at most device_depth()
 *            submitted and not yet waited for; they run in order
 *   streams  run beside each other, but for what one follows of another:
 *              copies   | page 3 to the host ... |                     device_start(copies)
 *              steps        | step 8 |           | zero page 3, step 9 ...
 *                                                ^ stream_follow(steps, copies)
 *
 * On the CPU the depth is 1 and the waiting thread is worker 0 of the team: it runs the list
 * between submit and the end of wait, one wake a list, a barrier only where an op says so. A GPU
 * works on one list while the host reads what the one before gave and enqueues the next. `poll` is
 * called on the waiting thread between ops (CPU) or while waiting (GPU), so that the engine can
 * answer admissions while a long step runs; it must not enqueue on this stream.
 *
 * Strict mode (--strict-device, or QUIRE_STRICT_DEVICE=1): device memory is unreadable outside of
 * op execution (mprotect), so no code above ops can lean on host pointers.
 *
 * Errors stick to the stream: after the first one the rest of the list is skipped, device_wait and
 * stream_status give it.
 * Thread: a device and its streams belong to one thread, except device_alloc/free before and after
 * the run.
 */
#ifndef QUIRE_KERNELS_DEVICE_H
#define QUIRE_KERNELS_DEVICE_H

#include "limits.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct device;
struct stream;
struct graph;
struct ops;
struct why;

/* AUTO: a GPU where this program has CUDA and can use it as it is asked to, else the CPU, and then
 * a log record says why. */
enum backend { BACKEND_CPU, BACKEND_CUDA, BACKEND_AUTO };

enum isa { ISA_AUTO, ISA_SCALAR, ISA_AVX2, ISA_AVX512 };

/* What linears multiply integer-block weights by (cpu_kernels.md 14). F32, F16 and BF16 weights
 * always take f32. */
enum activations { ACTIVATIONS_16, ACTIVATIONS_INT8, ACTIVATIONS_F32 };

struct device_options {
    enum backend backend;
    bool has_index;               /* of a GPU; AUTO then falls back to nothing */
    uint32_t index;               /* as device_list counts; 0 where none is given */
    /* the CPU's; a GPU refuses isa and activations that are not the defaults */
    int n_threads;                /* 0: the default, measured (bench/results/threads.csv) */
    enum isa isa;                 /* ISA_AUTO: the best this machine has, or QUIRE_ISA */
    enum activations activations;
    bool strict;
    bool pin;                     /* keep workers on their cores */
};

/* STATUS_UNSUPPORTED: the instruction set is not there (the sentence lists those that are), this
 * program has no CUDA, or a GPU does not do what is asked. STATUS_UNAVAILABLE: no driver, or no GPU
 * that can be used. STATUS_OUT_OF_RANGE: no GPU of that index; the sentence has their number.
 * STATUS_INVALID. STATUS_NO_MEMORY. */
int device_open(const struct device_options *options, struct device **out, struct why *why);
void device_close(struct device *device);     /* asserts that all memory and streams came home */
const struct ops *device_ops(const struct device *device);
/* "cpu avx512, 2 threads", "cuda 0, NVIDIA H100 80GB HBM3" */
const char *device_name(const struct device *device);
bool device_is_gpu(const struct device *device);
int device_n_threads(const struct device *device);
const char *isa_name(enum isa isa);
bool isa_is_available(enum isa isa);

/* Zeroed, aligned to 64 bytes (2 MiB above 4 MiB, huge pages asked for). STATUS_NO_MEMORY with
 * needed and free bytes; *out is NULL then. */
int device_alloc(struct device *device, size_t bytes, void **out, struct why *why);
void device_free(struct device *device, void *memory); /* NULL is allowed */
/* bytes that could still be taken, by the cgroup too */
uint64_t device_memory_free(const struct device *device);

/* Host memory that copies may run beside the host from and to: pinned for a GPU, plain otherwise.
 * Zeroed, aligned to 64 bytes. STATUS_NO_MEMORY; *out is NULL then. */
int device_alloc_host(struct device *device, size_t bytes, void **out, struct why *why);
/* No list that copies from or to it may be under way. NULL is allowed. */
void device_free_host(struct device *device, void *memory);

/* Lists of one stream that may be submitted and not yet waited for: DEVICE_DEPTH_MAX at most. */
uint32_t device_depth(const struct device *device);

/* n_ops: most ops that one list may hold; more is a programming error that sticks as
 * STATUS_INTERNAL. */
int stream_create(struct device *device, uint32_t n_ops, struct stream **out, struct why *why);
/* Waits for what a GPU has under way; the CPU drops a list that was not waited for. */
void stream_free(struct stream *stream);
int stream_status(const struct stream *stream);   /* the sticky error or STATUS_OK */
/* lists submitted and not yet waited for */
uint32_t stream_n_under_way(const struct stream *stream);
/* ops ever enqueued, copies too: for tests and stats */
uint64_t stream_n_enqueued(const struct stream *stream);

/* Enqueued copies between host and device. The host memory must live, and what is written must stay
 * as it is, until the stream has passed. From and to memory of device_alloc_host; any other would
 * make a GPU wait. */
void device_write(struct stream *stream, void *device_to, const void *host_from, size_t bytes);
void device_read(struct stream *stream, void *host_to, const void *device_from, size_t bytes);

/* A graph: ops enqueued once and run many times, with the same arguments and pointers each time.
 * Between begin and end nothing runs and nothing else may be done with the stream; its ops count as
 * one where the graph is run. Made before the run, since making one allocates. STATUS_UNSUPPORTED
 * where the device has none. */
bool device_has_graphs(const struct device *device);
int graph_begin(struct stream *stream, struct why *why); /* or the sticky error */
/* STATUS_UNAVAILABLE, STATUS_NO_MEMORY: the stream is as before graph_begin. */
int graph_end(struct stream *stream, struct graph **out, struct why *why);
/* Enqueues it on the stream that it was made with. */
void graph_run(struct stream *stream, const struct graph *graph);
void graph_free(struct graph *graph); /* NULL is allowed; no list with it may be under way */

void device_submit(struct stream *stream);
/* The sticky error, or STATUS_OK. Nothing submitted: it returns after one poll. */
int device_wait(struct stream *stream, void (*poll)(void *arg), void *arg);
/* Whether device_wait would return at once. A CPU says so always: it works inside of that. */
bool device_is_done(const struct stream *stream);

/* Ends a list that nobody waits for; none may be submitted and not waited for. A GPU starts it, a
 * CPU runs it here: not from a poll. */
void device_start(struct stream *stream);
/* What is enqueued on `stream` from here on runs behind the lists of `first` that are submitted or
 * started: the device sees to it, the host goes on. An error of `first` so far sticks to `stream`
 * too. Two streams of one device; on a CPU `first` has no list that was not waited for. */
void stream_follow(struct stream *stream, const struct stream *first);

/* Outside of the step: copy and wait at once. For loading and tests. */
int device_upload(struct device *device, void *device_to, const void *host_from, size_t bytes);
int device_download(struct device *device, void *host_to, const void *device_from, size_t bytes);

#endif
