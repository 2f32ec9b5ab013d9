#include "kernels/cpu/cpu_ops.h"

#include <assert.h>
#include <string.h>

#include "base/status.h"

static void run_count(const struct cpu_worker *worker, const void *args)
{
    const struct count_args *count = args;
    if (worker->idx != 0)
        return;
    uint32_t *counts = count->counts + (size_t)count->slot * count->vocabulary;
    if (count->reset)
        memset(counts, 0, count->vocabulary * sizeof *counts);
    for (uint32_t i = 0; i < count->n; i++) {
        if (count->ids[i] < count->vocabulary)
            counts[count->ids[i]]++;
        else
            cpu_worker_fail(worker, STATUS_OUT_OF_RANGE);
    }
}

void cpu_count(struct stream *stream, const struct count_args *args)
{
    assert(args->counts != NULL && (args->n == 0 || args->ids != NULL));
    cpu_stream_push(stream, "count", run_count, args, sizeof *args, true);
}
