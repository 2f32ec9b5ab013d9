#include "kernels/tensor_type.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static double half_by_definition(uint16_t half)
{
    int exponent = half >> 10 & 31, mantissa = half & 1023;
    double sign = half & 0x8000 ? -1 : 1;
    if (exponent == 31)
        return mantissa != 0 ? NAN : sign * INFINITY;
    if (exponent == 0)
        return sign * ldexp(mantissa, -24);
    return sign * ldexp(1024 + mantissa, exponent - 25);
}

static void test_tensor_type__every_half_becomes_its_exact_float(void **state)
{
    for (uint32_t half = 0; half < 65536; half++) {
        float got = f16_to_f32((uint16_t)half);
        double want = half_by_definition((uint16_t)half);
        if (isnan(want)) {
            assert_true(isnan(got));
        } else {
            assert_true((double)got == want);
            assert_int_equal(signbit(got) != 0, half >> 15);
        }
    }
}

static void test_tensor_type__every_half_comes_back_from_its_float(void **state)
{
    for (uint32_t half = 0; half < 65536; half++) {
        uint16_t back = f16_from_f32(f16_to_f32((uint16_t)half));
        bool is_nan = (half & 0x7fff) > 0x7c00;
        assert_int_equal(back, is_nan ? half | 0x200 : half);
    }
}

/* Between two neighbours: just below the middle goes down, just above goes up, the middle goes to
 * the even one. */
static void test_tensor_type__floats_round_to_the_nearest_half_and_ties_to_even(void **state)
{
    for (uint32_t low = 0; low < 0x7bff; low++) {
        float middle =
            (float)((half_by_definition((uint16_t)low) + half_by_definition((uint16_t)(low + 1))) /
                    2);
        uint32_t even = low & 1 ? low + 1 : low;
        assert_int_equal(f16_from_f32(middle), even);
        assert_int_equal(f16_from_f32(nextafterf(middle, 0)), low);
        assert_int_equal(f16_from_f32(nextafterf(middle, 1e9f)), low + 1);
        assert_int_equal(f16_from_f32(-middle), 0x8000 | even);
    }
    assert_int_equal(f16_from_f32(nextafterf(65520.0f, 0)), 0x7bff);
    assert_int_equal(f16_from_f32(65520.0f), 0x7c00);
    assert_int_equal(f16_from_f32(-1e30f), 0xfc00);
    assert_int_equal(f16_from_f32(1e-30f), 0);
}

static void test_tensor_type__saturating_stops_at_65504_and_says_so(void **state)
{
    bool saturated = true;
    assert_int_equal(f16_from_f32_saturating(65504.0f, &saturated), 0x7bff);
    assert_false(saturated);
    assert_int_equal(f16_from_f32_saturating(70000.0f, &saturated), 0x7bff);
    assert_true(saturated);
    assert_int_equal(f16_from_f32_saturating(-INFINITY, &saturated), 0xfbff);
    assert_true(saturated);
    assert_true(isnan(f16_to_f32(f16_from_f32_saturating(NAN, &saturated))));
    assert_false(saturated);
}

static void
test_tensor_type__every_id_ever_given_has_a_name_and_removed_ones_have_none(void **state)
{
    static const uint8_t removed[] = {4, 5, 31, 32, 33, 36, 37, 38};
    for (uint32_t id = 0; id < 43; id++) {
        bool is_removed = memchr(removed, (int)id, sizeof removed) != NULL;
        const struct tensor_type_info *info = tensor_type_info(id);
        assert_int_equal(info == NULL, is_removed);
        if (info != NULL) {
            assert_non_null(info->name);
            assert_true(info->block_values > 0 && info->block_bytes > 0);
            assert_int_equal(info->is_read, strstr(tensor_type_read_list(), info->name) != NULL);
        }
    }
    assert_null(tensor_type_info(43));
    assert_null(tensor_type_info(UINT32_MAX));
    assert_string_equal(tensor_type_info(16)->name, "IQ2_XXS");
}

static void test_tensor_type__bytes_refuse_broken_blocks_and_overflow(void **state)
{
    assert_int_equal(tensor_type_bytes(TENSOR_Q4_1, 576, 960), 576 / 32 * 20 * 960);
    assert_int_equal(tensor_type_bytes(TENSOR_F32, 3, 5), 60);
    assert_int_equal(tensor_type_bytes(14, 512, 2), 840);
    assert_int_equal(tensor_type_bytes(TENSOR_Q8_0, 33, 1), 0);
    assert_int_equal(tensor_type_bytes(4, 32, 1), 0);
    assert_int_equal(tensor_type_bytes(TENSOR_F32, 1ull << 62, 1), 0);
    assert_int_equal(tensor_type_bytes(TENSOR_F32, 1ull << 32, 1ull << 31), 0);
    assert_int_equal(tensor_type_bytes(TENSOR_F32, 1ull << 31, 1ull << 30), 1ull << 63);
}

