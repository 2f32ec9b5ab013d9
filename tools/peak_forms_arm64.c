/* arm64: what every such processor has, 128 bits and no dot products. */
#include "tools/peak_forms.h"

#include <arm_neon.h>

static void int8_neon(void *arg, int worker_idx)
{
    const struct peak_meter *meter = arg;
    int16x8_t acc[PEAK_CHAINS];
    int8x8_t a = vdup_n_s8((int8_t)(worker_idx + 1)), b = vdup_n_s8((int8_t)meter->seed);
#pragma GCC unroll 12
    for (int i = 0; i < PEAK_CHAINS; i++)
        acc[i] = vdupq_n_s16((int16_t)i);
    for (uint32_t turn = 0; turn < PEAK_TURNS; turn++) {
#pragma GCC unroll 12
        for (int i = 0; i < PEAK_CHAINS; i++)
            __asm__ volatile("smlal %0.8h, %1.8b, %2.8b" : "+w"(acc[i]) : "w"(a), "w"(b));
    }
#pragma GCC unroll 12
    for (int i = 1; i < PEAK_CHAINS; i++)
        acc[0] = veorq_s16(acc[0], acc[i]);
    peak_keep((uint32_t)vgetq_lane_s16(acc[0], 0));
}

static void fma_neon(void *arg, int worker_idx)
{
    const struct peak_meter *meter = arg;
    float32x4_t acc[PEAK_CHAINS], a = vdupq_n_f32(1e-9f * (float)(worker_idx + 1));
    float32x4_t b = vdupq_n_f32((float)meter->seed);
#pragma GCC unroll 12
    for (int i = 0; i < PEAK_CHAINS; i++)
        acc[i] = a;
    for (uint32_t turn = 0; turn < PEAK_TURNS; turn++) {
#pragma GCC unroll 12
        for (int i = 0; i < PEAK_CHAINS; i++)
            __asm__ volatile("fmla %0.4s, %1.4s, %2.4s" : "+w"(acc[i]) : "w"(a), "w"(b));
    }
#pragma GCC unroll 12
    for (int i = 1; i < PEAK_CHAINS; i++)
        acc[0] = vaddq_f32(acc[0], acc[i]);
    peak_keep((uint32_t)vgetq_lane_f32(acc[0], 0));
}

struct peak_forms peak_forms_widest(void)
{
    return (struct peak_forms){{int8_neon, 8, "smlal, 128 bits"}, {fma_neon, 4, "fmla, 128 bits"}};
}
