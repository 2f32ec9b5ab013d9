/* engine/flight.h: the steps under way, from their launch until their results are home.
 *
 *   flight_next   the batch of the next step, cleared, for the caller to fill
 *   flight_launch enqueues it: pages, arrays, the pass (or its graph), results; and submits
 *   flight_wait   the oldest step is over
 *   flight_retire takes it out; its rows and results stand until the next flight_next
 *
 * A batch a step under way, everything on the device once. A CPU has one step under way, so that
 * launch and wait follow each other. Thread: engine only. Allocates in create and nowhere else.
 */
#ifndef QUIRE_ENGINE_FLIGHT_H
#define QUIRE_ENGINE_FLIGHT_H

#include "engine/batch.h"
#include "engine/decode_graph.h"
#include "engine/device_batch.h"
#include "kernels/device.h"

struct flight {
    struct kv_cache *cache;
    struct forward *forward;
    struct device_batch *on_device;
    struct kv_view view;
    struct stream *stream;
    struct decode_graph *graphs;             /* NULL: each step is enqueued op by op */
    struct batch *batches[DEVICE_DEPTH_MAX]; /* [depth], a ring */
    uint32_t depth, first, n;                /* n under way, the oldest is `first` */
    int64_t retired_ns;                      /* when the last one was over */
};

struct flight_spec {
    struct device *device;
    const struct model *model;
    struct kv_cache *cache;         /* this and the next two must outlive the flight */
    struct forward *forward;
    struct device_batch *on_device;
    uint32_t max_outputs;           /* of forward and on_device */
    uint32_t max_context;           /* of any sequence */
    bool no_overlap; /* one step at a time and no graphs: to compare with */
};

/* STATUS_NO_MEMORY and STATUS_UNAVAILABLE with numbers. */
int flight_create(const struct flight_spec *spec, struct flight **out, struct why *why);
void flight_free(struct flight *flight); /* nothing is under way */

/* On which all steps are. */
const struct stream *flight_stream(const struct flight *flight);
/* Steps that may be under way on this device. */
uint32_t flight_depth(const struct device *device, bool no_overlap);
bool flight_has_room(const struct flight *flight);
bool flight_is_empty(const struct flight *flight);
struct batch *flight_next(struct flight *flight, int64_t now_ns);
void flight_launch(struct flight *flight);
/* The status of the stream; poll as device_wait has it. */
int flight_wait(struct flight *flight, void (*poll)(void *arg), void *arg);
/* Its sequences have a step less. step_ns: what it took, from its launch, or from the end of the
 * step before it if that came later. */
const struct batch *flight_retire(struct flight *flight, int64_t now_ns, int64_t *step_ns);
/* Waits for all that is under way; what it gave is lost. */
void flight_drop(struct flight *flight);

#endif
