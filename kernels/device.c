#include "kernels/device.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/status.h"
#include "kernels/cpu/cpu_device.h"
#include "kernels/cuda/cuda_device.h"
#include "kernels/device_backend.h"

static const char *const names[] = {
    [ISA_AUTO] = "auto",
    [ISA_SCALAR] = "scalar",
    [ISA_AVX2] = "avx2",
    [ISA_AVX512] = "avx512",
};

#define N_ISA (sizeof names / sizeof names[0])
#define NVIDIA_CONTROL "/dev/nvidiactl" /* there where NVIDIA's driver is loaded */

const char *isa_name(enum isa isa)
{
    return (size_t)isa < N_ISA ? names[isa] : "unknown";
}

bool isa_is_available(enum isa isa)
{
    switch (isa) {
    case ISA_AUTO:
    case ISA_SCALAR:
        return true;
#if defined(__x86_64__)
    case ISA_AVX2: /* the builtin also asks the operating system (xgetbv) */
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
               __builtin_cpu_supports("f16c");
    case ISA_AVX512:
        return isa_is_available(ISA_AVX2) && __builtin_cpu_supports("avx512f") &&
               __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vnni");
#endif
    default:
        return false;
    }
}

static int refuse_isa(struct why *why, const char *wanted)
{
    char have[64] = "";
    for (int i = ISA_SCALAR; i < (int)N_ISA; i++) {
        if (!isa_is_available(i))
            continue;
        if (have[0] != 0)
            strcat(have, ", ");
        strcat(have, names[i]);
    }
    return refuse(why, STATUS_UNSUPPORTED,
                  "this machine cannot run the instruction set '%s'; it has %s (--isa, QUIRE_ISA)",
                  wanted, have);
}

/* What was asked for by option, else by QUIRE_ISA, else the best there is. */
static int choose_isa(enum isa asked, enum isa *out, struct why *why)
{
    if (asked == ISA_AUTO) {
        const char *forced = getenv("QUIRE_ISA");
        size_t i = 0;
        if (forced != NULL && forced[0] != 0) {
            while (i < N_ISA && strcmp(names[i], forced) != 0)
                i++;
            if (i == N_ISA)
                return refuse_isa(why, forced);
        }
        asked = (enum isa)i;
    }
    if (asked == ISA_AUTO) {
        asked = ISA_AVX512;
        while (!isa_is_available(asked))
            asked--;
    }
    if (!isa_is_available(asked))
        return refuse_isa(why, isa_name(asked));
    *out = asked;
    return STATUS_OK;
}

static int open_cpu(const struct device_options *options, struct device **out, struct why *why)
{
    struct device_options chosen = *options;
    int status = choose_isa(options->isa, &chosen.isa, why);
    if (status < 0)
        return status;
    const char *strict = getenv("QUIRE_STRICT_DEVICE");
    if (strict != NULL && strcmp(strict, "1") == 0)
        chosen.strict = true;
    return cpu_device_open(&chosen, out, why);
}

/* What chooses among the CPU's ways is refused for a GPU, not dropped. */
static int open_cuda(const struct device_options *options, struct device **out, struct why *why)
{
    static const char *const activations[] = {"16", "int8", "f32"};
    if (cuda_device_open == NULL)
        return refuse(why, STATUS_UNSUPPORTED, "%s", CUDA_ABSENT);
    if (options->isa != ISA_AUTO)
        return refuse(why, STATUS_UNSUPPORTED,
                      "--isa %s is an instruction set of the CPU: leave it out, or give --backend "
                      "cpu",
                      isa_name(options->isa));
    if (options->activations != ACTIVATIONS_16)
        return refuse(why, STATUS_UNSUPPORTED,
                      "a GPU multiplies by f16 activations: leave --activations %s out, or give "
                      "--backend cpu",
                      activations[options->activations]);
    return cuda_device_open(options, out, why);
}

static void log_fallback(const char *reason)
{
    char quoted[WHY_BYTES];
    log_write(LOG_WARN, "backend", "chosen=cpu reason=%s",
              log_quote(quoted, sizeof quoted, reason, strlen(reason)));
}

/* A program without CUDA says nothing of it where there is no GPU either. */
static int open_auto(const struct device_options *options, struct device **out, struct why *why)
{
    struct why reason = {.text = CUDA_ABSENT};
    if (cuda_device_open != NULL && open_cuda(options, out, &reason) == STATUS_OK)
        return STATUS_OK;
    if (cuda_device_open != NULL || access(NVIDIA_CONTROL, F_OK) == 0)
        log_fallback(reason.text);
    return open_cpu(options, out, why);
}

int device_open(const struct device_options *options, struct device **out, struct why *why)
{
    int status;
    switch (options->backend) {
    case BACKEND_CPU:
        if (options->has_index)
            return refuse(why, STATUS_INVALID,
                          "--device %u chooses a GPU and --backend cpu uses none: leave one of "
                          "them out",
                          options->index);
        return open_cpu(options, out, why);
    case BACKEND_CUDA:
        status = open_cuda(options, out, why);
        return status < 0 ? refuse_prefix(why, status, "--backend cuda") : status;
    default:
        if (!options->has_index)
            return open_auto(options, out, why);
        status = open_cuda(options, out, why);
        return status < 0 ? refuse_prefix(why, status, "--device %u", options->index) : status;
    }
}

