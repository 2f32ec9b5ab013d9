#include "service/wire.h"
#include "service/wire_memory.h"

#include "google/rpc/details.pb-c.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define DETAILS_MAX 8
#define NUMBER_BYTES 32
#define INFO_BYTES_MAX 2048

size_t wire_pack_details(uint8_t *out, size_t cap, int grpc_code, const char *message,
                         const char *reason, const struct wire_detail *details, size_t n_details)
{
    static const char type_url[] = "type.googleapis.com/google.rpc.ErrorInfo";
    static const char domain[] = "quire.dev";
    Google__Rpc__Status status = GOOGLE__RPC__STATUS__INIT;
    Google__Rpc__ErrorInfo info = GOOGLE__RPC__ERROR_INFO__INIT;
    Google__Rpc__AnyDetail any = GOOGLE__RPC__ANY_DETAIL__INIT, *any_list = &any;
    Google__Rpc__MetadataEntry entries[DETAILS_MAX], *entry_list[DETAILS_MAX];
    uint8_t info_bytes[INFO_BYTES_MAX];

    assert(n_details <= DETAILS_MAX);
    for (size_t i = 0; i < n_details; i++) {
        entries[i] = (Google__Rpc__MetadataEntry)GOOGLE__RPC__METADATA_ENTRY__INIT;
        entries[i].key = wire_bytes(details[i].key, strlen(details[i].key));
        entries[i].value = wire_bytes(details[i].value, strlen(details[i].value));
        entry_list[i] = &entries[i];
    }
    info.reason = wire_bytes(reason, strlen(reason));
    info.domain = wire_bytes(domain, sizeof domain - 1);
    info.metadata = entry_list;
    info.n_metadata = n_details;

    any.type_url = wire_bytes(type_url, sizeof type_url - 1);
    any.value = wire_bytes(info_bytes, wire_pack(info_bytes, sizeof info_bytes, &info.base));
    status.code = grpc_code;
    status.message = wire_bytes(message, strlen(message));
    status.details = &any_list;
    status.n_details = 1;
    return wire_pack(out, cap, &status.base);
}

size_t wire_pack_refusal(uint8_t *out, size_t cap, int status, const char *message,
                         const struct why_numbers *numbers)
{
    char requested[NUMBER_BYTES], available[NUMBER_BYTES];
    struct wire_detail details[4];
    size_t n = 0;

    if (numbers->unit != NULL) {
        snprintf(requested, sizeof requested, "%.15g", numbers->requested);
        snprintf(available, sizeof available, "%.15g", numbers->available);
        details[n++] = (struct wire_detail){"requested", requested};
        details[n++] = (struct wire_detail){"available", available};
        details[n++] = (struct wire_detail){"unit", numbers->unit};
    }
    if (numbers->setting != NULL)
        details[n++] = (struct wire_detail){"setting", numbers->setting};
    return wire_pack_details(out, cap, status_grpc_code(status), message, status_name(status),
                             details, n);
}
