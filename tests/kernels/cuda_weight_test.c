/* What is told of a matrix before there is a GPU is what it takes there. */
#include "kernels/cuda/cuda_weight.h"

#include "base/status.h"
#include "kernels/gpu_matrix.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static size_t planned(enum weight_fuse fuse, const struct weight_source *sources, uint32_t n)
{
    struct weight weight;
    struct why why = {.text = ""};
    if (cuda_weight_plan(fuse, sources, n, &weight, &why) < 0)
        fail_msg("%s", why.text);
    return weight.bytes;
}

static void test_cuda_weight__a_matrix_takes_what_is_told_of_its_type(void **state)
{
    static const uint32_t shapes[][2] = {{256, 16}, {256, 1}, {768, 33}, {49152 / 64 * 256, 5}};
    for (uint32_t type = 0; type < TENSOR_TYPES; type++) {
        const struct tensor_type_info *info = tensor_type_info(type);
        if (info == NULL || !info->is_read)
            continue;
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
            struct weight_source source = {
                .type = type, .n_in = shapes[i][0], .n_out = shapes[i][1], .name = info->name};
            assert_int_equal(planned(WEIGHT_PLAIN, &source, 1),
                             gpu_matrix_bytes(type, source.n_in, source.n_out));
        }
    }
}

static void test_cuda_weight__parts_of_a_whole_take_what_they_take_alone(void **state)
{
    struct weight_source sources[] = {
        {.type = TENSOR_Q4_K, .n_in = 256, .n_out = 40, .name = "q"},
        {.type = TENSOR_Q4_K, .n_in = 256, .n_out = 24, .name = "k"},
        {.type = TENSOR_Q6_K, .n_in = 256, .n_out = 24, .name = "v"},
    };
    assert_int_equal(planned(WEIGHT_QKV, sources, 3), gpu_matrix_bytes(TENSOR_Q4_K, 256, 40) +
                                                          gpu_matrix_bytes(TENSOR_Q4_K, 256, 24) +
                                                          gpu_matrix_bytes(TENSOR_Q6_K, 256, 24));
    sources[0] = sources[1];
    assert_int_equal(planned(WEIGHT_GATE_UP, sources, 2),
                     2 * gpu_matrix_bytes(TENSOR_Q4_K, 256, 24));
    assert_int_equal(planned(WEIGHT_EXPERTS, sources, 2),
                     2 * gpu_matrix_bytes(TENSOR_Q4_K, 256, 24));
}

/* 84 bytes a block of 256 values in the file, 12 bits a value there. */
static void test_cuda_weight__types_with_wide_planes_take_more_than_their_file(void **state)
{
    uint64_t in_file = tensor_type_bytes(TENSOR_Q2_K, 4096, 4096);
    assert_int_equal(gpu_matrix_bytes(TENSOR_Q2_K, 4096, 4096), 4096ull * 4096 * 12 / 8);
    assert_true(gpu_matrix_bytes(TENSOR_Q2_K, 4096, 4096) > 4 * in_file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cuda_weight__a_matrix_takes_what_is_told_of_its_type),
        cmocka_unit_test(test_cuda_weight__parts_of_a_whole_take_what_they_take_alone),
        cmocka_unit_test(test_cuda_weight__types_with_wide_planes_take_more_than_their_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
