#include "service/descriptor_set.h"
#include "service/wire.h"
#include "service/wire_memory.h"

#include "grpc/reflection/v1/reflection.pb-c.h"

#include <stdlib.h>
#include <string.h>

/* v1alpha has the same bytes on the wire. */
#define ASKED(name) GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_##name
#define TOLD(name) GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_##name

int wire_unpack_reflection(struct arena *arena, struct slice body, struct wire_reflection *out,
                           struct why *why)
{
    ProtobufCMessage *message;
    int status = wire_unpack(&grpc__reflection__v1__server_reflection_request__descriptor, arena,
                             body, &message, why);
    if (status < 0)
        return status;

    const Grpc__Reflection__V1__ServerReflectionRequest *in =
        (const Grpc__Reflection__V1__ServerReflectionRequest *)message;
    ProtobufCBinaryData name = {.len = 0};
    *out = (struct wire_reflection){.request = in};
    switch (in->message_request_case) {
    case ASKED(FILE_BY_FILENAME):
        out->kind = WIRE_FILE_BY_NAME;
        name = in->file_by_filename;
        break;
    case ASKED(FILE_CONTAINING_SYMBOL):
        out->kind = WIRE_FILE_OF_SYMBOL;
        name = in->file_containing_symbol;
        break;
    case ASKED(FILE_CONTAINING_EXTENSION):
        out->kind = WIRE_FILE_OF_EXTENSION;
        name = in->file_containing_extension->containing_type;
        out->number = in->file_containing_extension->extension_number;
        break;
    case ASKED(ALL_EXTENSION_NUMBERS_OF_TYPE):
        out->kind = WIRE_EXTENSIONS_OF;
        name = in->all_extension_numbers_of_type;
        break;
    case ASKED(LIST_SERVICES):
        out->kind = WIRE_SERVICES;
        name = in->list_services;
        break;
    default:
        break;
    }
    out->name = wire_slice(name);
    status = wire_check_text("host", in->host, why); /* all of it goes back to the client */
    return status < 0 ? status : wire_check_text("the name asked for", name, why);
}

/* --- the response --- */

/* A response and what its parts live in. */
struct response {
    Grpc__Reflection__V1__ServerReflectionResponse message;
    Grpc__Reflection__V1__FileDescriptorResponse files;
    Grpc__Reflection__V1__ExtensionNumberResponse numbers;
    Grpc__Reflection__V1__ListServiceResponse services;
    Grpc__Reflection__V1__ErrorResponse error;
};

static bool fill_files(struct response *out, struct arena *arena,
                       const struct wire_reflection_reply *reply)
{
    ProtobufCBinaryData *files = arena_alloc(arena, reply->n_files * sizeof *files);
    if (files == NULL)
        return false;
    for (size_t i = 0; i < reply->n_files; i++)
        files[i] = wire_bytes(reply->files[i].bytes, reply->files[i].len);
    grpc__reflection__v1__file_descriptor_response__init(&out->files);
    out->files.n_file_descriptor_proto = reply->n_files;
    out->files.file_descriptor_proto = files;
    out->message.message_response_case = TOLD(FILE_DESCRIPTOR_RESPONSE);
    out->message.file_descriptor_response = &out->files;
    return true;
}

static bool fill_numbers(struct response *out, const struct wire_reflection_reply *reply)
{
    grpc__reflection__v1__extension_number_response__init(&out->numbers);
    out->numbers.base_type_name = wire_bytes(reply->base_type.bytes, reply->base_type.len);
    out->numbers.n_extension_number = reply->n_numbers;
    out->numbers.extension_number = (int32_t *)reply->numbers;
    out->message.message_response_case = TOLD(ALL_EXTENSION_NUMBERS_RESPONSE);
    out->message.all_extension_numbers_response = &out->numbers;
    return true;
}

static struct slice full_name(struct arena *arena, const struct descriptor_service *service)
{
    size_t n = service->package.len;
    uint8_t *name = arena_alloc(arena, n + 1 + service->name.len);
    if (name == NULL)
        return slice_of(NULL, 0);
    memcpy(name, service->package.bytes, n);
    name[n] = '.';
    memcpy(name + n + 1, service->name.bytes, service->name.len);
    return slice_of(name, n + 1 + service->name.len);
}

static bool fill_services(struct response *out, struct arena *arena,
                          const struct wire_reflection_reply *reply)
{
    Grpc__Reflection__V1__ServiceResponse **services =
        arena_alloc(arena, reply->n_services * sizeof *services);
    if (services == NULL)
        return false;
    for (size_t i = 0; i < reply->n_services; i++) {
        struct slice name = full_name(arena, &reply->services[i]);
        services[i] = arena_alloc(arena, sizeof *services[i]);
        if (name.len == 0 || services[i] == NULL)
            return false;
        grpc__reflection__v1__service_response__init(services[i]);
        services[i]->name = wire_bytes(name.bytes, name.len);
    }
    grpc__reflection__v1__list_service_response__init(&out->services);
    out->services.n_service = reply->n_services;
    out->services.service = services;
    out->message.message_response_case = TOLD(LIST_SERVICES_RESPONSE);
    out->message.list_services_response = &out->services;
    return true;
}

static bool fill_error(struct response *out, const struct wire_reflection_reply *reply)
{
    grpc__reflection__v1__error_response__init(&out->error);
    out->error.error_code = reply->error_code;
    out->error.error_message = wire_bytes(reply->error_text, strlen(reply->error_text));
    out->message.message_response_case = TOLD(ERROR_RESPONSE);
    out->message.error_response = &out->error;
    return true;
}

static bool fill(struct response *out, struct arena *arena,
                 const struct wire_reflection_reply *reply)
{
    switch (reply->kind) {
    case WIRE_REPLY_FILES:
        return fill_files(out, arena, reply);
    case WIRE_REPLY_EXTENSIONS:
        return fill_numbers(out, reply);
    case WIRE_REPLY_SERVICES:
        return fill_services(out, arena, reply);
    default:
        return fill_error(out, reply);
    }
}

uint8_t *wire_pack_reflection(struct arena *arena, const struct wire_reflection *request,
                              const struct wire_reflection_reply *reply, size_t *bytes)
{
    struct response out;

    grpc__reflection__v1__server_reflection_response__init(&out.message);
    out.message.original_request =
        (Grpc__Reflection__V1__ServerReflectionRequest *)request->request;
    out.message.valid_host = out.message.original_request->host;
    if (!fill(&out, arena, reply))
        return NULL;
    *bytes = protobuf_c_message_get_packed_size(&out.message.base);
    uint8_t *message = malloc(*bytes + 1);
    if (message != NULL)
        protobuf_c_message_pack(&out.message.base, message);
    return message;
}
