/* base/status.h: one error enum for every room, and the sentence that goes with it.
 *
 * Functions return int: STATUS_OK (0) or a negative enum status; out-parameters come last. A
 * refusal fills a `struct why` with one sentence that holds the numbers and the setting that would
 * change the outcome. A NULL why is allowed everywhere: the sentence is then dropped.
 */
#ifndef QUIRE_BASE_STATUS_H
#define QUIRE_BASE_STATUS_H

#include <stddef.h>

/*     name                 value  text                                   gRPC code */
#define STATUS_LIST(X)                                                                             \
    X(OK, 0, "ok", 0)                                                                              \
    X(CANCELLED, -1, "cancelled", 1)                                                               \
    X(INVALID, -2, "invalid argument", 3)                                                          \
    X(DEADLINE, -3, "deadline exceeded", 4)                                                        \
    X(NOT_FOUND, -4, "not found", 5)                                                               \
    X(EXISTS, -5, "already exists", 6)                                                             \
    X(DENIED, -6, "permission denied", 7)                                                          \
    X(EXHAUSTED, -7, "resource exhausted", 8)                                                      \
    X(NO_MEMORY, -8, "out of memory", 8)                                                           \
    X(TOO_LARGE, -9, "over a limit", 8)                                                            \
    X(PRECONDITION, -10, "failed precondition", 9)                                                 \
    X(OUT_OF_RANGE, -11, "out of range", 11)                                                       \
    X(UNSUPPORTED, -12, "unsupported", 12)                                                         \
    X(INTERNAL, -13, "internal error", 13)                                                         \
    X(CORRUPT, -14, "corrupt", 15)                                                                 \
    X(UNAVAILABLE, -15, "unavailable", 14)                                                         \
    X(IO, -16, "input or output failed", 14)                                                       \
    X(AGAIN, -17, "try again", 14)                                                                 \
    X(UNAUTHENTICATED, -18, "unauthenticated", 16)                                                 \
    X(ABORTED, -19, "aborted", 10)

enum status {
#define STATUS_ENUM(name, value, text, grpc) STATUS_##name = value,
    STATUS_LIST(STATUS_ENUM)
#undef STATUS_ENUM
};

#define WHY_BYTES 1024

/* The numbers of a sentence once more, for programs. Texts live for ever. */
struct why_numbers {
    double requested, available; /* what it takes, and what there is */
    const char *unit;            /* of both: "tokens", "bytes"; NULL: there are none */
    const char *setting;         /* "--kv-memory"; NULL: none would help */
};

struct why {
    char text[WHY_BYTES]; /* NUL-terminated UTF-8; "" when nothing was said */
    struct why_numbers numbers;
};

/* Writes the sentence (cut at WHY_BYTES - 1, never inside a UTF-8 character) and returns status, so
 * that a refusal is one line: return refuse(why, STATUS_INVALID, "...", ...); */
int refuse(struct why *why, int status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The same with its numbers. */
int refuse_numbers(struct why *why, int status, struct why_numbers numbers, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Puts "prefix: " in front of a sentence that a lower room wrote, whose numbers stay; returns
 * status. */
int refuse_prefix(struct why *why, int status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

const char *status_text(int status); /* never NULL; "unknown status" for a stranger */
const char *status_name(int status); /* "EXHAUSTED"; never NULL */
int status_grpc_code(int status);    /* 0..16; 2 (UNKNOWN) for a stranger */

#endif
