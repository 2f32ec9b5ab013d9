#include "kernels/cpu/cpu_rope.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "kernels/cpu/cpu_x86.h"
#include "kernels/q_temperature.h"
#include "kernels/tensor_type.h"
#include "tests/kernels/isa_fixture.h"
#include "tests/kernels/scene_fixture.h"

struct named_ops {
    enum isa isa;
    const struct cpu_rope_ops *ops;
};

static const struct named_ops fast[] = {{ISA_AVX2, CPU_X86(&cpu_rope_avx2)},
                                       {ISA_AVX512, CPU_X86(&cpu_rope_avx512)}};

static uint64_t random_state = 9;

static float random_value(void)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (float)((double)(random_state >> 11) * 0x1p-52 - 1.0);
}

static void test_rope__angles_are_right_to_sixteen_million_tokens(void **state)
{
    double inv_freq[32];
    float c[32], s[32];
    for (int k = 0; k < 32; k++)
        inv_freq[k] = pow(1e5, -2.0 * k / 64);
    for (uint32_t position = 0; position < 1u << 24; position = position * 3 + 1) {
        cpu_rope_scalar.angles(inv_freq, 32, position, 1.25f, c, s);
        for (int k = 0; k < 32; k++) {
            double angle = (double)position * inv_freq[k];
            assert_true(fabs((double)c[k] - 1.25 * cos(angle)) < 1e-7);
            assert_true(fabs((double)s[k] - 1.25 * sin(angle)) < 1e-7);
        }
    }
}

static void test_rope__angles_and_rotations_are_the_same_on_every_instruction_set(void **state)
{
    static const uint32_t dims[] = {2, 6, 16, 64, 80, 126, 256};
    double inv_freq[128];
    float c[2][128], s[2][128], from[300], to[2][300];
    for (size_t i = 0; i < 2; i++) {
        if (isa_is_skipped(fast[i].isa))
            continue;
        for (size_t n = 0; n < sizeof dims / sizeof *dims; n++)
            for (uint32_t position = 0; position < 1u << 24; position = position * 5 + 3) {
                for (uint32_t k = 0; k < dims[n] / 2; k++)
                    inv_freq[k] = pow(10000, -2.0 * k / dims[n]);
                for (uint32_t k = 0; k < 300; k++)
                    from[k] = random_value();
                cpu_rope_scalar.angles(inv_freq, dims[n] / 2, position, 0.7f, c[0], s[0]);
                fast[i].ops->angles(inv_freq, dims[n] / 2, position, 0.7f, c[1], s[1]);
                assert_memory_equal(c[1], c[0], dims[n] / 2 * sizeof(float));
                assert_memory_equal(s[1], s[0], dims[n] / 2 * sizeof(float));
                for (int style = ROPE_NONE; style <= ROPE_NEOX; style++) {
                    uint32_t n_dims = dims[n] + position % 44; /* dims beyond n_rot pass */
                    cpu_rope_scalar.rotate(from, n_dims, dims[n], (enum rope_style)style, c[0],
                                           s[0], 0.18f, to[0]);
                    fast[i].ops->rotate(from, n_dims, dims[n], (enum rope_style)style, c[0], s[0],
                                        0.18f, to[1]);
                    assert_memory_equal(to[1], to[0], n_dims * sizeof(float));
                }
            }
    }
}

static void test_rope__pairs_are_adjacent_or_half_a_head_apart(void **state)
{
    float c[2] = {0.0f, 1.0f}, s[2] = {1.0f, 0.0f}; /* a quarter turn, and none */
    float from[6] = {1, 2, 3, 4, 5, 6}, to[6];
    float adjacent[6] = {-4, 2, 6, 8, 10, 12}, apart[6] = {-6, 4, 2, 8, 10, 12};
    cpu_rope_scalar.rotate(from, 6, 4, ROPE_NORM, c, s, 2.0f, to);
    for (int i = 0; i < 6; i++)
        assert_true(to[i] == adjacent[i]);
    cpu_rope_scalar.rotate(from, 6, 4, ROPE_NEOX, c, s, 2.0f, to);
    for (int i = 0; i < 6; i++)
        assert_true(to[i] == apart[i]);
}

