/* attend on a GPU: near the CPU's op on the same pages and rounded queries; and to the bit the same
 * whatever the chunk, the company and the cut.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "tests/kernels/matrix_fixture.h"
#include "tests/kernels/scene_fixture.h"
#include "tests/kernels/twin_fixture.h"
#include "tests/under_tsan.h"

#define TOLERANCE (2e-3 * 2.0) /* of the greatest |v| */
#define TOLERANCE_PLAIN 4e-6   /* f32 all the way but for q, which both sides round */
#define TOLERANCE_PLAIN_PACKED 1e-5 /* and scales, which one side folds into q and p */

static struct scene_shape shape_of(uint32_t n_heads, uint32_t n_kv_heads, uint32_t dim,
                                   uint32_t length)
{
    return (struct scene_shape){
        .n_heads = n_heads,
        .kv = {.n_kv_heads = n_kv_heads, .k_dim = dim, .v_dim = dim},
        .dtype = KV_F16,
        .style = ROPE_NEOX,
        .round_queries = true,
        .n_seqs = 1,
        .length = {length},
    };
}

static void passed(const struct scene_shape *shape, const char *shapes)
{
    matrix_passed("attend", kv_dtype_name(shape->dtype), shapes);
}

static size_t n_values(const struct scene_shape *shape, const struct scene_rows *items,
                       uint32_t n_items)
{
    return (size_t)scene_n_rows(items, n_items) * shape->n_heads * shape->kv.v_dim;
}

static void assert_same(const float *a, const float *b, size_t n, const char *what)
{
    for (size_t i = 0; i < n; i++)
        if (memcmp(&a[i], &b[i], sizeof *a) != 0)
            fail_msg("%s: value %zu is %.9g, not %.9g", what, i, (double)a[i], (double)b[i]);
}

/* --- against the CPU --- */

static void assert_near_cpu(const char *shapes, const struct scene_shape *shape,
                            const struct scene_rows *items, uint32_t n_items, double tolerance)
{
    struct scene cpu = scene_open(shape, ISA_AUTO, 1), cuda = scene_open_cuda(shape);
    scene_fill(&cpu, 256);
    scene_fill(&cuda, 256);
    float *want = scene_attend(&cpu, items, n_items), *got = scene_attend(&cuda, items, n_items);
    double worst = 0.0;
    for (size_t i = 0; i < n_values(shape, items, n_items); i++) {
        double apart = fabs((double)got[i] - (double)want[i]);
        if (!(apart <= tolerance))
            fail_msg("%u/%u heads of %u: value %zu is %.9g, not %.9g", shape->n_heads,
                     shape->kv.n_kv_heads, shape->kv.k_dim, i, (double)got[i], (double)want[i]);
        worst = apart > worst ? apart : worst;
    }
    assert_true(worst < tolerance);
    free(want);
    free(got);
    scene_close(&cpu);
    scene_close(&cuda);
    passed(shape, shapes);
}

static void test_cuda_attend__is_near_the_cpu_for_every_group_size(void **state)
{
    struct scene_rows items[] = {{0, 0, 3}, {0, 62, 4}, {0, 100, 39}, {0, 139, 1}};
    for (uint32_t group = 1; group <= 8; group += UNDER_TSAN ? 3 : 1) {
        struct scene_shape shape = shape_of(group, 1, 64, 140);
        assert_near_cpu("groups", &shape, items, 4, TOLERANCE);
    }
}

static void test_cuda_attend__is_near_the_cpu_with_large_heads(void **state)
{
    struct scene_rows items[] = {{0, 63, 1}, {0, 80, 20}, {0, 149, 1}};
    struct scene_shape shape = shape_of(10, 2, 128, 150);
    assert_near_cpu("groups", &shape, items, 3, TOLERANCE);
    shape = shape_of(2, 2, 128, 150);
    assert_near_cpu("groups", &shape, items, 3, TOLERANCE);
}

static void test_cuda_attend__is_near_the_cpu_over_several_spans(void **state)
{
    struct scene_rows items[] = {{0, 505, 20}, {0, 1020, 8}, {0, 1109, 1}};
    struct scene_shape shape = shape_of(3, 1, 64, 1110);
    assert_near_cpu("spans", &shape, items, 3, TOLERANCE);
}

