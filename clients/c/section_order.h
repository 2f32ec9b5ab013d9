/* clients/c/section_order.h: sections of a summary that arrive interleaved, shown one by one.
 *
 *   arrives   0.0 a   0.1 x   0.0 b   0.1 y.   0.0 c.   0.2 ..
 *   shown     0.0 a       0.0 b                0.0 c.   0.1 xy.   0.2 ..
 *
 * At most one section is open; its pieces pass through at once, those of others wait. When it ends,
 * the next of the lowest level that waits is opened. Within a level sections are shown by index.
 */
#ifndef QUIRE_CLIENTS_C_SECTION_ORDER_H
#define QUIRE_CLIENTS_C_SECTION_ORDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SECTION_LEVELS_MAX 64

struct section_piece {
    uint32_t level, index;
    uint64_t begin, end; /* bytes of the document */
    const void *text;
    size_t len;
    bool last;
    bool first; /* set for the taker: nothing of this section was shown yet */
};

struct waiting_section;

struct section_order {
    bool (*show)(void *arg, const struct section_piece *piece); /* false: stop */
    void *arg;
    struct waiting_section *waiting;   /* owned */
    uint32_t next[SECTION_LEVELS_MAX]; /* index that is due, by level */
    bool is_open;
    uint32_t open_level;
};

void section_order_init(struct section_order *order,
                        bool (*show)(void *arg, const struct section_piece *piece), void *arg);
void section_order_release(struct section_order *order);

/* False: show said stop, memory is out, or the piece makes no sense (a level out of range, a
 * section that was shown to its end). */
bool section_order_add(struct section_order *order, const struct section_piece *piece);
/* Shows what still waits, by level and index; gaps are passed over. */
bool section_order_flush(struct section_order *order);

#endif