static void test_rope__halves_round_to_even_saturate_and_are_counted(void **state)
{
    const struct cpu_rope_ops *all[3] = {&cpu_rope_scalar};
    uint32_t n_all = 1;
    for (size_t i = 0; i < 2; i++)
        if (!isa_is_skipped(fast[i].isa))
            all[n_all++] = fast[i].ops;
    float from[] = {1.0f,     65504.0f,  65505.0f,       -65504.0f,      -70000.0f,
                    INFINITY, -INFINITY, 1.00048828125f, 1.00146484375f, 6e-8f,
                    -0.0f,    1e-9f,     3.14159274f};
    uint16_t expected[] = {0x3c00, 0x7bff, 0x7bff, 0xfbff, 0xfbff, 0x7bff, 0xfbff,
                           0x3c00, 0x3c02, 0x0001, 0x8000, 0x0000, 0x4248};
    for (uint32_t i = 0; i < n_all; i++)
        for (uint32_t n = 1; n <= 13; n++) {
            uint16_t to[14];
            memset(to, 0x55, sizeof to);
            uint32_t n_expected = (n > 2) + (n > 4) + (n > 5) + (n > 6);
            assert_int_equal(all[i]->halves(from, n, to), n_expected);
            assert_memory_equal(to, expected, n * sizeof *to);
            assert_int_equal(to[n], 0x5555);
        }
    for (uint32_t i = 0; i < n_all; i++) { /* every rounding */
        for (int again = 0; again < 20000; again++) {
            float x[19];
            uint16_t to[19];
            for (int j = 0; j < 19; j++)
                x[j] = random_value() * exp2f((float)(again % 40 - 26));
            all[i]->halves(x, 19, to);
            for (int j = 0; j < 19; j++) {
                bool saturated;
                assert_int_equal(to[j], f16_from_f32_saturating(x[j], &saturated));
            }
        }
    }
}

/* --- the op --- */

static struct scene_shape small_shape(enum kv_dtype dtype)
{
    return (struct scene_shape){.n_heads = 6,
                                .kv = {.n_kv_heads = 2, .k_dim = 40, .v_dim = 24},
                                .dtype = dtype,
                                .style = ROPE_NEOX,
                                .n_seqs = 2,
                                .length = {150, 70}};
}

static void test_rope__a_page_holds_keys_by_dimension_and_values_by_token(void **state)
{
    struct scene_shape shape = small_shape(KV_F32);
    shape.style = ROPE_NONE;
    struct scene scene = scene_open(&shape, ISA_AUTO, 2);
    scene_fill(&scene, 33);
    size_t n_bytes;
    float *page = (float *)scene_page(&scene, 0, 1, &n_bytes);
    assert_int_equal(n_bytes, 2 * 64 * (40 + 24) * sizeof(float));
    for (uint32_t head = 0; head < 2; head++)
        for (uint32_t slot = 0; slot < 64; slot++) {
            const float *k = page + head * 64 * 64, *v = k + 64 * 40;
            for (uint32_t d = 0; d < 40; d++)
                assert_true(k[d * 64 + slot] == scene_value(0, 64 + slot, (6 + head) * 40 + d));
            for (uint32_t d = 0; d < 24; d++)
                assert_true(v[slot * 24 + d] == scene_value(0, 64 + slot, 8 * 40 + head * 24 + d));
        }
    free(page);
    scene_close(&scene);
}

