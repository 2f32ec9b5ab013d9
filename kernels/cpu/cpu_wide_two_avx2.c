#include "kernels/cpu/cpu_wide_avx2.h"

FOR_EACH_M(WIDE_KERNEL, wide_16, FORM_TWO, true)
FOR_EACH_M(WIDE_KERNEL, wide_int8, FORM_TWO, false)

cpu_multiply *const cpu_wide_two_16_avx2[PANEL_ROWS] = KERNELS(wide_16);
cpu_multiply *const cpu_wide_two_int8_avx2[PANEL_ROWS] = KERNELS(wide_int8);
