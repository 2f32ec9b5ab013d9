#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/cpu_panel.h"

#include <assert.h>
#include <string.h>

struct quantize_run {
    struct quantize_args args;
    const struct cpu_panel_ops *panel;
    enum activations activations;
};

static void run_quantize(const struct cpu_worker *worker, const void *entry)
{
    const struct quantize_run *run = entry;
    const struct quantize_args *args = &run->args;
    float *values = worker->scratch;
    for (uint32_t r = (uint32_t)worker->idx; r < args->n_rows; r += (uint32_t)worker->n_workers) {
        const float *x = args->x + (size_t)r * args->x_stride;
        for (uint32_t h = 0; h < args->n_heads; h++)
            memcpy(values + (size_t)h * args->n, x + (size_t)h * args->head_stride,
                   args->n * sizeof *values);
        run->panel->write(&args->out, run->activations, r, args->n_rows, 0, args->out.width,
                          values);
    }
}

void cpu_quantize(struct stream *stream, const struct quantize_args *args)
{
    assert(args->out.width == args->n_heads * args->n && args->n_rows <= args->out.max_rows);
    assert(args->out.width > 0 && args->out.width * sizeof(float) <= CPU_SCRATCH_BYTES);
    assert(args->n_heads == 1 || args->head_stride >= args->n);
    struct quantize_run run = {.args = *args,
                               .panel = cpu_panel_ops(stream_isa(stream)),
                               .activations = stream_activations(stream)};
    cpu_stream_push(stream, "quantize", run_quantize, &run, sizeof run, true);
}
