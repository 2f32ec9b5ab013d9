/* kernels/kv_view.h: pages as kernels read them: plain pointers, strides and tables. Never owns
 * memory.
 *
 *   group.base --> page 0           page 1            page 2 ...            page_stride bytes apart
 *                | layer 0 | layer 1 | ...                                 layer_stride bytes apart
 *       | head 0: K plane, V plane | head 1 ...                   order inside is the backend's own
 *
 *   group.table [n_slots, table_stride]: entry p of a slot is the page id of positions
 * (first_page + p) * 64 ...
 *
 * A group that packs has each page that is being written twice: its rows in group.open, and the
 * place where it is packed to when it is full. A query reads the page that it stands in as rows,
 * and every earlier one packed:
 *
 *   position             0        64       128      192
 *   group.table        | packed | packed | packed | (a place) |
 *   group.open.table                     | rows   | rows      |
 *
 * Tables live on the device from the first step to the last, a row for each sequence that may hold
 * pages; a step sends what has changed in them. So a view is the same in every step.
 *
 * Arrays marked "device" are device memory: only ops read them.
 */
#ifndef QUIRE_KERNELS_KV_VIEW_H
#define QUIRE_KERNELS_KV_VIEW_H

#include "kernels/kv_dtype.h"
#include "limits.h"

typedef uint32_t page_id;
#define PAGE_NONE UINT32_MAX

struct kv_shape {
    uint32_t n_kv_heads;
    uint32_t k_dim, v_dim; /* values of one head */
    bool v_in_k;           /* one plane: V is the first v_dim values of K (latent attention) */
};
/* Of one layer of a page, as canonical bytes: values, or codes and their least values and steps. */
size_t kv_shape_page_bytes(const struct kv_shape *shape, enum kv_dtype dtype);

/* Pages that are being written, of a group that packs its full ones: as rows, in memory of their
 * own. A slot's are those that hold a token which is not committed, or may come next. */
struct kv_open_view {
    uint8_t *base;              /* device; NULL: nothing packs, and pages are written in place */
    size_t page_stride, layer_stride;
    const page_id *table;       /* device [n_slots, table_stride] */
    const uint32_t *first_page; /* device [n_slots] */
    uint32_t table_stride;
};

struct kv_group_view {
    enum kv_kind kind;
    uint32_t window;           /* tokens; 0 for KV_FULL */
    struct kv_shape shape;
    enum kv_dtype dtype_open;  /* of pages being written */
    enum kv_dtype dtype_full;  /* of pages behind a query's own; another one: they are packed */
    uint8_t *base;             /* device */
    size_t page_stride, layer_stride;
    const page_id *table;      /* device [n_slots, table_stride] */
    const uint32_t *first_page; /* device [n_slots]: page index of table entry 0 */
    uint32_t table_stride;
    struct kv_open_view open;
};

HOST_DEVICE bool kv_group_packs(const struct kv_group_view *group)
{
    return group->dtype_full != group->dtype_open;
}

struct kv_view {
    uint64_t *n_saturated; /* device counter of values that pages of 16 bits cut, or NULL */
    uint32_t n_groups;
    struct kv_group_view groups[KV_GROUPS_MAX];
};

/* The rows of one step. Rows of a sequence are adjacent and their positions ascend by one. */
struct rows_view {
    uint32_t n_rows, n_seqs;
    const uint32_t *position;  /* device [n_rows] */
    const uint32_t *row_seq;   /* device [n_rows]: the sequence's slot in the view's tables */
    const uint32_t *seq_begin; /* device [n_seqs + 1]: first row of each sequence */
    uint32_t max_position;     /* host copy of the largest position, for planning units */
};

#endif
