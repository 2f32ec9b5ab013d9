/* kernels/cpu/cpu_x86.h: the forms in files of their own (*_avx2.c, *_avx512.c), which a program
 * for another processor has not: NULL there, and isa_is_available lets nobody ask for them.
 */
#ifndef QUIRE_KERNELS_CPU_X86_H
#define QUIRE_KERNELS_CPU_X86_H

#include <stddef.h>

#if defined(__x86_64__)
#define CPU_X86(form) (form)
#else
#define CPU_X86(form) NULL
#endif

#endif