static void test_rope__pages_are_the_same_however_they_are_written(void **state)
{
    for (int dtype = KV_F16; dtype <= KV_F32; dtype++) {
        struct scene_shape shape = small_shape((enum kv_dtype)dtype);
        shape.qk_norm = dtype == KV_F16 ? QK_NORM_NONE : QK_NORM_BEFORE;
        struct scene truth = scene_open(&shape, ISA_SCALAR, 1);
        scene_fill(&truth, 512);
        for (int isa = ISA_SCALAR; isa <= ISA_AVX512; isa++) {
            if (isa_is_skipped((enum isa)isa))
                continue;
            for (uint32_t chunk = 1; chunk < 100; chunk = chunk * 3 + 2) {
                struct scene scene = scene_open(&shape, (enum isa)isa, 1 + (int)chunk % 4);
                scene_fill(&scene, chunk);
                for (uint32_t p = 0; p < 3; p++) {
                    size_t n_bytes;
                    uint8_t *a = scene_page(&truth, 0, p, &n_bytes),
                            *b = scene_page(&scene, 0, p, &n_bytes);
                    assert_memory_equal(a, b, n_bytes);
                    free(a);
                    free(b);
                }
                scene_close(&scene);
            }
        }
        scene_close(&truth);
    }
}

static void test_rope__queries_and_keys_may_be_made_apart(void **state)
{
    static const struct scene_rows items[] = {{0, 0, 3}, {0, 149, 1}, {1, 60, 10}};
    for (int isa = ISA_SCALAR; isa <= ISA_AVX512; isa++)
        for (int norm = QK_NORM_NONE; norm <= QK_NORM_AFTER && !isa_is_skipped((enum isa)isa);
             norm++) {
            struct scene_shape shape = small_shape(KV_F16);
            shape.qk_norm = (enum qk_norm)norm;
            struct scene whole = scene_open(&shape, (enum isa)isa, 2);
            shape.apart = true;
            struct scene apart = scene_open(&shape, (enum isa)isa, 2);
            scene_fill(&whole, 64);
            scene_fill(&apart, 64);
            float *want = scene_queries(&whole, items, 3), *got = scene_queries(&apart, items, 3);
            assert_memory_equal(got, want, 14 * 6 * 40 * sizeof *want);
            free(want);
            free(got);
            for (uint32_t p = 0; p < 3; p++) {
                size_t n_bytes;
                uint8_t *a = scene_page(&whole, 0, p, &n_bytes),
                        *b = scene_page(&apart, 0, p, &n_bytes);
                assert_memory_equal(b, a, n_bytes);
                free(a);
                free(b);
            }
            scene_close(&whole);
            scene_close(&apart);
        }
}

/* Its steps: 1 up to the last token before a multiple of the length, less the offset. */
static void test_rope__queries_grow_by_the_logarithm_of_whole_lengths(void **state)
{
    struct q_temperature llama4 = {0.1f, 8192, 1}, mistral3 = {0.1f, 16384, 0}, none = {.scale = 0};
    assert_true(q_temperature_factor(0.25f, &none, 100000) == 0.25f);
    assert_true(q_temperature_factor(0.25f, &llama4, 8190) == 0.25f);
    assert_true(fabs((double)q_temperature_factor(1.0f, &llama4, 8191) - 1.069314718) < 1e-7);
    assert_true(fabs((double)q_temperature_factor(2.0f, &llama4, 16383) - 2.219722458) < 2e-7);
    assert_true(q_temperature_factor(0.25f, &mistral3, 16383) == 0.25f);
    assert_true(fabs((double)q_temperature_factor(1.0f, &mistral3, 16384) - 1.069314718) < 1e-7);
}

/* Of a plain page of 16 bits: K by dimension, V by token. */
static uint16_t half_at(const uint8_t *page, const struct kv_shape *kv, bool is_k, uint32_t slot,
                        uint32_t d)
{
    uint16_t half;
    size_t at = is_k ? (size_t)d * PAGE_TOKENS + slot
                     : (size_t)kv->k_dim * PAGE_TOKENS + (size_t)slot * kv->v_dim + d;
    memcpy(&half, page + at * sizeof half, sizeof half);
    return half;
}

