/* rope_append against the CPU's: K and V to the bit wherever they stand, queries rounded once. */
#include "kernels/cuda/cuda_page.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "kernels/cpu/cpu_page.h"
#include "kernels/tensor_type.h"
#include "tests/kernels/cuda_linear_fixture.h"
#include "tests/kernels/matrix_fixture.h"
#include "tests/kernels/scene_fixture.h"
#include "tests/kernels/twin_fixture.h"
#include "tests/under_tsan.h"

#define LAST_DTYPE (UNDER_TSAN ? KV_F16 : KV_BF16) /* threads do the same for a page of any */

static struct scene_shape small_shape(enum kv_dtype dtype, enum rope_style style)
{
    return (struct scene_shape){.n_heads = 6,
                                .kv = {.n_kv_heads = 2, .k_dim = 40, .v_dim = 24},
                                .dtype = dtype,
                                .style = style,
                                .n_seqs = 2,
                                .length = {150, 70}};
}

/* Where the CPU's page holds K (or V) of a head and token, in bytes. */
static size_t cpu_at(const struct scene_shape *shape, bool is_v, uint32_t head, uint32_t token,
                     uint32_t d)
{
    const struct kv_shape *kv = &shape->kv;
    struct cpu_head_layout layout = cpu_page_head(kv, shape->dtype);
    size_t at = head * layout.bytes + layout.k;
    size_t value = (size_t)d * PAGE_TOKENS + token;
    if (is_v && !kv->v_in_k) {
        at = head * layout.bytes + layout.v;
        value = (size_t)token * kv->v_dim + d;
    }
    return at + value * kv_dtype_bytes(shape->dtype);
}

static void assert_same_page(struct scene *cpu, struct scene *cuda, uint32_t seq, uint32_t page)
{
    const struct scene_shape *shape = &cpu->shape;
    uint32_t left = shape->length[seq] - page * PAGE_TOKENS;
    uint32_t n_tokens = left < PAGE_TOKENS ? left : PAGE_TOKENS;
    size_t n_bytes, size = kv_dtype_bytes(shape->dtype);
    uint8_t *want = scene_page(cpu, seq, page, &n_bytes);
    uint8_t *got = scene_page(cuda, seq, page, &n_bytes);
    for (uint32_t head = 0; head < shape->kv.n_kv_heads; head++)
        for (uint32_t t = 0; t < n_tokens; t++) {
            for (uint32_t d = 0; d < shape->kv.k_dim; d++)
                assert_memory_equal(
                    got + cuda_page_k_at(&shape->kv, shape->dtype, head, t) + d * size,
                    want + cpu_at(shape, false, head, t, d), size);
            for (uint32_t d = 0; d < shape->kv.v_dim; d++)
                assert_memory_equal(
                    got + cuda_page_v_at(&shape->kv, shape->dtype, head, t) + d * size,
                    want + cpu_at(shape, true, head, t, d), size);
        }
    free(want);
    free(got);
}

static void assert_same_pages(const char *shapes, const struct scene_shape *shape, uint32_t chunk)
{
    struct scene_shape whole = *shape;
    whole.apart = false;
    struct scene cpu = scene_open(&whole, ISA_AUTO, 1), cuda = scene_open_cuda(shape);
    scene_fill(&cpu, 64);
    scene_fill(&cuda, chunk);
    for (uint32_t s = 0; s < shape->n_seqs; s++)
        for (uint32_t p = 0; p * PAGE_TOKENS < shape->length[s]; p++)
            assert_same_page(&cpu, &cuda, s, p);
    uint64_t n_want, n_got;
    device_download(cpu.device, &n_want, cpu.n_saturated, sizeof n_want);
    device_download(cuda.device, &n_got, cuda.n_saturated, sizeof n_got);
    assert_int_equal(n_got, n_want);
    if (shape->scale > 1000.0f && shape->dtype != KV_F32)
        assert_true(n_want > 100);
    scene_close(&cpu);
    scene_close(&cuda);
    matrix_passed("rope_append", kv_dtype_name(shape->dtype), shapes);
}

static void test_cuda_rope__pages_hold_the_bits_of_the_cpu(void **state)
{
    for (int dtype = KV_F16; dtype <= LAST_DTYPE; dtype++)
        for (int style = ROPE_NONE; style <= ROPE_NEOX; style++) {
            struct scene_shape shape = small_shape((enum kv_dtype)dtype, (enum rope_style)style);
            assert_same_pages("styles", &shape, style == ROPE_NORM ? 7 : 150);
        }
}