static void test_cuda_attend__sees_exactly_its_window(void **state)
{
    /* a window of 61 of the row at 125 begins with the second token of a page, and so does one of
     * 300 of the row at 556 */
    struct scene_rows items[] = {{0, 0, 2},    {0, 90, 30}, {0, 125, 1},
                                 {0, 500, 30}, {0, 556, 1}, {0, 579, 1}};
    static const uint32_t windows[] = {1, 61, 300};
    for (size_t w = 0; w < sizeof windows / sizeof *windows; w += UNDER_TSAN ? 2 : 1) {
        struct scene_shape shape = shape_of(4, 2, 64, 580);
        shape.window = windows[w];
        shape.kind = KV_SLIDING;
        assert_near_cpu("windows", &shape, items, 6, TOLERANCE);
        shape.kind = KV_CHUNKED;
        assert_near_cpu("windows", &shape, items, 6, TOLERANCE);
    }
}

static void test_cuda_attend__takes_other_shapes_by_fma(void **state)
{
    struct scene_rows items[] = {{0, 0, 2}, {0, 60, 10}, {0, 139, 1}};
    struct scene_shape shape = shape_of(4, 2, 64, 140);
    shape.dtype = KV_F32;
    assert_near_cpu("by fma", &shape, items, 3, TOLERANCE_PLAIN);
    shape = shape_of(6, 2, 48, 140);
    shape.kv.v_dim = 112;
    assert_near_cpu("by fma", &shape, items, 3, TOLERANCE_PLAIN);
    shape.dtype = KV_F32;
    assert_near_cpu("by fma", &shape, items, 3, TOLERANCE_PLAIN);
    shape = shape_of(3, 1, 160, 140); /* more dims than a warp merges at once */
    assert_near_cpu("by fma", &shape, items, 3, TOLERANCE_PLAIN);
    shape = shape_of(2, 1, 80, 140);
    shape.kv.v_dim = 64;
    shape.kv.v_in_k = true;
    assert_near_cpu("by fma", &shape, items, 3, TOLERANCE_PLAIN);
    shape.first_rot = 64; /* latent attention */
    shape.qk_norm = QK_NORM_LATENT;
    assert_near_cpu("latent", &shape, items, 3, TOLERANCE_PLAIN);
    shape.dtype = KV_F32;
    assert_near_cpu("latent", &shape, items, 3, TOLERANCE_PLAIN);
    shape = shape_of(17, 1, 64, 140);
    assert_near_cpu("by fma", &shape, items, 3, TOLERANCE_PLAIN);
}

/* Rows in the first page, across a border, and behind several: their own page as it was written,
 * earlier ones as codes; decoding and prefill, with a window in the first one. */
static void test_cuda_attend__reads_packed_pages_as_the_cpu_does(void **state)
{
    struct scene_rows items[] = {{0, 0, 2}, {0, 60, 10}, {0, 191, 1}, {0, 192, 20}, {0, 279, 1}};
    for (int dtype = KV_Q8; dtype <= KV_Q4; dtype++) {
        struct scene_shape shape = shape_of(3, 1, 64, 280);
        shape.dtype = (enum kv_dtype)dtype;
        assert_near_cpu("packed", &shape, items, 5, TOLERANCE);
        shape.kind = dtype == KV_Q8 ? KV_SLIDING : KV_CHUNKED;
        shape.window = 100;
        assert_near_cpu("packed", &shape, items, 5, TOLERANCE);
        shape = shape_of(4, 2, 128, 280);
        shape.dtype = (enum kv_dtype)dtype;
        assert_near_cpu("packed", &shape, items + 1, 4, TOLERANCE);
    }
}

static void test_cuda_attend__reads_packed_pages_over_several_spans(void **state)
{
    struct scene_rows items[] = {{0, 505, 20}, {0, 1035, 1}};
    struct scene_shape shape = shape_of(2, 1, 64, 1036);
    shape.dtype = KV_Q4;
    assert_near_cpu("packed", &shape, items, 2, TOLERANCE);
}

