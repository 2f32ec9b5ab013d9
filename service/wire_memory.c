#include "service/wire_memory.h"

#include "base/utf8.h"
#include "limits.h"
#include "service/wire.h"

#include <math.h>

struct wire_allocator {
    struct arena *arena;
    bool is_out;
};

size_t wire_arena_bytes(size_t message_bytes)
{
    return message_bytes * UNPACK_ARENA_FACTOR + UNPACK_ARENA_EXTRA;
}

static void *allocate(void *allocator, size_t bytes)
{
    struct wire_allocator *a = allocator;
    void *memory = arena_alloc(a->arena, bytes);
    if (memory == NULL)
        a->is_out = true;
    return memory;
}

static void keep(void *allocator, void *memory)
{
    (void)allocator; /* the arena goes as a whole */
    (void)memory;
}

int wire_unpack(const ProtobufCMessageDescriptor *descriptor, struct arena *arena,
                struct slice body, ProtobufCMessage **out, struct why *why)
{
    struct wire_allocator state = {.arena = arena};
    ProtobufCAllocator allocator = {.alloc = allocate, .free = keep, .allocator_data = &state};

    *out = protobuf_c_message_unpack(descriptor, &allocator, body.len, body.bytes);
    if (*out != NULL)
        return STATUS_OK;
    if (state.is_out)
        return refuse_numbers(
            why, STATUS_EXHAUSTED,
            (struct why_numbers){(double)body.len, (double)arena->cap, "bytes", NULL},
            "this %zu-byte message unpacks to more than the %zu bytes it may take: send "
            "fewer, larger fields",
            body.len, arena->cap);
    return refuse(why, STATUS_INTERNAL, "the message of %zu bytes is not a %s", body.len,
                  descriptor->name);
}

int wire_check_text(const char *field, ProtobufCBinaryData bytes, struct why *why)
{
    size_t offset;
    if (utf8_is_valid(bytes.data, bytes.len, &offset))
        return STATUS_OK;
    return refuse_numbers(why, STATUS_INVALID,
                          (struct why_numbers){(double)bytes.len, (double)offset, "bytes", NULL},
                          "%s is not UTF-8 at byte %zu of %zu", field, offset, bytes.len);
}

int wire_check_real(const char *field, double value, double min, double max, struct why *why)
{
    if (isfinite(value) && value >= min && value <= max)
        return STATUS_OK;
    return refuse_numbers(why, STATUS_INVALID,
                          (struct why_numbers){value, value > max ? max : min, field, NULL},
                          "%s is %g; it takes a number from %g to %g", field, value, min, max);
}

size_t wire_pack(uint8_t *out, size_t cap, const ProtobufCMessage *message)
{
    size_t bytes = protobuf_c_message_get_packed_size(message);
    if (bytes > cap)
        return 0;
    return protobuf_c_message_pack(message, out);
}
