/* service/byte_queue.h: bytes in, bytes out, in order, in one growing piece of memory.
 *
 *        head          head + len       cap
 *          v              v              v
 *   | gone |  bytes ....  |     free     |
 *
 * Every queue adds its cap to an account, so that the sum over all calls is known. Empty queues
 * keep at most BYTE_QUEUE_KEPT bytes. Thread: the loop.
 */
#ifndef QUIRE_SERVICE_BYTE_QUEUE_H
#define QUIRE_SERVICE_BYTE_QUEUE_H

#include "base/slice.h"

#include <stdbool.h>

#define BYTE_QUEUE_KEPT 4096

struct byte_queue {
    uint8_t *bytes; /* [cap] */
    size_t head, len, cap;
    size_t *held;   /* sum of cap over all queues of the account */
};

void byte_queue_init(struct byte_queue *queue, size_t *held);
void byte_queue_release(struct byte_queue *queue); /* empty afterwards and still usable */
/* Makes room for n bytes in all behind what is there; STATUS_NO_MEMORY. Appends up to n then cannot
 * fail. */
int byte_queue_reserve(struct byte_queue *queue, size_t n);
void byte_queue_append(struct byte_queue *queue, struct slice bytes); /* asserts the room */
/* all of it; valid until a change */
struct slice byte_queue_front(const struct byte_queue *queue);
void byte_queue_drop(struct byte_queue *queue, size_t n);             /* n <= len */

#endif
