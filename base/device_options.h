/* base/device_options.h: rows of an option table (options.h) that say on what a command
 * computes: the same words for all that open a device.
 *
 * The struct that they fill has int backend, isa (in the order of the words), int64_t device,
 * threads, and bool has_device.
 */
#ifndef QUIRE_BASE_DEVICE_OPTIONS_H
#define QUIRE_BASE_DEVICE_OPTIONS_H

#include "base/options.h"
#include "base/threads.h"

#include <stddef.h>

#define DEVICE_OPTION_ROWS(type)                                                                   \
    {"backend", 0, OPTION_CHOICE, offsetof(type, backend), "auto", "NAME",                         \
     "cpu; cuda: a GPU, or it is an error; auto: a GPU where there is one that can be used, else " \
     "the CPU",                                                                                    \
     0, 0, "cpu|cuda|auto", 0},                                                                    \
        {"device", 0, OPTION_INT, offsetof(type, device), "0", "N",                                \
         "which GPU, as quire devices counts them; where it is given, auto takes nothing else",    \
         0, 65535, NULL, offsetof(type, has_device)},                                              \
        {"threads", 't', OPTION_INT, offsetof(type, threads), "0", "N",                            \
         "worker threads of the CPU; 0: as measured best for the cores that are allowed", 0,       \
         TEAM_THREADS_MAX, NULL, 0},                                                               \
    {                                                                                              \
        "isa", 0, OPTION_CHOICE, offsetof(type, isa), "auto", "NAME",                              \
            "instruction set of the CPU: auto, scalar, avx2 or avx512; all give the same bits", 0, \
            0, "auto|scalar|avx2|avx512", 0                                                        \
    }

#endif