void device_close(struct device *device)
{
    if (device == NULL)
        return;
    assert(device->n_streams == 0 && device->n_graphs == 0 && device->n_host_blocks == 0);
    device->backend->close(device);
}

const struct ops *device_ops(const struct device *device)
{
    return device->backend->ops;
}

const char *device_name(const struct device *device)
{
    return device->backend->name(device);
}

bool device_is_gpu(const struct device *device)
{
    return device->backend->is_gpu;
}

int device_n_threads(const struct device *device)
{
    return device->backend->n_threads(device);
}

int device_alloc(struct device *device, size_t bytes, void **out, struct why *why)
{
    int status = device->backend->alloc(device, bytes, out, why);
    if (status < 0)
        *out = NULL;
    return status;
}

void device_free(struct device *device, void *memory)
{
    if (memory != NULL)
        device->backend->free(device, memory);
}

uint64_t device_memory_free(const struct device *device)
{
    return device->backend->memory_free(device);
}

int device_alloc_host(struct device *device, size_t bytes, void **out, struct why *why)
{
    int status = device->backend->alloc_host(device, bytes, out, why);
    if (status == STATUS_OK)
        device->n_host_blocks++;
    else
        *out = NULL;
    return status;
}

void device_free_host(struct device *device, void *memory)
{
    if (memory == NULL)
        return;
    device->n_host_blocks--;
    device->backend->free_host(device, memory);
}

uint32_t device_depth(const struct device *device)
{
    return device->backend->depth;
}

int device_upload(struct device *device, void *device_to, const void *host_from, size_t bytes)
{
    return device->backend->upload(device, device_to, host_from, bytes);
}

int device_download(struct device *device, void *host_to, const void *device_from, size_t bytes)
{
    return device->backend->download(device, host_to, device_from, bytes);
}

int stream_create(struct device *device, uint32_t n_ops, struct stream **out, struct why *why)
{
    assert(n_ops > 0);
    int status = device->backend->stream_create(device, n_ops, out, why);
    if (status == STATUS_OK)
        device->n_streams++;
    return status;
}

void stream_free(struct stream *stream)
{
    if (stream == NULL)
        return;
    struct device *device = stream->device;
    device->n_streams--;
    device->backend->stream_free(stream);
}

int stream_status(const struct stream *stream)
{
    return stream->device->backend->stream_status(stream);
}

uint64_t stream_n_enqueued(const struct stream *stream)
{
    return stream->n_enqueued;
}

uint32_t stream_n_under_way(const struct stream *stream)
{
    return stream->n_under_way;
}

void device_write(struct stream *stream, void *device_to, const void *host_from, size_t bytes)
{
    stream->device->backend->write(stream, device_to, host_from, bytes);
}

void device_read(struct stream *stream, void *host_to, const void *device_from, size_t bytes)
{
    stream->device->backend->read(stream, host_to, device_from, bytes);
}

void device_submit(struct stream *stream)
{
    assert(!stream->is_in_graph && stream->n_under_way < device_depth(stream->device));
    stream->device->backend->submit(stream);
    stream->n_under_way++;
}

int device_wait(struct stream *stream, void (*poll)(void *arg), void *arg)
{
    assert(!stream->is_in_graph);
    int status = stream->device->backend->wait(stream, poll, arg);
    if (stream->n_under_way > 0)
        stream->n_under_way--;
    return status;
}

bool device_is_done(const struct stream *stream)
{
    return stream->n_under_way == 0 || stream->device->backend->is_done(stream);
}

void device_start(struct stream *stream)
{
    assert(!stream->is_in_graph && stream->n_under_way == 0);
    stream->device->backend->start(stream);
}

void stream_follow(struct stream *stream, const struct stream *first)
{
    assert(stream != first && stream->device == first->device);
    assert(!stream->is_in_graph && !first->is_in_graph);
    stream->device->backend->follow(stream, first);
}

/* --- graphs --- */

bool device_has_graphs(const struct device *device)
{
    return device->backend->graph_begin != NULL;
}

static int refuse_graphs(const struct device *device, struct why *why)
{
    return refuse(why, STATUS_UNSUPPORTED, "%s has no graphs: its lists are run as they are",
                  device_name(device));
}

int graph_begin(struct stream *stream, struct why *why)
{
    if (!device_has_graphs(stream->device))
        return refuse_graphs(stream->device, why);
    assert(!stream->is_in_graph);
    int status = stream->device->backend->graph_begin(stream, why);
    stream->is_in_graph = status == STATUS_OK;
    return status;
}

int graph_end(struct stream *stream, struct graph **out, struct why *why)
{
    struct device *device = stream->device;
    if (!device_has_graphs(device))
        return refuse_graphs(device, why);
    stream->is_in_graph = false;
    int status = device->backend->graph_end(stream, out, why);
    if (status == STATUS_OK) {
        **out = (struct graph){.device = device, .stream = stream};
        device->n_graphs++;
    }
    return status;
}

void graph_run(struct stream *stream, const struct graph *graph)
{
    assert(graph->stream == stream && !stream->is_in_graph);
    stream->device->backend->graph_run(stream, graph);
}

void graph_free(struct graph *graph)
{
    if (graph == NULL)
        return;
    struct device *device = graph->device;
    device->n_graphs--;
    device->backend->graph_free(graph);
}
