#include "tests/kernels/isa_fixture.h"
#include "tests/kernels/linear_fixture.h"
#include "base/status.h"
#include "kernels/cpu/cpu_panel.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct row_block { /* one row of one block, taken out of a panel by the layout of cpu_panel.h */
    int v[32];
    float da, sa;
    int32_t nb, nh;
};

static struct row_block read_block(const struct act *act, enum activations activations,
                                   uint32_t row, uint32_t n_rows, uint32_t block_idx)
{
    bool is_16 = activations == ACTIVATIONS_16;
    uint32_t left = n_rows - row / 12 * 12, m = left < 12 ? left : 12, r = row % 12;
    const uint8_t *at = cpu_act_group(act, activations, row / 12, n_rows);
    at += (size_t)block_idx * m * (is_16 ? 80 : 48);
    const int8_t *hi = (const int8_t *)at + 32 * r, *lo = (const int8_t *)at + 32;
    const int16_t *v = (const int16_t *)at + 32 * r;
    const uint8_t *floats = at + (is_16 ? 64 : 32) * m;
    struct row_block out;
    for (int i = 0; i < 32; i++)
        out.v[i] = !is_16 ? hi[i] : m > 1 ? v[i] : 256 * hi[i] + lo[i];
    memcpy(&out.da, floats + 4 * r, 4);
    memcpy(&out.sa, floats + 4 * (m + r), 4);
    memcpy(&out.nb, floats + 4 * (2 * m + r), 4);
    memcpy(&out.nh, floats + 4 * (3 * m + r), 4);
    return out;
}

static struct act act_of(uint32_t max_rows, uint32_t width, uint32_t forms)
{
    size_t bytes = (size_t)max_rows * ((width + 31) / 32) * 80 + 64 + max_rows * width * 4 + 64;
    void *base = aligned_alloc(64, (bytes + 63) / 64 * 64);
    memset(base, 0x5a, (bytes + 63) / 64 * 64);
    return (struct act){base, max_rows, width, forms};
}

static void write_rows(enum isa isa, const struct act *act, enum activations activations,
                       const float *rows, uint32_t n_rows)
{
    for (uint32_t r = 0; r < n_rows; r++)
        cpu_panel_ops(isa)->write(act, activations, r, n_rows, 0, act->width,
                                  rows + (size_t)r * act->width);
}

/* Half the limit where 16-bit magnitudes sum to more than 16 of it. */
static float limit_of(const float *x, float amax, float limit)
{
    int size = 0;
    for (int i = 0; i < 32 && amax > 0; i++)
        size += abs((int)lrintf(x[i] * (limit / amax)));
    return limit > 127 && size > 16 * (int)limit ? limit / 2 : limit;
}

static void check_values(enum activations activations, float full)
{
    enum { WIDTH = 96, N_ROWS = 15 };
    struct act act = act_of(N_ROWS, WIDTH, ACT_BLOCKS);
    float *rows = random_rows(N_ROWS, WIDTH, 1);
    int n_halved = 0;
    write_rows(ISA_SCALAR, &act, activations, rows, N_ROWS);
    for (uint32_t r = 0; r < N_ROWS; r++) {
        for (uint32_t b = 0; b < WIDTH / 32; b++) {
            struct row_block block = read_block(&act, activations, r, N_ROWS, b);
            const float *x = rows + r * WIDTH + b * 32;
            float amax = 0;
            int sum = 0, first = 0;
            for (int i = 0; i < 32; i++)
                amax = fmaxf(amax, fabsf(x[i]));
            float limit = limit_of(x, amax, full);
            n_halved += limit < full;
            for (int i = 0; i < 32; i++) {
                int want = amax == 0 ? 0 : (int)lrintf(x[i] * (limit / amax));
                assert_int_equal(block.v[i], want);
                sum += want;
                first += i < 16 ? want : 0;
            }
            assert_true(block.da == amax * (1.0f / limit));
            assert_true(block.sa == block.da * (float)sum);
            assert_int_equal(block.nb, -128 * sum);
            assert_int_equal(block.nh, -128 * first);
        }
    }
    if (activations == ACTIVATIONS_16) /* these rows have blocks of both kinds */
        assert_in_range(n_halved, 1, N_ROWS * WIDTH / 32 - 1);
    free(rows);
    free(act.base);
}

static void test_cpu_panel__sixteen_bit_values_follow_the_definition(void **state)
{
    check_values(ACTIVATIONS_16, 32512);
}

static void test_cpu_panel__int8_values_follow_the_definition(void **state)
{
    check_values(ACTIVATIONS_INT8, 127);
}

