/* kvcache/kv_host.h: a second tier for full pages, in memory of the host: what gives way on the
 * device goes there, and comes back when a prompt goes on with it.
 *
 *   pages of the pool --- gives way ---> slot         kv_host_put
 *   pages of the pool <--- is wanted --- slot         kv_host_hold, kv_host_get; the slot keeps it:
 *                                                     a second time is free
 *
 * Each group has slots of its page's size; a slot is found by the page's key, which says all that
 * its bytes depend on. When all slots are taken, the one that was used longest ago is.
 *
 * On a GPU slots are pinned, and pages travel on two streams beside the steps, one each way:
 *
 *   out      | page 7 to slot 2 |               | page 9 to slot 3 |
 *   steps        | step n |     | zero 7, step n+1 |   step n+2    |   ...
 *   in                          | slots to pages 8, 9 ...  |
 *
 *   a step that writes into a page    behind the copies of what was put, and of those pages on
 *                                     their way that were put: kv_host_order, on the device
 *   pages that come                   behind what was put, since it was in the same places, and
 *                                     behind the steps under way, which may still read there what
 *                                     has left: kv_host_send, on the device
 *   a step that reads them            when the host has seen that they are here: kv_host_is_idle
 *
 * A page that is put has no step under way that writes it: all its tokens are committed. A slot
 * that pages come from is nobody else's until they are here. A failed copy fails the steps behind
 * it. A CPU copies inside of kv_host_order and kv_host_is_idle.
 *
 * Thread: engine only. Allocates in kv_host_create and nowhere else.
 */
#ifndef QUIRE_KVCACHE_KV_HOST_H
#define QUIRE_KVCACHE_KV_HOST_H

#include "kernels/device.h"
#include "kernels/kv_view.h"
#include "kvcache/page_key.h"

struct kv_host;
struct why;

struct kv_host_spec {
    uint32_t n_groups;
    size_t page_bytes[KV_GROUPS_MAX];
    uint32_t n_pages[KV_GROUPS_MAX]; /* of the device's pool */
    uint8_t *pages[KV_GROUPS_MAX];   /* device [n_pages, page_bytes] */
    uint32_t n_slots[KV_GROUPS_MAX]; /* at least one */
};

/* STATUS_NO_MEMORY with needed and free bytes; the caller frees *out before the pools. */
int kv_host_create(struct device *device, const struct kv_host_spec *spec, struct kv_host **out,
                   struct why *why);
void kv_host_free(struct kv_host *host); /* waits for what is on its way; NULL is allowed */

bool kv_host_has(const struct kv_host *host, uint32_t g, const struct page_key *key);

/* --- there --- */

/* The page gives way, and is copied unless there is a copy; not copied either when pages come from
 * all slots: then it is lost. */
void kv_host_put(struct kv_host *host, uint32_t g, const struct page_key *key, page_id page);
/* Before ops are enqueued on `steps` that write into pages which were put. */
void kv_host_order(struct kv_host *host, struct stream *steps);

/* --- back --- */

/* While nothing is on its way: the slot of that key stays until then, if there is one. */
bool kv_host_hold(struct kv_host *host, uint32_t g, const struct page_key *key);
/* Into that page, which nobody reads yet; its slot is held. */
void kv_host_get(struct kv_host *host, uint32_t g, const struct page_key *key, page_id page);
/* All that was got is on its way, once each time. `steps` has no list half enqueued. */
void kv_host_send(struct kv_host *host, const struct stream *steps);
/* Whether all of it is here; never waits for a GPU. */
bool kv_host_is_idle(struct kv_host *host);
/* The page is got, and not here as far as is known. */
bool kv_host_is_coming(const struct kv_host *host, uint32_t g, page_id page);

struct kv_host_stats {
    uint64_t n_slots, n_used; /* all groups */
    uint64_t n_put, n_got;    /* pages copied, ever */
};
void kv_host_read_stats(const struct kv_host *host, struct kv_host_stats *out);
/* The invariant; STATUS_INTERNAL names what is broken. O(slots). */
int kv_host_check(const struct kv_host *host, struct why *why);

#endif
