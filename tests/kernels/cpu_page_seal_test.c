/* page_seal against the definition of ops.h, written out again; every instruction set. */
#include "tests/kernels/isa_fixture.h"
#include "tests/kernels/scene_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/cpu_page.h"
#include "kernels/cpu/cpu_page_seal.h"
#include "kernels/cpu/cpu_x86.h"
#include "kernels/tensor_type.h"

static cpu_seal_row *const rows[] = {cpu_seal_row_scalar, CPU_X86(cpu_seal_row_avx2),
                                     CPU_X86(cpu_seal_row_avx512)};
static const enum isa isas[] = {ISA_SCALAR, ISA_AVX2, ISA_AVX512};

static uint8_t code_at(const uint8_t *codes, uint32_t i, enum kv_dtype dtype)
{
    if (dtype == KV_Q8)
        return codes[i];
    uint8_t both = codes[i / 32 * 16 + i % 16];
    return i % 32 < 16 ? both & 15 : both >> 4;
}

/* Each code by itself, from the row's own least value and step. */
static void check_row(const uint16_t *halves, uint32_t n, enum kv_dtype dtype,
                      const uint8_t *codes, float least, float step)
{
    float min = f16_to_f32(halves[0]), max = min, top = dtype == KV_Q4 ? 15 : 255;
    for (uint32_t i = 0; i < n; i++) {
        min = fminf(min, f16_to_f32(halves[i]));
        max = fmaxf(max, f16_to_f32(halves[i]));
    }
    float wanted = (max - min) / top;
    assert_true(least == min && step == wanted && !signbit(step));
    assert_true(least != 0 || !signbit(least));
    for (uint32_t i = 0; i < n; i++) {
        float x = f16_to_f32(halves[i]), code = step == 0 ? 0 : rintf((x - least) / step);
        assert_int_equal(code_at(codes, i, dtype), (int)code);
        assert_true(fabsf(least + step * code - x) <= step * 0.5001f);
    }
    for (uint32_t i = n; dtype == KV_Q4 && i % 32 != 0; i++)
        assert_int_equal(code_at(codes, i, dtype), 0);
}

/* What stands in row k of a few that are hard: all alike, zeros of both signs, the ends of f16, its
 * smallest values. */
static uint16_t hard_half(uint32_t k, uint32_t i)
{
    switch (k) {
    case 0:
        return f16_from_f32(-3.25f);
    case 1:
        return i % 2 == 0 ? 0x8000 : 0;
    case 2:
        return i % 3 == 0 ? 0xfbff : 0x7bff;
    case 3:
        return (uint16_t)(i % 7);
    default:
        return f16_from_f32(scene_value(k, i, 0) * (k % 2 == 0 ? 1 : 300));
    }
}

static void test_page_seal__a_row_is_what_its_definition_says(void **state)
{
    static const uint32_t sizes[] = {64, 16, 24, 32, 40, 80, 96, 128, 256, 512, 576, 1024, 1};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
        for (int dtype = KV_Q8; dtype <= KV_Q4; dtype++)
            for (uint32_t k = 0; k < 12; k++) {
                uint16_t halves[MODEL_HEAD_DIM_MAX];
                uint8_t codes[3][MODEL_HEAD_DIM_MAX];
                float least[3], step[3];
                size_t n_bytes = cpu_page_row_bytes(sizes[s], (enum kv_dtype)dtype);
                for (uint32_t i = 0; i < sizes[s]; i++)
                    halves[i] = hard_half(k, i);
                for (size_t i = 0; i < 3; i++) {
                    if (!isa_is_available(isas[i]))
                        continue;
                    rows[i](halves, sizes[s], (enum kv_dtype)dtype, codes[i], &least[i], &step[i]);
                    check_row(halves, sizes[s], (enum kv_dtype)dtype, codes[i], least[i], step[i]);
                    assert_memory_equal(codes[i], codes[0], n_bytes);
                    assert_memory_equal(&least[i], &least[0], sizeof *least);
                    assert_memory_equal(&step[i], &step[0], sizeof *step);
                }
            }
}

static void test_page_seal__what_is_no_number_spoils_no_other_code(void **state)
{
    uint16_t halves[64], clean[64];
    uint8_t codes[3][64], wanted[64];
    float least, step, wanted_least, wanted_step;
    for (uint32_t i = 0; i < 64; i++)
        clean[i] = halves[i] = hard_half(5, i);
    halves[0] = halves[17] = 0x7e00;
    clean[0] = clean[17] = clean[1];
    cpu_seal_row_scalar(clean, 64, KV_Q8, wanted, &wanted_least, &wanted_step);
    wanted[0] = wanted[17] = 0;
    for (size_t i = 0; i < 3; i++) {
        if (!isa_is_available(isas[i]))
            continue;
        rows[i](halves, 64, KV_Q8, codes[i], &least, &step);
        assert_true(least == wanted_least && step == wanted_step);
        assert_memory_equal(codes[i], wanted, 64);
    }
}

