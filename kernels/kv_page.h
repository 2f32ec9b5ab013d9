/* kernels/kv_page.h: where a page of a sequence stands. What stands inside a page is the backend's
 * own: cpu_page.h, cuda_page.h.
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

#endif
