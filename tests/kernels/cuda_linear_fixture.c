#include "tests/kernels/cuda_linear_fixture.h"
#include "base/status.h"
#include "kernels/cuda/cuda_act.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>

#if UNDER_TSAN
const uint32_t plane_types[N_PLANE_TYPES] = {TENSOR_F32, TENSOR_F16, TENSOR_Q4_1, TENSOR_Q2_K};
#else
const uint32_t plane_types[N_PLANE_TYPES] = {
    TENSOR_F32,  TENSOR_F16,    TENSOR_Q4_0, TENSOR_Q4_1, TENSOR_Q8_0,
    TENSOR_BF16, TENSOR_IQ4_XS, TENSOR_Q4_K, TENSOR_Q6_K, TENSOR_Q2_K};
#endif

void round_to_f16(float *values, size_t n)
{
    for (size_t i = 0; i < n; i++)
        values[i] = f16_to_f32(f16_from_f32(values[i]));
}

float panel_scale(const float *row, uint32_t width)
{
    float greatest = 0;
    for (uint32_t i = 0; i < width; i++)
        if (isfinite(row[i]))
            greatest = fmaxf(greatest, fabsf(row[i]));
    if (greatest <= 65504.0f)
        return 1.0f;
    int exponent;
    frexpf(greatest, &exponent);
    return ldexpf(1.0f, exponent - 15);
}

struct act twin_panel(struct twin *twin, const float *rows, uint32_t n_rows, uint32_t width,
                      uint32_t forms)
{
    size_t bytes = twin->ops->act_bytes(twin->device, n_rows, width, forms);
    char *host = calloc(bytes + 1, 1);
    assert_non_null(host);
    struct act act = {host, n_rows, width, forms};
    struct cuda_act_rows to = cuda_act_rows_of(&act);
    for (uint32_t r = 0; r < n_rows; r++) {
        const float *row = rows + (size_t)r * width;
        float scale = panel_scale(row, width);
        if (to.scales != NULL)
            to.scales[r] = scale;
        for (uint32_t i = 0; i < width; i++) {
            if (to.halves != NULL)
                to.halves[(size_t)r * to.stride + i] = f16_from_f32(row[i] / scale);
            if (to.floats != NULL)
                to.floats[(size_t)r * width + i] = row[i];
        }
    }
    act.base = twin_upload(twin, host, bytes);
    free(host);
    return act;
}

struct weight *twin_load(struct twin *twin, enum weight_fuse fuse,
                         const struct weight_source *sources, uint32_t n_sources)
{
    struct weight *weight;
    struct why why;
    if (twin->ops->weight_load(twin->device, fuse, sources, n_sources, 0, 1, &weight, &why) < 0)
        fail_msg("%s", why.text);
    return weight;
}

float *twin_product(struct twin *twin, const struct weight *weight, const float *rows,
                    uint32_t n_rows)
{
    struct weight_info info = twin->ops->weight_info(weight);
    size_t n = (size_t)n_rows * info.n_out;
    float *y = twin_alloc(twin, n * sizeof *y);
    twin->ops->linear(twin->stream, &(struct linear_args){
                                        .weight = weight,
                                        .in = twin_panel(twin, rows, n_rows, info.n_in,
                                                         info.act_forms),
                                        .n_rows = n_rows,
                                        .y = y,
                                        .y_stride = info.n_out});
    assert_int_equal(twin_run(twin), STATUS_OK);
    return twin_download(twin, y, n * sizeof *y);
}
