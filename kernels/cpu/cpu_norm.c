#include "kernels/cpu/cpu_norm.h"

#include <assert.h>

#include "kernels/cpu/cpu_math.h"
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/cpu_panel.h"
#include "kernels/cpu/cpu_x86.h"

struct norm_run {
    struct norm_args args;
    cpu_norm_row *row;
    const struct cpu_panel_ops *panel;
    enum activations activations;
};

void cpu_norm_row_scalar(const float *x, const float *weight, float eps, uint32_t width, float *out)
{
    float lanes[16] = {0};
    for (uint32_t i = 0; i < width; i++)
        lanes[i % 16] = fmaf(x[i], x[i], lanes[i % 16]);
    float scale = 1.0f / sqrtf(cpu_fold16(lanes) / (float)width + eps);
    for (uint32_t i = 0; i < width; i++)
        out[i] = weight == NULL ? x[i] * scale : x[i] * scale * weight[i];
}

static void run_norm(const struct cpu_worker *worker, const void *args)
{
    const struct norm_run *run = args;
    const struct norm_args *norm = &run->args;
    float *out = worker->scratch;
    for (uint32_t r = (uint32_t)worker->idx; r < norm->n_rows; r += (uint32_t)worker->n_workers) {
        run->row(norm->x + (size_t)r * norm->width, norm->weight, norm->eps, norm->width, out);
        run->panel->write(&norm->out, run->activations, r, norm->n_rows, 0, norm->width, out);
    }
}

static cpu_norm_row *norm_row_of(enum isa isa)
{
    if (isa == ISA_AVX512)
        return CPU_X86(cpu_norm_row_avx512);
    if (isa == ISA_AVX2)
        return CPU_X86(cpu_norm_row_avx2);
    return cpu_norm_row_scalar;
}

void cpu_norm(struct stream *stream, const struct norm_args *args)
{
    assert(args->width > 0 && args->width * sizeof(float) <= CPU_SCRATCH_BYTES);
    assert(args->out.width == args->width && args->n_rows <= args->out.max_rows);
    struct norm_run run = {
        .args = *args,
        .row = norm_row_of(stream_isa(stream)),
        .panel = cpu_panel_ops(stream_isa(stream)),
        .activations = stream_activations(stream),
    };
    cpu_stream_push(stream, "norm", run_norm, &run, sizeof run, true);
}
