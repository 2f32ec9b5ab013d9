/* clients/c/quire_status.h: how a call ended: gRPC code, sentence, and the numbers of google.rpc
 * ErrorInfo.
 *
 *   grpc-status: 8
 *   grpc-message: 12 of 3%25 pages                 percent-encoded UTF-8
 *   grpc-status-details-bin: CAgSBg...             base64 of google.rpc.Status { ErrorInfo }
 *
 * Plain memory without owners: copy it freely. Everything from the peer is cut to the sizes below,
 * never inside a character, and may be anything.
 */
#ifndef QUIRE_CLIENTS_C_QUIRE_STATUS_H
#define QUIRE_CLIENTS_C_QUIRE_STATUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum quire_code {
    QUIRE_OK = 0,
    QUIRE_CANCELLED = 1,
    QUIRE_UNKNOWN = 2,
    QUIRE_INVALID_ARGUMENT = 3,
    QUIRE_DEADLINE_EXCEEDED = 4,
    QUIRE_NOT_FOUND = 5,
    QUIRE_PERMISSION_DENIED = 7,
    QUIRE_RESOURCE_EXHAUSTED = 8,
    QUIRE_UNIMPLEMENTED = 12,
    QUIRE_INTERNAL = 13,
    QUIRE_UNAVAILABLE = 14,
    QUIRE_UNAUTHENTICATED = 16,
};

#define QUIRE_MESSAGE_BYTES 4096
#define QUIRE_DETAILS_MAX 16

struct quire_detail {
    char key[64];
    char value[192];
};

struct quire_status {
    int code;                          /* 0..16 */
    bool is_local;                     /* found by this library, not told by the server */
    char message[QUIRE_MESSAGE_BYTES]; /* NUL-terminated UTF-8; "" when nothing was said */
    char reason[64];                   /* of ErrorInfo; "" without one */
    size_t n_details;
    struct quire_detail details[QUIRE_DETAILS_MAX]; /* its metadata */
};

const char *quire_status_name(int code); /* "RESOURCE_EXHAUSTED"; never NULL */

/* A status of the library's own. */
void quire_status_set(struct quire_status *status, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* "0".."16"; anything else is UNKNOWN. */
int quire_status_parse_code(const void *text, size_t len);
/* Percent-decodes a grpc-message; escapes that are none stay as they are, bad UTF-8 becomes U+FFFD.
 */
void quire_status_take_message(struct quire_status *status, const void *text, size_t len);
/* Reads grpc-status-details-bin, padded or not. False, and nothing changed, when it is malformed or
 * holds no ErrorInfo. */
bool quire_status_take_details(struct quire_status *status, const void *text, size_t len);

int quire_status_of_http(int http_status);    /* of a reply without grpc-status */
int quire_status_of_reset(uint32_t h2_error); /* of RST_STREAM */

#endif
