/* service/reflection.h: grpc.reflection v1 and v1alpha, one handler for both (the same bytes on the
 * wire).
 *
 *   request* --> lookup in the descriptor set --> response*     one each, in order
 *
 * A file goes out with those imports that the stream has not had. What is not there is an
 * error_response, and the stream goes on; it ends with OK when the client half-closes, and with a
 * drain. A client that does not read is not read from.
 *
 * Thread: the loop.
 */
#ifndef QUIRE_SERVICE_REFLECTION_H
#define QUIRE_SERVICE_REFLECTION_H

#include "service/call.h"

extern const struct call_handler reflection_handler;
size_t reflection_state_bytes(void);

#endif
