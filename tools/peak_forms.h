/* tools/peak_forms.h: loops of one instruction, by which tools/peaks.c measures what this machine's
 * cores multiply; a file for each kind of processor (peak_forms_x86.c, peak_forms_arm64.c).
 */
#ifndef QUIRE_TOOLS_PEAK_FORMS_H
#define QUIRE_TOOLS_PEAK_FORMS_H

#include <stdint.h>

#define PEAK_TURNS 500000u
#define PEAK_CHAINS 12 /* independent, so that latency does not count */

struct peak_meter {
    uint32_t seed; /* what the compiler cannot know */
};

/* PEAK_TURNS times PEAK_CHAINS of one instruction, on every worker. */
struct peak_form {
    void (*run)(void *meter, int worker_idx); /* struct peak_meter */
    int n_products;                           /* of one instruction, each with its addition */
    const char *how;                          /* "vpdpbusd, 512 bits" */
};

struct peak_forms {
    struct peak_form int8, fma;
};

/* With the widest registers that this machine has. */
struct peak_forms peak_forms_widest(void);

/* What was computed goes here, or the compiler would leave the work out. */
void peak_keep(uint32_t result);

#endif
