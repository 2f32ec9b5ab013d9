#include "kvcache/kv_host.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "base/text.h"

#define COPIES_MAX 64 /* of a list */
#define SLOT_NONE UINT32_MAX

/* Slots of one group: a table of open addressing over their keys, and two rings: by use, and of
 * those that are held. */
struct slots {
    uint32_t n, n_used, mask;
    size_t page_bytes;
    uint8_t *base;         /* of device_alloc_host */
    struct page_key *keys; /* [n] */
    uint32_t *table;       /* [mask + 1]: slot + 1; 0: nothing */
    /* [n + 2]: n is the head of the ring by use, next of it was used last; n + 1 that of the ring
     * of those held, next of it the last one */
    uint32_t *next, *before;
    page_id *to;   /* [n]: of one that is held, where its page goes; PAGE_NONE: nowhere */
    bool *is_held; /* [n] */
    uint8_t *pages;  /* the device's */
    bool *is_coming; /* [n_pages] of the device */
};

struct kv_host {
    struct device *device;
    struct stream *out, *in;
    uint32_t n_groups;
    uint32_t n_out, n_in; /* copies of the list that is being enqueued */
    bool is_sent;         /* a list of `in` is under way */
    /* steps that write run behind what was put; behind what comes */
    bool orders_out, orders_in;
    struct slots groups[KV_GROUPS_MAX];
    uint64_t n_put, n_got;
};

/* --- the rings --- */

static void unlink_slot(struct slots *slots, uint32_t slot)
{
    slots->next[slots->before[slot]] = slots->next[slot];
    slots->before[slots->next[slot]] = slots->before[slot];
}

static void link_first(struct slots *slots, uint32_t head, uint32_t slot)
{
    slots->next[slot] = slots->next[head];
    slots->before[slot] = head;
    slots->before[slots->next[head]] = slot;
    slots->next[head] = slot;
}

static uint32_t head_by_use(const struct slots *slots)
{
    return slots->n;
}

static uint32_t head_held(const struct slots *slots)
{
    return slots->n + 1;
}