static void check_isa(enum isa isa)
{
    enum { WIDTH = 32 * 5, N_ROWS = 26, FORMS = ACT_BLOCKS | ACT_FLOATS };
    float *rows = random_rows(N_ROWS, WIDTH, 2);
    rows[7] = INFINITY;
    rows[200] = NAN;
    rows[201] = -INFINITY;
    for (int i = 0; i < 32; i++) {
        rows[320 + i] = (float)i * 1e-44f;        /* all denormal: written as zeros */
        rows[352 + i] = (float)(i - 16) * 1e-35f; /* L / amax would overflow at the border */
        rows[384 + i] = (float)(i - 16) * 2e37f;
        rows[416 + i] = (float)(i - 15) + 0.5f;
    }
    enum activations modes[] = {ACTIVATIONS_16, ACTIVATIONS_INT8, ACTIVATIONS_F32};
    for (int a = 0; a < 3; a++) {
        for (uint32_t n_rows = 1; n_rows <= N_ROWS; n_rows++) {
            struct act want = act_of(N_ROWS, WIDTH, FORMS), got = act_of(N_ROWS, WIDTH, FORMS);
            write_rows(ISA_SCALAR, &want, modes[a], rows, n_rows);
            write_rows(isa, &got, modes[a], rows, n_rows);
            assert_memory_equal(want.base, got.base, (size_t)N_ROWS * WIDTH / 32 * 80);
            assert_memory_equal(cpu_act_floats(&want, modes[a]), cpu_act_floats(&got, modes[a]),
                                n_rows * WIDTH * sizeof *rows);
            free(want.base);
            free(got.base);
        }
    }
    free(rows);
}

static void test_cpu_panel__avx2_equals_scalar_to_the_bit(void **state)
{
    if (isa_is_skipped(ISA_AVX2))
        skip();
    check_isa(ISA_AVX2);
}

static void test_cpu_panel__avx512_equals_scalar_to_the_bit(void **state)
{
    if (isa_is_skipped(ISA_AVX512))
        skip();
    check_isa(ISA_AVX512);
}

static void test_cpu_panel__a_broken_value_poisons_its_block_and_no_other(void **state)
{
    float row[96];
    for (int i = 0; i < 96; i++)
        row[i] = (float)i;
    struct act act = act_of(1, 96, ACT_BLOCKS);
    write_rows(ISA_SCALAR, &act, ACTIVATIONS_16, row, 1);
    struct row_block before = read_block(&act, ACTIVATIONS_16, 0, 1, 2);
    row[40] = NAN;
    write_rows(ISA_SCALAR, &act, ACTIVATIONS_16, row, 1);
    struct row_block broken = read_block(&act, ACTIVATIONS_16, 0, 1, 1);
    assert_true(isnan(broken.da) && isnan(broken.sa));
    assert_int_equal(broken.nb, 0);
    struct row_block after = read_block(&act, ACTIVATIONS_16, 0, 1, 2);
    assert_memory_equal(&before, &after, sizeof before);
    free(act.base);
}

static void test_cpu_panel__a_width_inside_a_block_is_padded_with_zeros(void **state)
{
    float row[40], exact[64] = {0};
    for (int i = 0; i < 40; i++)
        row[i] = exact[i] = sinf((float)i);
    struct act narrow = act_of(1, 40, ACT_BLOCKS), wide = act_of(1, 64, ACT_BLOCKS);
    write_rows(ISA_SCALAR, &narrow, ACTIVATIONS_16, row, 1);
    write_rows(ISA_SCALAR, &wide, ACTIVATIONS_16, exact, 1);
    assert_memory_equal(narrow.base, wide.base, 2 * 80);
    free(narrow.base);
    free(wide.base);
}

static void test_cpu_panel__writing_block_by_block_equals_writing_the_row(void **state)
{
    enum { WIDTH = 128, N_ROWS = 13, FORMS = ACT_BLOCKS | ACT_FLOATS };
    struct act whole = act_of(N_ROWS, WIDTH, FORMS), parts = act_of(N_ROWS, WIDTH, FORMS);
    float *rows = random_rows(N_ROWS, WIDTH, 3);
    write_rows(ISA_SCALAR, &whole, ACTIVATIONS_16, rows, N_ROWS);
    for (uint32_t first = 0; first < WIDTH; first += 32)
        for (uint32_t r = 0; r < N_ROWS; r++)
            cpu_panel_ops(ISA_SCALAR)
                ->write(&parts, ACTIVATIONS_16, r, N_ROWS, first, 32, rows + r * WIDTH + first);
    assert_memory_equal(whole.base, parts.base, N_ROWS * WIDTH / 32 * 80);
    assert_memory_equal(cpu_act_floats(&whole, ACTIVATIONS_16),
                        cpu_act_floats(&parts, ACTIVATIONS_16), N_ROWS * WIDTH * sizeof *rows);
    free(rows);
    free(whole.base);
    free(parts.base);
}

