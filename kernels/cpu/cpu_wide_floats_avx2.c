#include "kernels/cpu/cpu_vector_avx2.h"
#include "kernels/cpu/cpu_wide_floats_body.h"

cpu_multiply *const cpu_wide_floats_avx2[PANEL_ROWS] = KERNELS(floats);