/* Scales of one side of f16's range: products with them must not leave it. */
static void test_cuda_attend__packed_values_may_be_large_or_small(void **state)
{
    struct scene_rows items[] = {{0, 150, 2}};
    struct scene_shape shape = shape_of(2, 1, 64, 152);
    for (int dtype = KV_Q8; dtype <= KV_Q4; dtype++) {
        shape.dtype = (enum kv_dtype)dtype;
        shape.scale = 1e-4f;
        assert_near_cpu("packed", &shape, items, 1, 1e-4 * TOLERANCE);
    }
}

static void test_cuda_attend__takes_other_packed_shapes_by_fma(void **state)
{
    struct scene_rows items[] = {{0, 0, 2}, {0, 60, 10}, {0, 139, 1}};
    for (int dtype = KV_BF16; dtype <= KV_Q4; dtype++) {
        struct scene_shape shape = shape_of(4, 2, 48, 140);
        shape.kv.v_dim = 112;
        shape.dtype = (enum kv_dtype)dtype;
        assert_near_cpu("by fma", &shape, items, 3, TOLERANCE_PLAIN_PACKED);
        shape = shape_of(2, 1, 80, 140);
        shape.kv.v_dim = shape.first_rot = 64;
        shape.kv.v_in_k = true;
        shape.qk_norm = QK_NORM_LATENT;
        shape.dtype = (enum kv_dtype)dtype;
        assert_near_cpu("latent", &shape, items, 3, TOLERANCE_PLAIN_PACKED);
    }
}

static void test_cuda_attend__f32_pages_may_pass_the_range_of_f16(void **state)
{
    struct scene_rows items[] = {{0, 3, 2}, {0, 69, 1}};
    struct scene_shape shape = shape_of(2, 1, 64, 70);
    shape.dtype = KV_F32;
    shape.round_queries = false;
    shape.scale = 1e5f; /* scores so far apart that each row takes one value */
    assert_near_cpu("beyond f16", &shape, items, 2, 1e5 * 1e-3);
}

static void test_cuda_attend__is_near_the_cpu_with_a_models_heads(void **state)
{
    struct scene_rows items[] = {{0, 1984, 64}, {1, 2046, 1}};
    struct scene_shape shape = shape_of(20, 4, 128, 2048);
    shape.n_seqs = 2;
    shape.length[1] = 2047;
    assert_near_cpu("medium", &shape, items, 2, TOLERANCE);
    shape = shape_of(8, 8, 64, 1024);
    shape.dtype = KV_F32;
    items[0] = (struct scene_rows){0, 1020, 4};
    assert_near_cpu("medium", &shape, items, 1, TOLERANCE_PLAIN);
}

/* scene_attend knows the scale that a row must have. */
static void test_cuda_attend__the_greatest_value_of_a_row_may_stand_anywhere(void **state)
{
    struct scene_rows item = {0, 68, 2};
    struct scene_shape shape = shape_of(5, 5, 64, 70);
    shape.dtype = KV_F32;
    shape.scale = 1000.0f; /* so that a row takes one value, and f16 holds all but the loud one */
    for (uint32_t column = 31; column < 5 * 64; column += UNDER_TSAN ? 96 : 32) {
        shape.loud = 10 * 64 + column; /* behind q and k */
        struct scene scene = scene_open_cuda(&shape);
        scene_fill(&scene, 70);
        free(scene_attend(&scene, &item, 1));
        scene_close(&scene);
        passed(&shape, "beyond f16");
    }
}

/* --- to the bit --- */

/* All rows of sequence 0, in steps of `chunk`, on a device that has never seen them. */
static float *attend_in_chunks(const struct scene_shape *shape, uint32_t chunk)
{
    struct scene scene = scene_open_cuda(shape);
    size_t width = (size_t)shape->n_heads * shape->kv.v_dim;
    uint32_t length = shape->length[0];
    float *all = malloc(sizeof *all * length * width);
    for (uint32_t p = 0; p < length; p += chunk) {
        struct scene_rows item = {0, p, length - p < chunk ? length - p : chunk};
        float *out = scene_attend(&scene, &item, 1);
        memcpy(all + p * width, out, sizeof *out * item.n * width);
        free(out);
    }
    scene_close(&scene);
    return all;
}

