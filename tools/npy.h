/* tools/npy.h: writes one float32 array [n_rows, n_columns] in NumPy's .npy format, version 1.0.
 *
 *   \x93NUMPY 1 0 | u16 length | {'descr': '<f4', ...} spaces \n | rows, little-endian
 *
 * Rows are written as they come and nothing is sought: a pipe will do. A regular file that did not
 * get all its rows is removed, since its header would promise them; not so through a link.
 */
#ifndef QUIRE_TOOLS_NPY_H
#define QUIRE_TOOLS_NPY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct why;

struct npy {
    const char *path; /* borrowed */
    int fd;           /* -1 when closed */
    bool is_regular;
    dev_t device; /* of a regular file, and its inode: what may be removed */
    ino_t inode;
    uint64_t n_left; /* values still promised */
};

/* Creates or empties the file and writes the header. STATUS_IO. */
int npy_open(const char *path, uint64_t n_rows, uint64_t n_columns, struct npy *out,
             struct why *why);
int npy_write(struct npy *npy, const float *values, uint64_t n, struct why *why); /* STATUS_IO */
/* STATUS_IO when the system had kept an error back. All values must have come (asserted). */
int npy_close(struct npy *npy, struct why *why);
void npy_abandon(struct npy *npy); /* after a failure; nothing when closed already */

#endif
