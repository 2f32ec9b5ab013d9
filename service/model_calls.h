/* service/model_calls.h: GetModel and WatchStats.
 *
 * WatchStats: a timer asks the engine for its counters (ring A), the answer becomes one message. A
 * reader that takes nothing gets fewer messages, never a growing buffer: above
 * OUT_BUFFER_MARK_BYTES a turn is left out. A drain ends the stream: it waits for work, not for
 * watchers.
 */
#ifndef QUIRE_SERVICE_MODEL_CALLS_H
#define QUIRE_SERVICE_MODEL_CALLS_H

#include "service/call.h"

extern const struct call_handler get_model_handler, watch_stats_handler;
size_t watch_stats_state_bytes(void);

#endif
