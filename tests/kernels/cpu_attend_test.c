#include "tests/kernels/isa_fixture.h"
#include "tests/kernels/scene_fixture.h"
#include "tests/under_tsan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "kernels/cpu/cpu_attend_plan.h"

static const enum isa fast_isas[] = {ISA_AVX2, ISA_AVX512};

static struct scene_shape shape_of(uint32_t n_heads, uint32_t n_kv_heads, uint32_t dim,
                                   enum kv_dtype dtype)
{
    return (struct scene_shape){
        .n_heads = n_heads,
        .kv = {.n_kv_heads = n_kv_heads, .k_dim = dim, .v_dim = dim},
        .dtype = dtype,
        .style = ROPE_NORM,
        .n_seqs = 1,
        .length = {200},
    };
}

static void assert_same(const float *a, const float *b, size_t n, const char *what)
{
    for (size_t i = 0; i < n; i++)
        if (memcmp(&a[i], &b[i], sizeof *a) != 0)
            fail_msg("%s: value %zu is %.9g, not %.9g", what, i, (double)a[i], (double)b[i]);
}

static float *attend_on(const struct scene_shape *shape, enum isa isa, int n_threads,
                        const struct scene_rows *items, uint32_t n_items)
{
    struct scene scene = scene_open(shape, isa, n_threads);
    scene_fill(&scene, 64);
    float *out = scene_attend(&scene, items, n_items);
    scene_close(&scene);
    return out;
}

/* Each fast form against the scalar one; under TSan the fastest alone, for its threads. */
static void assert_all_isas(const struct scene_shape *shape, const struct scene_rows *items,
                            uint32_t n_items, const char *what)
{
    if (!isa_is_available(ISA_AVX2)) {
        print_message("skipped: %s on fast instruction sets, which this machine has not\n", what);
        return;
    }
    if (UNDER_TSAN) {
        free(attend_on(shape, ISA_AUTO, 2, items, n_items));
        return;
    }
    size_t n = (size_t)scene_n_rows(items, n_items) * shape->n_heads * shape->kv.v_dim;
    float *truth = attend_on(shape, ISA_SCALAR, 1, items, n_items);
    for (size_t i = 0; i < 2; i++) {
        if (isa_is_skipped(fast_isas[i]))
            continue;
        char name[160];
        snprintf(name, sizeof name, "%s on %s", what, isa_name(fast_isas[i]));
        float *out = attend_on(shape, fast_isas[i], 2, items, n_items);
        assert_same(out, truth, n, name);
        free(out);
    }
    free(truth);
}

static void assert_near_exact(const struct scene_shape *shape, const struct scene_rows *items,
                              uint32_t n_items, double tolerance)
{
    if (UNDER_TSAN)
        return;
    struct scene scene = scene_open(shape, ISA_SCALAR, 1);
    scene_fill(&scene, 64);
    float *out = scene_attend(&scene, items, n_items);
    double *exact = scene_attend_exact(&scene, items, n_items);
    size_t n = (size_t)scene_n_rows(items, n_items) * shape->n_heads * shape->kv.v_dim;
    for (size_t i = 0; i < n; i++)
        if (fabs((double)out[i] - exact[i]) > tolerance)
            fail_msg("value %zu is %.9g, not %.9g", i, (double)out[i], exact[i]);
    free(out);
    free(exact);
    scene_close(&scene);
}

/* --- the definition --- */

static void test_attend__is_softmax_attention(void **state)
{
    SKIP_UNDER_TSAN();
    struct scene_shape shape = shape_of(6, 2, 32, KV_F32);
    shape.length[0] = 700;
    struct scene_rows items[] = {{0, 0, 3}, {0, 62, 4}, {0, 509, 6}, {0, 699, 1}};
    assert_near_exact(&shape, items, 4, 2e-6);
    shape.style = ROPE_NEOX;
    assert_near_exact(&shape, items, 4, 2e-6);
    shape.style = ROPE_NONE;
    assert_near_exact(&shape, items, 4, 2e-6);
    shape.style = ROPE_NORM;
    shape.dtype = KV_F16; /* a K on the border of two halves may fall to either side */
    assert_near_exact(&shape, items, 4, 1e-3);
}