/* Bytes 0, 1, 2, ... behind scales of 1 (models.md 2.2): the formulas by hand. */
static void test_tensor_type__rows_follow_the_formulas_of_the_file_format(void **state)
{
    uint8_t block[40];
    float row[32];

    for (int i = 0; i < 40; i++)
        block[i] = (uint8_t)(i * 17);
    memcpy(block, "\x00\x3c", 2);
    tensor_type_row_to_f32(TENSOR_Q4_0, block, 32, row);
    for (int j = 0; j < 16; j++) {
        assert_true(row[j] == (float)(block[2 + j] & 15) - 8);
        assert_true(row[j + 16] == (float)(block[2 + j] >> 4) - 8);
    }

    memcpy(block + 2, "\x00\xc0", 2); /* m = -2 */
    tensor_type_row_to_f32(TENSOR_Q4_1, block, 32, row);
    for (int j = 0; j < 16; j++) {
        assert_true(row[j] == (float)(block[4 + j] & 15) - 2);
        assert_true(row[j + 16] == (float)(block[4 + j] >> 4) - 2);
    }

    memcpy(block, "\x00\x38", 2); /* d = 0.5 */
    tensor_type_row_to_f32(TENSOR_Q8_0, block, 32, row);
    for (int j = 0; j < 32; j++)
        assert_true(row[j] == 0.5f * (float)(int8_t)block[2 + j]);
}

/* Random blocks against the dequantisation of the `gguf` package (golden/make_tensor_blocks.py). */
static void test_tensor_type__blocks_become_what_the_gguf_package_makes_of_them(void **state)
{
    FILE *file = fopen(SOURCE_DIR "/tests/golden/tensor_blocks.bin", "rb");
    assert_non_null(file);
    static uint8_t raw[4096], odd[4097];
    static float want[2048], got[2048];
    uint32_t head[3], n_types = 0;
    for (; fread(head, sizeof head, 1, file) == 1; n_types++) {
        assert_true(head[1] <= sizeof raw && head[2] <= 2048);
        assert_int_equal(fread(raw, 1, head[1], file), head[1]);
        assert_int_equal(fread(want, sizeof *want, head[2], file), head[2]);
        memcpy(odd + 1, raw, head[1]);
        tensor_type_row_to_f32(head[0], odd + 1, head[2], got);
        for (uint32_t i = 0; i < head[2]; i++)
            if (!(got[i] == want[i]))
                fail_msg("%s, value %u: %g, not %g", tensor_type_info(head[0])->name, i,
                         (double)got[i], (double)want[i]);
    }
    fclose(file);
    assert_int_equal(n_types, 14);
}

/* Scales that are NaN or infinite and codes of all kinds: some number or none, but no crash. */
static void test_tensor_type__hostile_scales_give_values_of_some_kind(void **state)
{
    static const uint8_t fills[] = {0x00, 0x7c, 0x7e, 0xff, 0xfc, 0x80, 0x01};
    uint8_t block[292];
    float row[256];
    for (uint32_t type = 0; type < TENSOR_TYPES; type++) {
        const struct tensor_type_info *info = tensor_type_info(type);
        if (info == NULL || !info->is_read)
            continue;
        for (size_t f = 0; f < sizeof fills; f++) {
            memset(block, fills[f], sizeof block);
            row[0] = 4711;
            tensor_type_row_to_f32(type, block, info->block_values, row);
            assert_true(row[0] != 4711);
        }
    }
}

static void test_tensor_type__float_rows_may_stand_at_any_alignment(void **state)
{
    uint8_t bytes[1 + 4 * 3];
    const float values[3] = {1.5f, -2.25f, 1e-40f};
    float row[3];
    memcpy(bytes + 1, values, sizeof values);
    tensor_type_row_to_f32(TENSOR_F32, bytes + 1, 3, row);
    assert_memory_equal(row, values, sizeof values);

    memcpy(bytes + 1, "\x00\x3c\x00\xbc\x01\x00", 6);
    tensor_type_row_to_f32(TENSOR_F16, bytes + 1, 3, row);
    assert_true(row[0] == 1 && row[1] == -1 && row[2] == 0x1p-24f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tensor_type__every_half_becomes_its_exact_float),
        cmocka_unit_test(test_tensor_type__every_half_comes_back_from_its_float),
        cmocka_unit_test(test_tensor_type__floats_round_to_the_nearest_half_and_ties_to_even),
        cmocka_unit_test(test_tensor_type__saturating_stops_at_65504_and_says_so),
        cmocka_unit_test(
            test_tensor_type__every_id_ever_given_has_a_name_and_removed_ones_have_none),
        cmocka_unit_test(test_tensor_type__bytes_refuse_broken_blocks_and_overflow),
        cmocka_unit_test(test_tensor_type__rows_follow_the_formulas_of_the_file_format),
        cmocka_unit_test(test_tensor_type__blocks_become_what_the_gguf_package_makes_of_them),
        cmocka_unit_test(test_tensor_type__hostile_scales_give_values_of_some_kind),
        cmocka_unit_test(test_tensor_type__float_rows_may_stand_at_any_alignment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
