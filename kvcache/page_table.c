#include "kvcache/page_table.h"

#include <assert.h>
#include <string.h>

void page_table_init(struct page_table *table, page_id *memory, uint32_t capacity)
{
    *table = (struct page_table){.pages = memory, .capacity = capacity};
}

void page_table_clear(struct page_table *table)
{
    page_table_init(table, table->pages, table->capacity);
}

void page_table_begin_at(struct page_table *table, uint32_t page_idx)
{
    assert(table->n_pages == 0);
    page_table_clear(table);
    table->first_page = page_idx;
}

/* Entries from idx on are no longer those that the device has. */
static void change_from(struct page_table *table, uint32_t idx)
{
    if (table->n_sent > idx)
        table->n_sent = idx;
}

void page_table_push(struct page_table *table, page_id page)
{
    assert(table->n_pages < table->capacity);
    table->pages[table->n_pages++] = page;
}

page_id page_table_pop(struct page_table *table)
{
    assert(table->n_pages > 0 && page_table_n_own(table) > 0);
    change_from(table, table->n_pages - 1);
    return table->pages[--table->n_pages];
}

page_id page_table_drop(struct page_table *table)
{
    assert(table->n_pages > 0);
    page_id page = table->pages[0];
    change_from(table, 0);
    table->first_page++;
    table->n_pages--;
    memmove(table->pages, table->pages + 1, table->n_pages * sizeof *table->pages);
    return page;
}

void page_table_own_last(struct page_table *table, page_id page)
{
    assert(table->n_pages > 0 && table->own_from == page_table_end(table));
    if (table->pages[table->n_pages - 1] != page)
        change_from(table, table->n_pages - 1);
    table->pages[table->n_pages - 1] = page;
    table->own_from--;
}

void page_table_begin(struct page_table *table, uint32_t first, uint32_t n)
{
    assert(table->n_pages == 0 && n <= table->capacity);
    table->first_page = first;
    table->n_pages = n;
    table->own_from = first + n;
}

void page_table_swap(struct page_table *table, uint32_t page_idx, page_id page)
{
    assert(table->own_from == page_idx && page_idx >= table->first_page);
    assert(page_idx < page_table_end(table));
    change_from(table, page_idx - table->first_page);
    table->pages[page_idx - table->first_page] = page;
    table->own_from++;
}

void page_table_share(struct page_table *from, struct page_table *to)
{
    assert(to->n_pages == 0 && from->n_pages <= to->capacity);
    memcpy(to->pages, from->pages, from->n_pages * sizeof *to->pages);
    to->first_page = from->first_page;
    to->n_pages = from->n_pages;
    from->own_from = to->own_from = page_table_end(from);
}