static const enum kv_dtype dtypes[] = {KV_F16, KV_F32, KV_BF16, KV_Q8, KV_Q4};
#define DTYPE_STEP (UNDER_TSAN ? KV_Q4 - KV_F16 : 1) /* threads do the same whatever a page holds */

/* Its own page as written, every earlier one as it is stored. */
static void test_attend__sees_earlier_pages_as_they_are_stored(void **state)
{
    SKIP_UNDER_TSAN();
    struct scene_rows items[] = {{0, 0, 3}, {0, 62, 4}, {0, 127, 2}, {0, 509, 6}, {0, 699, 1}};
    for (size_t i = 2; i < 5; i++) {
        struct scene_shape shape = shape_of(6, 2, 40, dtypes[i]);
        shape.length[0] = 700;
        /* a K on the border of two codes may fall to either side */
        assert_near_exact(&shape, items, 5, dtypes[i] == KV_Q4 ? 2e-2 : 2e-3);
        shape.kind = KV_SLIDING;
        shape.window = 90;
        assert_near_exact(&shape, items, 5, dtypes[i] == KV_Q4 ? 2e-2 : 2e-3);
        shape.kind = KV_CHUNKED;
        assert_near_exact(&shape, items, 5, dtypes[i] == KV_Q4 ? 2e-2 : 2e-3);
    }
}

/* What rope_append makes of queries and keys beside the rotation. */
static void test_attend__queries_and_keys_are_normed_and_grow(void **state)
{
    struct scene_rows items[] = {{0, 0, 3}, {0, 62, 4}, {0, 199, 1}};
    for (int norm = QK_NORM_BEFORE; norm <= QK_NORM_AFTER; norm++)
        for (int style = ROPE_NONE; style <= ROPE_NEOX; style++) {
            struct scene_shape shape = shape_of(6, 2, 40, KV_F32);
            shape.style = (enum rope_style)style;
            shape.qk_norm = (enum qk_norm)norm;
            assert_near_exact(&shape, items, 3, 2e-6);
            assert_all_isas(&shape, items, 3, "normed");
            shape.q_temperature = (struct q_temperature){0.4f, 7, (uint32_t)style};
            assert_near_exact(&shape, items, 3, 2e-6);
        }
}

static void test_attend__sees_exactly_its_window(void **state)
{
    SKIP_UNDER_TSAN();
    struct scene_shape shape = shape_of(2, 1, 16, KV_F32);
    shape.length[0] = 400;
    struct scene_rows items[] = {{0, 0, 2}, {0, 90, 30}, {0, 250, 6}, {0, 398, 2}};
    for (uint32_t window = 1; window <= 300; window = window * 2 + 1) {
        shape.window = window;
        shape.kind = KV_SLIDING;
        assert_near_exact(&shape, items, 4, 2e-6);
        shape.kind = KV_CHUNKED;
        assert_near_exact(&shape, items, 4, 2e-6);
    }
}

static void test_attend__takes_values_out_of_the_keys(void **state)
{
    struct scene_shape shape = shape_of(4, 1, 48, KV_F32);
    shape.kv.v_in_k = true;
    shape.kv.v_dim = 32;
    struct scene_rows items[] = {{0, 100, 20}};
    assert_near_exact(&shape, items, 1, 2e-6);
    assert_all_isas(&shape, items, 1, "v in k");
}

/* Latent pages: keys of which a part is normed and another turns; the real dims, heads that are no
 * whole tile, values that are no whole registers. */
