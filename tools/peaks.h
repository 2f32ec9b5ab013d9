/* tools/peaks.h: what this machine's cores can do, measured now: the yardstick of `quire bench` and
 * of the programs in bench/.
 *
 * With the widest registers that the machine has, whatever the instruction set in use; as many
 * threads as the device. The best of several short counts, under a second in all.
 */
#ifndef QUIRE_TOOLS_PEAKS_H
#define QUIRE_TOOLS_PEAKS_H

struct why;

struct peaks {
    double read_bytes;    /* a second: plain reads from memory, far beyond any cache */
    double int8_ops;      /* a second: multiplications and additions of bytes */
    double fma_ops;       /* a second: the same of f32 */
    const char *int8_how; /* "vpdpbusd, 512 bits" */
    const char *fma_how;
};

/* STATUS_NO_MEMORY, and those of team_create. */
int peaks_measure(int n_threads, struct peaks *out, struct why *why);

/* Each figure becomes the better of both: other programs only ever make a peak look lower. */
void peaks_take_better(struct peaks *peaks, const struct peaks *other);

#endif
