/* tests/kernels/scene_fixture.h: sequences in pages, whose queries, keys and values are functions
 * of (sequence, position), so that any rows may be computed again in any company.
 */
#ifndef QUIRE_TESTS_SCENE_FIXTURE_H
#define QUIRE_TESTS_SCENE_FIXTURE_H

#include "kernels/ops.h"

#define SCENE_SEQS_MAX 40

struct scene_shape {
    uint32_t n_heads;
    struct kv_shape kv;
    enum kv_dtype dtype;
    enum kv_kind kind;
    uint32_t window;
    enum rope_style style;
    uint32_t first_rot;
    /* dims of a head that rope turns, from first_rot on; 0: all behind it. Exact values know only
     * all */
    uint32_t n_rot;
    enum qk_norm qk_norm;
    struct q_temperature q_temperature;
    float scale;    /* of all values; 0 is 1 */
    uint32_t loud;  /* this column of q, k and v is 1000 times as large; 0: none */
    bool round_queries; /* to f16 before they attend, as a GPU holds them */
    bool apart; /* keys and values are appended, then queries turned, from rows of their own */
    uint32_t n_seqs;
    uint32_t length[SCENE_SEQS_MAX];     /* tokens of each sequence */
    uint32_t first_page[SCENE_SEQS_MAX]; /* pages before it are gone */
};

struct scene {
    struct scene_shape shape;
    bool is_cuda;
    struct device *device;
    struct stream *stream;
    const struct ops *ops;
    struct kv_group_view group;
    uint32_t n_pages;
    double *inv_freq;      /* device; NULL without rope */
    float *q_norm, *k_norm; /* device; NULL without weighted norms */
    uint64_t *n_saturated; /* device */
    size_t workspace_less; /* bytes that attend's workspace lacks of what was planned */
    uint32_t n_allocs;
    void *allocs[64];
};

struct scene_rows { /* rows of one sequence */
    uint32_t seq, position, n;
};

struct scene scene_open(const struct scene_shape *shape, enum isa isa, int n_threads);
/* On a GPU; panels are read back as floats. Where nobody has written, they and pages hold NaN. */
struct scene scene_open_cuda(const struct scene_shape *shape);
void scene_close(struct scene *scene);
void *scene_alloc(struct scene *scene, size_t bytes);

/* Gives all pages values at once, f32 and of nobody's: for sequences that are long. */
void scene_strew(struct scene *scene);
/* Writes K and V of all tokens that have pages, in steps of `chunk` rows. */
void scene_fill(struct scene *scene, uint32_t chunk);
/* One step of these rows: appends them (again) and attends. malloc'd [rows, n_heads * v_dim]. */
float *scene_attend(struct scene *scene, const struct scene_rows *items, uint32_t n_items);
float *scene_try_attend(struct scene *scene, const struct scene_rows *items, uint32_t n_items,
                        int *status);
/* The rotated queries of these rows; malloc'd [rows, n_heads * k_dim]. */
float *scene_queries(struct scene *scene, const struct scene_rows *items, uint32_t n_items);
/* The same in double, from the definition of attention; malloc'd. */
double *scene_attend_exact(const struct scene *scene, const struct scene_rows *items,
                           uint32_t n_items);
uint32_t scene_n_rows(const struct scene_rows *items, uint32_t n_items);
/* The bytes of layer 1 of one page of a sequence; malloc'd. */
uint8_t *scene_page(struct scene *scene, uint32_t seq, uint32_t page_idx, size_t *n_bytes);

#define SCENE_BASE 10000.0 /* of rope */
#define SCENE_EPS 1e-5     /* of norms */
/* Of the norm of q's heads or of k's. */
double scene_norm_weight(bool is_k, uint32_t d);
/* Value i of the row [q heads | k heads | v heads] before rotation; about -2 .. 2. */
float scene_value(uint32_t seq, uint32_t position, uint32_t i);

#endif
