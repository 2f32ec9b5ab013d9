/* service/wire_memory.h: what the wire*.c files share: an arena as protobuf-c's allocator, and
 * checks of fields. */
#ifndef QUIRE_SERVICE_WIRE_MEMORY_H
#define QUIRE_SERVICE_WIRE_MEMORY_H

#include "base/arena.h"
#include "base/slice.h"
#include "base/status.h"

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>

/* Unpacks into the arena; nothing is to be freed. Why tells whether it did not parse or ran into
 * the cap. */
int wire_unpack(const ProtobufCMessageDescriptor *descriptor, struct arena *arena,
                struct slice body, ProtobufCMessage **out, struct why *why);
/* STATUS_INVALID with field and byte offset unless the bytes are UTF-8. */
int wire_check_text(const char *field, ProtobufCBinaryData bytes, struct why *why);
int wire_check_real(const char *field, double value, double min, double max, struct why *why);
static inline struct slice wire_slice(ProtobufCBinaryData bytes)
{
    return slice_of(bytes.data, bytes.len);
}
static inline ProtobufCBinaryData wire_bytes(const void *bytes, size_t len)
{
    return (ProtobufCBinaryData){.len = len, .data = (uint8_t *)bytes};
}
/* Bytes written, 0 when cap is too small (or the message is empty). */
size_t wire_pack(uint8_t *out, size_t cap, const ProtobufCMessage *message);

#endif
