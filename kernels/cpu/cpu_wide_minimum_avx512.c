#include "kernels/cpu/cpu_wide_avx512.h"

FOR_EACH_M(WIDE_KERNEL, wide_16, FORM_ONE_MINIMUM, true)
FOR_EACH_M(WIDE_KERNEL, wide_int8, FORM_ONE_MINIMUM, false)

cpu_multiply *const cpu_wide_minimum_16_avx512[PANEL_ROWS] = KERNELS(wide_16);
cpu_multiply *const cpu_wide_minimum_int8_avx512[PANEL_ROWS] = KERNELS(wide_int8);