static void test_cuda_rope__turns_a_part_of_a_head(void **state)
{
    for (int style = ROPE_NORM; style <= ROPE_NEOX; style++) {
        struct scene_shape shape = small_shape(KV_F16, (enum rope_style)style);
        shape.n_rot = 24;
        assert_same_pages("styles", &shape, 70);
    }
}

static void test_cuda_rope__values_beyond_f16_are_cut_and_counted(void **state)
{
    struct scene_shape shape = small_shape(KV_F16, ROPE_NEOX);
    shape.scale = 40000.0f;
    assert_same_pages("beyond f16", &shape, 50);
    shape.dtype = KV_F32;
    assert_same_pages("beyond f16", &shape, 50);
    shape.dtype = KV_BF16;
    shape.scale = 1.7e38f;
    assert_same_pages("beyond bf16", &shape, 50);
}

/* Keys of which a part is normed and another turns. */
static struct scene_shape latent_shape(enum kv_dtype dtype, enum rope_style style)
{
    struct scene_shape shape = small_shape(dtype, style);
    shape.kv = (struct kv_shape){.n_kv_heads = 1, .k_dim = 56, .v_dim = 40, .v_in_k = true};
    shape.first_rot = 40;
    shape.qk_norm = QK_NORM_LATENT;
    return shape;
}

static void test_cuda_rope__latent_pages_hold_keys_alone(void **state)
{
    for (int dtype = KV_F16; dtype <= LAST_DTYPE; dtype++)
        for (int style = ROPE_NONE; style <= ROPE_NEOX; style++) {
            struct scene_shape shape =
                latent_shape((enum kv_dtype)dtype, (enum rope_style)style);
            assert_same_pages("latent", &shape, 64);
            if (UNDER_TSAN)
                continue;
            shape.n_rot = 12; /* dims behind pass too */
            assert_same_pages("latent", &shape, 64);
        }
}

static void assert_queries(const struct scene_shape *shape, const struct scene_rows *items,
                           uint32_t n_items)
{
    uint32_t width = shape->n_heads * shape->kv.k_dim;
    struct scene_shape whole = *shape;
    whole.apart = false;
    struct scene cpu = scene_open(&whole, ISA_AUTO, 1), cuda = scene_open_cuda(shape);
    float *want = scene_queries(&cpu, items, n_items), *got = scene_queries(&cuda, items, n_items);
    for (uint32_t r = 0; r < scene_n_rows(items, n_items); r++) {
        const float *row = want + (size_t)r * width;
        float scale = panel_scale(row, width);
        for (uint32_t d = 0; d < width; d++)
            assert_true(got[(size_t)r * width + d] ==
                        f16_to_f32(f16_from_f32(row[d] / scale)) * scale);
    }
    free(want);
    free(got);
    scene_close(&cpu);
    scene_close(&cuda);
    matrix_passed("rope_append", kv_dtype_name(shape->dtype), "queries");
}

static void test_cuda_rope__queries_are_rounded_once_under_a_power_of_two(void **state)
{
    static const float scales[] = {1.0f, 3e5f, 1e12f};
    static const struct scene_rows items[] = {{0, 0, 3}, {0, 149, 1}, {1, 60, 10}};
    for (size_t i = 0; i < sizeof scales / sizeof *scales; i++) {
        struct scene_shape shape = small_shape(KV_F32, ROPE_NEOX);
        shape.scale = scales[i];
        assert_queries(&shape, items, 3);
    }
}

/* More heads than are normed at once; dims that are no whole sixteens. */
static void test_cuda_rope__norms_have_the_bits_of_the_cpu(void **state)
{
    static const struct scene_rows items[] = {{0, 0, 2}, {0, 69, 1}, {1, 30, 3}};
    for (int norm = QK_NORM_BEFORE; norm <= QK_NORM_AFTER; norm++)
        for (int style = ROPE_NONE; style <= ROPE_NEOX; style++) {
            struct scene_shape shape = small_shape(KV_F32, (enum rope_style)style);
            shape.n_heads = style == ROPE_NORM ? 32 : 6;
            shape.qk_norm = (enum qk_norm)norm;
            shape.length[0] = 70;
            shape.length[1] = 33;
            shape.q_temperature = (struct q_temperature){0.3f, 20, 1};
            assert_same_pages("norms", &shape, 70);
            assert_queries(&shape, items, 3);
        }
}

static void test_cuda_rope__queries_and_keys_may_be_made_apart(void **state)
{
    static const struct scene_rows items[] = {{0, 0, 2}, {0, 69, 1}, {1, 30, 3}};
    for (int norm = QK_NORM_NONE; norm <= QK_NORM_AFTER; norm++) {
        struct scene_shape shape = small_shape(KV_F32, ROPE_NEOX);
        shape.apart = true;
        shape.qk_norm = (enum qk_norm)norm;
        assert_same_pages("apart", &shape, 64);
        assert_queries(&shape, items, 3);
    }
}

