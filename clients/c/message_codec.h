/* clients/c/message_codec.h: protobuf messages to bytes and back, in bounded memory.
 *
 * Unpacking multiplies memory (a repeated empty message: 54 times its wire size), so it goes into
 * an arena whose cap is a factor of what came. What is unpacked lives until the arena is cleared or
 * released.
 */
#ifndef QUIRE_CLIENTS_C_MESSAGE_CODEC_H
#define QUIRE_CLIENTS_C_MESSAGE_CODEC_H

#include <protobuf-c/protobuf-c.h>
#include <stddef.h>

struct arena;

size_t message_codec_cap(size_t wire_bytes); /* of an arena for a message of this size */

/* NULL when the bytes are no such message, or would exceed the arena. */
void *message_codec_unpack(struct arena *arena, const ProtobufCMessageDescriptor *type,
                           const void *bytes, size_t len);

/* Bytes that the caller frees with free(). NULL when memory is out. */
void *message_codec_pack(const ProtobufCMessage *message, size_t *len);

/* A string or bytes field. The text is borrowed, and not changed. */
ProtobufCBinaryData message_codec_bytes(const void *bytes, size_t len);
ProtobufCBinaryData message_codec_text(const char *text);

#endif