static void test_attend__is_latent_attention(void **state)
{
    static const struct {
        uint32_t n_heads, k_dim, v_dim;
    } shapes[] = {{16, 576, 512}, {3, 80, 64}, {40, 144, 128}, {5, 96, 72}, {1, 48, 32}};
    struct scene_rows items[] = {{0, 0, 2}, {0, 60, 8}, {0, 199, 1}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int dtype = KV_F16; dtype < KV_DTYPES; dtype += DTYPE_STEP) {
            struct scene_shape shape =
                shape_of(shapes[i].n_heads, 1, shapes[i].k_dim, (enum kv_dtype)dtype);
            shape.kv.v_dim = shape.first_rot = shapes[i].v_dim;
            shape.kv.v_in_k = true;
            shape.qk_norm = QK_NORM_LATENT;
            char what[64];
            snprintf(what, sizeof what, "latent %u, %s", shapes[i].k_dim,
                     kv_dtype_name(shape.dtype));
            assert_all_isas(&shape, items, 3, what);
            if (i > 0 && (i != 2 || dtype == KV_F16)) /* a K on a border may fall to either side */
                assert_near_exact(&shape, items, 3, dtype == KV_F32  ? 2e-6
                                                    : dtype == KV_Q4 ? 5e-2
                                                                     : 1e-2);
        }
}

/* --- equal to the bit --- */

static void test_attend__is_the_same_on_every_instruction_set(void **state)
{
    static const uint32_t dims[] = {16, 32, 64, 80, 96, 128, 256, 24, 40};
    struct scene_rows items[] = {{0, 5, 1}, {0, 60, 20}, {0, 130, 7}, {0, 199, 1}};
    for (size_t i = 0; i < sizeof dims / sizeof *dims; i++)
        for (int dtype = KV_F16; dtype < KV_DTYPES; dtype += DTYPE_STEP) {
            struct scene_shape shape = shape_of(3, 1, dims[i], (enum kv_dtype)dtype);
            char what[64];
            snprintf(what, sizeof what, "head dim %u, %s", dims[i], kv_dtype_name(shape.dtype));
            assert_all_isas(&shape, items, 4, what);
        }
}

static void test_attend__is_the_same_for_every_group_size(void **state)
{
    static const uint32_t groups[] = {1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 40};
    struct scene_rows items[] = {{0, 63, 2}, {0, 180, 18}};
    for (size_t i = 0; i < sizeof groups / sizeof *groups; i++)
        for (int dtype = KV_F16; dtype < KV_DTYPES; dtype += DTYPE_STEP) {
            struct scene_shape shape = shape_of(2 * groups[i], 2, 32, (enum kv_dtype)dtype);
            char what[64];
            snprintf(what, sizeof what, "group of %u, %s", groups[i], kv_dtype_name(shape.dtype));
            assert_all_isas(&shape, items, 2, what);
        }
}

static void test_attend__is_the_same_with_windows(void **state)
{
    static const uint32_t windows[] = {1, 17, 64, 100, 128, 513};
    struct scene_rows items[] = {{0, 0, 5}, {0, 100, 40}, {0, 560, 20}};
    for (size_t i = 0; i < sizeof windows / sizeof *windows; i++) {
        struct scene_shape shape = shape_of(4, 2, 48, dtypes[i % 5]);
        shape.length[0] = 600;
        shape.window = windows[i];
        shape.kind = KV_SLIDING;
        assert_all_isas(&shape, items, 3, "sliding");
        shape.kind = KV_CHUNKED;
        assert_all_isas(&shape, items, 3, "chunked");
    }
}

static void test_attend__is_the_same_over_several_spans(void **state)
{
    struct scene_rows items[] = {{0, 500, 20}, {0, 1020, 8}, {0, 1299, 1}};
    for (int dtype = KV_F16; dtype < KV_DTYPES; dtype += DTYPE_STEP) {
        struct scene_shape shape = shape_of(3, 1, 64, (enum kv_dtype)dtype);
        shape.length[0] = 1300;
        assert_all_isas(&shape, items, 3, kv_dtype_name(shape.dtype));
        shape.kv.v_dim = 40; /* no whole registers */
        assert_all_isas(&shape, items, 3, "odd values");
    }
}

