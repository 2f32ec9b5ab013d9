#include "tests/cuda_on_cpu/emu_stream.h"

#include <algorithm>
#include <deque>
#include <memory>
#include <new>
#include <time.h>
#include <vector>

/* The names are those of CUDA's own opaque types. */
struct CUgraph_st {
    std::vector<emu_work> nodes;
};

struct CUgraphExec_st {
    std::vector<emu_work> nodes;
};

struct capture {
    cudaStream_t origin;
    bool spoilt;
    std::vector<cudaStream_t> members;
    struct CUgraph_st graph;
};

struct CUstream_st {
    int device;
    std::deque<emu_work> queue;
    uint64_t n_enqueued, n_done;
    struct capture *capture;
    uint64_t n_captured, n_joined; /* of this stream; how many of them the origin waits for */
};

struct CUevent_st {
    cudaStream_t stream;    /* where it was recorded last, or NULL */
    uint64_t position;      /* operations of the stream that it waits for */
    struct capture *capture;
    uint64_t captured_position;
    int device;
    bool timed;
    double milliseconds;
};

static cudaError_t sticky, last;
static struct capture *active;
static uint64_t counters[EMU_COUNTERS];

static std::vector<cudaStream_t> &streams(void)
{
    static std::vector<cudaStream_t> all;
    return all;
}

/* Stream 0: a stream like the others. What runs on it is not ordered with non-blocking streams, and
 * no others can be made. */
static cudaStream_t stream_of(cudaStream_t stream)
{
    static struct CUstream_st zero;
    if (stream != NULL)
        return stream;
    if (std::find(streams().begin(), streams().end(), &zero) == streams().end())
        streams().push_back(&zero);
    return &zero;
}

/* --- errors and counts --- */

cudaError_t emu_fail(cudaError_t error)
{
    if (error != cudaSuccess && error != cudaErrorNotReady)
        last = error;
    return error;
}

cudaError_t emu_status(void)
{
    return sticky;
}

cudaError_t emu_outside_of_capture(void)
{
    if (active == NULL)
        return emu_fail(sticky);
    active->spoilt = true;
    return emu_fail(cudaErrorStreamCaptureUnsupported);
}

void emu_count(enum emu_counter counter)
{
    counters[counter]++;
}

uint64_t emu_counted(enum emu_counter counter)
{
    return counters[counter];
}

cudaError_t cudaGetLastError(void)
{
    cudaError_t error = sticky != cudaSuccess ? sticky : last;
    last = cudaSuccess;
    return error;
}

cudaError_t cudaPeekAtLastError(void)
{
    return sticky != cudaSuccess ? sticky : last;
}

/* --- running --- */

static void retire_one(cudaStream_t stream)
{
    emu_work work = std::move(stream->queue.front());
    stream->queue.pop_front();
    if (sticky == cudaSuccess)
        sticky = work();
    stream->n_done++;
}

static cudaError_t run_to(cudaStream_t stream, uint64_t position)
{
    while (stream->n_done < position)
        retire_one(stream);
    return emu_fail(sticky);
}

cudaError_t emu_run_stream(cudaStream_t stream)
{
    stream = stream_of(stream);
    return run_to(stream, stream->n_enqueued);
}

cudaError_t emu_run_all(void)
{
    for (size_t i = 0; i < streams().size(); i++)
        emu_run_stream(streams()[i]);
    return emu_fail(sticky);
}

cudaError_t emu_enqueue(cudaStream_t stream, emu_work work)
{
    if (sticky != cudaSuccess)
        return emu_fail(sticky);
    stream = stream_of(stream);
    if (stream->capture != NULL) {
        stream->capture->graph.nodes.push_back(std::move(work));
        stream->n_captured++;
    } else {
        stream->queue.push_back(std::move(work));
        stream->n_enqueued++;
    }
    return cudaSuccess;
}

/* --- streams --- */

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *out, unsigned flags, int)
{
    if (flags != cudaStreamNonBlocking) /* a blocking one would wait for stream 0 behind our back */
        return emu_fail(cudaErrorNotSupported);
    cudaError_t error = emu_status();
    if (error != cudaSuccess)
        return emu_fail(error);
    *out = new CUstream_st();
    (*out)->device = emu_current_device();
    streams().push_back(*out);
    return cudaSuccess;
}

/* Stream 0 is that of the current device. */
int emu_stream_device(cudaStream_t stream)
{
    return stream != NULL ? stream->device : emu_current_device();
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned flags)
{
    return cudaStreamCreateWithPriority(out, flags, 0);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    cudaError_t error = emu_outside_of_capture();
    emu_run_all(); /* what others have queued may wait for events of this one */
    streams().erase(std::find(streams().begin(), streams().end(), stream));
    delete stream;
    return error;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    emu_count(EMU_SYNCHRONISATIONS);
    cudaError_t error = emu_outside_of_capture();
    return error != cudaSuccess ? error : emu_run_stream(stream);
}

