#include "kernels/cpu/cpu_math.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static uint64_t random_state = 1;

static double random_unit(void)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (double)(random_state >> 11) * 0x1p-53;
}

static void assert_sincos(double angle)
{
    double s, c;
    cpu_sincos(angle, &s, &c);
    if (!(fabs(s - sin(angle)) < 1e-15) || !(fabs(c - cos(angle)) < 1e-15))
        fail_msg("angle %.17g: %.17g %.17g, not %.17g %.17g", angle, s, c, sin(angle), cos(angle));
}

static void test_math__sine_and_cosine_are_those_of_libm(void **state)
{
    for (int i = 0; i < 1000000; i++)
        assert_sincos(random_unit() * exp2(floor(random_unit() * 31)));
    for (int i = 0; i < 300000; i++)
        assert_sincos(-random_unit() * 0x1p24);
    for (int n = 0; n < 100000; n++) { /* near the borders of quadrants */
        assert_sincos(n * 0.78539816339744831);
        assert_sincos(nextafter(n * 0.78539816339744831, 1e9));
    }
    assert_sincos(0.0);
    assert_sincos(0x1p31 - 0x1p-20);
}

static void test_math__exp2_is_near_the_real_one(void **state)
{
    for (int i = 0; i < 1000000; i++) {
        float x = (float)(random_unit() * 252 - 126);
        double exact = exp2((double)x);
        assert_true(fabs((double)cpu_exp2(x) - exact) <= 2.5e-7 * exact);
    }
    assert_true(cpu_exp2(-1e30f) == cpu_exp2(-126.0f));
    assert_true(cpu_exp2(-INFINITY) > 0.0f && cpu_exp2(-INFINITY) < 1.3e-38f);
    assert_true(cpu_exp2(1e30f) == cpu_exp2(126.0f));
}

static void test_math__exp2_never_falls(void **state)
{
    float before = 0.0f;
    for (float x = -4.0f; x < 4.0f; x += 1e-5f) {
        assert_true(cpu_exp2(x) >= before * (1.0f - 3e-7f));
        before = cpu_exp2(x);
    }
}

static void test_math__silu_is_near_the_real_one(void **state)
{
    for (double z = -30; z < 30; z += 0.001) {
        double exact = z / (1 + exp(-z));
        assert_true(fabs((double)cpu_silu((float)z) - exact) <= 4e-6 * fabs(exact) + 1e-12);
    }
}

static void test_math__ln_is_that_of_libm(void **state)
{
    for (int i = 0; i < 300000; i++) {
        double x = exp2(random_unit() * 120 - 60);
        assert_true(fabs(exact_math_ln(x) - log(x)) <= 1e-15 * fmax(1, fabs(log(x))));
        x = 0.5 + random_unit();
        assert_true(fabs(exact_math_ln(x) - log(x)) <= 1e-15);
    }
    assert_true(exact_math_ln(1.0) == 0.0);
}

static void test_math__fold_adds_by_halves(void **state)
{
    float lanes[16];
    for (int i = 0; i < 16; i++)
        lanes[i] = (float)(1 << i) + (i % 3 == 0 ? 0x1p-9f : 0.0f);
    float eight[8], four[4];
    for (int i = 0; i < 8; i++)
        eight[i] = lanes[i] + lanes[i + 8];
    for (int i = 0; i < 4; i++)
        four[i] = eight[i] + eight[i + 4];
    assert_true(cpu_fold16(lanes) == (four[0] + four[2]) + (four[1] + four[3]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_math__sine_and_cosine_are_those_of_libm),
        cmocka_unit_test(test_math__exp2_is_near_the_real_one),
        cmocka_unit_test(test_math__exp2_never_falls),
        cmocka_unit_test(test_math__silu_is_near_the_real_one),
        cmocka_unit_test(test_math__ln_is_that_of_libm),
        cmocka_unit_test(test_math__fold_adds_by_halves),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