static struct scene_shape shape_of(enum kv_dtype dtype, bool is_latent)
{
    return (struct scene_shape){
        .n_heads = 4,
        .kv = {.n_kv_heads = is_latent ? 1 : 2, .k_dim = 80, .v_dim = 64, .v_in_k = is_latent},
        .dtype = dtype,
        .style = ROPE_NORM,
        .qk_norm = is_latent ? QK_NORM_LATENT : QK_NORM_NONE,
        .first_rot = is_latent ? 64 : 0,
        .n_seqs = 2,
        .length = {200, 130},
    };
}

/* Pages 0 and 1 of the first sequence are full, page 3 is not: nobody has written its place. */
static void check_pages(const struct scene_shape *shape, enum isa isa, int n_threads,
                        uint32_t chunk, uint8_t **seen)
{
    struct scene scene = scene_open(shape, isa, n_threads);
    size_t n_bytes;
    scene_fill(&scene, chunk);
    for (uint32_t page = 0; page < 4; page++) {
        uint8_t *bytes = scene_page(&scene, 0, page, &n_bytes);
        if (page == 3)
            for (size_t i = 0; i < n_bytes; i++)
                assert_int_equal(bytes[i], 0xff);
        else if (seen[page] == NULL)
            seen[page] = bytes;
        else
            assert_memory_equal(bytes, seen[page], n_bytes);
        if (seen[page] != bytes)
            free(bytes);
    }
    scene_close(&scene);
}

static void test_page_seal__packs_a_page_when_its_last_token_comes(void **state)
{
    static const uint32_t chunks[] = {200, 1, 63, 64, 65};
    for (int dtype = KV_Q8; dtype <= KV_Q4; dtype++)
        for (int is_latent = 0; is_latent <= 1; is_latent++) {
            struct scene_shape shape = shape_of((enum kv_dtype)dtype, is_latent);
            uint8_t *seen[4] = {NULL};
            for (size_t i = 0; i < 3; i++)
                if (isa_is_available(isas[i]))
                    check_pages(&shape, isas[i], 1, 200, seen);
            for (size_t i = 0; i < sizeof chunks / sizeof *chunks; i++)
                check_pages(&shape, ISA_AUTO, 2, chunks[i], seen);
            for (uint32_t page = 0; page < 3; page++)
                free(seen[page]);
        }
}

/* Half and a quarter, and a few scales. */
static void test_page_seal__packed_pages_take_half_and_a_quarter(void **state)
{
    struct kv_shape shape = {.n_kv_heads = 3, .k_dim = 128, .v_dim = 128};
    size_t f16 = cpu_page_head(&shape, KV_F16).bytes, scales = 8 * (128 + 64);
    assert_int_equal(f16, 64 * 256 * 2);
    assert_int_equal(cpu_page_head(&shape, KV_BF16).bytes, f16);
    assert_int_equal(cpu_page_head(&shape, KV_Q8).bytes, f16 / 2 + scales);
    assert_int_equal(cpu_page_head(&shape, KV_Q4).bytes, f16 / 4 + scales);
    for (int dtype = 0; dtype < KV_DTYPES; dtype++)
        assert_int_equal(kv_shape_page_bytes(&shape, (enum kv_dtype)dtype),
                         3 * cpu_page_head(&shape, (enum kv_dtype)dtype).bytes);
    shape = (struct kv_shape){.n_kv_heads = 1, .k_dim = 576, .v_dim = 512, .v_in_k = true};
    assert_int_equal(cpu_page_head(&shape, KV_Q8).bytes, 64 * 576 + 8 * 576);
    assert_int_equal(cpu_page_head(&shape, KV_Q4).bytes, 32 * 576 + 8 * 576);
    assert_int_equal(kv_shape_page_bytes(&shape, KV_Q4), 32 * 576 + 8 * 576);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_page_seal__a_row_is_what_its_definition_says),
        cmocka_unit_test(test_page_seal__what_is_no_number_spoils_no_other_code),
        cmocka_unit_test(test_page_seal__packs_a_page_when_its_last_token_comes),
        cmocka_unit_test(test_page_seal__packed_pages_take_half_and_a_quarter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