static void test_attend__is_the_same_with_different_key_and_value_dims(void **state)
{
    struct scene_shape shape = shape_of(6, 2, 48, KV_F16);
    shape.kv.v_dim = 112;
    struct scene_rows items[] = {{0, 90, 30}, {0, 199, 1}};
    assert_all_isas(&shape, items, 2, "48 and 112");
}

/* --- row invariance --- */

/* All rows of sequence 0, in steps of `chunk`, on a device that has never seen them. */
static float *attend_in_chunks(const struct scene_shape *shape, enum isa isa, int n_threads,
                               uint32_t chunk)
{
    struct scene scene = scene_open(shape, isa, n_threads);
    size_t width = (size_t)shape->n_heads * shape->kv.v_dim;
    float *all = malloc(sizeof *all * shape->length[0] * width);
    for (uint32_t p = 0; p < shape->length[0]; p += chunk) {
        struct scene_rows item = {0, p,
                                  shape->length[0] - p < chunk ? shape->length[0] - p : chunk};
        float *out = scene_attend(&scene, &item, 1);
        memcpy(all + p * width, out, sizeof *out * item.n * width);
        free(out);
    }
    scene_close(&scene);
    return all;
}

static void test_attend__a_row_does_not_depend_on_chunks_or_threads(void **state)
{
    static const uint32_t chunks[] = {1, 2, 3, 7, 16, 37, 64, 100, 129, 512};
    struct scene_shape shape = shape_of(6, 2, 32, KV_F16);
    shape.length[0] = 1100;
    size_t n = (size_t)shape.length[0] * 6 * 32;
    float *alone = attend_in_chunks(&shape, ISA_AUTO, 1, 512);
    for (size_t i = 0; i < sizeof chunks / sizeof *chunks; i++)
        for (int n_threads = 1; n_threads <= 4; n_threads *= 2) {
            if (chunks[i] < 7 && (n_threads == 4 || UNDER_TSAN))
                continue; /* a thousand short steps of four threads on two cores take long */
            if (n_threads == 1 && UNDER_TSAN)
                continue;
            char what[64];
            snprintf(what, sizeof what, "chunk %u, %d threads", chunks[i], n_threads);
            float *out = attend_in_chunks(&shape, ISA_AUTO, n_threads, chunks[i]);
            assert_same(out, alone, n, what);
            free(out);
        }
    free(alone);
}

/* A chunk of several pages reads them packed as one that came later does; with windows too. */
static void test_attend__a_packed_row_does_not_depend_on_chunks_or_threads(void **state)
{
    static const uint32_t chunks[] = {1, 7, 64, 100, 129};
    for (int dtype = KV_BF16; dtype < KV_DTYPES; dtype++)
        for (int kind = KV_FULL; kind <= KV_CHUNKED; kind++) {
            struct scene_shape shape = shape_of(6, 2, 32, (enum kv_dtype)dtype);
            shape.length[0] = 330;
            shape.kind = (enum kv_kind)kind;
            shape.window = 150;
            size_t n = (size_t)shape.length[0] * 6 * 32;
            float *alone = attend_in_chunks(&shape, ISA_AUTO, 1, 330);
            for (size_t i = UNDER_TSAN ? 1 : 0; i < sizeof chunks / sizeof *chunks; i++) {
                char what[64];
                snprintf(what, sizeof what, "%s, chunk %u", kv_dtype_name(shape.dtype), chunks[i]);
                float *out = attend_in_chunks(&shape, ISA_AUTO, 1 + (chunks[i] > 1), chunks[i]);
                assert_same(out, alone, n, what);
                free(out);
            }
            free(alone);
        }
}