/* What a copy between panels of so many rows gives, against the row written there at once. */
static void check_copy(enum activations activations, uint32_t from_rows, uint32_t to_rows)
{
    enum { WIDTH = 96, MOST = 14, FORMS = ACT_BLOCKS | ACT_FLOATS };
    float *rows = random_rows(MOST, WIDTH, 4);
    struct act from = act_of(MOST, WIDTH, FORMS), to = act_of(MOST, WIDTH, FORMS);
    struct act want = act_of(MOST, WIDTH, FORMS);
    write_rows(ISA_SCALAR, &from, activations, rows, from_rows);
    write_rows(ISA_SCALAR, &want, activations, rows, to_rows);
    for (uint32_t r = 0; r < to_rows; r++) {
        uint32_t source = from_rows - 1 - r % from_rows;
        cpu_panel_ops(ISA_SCALAR)
            ->write(&want, activations, r, to_rows, 0, WIDTH, rows + source * WIDTH);
        cpu_panel_copy(&from, source, from_rows, &to, r, to_rows, activations);
    }
    assert_memory_equal(want.base, to.base, MOST * WIDTH / 32 * 80);
    assert_memory_equal(cpu_act_floats(&want, activations), cpu_act_floats(&to, activations),
                        to_rows * WIDTH * sizeof *rows);
    free(rows);
    free(from.base);
    free(to.base);
    free(want.base);
}

static void test_cpu_panel__a_copy_between_any_numbers_of_rows_is_the_row_written_there(
    void **state)
{
    static const uint32_t counts[] = {1, 2, 12, 13, 14}; /* 13 leaves a row alone in its group */
    enum activations modes[] = {ACTIVATIONS_16, ACTIVATIONS_INT8};
    for (int a = 0; a < 2; a++)
        for (int i = 0; i < 5; i++)
            for (int j = 0; j < 5; j++)
                check_copy(modes[a], counts[i], counts[j]);
}

static void test_cpu_panel__act_bytes_hold_every_form_of_every_number_of_rows(void **state)
{
    enum activations modes[] = {ACTIVATIONS_16, ACTIVATIONS_INT8, ACTIVATIONS_F32};
    for (int a = 0; a < 3; a++) {
        struct rig rig = rig_open(ISA_SCALAR, modes[a], 1);
        for (uint32_t forms = 1; forms < 8; forms++) {
            struct act act = {(void *)64, 17, 100, forms};
            size_t bytes = rig.ops->act_bytes(rig.device, act.max_rows, act.width, forms);
            size_t row = modes[a] == ACTIVATIONS_16 ? 80 : modes[a] == ACTIVATIONS_INT8 ? 48 : 0;
            size_t floats_at = forms & ACT_BLOCKS ? (17 * 4 * row + 63) / 64 * 64 : 0;
            if (forms & (ACT_FLOATS | ACT_QUERY)) {
                assert_ptr_equal(cpu_act_floats(&act, modes[a]), (uint8_t *)64 + floats_at);
                assert_true(bytes >= floats_at + 17 * 100 * 4);
            }
            assert_true(bytes >= floats_at && bytes % 64 == 0);
        }
        rig_close(&rig);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cpu_panel__sixteen_bit_values_follow_the_definition),
        cmocka_unit_test(test_cpu_panel__int8_values_follow_the_definition),
        cmocka_unit_test(test_cpu_panel__avx2_equals_scalar_to_the_bit),
        cmocka_unit_test(test_cpu_panel__avx512_equals_scalar_to_the_bit),
        cmocka_unit_test(test_cpu_panel__a_broken_value_poisons_its_block_and_no_other),
        cmocka_unit_test(test_cpu_panel__a_width_inside_a_block_is_padded_with_zeros),
        cmocka_unit_test(test_cpu_panel__writing_block_by_block_equals_writing_the_row),
        cmocka_unit_test(
            test_cpu_panel__a_copy_between_any_numbers_of_rows_is_the_row_written_there),
        cmocka_unit_test(test_cpu_panel__act_bytes_hold_every_form_of_every_number_of_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
