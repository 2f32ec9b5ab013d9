#include "tools/npy.h"

#include "base/status.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PREFIX_BYTES 10 /* magic, version, length */
#define HEADER_BYTES 128

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "rows are written as they are in memory");

static int write_all(const struct npy *npy, const void *bytes, uint64_t n, struct why *why)
{
    const char *at = bytes;
    while (n > 0) {
        ssize_t written = write(npy->fd, at, n);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            return refuse(why, STATUS_IO, "--output %s: %s", npy->path, strerror(errno));
        at += written;
        n -= (uint64_t)written;
    }
    return STATUS_OK;
}

static int write_header(const struct npy *npy, uint64_t n_rows, uint64_t n_columns, struct why *why)
{
    char header[HEADER_BYTES + 1];
    memset(header, ' ', sizeof header);
    memcpy(header, "\x93NUMPY\x01\x00", 8);
    header[8] = (char)(HEADER_BYTES - PREFIX_BYTES);
    header[9] = 0;
    int n =
        snprintf(header + PREFIX_BYTES, HEADER_BYTES - PREFIX_BYTES,
                 "{'descr': '<f4', 'fortran_order': False, 'shape': (%" PRIu64 ", %" PRIu64 "), }",
                 n_rows, n_columns);
    assert(n > 0 && n < HEADER_BYTES - PREFIX_BYTES - 1);
    header[PREFIX_BYTES + n] = ' ';
    header[HEADER_BYTES - 1] = '\n';
    return write_all(npy, header, HEADER_BYTES, why);
}

int npy_open(const char *path, uint64_t n_rows, uint64_t n_columns, struct npy *out,
             struct why *why)
{
    struct stat file;

    *out = (struct npy){.path = path, .n_left = n_rows * n_columns};
    out->fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (out->fd < 0)
        return refuse(why, STATUS_IO, "--output %s: %s", path, strerror(errno));
    if (fstat(out->fd, &file) == 0 && S_ISREG(file.st_mode)) {
        out->is_regular = true;
        out->device = file.st_dev;
        out->inode = file.st_ino;
    }
    int status = write_header(out, n_rows, n_columns, why);
    if (status < 0)
        npy_abandon(out);
    return status;
}

int npy_write(struct npy *npy, const float *values, uint64_t n, struct why *why)
{
    assert(n <= npy->n_left);
    npy->n_left -= n;
    return write_all(npy, values, n * sizeof *values, why);
}

/* Nobody wants half an array. A link (/dev/stdout is one) and what has taken the file's name since
 * are not ours to remove. */
static void remove_file(const struct npy *npy)
{
    struct stat now;
    if (npy->is_regular && lstat(npy->path, &now) == 0 && now.st_dev == npy->device &&
        now.st_ino == npy->inode)
        unlink(npy->path);
}

int npy_close(struct npy *npy, struct why *why)
{
    assert(npy->n_left == 0);
    int fd = npy->fd;
    npy->fd = -1;
    if (close(fd) == 0)
        return STATUS_OK;
    int error = errno;
    remove_file(npy);
    return refuse(why, STATUS_IO, "--output %s: %s", npy->path, strerror(error));
}

void npy_abandon(struct npy *npy)
{
    if (npy->fd < 0)
        return;
    close(npy->fd);
    npy->fd = -1;
    remove_file(npy);
}
