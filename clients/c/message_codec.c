#include "clients/c/message_codec.h"

#include "base/arena.h"
#include "limits.h"

#include <stdlib.h>
#include <string.h>

static void *arena_take(void *arena, size_t bytes)
{
    return arena_alloc(arena, bytes);
}

static void arena_drop(void *arena, void *memory)
{
    (void)arena; /* everything goes at once */
    (void)memory;
}

size_t message_codec_cap(size_t wire_bytes)
{
    return wire_bytes * UNPACK_ARENA_FACTOR + UNPACK_ARENA_EXTRA;
}

void *message_codec_unpack(struct arena *arena, const ProtobufCMessageDescriptor *type,
                           const void *bytes, size_t len)
{
    ProtobufCAllocator allocator = {arena_take, arena_drop, arena};
    return protobuf_c_message_unpack(type, &allocator, len, bytes);
}

void *message_codec_pack(const ProtobufCMessage *message, size_t *len)
{
    *len = protobuf_c_message_get_packed_size(message);
    uint8_t *bytes = malloc(*len + 1);
    if (bytes != NULL)
        protobuf_c_message_pack(message, bytes);
    return bytes;
}

ProtobufCBinaryData message_codec_bytes(const void *bytes, size_t len)
{
    return (ProtobufCBinaryData){.len = len, .data = (uint8_t *)(uintptr_t)bytes};
}

ProtobufCBinaryData message_codec_text(const char *text)
{
    return message_codec_bytes(text, strlen(text));
}
