/* service/wire_request.h: parts of requests that several wire*.c files read. */
#ifndef QUIRE_SERVICE_WIRE_REQUEST_H
#define QUIRE_SERVICE_WIRE_REQUEST_H

#include "engine/message.h"
#include "quire/v1/quire.pb-c.h"
#include "service/wire.h"

/* Absent fields keep what *out holds; present ones are checked. STATUS_INVALID names field and
 * number. */
int wire_read_sampling(const Quire__V1__Sampling *in, struct sampling *out, struct why *why);
int wire_read_salt(ProtobufCBinaryData in, struct cache_salt *out, struct why *why);
/* Its messages and tools, borrowed from the arena and from *in; what a format makes of them is
 * checked when they are rendered. */
int wire_read_chat(struct arena *arena, const Quire__V1__Chat *in, struct wire_generate *out,
                   struct why *why);

#endif
