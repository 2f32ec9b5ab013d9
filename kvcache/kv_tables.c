#include "kvcache/kv_tables.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"

static size_t n_words(const struct kv_tables *tables)
{
    return tables->n_slots * (1 + (size_t)tables->capacity);
}

/* Where a slot's entries begin, in words. */
static size_t row_at(const struct kv_tables *tables, uint32_t slot)
{
    return tables->n_slots + (size_t)slot * tables->capacity;
}

int kv_tables_init(struct kv_tables *tables, struct device *device, uint32_t n_slots,
                   uint32_t capacity, struct why *why)
{
    tables->device = device;
    tables->n_slots = n_slots;
    tables->capacity = capacity;
    size_t bytes = n_words(tables) * sizeof *tables->sent;
    void *memory = NULL;
    tables->sent = malloc(bytes);
    tables->n_filled = calloc(n_slots, sizeof *tables->n_filled);
    tables->turns = calloc(n_slots, sizeof *tables->turns);
    if (tables->sent == NULL || tables->n_filled == NULL || tables->turns == NULL)
        return refuse(why, STATUS_NO_MEMORY, "no memory for %zu bytes of tables", bytes);
    int status = device_alloc(device, bytes, &memory, why);
    tables->on_device = memory;
    for (uint32_t i = 0; i < device_depth(device) && status == STATUS_OK; i++) {
        memory = NULL;
        status = device_alloc_host(device, bytes, &memory, why);
        tables->staged[i] = memory;
    }
    if (status < 0)
        return status;
    memset(tables->sent, 0, n_slots * sizeof *tables->sent);
    memset(tables->sent + n_slots, 0xff, bytes - n_slots * sizeof *tables->sent); /* PAGE_NONE */
    return device_upload(device, tables->on_device, tables->sent, bytes);
}

void kv_tables_release(struct kv_tables *tables)
{
    for (int i = 0; i < DEVICE_DEPTH_MAX; i++)
        device_free_host(tables->device, tables->staged[i]);
    device_free(tables->device, tables->on_device);
    free(tables->sent);
    free(tables->n_filled);
    free(tables->turns);
    *tables = (struct kv_tables){.device = NULL};
}

int kv_tables_put(struct kv_tables *tables, uint32_t slot, page_id page)
{
    size_t at = row_at(tables, slot);
    tables->sent[at] = page;
    tables->n_filled[slot] = 1;
    return device_upload(tables->device, tables->on_device + at, tables->sent + at, sizeof page);
}

static void enqueue(struct kv_tables *tables, uint32_t *staged, size_t at, size_t n,
                    struct stream *stream)
{
    memcpy(staged + at, tables->sent + at, n * sizeof *staged);
    device_write(stream, tables->on_device + at, staged + at, n * sizeof *staged);
}

void kv_tables_send(struct kv_tables *tables, uint32_t slot, struct page_table *table,
                    struct stream *stream)
{
    uint32_t depth = device_depth(tables->device);
    uint32_t n_filled = tables->n_filled[slot];
    uint32_t end = n_filled > table->n_pages ? n_filled : table->n_pages;
    bool moved = tables->sent[slot] != table->first_page;
    assert(slot < tables->n_slots && table->n_pages <= tables->capacity);
    assert(stream_n_under_way(stream) < depth);
    if (!moved && table->n_sent == end)
        return;

    uint32_t *staged = tables->staged[tables->turns[slot]];
    tables->turns[slot] = (uint8_t)((tables->turns[slot] + 1) % depth);
    if (moved) {
        tables->sent[slot] = table->first_page;
        enqueue(tables, staged, slot, 1, stream);
    }
    if (table->n_sent < end) {
        size_t row = row_at(tables, slot), at = row + table->n_sent;
        uint32_t n_new = table->n_pages - table->n_sent;
        memcpy(tables->sent + at, table->pages + table->n_sent, n_new * sizeof *table->pages);
        for (uint32_t i = table->n_pages; i < end; i++)
            tables->sent[row + i] = PAGE_NONE;
        enqueue(tables, staged, at, end - table->n_sent, stream);
    }
    table->n_sent = tables->n_filled[slot] = table->n_pages;
}

int kv_tables_check(const struct kv_tables *tables, uint32_t slot, const struct page_table *table,
                    struct why *why)
{
    const uint32_t *row = tables->sent + row_at(tables, slot);
    if (table->n_sent > table->n_pages || table->n_sent > tables->n_filled[slot])
        return refuse(why, STATUS_INTERNAL, "slot %u: %u of %u pages are told to be sent, %u were",
                      slot, table->n_sent, table->n_pages, tables->n_filled[slot]);
    if (table->n_sent > 0 && tables->sent[slot] != table->first_page)
        return refuse(why, STATUS_INTERNAL, "slot %u: the device begins at page %u, not %u", slot,
                      tables->sent[slot], table->first_page);
    for (uint32_t i = 0; i < table->n_sent; i++)
        if (row[i] != table->pages[i])
            return refuse(why, STATUS_INTERNAL, "slot %u: entry %u is page %u, sent was %u", slot,
                          i, table->pages[i], row[i]);
    for (uint32_t i = tables->n_filled[slot]; i < tables->capacity; i++)
        if (row[i] != PAGE_NONE)
            return refuse(why, STATUS_INTERNAL, "slot %u: entry %u of no page is %u", slot, i,
                          row[i]);
    return STATUS_OK;
}

const uint32_t *kv_tables_first_page(const struct kv_tables *tables)
{
    return tables->on_device;
}

const page_id *kv_tables_pages(const struct kv_tables *tables)
{
    return tables->on_device + tables->n_slots;
}
