/* What a softmax step makes of packed tokens that weigh next to nothing, and of values that are
 * next to nothing: scales are such that what is taken, or left, shows in the sum. */
#include "tests/kernels/isa_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "kernels/cpu/cpu_attend.h"
#include "kernels/cpu/cpu_page.h"
#include "kernels/cpu/cpu_x86.h"

#define DIM 64
#define N_SEEN 3

static const struct {
    enum isa isa;
    const struct cpu_attend_ops *ops;
} forms[] = {{ISA_SCALAR, &cpu_attend_scalar},
             {ISA_AVX2, CPU_X86(&cpu_attend_avx2)},
             {ISA_AVX512, CPU_X86(&cpu_attend_avx512)}};

struct scene { /* three tokens, whose p are 1, 2^-81 and 2^-79 */
    enum kv_dtype dtype;
    float top; /* the greatest code */
    float q[DIM], k_least[DIM], k_step[DIM], v_least[PAGE_TOKENS], v_step[PAGE_TOKENS];
    uint8_t k[DIM * PAGE_TOKENS], v[PAGE_TOKENS * DIM];
};

static void put_k(struct scene *scene, uint32_t dim, uint32_t token, uint8_t code)
{
    scene->k[dim * cpu_page_row_bytes(PAGE_TOKENS, scene->dtype) + token] = code;
}

/* Channels 0 and 1 give scores of 99, 19 and 21. Channel 2 has values as small as f16 knows, which
 * a query as large makes 1 of: the first token's. All codes of V are the greatest. */
static struct scene scene_of(enum kv_dtype dtype)
{
    static const uint8_t codes[N_SEEN][2] = {{12, 3}, {2, 3}, {2, 5}};
    struct scene scene = {.dtype = dtype,
                          .top = dtype == KV_Q4 ? 15 : 255,
                          .q = {1, 1, 0x1p24f},
                          .k_step = {8, 1}};
    scene.k_step[2] = 0x1p-24f / scene.top;
    put_k(&scene, 2, 0, (uint8_t)scene.top);
    for (uint32_t t = 0; t < N_SEEN; t++)
        for (uint32_t d = 0; d < 2; d++)
            put_k(&scene, d, t, codes[t][d]);
    memset(scene.v, 0xff, sizeof scene.v);
    return scene;
}

static void attend(const struct cpu_attend_ops *ops, const struct scene *scene, float o[DIM])
{
    static _Alignas(64) float widened[PAGE_TOKENS * 2 * DIM];
    _Alignas(64) float q[DIM], sum[DIM] = {0}, l[ATTEND_LANES] = {0}, m = ATTEND_M_START;
    uint8_t begin = 0, end = N_SEEN;
    memcpy(q, scene->q, sizeof q);
    ops->step(&(struct attend_tile){.n_rows = 1,
                                    .k_dim = DIM,
                                    .v_dim = DIM,
                                    .q = q,
                                    .m = &m,
                                    .l = l,
                                    .o = sum,
                                    .begin = &begin,
                                    .end = &end},
              &(struct attend_page){.k = scene->k,
                                    .v = scene->v,
                                    .k_least = scene->k_least,
                                    .k_step = scene->k_step,
                                    .v_least = scene->v_least,
                                    .v_step = scene->v_step,
                                    .dtype = scene->dtype},
              widened);
    assert_true(fabsf(m - 100) < 1e-4f);
    memcpy(o, sum, sizeof sum);
}

/* On each instruction set, the same bits. */
static void assert_gives(const struct scene *scene, float wanted)
{
    float o[3][DIM];
    for (size_t i = 0; i < 3; i++) {
        if (isa_is_skipped(forms[i].isa))
            continue;
        attend(forms[i].ops, scene, o[i]);
        for (uint32_t d = 0; d < DIM; d++)
            assert_true(fabsf(o[i][d] / wanted - 1) < 1e-3f);
        assert_memory_equal(o[i], o[0], sizeof o[0]);
    }
}

static void test_attend__a_packed_token_below_the_least_weight_is_left_out(void **state)
{
    for (int dtype = KV_Q8; dtype <= KV_Q4; dtype++) {
        struct scene scene = scene_of((enum kv_dtype)dtype);
        scene.v_least[1] = 0x1p100f; /* times 2^-81 it would be all of the sum */
        scene.v_least[2] = 0x1p90f;
        assert_gives(&scene, 0x1p11f);
        scene.v_least[1] = scene.v_least[2] = 0;
        scene.v_step[1] = 0x1p100f;
        scene.v_step[2] = 0x1p90f;
        assert_gives(&scene, 0x1p11f * scene.top);
    }
}

/* The smallest step there is times the least weight that counts is a normal number still. */
static void test_attend__the_smallest_values_of_the_least_weight_count(void **state)
{
    for (int dtype = KV_Q8; dtype <= KV_Q4; dtype++) {
        struct scene scene = scene_of((enum kv_dtype)dtype);
        scene.v_step[1] = scene.v_step[2] = 0x1p-24f / scene.top;
        assert_true(isnormal(ATTEND_P_LEAST * scene.v_step[2]));
        assert_gives(&scene, 0x1p-103f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_attend__a_packed_token_below_the_least_weight_is_left_out),
        cmocka_unit_test(test_attend__the_smallest_values_of_the_least_weight_count),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