/* Those that f32 has and bf16 has not: the greatest take its place, and are counted as f16's. */
static void test_rope__values_beyond_bf16_are_cut_and_counted(void **state)
{
    struct scene_shape shape = small_shape(KV_BF16);
    shape.style = ROPE_NONE;
    shape.scale = 0x1p127f; /* infinite from 2 on */
    uint64_t n_expected = 0, n_seen;
    for (uint32_t s = 0; s < 2; s++)
        for (uint32_t t = 0; t < shape.length[s]; t++)
            for (uint32_t i = 6 * 40; i < 8 * 40 + 2 * 24; i++)
                n_expected += fabsf(shape.scale * scene_value(s, t, i)) > 0x1.fep127f;
    assert_true(n_expected > 10);
    struct scene scene = scene_open(&shape, ISA_AUTO, 2);
    scene_fill(&scene, 50);
    device_download(scene.device, &n_seen, scene.n_saturated, sizeof n_seen);
    assert_int_equal(n_seen, n_expected);

    size_t n_bytes, n_greatest = 0;
    uint8_t *page = scene_page(&scene, 0, 0, &n_bytes); /* head 0 is its beginning */
    for (uint32_t slot = 0; slot < PAGE_TOKENS; slot++)
        for (uint32_t i = 0; i < 40 + 24; i++) {
            bool is_k = i < 40;
            float x = shape.scale * scene_value(0, slot, is_k ? 6 * 40 + i : 8 * 40 + i - 40);
            uint16_t half = half_at(page, &shape.kv, is_k, slot, is_k ? i : i - 40);
            uint32_t bits = (uint32_t)half << 16;
            float value;
            memcpy(&value, &bits, sizeof value);
            assert_true(isfinite(value));
            if (fabsf(x) > 0x1.fep127f) {
                assert_int_equal(half, x > 0 ? 0x7f7f : 0xff7f);
                n_greatest++;
            } else {
                assert_true(fabsf(value - x) <= fabsf(x) * 0x1p-8f);
            }
        }
    assert_true(n_greatest > 0);
    free(page);
    scene_close(&scene);
}

static void test_rope__values_beyond_f16_are_counted_once_each(void **state)
{
    struct scene_shape shape = small_shape(KV_F16);
    shape.style = ROPE_NONE;
    shape.scale = 40000.0f;
    uint64_t n_expected = 0, n_seen;
    for (uint32_t s = 0; s < 2; s++)
        for (uint32_t t = 0; t < shape.length[s]; t++)
            for (uint32_t i = 6 * 40; i < 8 * 40 + 2 * 24; i++)
                n_expected += fabsf(40000.0f * scene_value(s, t, i)) > 65504.0f;
    assert_true(n_expected > 1000);
    for (int isa = ISA_SCALAR; isa <= ISA_AVX512; isa++) {
        if (isa_is_skipped((enum isa)isa))
            continue;
        struct scene scene = scene_open(&shape, (enum isa)isa, 2);
        scene_fill(&scene, 50);
        device_download(scene.device, &n_seen, scene.n_saturated, sizeof n_seen);
        assert_int_equal(n_seen, n_expected);
        scene_close(&scene);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rope__angles_are_right_to_sixteen_million_tokens),
        cmocka_unit_test(test_rope__angles_and_rotations_are_the_same_on_every_instruction_set),
        cmocka_unit_test(test_rope__pairs_are_adjacent_or_half_a_head_apart),
        cmocka_unit_test(test_rope__halves_round_to_even_saturate_and_are_counted),
        cmocka_unit_test(test_rope__a_page_holds_keys_by_dimension_and_values_by_token),
        cmocka_unit_test(test_rope__pages_are_the_same_however_they_are_written),
        cmocka_unit_test(test_rope__queries_and_keys_may_be_made_apart),
        cmocka_unit_test(test_rope__queries_grow_by_the_logarithm_of_whole_lengths),
        cmocka_unit_test(test_rope__values_beyond_bf16_are_cut_and_counted),
        cmocka_unit_test(test_rope__values_beyond_f16_are_counted_once_each),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