/* The same rows in chunks, where the pages end with the row, and some again when all is there. */
static void assert_chunks(const struct scene_shape *shape, uint32_t chunk)
{
    size_t width = (size_t)shape->n_heads * shape->kv.v_dim;
    uint32_t length = shape->length[0];
    float *whole = attend_in_chunks(shape, length), *out = attend_in_chunks(shape, chunk);
    char what[80];
    snprintf(what, sizeof what, "chunk %u, kind %d, window %u", chunk, (int)shape->kind,
             shape->window);
    assert_same(out, whole, length * width, what);
    free(out);

    const struct scene_rows pieces[] = {{0, 0, 1},  {0, 15, 1}, {0, 60, 3},
                                        {0, 63, 1}, {0, 64, 2}, {0, length - 1, 1}};
    struct scene scene = scene_open_cuda(shape);
    scene_fill(&scene, 512);
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) {
        out = scene_attend(&scene, &pieces[i], 1);
        assert_same(out, whole + pieces[i].position * width, pieces[i].n * width, "a piece");
        free(out);
    }
    scene_close(&scene);
    free(whole);
    passed(shape, "chunks");
}

static void test_cuda_attend__a_row_does_not_depend_on_chunks(void **state)
{
    struct scene_shape shape = shape_of(5, 1, 64, 100);
    if (!UNDER_TSAN) /* many launches alike */
        assert_chunks(&shape, 3);
    assert_chunks(&shape, 37);
    shape = shape_of(2, 1, 128, 70);
    assert_chunks(&shape, 16);
    shape.dtype = KV_F32;
    assert_chunks(&shape, 37);
}

/* A chunk of several pages reads them packed, as one that comes later does. */
static void test_cuda_attend__a_packed_row_does_not_depend_on_chunks(void **state)
{
    struct scene_shape shape = shape_of(3, 1, 64, 140);
    shape.dtype = KV_Q4;
    assert_chunks(&shape, 37);
    shape.kind = KV_SLIDING;
    shape.window = 70;
    assert_chunks(&shape, 23);
    shape = shape_of(2, 1, 128, 140);
    shape.dtype = KV_Q8;
    assert_chunks(&shape, 50);
    shape = shape_of(2, 1, 24, 140); /* by fma */
    shape.dtype = KV_Q8;
    assert_chunks(&shape, 50);
}

/* Rows of one block whose windows begin in different pages. */
static void test_cuda_attend__a_row_does_not_depend_on_chunks_with_windows(void **state)
{
    static const uint32_t windows[] = {1, 60, 100};
    struct scene_shape shape = shape_of(3, 1, 64, 150);
    for (size_t w = 0; w < sizeof windows / sizeof *windows; w += UNDER_TSAN ? 2 : 1)
        for (int kind = KV_SLIDING; kind <= KV_CHUNKED; kind++) {
            shape.kind = (enum kv_kind)kind;
            shape.window = windows[w];
            assert_chunks(&shape, 23);
        }
}

/* Decoding rows and prefill chunks, mixed, across borders of spans. */
static void assert_neighbours(struct scene_shape *shape)
{
    shape->n_seqs = 6;
    struct scene_rows items[6];
    for (uint32_t s = 0; s < 6; s++) {
        uint32_t n = s % 3 == 0 ? 25 : 1;
        shape->length[s] = 40 + 137 * s * s % 700;
        items[s] = (struct scene_rows){s, shape->length[s] - n, n};
    }
    shape->length[3] = 530;
    items[3].position = 500;
    size_t width = (size_t)shape->n_heads * shape->kv.v_dim;
    struct scene scene = scene_open_cuda(shape);
    scene_fill(&scene, 512);
    float *together = scene_attend(&scene, items, 6), *at = together;
    for (uint32_t s = 0; s < 6; s++)
        for (uint32_t r = 0; r < items[s].n; r += 10) {
            struct scene_rows some = {s, items[s].position + r,
                                      items[s].n - r < 10 ? items[s].n - r : 10};
            float *alone = scene_attend(&scene, &some, 1);
            assert_same(at, alone, some.n * width, "alone");
            free(alone);
            at += some.n * width;
        }
    free(together);
    scene_close(&scene);
    passed(shape, "neighbours");
}

