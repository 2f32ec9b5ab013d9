/* kernels/kv_page.h: where a page of a sequence stands, and which ones a step fills. What stands
 * inside a page is the backend's own: cpu_page.h, cuda_page.h.
 */
#ifndef QUIRE_KERNELS_KV_PAGE_H
#define QUIRE_KERNELS_KV_PAGE_H

#include "kernels/host_device.h"
#include "kernels/kv_view.h"

/* The layer's part of the page that holds `page_idx` (position / 64) of a sequence, or NULL when
 * the table has no such page. */
HOST_DEVICE uint8_t *kv_page_find(const struct kv_group_view *group, uint32_t layer_idx,
                                  uint32_t seq, uint32_t page_idx)
{
    uint32_t first = group->first_page[seq];
    if (page_idx < first || page_idx - first >= group->table_stride)
        return NULL;
    page_id page = group->table[(size_t)seq * group->table_stride + (page_idx - first)];
    if (page == PAGE_NONE)
        return NULL;
    return group->base + (size_t)page * group->page_stride + layer_idx * group->layer_stride;
}

/* The same of the page's rows, where they are written: in the page itself while nothing packs. */
HOST_DEVICE uint8_t *kv_page_find_open(const struct kv_group_view *group, uint32_t layer_idx,
                                       uint32_t seq, uint32_t page_idx)
{
    const struct kv_open_view *open = &group->open;
    if (open->base == NULL)
        return kv_page_find(group, layer_idx, seq, page_idx);
    uint32_t first = open->first_page[seq];
    if (page_idx < first || page_idx - first >= open->table_stride)
        return NULL;
    page_id page = open->table[(size_t)seq * open->table_stride + (page_idx - first)];
    if (page == PAGE_NONE)
        return NULL;
    return open->base + (size_t)page * open->page_stride + layer_idx * open->layer_stride;
}

/* Pages [begin, end) of a sequence have their last token among positions [first, last]. */
struct kv_page_run {
    uint32_t begin, end;
};

HOST_DEVICE struct kv_page_run kv_pages_filled(uint32_t first, uint32_t last)
{
    struct kv_page_run run = {first / PAGE_TOKENS, (last + 1) / PAGE_TOKENS};
    return run;
}

#endif