static void touch(struct slots *slots, uint32_t slot)
{
    unlink_slot(slots, slot);
    link_first(slots, head_by_use(slots), slot);
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

/* A slot for the key, the newest; another's, when all are taken; SLOT_NONE when all are held. */
static uint32_t take(struct slots *slots, const struct page_key *key)
{
    uint32_t slot = slots->n_used;
    if (slot < slots->n) {
        slots->n_used++;
    } else {
        slot = slots->before[head_by_use(slots)];
        if (slot == head_by_use(slots))
            return SLOT_NONE;
        forget(slots, slot);
        unlink_slot(slots, slot);
    }
    slots->keys[slot] = *key;
    slots->table[place_of(slots, key)] = slot + 1;
    link_first(slots, head_by_use(slots), slot);
    return slot;
}

/* --- life --- */

static int open_slots(struct device *device, struct slots *slots, const struct kv_host_spec *spec,
                      uint32_t g, struct why *why)
{
    void *base = NULL;
    uint32_t n = spec->n_slots[g], n_places = 2;
    while (n_places < 2 * (uint64_t)n && n_places < 1u << 31)
        n_places *= 2;
    *slots = (struct slots){.n = n,
                            .mask = n_places - 1,
                            .page_bytes = spec->page_bytes[g],
                            .pages = spec->pages[g]};
    slots->keys = calloc(n, sizeof *slots->keys);
    slots->table = calloc(n_places, sizeof *slots->table);
    slots->next = calloc((size_t)n + 2, sizeof *slots->next);
    slots->before = calloc((size_t)n + 2, sizeof *slots->before);
    slots->to = calloc(n, sizeof *slots->to);
    slots->is_held = calloc(n, sizeof *slots->is_held);
    slots->is_coming = calloc(spec->n_pages[g], sizeof *slots->is_coming);
    if (slots->keys == NULL || slots->table == NULL || slots->next == NULL ||
        slots->before == NULL || slots->to == NULL || slots->is_held == NULL ||
        slots->is_coming == NULL)
        return refuse(why, STATUS_NO_MEMORY, "no memory to find %u pages", n);
    for (uint32_t head = n; head < n + 2; head++)
        slots->next[head] = slots->before[head] = head;
    int status = device_alloc_host(device, n * slots->page_bytes, &base, why);
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
    int status = stream_create(device, COPIES_MAX, &host->out, why);
    if (status == STATUS_OK)
        status = stream_create(device, COPIES_MAX, &host->in, why);
    for (uint32_t g = 0; g < spec->n_groups && status == STATUS_OK; g++) {
        assert(spec->n_slots[g] > 0 && spec->n_slots[g] < SLOT_NONE - 2);
        host->n_groups++;
        status = open_slots(device, &host->groups[g], spec, g, why);
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
    stream_free(host->out);
    stream_free(host->in);
    for (uint32_t g = 0; g < host->n_groups; g++) {
        struct slots *slots = &host->groups[g];
        device_free_host(host->device, slots->base);
        free(slots->keys);
        free(slots->table);
        free(slots->next);
        free(slots->before);
        free(slots->to);
        free(slots->is_held);
        free(slots->is_coming);
    }
    free(host);
}

/* --- there --- */

/* A list that is full starts, and is behind none of what the next one is. */
static void count_copy(struct stream *stream, uint32_t *n)
{
    if (++*n < COPIES_MAX)
        return;
    *n = 0;
    device_start(stream);
}

static uint8_t *slot_at(const struct slots *slots, uint32_t slot)
{
    return slots->base + slot * slots->page_bytes;
}

static uint8_t *page_at(const struct slots *slots, page_id page)
{
    return slots->pages + page * slots->page_bytes;
}

bool kv_host_has(const struct kv_host *host, uint32_t g, const struct page_key *key)
{
    return find(&host->groups[g], key) != SLOT_NONE;
}

void kv_host_put(struct kv_host *host, uint32_t g, const struct page_key *key, page_id page)
{
    struct slots *slots = &host->groups[g];
    uint32_t slot = find(slots, key);
    host->orders_in |= slots->is_coming[page];
    if (slot != SLOT_NONE) {
        if (!slots->is_held[slot])
            touch(slots, slot);
        return;
    }
    slot = take(slots, key);
    if (slot == SLOT_NONE)
        return;
    device_read(host->out, slot_at(slots, slot), page_at(slots, page), slots->page_bytes);
    host->n_put++;
    host->orders_out = true;
    count_copy(host->out, &host->n_out);
}

static void start_out(struct kv_host *host)
{
    if (host->n_out > 0)
        device_start(host->out);
    host->n_out = 0;
}

void kv_host_order(struct kv_host *host, struct stream *steps)
{
    start_out(host);
    if (host->orders_out)
        stream_follow(steps, host->out);
    if (host->orders_in)
        stream_follow(steps, host->in);
    host->orders_out = host->orders_in = false;
}

/* --- back --- */

bool kv_host_hold(struct kv_host *host, uint32_t g, const struct page_key *key)
{
    struct slots *slots = &host->groups[g];
    uint32_t slot = find(slots, key);
    assert(!host->is_sent);
    if (slot == SLOT_NONE || slots->is_held[slot])
        return slot != SLOT_NONE;
    slots->is_held[slot] = true;
    slots->to[slot] = PAGE_NONE;
    unlink_slot(slots, slot);
    link_first(slots, head_held(slots), slot);
    return true;
}

void kv_host_get(struct kv_host *host, uint32_t g, const struct page_key *key, page_id page)
{
    struct slots *slots = &host->groups[g];
    uint32_t slot = find(slots, key);
    assert(slot != SLOT_NONE && slots->is_held[slot] && !host->is_sent);
    slots->to[slot] = page;
    slots->is_coming[page] = true;
    host->n_got++;
}

/* In the order in which they were held: a window's page may have given way to one that came after
 * it, in the same place. */
static void send_group(struct kv_host *host, struct slots *slots)
{
    uint32_t head = head_held(slots);
    for (uint32_t slot = slots->before[head]; slot != head; slot = slots->before[slot]) {
        if (slots->to[slot] == PAGE_NONE)
            continue;
        device_write(host->in, page_at(slots, slots->to[slot]), slot_at(slots, slot),
                     slots->page_bytes);
        count_copy(host->in, &host->n_in);
    }
}

void kv_host_send(struct kv_host *host, const struct stream *steps)
{
    assert(!host->is_sent);
    start_out(host);
    stream_follow(host->in, host->out);
    stream_follow(host->in, steps);
    for (uint32_t g = 0; g < host->n_groups; g++)
        send_group(host, &host->groups[g]);
    host->n_in = 0;
    device_submit(host->in);
    host->is_sent = true;
}

static void release_held(struct slots *slots)
{
    uint32_t head = head_held(slots);
    while (slots->before[head] != head) {
        uint32_t slot = slots->before[head];
        if (slots->to[slot] != PAGE_NONE)
            slots->is_coming[slots->to[slot]] = false;
        slots->is_held[slot] = false;
        touch(slots, slot);
    }
}

bool kv_host_is_idle(struct kv_host *host)
{
    if (!host->is_sent)
        return true;
    if (!device_is_done(host->in))
        return false;
    if (device_wait(host->in, NULL, NULL) < 0)
        host->orders_in = true; /* the next step that writes fails with it */
    for (uint32_t g = 0; g < host->n_groups; g++)
        release_held(&host->groups[g]);
    host->is_sent = false;
    return true;
}

bool kv_host_is_coming(const struct kv_host *host, uint32_t g, page_id page)
{
    return host->groups[g].is_coming[page];
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
        for (uint32_t head = slots->n; head < slots->n + 2; head++)
            for (uint32_t s = slots->next[head]; s != head && n_linked <= slots->n_used;
                 s = slots->next[s])
                n_linked++;
        for (uint32_t at = 0; at <= slots->mask; at++)
            n_found += slots->table[at] != 0;
        for (uint32_t s = 0; s < slots->n_used; s++)
            if (find(slots, &slots->keys[s]) != s)
                return refuse(why, STATUS_INTERNAL, "host pool, group %u: slot %u is lost", g, s);
        if (n_linked != slots->n_used || n_found != slots->n_used)
            return refuse(why, STATUS_INTERNAL,
                          "host pool, group %u: %u slots, %u in the rings, %u in the table", g,
                          slots->n_used, n_linked, n_found);
    }
    return STATUS_OK;
}
