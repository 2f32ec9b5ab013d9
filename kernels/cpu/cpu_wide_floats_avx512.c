#include "kernels/cpu/cpu_vector_avx512.h"
#include "kernels/cpu/cpu_wide_floats_body.h"

cpu_multiply *const cpu_wide_floats_avx512[PANEL_ROWS] = KERNELS(floats);
