/* service/generate.h: Generate: request -> tokens (on a worker) -> submit -> events -> messages.
 *
 * Credit: the engine may have CALL_CREDIT_EVENTS deltas under way. Each delta's credit goes back
 * when its bytes are in the out-buffer and the buffer is below OUT_BUFFER_MARK_BYTES; above it the
 * credit is owed until on_drain. So a reader that takes nothing pauses its own sequence and costs
 * the mark and a few events. Of several choices each has its own credit.
 */
#ifndef QUIRE_SERVICE_GENERATE_H
#define QUIRE_SERVICE_GENERATE_H

#include "service/call.h"

extern const struct call_handler generate_handler;
size_t generate_state_bytes(void);

#endif
