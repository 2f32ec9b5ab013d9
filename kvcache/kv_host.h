/* kvcache/kv_host.h: a second tier for full pages, in memory of the host: what gives way on the
 * device goes there, and comes back when a prompt goes on with it.
 *
 *   pages of the pool --- gives way ---> slot         a copy, on a stream of its own
 *   pages of the pool <--- is wanted --- slot         the slot keeps it: a second time is free
 *
 * Each group has slots of its page's size; a slot is found by the page's key, which says all that
 * its bytes depend on. When all slots are taken, the one that was used longest ago is.
 *
 * Copies are enqueued, and made when kv_host_flush returns: before anything else is enqueued that
 * reads or writes those pages. Thread: engine only. Allocates in kv_host_create and nowhere else.
 */
#ifndef QUIRE_KVCACHE_KV_HOST_H
#define QUIRE_KVCACHE_KV_HOST_H

#include "kernels/device.h"
#include "kvcache/page_key.h"

struct kv_host;
struct why;

struct kv_host_spec {
    uint32_t n_groups;
    size_t page_bytes[KV_GROUPS_MAX];
    uint32_t n_slots[KV_GROUPS_MAX]; /* at least one */
};

/* STATUS_NO_MEMORY with needed and free bytes; the caller frees *out. */
int kv_host_create(struct device *device, const struct kv_host_spec *spec, struct kv_host **out,
                   struct why *why);
void kv_host_free(struct kv_host *host); /* NULL is allowed */

bool kv_host_has(const struct kv_host *host, uint32_t g, const struct page_key *key);
/* Enqueues a copy of the page, unless there is one. page: device memory. */
void kv_host_put(struct kv_host *host, uint32_t g, const struct page_key *key,
                 const uint8_t *page);
/* Enqueues the way back; there is one (asserted). */
void kv_host_get(struct kv_host *host, uint32_t g, const struct page_key *key, uint8_t *page);
/* The copies are made. STATUS_*: the device is lost, and so is what was copied. */
int kv_host_flush(struct kv_host *host);

struct kv_host_stats {
    uint64_t n_slots, n_used; /* all groups */
    uint64_t n_put, n_got;    /* pages copied, ever */
};
void kv_host_read_stats(const struct kv_host *host, struct kv_host_stats *out);
/* The invariant; STATUS_INTERNAL names what is broken. O(slots). */
int kv_host_check(const struct kv_host *host, struct why *why);

#endif