static void test_cuda_rope__latent_queries_have_no_norm(void **state)
{
    static const struct scene_rows items[] = {{0, 0, 3}, {0, 149, 1}, {1, 60, 10}};
    struct scene_shape shape = latent_shape(KV_F32, ROPE_NORM);
    shape.q_temperature = (struct q_temperature){0.3f, 20, 1};
    for (int apart = 0; apart < 2; apart++) {
        shape.apart = apart == 1;
        assert_queries(&shape, items, 3);
        assert_same_pages("apart", &shape, 64);
    }
}

static void test_cuda_rope__the_greatest_query_may_stand_anywhere(void **state)
{
    static const struct scene_rows item = {0, 7, 2};
    struct scene_shape shape = small_shape(KV_F32, ROPE_NONE);
    shape.n_heads = 8; /* 320 queries: more than a block has threads */
    shape.scale = 5000.0f;
    for (shape.loud = 31; shape.loud < 320; shape.loud += 32)
        assert_queries(&shape, &item, 1);
}

static void test_cuda_rope__positions_far_out_have_the_bits_of_the_cpu(void **state)
{
    struct scene_shape shape = small_shape(KV_F32, ROPE_NORM);
    shape.n_seqs = 1;
    shape.length[0] = 16000064;
    shape.first_page[0] = 250000;
    struct scene cpu = scene_open(&shape, ISA_AUTO, 1), cuda = scene_open_cuda(&shape);
    scene_fill(&cpu, 64);
    scene_fill(&cuda, 64);
    assert_same_page(&cpu, &cuda, 0, 250000);
    scene_close(&cpu);
    scene_close(&cuda);
    matrix_passed("rope_append", "f32", "far positions");
}

static void test_cuda_rope__pages_hold_the_bits_of_the_cpu_for_a_models_rows(void **state)
{
    struct scene_shape shape = small_shape(KV_F16, ROPE_NEOX);
    shape.n_heads = 32;
    shape.kv = (struct kv_shape){.n_kv_heads = 8, .k_dim = 128, .v_dim = 128};
    shape.length[0] = 512;
    assert_same_pages("medium", &shape, 512);
    shape.dtype = KV_F32;
    shape.style = ROPE_NORM;
    assert_same_pages("medium", &shape, 512);
}

static void attend_nothing(struct stream *stream, const struct attend_args *args)
{
}

static void test_cuda_rope__a_missing_page_sticks_to_the_stream(void **state)
{
    struct scene_shape shape = small_shape(KV_F16, ROPE_NEOX);
    shape.first_page[0] = 1;
    struct scene cuda = scene_open_cuda(&shape);
    struct ops without_attend = *cuda.ops; /* which would stick the same */
    without_attend.attend = attend_nothing;
    cuda.ops = &without_attend;
    struct scene_rows item = {0, 63, 1};
    int status;
    free(scene_try_attend(&cuda, &item, 1, &status));
    assert_int_equal(status, STATUS_INTERNAL);
    assert_int_equal(stream_status(cuda.stream), STATUS_INTERNAL);
    scene_close(&cuda);
}

int main(void)
{
    const struct CMUnitTest tails[] = {
        cmocka_unit_test(test_cuda_rope__pages_hold_the_bits_of_the_cpu),
        cmocka_unit_test(test_cuda_rope__turns_a_part_of_a_head),
        cmocka_unit_test(test_cuda_rope__values_beyond_f16_are_cut_and_counted),
        cmocka_unit_test(test_cuda_rope__latent_pages_hold_keys_alone),
        cmocka_unit_test(test_cuda_rope__queries_are_rounded_once_under_a_power_of_two),
        cmocka_unit_test(test_cuda_rope__norms_have_the_bits_of_the_cpu),
        cmocka_unit_test(test_cuda_rope__queries_and_keys_may_be_made_apart),
        cmocka_unit_test(test_cuda_rope__latent_queries_have_no_norm),
        cmocka_unit_test(test_cuda_rope__the_greatest_query_may_stand_anywhere),
        cmocka_unit_test(test_cuda_rope__positions_far_out_have_the_bits_of_the_cpu),
        cmocka_unit_test(test_cuda_rope__a_missing_page_sticks_to_the_stream),
    };
    const struct CMUnitTest medium[] = {
        cmocka_unit_test(test_cuda_rope__pages_hold_the_bits_of_the_cpu_for_a_models_rows),
    };
    return twin_has_cuda() ? matrix_run(tails, sizeof tails / sizeof *tails, medium,
                                        sizeof medium / sizeof *medium)
                           : TWIN_SKIPPED;
}
