#include "kvcache/kv_host.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "base/text.h"

#define COPIES_MAX 64 /* of a list */
#define SLOT_NONE UINT32_MAX

/* Slots of one group: a table of open addressing over their keys, and a ring by use. */
struct slots {
    uint32_t n, n_used, mask;
    size_t page_bytes;
    uint8_t *base;         /* of device_alloc_host */
    struct page_key *keys; /* [n] */
    uint32_t *table;       /* [mask + 1]: slot + 1; 0: nothing */
    uint32_t *next, *before; /* [n + 1]: n is the ring's head; next of it was used last */
};

struct kv_host {
    struct device *device;
    struct stream *stream;
    uint32_t n_groups, n_pending;
    struct slots groups[KV_GROUPS_MAX];
    uint64_t n_put, n_got;
};

/* --- the ring --- */

static void unlink_slot(struct slots *slots, uint32_t slot)
{
    slots->next[slots->before[slot]] = slots->next[slot];
    slots->before[slots->next[slot]] = slots->before[slot];
}

static void link_first(struct slots *slots, uint32_t slot)
{
    uint32_t head = slots->n;
    slots->next[slot] = slots->next[head];
    slots->before[slot] = head;
    slots->before[slots->next[head]] = slot;
    slots->next[head] = slot;
}

static void touch(struct slots *slots, uint32_t slot)
{
    unlink_slot(slots, slot);
    link_first(slots, slot);
}

/* --- the table --- */

/* Keys are digests: any of their bits will do. */
static uint32_t home_of(const struct slots *slots, const struct page_key *key)
{
    uint32_t bits;
    memcpy(&bits, key->bytes, sizeof bits);
    return bits & slots->mask;
}

/* Where the key stands, or would stand. */
static uint32_t place_of(const struct slots *slots, const struct page_key *key)
{
    uint32_t at = home_of(slots, key);
    while (slots->table[at] != 0 && !page_key_equal(&slots->keys[slots->table[at] - 1], key))
        at = (at + 1) & slots->mask;
    return at;
}

static uint32_t find(const struct slots *slots, const struct page_key *key)
{
    return slots->table[place_of(slots, key)] - 1; /* 0 - 1 is SLOT_NONE */
}

/* What stands behind the gap and would be looked for across it moves into it. */
static void forget(struct slots *slots, uint32_t slot)
{
    uint32_t gap = place_of(slots, &slots->keys[slot]), at = gap;
    assert(slots->table[gap] == slot + 1);
    for (;;) {
        slots->table[gap] = 0;
        do {
            at = (at + 1) & slots->mask;
            if (slots->table[at] == 0)
                return;
        } while (((at - home_of(slots, &slots->keys[slots->table[at] - 1])) & slots->mask) <
                 ((at - gap) & slots->mask));
        slots->table[gap] = slots->table[at];
        gap = at;
    }
}

/* A slot for the key, the newest; another's, when all are taken. */
static uint32_t take(struct slots *slots, const struct page_key *key)
{
    uint32_t slot = slots->n_used;
    if (slot < slots->n) {
        slots->n_used++;
    } else {
        slot = slots->before[slots->n];
        forget(slots, slot);
        unlink_slot(slots, slot);
    }
    slots->keys[slot] = *key;
    slots->table[place_of(slots, key)] = slot + 1;
    link_first(slots, slot);
    return slot;
}

/* --- life --- */

static int open_slots(struct device *device, struct slots *slots, size_t page_bytes, uint32_t n,
                      struct why *why)
{
    void *base = NULL;
    uint32_t n_places = 2;
    while (n_places < 2 * (uint64_t)n && n_places < 1u << 31)
        n_places *= 2;
    *slots = (struct slots){.n = n, .mask = n_places - 1, .page_bytes = page_bytes};
    slots->keys = calloc(n, sizeof *slots->keys);
    slots->table = calloc(n_places, sizeof *slots->table);
    slots->next = calloc((size_t)n + 1, sizeof *slots->next);
    slots->before = calloc((size_t)n + 1, sizeof *slots->before);
    if (slots->keys == NULL || slots->table == NULL || slots->next == NULL ||
        slots->before == NULL)
        return refuse(why, STATUS_NO_MEMORY, "no memory to find %u pages", n);
    slots->next[n] = slots->before[n] = n;
    int status = device_alloc_host(device, n * page_bytes, &base, why);
    slots->base = base;
    return status;
}

