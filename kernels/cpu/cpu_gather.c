#include "kernels/cpu/cpu_ops.h"

#include <assert.h>
#include <string.h>

static void run_gather(const struct cpu_worker *worker, const void *args)
{
    const struct gather_args *gather = args;
    size_t width = gather->width;
    for (uint32_t i = (uint32_t)worker->idx; i < gather->n; i += (uint32_t)worker->n_workers)
        memcpy(gather->y + i * width, gather->x + gather->rows[i] * width, width * sizeof(float));
}

void cpu_gather(struct stream *stream, const struct gather_args *args)
{
    assert(args->width > 0);
    assert(args->n == 0 || (args->x != NULL && args->rows != NULL && args->y != NULL));
    cpu_stream_push(stream, "gather", run_gather, args, sizeof *args, true);
}