static void test_attend__a_latent_row_does_not_depend_on_chunks_or_threads(void **state)
{
    static const uint32_t chunks[] = {1, 7, 64, 129};
    for (int dtype = KV_F16; dtype < KV_DTYPES; dtype += KV_Q4 - KV_F16) {
        struct scene_shape shape = shape_of(6, 1, 80, (enum kv_dtype)dtype);
        shape.length[0] = 600;
        shape.kv.v_dim = shape.first_rot = 64;
        shape.kv.v_in_k = true;
        shape.qk_norm = QK_NORM_LATENT;
        size_t n = (size_t)shape.length[0] * 6 * 64;
        float *alone = attend_in_chunks(&shape, ISA_AUTO, 1, 512);
        for (size_t i = 0; i < sizeof chunks / sizeof *chunks; i++) {
            float *out = attend_in_chunks(&shape, ISA_AUTO, 1 + (int)i % 2, chunks[i]);
            assert_same(out, alone, n, "latent");
            free(out);
        }
        free(alone);
    }
}

/* Rows of one block whose windows begin in different pages, and in different spans. */
static void test_attend__a_row_does_not_depend_on_chunks_with_windows(void **state)
{
    static const uint32_t chunks[] = {1, 7, 16, 100}, windows[] = {1, 60, 100, 520};
    struct scene_shape shape = shape_of(3, 1, 32, KV_F16);
    shape.length[0] = 700;
    size_t n = (size_t)shape.length[0] * 3 * 32;
    for (size_t w = 0; w < sizeof windows / sizeof *windows; w++)
        for (int kind = KV_SLIDING; kind <= KV_CHUNKED; kind++) {
            shape.kind = (enum kv_kind)kind;
            shape.window = windows[w];
            float *alone = attend_in_chunks(&shape, ISA_AUTO, 1, 700);
            for (size_t i = 0; i < sizeof chunks / sizeof *chunks; i++) {
                char what[64];
                snprintf(what, sizeof what, "window %u, chunk %u", windows[w], chunks[i]);
                int n_threads = chunks[i] == 1 ? 1 : 2;
                if (n_threads == 1 && UNDER_TSAN)
                    continue;
                float *out = attend_in_chunks(&shape, ISA_AUTO, n_threads, chunks[i]);
                assert_same(out, alone, n, what);
                free(out);
            }
            free(alone);
        }
}

static void test_attend__a_row_does_not_depend_on_neighbours(void **state)
{
    struct scene_shape shape = shape_of(6, 2, 64, KV_F16);
    shape.n_seqs = 12;
    for (uint32_t s = 0; s < shape.n_seqs; s++)
        shape.length[s] = 40 + 137 * s * s % 1500;
    struct scene_rows items[12];
    for (uint32_t s = 0; s < shape.n_seqs; s++) { /* decoding rows and prefill chunks, mixed */
        uint32_t n = s % 3 == 0 ? 25 : 1;
        items[s] = (struct scene_rows){s, shape.length[s] - n, n};
    }
    size_t width = 6 * 64;
    for (int n_threads = 1; n_threads <= 4; n_threads *= 2) {
        struct scene scene = scene_open(&shape, ISA_AUTO, n_threads);
        scene_fill(&scene, 512);
        float *together = scene_attend(&scene, items, 12), *at = together;
        for (uint32_t s = 0; s < shape.n_seqs; s++) {
            float *alone = scene_attend(&scene, &items[s], 1);
            char what[64];
            snprintf(what, sizeof what, "sequence %u, %d threads", s, n_threads);
            assert_same(at, alone, items[s].n * width, what);
            at += items[s].n * width;
            free(alone);
        }
        free(together);
        scene_close(&scene);
    }
}