int kv_host_create(struct device *device, const struct kv_host_spec *spec, struct kv_host **out,
                   struct why *why)
{
    struct kv_host *host = calloc(1, sizeof *host);
    if (host == NULL)
        return refuse(why, STATUS_NO_MEMORY, "no memory for a host pool");
    host->device = device;
    int status = stream_create(device, COPIES_MAX, &host->stream, why);
    for (uint32_t g = 0; g < spec->n_groups && status == STATUS_OK; g++) {
        assert(spec->n_slots[g] > 0 && spec->n_slots[g] < SLOT_NONE);
        host->n_groups++;
        status = open_slots(device, &host->groups[g], spec->page_bytes[g], spec->n_slots[g], why);
    }
    if (status < 0) {
        kv_host_free(host);
        return refuse_prefix(why, status, "--host-pool");
    }
    *out = host;
    return STATUS_OK;
}

void kv_host_free(struct kv_host *host)
{
    if (host == NULL)
        return;
    if (host->stream != NULL)
        stream_free(host->stream);
    for (uint32_t g = 0; g < host->n_groups; g++) {
        struct slots *slots = &host->groups[g];
        device_free_host(host->device, slots->base);
        free(slots->keys);
        free(slots->table);
        free(slots->next);
        free(slots->before);
    }
    free(host);
}

/* --- pages --- */

static void count_copy(struct kv_host *host)
{
    if (++host->n_pending == COPIES_MAX)
        kv_host_flush(host);
}

bool kv_host_has(const struct kv_host *host, uint32_t g, const struct page_key *key)
{
    return find(&host->groups[g], key) != SLOT_NONE;
}

void kv_host_put(struct kv_host *host, uint32_t g, const struct page_key *key, const uint8_t *page)
{
    struct slots *slots = &host->groups[g];
    uint32_t slot = find(slots, key);
    if (slot != SLOT_NONE) {
        touch(slots, slot);
        return;
    }
    slot = take(slots, key);
    device_read(host->stream, slots->base + slot * slots->page_bytes, page, slots->page_bytes);
    host->n_put++;
    count_copy(host);
}

void kv_host_get(struct kv_host *host, uint32_t g, const struct page_key *key, uint8_t *page)
{
    struct slots *slots = &host->groups[g];
    uint32_t slot = find(slots, key);
    assert(slot != SLOT_NONE);
    touch(slots, slot);
    device_write(host->stream, page, slots->base + slot * slots->page_bytes, slots->page_bytes);
    host->n_got++;
    count_copy(host);
}

int kv_host_flush(struct kv_host *host)
{
    if (host->n_pending == 0)
        return stream_status(host->stream);
    host->n_pending = 0;
    device_submit(host->stream);
    return device_wait(host->stream, NULL, NULL);
}

/* --- views --- */

void kv_host_read_stats(const struct kv_host *host, struct kv_host_stats *out)
{
    *out = (struct kv_host_stats){.n_put = host->n_put, .n_got = host->n_got};
    for (uint32_t g = 0; g < host->n_groups; g++) {
        out->n_slots += host->groups[g].n;
        out->n_used += host->groups[g].n_used;
    }
}

int kv_host_check(const struct kv_host *host, struct why *why)
{
    for (uint32_t g = 0; g < host->n_groups; g++) {
        const struct slots *slots = &host->groups[g];
        uint32_t n_linked = 0, n_found = 0;
        for (uint32_t s = slots->next[slots->n]; s != slots->n && n_linked <= slots->n_used;
             s = slots->next[s])
            n_linked++;
        for (uint32_t at = 0; at <= slots->mask; at++)
            n_found += slots->table[at] != 0;
        for (uint32_t s = 0; s < slots->n_used; s++)
            if (find(slots, &slots->keys[s]) != s)
                return refuse(why, STATUS_INTERNAL, "host pool, group %u: slot %u is lost", g, s);
        if (n_linked != slots->n_used || n_found != slots->n_used)
            return refuse(why, STATUS_INTERNAL,
                          "host pool, group %u: %u slots, %u in the ring, %u in the table", g,
                          slots->n_used, n_linked, n_found);
    }
    return STATUS_OK;
}
