/* service/health.h: grpc.health.v1: Check, List and Watch of "" (the whole server) and
 * "quire.v1.Quire".
 *
 * SERVING until a drain begins or the engine is lost. Watch of an unknown name says SERVICE_UNKNOWN
 * and stays open. A drain ends every Watch, after NOT_SERVING: it waits for work, not for watchers.
 */
#ifndef QUIRE_SERVICE_HEALTH_H
#define QUIRE_SERVICE_HEALTH_H

#include "service/call.h"

extern const struct call_handler health_check_handler, health_list_handler, health_watch_handler;
size_t health_watch_state_bytes(void);

#endif
