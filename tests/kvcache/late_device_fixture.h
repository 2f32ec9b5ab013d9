/* tests/kvcache/late_device_fixture.h: a device on which two lists may be under way, and which runs
 * them as late as it may: when they are waited for, or as far as a test lets it. A copy reads the
 * host's memory then. Its memory is the host's, so that a test can look at it at any time.
 */
#ifndef QUIRE_TESTS_LATE_DEVICE_FIXTURE_H
#define QUIRE_TESTS_LATE_DEVICE_FIXTURE_H

#include "kernels/device.h"

/* Closed by device_close. It knows page_zero and page_copy alone; pages hold f32. */
struct device *late_device_open(void);
/* Enqueues a call: a kernel of the test's own. */
void late_stream_call(struct stream *stream, void (*run)(void *arg), void *arg);
/* Up to n more of the ops submitted run now. */
void late_stream_progress(struct stream *stream, uint32_t n);

#endif
