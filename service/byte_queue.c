#include "service/byte_queue.h"

#include "base/status.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_BYTES 256

void byte_queue_init(struct byte_queue *queue, size_t *held)
{
    *queue = (struct byte_queue){.held = held};
}

void byte_queue_release(struct byte_queue *queue)
{
    free(queue->bytes);
    *queue->held -= queue->cap;
    *queue = (struct byte_queue){.held = queue->held};
}

int byte_queue_reserve(struct byte_queue *queue, size_t n)
{
    if (queue->head + queue->len + n <= queue->cap)
        return STATUS_OK;
    size_t cap = queue->cap == 0 ? FIRST_BYTES : queue->cap;
    while (cap < queue->len + n)
        cap *= 2;
    if (cap == queue->cap && queue->head >= cap / 2) { /* sliding pays for itself */
        memmove(queue->bytes, queue->bytes + queue->head, queue->len);
        queue->head = 0;
        return STATUS_OK;
    }
    if (cap == queue->cap)
        cap *= 2;
    uint8_t *bytes = malloc(cap);
    if (bytes == NULL)
        return STATUS_NO_MEMORY;
    if (queue->len != 0)
        memcpy(bytes, queue->bytes + queue->head, queue->len);
    free(queue->bytes);
    *queue->held += cap - queue->cap;
    queue->bytes = bytes;
    queue->head = 0;
    queue->cap = cap;
    return STATUS_OK;
}

void byte_queue_append(struct byte_queue *queue, struct slice bytes)
{
    assert(queue->head + queue->len + bytes.len <= queue->cap);
    if (bytes.len == 0)
        return;
    memcpy(queue->bytes + queue->head + queue->len, bytes.bytes, bytes.len);
    queue->len += bytes.len;
}

struct slice byte_queue_front(const struct byte_queue *queue)
{
    return slice_of(queue->bytes == NULL ? NULL : queue->bytes + queue->head, queue->len);
}

void byte_queue_drop(struct byte_queue *queue, size_t n)
{
    assert(n <= queue->len);
    queue->head += n;
    queue->len -= n;
    if (queue->len != 0)
        return;
    queue->head = 0;
    if (queue->cap > BYTE_QUEUE_KEPT)
        byte_queue_release(queue);
}
