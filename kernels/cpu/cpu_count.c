#include "kernels/cpu/cpu_ops.h"

#include <assert.h>
#include <string.h>

#include "kernels/row_token.h"

static int count_row(const struct count_args *count, uint32_t r)
{
    const struct row_input *input = &count->inputs[r];
    uint32_t slot = count->slots[r], token;
    bool is_output = (slot & COUNT_OUTPUT) != 0;

    if (slot == COUNT_NONE || input->kind == ROW_VECTOR)
        return STATUS_OK;
    slot &= ~COUNT_OUTPUT;
    if (slot >= count->n_slots)
        return STATUS_INTERNAL;
    int status = row_token(input, count->sampled, count->vocabulary, &token);
    if (status < 0)
        return status;
    uint32_t *place = &count->counts[(size_t)slot * count->vocabulary + token];
    *place = is_output ? *place + 2 : *place | 1;
    return STATUS_OK;
}

static void run_count(const struct cpu_worker *worker, const void *args)
{
    const struct count_args *count = args;

    if (worker->idx != 0) /* rows of a slot may name one token */
        return;
    for (uint32_t r = 0; r < count->n_rows; r++) {
        int status = count_row(count, r);
        if (status < 0)
            cpu_worker_fail(worker, status);
    }
}

void cpu_count(struct stream *stream, const struct count_args *args)
{
    assert(args->counts != NULL);
    assert(args->n_rows == 0 || (args->inputs != NULL && args->slots != NULL));
    cpu_stream_push(stream, "count", run_count, args, sizeof *args, true);
}

static void run_count_zero(const struct cpu_worker *worker, const void *args)
{
    const struct count_zero_args *zero = args;

    if (worker->idx == 0)
        memset(zero->counts + (size_t)zero->slot * zero->vocabulary, 0,
               zero->vocabulary * sizeof *zero->counts);
}

void cpu_count_zero(struct stream *stream, const struct count_zero_args *args)
{
    assert(args->counts != NULL);
    cpu_stream_push(stream, "count_zero", run_count_zero, args, sizeof *args, true);
}

static void run_count_copy(const struct cpu_worker *worker, const void *args)
{
    const struct count_copy_args *copy = args;

    if (worker->idx == 0)
        memcpy(copy->counts + (size_t)copy->to * copy->vocabulary,
               copy->counts + (size_t)copy->from * copy->vocabulary,
               copy->vocabulary * sizeof *copy->counts);
}

void cpu_count_copy(struct stream *stream, const struct count_copy_args *args)
{
    assert(args->counts != NULL && args->from != args->to);
    cpu_stream_push(stream, "count_copy", run_count_copy, args, sizeof *args, true);
}