static void test_cuda_attend__a_row_does_not_depend_on_neighbours(void **state)
{
    struct scene_shape shape = shape_of(5, 1, 64, 0);
    assert_neighbours(&shape);
    if (UNDER_TSAN)
        return;
    shape = shape_of(4, 2, 128, 0);
    shape.dtype = KV_Q8;
    assert_neighbours(&shape);
}

/* --- long rows --- */

static size_t aligned(size_t bytes)
{
    return (bytes + 255) / 256 * 256;
}

/* What `n` states take of a workspace: their parts, (m, l) and o. */
static size_t states_bytes(const struct scene_shape *shape, size_t n)
{
    size_t heads = shape->n_heads;
    return 2 * aligned(n * 8) + aligned(n * heads * 8) + aligned(n * heads * shape->kv.v_dim * 4);
}

/* The same bits with a workspace of so many bytes for states. */
static void assert_cut(struct scene *scene, const struct scene_rows *items, uint32_t n_items,
                       const float *by_span, size_t bytes, const char *what)
{
    uint32_t n_rows = scene_n_rows(items, n_items);
    scene->workspace_less = states_bytes(&scene->shape, n_rows + 512) - bytes;
    float *out = scene_attend(scene, items, n_items);
    assert_same(out, by_span, n_values(&scene->shape, items, n_items), what);
    free(out);
}

/* As many states as are wanted, then `n_each` a row, one byte too few for that, and one a row. */
static void assert_cuts(struct scene *scene, const struct scene_rows *items, uint32_t n_items,
                        uint32_t n_each)
{
    size_t n_rows = scene_n_rows(items, n_items);
    size_t one = states_bytes(&scene->shape, n_rows);
    size_t few = states_bytes(&scene->shape, n_rows * n_each);
    scene->workspace_less = 0;
    float *by_span = scene_attend(scene, items, n_items);
    assert_cut(scene, items, n_items, by_span, few, "fewer states");
    if (few > one)
        assert_cut(scene, items, n_items, by_span, few - 1, "a byte too few");
    assert_cut(scene, items, n_items, by_span, one, "one state a row");
    free(by_span);
    passed(&scene->shape, "cuts");
}

/* Rows that see three spans in two groups. With fewer states they are cut by span, by group, and
 * not at all; of few and many rows together the many are cut less. */
static void test_cuda_attend__cutting_changes_no_bits(void **state)
{
    static const struct scene_rows few_and_many[] = {{0, 16384 + 519, 1}, {0, 16384 + 499, 20}},
                                   border = {0, 16384 - 3, 6};
    for (int dtype = KV_F16; dtype <= KV_F32; dtype++) {
        struct scene_shape shape = shape_of(dtype == KV_F16 ? 1 : 2, 1, 64, 16384 + 520);
        shape.dtype = (enum kv_dtype)dtype;
        shape.kind = KV_SLIDING;
        shape.window = 900;
        shape.first_page[0] = (16384 - 960) / PAGE_TOKENS;
        struct scene scene = scene_open_cuda(&shape);
        scene_fill(&scene, 512);
        for (uint32_t i = 0; i < 2 && !UNDER_TSAN; i++)
            assert_cuts(&scene, few_and_many + i, 1, 2);
        assert_cuts(&scene, few_and_many, 2, 2);
        if (dtype == KV_F16)
            assert_cuts(&scene, &border, 1, 2);
        scene_close(&scene);
        assert_near_cpu("spans", &shape, few_and_many + 1, 1,
                        dtype == KV_F16 ? TOLERANCE : TOLERANCE_PLAIN);
    }
}

