#include "kernels/cuda/cuda_stream.cuh"

#include <stdlib.h>

extern "C" {
#include "base/status.h"
}

struct cuda_graph {
    struct graph base;
    cudaGraphExec_t exec;
};

static int refuse_graph(struct why *why, cudaError_t error)
{
    cudaGetLastError();
    return refuse(why, cuda_status_of(error), "the GPU gives no graph: %s",
                  cudaGetErrorString(error));
}

extern "C" int cuda_graph_begin(struct stream *stream, struct why *why)
{
    return cuda_stream_begin_capture(stream, why);
}

extern "C" int cuda_graph_end(struct stream *stream, struct graph **out, struct why *why)
{
    cudaGraph_t captured;
    int status = cuda_stream_end_capture(stream, &captured, why);
    if (status < 0)
        return refuse_prefix(why, status, "an op cannot be part of a graph");
    struct cuda_graph *graph = (struct cuda_graph *)calloc(1, sizeof *graph);
    cudaError_t error = graph == NULL ? cudaErrorMemoryAllocation : cudaSuccess;
    if (error == cudaSuccess)
        error = cudaGraphInstantiate(&graph->exec, captured, 0);
    cudaGraphDestroy(captured);
    if (error != cudaSuccess) {
        free(graph);
        return refuse_graph(why, error);
    }
    /* what a first launch would allocate is allocated here */
    error = cudaGraphUpload(graph->exec, cuda_stream_handle(stream));
    if (error != cudaSuccess) {
        cudaGraphExecDestroy(graph->exec);
        free(graph);
        return refuse_graph(why, error);
    }
    *out = &graph->base;
    return STATUS_OK;
}

extern "C" void cuda_graph_run(struct stream *stream, const struct graph *graph)
{
    cudaStream_t cuda;
    if (cuda_stream_begin(stream, "graph", &cuda))
        cuda_stream_check(stream, "graph",
                          cudaGraphLaunch(((const struct cuda_graph *)graph)->exec, cuda));
}

extern "C" void cuda_graph_free(struct graph *base)
{
    struct cuda_graph *graph = (struct cuda_graph *)base;
    cuda_device_make_current(base->device);
    cudaGraphExecDestroy(graph->exec);
    free(graph);
}
