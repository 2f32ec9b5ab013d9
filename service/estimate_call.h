/* service/estimate_call.h: Estimate: what a Generate would take, and whether it would be admitted
 * at this moment. Thread: the loop. */
#ifndef QUIRE_SERVICE_ESTIMATE_CALL_H
#define QUIRE_SERVICE_ESTIMATE_CALL_H

#include "service/call.h"

extern const struct call_handler estimate_handler;
size_t estimate_state_bytes(void);

#endif