/* More groups of spans than a block merges at a time. */
static void test_cuda_attend__cutting_a_long_row_changes_no_bits(void **state)
{
    static const struct scene_rows item = {0, 5 * 16384 + 700, 1};
    struct scene_shape shape = shape_of(1, 1, 8, 5 * 16384 + 701);
    shape.dtype = KV_F32;
    struct scene scene = scene_open_cuda(&shape);
    scene_strew(&scene);
    assert_cuts(&scene, &item, 1, 6);
    scene_close(&scene);
}

static void test_cuda_attend__pages_behind_the_window_may_be_gone(void **state)
{
    struct scene_shape shape = shape_of(4, 2, 64, 600), cut;
    shape.kind = KV_SLIDING;
    shape.window = 60;
    cut = shape;
    cut.first_page[0] = 8; /* positions below 512 */
    struct scene_rows items[] = {{0, 580, 20}};
    struct scene whole = scene_open_cuda(&shape), rest = scene_open_cuda(&cut);
    scene_fill(&whole, 512);
    scene_fill(&rest, 512);
    float *want = scene_attend(&whole, items, 1), *got = scene_attend(&rest, items, 1);
    assert_same(got, want, n_values(&shape, items, 1), "without old pages");
    free(want);
    free(got);
    scene_close(&whole);
    scene_close(&rest);
}

static void test_cuda_attend__a_missing_page_sticks_to_the_stream(void **state)
{
    for (int dtype = KV_F16; dtype <= KV_F32; dtype++) {
        struct scene_shape shape = shape_of(4, 2, 64, 200);
        shape.dtype = (enum kv_dtype)dtype;
        shape.first_page[0] = 2; /* and FULL attention wants them */
        struct scene scene = scene_open_cuda(&shape);
        scene_fill(&scene, 512);
        struct scene_rows item = {0, 199, 1};
        int status;
        free(scene_try_attend(&scene, &item, 1, &status));
        assert_int_equal(status, STATUS_INTERNAL);
        assert_int_equal(stream_status(scene.stream), STATUS_INTERNAL);
        scene_close(&scene);
    }
}

int main(void)
{
    const struct CMUnitTest tails[] = {
        cmocka_unit_test(test_cuda_attend__is_near_the_cpu_for_every_group_size),
        cmocka_unit_test(test_cuda_attend__is_near_the_cpu_with_large_heads),
        cmocka_unit_test(test_cuda_attend__is_near_the_cpu_over_several_spans),
        cmocka_unit_test(test_cuda_attend__sees_exactly_its_window),
        cmocka_unit_test(test_cuda_attend__takes_other_shapes_by_fma),
        cmocka_unit_test(test_cuda_attend__reads_packed_pages_as_the_cpu_does),
        cmocka_unit_test(test_cuda_attend__reads_packed_pages_over_several_spans),
        cmocka_unit_test(test_cuda_attend__packed_values_may_be_large_or_small),
        cmocka_unit_test(test_cuda_attend__takes_other_packed_shapes_by_fma),
        cmocka_unit_test(test_cuda_attend__f32_pages_may_pass_the_range_of_f16),
        cmocka_unit_test(test_cuda_attend__the_greatest_value_of_a_row_may_stand_anywhere),
        cmocka_unit_test(test_cuda_attend__a_row_does_not_depend_on_chunks),
        cmocka_unit_test(test_cuda_attend__a_packed_row_does_not_depend_on_chunks),
        cmocka_unit_test(test_cuda_attend__a_row_does_not_depend_on_chunks_with_windows),
        cmocka_unit_test(test_cuda_attend__a_row_does_not_depend_on_neighbours),
        cmocka_unit_test(test_cuda_attend__cutting_changes_no_bits),
        cmocka_unit_test(test_cuda_attend__cutting_a_long_row_changes_no_bits),
        cmocka_unit_test(test_cuda_attend__pages_behind_the_window_may_be_gone),
        cmocka_unit_test(test_cuda_attend__a_missing_page_sticks_to_the_stream),
    };
    const struct CMUnitTest medium[] = {
        cmocka_unit_test(test_cuda_attend__is_near_the_cpu_with_a_models_heads),
    };
    return twin_has_cuda() ? matrix_run(tails, sizeof tails / sizeof *tails, medium,
                                        sizeof medium / sizeof *medium)
                           : TWIN_SKIPPED;
}
