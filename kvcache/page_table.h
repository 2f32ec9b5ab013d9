/* kvcache/page_table.h: which pages hold the positions of one sequence in one layer group.
 *
 *   page index    0 .. 3     4      5      6      7
 *                dropped  | 12   | 40   | 41   | 17 |          a page index is position / 64
 *                           ^ first_page     ^ own_from: pages from here on were acquired by this
 *                             n_pages = 4             sequence alone; those before are shared
 *
 *   on the device      | 12   | 40   | ?    | ?  |    n_sent = 2: those behind were not sent yet
 *
 * Invariant: a page from own_from on was acquired for this table; others hold it only where it is
 * kept (page_pool.h), and never write it. Groups that see everything
 * never drop, so first_page stays 0. Thread: engine only. The memory belongs to the cache.
 */
#ifndef QUIRE_KVCACHE_PAGE_TABLE_H
#define QUIRE_KVCACHE_PAGE_TABLE_H

#include "kernels/kv_view.h"

struct page_table {
    page_id *pages; /* [n_pages], room for capacity */
    uint32_t capacity;
    uint32_t first_page; /* page index of pages[0] */
    uint32_t n_pages;
    uint32_t own_from; /* page index */
    uint32_t n_sent;   /* entries that the device has; kv_tables_send raises it */
};

void page_table_init(struct page_table *table, page_id *memory, uint32_t capacity);
void page_table_clear(struct page_table *table); /* forgets the pages, keeps the memory */
/* Of no page; the first one that is pushed has this page index. */
void page_table_begin_at(struct page_table *table, uint32_t page_idx);
void page_table_push(struct page_table *table, page_id page); /* behind the last; own */
page_id page_table_pop(struct page_table *table);             /* the last; it must be own */
page_id page_table_drop(struct page_table *table);            /* the first */
/* The last page, shared and half full, is written by this sequence from now on: it becomes own. */
void page_table_own_last(struct page_table *table, page_id page);
/* A clear one gets n pages that others hold, from page index `first` on: the caller fills pages. */
void page_table_begin(struct page_table *table, uint32_t first, uint32_t n);
/* A page of its own, the first of them, gives way to one that others hold. */
void page_table_swap(struct page_table *table, uint32_t page_idx, page_id page);
/* `to` (clear) gets the same pages; from then on they are shared on both sides. */
void page_table_share(struct page_table *from, struct page_table *to);

static inline uint32_t page_table_end(const struct page_table *table) /* page index */
{
    return table->first_page + table->n_pages;
}

static inline uint32_t page_table_n_own(const struct page_table *table)
{
    uint32_t from = table->own_from > table->first_page ? table->own_from : table->first_page;
    return page_table_end(table) - from;
}

static inline page_id page_table_last(const struct page_table *table)
{
    return table->pages[table->n_pages - 1];
}

#endif
