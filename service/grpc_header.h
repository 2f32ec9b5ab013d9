/* service/grpc_header.h: what gRPC writes into HTTP/2 header fields: timeouts, content types,
 * percent-encoding, base64, the status block.
 *
 *   grpc-status: 8                                  decimal gRPC code, always there
 *   grpc-message: 4 of 3%25 pages                   what a reader sees; left out when empty
 *   grpc-status-details-bin: CAgSBg...              base64 without padding of a google.rpc.Status
 *
 * Pure functions over slices; a peer's bytes may be anything.
 */
#ifndef QUIRE_SERVICE_GRPC_HEADER_H
#define QUIRE_SERVICE_GRPC_HEADER_H

#include "base/slice.h"
#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>

/* "100m": 1 to 8 digits and one of H M S m u n. STATUS_INVALID for anything else. Saturates at
 * INT64_MAX. */
int grpc_timeout_parse(struct slice value, int64_t *ns);

enum grpc_content { GRPC_CONTENT_OTHER, GRPC_CONTENT_PROTO, GRPC_CONTENT_UNKNOWN_CODEC };
enum grpc_content grpc_content_of(struct slice content_type);

/* Percent-encodes as grpc-message wants it. Writes at most cap bytes and never part of an escape or
 * of a UTF-8 character; returns bytes written. *n_read (if given) says how much of text that
 * covers. A cap of 3 * text.len always takes all. */
size_t grpc_percent_encode(struct slice text, char *out, size_t cap, size_t *n_read);

size_t grpc_base64_bound(size_t n);                       /* characters for n bytes, unpadded */
size_t grpc_base64_encode(struct slice bytes, char *out); /* returns grpc_base64_bound(bytes.len) */
/* Padded or not. out may be NULL to check only, else holds 3 * text.len / 4 bytes. STATUS_INVALID.
 * */
int grpc_base64_decode(struct slice text, uint8_t *out, size_t *n);
bool grpc_bin_is_valid(struct slice value); /* of a -bin field: base64 values joined by commas */

/* Strips outer blanks; true when what is left is 0x20..0x7E throughout, fits cap with its NUL, and
 * was copied to out. */
bool grpc_text_copy(struct slice value, char *out, size_t cap);
/* As W3C Trace Context has it: 00-TRACE-PARENT-FLAGS in lower hexadecimal digits, neither id all
 * zero; a later version but ff may say more behind. What is none is to be taken for absent. */
bool grpc_traceparent_is_valid(const char *text);

struct grpc_trailers {
    size_t n_fields;
    struct {
        struct slice name, value;
    } fields[3];
    bool details_dropped; /* they did not fit */
    char bytes[];         /* what the values point to */
};

/* At most bytes_max of name + value + 32 a field: details that do not fit are left out whole, then
 * the message is cut and ends in "...". One allocation, freed with free(). NULL when memory is out.
 * */
struct grpc_trailers *grpc_trailers_create(int grpc_code, struct slice message,
                                           struct slice details, size_t bytes_max);

#endif