static void test_attend__long_rows_are_split_over_workers_and_merge_in_order(void **state)
{
    struct scene_shape shape = shape_of(6, 2, 32, KV_F16);
    shape.length[0] = 9000; /* 18 spans: more units than the ring has slots for one thread */
    shape.n_seqs = 2;
    shape.length[1] = 3000;
    struct scene_rows items[] = {{0, 8990, 10}, {1, 2999, 1}};
    size_t n = (size_t)11 * 6 * 32;
    float *alone = attend_on(&shape, ISA_AUTO, 1, items, 2);
    for (int n_threads = 2; n_threads <= 6; n_threads++)
        for (int again = 0; again < (UNDER_TSAN ? 2 : 5); again++) {
            float *out = attend_on(&shape, ISA_AUTO, n_threads, items, 2);
            assert_same(out, alone, n, "split");
            free(out);
        }
    free(alone);
}

static void test_attend__pages_behind_the_window_may_be_gone(void **state)
{
    struct scene_shape shape = shape_of(6, 2, 32, KV_F16), cut = shape;
    shape.length[0] = cut.length[0] = 700;
    shape.kind = cut.kind = KV_SLIDING;
    shape.window = cut.window = 100;
    cut.first_page[0] = 8; /* positions below 512 */
    struct scene_rows items[] = {{0, 640, 60}};
    float *whole = attend_on(&shape, ISA_AUTO, 2, items, 1);
    float *rest = attend_on(&cut, ISA_AUTO, 2, items, 1);
    assert_same(rest, whole, 60 * 6 * 32, "without old pages");
    free(whole);
    free(rest);
}

static void test_attend__a_missing_page_sticks_to_the_stream(void **state)
{
    struct scene_shape shape = shape_of(6, 2, 32, KV_F16);
    shape.length[0] = 3000;
    shape.first_page[0] = 2; /* and FULL attention wants them */
    struct scene scene = scene_open(&shape, ISA_AUTO, 4);
    scene_fill(&scene, 512);
    struct scene_rows item = {0, 2999, 1};
    int status;
    free(scene_try_attend(&scene, &item, 1, &status));
    assert_int_equal(status, STATUS_INTERNAL);
    assert_int_equal(stream_status(scene.stream), STATUS_INTERNAL);
    scene_close(&scene);
}

/* --- the plan --- */

static void test_attend_plan__a_workspace_does_not_grow_with_the_context(void **state)
{
    struct scene_shape shape = shape_of(9, 3, 64, KV_F16);
    struct scene scene = scene_open(&shape, ISA_AUTO, 2);
    size_t short_bytes = scene.ops->attend_workspace_bytes(scene.device, 9, &shape.kv, 512, 1024);
    size_t long_bytes =
        scene.ops->attend_workspace_bytes(scene.device, 9, &shape.kv, 512, 1u << 20);
    assert_true(short_bytes == long_bytes);
    assert_true(long_bytes < 1u << 20);
    scene_close(&scene);
}

static const struct attend_plan *plan_of(const struct attend_layout *layout, uint32_t n_rows,
                                         uint32_t position, void *workspace)
{
    uint32_t positions[512], row_seq[512] = {0}, begin[2] = {0, n_rows};
    for (uint32_t r = 0; r < n_rows; r++)
        positions[r] = position + r;
    struct rows_view rows = {n_rows, 1, positions, row_seq, begin, position + n_rows - 1};
    struct kv_group_view group = {.kind = KV_FULL};
    attend_plan_fill(layout, &rows, &group, workspace);
    return workspace;
}

