/* kvcache/kv_tables.h: the block tables of one group as the device has them, a row for each slot.
 *
 *   device   | first_page [n_slots] | table [n_slots, capacity] |   PAGE_NONE behind the last page
 *   sent     the same: what the device holds when everything enqueued has passed
 *   staged   the same, pinned, one for each list that may be under way: what copies are made from
 *
 * A slot's copies are made from another `staged` each time, so that no list under way sees memory
 * that a later one changes. Thread: engine only. Allocates in kv_tables_init and nowhere else.
 */
#ifndef QUIRE_KVCACHE_KV_TABLES_H
#define QUIRE_KVCACHE_KV_TABLES_H

#include "kernels/device.h"
#include "kvcache/page_table.h"

#define KV_TABLES_OPS_MAX 2 /* of one send: entries, first_page */

struct kv_tables {
    struct device *device;
    uint32_t n_slots, capacity;
    uint32_t *on_device; /* device */
    uint32_t *sent;      /* host */
    uint32_t *staged[DEVICE_DEPTH_MAX]; /* host; as many as device_depth */
    uint32_t *n_filled;  /* [n_slots]: entries sent that are pages */
    uint8_t *turns;      /* [n_slots]: which `staged` the slot's next copies are made from */
};

/* `tables` is zeroed; on failure the caller releases it all the same. Every entry is PAGE_NONE.
 * STATUS_NO_MEMORY. */
int kv_tables_init(struct kv_tables *tables, struct device *device, uint32_t n_slots,
                   uint32_t capacity, struct why *why);
void kv_tables_release(struct kv_tables *tables);
/* Before the run: a table of one page, at once. STATUS_* of device_upload. */
int kv_tables_put(struct kv_tables *tables, uint32_t slot, page_id page);
/* Enqueues what the device has not of a slot's table: adjacent entries in one copy. Once a slot in
 * each list, with fewer than device_depth lists under way. */
void kv_tables_send(struct kv_tables *tables, uint32_t slot, struct page_table *table,
                    struct stream *stream);
/* That entries told to be sent were, and that the rest of the row is PAGE_NONE. STATUS_INTERNAL. */
int kv_tables_check(const struct kv_tables *tables, uint32_t slot, const struct page_table *table,
                    struct why *why);

/* device [n_slots] and [n_slots, capacity] */
const uint32_t *kv_tables_first_page(const struct kv_tables *tables);
const page_id *kv_tables_pages(const struct kv_tables *tables);

#endif
