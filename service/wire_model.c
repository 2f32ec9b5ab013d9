#include "service/wire.h"
#include "service/wire_memory.h"

#include "grpc/health/v1/health.pb-c.h"
#include "limits.h"
#include "quire/v1/quire.pb-c.h"

#include <assert.h>
#include <string.h>

static ProtobufCBinaryData text_of(const char *text)
{
    return wire_bytes(text, strlen(text));
}

int wire_unpack_model(struct arena *arena, struct slice body, struct why *why)
{
    ProtobufCMessage *message;
    return wire_unpack(&quire__v1__get_model_request__descriptor, arena, body, &message, why);
}

size_t wire_pack_model(uint8_t *out, size_t cap, const struct engine_model_info *info,
                       const char *weights_sha256)
{
    Quire__V1__Model model = QUIRE__V1__MODEL__INIT;
    Quire__V1__KvGeometry kv = QUIRE__V1__KV_GEOMETRY__INIT;

    model.name = text_of(info->name);
    model.architecture = text_of(info->architecture);
    model.parameters = info->n_parameters;
    model.weight_bytes = info->weight_bytes;
    model.weights_sha256 = text_of(weights_sha256);
    model.context_tokens = info->max_context;
    model.trained_context_tokens = info->trained_context;
    model.vocabulary = info->vocabulary;
    model.chat_format = text_of(info->chat_format);
    model.chat_refusal = text_of(info->chat_refusal);
    kv.page_tokens = info->page_tokens;
    kv.bytes_per_token = info->token_bytes;
    kv.dtype = text_of(info->kv_dtype);
    kv.pages = info->n_pages;
    kv.bytes = info->kv_bytes;
    kv.groups = info->n_groups;
    model.kv = &kv;
    model.activations = text_of(info->activations);
    model.device = text_of(info->device);
    model.version = text_of(QUIRE_VERSION);
    model.message_bytes_max = GENERATE_MESSAGE_BYTES_MAX;
    model.top_logprobs_max = TOP_LOGPROBS_MAX;
    model.end_tokens = (uint32_t *)info->end_ids;
    model.n_end_tokens = info->n_end_ids;
    model.summarize_repetition_penalty = SUMMARY_REPETITION_PENALTY;
    return wire_pack(out, cap, &model.base);
}

int wire_unpack_health(struct arena *arena, struct slice body, struct slice *name, struct why *why)
{
    ProtobufCMessage *message;
    int status = wire_unpack(&grpc__health__v1__health_check_request__descriptor, arena, body,
                             &message, why);
    if (status < 0)
        return status;

    const Grpc__Health__V1__HealthCheckRequest *in =
        (const Grpc__Health__V1__HealthCheckRequest *)message;
    *name = wire_slice(in->service);
    return wire_check_text("service", in->service, why);
}

size_t wire_pack_health(uint8_t *out, size_t cap, enum wire_health health)
{
    Grpc__Health__V1__HealthCheckResponse message = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;
    message.status =
        (Grpc__Health__V1__HealthCheckResponse__ServingStatus)health; /* the same numbers */
    return wire_pack(out, cap, &message.base);
}

int wire_unpack_health_list(struct arena *arena, struct slice body, struct why *why)
{
    ProtobufCMessage *message;
    return wire_unpack(&grpc__health__v1__health_list_request__descriptor, arena, body, &message,
                       why);
}

size_t wire_pack_health_list(uint8_t *out, size_t cap, const char *const *names, size_t n,
                             enum wire_health health)
{
    Grpc__Health__V1__HealthListResponse list = GRPC__HEALTH__V1__HEALTH_LIST_RESPONSE__INIT;
    Grpc__Health__V1__HealthCheckResponse value = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;
    Grpc__Health__V1__HealthListResponse__StatusesEntry entries[WIRE_HEALTH_NAMES_MAX];
    Grpc__Health__V1__HealthListResponse__StatusesEntry *statuses[WIRE_HEALTH_NAMES_MAX];

    assert(n <= WIRE_HEALTH_NAMES_MAX);
    value.status = (Grpc__Health__V1__HealthCheckResponse__ServingStatus)health;
    for (size_t i = 0; i < n; i++) {
        grpc__health__v1__health_list_response__statuses_entry__init(&entries[i]);
        entries[i].key = (char *)names[i];
        entries[i].value = &value;
        statuses[i] = &entries[i];
    }
    list.n_statuses = n;
    list.statuses = statuses;
    return wire_pack(out, cap, &list.base);
}