cudaError_t cudaStreamQuery(cudaStream_t stream)
{
    cudaError_t error = emu_outside_of_capture();
    if (error != cudaSuccess)
        return error;
    stream = stream_of(stream);
    if (!stream->queue.empty())
        retire_one(stream);
    if (sticky != cudaSuccess)
        return emu_fail(sticky);
    return stream->queue.empty() ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaDeviceSynchronize(void)
{
    emu_count(EMU_SYNCHRONISATIONS);
    cudaError_t error = emu_outside_of_capture();
    return error != cudaSuccess ? error : emu_run_all();
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void *argument)
{
    return emu_enqueue(stream, [=] {
        function(argument);
        return cudaSuccess;
    });
}

/* --- events --- */

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned flags)
{
    *out = new CUevent_st();
    (*out)->device = emu_current_device();
    (*out)->timed = (flags & cudaEventDisableTiming) == 0;
    return emu_fail(sticky);
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    if (event->stream != NULL)
        run_to(event->stream, event->position); /* what is queued may still name it */
    delete event;
    return emu_fail(sticky);
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    if (event->device != emu_stream_device(stream))
        return emu_fail(cudaErrorInvalidResourceHandle);
    stream = stream_of(stream);
    if (stream->capture != NULL) {
        event->capture = stream->capture;
        event->stream = stream;
        event->captured_position = stream->n_captured;
        return cudaSuccess;
    }
    emu_count(EMU_EVENTS);
    cudaError_t error = emu_enqueue(stream, [=] {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        event->milliseconds = (double)now.tv_sec * 1e3 + (double)now.tv_nsec * 1e-6;
        return cudaSuccess;
    });
    event->capture = NULL;
    event->stream = stream;
    event->position = stream->n_enqueued;
    return error;
}

/* While captured: the order of calls already is the order; only who joins must be known. */
static cudaError_t wait_captured(cudaStream_t stream, cudaEvent_t event)
{
    struct capture *capture = event->capture;
    if (capture == NULL || capture != active)
        return emu_fail(cudaErrorStreamCaptureIsolation);
    if (stream->capture == NULL) {
        stream->capture = capture;
        stream->n_captured = stream->n_joined = 0;
        capture->members.push_back(stream);
    }
    event->stream->n_joined = std::max(event->stream->n_joined, event->captured_position);
    return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned)
{
    stream = stream_of(stream);
    if (stream->capture != NULL || event->capture != NULL)
        return wait_captured(stream, event);
    if (event->stream == NULL) /* never recorded: nothing to wait for */
        return emu_fail(sticky);
    cudaStream_t other = event->stream;
    uint64_t position = event->position;
    return emu_enqueue(stream, [=] { return run_to(other, position); });
}

cudaError_t cudaEventQuery(cudaEvent_t event)
{
    if (event->capture != NULL)
        return emu_fail(cudaErrorCapturedEvent);
    cudaError_t error = emu_outside_of_capture();
    if (error != cudaSuccess || event->stream == NULL)
        return error;
    bool is_news = event->stream->n_done < event->position;
    if (is_news)
        retire_one(event->stream);
    if (sticky != cudaSuccess)
        return emu_fail(sticky);
    if (event->stream->n_done < event->position)
        return cudaErrorNotReady;
    if (is_news && !event->stream->queue.empty())
        emu_count(EMU_EVENTS_AHEAD);
    return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    emu_count(EMU_SYNCHRONISATIONS);
    if (event->capture != NULL)
        return emu_fail(cudaErrorCapturedEvent);
    cudaError_t error = emu_outside_of_capture();
    if (error != cudaSuccess || event->stream == NULL)
        return error;
    return run_to(event->stream, event->position);
}

cudaError_t cudaEventElapsedTime(float *out, cudaEvent_t begin, cudaEvent_t end)
{
    if (begin->stream == NULL || end->stream == NULL || !begin->timed || !end->timed)
        return emu_fail(cudaErrorInvalidResourceHandle);
    if (begin->stream->n_done < begin->position || end->stream->n_done < end->position)
        return emu_fail(cudaErrorNotReady);
    *out = (float)(end->milliseconds - begin->milliseconds);
    return emu_fail(sticky);
}

/* --- graphs --- */

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode)
{
    if (stream == NULL) /* as on the device */
        return emu_fail(cudaErrorStreamCaptureUnsupported);
    cudaError_t error = emu_outside_of_capture();
    if (error != cudaSuccess)
        return error;
    active = new capture();
    active->origin = stream;
    active->members.push_back(stream);
    stream->capture = active;
    stream->n_captured = stream->n_joined = 0;
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *out)
{
    struct capture *capture = stream->capture;
    *out = NULL;
    if (capture == NULL)
        return emu_fail(cudaErrorIllegalState);
    if (capture->origin != stream)
        return emu_fail(cudaErrorStreamCaptureUnmatched);
    cudaError_t error = capture->spoilt ? cudaErrorStreamCaptureInvalidated : cudaSuccess;
    for (cudaStream_t member : capture->members) {
        if (member != stream && member->n_joined < member->n_captured && error == cudaSuccess)
            error = cudaErrorStreamCaptureUnjoined;
        member->capture = NULL;
    }
    if (error == cudaSuccess)
        *out = new CUgraph_st(std::move(capture->graph));
    active = NULL;
    delete capture;
    return emu_fail(error);
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, enum cudaStreamCaptureStatus *out)
{
    stream = stream_of(stream);
    *out = stream->capture == NULL     ? cudaStreamCaptureStatusNone
           : stream->capture->spoilt ? cudaStreamCaptureStatusInvalidated
                                       : cudaStreamCaptureStatusActive;
    return emu_fail(sticky);
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *out, cudaGraph_t graph, unsigned long long)
{
    *out = new CUgraphExec_st{graph->nodes};
    return emu_fail(sticky);
}

/* Work in the stream's order, of which nothing shows here. */
cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t stream)
{
    return emu_enqueue(stream, [] { return cudaSuccess; });
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream)
{
    emu_count(EMU_GRAPH_LAUNCHES);
    auto nodes = std::make_shared<std::vector<emu_work>>(exec->nodes);
    return emu_enqueue(stream, [nodes] {
        for (const emu_work &node : *nodes) {
            cudaError_t error = node();
            if (error != cudaSuccess)
                return error;
        }
        return cudaSuccess;
    });
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec)
{
    delete exec;
    return emu_fail(sticky);
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    delete graph;
    return emu_fail(sticky);
}
