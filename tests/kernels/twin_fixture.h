/* tests/kernels/twin_fixture.h: one of two devices, a CPU or a GPU, and its stream, for tests that
 * compare an op of the two. Memory that a twin gives lives as long as the twin; its bytes are 0xff
 * until somebody writes them.
 */
#ifndef QUIRE_TESTS_TWIN_FIXTURE_H
#define QUIRE_TESTS_TWIN_FIXTURE_H

#include "kernels/ops.h"

#define TWIN_SKIPPED 77 /* what ctest takes for skipped */

struct twin {
    struct device *device;
    struct stream *stream;
    const struct ops *ops;
    uint32_t n_allocs;
    void *allocs[256];
};

bool twin_has_cuda(void); /* says why not */
struct twin twin_open(enum backend backend);
void twin_close(struct twin *twin);
void *twin_alloc(struct twin *twin, size_t bytes);
void *twin_upload(struct twin *twin, const void *from, size_t bytes);
void *twin_download(struct twin *twin, const void *from, size_t bytes); /* malloc'd */
int twin_run(struct twin *twin); /* submits and waits */

/* malloc'd; in -scale .. scale, a few a hundred times as large. */
float *random_floats(size_t n, uint32_t seed, float scale);

#endif
