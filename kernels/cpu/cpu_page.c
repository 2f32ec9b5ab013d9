#include "kernels/cpu/cpu_page.h"

#include <assert.h>
#include <string.h>

#include "kernels/cpu/cpu_ops.h"

size_t cpu_page_layer_bytes(const struct kv_shape *shape, enum kv_dtype dtype)
{
    return shape->n_kv_heads * cpu_page_head(shape, dtype).bytes;
}

/* This worker's part of a page, in whole cache lines. */
static size_t page_share(const struct cpu_worker *worker, size_t page_bytes, size_t *begin)
{
    size_t share = (page_bytes / (size_t)worker->n_workers + 64) / 64 * 64;
    *begin = share * (size_t)worker->idx;
    if (*begin >= page_bytes)
        return 0;
    return page_bytes - *begin < share ? page_bytes - *begin : share;
}

static void run_zero(const struct cpu_worker *worker, const void *args)
{
    const struct page_zero_args *zero = args;
    size_t begin, n = page_share(worker, zero->page_stride, &begin);
    for (uint32_t i = 0; n > 0 && i < zero->n; i++)
        memset(zero->base + zero->pages[i] * zero->page_stride + begin, 0, n);
}

static void run_page_copy(const struct cpu_worker *worker, const void *args)
{
    const struct page_copy_args *copy = args;
    size_t begin, n = page_share(worker, copy->page_stride, &begin);
    for (uint32_t i = 0; n > 0 && i < copy->n; i++)
        memcpy(copy->base + copy->to[i] * copy->page_stride + begin,
               copy->base + copy->from[i] * copy->page_stride + begin, n);
}

void cpu_page_zero(struct stream *stream, const struct page_zero_args *args)
{
    assert(args->base != NULL && (args->n == 0 || args->pages != NULL));
    cpu_stream_push(stream, "page_zero", run_zero, args, sizeof *args, true);
}

void cpu_page_copy(struct stream *stream, const struct page_copy_args *args)
{
    assert(args->base != NULL && (args->n == 0 || (args->from != NULL && args->to != NULL)));
    cpu_stream_push(stream, "page_copy", run_page_copy, args, sizeof *args, true);
}
