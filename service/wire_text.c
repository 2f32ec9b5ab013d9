#include "service/wire.h"
#include "service/wire_memory.h"

#include "quire/v1/quire.pb-c.h"

#include <stdlib.h>

int wire_unpack_tokenize(struct arena *arena, struct slice body, struct wire_tokenize *out,
                         struct why *why)
{
    ProtobufCMessage *message;
    int status = wire_unpack(&quire__v1__tokenize_request__descriptor, arena, body, &message, why);
    if (status < 0)
        return status;

    const Quire__V1__TokenizeRequest *in = (const Quire__V1__TokenizeRequest *)message;
    *out = (struct wire_tokenize){.text = wire_slice(in->text),
                                  .add_special = in->add_special,
                                  .parse_special = in->parse_special,
                                  .spans = in->spans};
    return wire_check_text("text", in->text, why);
}

int wire_unpack_detokenize(struct arena *arena, struct slice body, struct wire_detokenize *out,
                           struct why *why)
{
    ProtobufCMessage *message;
    int status =
        wire_unpack(&quire__v1__detokenize_request__descriptor, arena, body, &message, why);
    if (status < 0)
        return status;

    const Quire__V1__DetokenizeRequest *in = (const Quire__V1__DetokenizeRequest *)message;
    *out = (struct wire_detokenize){.ids = in->ids, .n_ids = in->n_ids, .special = in->special};
    return STATUS_OK;
}

static uint8_t *pack_alone(const ProtobufCMessage *message, size_t *bytes)
{
    size_t size = protobuf_c_message_get_packed_size(message);
    uint8_t *out = malloc(size > 0 ? size : 1);
    if (out != NULL)
        *bytes = protobuf_c_message_pack(message, out);
    return out;
}

uint8_t *wire_pack_tokens(const uint32_t *ids, const struct token_span *spans, size_t n,
                          size_t *bytes)
{
    Quire__V1__TokenizeResponse message = QUIRE__V1__TOKENIZE_RESPONSE__INIT;
    Quire__V1__ByteSpan *list = NULL, **pointers = NULL;
    uint8_t *out = NULL;

    message.ids = (uint32_t *)ids;
    message.n_ids = n;
    if (spans != NULL && n > 0) {
        list = malloc(n * sizeof *list);
        pointers = malloc(n * sizeof(Quire__V1__ByteSpan *));
        if (list == NULL || pointers == NULL)
            goto end;
        for (size_t i = 0; i < n; i++) {
            list[i] = (Quire__V1__ByteSpan)QUIRE__V1__BYTE_SPAN__INIT;
            list[i].begin = spans[i].begin;
            list[i].end = spans[i].end;
            pointers[i] = &list[i];
        }
        message.spans = pointers;
        message.n_spans = n;
    }
    out = pack_alone(&message.base, bytes);
end:
    free(list);
    free(pointers);
    return out;
}

uint8_t *wire_pack_text(struct slice text, struct slice exact, size_t *bytes)
{
    Quire__V1__DetokenizeResponse message = QUIRE__V1__DETOKENIZE_RESPONSE__INIT;

    message.text = wire_bytes(text.bytes, text.len);
    message.bytes = wire_bytes(exact.bytes, exact.len);
    return pack_alone(&message.base, bytes);
}