static void test_attend_plan__splits_what_would_keep_one_worker_busy(void **state)
{
    struct kv_shape kv = {.n_kv_heads = 3, .k_dim = 64, .v_dim = 64};
    struct attend_layout layout = attend_layout(2, 9, &kv);
    void *workspace = aligned_alloc(64, attend_workspace(&layout, 512));

    const struct attend_plan *plan = plan_of(&layout, 1, 8191, workspace);
    assert_int_equal(plan->n_chains, 1); /* all kv heads of a page side by side */
    assert_int_equal(plan->n_split_units, 16);
    assert_int_equal(plan->n_whole_blocks, 0);
    plan = plan_of(&layout, 1, 700, workspace); /* two spans: each kv head is a unit of its own */
    assert_int_equal(plan->n_chains, 3);
    assert_int_equal(plan->n_split_units, 6);
    plan = plan_of(&layout, 1, 400, workspace);
    assert_int_equal(plan->n_chains, 0);
    assert_int_equal(plan->n_whole_blocks, 1);

    plan = plan_of(&layout, 512, 8200, workspace); /* enough units for everybody */
    assert_int_equal(plan->n_chains, 0);
    for (uint32_t i = 0; i < plan->n_blocks; i++) {
        const struct attend_block *block = &plan->blocks[i];
        uint32_t first = block->last_position - block->n_rows + 1;
        assert_int_equal(first / PAGE_TOKENS, block->last_position / PAGE_TOKENS);
        assert_int_equal(block->row + 8200, first);
    }
    assert_int_equal(plan->n_whole_blocks, plan->n_blocks);
    free(workspace);
}

static void test_attend_plan__one_thread_splits_nothing(void **state)
{
    struct kv_shape kv = {.n_kv_heads = 3, .k_dim = 64, .v_dim = 64};
    struct attend_layout layout = attend_layout(1, 9, &kv);
    void *workspace = aligned_alloc(64, attend_workspace(&layout, 1));
    assert_int_equal(plan_of(&layout, 1, 100000, workspace)->n_chains, 0);
    free(workspace);
}

static void test_attend_plan__the_largest_heads_still_fit_the_scratch(void **state)
{
    struct kv_shape kv = {
        .n_kv_heads = 1, .k_dim = MODEL_HEAD_DIM_MAX, .v_dim = MODEL_HEAD_DIM_MAX};
    struct attend_layout layout = attend_layout(2, MODEL_HEADS_MAX, &kv);
    assert_true(layout.block_rows >= 1);
    assert_int_equal(layout.n_vheads * layout.part_heads, MODEL_HEADS_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_attend__is_softmax_attention),
        cmocka_unit_test(test_attend__sees_earlier_pages_as_they_are_stored),
        cmocka_unit_test(test_attend__queries_and_keys_are_normed_and_grow),
        cmocka_unit_test(test_attend__sees_exactly_its_window),
        cmocka_unit_test(test_attend__takes_values_out_of_the_keys),
        cmocka_unit_test(test_attend__is_latent_attention),
        cmocka_unit_test(test_attend__a_packed_row_does_not_depend_on_chunks_or_threads),
        cmocka_unit_test(test_attend__a_latent_row_does_not_depend_on_chunks_or_threads),
        cmocka_unit_test(test_attend__is_the_same_on_every_instruction_set),
        cmocka_unit_test(test_attend__is_the_same_for_every_group_size),
        cmocka_unit_test(test_attend__is_the_same_with_windows),
        cmocka_unit_test(test_attend__is_the_same_over_several_spans),
        cmocka_unit_test(test_attend__is_the_same_with_different_key_and_value_dims),
        cmocka_unit_test(test_attend__a_row_does_not_depend_on_chunks_or_threads),
        cmocka_unit_test(test_attend__a_row_does_not_depend_on_chunks_with_windows),
        cmocka_unit_test(test_attend__a_row_does_not_depend_on_neighbours),
        cmocka_unit_test(test_attend__long_rows_are_split_over_workers_and_merge_in_order),
        cmocka_unit_test(test_attend__pages_behind_the_window_may_be_gone),
        cmocka_unit_test(test_attend__a_missing_page_sticks_to_the_stream),
        cmocka_unit_test(test_attend_plan__a_workspace_does_not_grow_with_the_context),
        cmocka_unit_test(test_attend_plan__splits_what_would_keep_one_worker_busy),
        cmocka_unit_test(test_attend_plan__one_thread_splits_nothing),
        cmocka_unit_test(test_attend_plan__the_largest_heads_still_fit_the_scratch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
