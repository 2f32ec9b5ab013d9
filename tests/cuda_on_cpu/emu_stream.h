/* tests/cuda_on_cpu/emu_stream.h: streams that run as late as they may, events, capture.
 *
 *   stream   [done | done | kernel | wait(event) | copy | record(event) | kernel ]
 *                           ^ next
 *
 * Work runs when a call that synchronises needs it, and then only what it needs: who reads a pinned
 * buffer too early finds what was there before, who forgot to wait for an event finds poison. A
 * query retires one operation, so that polling comes to an end.
 *
 * While a stream is captured its calls are written down in the order in which they came, which is
 * an order that they may run in; streams join through events.
 *
 * An error while running sticks: every later call returns it, as on the device.
 * Thread: one host thread at a time.
 */
#ifndef QUIRE_EMU_STREAM_H
#define QUIRE_EMU_STREAM_H

#include <cuda_runtime_api.h>
#include <functional>

#include "tests/cuda_on_cpu/emu_control.h"

typedef std::function<cudaError_t()> emu_work;

/* Behind the stream's other work, or into the graph that captures it. */
cudaError_t emu_enqueue(cudaStream_t stream, emu_work work);
/* Runs everything that was enqueued on the stream, or on all streams. */
cudaError_t emu_run_stream(cudaStream_t stream);
cudaError_t emu_run_all(void);

/* Remembers the error for cudaGetLastError and returns it. */
cudaError_t emu_fail(cudaError_t error);
/* The sticky error, or success. */
cudaError_t emu_status(void);
/* Called by what a capture does not allow: cudaErrorStreamCaptureUnsupported while there is one,
 * which it spoils; else the sticky error or success. */
cudaError_t emu_outside_of_capture(void);

void emu_count(enum emu_counter counter);

/* Of this thread of the host, and that on which the stream was made. */
int emu_current_device(void);
int emu_stream_device(cudaStream_t stream);

#endif
