#include "kernels/cpu/cpu_ops.h"

#include <assert.h>
#include <string.h>

#include "kernels/cpu/cpu_weight.h"
#include "kernels/row_token.h"

static int embed_row(const struct embed_args *embed, const struct weight_info *info, uint32_t r)
{
    const struct row_input *input = &embed->inputs[r];
    float *x = embed->x + (size_t)r * info->n_in;
    uint32_t id;

    if (input->kind == ROW_VECTOR && embed->vectors != NULL) {
        memcpy(x, embed->vectors + (size_t)input->value * info->n_in, info->n_in * sizeof(float));
        return STATUS_OK;
    }
    int status = row_token(input, embed->sampled, info->n_out, &id);
    if (status == STATUS_OK)
        cpu_weight_row(embed->table, id, x);
    return status;
}

static void run_embed(const struct cpu_worker *worker, const void *args)
{
    const struct embed_args *embed = args;
    struct weight_info info = cpu_weight_info(embed->table);
    for (uint32_t r = (uint32_t)worker->idx; r < embed->n_rows; r += (uint32_t)worker->n_workers) {
        int status = embed_row(embed, &info, r);
        if (status < 0)
            cpu_worker_fail(worker, status);
    }
}

void cpu_embed(struct stream *stream, const struct embed_args *args)
{
    assert(args->table != NULL);
    assert(args->n_rows == 0 || (args->inputs != NULL && args->x != NULL));
    cpu_stream_push(stream, "embed", run_embed, args, sizeof *args, true);
}
